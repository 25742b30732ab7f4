"""Smoothing of a gallery against one blocked product of it with itself, and query expansion against one search.

Run: ``python benches/bench_smoothing.py [--json]``. The targets are 1.5 and 2.2. Products and smoothing of the largest size take
minutes; ``--gallery 50000`` is enough for a look.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from isomix import Smoothing, search

Array = NDArray[np.float32]


def kinds(n: int, d: int, seed: int) -> Array:
    """Unit rows in groups of twenty, as a gallery has them: neighbours of random rows would be found too easily."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n // 20 + 1, d), dtype=np.float32)
    rows = centres[np.arange(n) % len(centres)] + rng.standard_normal((n, d), dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def self_product(gallery: Array, query_block: int = 1024, gallery_block: int = 8192) -> None:
    """Every block of the n x n cosines, and nothing done with them."""
    for start in range(0, len(gallery), gallery_block):
        block = gallery[start : start + gallery_block].T
        for first in range(0, len(gallery), query_block):
            gallery[first : first + query_block] @ block


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--gallery", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=312)
    parser.add_argument("--repeats", type=int, default=3, help="of the query side; the gallery side runs once")
    parser.add_argument(
        "--cpu-time", action="store_true", help="the process's own time, for a machine that others use too"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    gallery = kinds(arguments.gallery, arguments.width, 1)
    queries = kinds(arguments.queries, arguments.width, 2)
    self_product(gallery[:8192])  # warm
    before = peak_mb()
    times = {"self_product": [seconds(lambda: self_product(gallery), clock)]}
    smoothing = Smoothing(k=10)
    times["smoothing"] = [seconds(lambda: smoothing.fit(gallery), clock)]
    peak = peak_mb()
    calls: dict[str, Callable[[], object]] = {
        "search": lambda: search(queries, smoothing.gallery_, 10),
        "transform_and_search": lambda: search(smoothing.transform(queries), smoothing.gallery_, 10),
        "search_expand": lambda: search(queries, gallery, 10, expand=5),
    }
    for _ in range(arguments.repeats):
        for name, call in calls.items():
            times.setdefault(name, []).append(seconds(call, clock))
    median = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "gallery": [arguments.gallery, arguments.width],
        "queries": arguments.queries,
        "seconds": {name: round(value, 3) for name, value in median.items()},
        "smoothing_to_self_product": round(median["smoothing"] / median["self_product"], 2),
        "transform_and_search_to_search": round(median["transform_and_search"] / median["search"], 2),
        "search_expand_to_search": round(median["search_expand"] / median["search"], 2),
        "gallery_mb": gallery.nbytes >> 20,
        "peak_mb_above_gallery": peak - before,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in median.items():
        print(f"{name:22s} {value:8.3f} s")
    print(f"smoothing / self-product      = {result['smoothing_to_self_product']}   target: at most 1.5")
    print(f"expanded search / search      = {result['transform_and_search_to_search']}   target: at most 2.2")
    print(f"search(expand=5) / search     = {result['search_expand_to_search']}   target: at most 2.2")
    print(
        f"peak memory beside the gallery = {result['peak_mb_above_gallery']} MB (the gallery: {result['gallery_mb']} MB)"
    )


if __name__ == "__main__":
    main()
