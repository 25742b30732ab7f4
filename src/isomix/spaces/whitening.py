"""Whitening of embeddings: a baseline that is often suggested, and seldom helps CLIP."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._affine import BLOCK_ROWS
from isomix._arrays import Doubles, blocks, check_integer
from isomix._documents import Document, expect_tensors
from isomix._estimators import check_fit_rows
from isomix.errors import InputError
from isomix.spaces.base import Space

__all__ = ["PCAWhitening", "ZCAWhitening", "covariance"]


def covariance(X: NDArray[Any]) -> tuple[Doubles, Doubles]:
    """Mean, shape (d,), and covariance (divided by n), shape (d, d), accumulated in float64 block by block."""
    n, d = X.shape
    mean = np.zeros(d)
    for rows in blocks(n, BLOCK_ROWS):
        mean += X[rows].sum(axis=0, dtype=np.float64)
    mean /= n
    scatter = np.zeros((d, d))
    for rows in blocks(n, BLOCK_ROWS):
        centred = X[rows].astype(np.float64) - mean
        scatter += centred.T @ centred
    return mean, scatter / n


class PCAWhitening(Space):
    """Centre, rotate to the principal axes, and scale every axis to unit variance.

    Parameters
    ----------
    n_components : int, optional
        Axes of largest variance to keep. Default: all that vary.
    shrinkage : float, default 0
        Added to every variance, as a fraction of their mean; tames axes that hold noise only.

    Attributes
    ----------
    offset_ : ndarray of float64, shape (d,)
        Mean of the rows given to ``fit``.
    variances_ : ndarray of float64, shape (r,)
        Along the principal axes, descending.
    n_components_ : int

    Raises
    ------
    InputError
        On ``fit``: fewer than two rows, rows that are all equal, or more components than axes that vary.

    Notes
    -----
    z = L^{-1/2} Vᵀ (e - m) with the covariance V L Vᵀ, then normalisation. Fit it on the gallery.
    """

    method = "pca-whitening"

    def __init__(self, n_components: int | None = None, *, shrinkage: float = 0.0) -> None:
        self.n_components = n_components
        self.shrinkage = shrinkage

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn mean and axes.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Embeddings of the gallery.
        y : ignored
        """
        matrix = check_fit_rows(self, X, "embeddings", min_rows=2)
        if not 0 <= self.shrinkage < np.inf:
            raise InputError(f"shrinkage: got {self.shrinkage!r}, expected a number of at least 0.")
        self.offset_, scatter = covariance(matrix)
        import scipy.linalg

        values, vectors = scipy.linalg.eigh(scatter)
        values, vectors = values[::-1], vectors[:, ::-1]
        varying = int(np.count_nonzero(values > 1e-12 * max(values[0], 0.0)))
        wanted = varying if self.n_components is None else check_integer(self.n_components, "n_components", minimum=1)
        if not 1 <= wanted <= varying:
            raise InputError(
                f"n_components: got {wanted}, but {len(matrix)} rows with {matrix.shape[1]} feature(s) vary along only "
                f"{varying} axes. Fit on more rows, or ask for fewer components."
            )
        self.variances_ = values[:varying]
        scaled = values[:wanted] + self.shrinkage * values[:varying].mean()
        self.operator_ = self._whiten(vectors[:, :wanted], scaled)
        self.n_components_ = len(self.operator_)
        return self

    @staticmethod
    def _whiten(vectors: Doubles, variances: Doubles) -> Doubles:
        signs = np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
        return np.ascontiguousarray((vectors * (signs / np.sqrt(variances))).T)

    def _parameters(self) -> dict[str, Any]:
        return {"n_components": self.n_components, "shrinkage": float(self.shrinkage), "modality": self.modality}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {"operator": self._operator(), "offset": np.asarray(self.offset_), "variances": self.variances_}

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        sizes = expect_tensors(document, path, {"operator": ("k", "d"), "offset": ("d",), "variances": ("r",)})
        wanted, shrinkage = document.parameters["n_components"], float(document.parameters["shrinkage"])
        if wanted is not None:
            check_integer(wanted, "n_components", minimum=1)
        space = cls(wanted, shrinkage=shrinkage)
        space.operator_, space.offset_ = document.tensors["operator"], document.tensors["offset"]
        space.variances_ = document.tensors["variances"]
        space.n_components_, space.n_features_in_ = sizes["k"], sizes["d"]
        return space


class ZCAWhitening(PCAWhitening):
    """Whitening that turns the axes back, so that the result stays as close to the embedding as whitening allows.

    The same parameters and attributes as :class:`PCAWhitening`; the result keeps the width d. With ``n_components`` equal
    to all axes its cosines are those of PCA whitening.
    """

    method = "zca-whitening"

    @staticmethod
    def _whiten(vectors: Doubles, variances: Doubles) -> Doubles:
        return np.asarray((vectors / np.sqrt(variances)) @ vectors.T)
