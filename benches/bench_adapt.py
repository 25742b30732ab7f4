"""Throughput of ``adapt`` on stored float16 vectors, as a fraction of the bare float32 product on arrays in memory.

Each round measures both, one after the other, so that a busy machine slows both; the median of the rounds' ratios
counts. Run: python benches/bench_adapt.py [--rows 1000000] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, load_space

WIDTH, BLOCK = 512, 8192


def make_source(path: Path, rows: int) -> None:
    """Random float16 vectors, written block by block."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.float16, (rows, WIDTH))
    for start in range(0, rows, 65536):
        array[start : start + 65536] = rng.standard_normal((min(65536, rows - start), WIDTH), np.float32)
    array.flush()


def bare_product(operator: np.ndarray, rows: int) -> float:
    """Seconds of the product alone, blocked, float32 arrays in memory, all cores."""
    block = np.random.default_rng(1).standard_normal((BLOCK, WIDTH), np.float32)
    out = np.empty((BLOCK, len(operator)), np.float32)
    right = np.ascontiguousarray(operator.T, np.float32)
    np.matmul(block, right, out=out)
    started = time.perf_counter()
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        np.matmul(block[:count], right, out=out[:count])
    return time.perf_counter() - started


CHILD = """
import sys, time
from isomix.spaces import load_space
from isomix.store import adapt
space = load_space(sys.argv[3])
adapt(sys.argv[4], sys.argv[2] + ".npy", space, overwrite=True)  # imports and threads
started = time.perf_counter()
adapt(sys.argv[1], sys.argv[2], space)
seconds = time.perf_counter() - started
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, int(peak.split()[1]) / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    projectors = Projectors(rng.standard_normal((WIDTH, 768)), rng.standard_normal((WIDTH, WIDTH)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        IsoCLIP(projectors, band=(150, 50)).fit().save(folder / "iso.safetensors")
        space = load_space(folder / "iso.safetensors")
        make_source(folder / "source.npy", options.rows)
        make_source(folder / "small.npy", 20_000)
        ratios, seconds, bare, peak = [], [], [], 0.0
        for _ in range(options.rounds):
            bare.append(bare_product(space.operator_, options.rows))
            paths = [str(folder / p) for p in ("source.npy", "target.npy", "iso.safetensors", "small.npy")]
            # A new file each round, beside stored vectors at rest: nothing of an earlier round is still being written.
            (folder / "target.npy").unlink(missing_ok=True)
            os.sync()
            words = subprocess.run(
                [sys.executable, "-c", CHILD, *paths], check=True, capture_output=True, text=True
            ).stdout.split()
            seconds.append(float(words[0]))
            peak = max(peak, float(words[1]))
            ratios.append(bare[-1] / seconds[-1])
    result = {
        "rows": options.rows,
        "width": WIDTH,
        "n_components": space.n_components_,
        "bare_product_seconds": round(statistics.median(bare), 3),
        "adapt_seconds": round(statistics.median(seconds), 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_target": 0.6,
        "peak_memory_mb": round(peak),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"adapt {options.rows:,} x {WIDTH} float16 -> {space.n_components_}: {result['adapt_seconds']} s, "
        f"bare product {result['bare_product_seconds']} s, ratio {result['ratio']} (target at least 0.6); "
        f"peak memory {result['peak_memory_mb']} MB (target below 1000)"
    )


if __name__ == "__main__":
    main()
