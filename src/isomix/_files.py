"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

__all__ = ["move_into_place", "remove", "temporary_path"]


def temporary_path(final: Path) -> Path:
    """A name beside the target; what killed processes left under such names is removed."""
    for left in final.parent.glob(f".{glob.escape(final.stem)}.*.part{glob.escape(final.suffix)}"):
        pid = left.name.removesuffix(f".part{final.suffix}").rpartition(".")[2]
        if pid.isdigit() and not _is_running(int(pid)):
            remove(left)
    return final.with_name(f".{final.stem}.{os.getpid()}.part{final.suffix}")


def _is_running(pid: int) -> bool:
    if os.name != "posix":  # there, signal 0 is a real one
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move_into_place(temporary: Path, final: Path) -> None:
    """Give the finished target its name; what had it before goes only then."""
    if not final.is_dir():
        temporary.replace(final)
        return
    old = final.with_name(f".{final.stem}.old.{os.getpid()}.part{final.suffix}")
    final.rename(old)
    temporary.rename(final)
    remove(old)
