"""What all databases share: a run that reads what is not adapted yet, maps it, and commits it block by block."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from isomix.errors import InputError
from isomix.store.databases.pictures import Pictures, check_lengths, check_pictures
from isomix.store.formats.base import Block, Source
from isomix.store.mapping import BlockMapper, check_compatible
from isomix.store.threads import overlapped

if TYPE_CHECKING:
    from isomix.spaces import Space

__all__ = ["Database", "DatabaseReport", "Target", "adapt_database", "check_record"]

ROWS_PER_BLOCK = 2048
"""Rows that are committed at once."""


@dataclass
class DatabaseReport:
    """What was adapted inside a database, or would be.

    Attributes
    ----------
    source, target : str
        Without passwords.
    layout : str
    rows : int
        Vectors of the source.
    there : int
        Of them, adapted by an earlier run.
    added, removed : int
        Rows written, and rows of the target that went because their source is gone.
    left : int
        Vectors that came in meanwhile, for the next run.
    width_before, width : int
    dtype : str
    space : dict
    checks : list of str
        What was checked about model and vectors, and what could not be.
    skipped : list of str
        Keys of rows without a direction, which have no vector in the target.
    undo : str
        What takes it back.
    hint : str
        What to do next.
    dry_run : bool
        Nothing was written.
    seconds : float
    """

    source: str
    target: str
    layout: str
    rows: int
    width_before: int
    width: int
    dtype: str
    space: dict[str, Any]
    there: int = 0
    added: int = 0
    removed: int = 0
    left: int = 0
    checks: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    undo: str = ""
    hint: str = ""
    dry_run: bool = False
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Database(Source):
    """Vectors in a database, read in the order of their keys; closed at the end of a ``with`` block.

    Attributes
    ----------
    label : str
        For messages; without a password.
    address : dict
        What the record of a target says about where it was made from.
    """

    label: str
    address: Mapping[str, Any]

    @abstractmethod
    def close(self) -> None:
        """End the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def target(self, name: str, width: int, dtype: np.dtype[Any]) -> Target:
        """The place of adapted vectors in the same database; nothing is made yet."""

    @abstractmethod
    def pictures(self, rows: int) -> Pictures | None:
        """Rows whose pictures can be read on this machine, if the database says where pictures are."""

    @abstractmethod
    def names(self, block: Block) -> Sequence[str]:
        """Keys of a block's rows, for messages."""


class Target(ABC):
    """Where the adapted vectors of a database go; written by one run at a time.

    Attributes
    ----------
    name : str
        For messages.
    """

    name: str

    @abstractmethod
    def record(self) -> Mapping[str, Any] | None:
        """What isomix kept with it; None where nothing is.

        Raises
        ------
        InputError
            Something is there that is none of ours.
        """

    def check_writable(self) -> None:
        """Refuse, before any work, what the server will not let this user write; where it can be asked.

        Raises
        ------
        InputError
        """
        return

    @abstractmethod
    def create(self, record: Mapping[str, Any]) -> None:
        """Make it, empty."""

    @abstractmethod
    def drop(self) -> None:
        """Remove it; only what :meth:`record` knows."""

    @abstractmethod
    def count(self) -> int:
        """Rows in it."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Keep other runs out.

        Raises
        ------
        InputError
            Another run is at it.
        """

    @abstractmethod
    def missing(self, rows: int) -> Iterator[Block]:
        """What has no row in it yet, read ahead of what is written."""

    @abstractmethod
    def write(self, block: Block, vectors: NDArray[Any], bad: Sequence[int]) -> None:
        """Commit the rows of a block; ``bad`` are those without a direction, and get no vector."""

    @abstractmethod
    def finish(self) -> tuple[int, int]:
        """Remove rows whose source is gone; return how many, and how many came in meanwhile."""

    @abstractmethod
    def undo(self) -> str:
        """What takes it back, for the user to run."""

    @abstractmethod
    def hint(self) -> str:
        """What to do next, for the user to run."""


def adapt_database(
    source: Database,
    target: str,
    space: Space,
    *,
    dtype: str | None = None,
    rows_per_block: int = ROWS_PER_BLOCK,
    skip_bad: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DatabaseReport:
    """Map the vectors of a database into a space, and write them beside their source, in the same database.

    Every block is committed with its keys, so that a run which was stopped, or killed, goes on where it stopped when it is
    called again; so does one that finds new rows. A vector that was changed in between is not seen: let the target be
    overwritten, or keep it in step with a trigger (``isomix export sql``). The source is only read.

    Parameters
    ----------
    source : Database
    target : str
        Name of a table or collection of its own.
    space : Space
    dtype : {"float16", "float32"}, optional
        Default: float16 where the source is, else float32.
    rows_per_block : int
    skip_bad : bool
        Let rows without a direction have no vector in the target. Default: an error that names them.
    overwrite : bool
        Begin anew where a target of an earlier run is; never anything else.
    dry_run : bool
        Check everything, and write nothing.
    offline : bool
        Never open a connection to a model hub for the check of pictures.
    progress : callable, optional
        Called with (rows done, rows), between two commits.

    Raises
    ------
    InputError, ModalityError, FingerprintMismatchError, TableError
    """
    started = time.monotonic()
    check_compatible(source, space)
    written = np.dtype(dtype or (np.float16 if source.dtype == np.float16 else np.float32))
    place = source.target(target, space.n_components_, written)
    record: dict[str, Any] = {"space": space.describe(), "source": dict(source.address), "dtype": written.name}
    found = place.record()
    place.check_writable()
    if found is not None and not overwrite:
        check_record(place.name, found, record)
    report = DatabaseReport(
        source.label,
        place.name,
        source.layout,
        source.rows,
        source.width,
        space.n_components_,
        written.name,
        record["space"],
        there=0 if found is None or overwrite else place.count(),
        checks=_checks(source, space, offline),
        undo=place.undo(),
        hint=place.hint(),
        dry_run=dry_run,
    )
    if not dry_run:
        with place.locked():
            if found is not None and overwrite:
                place.drop()
            if found is None or overwrite:
                place.create(record)
            _fill(source, place, space, report, rows_per_block, skip_bad, progress)
            report.removed, report.left = place.finish()
    report.seconds = time.monotonic() - started
    return report


def _fill(
    source: Database,
    place: Target,
    space: Space,
    report: DatabaseReport,
    rows_per_block: int,
    skip_bad: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    mapper = BlockMapper(space, np.dtype(report.dtype), skip_bad=True)
    for block, mapped in overlapped(place.missing(rows_per_block), mapper):
        bad = [row - block.start for row in mapped.skipped]
        names = source.names(block) if bad else []
        report.skipped += [names[row] for row in bad]
        if bad and not skip_bad:
            raise InputError(
                f"{source.label}: vectors without a direction (all zeros, or zero in the space), at {', '.join(report.skipped[:8])}"
                f"{f' and {len(bad) - 8} more' if len(bad) > 8 else ''}; there may be more further on. They usually stand for "
                f"pictures that could not be read. Repair them, or skip them (--skip-bad). {report.added:,} rows are in "
                f"{place.name}; the same command goes on from there."
            )
        place.write(block, mapped.vectors, bad)
        report.added += len(block.vectors)
        if progress is not None:
            progress(report.there + report.added, max(report.rows, report.there + report.added))


def check_record(name: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse to go on with a target of another space or source.

    Raises
    ------
    InputError
    """
    advice = "Name another target, or let it be overwritten (--overwrite)."
    made, now = (each.get("space", {}).get("fingerprint") for each in (found, expected))
    if made != now:
        raise InputError(
            f"{name} holds vectors of another space ({str(made)[:12]}) than the one asked for ({str(now)[:12]}). {advice}"
        )
    if found.get("source") != expected["source"] or found.get("dtype") != expected["dtype"]:
        raise InputError(
            f"{name} was made from {found.get('source')} as {found.get('dtype')}, and {expected['source']} as "
            f"{expected['dtype']} is asked for. {advice}"
        )


def _checks(source: Database, space: Space, offline: bool) -> list[str]:
    """What is known about model and vectors; raises when they do not belong together."""
    return [
        f"width: {source.width}, as the space's",
        check_lengths(source.sample(1000), space),
        check_pictures(source.label, source.pictures(8), space, offline=offline),
    ]
