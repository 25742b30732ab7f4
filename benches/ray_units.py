"""What a unit of work costs on Ray, against a run without it, on one machine: ``make bench-ray``.

Prints the times of the parts of a run: starting a cluster, loading an actor, encoding, committing. Both runs give the same
rows with the same bytes, which is checked. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from isomix.cluster import RayEngine
from isomix.encoders import load_encoder
from isomix.store import EmbeddingTable, embed
from isomix.store.scan import scan
from isomix.store.units import Work, encode_files, joined


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=4096)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        (folder / "photos").mkdir()
        for i in range(count):
            small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
            small.resize((320, 240)).save(folder / "photos" / f"{i:06d}.jpg", quality=85)
        load = partial(load_encoder, "embedded")
        here, seconds_here = timed(lambda: embed(folder / "photos", folder / "here.lance", load()))
        shown: list[tuple[float, int]] = []
        started = time.monotonic()
        there, seconds_there = timed(
            lambda: embed(
                folder / "photos",
                folder / "there.lance",
                load(),
                engine=RayEngine(load, "local"),
                progress=lambda done, total, failed: shown.append((time.monotonic() - started, done)),
            )
        )
        tables = [EmbeddingTable.open(folder / f"{each}.lance") for each in ("here", "there")]
        same = tables[0].embeddings().tobytes() == tables[1].embeddings().tobytes()
        if not same or tables[0].rows() != tables[1].rows() or there.rows != here.rows:
            raise SystemExit("the two tables differ")
        connected, first = shown[0][0], next(at for at, done in shown if done)
        print(f"pictures                                        {count:8,}")
        print(
            f"without Ray, seconds                            {seconds_here:8.1f}   {count / seconds_here:.0f} a second"
        )
        print(
            f"on Ray, one machine, seconds                    {seconds_there:8.1f}   {seconds_there / seconds_here:.2f} of that"
        )
        print(f"  until the cluster is there                    {connected:8.1f}   once a run")
        print(
            f"  until the first unit is back                  {first - connected:8.1f}   an actor's start and one unit"
        )
        encoding = shown[-1][0] - first
        print(f"  the other units                               {encoding:8.1f}")
        commit_costs(folder, load)


def commit_costs(folder: Path, load: Callable[[], Any]) -> None:
    """Writing a unit's rows, and making them part of the table, apart from all the rest."""
    files = scan(folder / "photos").files[:2048]
    columns = joined(encode_files(files, load(), Work(32, None, 100.0, False, None))).columns
    embed(folder / "photos", folder / "commits.lance", load())
    table = EmbeddingTable.open(folder / "commits.lance")
    fragments, writing = timed(lambda: [table.write_fragment(columns) for _ in range(64)])
    _, committing = timed(
        lambda: [table.append_fragments(fragments[i : i + 16], {"run": "0"}) for i in range(0, 64, 16)]
    )
    print(f"writing the rows of {len(files):,} pictures, milliseconds    {1000 * writing / 64:6.1f}")
    print(f"a commit of 16 such units, milliseconds         {1000 * committing / 4:8.1f}")


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and seconds."""
    started = time.monotonic()
    result = function()
    return result, time.monotonic() - started


if __name__ == "__main__":
    main()
