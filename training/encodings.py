"""Features of pictures and captions under one folder of weights, kept on disk by fingerprint, and the raw-pixel control."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import blocks
from isomix.encoders.embedded import EmbeddedEncoder
from isomix.linalg import normalize_rows
from training.files import write_array

__all__ = ["PAIRS", "Encodings", "on_white", "raw_pixels"]

PAIRS = {"converged": "", "as-trained": "as-trained"}
"""Name of a pair of projectors here → its name in the encoder's spec."""
SIDE = 16
Features = NDArray[np.float32]


def on_white(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA with straight alpha, (n, h, w, 4), to RGB on white, (n, h, w, 3)."""
    alpha = pictures[..., 3:].astype(np.uint16)
    color = pictures[..., :3].astype(np.uint16)
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def raw_pixels(pictures: NDArray[np.uint8]) -> Features:
    """The control: RGB on white, averaged to 16 x 16, centred; (n, 768). What retrieval owes to outlines and colours alone."""
    rgb = on_white(pictures).astype(np.float32)
    n, height, width, _ = rgb.shape
    small = rgb.reshape(n, SIDE, height // SIDE, SIDE, width // SIDE, 3).mean(axis=(2, 4)).reshape(n, -1)
    return np.asarray(normalize_rows(small - small.mean(axis=0), "raw pixels"))


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

        return self._kept(encode, pictures.tobytes())[where]

    def text_features(self, captions: list[str]) -> Features:
        """Pre-projection features of captions, (n, d_text)."""

        def encode() -> Features:
            forward = next(iter(self.encoders.values())).forward_texts
            return np.concatenate([forward(captions[part]) for part in blocks(len(captions), 256)])

        return self._kept(encode, "\n".join(captions).encode())

    def _kept(self, encode: Callable[[], Features], content: bytes) -> Features:
        digest = hashlib.sha256(content)
        for encoder in self.encoders.values():
            digest.update(encoder.fingerprint.encode())
        path = self._cache / f"{digest.hexdigest()[:32]}.npy"
        if not path.is_file():
            write_array(path, encode())
        return np.load(path)
