"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from isomix.errors import InputError

__all__ = ["check_target", "move_into_place", "remove", "temporary_path", "writing"]


@contextlib.contextmanager
def writing(final: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, a file or a folder; the target takes its name when the block ends well, and is untouched if not.

    The one way in which isomix writes files. Two processes that write one target do not mix theirs: the later one wins.
    """
    target = Path(final)
    temporary = temporary_path(target)
    try:
        yield temporary
        move_into_place(temporary, target)
    finally:
        remove(temporary)


def check_target(final: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The path of a target that may be written, as a :class:`Path`.

    Raises
    ------
    InputError
        It exists and ``overwrite`` is false, or the folder that it should stand in does not exist.
    """
    target = Path(final)
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already. Name another target, or allow it to be overwritten.")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is not a folder, so {target.name} cannot be written there. Create it first.")
    return target


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
