"""Accuracies on real ViT-B/32 embeddings of ImageNet: the numbers of the design notes, and what leave-one-out makes of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from isomix.fewshot import (
    GDA,
    LDA,
    FewShotClassifier,
    MixedPrototypes,
    NearestClassMean,
    ProjectAndMix,
    TextAlignedPrototypes,
    ZeroShot,
)
from isomix.fewshot.held_out import validation_shots
from isomix.linalg import normalize_rows

# Two pairs of ImageNet's classes share a name, and so a text; at one shot a discriminant has nothing to work with.
pytestmark = pytest.mark.filterwarnings("ignore::isomix.errors.IsomixWarning")
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def split(shared_data: Path) -> Callable[[int], Split]:
    """Support of K shots; queries are the two other sets less near-duplicates of the support."""
    with np.load(shared_data / "vitb32_imagenet_fewshot.npz") as stored:
        images = {k: normalize_rows(stored[f"images_{k}"].astype(np.float32)) for k in (1, 2, 4)}
        labels = {k: stored[f"labels_{k}"] for k in (1, 2, 4)}
        text = normalize_rows(stored["text"].astype(np.float32))

    @cache
    def of(shots: int) -> Split:
        others = [k for k in (1, 2, 4) if k != shots]
        Q, q = np.concatenate([images[k] for k in others]), np.concatenate([labels[k] for k in others])
        fresh = (Q @ images[shots].T).max(axis=1) <= 0.995
        return images[shots], labels[shots], text, Q[fresh], q[fresh]

    return of


def accuracy(clf: FewShotClassifier, split: Split) -> float:
    X, y, text, Q, q = split
    return 100.0 * float(clf.fit(X, y, text=text).score(Q, q))


@pytest.mark.parametrize(
    ("shots", "clf", "expected"),
    [
        (4, ZeroShot(), 61.0),
        (4, NearestClassMean(), 46.9),
        (4, MixedPrototypes(0.2), 65.1),
        (4, TextAlignedPrototypes(0.25, 192), 66.1),
        (4, GDA(0.1), 65.7),
        (2, ZeroShot(), 61.1),
        (2, NearestClassMean(), 38.1),
        (2, MixedPrototypes(0.1), 63.3),
        (2, TextAlignedPrototypes(0.2, 128), 64.5),
        (1, NearestClassMean(), 27.9),
        (1, MixedPrototypes(0.1), 61.6),
        (1, TextAlignedPrototypes(0.1, 128), 63.0),
    ],
)
def test_the_numbers_of_the_notes(
    split: Callable[[int], Split], shots: int, clf: FewShotClassifier, expected: float
) -> None:
    assert accuracy(clf, split(shots)) == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_leave_one_out_comes_near_the_best_weights(split: Callable[[int], Split], shots: int) -> None:
    """Within 0.5 points of an oracle, which is tuned on the queries themselves, and above zero-shot."""
    X, y, text, Q, q = split(shots)
    clf = ProjectAndMix().fit(X, y, text=text)
    chosen = 100.0 * float(clf.score(Q, q))
    queries = validation_shots(Q, q.astype(np.intp), clf.moments_, "validation")
    prototypes, discriminant = (part.term for part in clf._sum.parts)
    mixed_of, rows = prototypes.candidates(queries), slice(None)
    image = discriminant.held_out_logits(queries, {}) if shots > 1 else np.zeros(1, np.float32)
    best = 0.0
    for kappa, k in product((5.7, 8.0, 11.3, 16.0), (96, 128, 192, 256)):
        mixed = mixed_of({"prior_shots": kappa, "n_directions": k, "untrusted_texts": 0}, rows)
        for beta in (0.0, 0.01, 0.04, 0.1) if shots > 1 else (0.0,):
            best = max(best, 100.0 * float(((mixed + np.float32(beta) * image).argmax(axis=1) == q).mean()))
    assert chosen >= best - 0.5
    assert chosen > accuracy(ZeroShot(), split(shots))


@pytest.mark.parametrize("shots", [4, 8, 16])
def test_pictures_alone_come_near_the_better_of_both_terms(shared_data: Path, shots: int) -> None:
    """Without text the logit scale says nothing, and must not keep the discriminant out (Caltech101)."""
    with np.load(shared_data / "vitb32_caltech101.npz") as stored:
        names = (f"train_{shots}shots", "test")
        X, Q = (normalize_rows(stored[name].astype(np.float32)) for name in names)
        y, q = (stored[f"{name}_labels"] for name in names)
    best = max(100.0 * cls().fit(X, y).score(Q, q) for cls in (LDA, NearestClassMean))
    assert 100.0 * ProjectAndMix().fit(X, y).score(Q, q) > best - 0.5
