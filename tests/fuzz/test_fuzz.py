"""Damaged input of every format ends in an answer or an error of isomix: the short form of ``make fuzz``, with fixed seeds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("limits on the memory of a process are those of Linux", allow_module_level=True)


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
    try:
        import fuzz

        yield fuzz
    finally:
        sys.path.pop(0)


CLEAN = ["npz", "fvecs", "safetensors", "parquet", "faiss", "clip-retrieval", "space", "lists", "pictures"]


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_foreign_comes_out(fuzz, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fuzzer = fuzz.Fuzzer(tmp_path)
    try:
        fuzzer.run(name, iter(range(300 if name == "pictures" else 60)))
        assert fuzzer.report() == 0, capsys.readouterr().out
        assert fuzzer.tallies[name].read and fuzzer.tallies[name].refused
    finally:
        fuzzer.close()


def test_the_judge_knows_foreign_errors_and_memory(fuzz, tmp_path: Path) -> None:
    from isomix.errors import FileFormatError

    def hidden(path: Path) -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise FileFormatError("too large") from error

    assert fuzz.outcome(lambda path: json.loads("["), tmp_path)[0] == "failure"
    assert fuzz.outcome(hidden, tmp_path)[0] == "failure"
    assert fuzz.outcome(lambda path: None, tmp_path) == ("read", "")
