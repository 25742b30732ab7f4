"""Work on blocks in threads, in order and with few of them under way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["overlapped"]

T = TypeVar("T")
R = TypeVar("R")


def overlapped(items: Iterable[T], function: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Apply ``function`` in one thread a core, and yield in order; the caller reads and writes meanwhile.

    The linear algebra library gets one thread in each, so that conversions and products of different blocks overlap.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="isomix-adapt")
    try:
        with threadpool_limits(1):
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > 2 * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
