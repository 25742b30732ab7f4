"""What there is to embed: the pictures of a folder, of a list of paths or of a CSV, in a fixed order."""

from __future__ import annotations

import csv
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

from isomix.encoders.images import image_extensions
from isomix.errors import InputError
from isomix.store.schema import ANNOTATIONS

__all__ = [
    "PATH_COLUMNS",
    "Scan",
    "SourceFile",
    "csv_reader",
    "first_pictures",
    "row_id",
    "scan",
    "scan_several",
    "source_file",
]

PATH_COLUMNS = ("path", "image_path", "filepath", "image")
CAPTION_COLUMNS = ("caption", "title")


class SourceFile(NamedTuple):
    """One file of a source.

    Attributes
    ----------
    id : str
        Hash of ``path``: the same file has the same id in every run.
    path : str
        Relative to the source's root where the file lies below it; POSIX separators.
    location : pathlib.Path
        Where to read it.
    size : int or None
        Bytes; None when it cannot be looked at.
    mtime_ns : int or None
    problem : str
        Why it cannot be looked at; empty when it can.
    annotations : dict
        Some of label, caption and split.
    """

    id: str
    path: str
    location: Path
    size: int | None
    mtime_ns: int | None
    problem: str
    annotations: dict[str, str | None]


@dataclass
class Scan:
    """All files of a source, in the order in which they become rows.

    Attributes
    ----------
    root : pathlib.Path
    files : list of SourceFile
    ignored : int
        Files of a folder that are no pictures by their names.
    duplicates : list of str
        Paths that a list names more than once; they are kept once.
    closed_folders : list of str
        Relative paths of folders that could not be opened: nothing is known of what lies below.
    """

    root: Path
    files: list[SourceFile] = field(default_factory=list)
    ignored: int = 0
    duplicates: list[str] = field(default_factory=list)
    closed_folders: list[str] = field(default_factory=list)


def scan(
    source: str | os.PathLike[str], *, labels: str | None = None, root: str | os.PathLike[str] | None = None
) -> Scan:
    """List the files of a source.

    Parameters
    ----------
    source : path-like
        A folder (searched with its subfolders; hidden files and files without an image suffix are left out), one
        picture, a text file with one path a line, ``"-"`` for such a list on standard input, where paths may end in NUL
        instead, or a ``.csv`` / ``.tsv`` file (of commas, semicolons or tabs) with a column ``path``, ``image_path``,
        ``filepath`` or ``image`` and, if wanted, ``label``, ``caption`` (or ``title``) and ``split``.
    labels : {"folders"}, optional
        Take the first folder below the root as the label.
    root : path-like, optional
        Where relative paths of a list start. Default: the folder of the list; the working directory for standard input.

    Raises
    ------
    InputError
        The source does not exist, is empty, or has no column of paths.
    """
    if labels not in (None, "folders"):
        raise InputError(f"labels: got {labels!r}, expected 'folders' or nothing.")
    if os.fspath(source) == "-":
        text = sys.stdin.buffer.read().decode("utf-8-sig", errors="surrogateescape")
        lines = text.split(
            "\0" if "\0" in text else "\n"
        )  # no path holds a NUL, and find -print0 ends every one with it
        found = _from_entries(Path(root or ".").resolve(), _lines(lines))
    elif (path := Path(source)).is_dir():
        if root is not None:
            raise InputError(f"root is for lists of paths, and {path} is a folder. Leave it out.")
        found = _from_folder(path.resolve())
    elif path.is_file() and path.suffix.lower() in image_extensions():
        if root is not None:
            raise InputError(f"root is for lists of paths, and {path} is a picture. Leave it out.")
        folder = path.parent.resolve()
        found = Scan(folder, [source_file(folder, path.name, {})])
    elif path.is_file():
        found = _from_entries(Path(root or path.parent).resolve(), _read_entries(path))
    else:
        raise InputError(f"{path} does not exist. Expected a folder, a list of paths, a CSV file, or '-'.")
    if labels is not None:
        found.files = [_labelled(file) for file in found.files]
    return found


def scan_several(
    sources: Sequence[str | os.PathLike[str]], *, labels: str | None = None, root: str | os.PathLike[str] | None = None
) -> Scan:
    """List the files of several sources as one, in their order; the root is the folder that they have in common.

    A label is the first folder below the source that a file comes from. The same sources give the same root: with
    others, a table that exists is refused, and not made anew.

    Parameters
    ----------
    sources : sequence of path-like
        One at least; each as for :func:`scan`.
    labels, root
        As for :func:`scan`.

    Raises
    ------
    InputError
        As :func:`scan`; no source, or sources without a folder in common.
    """
    if isinstance(sources, str | os.PathLike) or not sources:
        raise InputError(f"sources: got {sources!r}, expected a list of one source at least.")
    if len(sources) == 1:
        return scan(sources[0], labels=labels, root=root)
    if root is not None:
        raise InputError("root is for one list of paths, and there are several sources. Leave it out.")
    scans = [scan(source, labels=labels) for source in sources]
    try:
        common = Path(os.path.commonpath([each.root for each in scans]))
    except ValueError as error:  # drives of Windows
        raise InputError(f"the sources have no folder in common ({error}). Make a table of each.") from error
    found = Scan(common, ignored=sum(each.ignored for each in scans))
    seen: set[str] = set()
    for each in scans:
        for file in each.files:
            placed = source_file(common, _relative(common, os.fspath(file.location)), file.annotations)
            if placed.id in seen:
                found.duplicates.append(placed.path)
            else:
                seen.add(placed.id)
                found.files.append(placed)
        found.duplicates += [_relative(common, os.fspath(each.root / path)) for path in each.duplicates]
        found.closed_folders += [_relative(common, os.fspath(each.root / folder)) for folder in each.closed_folders]
    return found


def first_pictures(source: str | os.PathLike[str], count: int) -> list[Path]:
    """A few pictures of a source, to look at before all are listed; none of standard input, which can be read once only."""
    path = Path(source)
    suffixes = image_extensions()
    if path.is_dir():
        files = (Path(folder, name) for folder, _, names in os.walk(path) for name in sorted(names))
        return list(islice((file for file in files if file.suffix.lower() in suffixes), count))
    if os.fspath(source) == "-" or not path.is_file():
        return []
    if path.suffix.lower() in suffixes:
        return [path]
    return [path.parent / written for written, _ in islice(_read_entries(path), count)]


def _labelled(file: SourceFile) -> SourceFile:
    first, slash, _ = file.path.partition("/")
    label = first if slash and first else None
    return file._replace(annotations={"label": label, **file.annotations})


def _from_folder(root: Path) -> Scan:
    found = Scan(root)
    suffixes = image_extensions()
    paths: list[str] = []
    # Each folder is taken with the identities of the folders above it, so that a link to one of those ends there.
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        relative, above = pending.pop()
        folder = root / relative
        try:
            status = folder.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            entries = list(os.scandir(folder))
        except OSError:
            found.closed_folders.append(relative)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{relative}/{entry.name}" if relative else entry.name
            if _is_folder(entry):
                pending.append((path, above | {identity}))
            elif os.path.splitext(entry.name)[1].lower() in suffixes:  # noqa: PTH122 - a million times
                paths.append(path)
            else:
                found.ignored += 1
    found.files = [source_file(root, path, {}) for path in sorted(paths)]
    if not found.files:
        raise InputError(
            f"{root} holds no pictures: {found.ignored} other files, and none that ends in "
            f"{', '.join(sorted(suffixes))}."
        )
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _from_entries(root: Path, entries: Iterator[tuple[str, dict[str, str | None]]]) -> Scan:
    found = Scan(root)
    seen: set[str] = set()
    for written, values in entries:
        file = source_file(root, _relative(root, written), values)
        if file.id in seen:
            found.duplicates.append(file.path)
        else:
            seen.add(file.id)
            found.files.append(file)
    if not found.files:
        raise InputError("the list of paths is empty. Expected one path a line, or a CSV with a row for each picture.")
    return found


def _relative(root: Path, written: str) -> str:
    absolute = Path(os.path.normpath(root / written))
    return os.fspath(absolute.relative_to(root) if absolute.is_relative_to(root) else absolute)


def row_id(path: str) -> str:
    """Id of the row of a file: a hash of its path as the table shows it, so that it is the same in every run."""
    return hashlib.blake2b(path.encode(), digest_size=16).hexdigest()


def source_file(root: Path, path: str, annotations: dict[str, str | None]) -> SourceFile:
    """One file of a source, looked at but not read; ``path`` is relative to ``root``, or absolute."""
    location = root / path
    shown = path.replace(os.sep, "/")
    problem = ""
    size = mtime = None
    try:
        status = location.stat()
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
    else:
        size, mtime = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):
            problem = "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
    try:
        shown.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(shown).decode(errors="backslashreplace")
        problem = problem or "the file name is not UTF-8: rename the file"
    identifier = row_id(shown)
    return SourceFile(identifier, shown, location, size, mtime, problem, annotations)


def _lines(stream: Iterable[str]) -> Iterator[tuple[str, dict[str, str | None]]]:
    for line in stream:
        path = line.rstrip("\r\n")
        if path.strip():
            yield path, {}


def _read_entries(path: Path) -> Iterator[tuple[str, dict[str, str | None]]]:
    is_csv = path.suffix.lower() in (".csv", ".tsv")
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="" if is_csv else None) as stream:
            if "\0" in stream.read(4096):
                raise InputError(
                    f"{path} is not a list of paths: it holds binary data. For one picture, give the folder it is in."
                )
            stream.seek(0)
            yield from _rows(path, csv_reader(stream)) if is_csv else _lines(stream)
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a list of paths: {error}.") from error


def csv_reader(stream: TextIO) -> csv.DictReader[str]:
    """Rows of a CSV file, whatever its header separates names by: commas, semicolons or tabs."""
    header = stream.readline()
    stream.seek(0)
    return csv.DictReader(stream, delimiter=max(",;\t", key=header.count))


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[str, dict[str, str | None]]]:
    names = list(reader.fieldnames or [])
    column = _pick(names, PATH_COLUMNS)
    if column is None:
        raise InputError(
            f"{path} has no column of paths: found {', '.join(map(repr, names)) or 'nothing'}, expected a header "
            "with one of "
            f"{', '.join(PATH_COLUMNS)}."
        )
    sources = {name: _pick(names, CAPTION_COLUMNS if name == "caption" else (name,)) for name in ANNOTATIONS}
    present = {name: source for name, source in sources.items() if source is not None}
    for row in reader:
        if row[column]:
            yield row[column], {name: row[source] or None for name, source in present.items()}


def _pick(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)
