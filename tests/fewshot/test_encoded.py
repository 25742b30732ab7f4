"""Texts as an encoder returns them: arrays and the logit scale in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from isomix import load_encoder
from isomix.encoders import Embeddings
from isomix.encoders.prompts import encode_classes
from isomix.errors import InputError
from isomix.fewshot import LDA, ProjectAndMix, ZeroShot, load_classifier
from isomix.linalg import normalize_rows

LABELS = ["cat", "dog", "fox"]


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = normalize_rows(np.repeat(np.eye(3, 8), 4, axis=0) + 0.3 * rng.normal(size=(12, 8)))
    return X, np.repeat(LABELS, 4), normalize_rows(np.eye(3, 8) + 0.2 * rng.normal(size=(3, 8)))


def encoded(rows: np.ndarray, scale: float | None) -> Embeddings:
    rows = np.asarray(rows, np.float32)
    return Embeddings(rows, rows, np.ones(len(rows), bool), logit_scale=scale)


def test_an_encoder_says_its_scale() -> None:
    encoder = load_encoder("embedded")
    found = encoder.encode_text(LABELS)
    assert found.logit_scale == encoder.logit_scale != 100.0
    assert encode_classes(encoder, LABELS).logit_scale == encoder.logit_scale
    clf = ZeroShot().fit(found.embeddings, LABELS, text=found)
    assert clf.logit_scale_ == encoder.logit_scale and clf.logit_scale is None
    assert ZeroShot().fit(text=encode_classes(encoder, LABELS)).logit_scale_ == encoder.logit_scale


@pytest.mark.parametrize("form", ["object", "mapping", "list", "one a class"])
def test_every_form_is_as_good_as_the_arrays(problem: Any, form: str) -> None:
    X, y, T = problem
    forms = {
        "object": encoded(T, 20.0),
        "mapping": {label: encoded(T[i : i + 1], 20.0) for i, label in enumerate(LABELS)},
        "list": [encoded(T[i : i + 1], 20.0) for i in range(3)],
        "one a class": {"cat": encoded(T[:1], 20.0), "dog": T[1], "fox": None},
    }
    arrays = {label: T[i].astype(np.float32) for i, label in enumerate(LABELS)}
    if form == "one a class":
        arrays |= {"dog": T[1], "fox": None}
    clf = ProjectAndMix().fit(X, y, text=forms[form])
    expected = ProjectAndMix(logit_scale=20.0).fit(X, y, text=arrays)
    assert clf.logit_scale_ == 20.0
    np.testing.assert_allclose(clf.logits(X), expected.logits(X), atol=1e-6)


def test_the_constructors_number_goes_first_and_100_is_what_is_left(problem: Any) -> None:
    X, y, T = problem
    assert ProjectAndMix(logit_scale=7.0).fit(X, y, text=encoded(T, 20.0)).logit_scale_ == 7.0
    assert ProjectAndMix().fit(X, y, text=T).logit_scale_ == 100.0
    assert ProjectAndMix().fit(X, y, text=encoded(T, None)).logit_scale_ == 100.0
    assert ProjectAndMix().fit(X, y).logit_scale_ == 100.0
    clf = ProjectAndMix().fit(X, y, text=encoded(T, 20.0))
    assert clone(clf).fit(X, y, text=T).logit_scale_ == 100.0  # of this fit's texts, not of an earlier one's
    assert not hasattr(LDA().fit(X, y, text=encoded(T, 20.0)), "logit_scale_")


def test_the_scale_is_saved_and_stays_with_more_shots(problem: Any, tmp_path: Path) -> None:
    X, y, T = problem
    clf = ProjectAndMix().fit(X[::2], y[::2], text=encoded(T, 20.0))
    clf.save(tmp_path / "clf.safetensors")
    again = load_classifier(tmp_path / "clf.safetensors")
    assert again.get_params() == clf.get_params() and again.logit_scale_ == 20.0
    np.testing.assert_array_equal(again.logits(X), clf.logits(X))
    again.partial_fit(X[1::2], y[1::2], text={"gnu": encoded(-T[:1], 20.0)})
    clf.partial_fit(X[1::2], y[1::2], text={"gnu": -T[0].astype(np.float32)})
    assert again.logit_scale_ == 20.0
    np.testing.assert_allclose(again.logits(X), clf.logits(X), atol=1e-6)


def test_texts_of_two_models_are_refused(problem: Any) -> None:
    X, y, T = problem
    with pytest.raises(InputError, match="logit scales 20, 100, expected one model"):
        ProjectAndMix().fit(X, y, text={"cat": encoded(T[:1], 20.0), "dog": encoded(T[1:2], 100.0), "fox": None})
