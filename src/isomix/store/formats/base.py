"""What all layouts share: blocks of rows, the record beside the vectors, the natural order of parts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._files import writing
from isomix.errors import FileFormatError, IsomixError, IsomixWarning

if TYPE_CHECKING:
    from isomix.store.schema import TableMetadata

__all__ = [
    "HALVES",
    "RECORD_NAME",
    "SAMPLE_ROWS",
    "Block",
    "Job",
    "Pairs",
    "Source",
    "check_floats",
    "content_mark",
    "first_rows",
    "natural_key",
    "read_record",
    "reading",
    "write_record",
]

RECORD_NAME = "isomix.json"
MARKED_BYTES = 1 << 16
HALVES = {"img_emb": "image", "text_emb": "text"}
"""Folders of a clip-retrieval folder, and whose embeddings they hold."""
SAMPLE_ROWS = 20_000


class Block(NamedTuple):
    """Consecutive rows of a source; never across two of its files.

    Attributes
    ----------
    part : str
        Which file, as the layout numbers or names them.
    start : int
        First row, counted over the whole source.
    vectors : ndarray, shape (n, d)
        float16, float32 or float64. May be a memory map that is read when it is used.
    columns : pyarrow.RecordBatch or None
        The other columns.
    """

    part: str
    start: int
    vectors: NDArray[Any]
    columns: Any = None


Pairs = Iterator[tuple[Block, NDArray[Any]]]
"""Blocks of a source with the vectors that take the place of theirs, in order."""


class Source(ABC):
    """Stored embeddings that can be read once from start to end, with bounded memory.

    Attributes
    ----------
    layout : str
        Name, for messages and ``inspect``.
    path : pathlib.Path
    rows, width : int
    dtype : numpy.dtype
    column : str
        What the vectors are called, where the layout names them.
    other_fields : list of pyarrow.Field
        Columns that the blocks bring along.
    other_arrays : list of str
        What else the file or folder holds, which only a target of the same layout can take over.
    modality : {"image", "text"} or None
        Whose embeddings these are, where the layout says so.
    record : dict
        What isomix wrote beside or into it; empty for anything else.
    """

    layout: str
    path: Path
    rows: int
    width: int
    dtype: np.dtype[Any]
    column: str = "embedding"
    other_fields: Sequence[Any] = ()
    other_arrays: Sequence[str] = ()
    modality: str | None = None
    record: Mapping[str, Any]
    _beside: Any = None

    @property
    def other_columns(self) -> list[str]:
        """Names of the columns that the blocks bring along."""
        return [field.name for field in self.other_fields]

    def bring(self, beside: Any) -> None:
        """Let the blocks bring the columns of a :class:`~isomix.store.formats.rows_file.RowsFile`, too."""
        self._beside, self.other_fields = beside, beside.fields

    def bring_lists(self) -> None:  # noqa: B027 - most layouts have none
        """Let the blocks bring arrays with one value a row as columns, where the file holds such arrays."""

    def blocks(self, rows: int) -> Iterator[Block]:
        """All rows, in blocks of at most ``rows``."""
        found = self._blocks(rows)
        return found if self._beside is None else self._beside.attach(found)

    @abstractmethod
    def _blocks(self, rows: int) -> Iterator[Block]:
        """The same, without what stands beside."""

    def sample(self, rows: int = SAMPLE_ROWS) -> NDArray[np.float32]:
        """The first ``rows`` rows that have a direction, as float32 of shape (n, width): what a band is judged by."""
        return first_rows((block.vectors for block in self.blocks(4096)), rows, self.width)


def first_rows(blocks: Iterable[NDArray[Any]], rows: int, width: int) -> NDArray[np.float32]:
    """The first ``rows`` rows of blocks that have a direction, as float32 of shape (n, width); later blocks are not read."""
    found = [np.zeros((0, width), np.float32)]
    for block in blocks:
        vectors = np.asarray(block, np.float32)
        found.append(vectors[np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)])
        if sum(map(len, found)) >= rows:
            break
    return np.concatenate(found)[:rows]


@dataclass(frozen=True)
class Job:
    """What a writer has to know before the first row.

    Attributes
    ----------
    source : Source
    width : int
        Of the new vectors.
    dtype : numpy.dtype
        float16 or float32.
    record : dict
        To be kept with the result.
    table : TableMetadata or None
        Of a table as target: what made the plain embeddings.
    """

    source: Source
    width: int
    dtype: np.dtype[Any]
    record: Mapping[str, Any]
    table: TableMetadata | None = None

    @property
    def modality(self) -> str:
        """Whose embeddings these are: as the space says, else the source."""
        space = self.record.get("space") or {}
        return str(space.get("modality") or self.source.modality or "image")


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises about a damaged file into one error of ours.

    Raises
    ------
    FileFormatError
    """
    try:
        yield
    except IsomixError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
        raise FileFormatError(
            f"{path} is not {what} that can be read ({reason}). Was it cut short or changed?"
        ) from error


def check_floats(path: Path, shape: Sequence[int], dtype: np.dtype[Any], name: str = "") -> tuple[int, int]:
    """Return (rows, width) of an array that can hold embeddings.

    Raises
    ------
    FileFormatError
    """
    what = f"{path} ({name})" if name else f"{path}"
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise FileFormatError(
            f"{what} holds {dtype}, expected float16, float32 or float64. Undo a quantisation first; pickled objects "
            "are never read."
        )
    if len(shape) != 2 or shape[0] < 0 or shape[1] < 1:
        raise FileFormatError(f"{what} has shape {tuple(shape)}, expected two dimensions (rows, width).")
    return int(shape[0]), int(shape[1])


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which part 2 comes before part 10."""
    pieces = re.split(r"(\d+)", path.name)
    return tuple((1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces)


def _candidates(path: Path) -> list[Path]:
    beside = path / RECORD_NAME if path.is_dir() else path.with_name(f"{path.name}.{RECORD_NAME}")
    above = [path.parent / RECORD_NAME]
    if path.parent.name in HALVES:
        above.append(path.parent.parent / RECORD_NAME)
    return [beside, *above]


def _part(record: Any, name: str) -> dict[str, Any]:
    part = record.get(name) if isinstance(record, dict) else None
    return part if isinstance(part, dict) else {}


def read_record(path: Path, width: int) -> dict[str, Any]:
    """What isomix recorded about the vectors at ``path``, or about the folder they belong to; empty without a record.

    A record about other vectors is left aside, with a warning: the file was replaced by hand. One about the
    other half of a clip-retrieval folder says nothing about this one.
    """
    half = next((HALVES[place.name] for place in (path, path.parent) if place.name in HALVES), None)
    for candidate in _candidates(path):
        if not candidate.is_file():
            continue
        try:
            record = json.loads(candidate.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FileFormatError(f"{candidate} cannot be read ({error}). Restore it, or remove it.") from error
        # A process that was killed may have left a record that knows of the new file and of the one before.
        known = [found for found in (record, _part(record, "before")) if isinstance(found, dict)]
        if half is not None and any(_part(found, "space").get("modality", half) != half for found in known):
            continue
        for found in known:
            if found.get("width") == width and ("file" not in found or found["file"] == content_mark(path)):
                return {name: value for name, value in found.items() if name not in ("file", "before")}
        warnings.warn(
            f"{candidate} describes other vectors than those in {path.name} and is left aside.",
            IsomixWarning,
            stacklevel=2,
        )
    return {}


def content_mark(path: Path) -> str:
    """What ties a record to the file beside it: a hash of its size, beginning and end."""
    digest = hashlib.blake2b(str(path.stat().st_size).encode(), digest_size=16)
    with path.open("rb") as stream:
        digest.update(stream.read(MARKED_BYTES))
        stream.seek(-min(MARKED_BYTES, stream.tell()), os.SEEK_END)
        digest.update(stream.read())
    return digest.hexdigest()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
