"""``fit`` with a pool of unlabelled pictures against ``fit`` without plus one product of the pool with the classes.

Run: ``python benches/bench_pool.py [--pool 100000] [--memory-mapped] [--json]``. The pool is in groups, so that it is trusted and
nothing is left out. ``--memory-mapped`` writes it as float16 into a temporary file first, and reads it from there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from isomix.fewshot import ProjectAndMix

Array = NDArray[np.floating[Any]]
STATUS = Path("/proc/self/status")


class Peak:
    """Largest memory of this process while it is open, less what it had before; pages of mapped files are not counted."""

    def __enter__(self) -> Self:
        self.before = self.largest = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    @property
    def mb(self) -> int:
        return (self.largest - self.before) // 1024

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.largest = max(self.largest, self._now())

    @staticmethod
    def _now() -> int:
        lines = STATUS.read_text(encoding="ascii").splitlines() if STATUS.exists() else []
        return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def rows(y: NDArray[np.intp], centres: Array, rng: np.random.Generator) -> Array:
    """Unit rows around the centres of their classes, at a cosine of about 0.7."""
    noisy = centres[y] + rng.standard_normal((len(y), centres.shape[1]), dtype=np.float32)
    return np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), np.float32)


def pool_of(n: int, centres: Array, rng: np.random.Generator, path: Path | None) -> Array:
    """The pool, in memory or in a file."""
    if path is None:
        return rows(np.arange(n) % len(centres), centres, rng)
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n, centres.shape[1]))
    for first in range(0, n, 8192):
        mapped[first : first + 8192] = rows(np.arange(first, min(first + 8192, n)) % len(centres), centres, rng)
    mapped.flush()
    del mapped
    return np.asanyarray(np.load(path, mmap_mode="r"))


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def product(pool: Array, classes: Array, block: int = 8192) -> None:
    """The pool with the classes, and nothing done with it."""
    for first in range(0, len(pool), block):
        pool[first : first + block].astype(np.float32, copy=False) @ classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--memory-mapped", action="store_true")
    parser.add_argument(
        "--cpu-time", action="store_true", help="the process's own time, for a machine that others use too"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((arguments.classes, arguments.width), dtype=np.float32)
    text = rows(np.arange(arguments.classes), centres, rng)
    y = np.repeat(np.arange(arguments.classes), arguments.shots)
    X = rows(y, centres, rng)
    with tempfile.TemporaryDirectory() as folder:
        pool = pool_of(arguments.pool, centres, rng, Path(folder) / "pool.npy" if arguments.memory_mapped else None)
        classifier = ProjectAndMix().fit(X, y, text)  # warm
        without = seconds(lambda: ProjectAndMix().fit(X, y, text), clock)
        once = seconds(lambda: product(pool, np.ascontiguousarray(text.T)), clock)
        with Peak() as peak:
            taken = seconds(lambda: classifier.fit(X, y, text, unlabelled=pool), clock)
    found = classifier.pool_
    result = {
        "pool": [arguments.pool, arguments.width, str(pool.dtype)],
        "classes": arguments.classes,
        "weight": None if found is None else round(found.weight, 2),
        "seconds": {"fit": round(without, 3), "product": round(once, 3), "fit_with_pool": round(taken, 3)},
        "ratio": round(taken / (without + once), 1),
        "peak_mb": peak.mb,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    print(
        f"pool of {arguments.pool:,} x {arguments.width} {pool.dtype}, {arguments.classes} classes, weight {result['weight']}"
    )
    print(f"fit {without:.3f} s, one product with the pool {once:.3f} s, fit with the pool {taken:.3f} s")
    print(f"fit with the pool / (fit + product) = {result['ratio']}")
    print(f"peak memory of fit with the pool, beside it = {result['peak_mb']} MB")


if __name__ == "__main__":
    main()
