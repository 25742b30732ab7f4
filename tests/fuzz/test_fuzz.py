"""Damaged input of every format ends in an answer or an error of isomix: the short form of ``make fuzz``, with fixed seeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("limits on the memory of a process are those of Linux", allow_module_level=True)

TOOLS = Path(__file__).resolve().parents[2] / "tools"

sys.path.insert(0, str(TOOLS))
try:
    import fuzz
    from fuzz_formats import FORMATS
finally:
    sys.path.remove(str(TOOLS))

CASES = {"pictures": 300}
FEWER = 60


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_foreign_comes_out(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fuzzer = fuzz.Fuzzer(tmp_path)
    try:
        fuzzer.run(name, iter(range(CASES.get(name, FEWER))))
        assert fuzzer.report() == 0, capsys.readouterr().out
        assert fuzzer.tallies[name].read and fuzzer.tallies[name].refused
        assert fuzzer.tallies[name].cases == CASES.get(name, FEWER)
    finally:
        fuzzer.close()


def test_the_judge_knows_foreign_errors_and_memory(tmp_path: Path) -> None:
    from isomix.errors import FileFormatError

    def hidden(path: Path) -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise FileFormatError("too large") from error

    assert fuzz.outcome(lambda path: json.loads("["), tmp_path)[0] == "failure"
    assert fuzz.outcome(hidden, tmp_path)[0] == "failure"
    assert fuzz.outcome(lambda path: None, tmp_path) == ("read", "")


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("os.abort()", "the child died, signal 6, SIGABRT"),
        ("os._exit(3)", "the child died, exit code 3"),
        ("exec('while True: pass')", "no answer in 0.2 s of processor time"),
    ],
)
def test_a_child_that_dies_or_hangs_is_a_failure_that_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], does: str, said: str
) -> None:
    scripts = iter((f"import os, sys; sys.stdin.readline(); {does}", ""))

    def start(fuzzer: fuzz.Fuzzer, name: str) -> fuzz.Child:
        command = [sys.executable, "-c", next(scripts)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        return fuzz.Child(name, process)

    monkeypatch.setattr(fuzz.Fuzzer, "start", start)
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    fuzzer = fuzz.Fuzzer(tmp_path)
    try:
        (fuzzer.seeds / "lists").mkdir()
        (fuzzer.seeds / "lists" / "a.txt").write_text("a.png")
        fuzzer.run("lists", iter([7]))
        assert fuzzer.report() == 1
    finally:
        fuzzer.close()
    told = capsys.readouterr().out
    assert f"FAILURE lists 7: {said}" in told
    assert "again: python tools/fuzz.py --format lists --first 7 --cases 1" in told
    assert (tmp_path / "failures" / "lists-7" / "a.txt").is_file()


def test_a_child_that_asks_for_much_memory_is_a_failure(tmp_path: Path) -> None:
    """The limit holds in the child: beyond it a list of numbers cannot be made, however small the file is."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fuzz, fuzz_formats\n"
        "from pathlib import Path\n"
        "read = lambda path: bytearray(2 << 30) if 'input' in path.parts else None\n"
        "make = lambda seeds, corpus, target, rng: Path(target, 'input')\n"
        "fuzz.FORMATS['lists'], fuzz.make_input = fuzz_formats.Format(None, read), make\n"
        "fuzz.child('lists', Path(sys.argv[2]), None)"
    )
    (tmp_path / "lists").mkdir()
    command = [sys.executable, "-c", script, str(TOOLS), str(tmp_path)]
    answers = subprocess.run(command, input="0\n", capture_output=True, text=True, check=True).stdout.splitlines()
    assert [json.loads(line)["kind"] for line in answers] == ["ready", "failure"]
    assert "MemoryError" in json.loads(answers[1])["what"]
