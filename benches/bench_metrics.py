"""Retrieval metrics of CUB's size against a plain loop over queries, interleaved in one process.

Run: ``python benches/bench_metrics.py [--json] [--large]``. Targets: at least 10 times faster, at most 1 GB; ``--large`` runs
60,000 x 60,000 alone, within 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time

import numpy as np
from numpy.typing import NDArray

from isomix.metrics import retrieval_metrics


def clustered(n: int, d: int, classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=n)
    noise = generator.standard_normal((n, d), dtype=np.float32)
    centres = generator.standard_normal((classes, d), dtype=np.float32)
    rows = noise + np.float32(0.25) * centres[labels]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def plain_loop(rows: NDArray[np.float32], labels: NDArray[np.int64], queries: int) -> dict[str, float]:
    """The loop everybody writes: one product, one argsort, cumulative sums."""
    sums = np.zeros(5)
    place = np.arange(1, len(rows))
    for i in range(queries):
        scores = rows @ rows[i]
        order = np.argsort(-scores)
        order = order[order != i]
        hits = labels[order] == labels[i]
        n_relevant = hits.sum()
        precision = np.cumsum(hits) / place
        sums += (
            (precision * hits).sum() / n_relevant,
            (precision * hits)[:n_relevant].sum() / n_relevant,
            hits[:n_relevant].mean(),
            hits[0],
            1.0 / (1 + hits.argmax()),
        )
    names = (
        "mean_average_precision",
        "mean_average_precision_at_r",
        "r_precision",
        "recall_at_1",
        "mean_reciprocal_rank",
    )
    return dict(zip(names, (sums / queries).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=11_788)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--large", action="store_true", help="60,000 x 60,000 x 512, 365 classes, without the plain loop"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.large:
        arguments.rows, arguments.classes, arguments.repeats = 60_000, 365, 1
    rows, labels = clustered(arguments.rows, arguments.width, arguments.classes)
    sample = min(1500, arguments.rows)  # of the plain loop's queries, all of which cost the same
    ours, plain, product = [], [], []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        figures = retrieval_metrics(rows, labels)
        ours.append(time.perf_counter() - start)
        if arguments.large:
            continue
        start = time.perf_counter()
        plain_loop(rows, labels, sample)
        plain.append((time.perf_counter() - start) * arguments.rows / sample)
        start = time.perf_counter()
        for first in range(0, arguments.rows, 1024):
            rows[first : first + 1024] @ rows.T
        product.append(time.perf_counter() - start)
    result = {
        "rows": arguments.rows,
        "seconds": round(statistics.median(ours), 3),
        "peak_rss_mb_with_inputs": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "mean_average_precision": figures["mean_average_precision"],
    }
    if not arguments.large:
        result["plain_loop_seconds"] = round(statistics.median(plain), 3)
        result["times_faster"] = round(statistics.median(p / o for p, o in zip(plain, ours, strict=True)), 2)
        result["to_bare_product"] = round(statistics.median(o / p for p, o in zip(product, ours, strict=True)), 2)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:26s} {value}")


if __name__ == "__main__":
    main()
