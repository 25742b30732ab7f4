"""Files and folders appear whole, and what was there before is never lost."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from isomix import _files
from isomix._files import writing
from isomix.errors import OutputError


def fill(folder: Path, content: str) -> None:
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), writing(target) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    with writing(target) as part:
        part.write_text("new")
    assert contents(tmp_path) == {"file.txt": "new"}


def test_a_full_disk_is_said_with_the_name_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    message = r"file\.txt was not written: no space left on device\. Make room"
    with pytest.raises(OutputError, match=message), writing(target) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert contents(tmp_path) == {"file.txt": "old"}
    with pytest.raises(PermissionError), writing(target) as part:
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_folder_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    if not in_one_step:
        monkeypatch.setattr(_files, "_exchange", lambda one, other: False)
    target = tmp_path / "folder"
    fill(target, "old")
    with writing(target) as part:
        fill(part, "new")
    assert contents(target) == {"a": "new", "b": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_lost_between_two_renames_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    fill(target, "old")
    # A process that cannot exchange two names, killed when the old folder has gone aside.
    script = f"""
import os
from isomix import _files
_files._exchange = lambda one, other: False
rename = os.rename
def last(*names):
    rename(*names)
    os._exit(9)
os.rename = last
with _files.writing({str(target)!r}) as part:
    part.mkdir()
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert not target.exists()
    with pytest.raises(ZeroDivisionError), writing(target):
        raise ZeroDivisionError
    assert contents(target) == {"a": "old", "b": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_a_killed_removal_left_goes_with_the_next_one(tmp_path: Path) -> None:
    script = f"from pathlib import Path\nfrom isomix import _files\n_files._remove = lambda path: None\n_files.discard(Path({str(tmp_path / 'folder')!r}))"
    fill(tmp_path / "folder", "old")
    subprocess.run([sys.executable, "-c", script], check=True)
    assert [path.name.startswith(".folder.") for path in tmp_path.iterdir()] == [True]
    _files.discard(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []
