"""Classes that have text and no pictures, or pictures and no text.

Image and text embeddings of one class lie apart by a gap that is much the same for all classes (Liang et al., NeurIPS 2022), and
what a text says about the differences between classes is only partly what the pictures say. The regression used here (this
project) is the simplest that knows both: with m and t the mean image and mean text of the classes that have both,

    mu_c ≈ m + gamma (t_c - t),    gamma = Σ (mu_c - m)·(t_c - t) / Σ ‖t_c - t‖²,

and the other way round with the roles exchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles
from isomix.errors import InputError
from isomix.linalg import normalize_rows

__all__ = ["GapMap", "complete"]

Mask = NDArray[np.bool_]


class GapMap(NamedTuple):
    """The map ``target + slope * (x - source)`` between the modalities."""

    source: Doubles
    target: Doubles
    slope: float

    @classmethod
    def fit(cls, X: Doubles, Y: Doubles, weights: Doubles | None = None) -> GapMap:
        """Least squares from the rows of ``X`` to those of ``Y``, both (C, d); the slope is kept between 0 and 1."""
        w = np.ones(len(X)) if weights is None else weights
        source, target = np.average(X, axis=0, weights=w), np.average(Y, axis=0, weights=w)
        centred = (X - source) * w[:, None]
        spread = float(np.vdot(centred, X - source))
        slope = float(np.vdot(centred, Y - target)) / spread if spread > 0 else 0.0
        return cls(source, target, min(max(slope, 0.0), 1.0))

    def __call__(self, X: Doubles) -> Doubles:
        """Map rows (n, d)."""
        return np.asarray(self.target + self.slope * (X - self.source))


def complete(
    means: Doubles, has_images: Mask, text: Doubles, has_text: Mask, names: NDArray[np.object_]
) -> tuple[Doubles, Doubles]:
    """Fill in the mean image of classes without pictures and the text of classes without text.

    Parameters
    ----------
    means, text : ndarray, shape (C, d)
    has_images, has_text : ndarray of bool, shape (C,)
    names : ndarray, shape (C,)
        Labels, for the message.

    Returns
    -------
    means, text : ndarray, shape (C, d)
        The same arrays where nothing was missing.

    Raises
    ------
    InputError
        A class has neither, or no class has both, so that the gap between the modalities is unknown.
    """
    neither = np.flatnonzero(~has_images & ~has_text)
    if neither.size:
        raise InputError(
            f"classes {names[neither[:5]].tolist()!r} have neither text nor pictures with a positive weight. "
            "Give one of the two, or leave them out."
        )
    both = has_images & has_text
    if (has_images.all() and has_text.all()) or not has_text.any():
        return means, text
    if not both.any():
        raise InputError(
            "no class has both text and pictures, so the gap between image and text embeddings cannot be estimated. "
            "Give text for at least one class that has pictures."
        )
    if not has_images.all():
        to_images = GapMap.fit(text[both], means[both])
        means = np.where(has_images[:, None], means, to_images(text))
    if not has_text.all():
        to_text = GapMap.fit(means[both], text[both])
        text = np.where(has_text[:, None], text, normalize_rows(to_text(means), "imputed class texts"))
    return means, text
