"""Nothing leaves the machine, and nothing is written but to the target: also by the packages underneath."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isomix._extras import PRIVATE, keep_private


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home of a user."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def environment(home: Path) -> dict[str, str]:
    """As a new user has it: nothing says that telemetry is off."""
    kept = {name: value for name, value in os.environ.items() if name not in PRIVATE and not name.startswith("XDG_")}
    return kept | {"HOME": str(home), "USERPROFILE": str(home)}


def visit(home: Path, *words: str | Path, trace: Path | None = None) -> None:
    """Run one verb, and stay until background threads have had their chance."""
    code = "import sys, time, isomix.cli.app as app\ntry:\n    app.main()\nfinally:\n    time.sleep(1.0)"
    command = [sys.executable, "-c", code, *map(str, words)]
    if trace is not None:
        command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(trace), *command]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_no_file_is_left_in_the_home_of_the_user(home, pictures, tmp_path):
    table = tmp_path / "icons.lance"
    visit(home, "embed", pictures / "icons" / "bell", "-o", table, "--model", "embedded")
    visit(home, "search", table, "a bell", "--offline")
    visit(home, "doctor")
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_no_connection_is_opened(home, pictures, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace, which sees what native code does, is not on this machine")
    if subprocess.run(["strace", "-qq", "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace processes here")
    trace = tmp_path / "trace"
    visit(home, "embed", pictures / "icons" / "bell", "-o", tmp_path / "t.lance", "--model", "embedded", trace=trace)
    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line] == []


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    keep_private()
    assert (os.environ["DO_NOT_TRACK"], os.environ["ORT_DISABLE_TELEMETRY"]) == ("0", "1")
