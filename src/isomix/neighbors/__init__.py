"""Neighbours of embeddings: exact and indexed search, smoothing, near-duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isomix.neighbors.exact import BACKENDS, search
from isomix.neighbors.near_duplicates import Pairs, duplicates, near_pairs, split_leaks

if TYPE_CHECKING:
    from isomix.neighbors.smoothing import Smoothing

__all__ = ["BACKENDS", "Pairs", "Smoothing", "duplicates", "near_pairs", "search", "split_leaks"]


def __getattr__(name: str) -> Any:
    if name != "Smoothing":  # on demand: an estimator brings scikit-learn, whose import takes most of a second
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from isomix.neighbors.smoothing import Smoothing

    return Smoothing
