"""Spaces name their columns, as scikit-learn's transformers do."""

from __future__ import annotations

import numpy as np
import pytest

from isomix import IsoCLIP, ProjectAndMix, Projectors
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.spaces import TextPCA


def test_names_of_the_columns(rng: np.random.Generator) -> None:
    iso = IsoCLIP(Projectors(rng.normal(size=(6, 8)), rng.normal(size=(6, 7))), band="2/1").fit()
    assert iso.get_feature_names_out().tolist() == ["isoclip0", "isoclip1", "isoclip2"]


def test_set_output(rng: np.random.Generator) -> None:
    pytest.importorskip("pandas")
    E = rng.normal(size=(9, 6))
    iso = IsoCLIP(Projectors(rng.normal(size=(6, 8)), rng.normal(size=(6, 7))), band="2/1").fit()
    frame = iso.set_output(transform="pandas").transform(E)
    assert frame.columns.tolist() == ["isoclip0", "isoclip1", "isoclip2"]
    np.testing.assert_array_equal(frame.to_numpy(), iso.set_output(transform="default").transform(E))


def test_named_columns_in_and_out(rng: np.random.Generator) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rng.normal(size=(9, 4)), columns=list("abcd"), index=range(5, 14))
    space = TextPCA(2).fit(frame).set_output(transform="pandas")
    assert space.feature_names_in_.tolist() == list("abcd")
    assert space.transform(frame).index.tolist() == list(range(5, 14))


def test_names_that_differ_are_refused(rng: np.random.Generator) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rng.normal(size=(9, 4)), columns=list("abcd"))
    with pytest.raises(InputError, match="feature names"):
        TextPCA(2).fit(frame).transform(frame[list("dcba")])


def test_a_classifier_takes_named_columns_and_a_series_of_labels(rng: np.random.Generator) -> None:
    pd = pytest.importorskip("pandas")
    rows = normalize_rows(rng.normal(size=(12, 6)))
    frame, labels = pd.DataFrame(rows, columns=list("abcdef")), pd.Series(list("xyz") * 4, index=range(50, 62))
    clf = ProjectAndMix().fit(frame, labels)
    assert clf.feature_names_in_.tolist() == list("abcdef")
    plain = ProjectAndMix().fit(rows, labels.to_numpy())
    np.testing.assert_array_equal(clf.predict(frame), plain.predict(rows))
    with pytest.raises(InputError, match="feature names"):
        clf.predict(frame[list("fedcba")])
