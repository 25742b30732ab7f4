"""A small, real encoder for the tests of the store, and an embedding run in a process of its own that can be killed.

Run as ``python store_helpers.py SOURCE TABLE SECONDS_PER_BATCH``.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from isomix.encoders.base import Encoder
from isomix.projectors import Projectors


class TinyEncoder(Encoder):
    """A random linear map of the picture at 8 x 8 pixels; sentences become their histogram of bytes."""

    scheme = "tiny"

    def __init__(self, seed: int = 0, delay: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.weight = rng.normal(size=(24, 192)).astype(np.float32)
        self.projectors = Projectors(
            rng.normal(size=(16, 24)).astype(np.float32), rng.normal(size=(16, 20)).astype(np.float32), source="tiny"
        )
        self.spec = f"tiny:{seed}"
        self.fingerprint = hashlib.sha256(self.weight.tobytes()).hexdigest()
        self.preprocessing = {"size": 8}
        self.logit_scale = 100.0
        self.delay = delay
        self.pictures = 0

    def preprocess(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((8, 8)), np.float32).transpose(2, 0, 1) / 255.0 + 0.1

    def forward_pixels(self, pixels: np.ndarray) -> np.ndarray:
        time.sleep(self.delay)
        self.pictures += len(pixels)
        return pixels.reshape(len(pixels), -1) @ self.weight.T

    def forward_texts(self, texts) -> np.ndarray:
        return np.stack([np.bincount(np.frombuffer(t.encode(), np.uint8) % 20, minlength=20) for t in texts]).astype(
            np.float32
        )


def make_pictures(folder: Path, names, seed: int = 0) -> list[Path]:
    """Small pictures, all different."""
    rng = np.random.default_rng(seed)
    paths = []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


if __name__ == "__main__":
    from isomix.store import embed

    embed(sys.argv[1], sys.argv[2], TinyEncoder(delay=float(sys.argv[3])), batch_size=4)
