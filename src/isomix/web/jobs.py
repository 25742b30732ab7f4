"""Work that takes longer than a request: started once by its key, looked at until it is done."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

__all__ = ["Jobs", "Working"]

MOST = 24
"""Results that are kept, and work that waits; of more, the oldest is dropped."""


class Working(Exception):  # noqa: N818 - not an error: the answer is on its way
    """The result is not there yet; ``what`` says what is being done."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Jobs:
    """A queue with few workers, so that long work leaves something to the pages."""

    def __init__(self, workers: int = 1) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="isomix-studio")
        self._futures: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, key: Hashable, function: Callable[[], Any]) -> Future[Any]:
        """Start it, unless it was started before."""
        with self._lock:
            if key not in self._futures:
                self._futures[key] = self._pool.submit(function)
                while len(self._futures) > MOST:
                    _, oldest = self._futures.popitem(last=False)
                    oldest.cancel()
            self._futures.move_to_end(key)
            return self._futures[key]

    def result(self, key: Hashable, function: Callable[[], Any], what: str, *, wait: float = 0.05) -> Any:
        """What it returned, or raised; :class:`Working` if it takes longer than ``wait`` seconds."""
        future = self.start(key, function)
        try:
            return future.result(timeout=wait)
        except TimeoutError:
            if future.done():  # the work itself ran into a time limit
                raise
            raise Working(what) from None
        except CancelledError:  # newer work took its place; whoever asks again starts it again
            raise Working(what) from None

    def forget(self) -> None:
        """Start everything anew when it is asked for again."""
        with self._lock:
            for future in self._futures.values():
                future.cancel()
            self._futures.clear()

    def close(self) -> None:
        """Drop what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
