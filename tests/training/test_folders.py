"""The folders of the recipe build on one another in one direction."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[2] / "training"
ORDER = ("data", "model", "report")


@pytest.mark.parametrize("folder", ORDER)
def test_a_folder_imports_from_those_before_it(folder: str) -> None:
    modules = list((TRAINING / folder).glob("*.py"))
    assert len(modules) > 5
    used = {name for path in modules for name in re.findall(r"(?:from|import) training\.(\w+)\.", path.read_text())}
    assert used <= set(ORDER[: ORDER.index(folder) + 1])
