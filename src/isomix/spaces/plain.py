"""The two spaces that every comparison starts from: the embedding as it is, and the feature in front of the projector."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, Floats, as_matrix, check_integer
from isomix._documents import Document
from isomix._estimators import check_fit_rows, check_rows
from isomix.linalg import normalize_rows
from isomix.spaces.base import Space

__all__ = ["Plain", "PreProjection"]


class Plain(Space):
    """Embeddings as they are, with unit rows: the cosine everybody uses.

    Examples
    --------
    >>> import numpy as np
    >>> Plain().fit(np.array([[3.0, 4.0]])).transform(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """

    method = "plain"

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Record the width of the rows of ``X``, shape (n, d)."""
        check_fit_rows(self, X, "embeddings")
        self.n_components_ = self.n_features_in_
        self.offset_ = None
        return self

    @property
    def operator_(self) -> Doubles:  # type: ignore[override]
        """The identity, made when it is asked for."""
        return np.eye(self.n_features_in_)

    def transform(self, X: ArrayLike) -> Floats:
        """The rows of ``X``, shape (n, d), with unit length."""
        return normalize_rows(as_matrix(check_rows(self, X, "embeddings"), "embeddings"))

    def _parameters(self) -> dict[str, Any]:
        return {"n_features_in": int(self.n_features_in_)}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {}

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        space = cls()
        space.n_features_in_ = check_integer(document.parameters["n_features_in"], "n_features_in", minimum=1)
        space.n_components_, space.offset_ = space.n_features_in_, None
        return space


class PreProjection(Plain):
    """Cosine of pre-projection features.

    ``transform`` takes the features themselves, shape (n, d_image); stored embeddings do not determine them, so a
    matrix of another width is refused.
    """

    method = "pre-projection"

    def transform_features(self, features: ArrayLike) -> Floats:
        """Unit rows of pre-projection features, shape (n, d_image)."""
        return self.transform(features)
