"""Layouts of many .npy files: a plain folder of them, and the folder that clip-retrieval writes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from isomix._extras import require
from isomix.errors import FileFormatError, InputError
from isomix.store.formats.arrays import open_npy, write_npy
from isomix.store.formats.base import HALVES, Block, Job, Pairs, Source, natural_key, read_record, reading

__all__ = ["ClipRetrievalSource", "NpyFolderSource", "is_clip_retrieval", "write_clip_retrieval", "write_npy_folder"]

FOLDERS = {modality: name for name, modality in HALVES.items()}


class NpyFolderSource(Source):
    """The .npy files of a folder, in natural order: part 2 before part 10."""

    layout = "npy folder"

    def __init__(self, path: Path) -> None:
        self.path = path
        files = sorted(path.glob("*.npy"), key=natural_key)
        if not files:
            raise InputError(f"{path} holds no .npy files. Expected at least one.")
        self._parts = [open_npy(file) for file in files]
        first = self._parts[0]
        for part in self._parts:
            if (part.width, part.dtype) != (first.width, first.dtype):
                raise FileFormatError(
                    f"{part.path} has width {part.width} and dtype {part.dtype}, but {first.path} has {first.width} "
                    f"and {first.dtype}. "
                    "Files of one folder must agree."
                )
        self.rows, self.width, self.dtype = sum(part.rows for part in self._parts), first.width, first.dtype
        self.modality = HALVES.get(path.name)
        self.record = read_record(path, self.width)

    def blocks(self, rows: int) -> Iterator[Block]:
        """Slices of one file after the other."""
        start = 0
        for part in self._parts:
            for block in part.blocks(rows):
                yield Block(self.part_name(part.path), start + block.start, block.vectors)
            start += part.rows

    def part_name(self, file: Path) -> str:
        """What the part of a file is called."""
        return file.stem


def is_clip_retrieval(path: Path) -> bool:
    """Whether a folder has the layout of clip-retrieval."""
    return any((path / name).is_dir() for name in FOLDERS.values())


class ClipRetrievalSource(NpyFolderSource):
    """``img_emb/img_emb_0.npy`` …, or ``text_emb/``, with ``metadata/metadata_0.parquet`` … beside them."""

    layout = "clip-retrieval"

    def __init__(self, path: Path, modality: str = "image") -> None:
        if not (path / FOLDERS[modality]).is_dir():
            raise InputError(f"{path} has no folder {FOLDERS[modality]}, so no {modality} embeddings.")
        super().__init__(path / FOLDERS[modality])
        self.path = path
        self.other_arrays = [name for name in HALVES if name != FOLDERS[modality] and (path / name).is_dir()]
        self.metadata_files: dict[str, Path] = {}
        for part in self._parts:
            name = self.part_name(part.path)
            file = path / "metadata" / f"metadata_{name}.parquet"
            if file.is_file():
                self.metadata_files[name] = file
                with reading(file, "parquet"):
                    rows = require("pyarrow.parquet", "app", "Parquet").read_metadata(file).num_rows
                if rows != part.rows:
                    raise FileFormatError(
                        f"{file} has {rows} rows, and {part.path} has {part.rows}: they are not aligned. Encode that "
                        "part again."
                    )

    def part_name(self, file: Path) -> str:
        """The number at the end of the file's name."""
        digits = re.search(r"\d+$", file.stem)
        return digits.group() if digits else file.stem


def write_npy_folder(path: Path, pairs: Pairs, job: Job) -> None:
    """Write a folder of .npy files with the names of the source's."""
    path.mkdir()
    _write_parts(path, "{}.npy", pairs, job)


def write_clip_retrieval(path: Path, pairs: Pairs, job: Job) -> None:
    """Write the clip-retrieval layout: vectors of one modality; the other half and the metadata are copied.

    The other half stays what it is: texts find texts in it as before. Metadata is made from the other columns where the
    source has those.
    """
    modality = job.record["space"]["modality"]
    path.mkdir()
    folder, metadata = path / FOLDERS[modality], path / "metadata"
    folder.mkdir()
    copied = getattr(job.source, "metadata_files", {})
    if copied or job.source.other_columns:
        metadata.mkdir()
    for half in job.source.other_arrays if isinstance(job.source, ClipRetrievalSource) else ():
        shutil.copytree(job.source.path / half, path / half)
    for file in copied.values():
        shutil.copyfile(file, metadata / file.name)
    if job.source.other_columns:
        pairs = _with_metadata(metadata, pairs, job)
    _write_parts(folder, f"{FOLDERS[modality]}_{{}}.npy", pairs, job)


def _write_parts(folder: Path, pattern: str, pairs: Pairs, job: Job) -> None:
    for part, group in groupby(pairs, key=lambda pair: pair[0].part):
        write_npy(folder / pattern.format(part), group, job)


def _with_metadata(folder: Path, pairs: Pairs, job: Job) -> Pairs:
    pq = require("pyarrow.parquet", "app", "Parquet")
    for part, group in groupby(pairs, key=lambda pair: pair[0].part):
        writer: Any = None
        try:
            for block, vectors in group:
                names = ["image_path" if name == "path" else name for name in block.columns.schema.names]
                batch = block.columns.rename_columns(names)
                if writer is None:
                    writer = pq.ParquetWriter(folder / f"metadata_{part}.parquet", batch.schema)
                writer.write_batch(batch)
                yield block, vectors
        finally:
            if writer is not None:
                writer.close()
