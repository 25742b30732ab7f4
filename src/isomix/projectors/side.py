"""One projector: a matrix, perhaps with a bias, in front of which stand the pre-projection features of a modality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Floats, as_matrix
from isomix.errors import InputError

__all__ = ["MODALITIES", "Side", "check_modality"]

MODALITIES = ("image", "text")


@dataclass(frozen=True, eq=False)
class Side:
    """One projector of the two.

    Attributes
    ----------
    modality : {"image", "text"}
    weight : ndarray, shape (d, d_in)
        Out x in.
    bias : ndarray, shape (d,), or None
    """

    modality: str
    weight: Floats
    bias: Floats | None

    @property
    def width(self) -> int:
        """Width d_in of the pre-projection features."""
        return int(self.weight.shape[1])

    @property
    def affine(self) -> Floats:
        """[W b], the map of features with a 1 appended; W where there is no bias."""
        if self.bias is None:
            return self.weight
        return np.column_stack([self.weight, self.bias.astype(self.weight.dtype)])

    def features(self, values: ArrayLike) -> Floats:
        """``values`` as pre-projection features of this side, shape (n, d_in), or an :class:`InputError`."""
        of = f"the {self.modality} projector's input"
        return as_matrix(values, f"{self.modality} features", width=self.width, width_of=of)

    def project(self, features: ArrayLike) -> Floats:
        """Embeddings before normalisation: ``features @ W.T + b``, shape (n, d)."""
        H = self.features(features)
        projected = H @ self.weight.T.astype(H.dtype, copy=False)
        return np.asarray(projected if self.bias is None else projected + self.bias.astype(H.dtype, copy=False))


def check_modality(modality: str) -> None:
    """Raise :class:`InputError` for anything but "image" and "text"."""
    if modality not in MODALITIES:
        raise InputError(f"modality: got {modality!r}, expected 'image' or 'text'.")
