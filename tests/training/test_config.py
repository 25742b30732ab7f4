"""Sections of the configuration as dataclasses: values checked, mistakes named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest

from isomix.errors import InputError
from training.config import load_section


@dataclasses.dataclass(frozen=True)
class Leg:
    side: int
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Section:
    legs: tuple[Leg, ...]
    mode: Literal["auto", "exact"]
    named: dict[str, int]
    limit: int | None = None
    span: tuple[float, float] = (0.0, 1.0)


GOOD = 'legs = [{ side = 32 }, { side = 64, rate = 1 }]\nmode = "auto"\nnamed = { a = 1 }\n'


def load(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "config.toml"
    path.write_text("[section]\n" + text)
    return load_section(Section, "section", path)


def test_values_become_what_the_fields_say(tmp_path: Path) -> None:
    section = load(tmp_path, GOOD + "limit = 3\nspan = [0.5, 2]\n")
    assert section == Section((Leg(32), Leg(64, 1.0)), "auto", {"a": 1}, 3, (0.5, 2.0))
    assert load(tmp_path, GOOD).limit is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "speed = 1\n", r"unknown keys \['speed'\]"),
        ('mode = "auto"\nnamed = {}\n', r"missing keys \['legs'\]"),
        (GOOD.replace('"auto"', '"fast"'), r"mode: got 'fast'"),
        (GOOD.replace("side = 32", "side = 32.5"), r"legs\[0\] side: got 32.5, expected int"),
        (GOOD.replace("side = 32", "side = true"), r"legs\[0\] side: got True"),
        (GOOD.replace("a = 1", 'a = "1"'), r"named\.a: got '1'"),
        (GOOD + "span = [1.0]\n", r"span: got \[1.0\]"),
        (GOOD + "limit = []\n", r"limit: got \[\]"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    with pytest.raises(InputError, match=r"no section \[other\]. It has: section"):
        load_section(Section, "other", tmp_path / "config.toml")
