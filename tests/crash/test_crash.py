"""Killed where it hurts most, every verb leaves the old or the new, and the next run finishes the job.

The short form of ``make crash``: the renames and commits of each verb, before and after.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

if not hasattr(os, "fork"):
    pytest.skip("needs processes that can be killed as on POSIX", allow_module_level=True)


@pytest.fixture(scope="module")
def crash():
    sys.path.insert(0, str(TOOLS))  # the processes that are killed import it by its name
    try:
        import crash

        yield crash
    finally:
        sys.path.remove(str(TOOLS))


@pytest.mark.parametrize(
    ("name", "points", "at_most"),
    [
        ("embed, changed", ("lance append", "lance delete_ids"), 2),
        ("embed --overwrite", ("rename t",), 2),
        ("adapt to a file", ("replace",), 3),
        ("adapt to a folder", ("exchange", "rename"), 2),
        ("adapt to a column", ("lance replace",), 1),
        ("fit", ("replace",), 1),
        ("classify", ("replace",), 1),
        ("serve", ("side file append",), 1),
        ("eval", ("replace",), 1),
    ],
)
def test_killed_at_its_points(crash, tmp_path: Path, name: str, points: tuple[str, ...], at_most: int) -> None:
    (case,) = (case for case in crash.CASES if case.name == name)
    trial = crash.Trial(case, tmp_path / "work")
    numbers = [number for number, point in enumerate(trial.points, 1) if point.startswith(points)][:at_most]
    assert numbers, trial.points
    problems = [p for number in numbers for when in ("before", "after") for p in trial.kill_at(number, when)]
    problems += trial.kill_at_random(0, random.Random(name), trial.seconds())
    assert problems == []


def test_a_loss_is_noticed(crash, tmp_path: Path) -> None:
    """The judge itself: a target that is gone after a kill, and one that is half."""
    (case,) = (case for case in crash.CASES if case.name == "fit")
    trial = crash.Trial(case, tmp_path / "work")

    def spoilt(folder: Path) -> dict[str, str]:
        return {**case.state(folder), "model.safetensors": "other bytes"}

    trial.case = case.__class__(case.name, case.start, case.arguments, spoilt)
    problems = list(trial.kill_at(1, "before"))
    assert len(problems) == 2
    assert "neither old nor new" in problems[0] and "run again: 0 parts missing" in problems[1]
