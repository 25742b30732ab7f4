"""What an embedding run has to do: the difference between a source and its table, and the account of what was done."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from isomix.encoders.images import open_regular
from isomix.errors import ImageError, InputError
from isomix.store.scan import Scan, SourceFile
from isomix.store.schema import ANNOTATIONS
from isomix.store.table import EmbeddingTable

__all__ = ["EmbedReport", "Plan", "content_hash", "make_plan"]


@dataclass
class EmbedReport:
    """What an embedding run did; files, unless it says otherwise.

    Attributes
    ----------
    table : str
    rows : int
        Rows of the table afterwards.
    added, changed, touched, moved, removed, unchanged : int
        New files; files with other bytes, encoded again; files with only another date or annotation; files whose bytes
        had a row under a path that is gone, which keeps its place and its vectors; rows whose file is no longer in the
        source; the rest.
    removed_present : int
        Rows among those removed whose file is still there: the source, a shorter list, no longer names it.
    vanished_kept : int
        Rows whose file is no longer in the source and that were kept.
    failed : int
        Files that could not be read in this run.
    known_failures : int
        Files on the ledger from earlier runs that have not changed, and were not tried again.
    ignored : int
        Files of the folder that are no pictures by their names.
    duplicates : list of str
        Paths that the list named more than once.
    closed_folders : list of str
        Folders that could not be opened; rows below them were kept.
    dropped_columns : list of str
        Derived columns that were dropped, because rows were added (or removed, those that are smoothed).
    thumbnail_bytes : int
        Size of the file of thumbnails.
    seconds : float
    """

    table: str
    rows: int = 0
    added: int = 0
    changed: int = 0
    touched: int = 0
    moved: int = 0
    removed: int = 0
    removed_present: int = 0
    unchanged: int = 0
    vanished_kept: int = 0
    failed: int = 0
    known_failures: int = 0
    ignored: int = 0
    duplicates: list[str] = field(default_factory=list)
    closed_folders: list[str] = field(default_factory=list)
    dropped_columns: list[str] = field(default_factory=list)
    thumbnail_bytes: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every file of the source has its row."""
        return not (self.failed or self.known_failures or self.closed_folders)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "complete": self.complete}


@dataclass
class Plan:
    """What differs between a source and its table.

    Attributes
    ----------
    encode : list of SourceFile
        New and changed files, in the order of the source.
    replaced : set of str
        Ids among them that have a row already.
    update : dict
        Id → scalar columns that changed although the picture did not.
    moved : set of str
        Ids among those of ``update`` whose file has another path now.
    vanished : list of str
        Ids of rows whose file is no longer in the source.
    present : list of str
        Ids among them whose file is still there.
    healed : list of str
        Ids on the ledger that no longer belong there.
    """

    encode: list[SourceFile] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)
    update: dict[str, dict[str, Any]] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    vanished: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    healed: list[str] = field(default_factory=list)


def make_plan(table: EmbeddingTable, found: Scan, report: EmbedReport, keep_vanished: bool, retry: bool) -> Plan:
    """Compare; counts of what needs nothing go into the report.

    Raises
    ------
    InputError
        None of the table's files is there any more: a drive that is not mounted, most likely.
    """
    plan = Plan()
    names = ["id", "path", "size", "mtime_ns", "content_hash", *ANNOTATIONS]
    stored = {row["id"]: row for row in table.rows(columns=names)}
    failed = {row["id"]: row for row in table.errors()}
    count, present = len(stored), 0
    for file in found.files:
        row, failure = stored.pop(file.id, None), failed.pop(file.id, None)
        if row is None:
            same = failure is not None and (failure["size"], failure["mtime_ns"]) == (file.size, file.mtime_ns)
            if same and not retry:
                report.known_failures += 1
            else:
                plan.encode.append(file)
                if failure is not None:
                    plan.healed.append(file.id)
            continue
        if file.size is None and keep_vanished:
            plan.vanished.append(file.id)
            continue
        present += file.size is not None
        _compare(file, row, plan, report)
    closed = tuple(f"{folder}/" for folder in found.closed_folders)
    gone = {identifier: row for identifier, row in stored.items() if not row["path"].startswith(closed)}
    there = {identifier for identifier, row in gone.items() if (table.root / row["path"]).is_file()}
    plan.present = [identifier for identifier in gone if identifier in there]
    _find_moved(plan, [row for identifier, row in gone.items() if identifier not in there])
    plan.vanished += [identifier for identifier in gone if identifier not in plan.moved]
    plan.healed += [identifier for identifier, row in failed.items() if not row["path"].startswith(closed)]
    if count and not present and not plan.moved and len(gone) == len(stored):
        raise InputError(
            f"{found.root} has none of the {count} files of {table.path}; is the drive there? Nothing was changed. "
            "Allow the table to be overwritten if this is meant."
        )
    return plan


def _compare(file: SourceFile, row: Mapping[str, Any], plan: Plan, report: EmbedReport) -> None:
    """Decide what to do about a file that has a row: encode again, update the row, or nothing."""
    difference: dict[str, Any] = {name: value for name, value in file.annotations.items() if row[name] != value}
    if (file.size, file.mtime_ns) != (row["size"], row["mtime_ns"]):
        if file.problem or file.size != row["size"] or _hash_file(file) != row["content_hash"]:
            plan.encode.append(file)
            plan.replaced.add(file.id)
            return
        difference["mtime_ns"] = file.mtime_ns
    if difference:
        plan.update[file.id] = difference
    else:
        report.unchanged += 1


def _find_moved(plan: Plan, gone: Sequence[Mapping[str, Any]]) -> None:
    """Give the rows of files that are gone to new files of the same bytes, one row a file, in the order of both."""
    waiting: dict[tuple[int, str], list[str]] = {}
    for row in reversed(gone):
        waiting.setdefault((row["size"], row["content_hash"]), []).append(row["id"])
    sizes = {size for size, _ in waiting}
    left = []
    for file in plan.encode:
        rows = None
        if file.id not in plan.replaced and not file.problem and file.size in sizes:
            rows = waiting.get((file.size, _hash_file(file)))
        if not rows:
            left.append(file)
            continue
        identifier = rows.pop()
        plan.moved.add(identifier)
        plan.update[identifier] = {
            "id": file.id,
            "path": file.path,
            "mtime_ns": file.mtime_ns,
            **{name: file.annotations.get(name) for name in ANNOTATIONS},
        }
    plan.encode = left


def content_hash(content: bytes) -> str:
    """BLAKE2b-256 of a file's bytes, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def _hash_file(file: SourceFile) -> str:
    try:
        with open_regular(file.location) as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
    except (OSError, ImageError):
        return ""
