"""What a space has to have for the exports that need more of it than its affine map.

The spaces themselves lie above this package and call down into it, so that here only their shape is known.
"""

from __future__ import annotations

from typing import Protocol, TypeGuard

from isomix._affine import AffineMap
from isomix._arrays import Doubles
from isomix.errors import InputError
from isomix.projectors import Projectors

__all__ = ["FittedSpace", "ProjectorSpace", "check_width", "is_made_from_projectors", "maps_features"]


class FittedSpace(Protocol):
    """A fitted :class:`isomix.spaces.Space`."""

    method: str
    modality: str

    @property
    def fingerprint(self) -> str:
        """Of the fitted map."""

    def affine_map(self, source: str = "embeddings") -> AffineMap:
        """The map of embeddings, or of pre-projection features."""


class ProjectorSpace(FittedSpace, Protocol):
    """A space made from a model's projectors, which can take the place of one of them: :class:`isomix.IsoCLIP`."""

    projectors: Projectors
    feature_operator_: Doubles | None

    def folded_projectors(self) -> Projectors:
        """The pair with this modality's projector replaced; raises where the head is not one matrix."""


def is_made_from_projectors(space: FittedSpace) -> TypeGuard[ProjectorSpace]:
    """Whether a space is a :class:`ProjectorSpace`."""
    return hasattr(space, "folded_projectors")


def maps_features(space: FittedSpace) -> bool:
    """Whether a space maps pre-projection features, not embeddings alone."""
    return is_made_from_projectors(space) and space.feature_operator_ is not None


def check_width(wanted: int, width: int) -> None:
    """Raise :class:`InputError` unless a space of ``wanted`` numbers fits behind a model that gives ``width``."""
    if wanted != width:
        raise InputError(
            f"space: it maps vectors of width {wanted}, but the model's have {width}. "
            "Fit it on this model's projectors or embeddings."
        )
