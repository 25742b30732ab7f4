"""Adapting stored embeddings: any layout in, any layout out, as a stream that overlaps reading, product and writing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import check_integer
from isomix._files import check_target
from isomix.errors import InputError
from isomix.store.formats import bring_columns, check_layout, lost_columns, open_embeddings
from isomix.store.formats.base import Block, Job, Pairs, Source
from isomix.store.formats.tables import TableSource
from isomix.store.journal import Journal
from isomix.store.mapping import BlockMapper, check_compatible
from isomix.store.table import EmbeddingTable, check_is_plain
from isomix.store.targets import check_all_read, write_target
from isomix.store.threads import overlapped

if TYPE_CHECKING:
    from isomix.spaces import Space

__all__ = ["AdaptReport", "adapt", "adapt_column"]

ROWS_PER_BLOCK = 4096
"""Few enough that a block's arrays stay in the cache and come from memory that is used again."""

Progress = Callable[[int, int], None]


@dataclass
class AdaptReport:
    """What was adapted.

    Attributes
    ----------
    source, target : str
    layout : str
        Of the source.
    rows : int
    width_before, width : int
        Numbers a vector.
    space : dict
        Description of the space.
    skipped_rows : list of int
        Rows without a direction (NaN, infinite or all zeros), which are NaN in the target.
    dropped_columns : list of str
        Columns and arrays of the source that the target's layout cannot hold.
    seconds : float
    """

    source: str
    target: str
    layout: str
    rows: int
    width_before: int
    width: int
    space: dict[str, Any]
    skipped_rows: list[int] = field(default_factory=list)
    dropped_columns: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def adapt(
    source: str | os.PathLike[str] | Source,
    target: str | os.PathLike[str],
    space: Space,
    *,
    column: str | None = None,
    dtype: str | None = None,
    rows_per_block: int = ROWS_PER_BLOCK,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AdaptReport:
    """Map stored embeddings into a space, and write them.

    The target appears under its name only when it is complete. It says beside or inside itself (``isomix.json``,
    parquet and safetensors metadata) which space made it. Memory does not depend on the number of rows, except for
    faiss, which holds an index whole.

    Parameters
    ----------
    source : path-like or Source
        See :func:`isomix.store.formats.open_embeddings`, and :func:`isomix.store.open_database`.
    target : path-like
        Its ending names the layout; without one it is a folder (of the source's layout if that is one, else of
        clip-retrieval's).
    space : Space
        Fitted, e.g. :class:`isomix.IsoCLIP`.
    column : str, optional
        Where the vectors are, in layouts that name them.
    dtype : {"float16", "float32"}, optional
        Of the result. Default: float16 where the source is, else float32. faiss and fvecs are always float32, a table
        float16.
    rows_per_block : int
    skip_bad : bool
        Let rows without a direction become NaN (null in parquet) and list them in the record. No row is ever left out,
        so row numbers stay. Default: an error that names them.
    overwrite : bool
        Replace a target that exists.
    progress : callable, optional
        Called with (rows done, rows).

    Returns
    -------
    AdaptReport

    Raises
    ------
    InputError
        Bad rows; a target that exists or cannot be; vectors that are adapted already, or of another width.
    ModalityError
        Text embeddings with a space for images, or the reverse.
    FingerprintMismatchError
        The source says that another model made it than the space's.
    """
    started = time.monotonic()
    rows_per_block = check_integer(rows_per_block, "rows_per_block", minimum=1)
    if dtype not in (None, "float16", "float32"):
        raise InputError(f"dtype: got {dtype!r}, expected 'float16', 'float32' or nothing for the source's.")
    final = check_target(target, overwrite=overwrite)
    check_layout(final)
    if isinstance(source, Source):
        opened, name = source, str(source.path)
    else:
        opened, name = open_embeddings(source, column=column, modality=space.modality), os.fspath(source)
    if final.exists() and opened.path.exists() and final.samefile(opened.path):
        raise InputError(
            f"{final} is the source itself. Name another target: the plain embeddings are what everything is made from."
        )
    check_compatible(opened, space)
    report = AdaptReport(
        name,
        os.fspath(target),
        opened.layout,
        opened.rows,
        opened.width,
        space.n_components_,
        space.describe(),
    )
    bring_columns(opened, final)
    report.dropped_columns = lost_columns(final, opened)
    written = np.dtype(dtype or (np.float16 if opened.dtype == np.float16 else np.float32))
    made_by = opened.table.metadata_at(final) if isinstance(opened, TableSource) else None
    job = Job(opened, space.n_components_, written, _record(opened, report, written.name), made_by)
    write_target(final, _mapped(opened, space, job, rows_per_block, skip_bad, report, progress), job)
    report.seconds = time.monotonic() - started
    return report


def adapt_column(
    table_path: str | os.PathLike[str], name: str, space: Space, *, progress: Progress | None = None
) -> AdaptReport:
    """Add the adapted vectors to an embedding table as a derived column, or build it again.

    Parameters
    ----------
    table_path : path-like
    name : str
        Of the column. It is dropped when an embedding run adds rows to the table.
    space : Space
    progress : callable, optional

    Raises
    ------
    InputError, ModalityError, FingerprintMismatchError, TableError
    """
    started = time.monotonic()
    with Journal(Path(table_path)):
        source = open_embeddings(table_path)
        table = EmbeddingTable.open(table_path)
        check_is_plain(table)
        check_compatible(source, space)
        done = 0

        def adapted(inputs: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
            nonlocal done
            for _, mapped in overlapped(_numbered(inputs), BlockMapper(space, np.dtype(np.float16))):
                done += len(mapped.vectors)
                if progress is not None:
                    progress(done, source.rows)
                yield mapped.vectors

        table.add_column(name, adapted, space.n_components_, space.describe())
        table.tidy()
    where = f"{os.fspath(table_path)} ({name})"
    report = AdaptReport(
        os.fspath(table_path), where, source.layout, source.rows, source.width, space.n_components_, space.describe()
    )
    report.seconds = time.monotonic() - started
    return report


def _record(source: Source, report: AdaptReport, dtype: str) -> dict[str, Any]:
    from isomix import __version__

    return {
        "isomix_version": __version__,
        "space": report.space,
        "rows": source.rows,
        "width": report.width,
        "dtype": dtype,
        "source": {
            "name": source.path.name,
            "layout": source.layout,
            "width": source.width,
            "dtype": source.dtype.name,
        },
        "skipped_rows": report.skipped_rows,
    }


def _mapped(
    source: Source,
    space: Space,
    job: Job,
    rows_per_block: int,
    skip_bad: bool,
    report: AdaptReport,
    progress: Progress | None,
) -> Pairs:
    done = 0
    mapper = BlockMapper(space, job.dtype, skip_bad)
    for block, mapped in overlapped(check_all_read(source, source.blocks(rows_per_block)), mapper):
        report.skipped_rows += mapped.skipped
        yield block, mapped.vectors
        done += len(mapped.vectors)
        if progress is not None:
            progress(done, source.rows)


def _numbered(arrays: Iterable[NDArray[Any]]) -> Iterator[Block]:
    start = 0
    for array in arrays:
        yield Block("0", start, array)
        start += len(array)
