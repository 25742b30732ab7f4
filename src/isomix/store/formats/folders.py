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
from isomix.store.formats.rows_file import RowsFile

__all__ = ["ClipRetrievalSource", "NpyFolderSource", "is_clip_retrieval", "write_clip_retrieval", "write_npy_folder"]

FOLDERS = {modality: name for name, modality in HALVES.items()}
METADATA = "metadata"


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

    def _blocks(self, rows: int) -> Iterator[Block]:
        """Slices of one file after the other."""
        start = 0
        for part in self._parts:
            for block in self._part_blocks(part, rows):
                yield Block(self.part_name(part.path), start + block.start, block.vectors, block.columns)
            start += part.rows

    def _part_blocks(self, part: Source, rows: int) -> Iterator[Block]:
        return part.blocks(rows)

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
        self.metadata_files: dict[Path, Path] = {}
        schemas = [self._metadata_schema(part) for part in self._parts]
        if len(self.metadata_files) == len(self._parts) and all(schema.equals(schemas[0]) for schema in schemas):
            self.other_fields = list(schemas[0])
        elif self.metadata_files:
            self.other_arrays.append(METADATA)

    def _metadata_schema(self, part: Source) -> Any:
        file = self.path / METADATA / f"{METADATA}_{self.part_name(part.path)}.parquet"
        if not file.is_file():
            return None
        self.metadata_files[part.path] = file
        pq = require("pyarrow.parquet", "app", "Parquet")
        with reading(file, "parquet"), pq.ParquetFile(file, pre_buffer=False) as opened:
            rows, schema = opened.metadata.num_rows, opened.schema_arrow.remove_metadata()
        if rows != part.rows:
            raise FileFormatError(
                f"{file} has {rows} rows, and {part.path} has {part.rows}: they are not aligned. Encode that part again."
            )
        return schema

    def _part_blocks(self, part: Source, rows: int) -> Iterator[Block]:
        found = part.blocks(rows)
        if not self.other_fields:
            return found
        return RowsFile(self.metadata_files[part.path], list(self.other_fields)).attach(found)

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
    path.mkdir()
    folder, metadata = path / FOLDERS[job.modality], path / METADATA
    folder.mkdir()
    if isinstance(job.source, ClipRetrievalSource):
        for name in {*job.source.other_arrays, METADATA}:
            if (job.source.path / name).is_dir():
                shutil.copytree(job.source.path / name, path / name)
    elif job.source.other_columns:
        metadata.mkdir()
        pairs = _with_metadata(metadata, pairs)
    _write_parts(folder, f"{folder.name}_{{}}.npy", pairs, job)


def _write_parts(folder: Path, pattern: str, pairs: Pairs, job: Job) -> None:
    for part, group in groupby(pairs, key=lambda pair: pair[0].part):
        write_npy(folder / pattern.format(part), group, job)


def _with_metadata(folder: Path, pairs: Pairs) -> Pairs:
    pq = require("pyarrow.parquet", "app", "Parquet")
    for part, group in groupby(pairs, key=lambda pair: pair[0].part):
        writer: Any = None
        try:
            for block, vectors in group:
                names = ["image_path" if name == "path" else name for name in block.columns.schema.names]
                batch = block.columns.rename_columns(names)
                if writer is None:
                    writer = pq.ParquetWriter(folder / f"{METADATA}_{part}.parquet", batch.schema)
                writer.write_batch(batch)
                yield block, vectors
        finally:
            if writer is not None:
                writer.close()
