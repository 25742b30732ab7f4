"""Controls: what a gain of IsoCLIP has to be held against.

Random projectors have no inter-modal structure; a turned text projector has the spectrum of the real one along directions
that mean nothing; random directions say what leaving out as many of any gives.
"""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, check_integer
from isomix._documents import Document, expect_tensors
from isomix._estimators import check_fit_rows
from isomix.errors import InputError
from isomix.projectors import Projectors
from isomix.projectors.side import MODALITIES
from isomix.spaces.base import Space

__all__ = ["RandomDirections", "random_projectors", "turned_projectors"]


def random_projectors(projectors: Projectors, seed: int = 0) -> Projectors:
    """Gaussian projectors of the same shapes and Frobenius norms: the control of every statement about a spectrum.

    A bias counts as one more column; an image projector that is missing stays so.
    """
    rng = np.random.default_rng(seed)
    pair: dict[str, Any] = {}
    for modality in MODALITIES:
        if getattr(projectors, modality) is None:
            continue
        weight = projectors.side(modality).affine
        noise = rng.standard_normal(weight.shape)
        pair[modality] = noise * (np.linalg.norm(weight) / np.linalg.norm(noise))
    return Projectors(**pair)


def turned_projectors(projectors: Projectors, seed: int = 0) -> Projectors:
    """The text projector turned at random: W_text = L S Vᵀ with other orthonormal columns Q in the place of L.

    Its singular values, and what it makes of the features up to a rotation, stay; its directions in the embedding space
    have nothing to do with the images any more. The image projector stays, if there is one.
    """
    side = projectors.side("text")
    weight = np.asarray(side.affine, np.float64)
    rotation = _orthonormal(len(weight), len(weight), seed)
    turned = rotation @ weight
    if side.bias is None:
        return projectors.replace(text=turned)
    return projectors.replace(text=turned[:, :-1], text_bias=turned[:, -1])


class RandomDirections(Space):
    """Project embeddings on orthonormal directions drawn at random.

    Parameters
    ----------
    n_components : int
        Directions to keep.
    seed : int, default 0

    Examples
    --------
    >>> import numpy as np
    >>> E = np.random.default_rng(0).normal(size=(9, 8))
    >>> space = RandomDirections(3).fit(E)
    >>> bool(np.allclose(space.operator_ @ space.operator_.T, np.eye(3)))
    True
    """

    method = "random-directions"

    def __init__(self, n_components: int, *, seed: int = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Draw directions; of the rows of ``X``, shape (n, d), only the width is looked at."""
        check_fit_rows(self, X, "embeddings")
        wanted = check_integer(self.n_components, "n_components", minimum=1)
        if wanted > self.n_features_in_:
            raise InputError(f"n_components: got {wanted}, expected at most {self.n_features_in_}, the width.")
        self.operator_ = _orthonormal(self.n_features_in_, wanted, check_integer(self.seed, "seed")).T
        self.offset_, self.n_components_ = None, wanted
        return self

    def _parameters(self) -> dict[str, Any]:
        return {"n_components": self.n_components_, "seed": int(self.seed), "modality": self.modality}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {"operator": self._operator()}

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        wanted = int(document.parameters["n_components"])
        sizes = expect_tensors(document, path, {"operator": (wanted, "d")})
        space = cls(wanted, seed=int(document.parameters["seed"]))
        space.operator_, space.offset_ = document.tensors["operator"], None
        space.n_components_, space.n_features_in_ = wanted, sizes["d"]
        return space


def _orthonormal(rows: int, columns: int, seed: int) -> Doubles:
    """Orthonormal columns, uniformly distributed (Mezzadri, Notices of the AMS 54, 2007)."""
    Q, R = np.linalg.qr(np.random.default_rng(seed).standard_normal((rows, columns)))
    return np.ascontiguousarray(Q * np.where(np.diag(R) < 0, -1.0, 1.0))
