"""Layouts of stored embeddings: found by what is at a path, read and written block by block.

Readable: ``.npy``, a folder of ``.npy``, a clip-retrieval folder, ``.parquet`` or a folder of it, ``.npz``,
``.safetensors``, ``.fvecs``, a faiss index that is flat (also under ids or an HNSW graph), an embedding table of isomix, and
Lance tables of others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from isomix.errors import InputError, MissingExtraError
from isomix.store.formats import arrays, folders
from isomix.store.formats.base import Block, Job, Pairs, Source
from isomix.store.formats.faiss_index import FaissSource, write_faiss
from isomix.store.formats.lance_tables import LanceTableSource, is_of_others
from isomix.store.formats.parquet import ParquetSource, write_parquet, write_parquet_folder
from isomix.store.formats.rows_file import find_rows_file, with_rows_file
from isomix.store.formats.tables import TableSource, table_columns, write_table

__all__ = [
    "SUPPORTED",
    "Block",
    "Job",
    "Source",
    "bring_columns",
    "check_layout",
    "lost_columns",
    "names_a_layout",
    "open_embeddings",
    "write_embeddings",
]

SUPPORTED = (
    ".npy, a folder of .npy files, a clip-retrieval folder (img_emb/, metadata/), .parquet or a folder of it, .npz, "
    ".safetensors, .fvecs, a flat or HNSW faiss index, also with ids (.index, .faiss), a Lance table (.lance)"
)
_FILES: dict[str, Callable[[Path, str | None], Source]] = {
    ".npy": arrays.open_npy,
    ".npz": arrays.NpzSource,
    ".safetensors": arrays.open_safetensors,
    ".fvecs": arrays.open_fvecs,
    ".parquet": ParquetSource,
    ".index": lambda path, column: FaissSource(path),
    ".faiss": lambda path, column: FaissSource(path),
}
_WRITERS: dict[str, Callable[[Path, Pairs, Job], None]] = {
    ".npy": arrays.write_npy,
    ".npz": arrays.write_npz,
    ".safetensors": arrays.write_safetensors,
    ".fvecs": arrays.write_fvecs,
    ".parquet": write_parquet,
    ".index": write_faiss,
    ".faiss": write_faiss,
}


def open_embeddings(path: str | os.PathLike[str], *, column: str | None = None, modality: str = "image") -> Source:
    """Find out the layout of what is at ``path``, and open it.

    Parameters
    ----------
    path : path-like
    column : str, optional
        Column or array that holds the vectors, in layouts that name them. Default: the only one that can.
    modality : {"image", "text"}
        Which half of a clip-retrieval folder.

    Raises
    ------
    InputError
        Nothing is there, or no layout of :data:`SUPPORTED`.
    FileFormatError
        The file is not what its name says.
    """
    target = Path(path)
    if not target.exists():
        raise InputError(f"{target} does not exist.")
    if target.is_dir():
        return _open_folder(target, column, modality)
    if target.suffix not in _FILES:
        raise InputError(f"{target}: no known layout of embeddings. Expected one of: {SUPPORTED}.")
    source = _FILES[target.suffix](target, column)
    beside = find_rows_file(target, source.rows)
    if beside is not None:
        source.bring(beside)
    return source


def _open_folder(folder: Path, column: str | None, modality: str) -> Source:
    if folder.suffix == ".lance":
        if is_of_others(folder):
            return LanceTableSource(folder, column)
        return TableSource(folder, column)
    if folders.is_clip_retrieval(folder):
        return folders.ClipRetrievalSource(folder, modality)
    if any(folder.glob("*.npy")):
        return folders.NpyFolderSource(folder)
    if any(folder.glob("*.parquet")):
        return ParquetSource(folder, column)
    raise InputError(f"{folder}: no known layout of embeddings in this folder. Expected one of: {SUPPORTED}.")


def names_a_layout(target: Path) -> bool:
    """Whether the ending of a name is that of a file or table."""
    return target.suffix in (*_WRITERS, ".lance")


def check_layout(target: Path) -> None:
    """Raise :class:`InputError` when no layout goes by the ending of a target's name."""
    if target.suffix and not names_a_layout(target):
        raise InputError(f"{target}: no known layout ends in {target.suffix!r}. Expected one of: {SUPPORTED}.")


def bring_columns(source: Source, target: Path) -> None:
    """Let the blocks of a source bring all columns there are; what is an array in a file stays one in such a file."""
    if not source.other_fields and target.suffix != f".{source.layout}":
        with suppress(MissingExtraError):  # then they are among the lost columns
            source.bring_lists()


def lost_columns(target: Path, source: Source) -> list[str]:
    """Columns and arrays of a source that the target does not get.

    All layouts keep columns, inside or beside the vectors, but tables, which have their own; what is no column goes to a
    target of the same layout only.
    """
    if target.suffix == ".lance":
        kept = {"id" if "path" in source.other_columns else "", *table_columns(source.other_columns).values()}
        return [name for name in dict.fromkeys([*source.other_columns, *source.other_arrays]) if name not in kept]
    if source.layout == (target.suffix.removeprefix(".") or "clip-retrieval"):
        return []
    return [name for name in source.other_arrays if name not in source.other_columns]


def _beside(source: Source, final: Path) -> bool:
    """Whether columns of a source stand beside a target that holds none; a faiss index holds the ids of another one."""
    inside = (
        ["id"] if isinstance(source, FaissSource) and source.has_ids and _WRITERS[final.suffix] is write_faiss else []
    )
    return source.other_columns not in ([], inside)


def write_embeddings(path: Path, final: Path, pairs: Pairs, job: Job) -> None:
    """Write vectors at ``path``, in the layout that the name ``final`` asks for.

    A name without an ending is a folder: of the source's layout if that is a folder, else of clip-retrieval's. Columns
    of a source go beside a file that holds none (:mod:`isomix.store.formats.rows_file`).
    """
    if final.suffix == ".lance":
        write_table(path, final, pairs, job)
    elif final.suffix == ".parquet" or (final.suffix and not _beside(job.source, final)):
        _WRITERS[final.suffix](path, pairs, job)
    elif final.suffix:
        with with_rows_file(final, path, pairs, list(job.source.other_fields)) as passing:
            _WRITERS[final.suffix](path, passing, job)
    elif job.source.layout == "npy folder":
        folders.write_npy_folder(path, pairs, job)
    elif job.source.layout == "parquet folder":
        write_parquet_folder(path, pairs, job)
    else:
        folders.write_clip_retrieval(path, pairs, job)
