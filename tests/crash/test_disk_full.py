"""On a disk without room every verb says so, leaves what was there, and is completed by the same command later.

The short form of ``python tools/disk_full.py``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

if not hasattr(os, "fork"):
    pytest.skip("needs processes that are started as on POSIX", allow_module_level=True)


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TOOLS))  # the processes that are started import it by its name
    try:
        import disk_full

        yield disk_full
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def disk(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    try:
        with tool.small_disk(tmp_path_factory.mktemp("full") / "disk") as mounted:
            yield mounted
    except tool.NoDiskError as error:
        pytest.skip(f"no small file system can be mounted here: {error}")


@pytest.mark.parametrize(
    "name",
    [
        "embed, changed",
        "adapt to a file",
        "adapt to parquet",
        "adapt to a folder",
        "search --contact-sheet",
        "fit",
        "eval",
    ],
)
def test_a_full_disk(tool: ModuleType, disk: Path, tmp_path: Path, name: str) -> None:
    (case,) = (case for case in tool.crash.CASES if case.name == name)
    full = tool.FullDisk(case, tmp_path / "work", disk)
    assert full.run(0 if name == "eval" else 8 << 10) == (False, [])  # a run of eval takes one page


def test_a_verb_that_does_not_say_why_is_noticed(
    tool: ModuleType, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge itself."""
    (case,) = (case for case in tool.crash.CASES if case.name == "adapt to a file")
    monkeypatch.setattr(tool, "SAID", tool.re.compile("never said"))
    _, problems = tool.FullDisk(case, tmp_path / "work", disk).run(0)
    assert len(problems) == 1 and "does not tell why" in problems[0]
