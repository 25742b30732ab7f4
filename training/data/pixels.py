"""Raw pixels: on white, and reduced to vectors that are compared without a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isomix.linalg import normalize_rows

__all__ = ["Pixels", "on_white", "raw_pixels", "small_pixels"]

Pixels = NDArray[np.uint8]
CONTROL_SIDE = 16


def on_white(pictures: Pixels) -> Pixels:
    """RGBA with straight alpha, (n, h, w, 4), to RGB on white, (n, h, w, 3)."""
    alpha = pictures[..., 3:].astype(np.uint16)
    color = pictures[..., :3].astype(np.uint16)
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def small_pixels(picture: Pixels, side: int) -> NDArray[np.float32]:
    """Pixels of one picture on white, reduced and centred.

    Parameters
    ----------
    picture : ndarray of uint8, shape (large, large, 4)
        Straight alpha; ``large`` a multiple of ``side``.
    side : int

    Returns
    -------
    ndarray of float32, shape (3 * side * side,)
        In [-1, 1], less the mean of the picture.
    """
    alpha = picture[..., 3:].astype(np.float32) / 255
    white = picture[..., :3] / np.float32(255) * alpha + (1 - alpha)
    step = picture.shape[0] // side
    small = white.reshape(side, step, side, step, 3).mean(axis=(1, 3)).ravel()
    return np.asarray(small - small.mean(), np.float32)


def raw_pixels(pictures: Pixels) -> NDArray[np.float32]:
    """The control: RGB on white, averaged to 16 x 16, less the mean of all; unit rows, (n, 768).

    What retrieval owes to outlines and colours alone.
    """
    rgb = on_white(pictures).astype(np.float32)
    n, height, width, _ = rgb.shape
    side = CONTROL_SIDE
    small = rgb.reshape(n, side, height // side, side, width // side, 3).mean(axis=(2, 4)).reshape(n, -1)
    return np.asarray(normalize_rows(small - small.mean(axis=0), "raw pixels"))
