"""A classifier's file that says what no classifier can: refused, with every problem named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomix._documents import Document, read_document, write_document
from isomix.errors import FileFormatError
from isomix.fewshot import CLASSIFIERS, load_classifier
from isomix.linalg import normalize_rows

Tamper = Callable[[dict[str, Any], dict[str, Any]], Any]


def saved(path: Path, method: str = "tip-adapter") -> Document:
    rng = np.random.default_rng(0)
    X = normalize_rows(np.repeat(np.eye(8)[:3], 4, axis=0) + 0.3 * rng.normal(size=(12, 8)))
    text = {name: normalize_rows(rng.normal(size=(2, 8))) for name in ("ant", "bee", "cow")}
    CLASSIFIERS[method]().fit(X, np.repeat(list(text), 4), text).save(path)
    return read_document(path, "classifier")


CASES: dict[str, tuple[str, Tamper]] = {
    "temperature 0": ("temperature is 0", lambda p, t: p.update(temperature=0)),
    "temperature below 0": ("temperature is -1", lambda p, t: p.update(temperature=-1.0)),
    "temperature of a word": ("temperature is 'hot'", lambda p, t: p.update(temperature="hot")),
    "a logit scale of 0": ("logit_scale is 0", lambda p, t: p.update(logit_scale=0)),
    "a logit scale of a word": ("logit_scale is 'warm'", lambda p, t: p.update(logit_scale="warm")),
    "a logit scale beyond bounds": ("logit_scale is 1e\\+300", lambda p, t: p.update(logit_scale=1e300)),
    "one class of all": (
        "fewer than two classes have pictures or text",
        lambda p, t: (t["counts"].__setitem__(slice(1, None), 0), t["has_text"].__setitem__(slice(None), False)),
    ),
    "a label twice": ("'ant' stands there more than once", lambda p, t: p.update(labels=["ant", "ant", "cow"])),
    "labels out of order": ("not in order", lambda p, t: p.update(labels=["cow", "bee", "ant"])),
    "labels of numbers": ("label 1 is a int, expected str", lambda p, t: p.update(labels=[1, 2, 3])),
    "a weight below 0": ("'alpha_' is -2", lambda p, t: p["learned"].update(alpha_=-2.0)),
    "a weight beyond bounds": ("'alpha_' is 1e\\+300", lambda p, t: p["learned"].update(alpha_=1e300)),
    "more shots than the counts": (
        "do not sum up to the counts",
        lambda p, t: t.update({k: np.repeat(t[k], 50, axis=0) for k in ("support_", "support_classes_", "support_weights_")}),
    ),
    "shots of another width": ("shots, class numbers", lambda p, t: t.update(support_=t["support_"][:, :3].copy())),
    "shots of a class that is not": ("beyond the 3 classes", lambda p, t: t.update(support_classes_=t["support_classes_"] + 9)),
    "a scatter out of range": ("scatter up to", lambda p, t: t.update(scatter=t["scatter"] * 1e6)),
    "a scatter with one side": ("not symmetric", lambda p, t: t.update(scatter=np.tril(t["scatter"]))),
    "texts of any length": ("unit length", lambda p, t: t.update(text=t["text"] * 9)),
    "prompts of nobody": ("prompt_counts", lambda p, t: t.update(prompt_counts=t["prompt_counts"] + 1)),
    "a mean out of range": ("means up to", lambda p, t: t.update(means=t["means"] * 9)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_tampered_classifier_is_refused(case: str, tmp_path: Path) -> None:
    message, tamper = CASES[case]
    document = saved(tmp_path / "file")
    tamper(document.parameters, document.tensors)
    write_document(tmp_path / "file", document)
    with pytest.raises(FileFormatError, match=message):
        load_classifier(tmp_path / "file")


def test_every_problem_is_listed(tmp_path: Path) -> None:
    document = saved(tmp_path / "file")
    document.parameters.update(temperature=0, labels=["ant", "ant", "cow"])
    write_document(tmp_path / "file", document)
    with pytest.raises(FileFormatError, match=r"more than once.*temperature is 0"):
        load_classifier(tmp_path / "file")


def test_not_a_number_in_the_header_is_refused(tmp_path: Path) -> None:
    """JSON has no NaN, but Python's reader takes it."""
    saved(tmp_path / "file", "project-and-mix")
    whole = (tmp_path / "file").read_bytes()
    start = whole.index(b'\\"temperature\\": ') + len(b'\\"temperature\\": ')
    stop = min(whole.index(mark, start) for mark in (b",", b"}"))
    (tmp_path / "file").write_bytes(whole[:start] + b"NaN".rjust(stop - start) + whole[stop:])
    with pytest.raises(FileFormatError, match="NaN"):
        load_classifier(tmp_path / "file")


def test_labels_take_as_much_memory_as_they_need(tmp_path: Path) -> None:
    document = saved(tmp_path / "file")
    write_document(
        tmp_path / "file", replace(document, parameters={**document.parameters, "label_dtype": "<U99999999"})
    )
    assert load_classifier(tmp_path / "file").classes_.dtype == np.dtype("<U3")
