"""What to label next: typical pictures first, doubtful ones later."""

from __future__ import annotations

import numpy as np
import pytest

from isomix.errors import InputError
from isomix.fewshot import ProjectAndMix
from isomix.fewshot.label_next import FEW_A_CLASS, label_next
from isomix.linalg import normalize_rows

CLUSTERS, EACH = 4, 40


@pytest.fixture
def clusters(rng):
    """Four tight groups with a few stray rows in each."""
    centres = np.eye(12)[:CLUSTERS] * 4
    noise = rng.normal(size=(CLUSTERS, EACH, 12)) * np.where(np.arange(EACH) < 5, 1.6, 0.25)[None, :, None]
    return normalize_rows((centres[:, None] + noise).reshape(-1, 12)), np.repeat(np.arange(CLUSTERS), EACH)


def test_the_first_suggestions_are_typical_and_of_every_group(clusters):
    rows, truth = clusters
    found = label_next(rows, [None] * len(rows), k=CLUSTERS)
    assert found.rule == "typical"
    assert sorted(truth[found.rows]) == list(range(CLUSTERS))
    assert (found.rows % EACH >= 5).all(), "a stray row is not typical"


def test_a_group_without_a_label_comes_before_those_that_have_one(clusters):
    rows, truth = clusters
    labels = ["a" if t == 0 and i % EACH < 12 else None for i, t in enumerate(truth)]
    found = label_next(rows, labels, k=3)
    assert 0 not in truth[found.rows]
    assert all(labels[row] is None for row in found.rows)


def test_with_five_a_class_it_asks_for_the_smallest_margins_spread_apart(clusters):
    rows, truth = clusters
    labels = [f"class {t}" if i % EACH >= EACH - FEW_A_CLASS else None for i, t in enumerate(truth)]
    known = [i for i, label in enumerate(labels) if label]
    classifier = ProjectAndMix().fit(rows[known], [labels[i] for i in known])
    found = label_next(rows, labels, k=6, classifier=classifier)
    assert found.rule == "doubtful"
    assert len(set(found.rows.tolist())) == 6
    assert not set(found.rows.tolist()) & set(known)
    two = np.sort(classifier.predict_proba(rows), axis=1)[:, -2:]
    margins = two[:, 1] - two[:, 0]
    free = np.setdiff1d(np.arange(len(rows)), known)
    assert found.rows[0] == free[margins[free].argmin()]
    assert margins[found.rows].max() <= np.sort(margins[free])[59]


def test_nothing_is_left_when_all_is_labelled(clusters):
    rows, _ = clusters
    assert label_next(rows, ["x"] * len(rows), k=3).rows.size == 0


def test_as_many_labels_as_rows(clusters):
    with pytest.raises(InputError, match="one \\(or None\\) for every embedding"):
        label_next(clusters[0], [None])
