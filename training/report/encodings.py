"""Features of pictures and captions under one folder of weights, kept on disk by fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import blocks
from isomix.encoders.embedded import EmbeddedEncoder
from training.data.pixels import on_white
from training.files import write_array

__all__ = ["PAIRS", "Encodings"]

PAIRS = {"converged": "", "as-trained": "as-trained"}
"""Name of a pair of projectors here → its name in the encoder's spec."""
Features = NDArray[np.float32]


class Encodings:
    """The towers of one folder of weights behind a cache.

    Parameters
    ----------
    weights : Path or None
        None: the weights that come with isomix.
    pictures : ndarray of uint8, shape (N, 64, 64, 4)
        All of the data set, memory-mapped.
    cache : Path
    threads : int, optional
        Of onnxruntime.
    """

    def __init__(
        self, weights: Path | None, pictures: NDArray[np.uint8], cache: Path, threads: int | None = None
    ) -> None:
        self.encoders = {name: EmbeddedEncoder(pair, threads=threads, weights=weights) for name, pair in PAIRS.items()}
        self._pictures, self._cache = pictures, cache
        cache.mkdir(parents=True, exist_ok=True)

    def pictures(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """RGBA pictures of some rows."""
        return self._pictures[rows]

    def image_features(self, rows: NDArray[np.int64]) -> Features:
        """Pre-projection features of some rows, (n, d_image)."""
        unique, where = np.unique(rows, return_inverse=True)
        pictures = self.pictures(unique)

        def encode() -> Features:
            forward = next(iter(self.encoders.values())).forward_pixels
            parts = [
                forward(
                    np.ascontiguousarray(on_white(pictures[part]).transpose(0, 3, 1, 2), np.float32) / np.float32(255)
                )
                for part in blocks(len(pictures), 64)
            ]
            return np.concatenate(parts)

        return self._stored(encode, pictures.tobytes())[where]

    def text_features(self, captions: list[str]) -> Features:
        """Pre-projection features of captions, (n, d_text)."""

        def encode() -> Features:
            forward = next(iter(self.encoders.values())).forward_texts
            return np.concatenate([forward(captions[part]) for part in blocks(len(captions), 256)])

        return self._stored(encode, "\n".join(captions).encode())

    def _stored(self, encode: Callable[[], Features], content: bytes) -> Features:
        digest = hashlib.sha256(content)
        for encoder in self.encoders.values():
            digest.update(encoder.fingerprint.encode())
        path = self._cache / f"{digest.hexdigest()[:32]}.npy"
        if not path.is_file():
            write_array(path, encode())
        return np.load(path)
