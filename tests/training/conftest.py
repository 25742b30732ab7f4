"""A small data set in the format of the stage `split`: every concept a pattern, every source its own noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

THINGS = ("apple", "boat", "cat", "drum", "egg", "fox", "gate", "hat", "ink", "jug", "kite", "lamp")
COLORS = ("red", "green", "blue", "grey", "pink")


@pytest.fixture(scope="session")
def small_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder whose data set has 60 concepts in three sources to train on, and 20 pictures held out."""
    rng = np.random.default_rng(0)
    concepts = [f"{color} {thing}" for color in COLORS for thing in THINGS]
    patterns = rng.random((len(concepts), 8, 8, 4))
    rows, pictures = [], []
    for row in range(3 * len(concepts) + 20):
        number = row % len(concepts)
        held_out = row >= 3 * len(concepts)
        source = f"source {row // len(concepts)}"
        captions = ["held out"] if held_out else [concepts[number], concepts[number].split()[1]]
        noisy = 0.8 * patterns[number] + 0.2 * rng.random((8, 8, 4))
        pictures.append(np.kron(noisy, np.ones((8, 8, 1))) * 255)
        rows.append(
            {
                "row": row,
                "source": source,
                "name": f"picture {row}",
                "concept": "held out" if held_out else concepts[number],
                "captions": captions,
                "kind": "icon",
                "topic": "",
                "monochrome": row % 2 == 0,
                "split": "held-out concept" if held_out else "train",
                "seen_by_first_weights": "no",
            }
        )
    folder = tmp_path_factory.mktemp("recipe") / "dataset"
    folder.mkdir()
    np.save(folder / "pictures.npy", np.array(pictures, np.uint8))
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "index.parquet")
    return folder.parent
