"""Files of a plan to rows and failures, wherever that is done: what an engine of :func:`isomix.store.embed` gives back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from isomix.errors import ImageError
from isomix.store.ledger import Failure
from isomix.store.plan import content_hash
from isomix.store.scan import SourceFile
from isomix.store.schema import ANNOTATIONS
from isomix.store.table import EmbeddingTable
from isomix.store.thumbnails import Thumbnails, make_thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

    from isomix.encoders.base import Encoder
    from isomix.encoders.batching import Batch

__all__ = ["Encoded", "Engine", "Part", "Progress", "Work", "encode_files", "encode_here", "joined"]

CHUNK_BATCHES = 8
"""Whole batches a commit: what a killed run has to do again at most."""

Progress = Callable[[int, int, int], None]
"""Called with (done, total, failed)."""


class Work(NamedTuple):
    """How the files of a plan are encoded.

    Attributes
    ----------
    batch_size : int
    workers : int or None
        Decoding threads.
    max_megapixels : float
    thumbnails : bool
        Make small copies of the pictures, beside the table.
    progress : callable or None
    """

    batch_size: int
    workers: int | None
    max_megapixels: float
    thumbnails: bool
    progress: Progress | None


@dataclass(frozen=True)
class Part:
    """Consecutive files of a plan, encoded: what goes into the table and its ledger in one commit.

    Attributes
    ----------
    files : sequence of SourceFile
    ids : list of str
        Of the rows, in order; a file has either a row or a failure.
    failures : list of Failure
    append : callable
        Adds the rows to the table.
    """

    files: Sequence[SourceFile]
    ids: list[str]
    failures: list[Failure]
    append: Callable[[EmbeddingTable], None]


Engine = Callable[[EmbeddingTable, Sequence[SourceFile], "Encoder", Work], Generator[Part, None, None]]
"""Encodes files and yields parts in the order of the files; every part is committed before the next is asked for."""


class Encoded(NamedTuple):
    """What became of consecutive files.

    Attributes
    ----------
    columns : dict
        Of the rows, as :meth:`EmbeddingTable.append` takes them.
    failures : list of Failure
    thumbnails : dict of str to bytes
        By content hash.
    """

    columns: dict[str, Any]
    failures: list[Failure]
    thumbnails: dict[str, bytes]


def encode_here(
    table: EmbeddingTable, files: Sequence[SourceFile], encoder: Encoder, work: Work
) -> Generator[Part, None, None]:
    """Encode in this process: the engine when no other is named."""
    total, small = len(files), Thumbnails(table.path)
    start = done = failed = 0
    waiting: list[Encoded] = []
    if work.progress is not None:
        work.progress(0, total, 0)
    for encoded in encode_files(files, encoder, work, features=table.metadata.feature_dim is not None):
        waiting.append(encoded)
        done += len(encoded.columns["id"]) + len(encoded.failures)
        failed += len(encoded.failures)
        if len(waiting) == CHUNK_BATCHES or done == total:
            chunk = joined(waiting)
            small.put(chunk.thumbnails)
            yield Part(files[start:done], chunk.columns["id"], chunk.failures, partial(_append, chunk.columns))
            start, waiting = done, []
        if work.progress is not None:
            work.progress(done, total, failed)


def _append(columns: dict[str, Any], table: EmbeddingTable) -> None:
    table.append(columns)


def encode_files(
    files: Sequence[SourceFile], encoder: Encoder, work: Work, *, features: bool = False
) -> Iterator[Encoded]:
    """Read, decode and encode files, batch by batch and in order.

    Parameters
    ----------
    files : sequence of SourceFile
    encoder : Encoder
    work : Work
    features : bool
        Keep pre-projection features too.
    """
    from isomix.encoders.batching import iter_encoded

    hashes: dict[int, str] = {}
    small: dict[int, bytes] | None = {} if work.thumbnails else None
    loaders = (partial(_load, i, file, hashes, small, work.max_megapixels) for i, file in enumerate(files))
    for batch in iter_encoded(encoder, loaders, batch_size=work.batch_size, workers=work.workers):
        indices = range(batch.start, batch.start + len(batch))
        digests = [hashes.pop(i, "") for i in indices]
        found = {} if small is None else {digests[i - batch.start]: small.pop(i) for i in indices if i in small}
        yield Encoded(*_rows(files[batch.start : batch.start + len(batch)], digests, batch, features), found)


def _load(
    index: int, file: SourceFile, hashes: dict[int, str], small: dict[int, bytes] | None, max_megapixels: float
) -> Image:
    from isomix.encoders.images import read_file, read_image

    if file.problem:
        raise ImageError(file.problem)
    content = read_file(file.location, max_megapixels=max_megapixels)
    hashes[index] = content_hash(content)
    image = read_image(content, max_megapixels=max_megapixels)
    if small is not None:
        small[index] = make_thumbnail(image)
    return image


def _rows(
    files: Sequence[SourceFile], digests: Sequence[str], batch: Batch, features: bool
) -> tuple[dict[str, Any], list[Failure]]:
    rows: list[tuple[SourceFile, str, tuple[int, int]]] = []
    failures: list[Failure] = []
    finite = np.isfinite(batch.embeddings.sum(axis=1))
    for offset, (file, digest, size) in enumerate(zip(files, digests, batch.sizes, strict=True)):
        if finite[offset] and size is not None:
            rows.append((file, digest, size))
        else:
            reason = batch.errors.get(offset, "the model returned NaN for this picture")
            failures.append(Failure(file.id, file.path, file.size, file.mtime_ns, reason))
    columns: dict[str, Any] = {
        "id": [file.id for file, _, _ in rows],
        "path": [file.path for file, _, _ in rows],
        "size": [file.size for file, _, _ in rows],
        "mtime_ns": [file.mtime_ns for file, _, _ in rows],
        "content_hash": [digest for _, digest, _ in rows],
        "width": [size[0] for _, _, size in rows],
        "height": [size[1] for _, _, size in rows],
        "embedding": batch.embeddings[finite],
        **{name: [file.annotations.get(name) for file, _, _ in rows] for name in ANNOTATIONS},
    }
    if features:
        columns["feature"] = batch.features[finite]
    return columns, failures


def joined(parts: Iterable[Encoded]) -> Encoded:
    """Several, one after another, as one; at least one."""
    columns: dict[str, Any] = {}
    failures: list[Failure] = []
    thumbnails: dict[str, bytes] = {}
    for part in parts:
        for name, values in part.columns.items():
            columns.setdefault(name, []).append(values)
        failures += part.failures
        thumbnails |= part.thumbnails
    return Encoded({name: _end_to_end(values) for name, values in columns.items()}, failures, thumbnails)


def _end_to_end(values: list[Any]) -> Any:
    return np.concatenate(values) if isinstance(values[0], np.ndarray) else [value for each in values for value in each]
