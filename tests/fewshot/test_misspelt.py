"""A typo in ``text=`` makes a class of its own, and is warned of; classes that are meant to be so are not."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest

from isomix.errors import IsomixWarning
from isomix.fewshot import ProjectAndMix
from isomix.linalg import normalize_rows

NAMES = ["golden retriever", "tabby cat", "zebra"]
Shots = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def shots(names: list[Any]) -> Shots:
    rng = np.random.default_rng(0)
    X = normalize_rows(rng.normal(size=(4 * len(names), 8)) + 3 * np.repeat(np.eye(8)[: len(names)], 4, axis=0))
    return X, np.repeat(names, 4), dict(zip(names, normalize_rows(rng.normal(size=(len(names), 8))), strict=True))


@pytest.mark.parametrize(
    ("renamed", "near"),
    [("golden_retriever", "golden retriever"), ("Zebra", "zebra"), ("zebar", "zebra"), ("tabby cats", "tabby cat")],
)
def test_a_typo_in_text_names_the_nearest_label(renamed: str, near: str) -> None:
    X, y, text = shots(NAMES)
    text[renamed] = text.pop(near)
    with pytest.warns(IsomixWarning, match=re.escape(f"no pictures: '{renamed}' (near '{near}')")) as caught:
        ProjectAndMix().fit(X, y, text)
    assert f"pictures and no text: '{near}' (near '{renamed}')" in str(caught[0].message)


def test_a_typo_among_the_labels_of_a_few_shots() -> None:
    X, y, text = shots(NAMES)
    y[-1] = "zebrra"
    with pytest.warns(IsomixWarning, match=re.escape("pictures and no text: 'zebrra' (near 'zebra')")):
        ProjectAndMix().fit(X, y, text)


def test_both_kinds_at_once_are_warned_of_whatever_their_names() -> None:
    X, y, text = shots(NAMES)
    text["aardvark"] = text.pop("zebra")
    with pytest.warns(IsomixWarning, match="pictures and no text: 'zebra'; text and no pictures: 'aardvark'"):
        ProjectAndMix().fit(X, y, text)


@pytest.mark.parametrize("extra", ["aardvark", "red fox", "cat"])
def test_a_zero_shot_class_is_not_warned_of(extra: str) -> None:
    X, y, text = shots(NAMES)
    assert extra in ProjectAndMix().fit(X, y, text | {extra: text["zebra"][::-1]}).classes_


@pytest.mark.parametrize(
    "names",
    [
        ["class 1", "class 2", "class 3", "class 4"],
        ["n1", "n2", "n3", "n4"],
        ["set a", "set b", "set c", "set d"],
        [1, 2, 3, 4],
    ],
)
def test_names_in_a_series_are_no_slips(names: list[Any]) -> None:
    X, y, text = shots(names)
    ProjectAndMix().fit(X[:-4], y[:-4], text)


def test_how_to_silence_it() -> None:
    X, y, text = shots(NAMES)
    ProjectAndMix().fit(X, y, text | {"zebra": None})
    more = text | {"zebras": text["zebra"][::-1]}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "text: misspelt", IsomixWarning)
        ProjectAndMix().fit(X, y, more)
    ProjectAndMix().partial_fit(X, y, more, classes=["zebras"])


def test_an_update_warns_too() -> None:
    X, y, text = shots(NAMES)
    fitted = ProjectAndMix().fit(X, y, text)
    with pytest.warns(IsomixWarning, match=r"no pictures: 'zebrra' \(near 'zebra'\)"):
        fitted.partial_fit(X[:1, ::-1], y[:1], {"zebrra": text["zebra"][::-1]})


def test_a_thousand_new_classes_are_compared_in_no_time() -> None:
    X, y, text = shots(NAMES)
    rng = np.random.default_rng(1)
    more = {
        f"{a}{b} thing": rng.normal(size=8)
        for a in "abcdefghijklmnopqrstuvwxyz"
        for b in "0123456789bcdfghjklmnpqrstvwxy"
    }
    assert len(ProjectAndMix().fit(X, y, text | more).classes_) == len(NAMES) + 780
