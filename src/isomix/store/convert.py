"""Stored embeddings from one layout into another: the same vectors in the same order, with their columns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from isomix._files import check_target
from isomix.errors import InputError
from isomix.store.formats import bring_columns, check_layout, lost_columns, open_embeddings
from isomix.store.formats.base import Job, Pairs, Source
from isomix.store.formats.rows_file import rows_file_path
from isomix.store.formats.tables import TableSource
from isomix.store.schema import TableMetadata, relative_root
from isomix.store.targets import check_all_read, write_target

__all__ = ["ConvertReport", "convert"]

ROWS_PER_BLOCK = 4096
FLOAT32_ONLY = (".faiss", ".index", ".fvecs")
Progress = Callable[[int, int], None]


@dataclass
class ConvertReport:
    """What was converted.

    Attributes
    ----------
    source, target : str
    layout : str
        Of the source.
    rows, width : int
    dtype : str
        Of the target.
    columns : list of str
        Those that went along.
    beside : str
        File of the columns, where the target holds none; else empty.
    lost : list of str
        Columns and arrays of the source that the target's layout cannot hold.
    seconds : float
    """

    source: str
    target: str
    layout: str
    rows: int
    width: int
    dtype: str
    columns: list[str] = field(default_factory=list)
    beside: str = ""
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    column: str | None = None,
    modality: str = "image",
    dtype: str | None = None,
    model: str | None = None,
    root: str | os.PathLike[str] | None = None,
    offline: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ConvertReport:
    """Write stored embeddings in another layout; vectors, order, columns and what made them stay.

    Columns go into the target, or, where it is one array, into a file of parquet beside it that isomix reads again with
    it. Memory does not depend on the number of rows, except for faiss, which holds an index whole, and a table, which
    remembers the ids that it has seen (some 100 bytes a row). The target appears only when it is complete.

    Parameters
    ----------
    source : path-like
        See :func:`isomix.store.formats.open_embeddings`.
    target : path-like
        Its ending names the layout; without one it is a folder (of the source's layout if that is one, else of
        clip-retrieval's).
    column : str, optional
        Where the vectors are, in layouts that name them.
    modality : {"image", "text"}
        Which half of a clip-retrieval folder.
    dtype : {"float16", "float32"}, optional
        Of the target. Default: the source's; float64 becomes float32 only when it is asked for.
    model : str, optional
        For a table as target, which model made the vectors. Default: what the source says, which it does if it was
        converted from a table.
    root : path-like, optional
        For a table as target, the folder that relative paths start from. Default: as the source says, else its folder.
    offline : bool
        Never open a connection for the model's projectors.
    overwrite : bool
        Replace a target that exists.
    progress : callable, optional
        Called with (rows done, rows).

    Returns
    -------
    ConvertReport

    Raises
    ------
    InputError
        A target that exists or cannot be, a dtype that the target cannot hold, a table without model or paths.
    FileFormatError
        The source is damaged, or was changed while it was read.
    """
    started = time.monotonic()
    final = check_target(target, overwrite=overwrite)
    check_layout(final)
    opened = open_embeddings(source, column=column, modality=modality)
    if final.exists() and final.samefile(opened.path):
        raise InputError(f"{final} is the source itself. Name another target.")
    bring_columns(opened, final)
    kind = _dtype(opened, final, dtype)
    lost = lost_columns(final, opened)
    said = _said(opened, final)
    made_by = _made_by(opened, said, final, model, root, offline) if final.suffix == ".lance" else None
    record = _record(opened, said, kind)
    kept = [name for name in opened.other_columns if name not in lost]
    report = ConvertReport(
        os.fspath(source), os.fspath(target), opened.layout, opened.rows, opened.width, kind.name, kept, lost=lost
    )
    write_target(final, _blocks(opened, kind, progress), Job(opened, opened.width, kind, record, made_by))
    _check_written(final, opened)
    if rows_file_path(final).exists():
        report.beside = rows_file_path(final).name
    report.seconds = time.monotonic() - started
    return report


def _dtype(source: Source, final: Path, asked: str | None) -> np.dtype[Any]:
    if asked not in (None, "float16", "float32"):
        raise InputError(f"dtype: got {asked!r}, expected 'float16', 'float32' or nothing for the source's.")
    kind = np.dtype(asked or source.dtype.newbyteorder("="))
    if kind == np.float64:
        raise InputError(
            f"{source.path} holds float64, which no target keeps. Allow the rounding with --dtype float32 (or float16)."
        )
    if final.suffix in FLOAT32_ONLY and kind != np.float32:
        kind = np.dtype(np.float32)  # float16 numbers are float32 numbers
    return kind


def _made_by(
    source: Source,
    found: TableMetadata | None,
    final: Path,
    model: str | None,
    root: str | os.PathLike[str] | None,
    offline: bool,
) -> TableMetadata:
    """What a table says about the model: what the source says, or from the model's projectors."""
    from isomix import __version__
    from isomix.projectors import Projectors

    place = None if root is None else Path(root).resolve()
    if found is not None:
        if model is not None and model != found.model:
            raise InputError(
                f"{source.path} says that {found.model!r} made its vectors; leave --model out, or check it."
            )
        return found if place is None else replace(found, root=relative_root(place, final))
    if model is None:
        raise InputError(
            f"{final}: a table says which model made its vectors, and {source.path} does not. Name it (--model)."
        )
    projectors = Projectors.from_pretrained(model, offline=offline)
    if source.width != projectors.embedding_dim:
        raise InputError(
            f"{source.path} holds vectors of width {source.width}, and those of {model} have {projectors.embedding_dim}. "
            "Name the model that made them."
        )
    folder = source.path.resolve().parent if place is None else place
    return TableMetadata(
        model=model,
        fingerprint="",
        projectors=projectors.fingerprint,
        preprocessing={},
        embedding_dim=source.width,
        root=relative_root(folder, final),
        isomix_version=__version__,
    )


def _said(source: Source, final: Path) -> TableMetadata | None:
    """What the source says of the model, as a table at ``final`` would; None where it says nothing."""
    if isinstance(source, TableSource):
        return source.table.metadata_at(final)
    values = source.record.get("table")
    if not values:
        return None
    made = TableMetadata.from_values(values, os.fspath(source.path))
    return replace(made, root=relative_root((source.path.resolve().parent / made.root).resolve(), final))


def _record(source: Source, made: TableMetadata | None, dtype: np.dtype[Any]) -> dict[str, Any]:
    """What the target says about itself: the source's own words, and where it came from."""
    from isomix import __version__

    about = {} if made is None else {"table": asdict(replace(made, space=None, derived={}, feature_dim=None))}
    return {
        **{name: value for name, value in source.record.items() if name in ("space", "skipped_rows")},
        **about,
        "isomix_version": __version__,
        "rows": source.rows,
        "width": source.width,
        "dtype": dtype.name,
        "source": {
            "name": source.path.name,
            "layout": source.layout,
            "width": source.width,
            "dtype": source.dtype.name,
        },
    }


def _blocks(source: Source, dtype: np.dtype[Any], progress: Progress | None) -> Pairs:
    done = 0
    for block in check_all_read(source, source.blocks(ROWS_PER_BLOCK)):
        yield block, _cast(block.vectors, dtype, block.start, source.path)
        done += len(block.vectors)
        if progress is not None:
            progress(done, source.rows)


def _cast(vectors: Any, dtype: np.dtype[Any], start: int, path: Path) -> Any:
    if vectors.dtype == dtype:
        return vectors
    with np.errstate(over="ignore"):
        found = vectors.astype(dtype)
    over = np.isinf(found).any(axis=1) & ~np.isinf(vectors).any(axis=1)
    if over.any():
        raise InputError(
            f"{path}: row {start + int(over.argmax())} has numbers too large for {dtype.name}. Use --dtype float32."
        )
    return found


def _check_written(final: Path, source: Source) -> None:
    written = open_embeddings(final, modality=source.modality or "image")
    if (written.rows, written.width) != (source.rows, source.width):
        raise InputError(
            f"{final} has {written.rows} rows of width {written.width} and {source.path} {source.rows} of {source.width}: "
            "another process has written it. Convert again."
        )
