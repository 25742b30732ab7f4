"""Batches through an encoder: pictures are decoded in threads while the calling thread encodes.

Memory is bounded by the number of pictures under way, not by how many there are: at most ``workers`` decoded pictures,
within the budget of :mod:`isomix.encoders.decoding`, and three batches of pixels exist at a time. Order is kept, and a picture that cannot be read becomes a reason in its
own row.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import check_integer
from isomix._extras import require
from isomix.encoders.base import Array, Encoder
from isomix.encoders.decoding import memory
from isomix.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Batch", "default_workers", "iter_encoded", "progress_bar"]


@dataclass(frozen=True)
class Batch:
    """Consecutive inputs of one run through an encoder.

    Attributes
    ----------
    start : int
        Position of the first row among all inputs.
    features : ndarray of float32, shape (n, d_image)
        Pre-projection features; NaN rows where ``ok`` is false.
    embeddings : ndarray of float32, shape (n, d)
        Unit rows; NaN rows where ``ok`` is false.
    ok : ndarray of bool, shape (n,)
    errors : dict of int to str
        Row within the batch → why the picture could not be read.
    sizes : list of (width, height) or None
        Of each picture as it is looked at, EXIF rotation applied; None where it could not be read.
    """

    start: int
    features: Array
    embeddings: Array
    ok: NDArray[np.bool_]
    errors: dict[int, str]
    sizes: list[tuple[int, int] | None]

    def __len__(self) -> int:
        return len(self.ok)


class _Decoded(NamedTuple):
    pixels: Array | None
    size: tuple[int, int] | None
    reason: str = ""


def default_workers() -> int:
    """Decoding threads when nothing is said: the cores this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores)


def iter_encoded(
    encoder: Encoder,
    loaders: Iterable[Callable[[], Image]],
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Load, preprocess and encode pictures, batch by batch and in order.

    Parameters
    ----------
    encoder : Encoder
    loaders : iterable of callable
        Each returns one RGB picture, and is called once, in a thread. It raises :class:`~isomix.errors.ImageError` or
        ``OSError`` to mark its picture as unreadable; any other exception ends the run. The iterable is read only as
        far as needed.
    batch_size : int
    workers : int, optional
        Decoding threads. Default: :func:`default_workers`.

    Yields
    ------
    Batch
        Of ``batch_size`` rows, the last one of fewer. Leaving the loop early, or Ctrl-C, drops whatever is not decoded
        yet.
    """
    batch_size = check_integer(batch_size, "batch_size", minimum=1)
    workers = default_workers() if workers is None else check_integer(workers, "workers", minimum=1)
    return _iter_encoded(encoder, iter(loaders), batch_size, workers)


def _iter_encoded(
    encoder: Encoder, loaders: Iterator[Callable[[], Image]], batch_size: int, workers: int
) -> Iterator[Batch]:
    pending: deque[Future[_Decoded]] = deque()
    ahead = batch_size + max(batch_size, workers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="isomix-decode")

    def refill() -> None:
        for loader in islice(loaders, ahead - len(pending)):
            pending.append(pool.submit(_decode, encoder, loader))

    start = 0
    try:
        refill()
        while pending:
            decoded: list[_Decoded] = []
            while pending and len(decoded) < batch_size:
                decoded.append(pending.popleft().result())
                refill()
            yield _encode(encoder, start, decoded)
            start += len(decoded)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _decode(encoder: Encoder, loader: Callable[[], Image]) -> _Decoded:
    with memory.held():  # until the picture has become pixels and is gone
        try:
            image = loader()
        except ImageError as error:
            return _Decoded(None, None, str(error))
        except OSError as error:
            return _Decoded(None, None, error.strerror or str(error))
        return _Decoded(encoder.preprocess(image), image.size)


def _encode(encoder: Encoder, start: int, decoded: Sequence[_Decoded]) -> Batch:
    ok = np.array([item.pixels is not None for item in decoded], np.bool_)
    features = np.full((len(decoded), encoder.image_feature_dim), np.nan, np.float32)
    embeddings = np.full((len(decoded), encoder.embedding_dim), np.nan, np.float32)
    pixels = [item.pixels for item in decoded if item.pixels is not None]
    if pixels:
        features[ok] = encoder.forward_pixels(np.stack(pixels))
        embeddings[ok] = encoder.project_image(features[ok])
    errors = {row: item.reason for row, item in enumerate(decoded) if item.pixels is None}
    return Batch(start, features, embeddings, ok, errors, [item.size for item in decoded])


@contextmanager
def progress_bar(what: str, total: int, show: bool | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, or nothing.

    Parameters
    ----------
    what : str
        What is counted, in the plural.
    total : int
    show : bool or None
        None: only on a terminal.

    Yields
    ------
    callable
        Advances the bar by a count.

    Raises
    ------
    MissingExtraError
        A bar is wanted, and ``rich`` is not installed.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda count: None
        return
    console = require("rich.console", "app", "A progress bar").Console(stderr=True)
    columns = require("rich.progress", "app", "A progress bar")
    bar = columns.Progress(
        columns.TextColumn("{task.description}"),
        columns.BarColumn(),
        columns.MofNCompleteColumn(),
        columns.TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
