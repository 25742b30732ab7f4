"""Encoders that die on purpose, and a driver in a process of its own that can be killed.

Run as ``python cluster_helpers.py ADDRESS SOURCE TABLE SECONDS_PER_BATCH``. A module that actors can import.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np

STORE = runpy.run_path(str(Path(__file__).parents[1] / "store" / "store_helpers.py"))
make_pictures = STORE["make_pictures"]
BATCH, UNIT = 4, 8


class Mortal(STORE["TinyEncoder"]):
    """The small encoder, in a process that is killed (SIGKILL) at its n-th batch, once: a file says that it has been.

    Without a number it is killed whenever it is given a white picture.
    """

    def __init__(self, delay: float = 0.0, marker: str | None = None, batch: int = 0) -> None:
        super().__init__(delay=delay)
        self.marker, self.batch, self.batches = marker, batch, 0

    def forward_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.batches += 1
        if self.marker is not None:
            white = bool((pixels.min(axis=(1, 2, 3)) > 1.0).any())
            if white if not self.batch else self.batches == self.batch and not Path(self.marker).exists():
                Path(self.marker).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward_pixels(pixels)


def main(address: str, source: str, table: str, delay: str) -> None:
    """Embed on a cluster."""
    from isomix.cluster import RayEngine
    from isomix.store import embed

    load = partial(Mortal, float(delay))
    engine = RayEngine(load, address, actors=2, unit=UNIT)
    embed(source, table, load(), batch_size=BATCH, workers=1, engine=engine)


if __name__ == "__main__":
    from cluster_helpers import main  # under its name: actors have no __main__ like this one

    main(*sys.argv[1:])
