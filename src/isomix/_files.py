"""Files and folders that appear under their name only when they are complete.

Everything unfinished stands beside its target, under one rule of names: ``.<name>.<process>-<number>.part<suffix>``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from isomix.errors import InputError, OutputError

__all__ = ["check_target", "discard", "remove_leftovers", "writing"]

_NUMBERS = itertools.count()
_OWNER = re.compile(r"\.(\d+)(?:-\d+)?\.part$")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OLD = ".old"
"""Ending of a folder that makes room for its successor, where two names cannot change places in one step."""


@contextlib.contextmanager
def writing(final: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, a file or a folder; the target takes its name when the block ends well, and is untouched if not.

    The one way in which isomix writes files. Two processes, or two threads, that write one target do not mix theirs:
    the later one wins. What killed processes left beside the target is removed.

    Raises
    ------
    OutputError
        There is no room for it.
    """
    target = Path(final)
    remove_leftovers(target)
    temporary = _temporary_path(target)
    try:
        yield temporary
        _move_into_place(temporary, target)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OutputError(
            f"{target} was not written: {os.strerror(error.errno).lower()}. Make room, or name a place on another disk; what was there "
            "before is unchanged."
        ) from error
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
    remove_leftovers(path)
    if path.is_dir():
        aside = _temporary_path(path)
        path.rename(aside)
        _remove(aside)
    else:
        path.unlink(missing_ok=True)


def _temporary_path(final: Path) -> Path:
    return final.with_name(f".{final.stem}.{os.getpid()}-{next(_NUMBERS)}.part{final.suffix}")


def remove_leftovers(final: Path) -> None:
    """Remove what killed processes left beside a target; a folder that had made room for another comes back."""
    for old in final.parent.glob(f".{glob.escape(final.stem)}.*.part{glob.escape(final.suffix)}{_OLD}"):
        owner = _OWNER.search(old.name.removesuffix(_OLD).removesuffix(final.suffix))
        if owner is not None and not _is_running(int(owner[1])):
            if final.exists():
                _remove(old)
            else:  # killed between the two renames
                old.rename(final)
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
    elif not _exchange(temporary, final):  # if it does, the old folder is the temporary one now, and is removed as such
        old = temporary.with_name(f"{temporary.name}{_OLD}")
        final.rename(old)
        temporary.rename(final)
        _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step, where the system can: ``renameat2`` of Linux."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another system, or an older one
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0
