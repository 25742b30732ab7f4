"""Files and folders that appear under their name only when they are complete.

Everything unfinished stands beside its target, under one rule of names: ``.<name>.<process>-<number>.part<suffix>``.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from isomix.errors import InputError

__all__ = ["check_target", "discard", "writing"]

_NUMBERS = itertools.count()
_OWNER = re.compile(r"\.(\d+)(?:-\d+)?\.part$")


@contextlib.contextmanager
def writing(final: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, a file or a folder; the target takes its name when the block ends well, and is untouched if not.

    The one way in which isomix writes files. Two processes, or two threads, that write one target do not mix theirs:
    the later one wins. What killed processes left beside the target is removed.
    """
    target = Path(final)
    _remove_leftovers(target)
    temporary = _temporary_path(target)
    try:
        yield temporary
        _move_into_place(temporary, target)
    finally:
        _remove(temporary)


def check_target(final: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The path of a target that may be written, as a :class:`Path`.

    Raises
    ------
    InputError
        It exists and ``overwrite`` is false, or the folder that it should stand in does not exist.
    """
    target = Path(final)
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already. Name another target, or let it be overwritten (--overwrite).")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is not a folder, so {target.name} cannot be written there. Create it first.")
    return target


def discard(path: Path) -> None:
    """Remove a file or a whole folder; its name is free at once, and never stands for a part of it."""
    if path.is_dir():
        aside = _temporary_path(path)
        path.rename(aside)
        _remove(aside)
    else:
        path.unlink(missing_ok=True)


def _temporary_path(final: Path) -> Path:
    return final.with_name(f".{final.stem}.{os.getpid()}-{next(_NUMBERS)}.part{final.suffix}")


def _remove_leftovers(final: Path) -> None:
    for left in final.parent.glob(f".{glob.escape(final.stem)}.*.part{glob.escape(final.suffix)}"):
        owner = _OWNER.search(left.name.removesuffix(final.suffix))
        if owner is not None and not _is_running(int(owner[1])):
            _remove(left)


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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _move_into_place(temporary: Path, final: Path) -> None:
    """Give the finished target its name; what had it before goes only then."""
    if not final.is_dir():
        temporary.replace(final)
        return
    old = _temporary_path(final)
    final.rename(old)
    temporary.rename(final)
    _remove(old)
