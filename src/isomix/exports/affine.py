"""The one thing that every export carries: the map before normalisation, as a matrix and a bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from isomix._arrays import Doubles
from isomix._estimators import check_fitted
from isomix.errors import InputError

if TYPE_CHECKING:
    from isomix.spaces.base import Space

__all__ = ["SOURCES", "AffineMap", "affine_map", "check_width"]

SOURCES = ("embeddings", "features")


class AffineMap(NamedTuple):
    """z = (weight x + bias) / ‖weight x + bias‖.

    Attributes
    ----------
    weight : ndarray of float64, shape (k, d)
    bias : ndarray of float64, shape (k,), or None
    """

    weight: Doubles
    bias: Doubles | None


def affine_map(space: Space, source: str = "embeddings") -> AffineMap:
    """The map of a fitted space, of stored embeddings or of pre-projection features.

    Parameters
    ----------
    space : Space
    source : {"embeddings", "features"}
        What goes in: what ``transform`` takes, or what ``transform_features`` takes.

    Raises
    ------
    InputError
        Another source, or a space that has no map of features.
    ModelError
        A head with a bias has no map of stored embeddings.
    NotFittedError

    Examples
    --------
    >>> import numpy as np
    >>> from isomix import TextPCA
    >>> space = TextPCA(2).fit(np.random.default_rng(0).normal(size=(9, 4)))
    >>> weight, bias = affine_map(space)
    >>> weight.shape, bias
    ((2, 4), None)
    """
    check_fitted(space)
    if source not in SOURCES:
        raise InputError(f"source: got {source!r}, expected 'embeddings' or 'features'.")
    if source == "embeddings":
        operator = space._operator()
        return AffineMap(operator, None if space.offset_ is None else -(operator @ space.offset_))
    of_features: Doubles | None = getattr(space, "feature_operator_", None)
    if of_features is None:
        raise InputError(
            f"source: a {type(space).__name__} maps embeddings, not pre-projection features. Use source='embeddings'."
        )
    if space.operator_ is not None:
        return AffineMap(of_features, None)
    return AffineMap(of_features[:, :-1], of_features[:, -1])  # a head with a bias: a 1 is appended to the feature


def check_width(wanted: int, width: int) -> None:
    """Raise :class:`InputError` unless a space of ``wanted`` numbers fits behind a model that gives ``width``."""
    if wanted != width:
        raise InputError(
            f"space: it maps vectors of width {wanted}, but the model's have {width}. "
            "Fit it on this model's projectors or embeddings."
        )
