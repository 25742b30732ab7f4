"""Versions of a table: looked at, kept by a name, gone back to."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from isomix.errors import InputError
from isomix.store.journal import Journal
from isomix.store.lance_file import LanceFile
from isomix.store.table import EmbeddingTable

__all__ = ["Version", "compact", "drop_name", "keep_version", "restore_version", "versions"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Version(NamedTuple):
    """A state of a table that can be gone back to.

    Attributes
    ----------
    number : int
    time : datetime
    rows : int
    names : list of str
        A version with a name is kept; others go an hour after they were replaced, when the table is written next.
    """

    number: int
    time: datetime
    rows: int
    names: list[str]


def versions(table_path: str | os.PathLike[str]) -> list[Version]:
    """The versions of a table that are on the disk, the oldest first."""
    lance = _opened(table_path)
    names = lance.names()
    return [
        Version(number, time, rows, sorted(name for name, of in names.items() if of == number))
        for number, time, rows in lance.versions()
    ]


def keep_version(table_path: str | os.PathLike[str], name: str, version: int | None = None) -> int:
    """Give a version a name, and keep it until the name is dropped.

    Parameters
    ----------
    table_path : path-like
    name : str
        Letters, digits, '.', '_' and '-'; not a number.
    version : int, optional
        Default: the last.

    Returns
    -------
    int
        Its number.

    Raises
    ------
    InputError
        A name that is taken or cannot be one, or a version that is not there.
    """
    if not NAME.fullmatch(name) or name.isdecimal():
        raise InputError(f"name: got {name!r}, expected letters, digits, '.', '_' or '-', and not a number alone.")
    with Journal(Path(table_path)):
        lance = _opened(table_path)
        taken = lance.names()
        if name in taken:
            raise InputError(
                f"{name!r} is the name of version {taken[name]} already. Drop it first (--drop), or choose another."
            )
        number = lance.version if version is None else _find(lance, str(version))
        lance.name_version(name, number)
    return number


def drop_name(table_path: str | os.PathLike[str], name: str) -> None:
    """Take a name from a version, which then goes like any other.

    Raises
    ------
    InputError
        There is no such name.
    """
    with Journal(Path(table_path)):
        lance = _opened(table_path)
        if name not in lance.names():
            raise InputError(f"{table_path} has no version called {name!r}. {_there(lance)}")
        lance.drop_name(name)


def restore_version(table_path: str | os.PathLike[str], version: str | int) -> EmbeddingTable:
    """Go back: rows, columns and metadata of an earlier version become those of a new one; nothing is lost by it.

    The ledger of files that could not be read and the thumbnails stay as they are.

    Parameters
    ----------
    table_path : path-like
    version : str or int
        Its number or its name.

    Raises
    ------
    InputError
        There is no such version.
    """
    with Journal(Path(table_path)) as journal:
        journal.recover(EmbeddingTable.open(table_path))
        lance = _opened(table_path)
        lance.restore(_find(lance, str(version)))
    return EmbeddingTable.open(table_path)


def compact(table_path: str | os.PathLike[str]) -> tuple[int, int]:
    """Bring a table into few files, and drop all versions without a name but the last.

    Who has the table open loses the version that it reads.

    Returns
    -------
    tuple of int
        Bytes before and after.
    """
    with Journal(Path(table_path)) as journal:
        journal.recover(EmbeddingTable.open(table_path))
        before = _size(Path(table_path))
        _opened(table_path).compact()
    return before, _size(Path(table_path))


def _opened(table_path: str | os.PathLike[str]) -> LanceFile:
    EmbeddingTable.open(table_path)  # a table of isomix, and of a format that is read
    return LanceFile(table_path)


def _find(lance: LanceFile, version: str) -> int:
    names = lance.names()
    if version in names:
        return names[version]
    if version.isdecimal() and int(version) in {number for number, *_ in lance.versions()}:
        return int(version)
    raise InputError(f"{lance.path} has no version {version!r}. {_there(lance)}")


def _there(lance: LanceFile) -> str:
    numbers = [number for number, *_ in lance.versions()]
    names = ", ".join(sorted(lance.names())) or "none"
    return f"There are {', '.join(map(str, numbers[-10:]))}{' and older ones' if len(numbers) > 10 else ''}; names: {names}."


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
