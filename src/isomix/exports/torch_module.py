"""A fitted space as a torch module."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isomix.encoders.base import Encoder
from isomix.errors import ModelError
from isomix.exports.affine import affine_map, check_width
from isomix.spaces.isoclip import IsoCLIP

if TYPE_CHECKING:
    from isomix._arrays import Doubles
    from isomix.spaces.base import Space

__all__ = ["ImageEncoder", "SpaceModule", "to_torch"]


class SpaceModule(torch.nn.Module):
    """A linear map followed by normalisation, without parameters to train.

    Parameters
    ----------
    weight : ndarray, shape (k, d)
    bias : ndarray, shape (k,), optional

    Notes
    -----
    The map is held in float32 buffers and computed in their dtype, whatever dtype comes in. Unlike ``transform`` it
    does not look at the values: a row of zeros stays one, and NaN stays NaN.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: Doubles, bias: Doubles | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(np.array(weight, np.float32)))
        self.register_buffer("bias", None if bias is None else torch.from_numpy(np.array(bias, np.float32)))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors of shape (..., d) to unit vectors of shape (..., k)."""
        mapped = torch.nn.functional.linear(vectors.to(self.weight.dtype), self.weight, self.bias)
        return torch.nn.functional.normalize(mapped, dim=-1)

    def extra_repr(self) -> str:
        """Widths, for ``print``."""
        k, d = self.weight.shape
        return f"{d} -> {k}"


def to_torch(space: Space, source: str = "embeddings") -> SpaceModule:
    """See :meth:`isomix.spaces.Space.to_torch`."""
    return SpaceModule(*affine_map(space, source))


class ImageEncoder(torch.nn.Module):
    """A float32 copy, on the CPU, of a model's image tower and projector, with a space behind it.

    Parameters
    ----------
    model : transformers CLIP, open_clip model, or isomix Encoder of torch
    space : Space
        Of this model's image embeddings. Behind an Encoder, whose tower gives pre-projection features, an IsoCLIP is
        one matrix, so that heads with a bias and heads that are not linear will do.

    Raises
    ------
    ModelError
        No image tower with a projector is found, or the head of an Encoder is not linear and the space no IsoCLIP.
    InputError
        A space of another width.
    """

    def __init__(self, model: Any, space: Space) -> None:
        super().__init__()
        inner = model.torch_model if isinstance(model, Encoder) else model
        tower: Any = getattr(inner, "visual", None)  # open_clip
        size = getattr(tower, "image_size", None)
        if tower is None:
            tower = getattr(inner, "vision_model", None)
            size = getattr(getattr(tower, "config", None), "image_size", None)
        project = _projector(model, space)
        if not (isinstance(tower, torch.nn.Module) and isinstance(project, torch.nn.Module) and size is not None):
            raise ModelError(
                f"model: a {type(inner).__name__} has no image tower that isomix knows. "
                "Expected a CLIP of transformers or open_clip, or an encoder of isomix."
            )
        from_features = isinstance(model, Encoder) and isinstance(space, IsoCLIP)
        self.tower = copy.deepcopy(tower).cpu().float()
        self.project = copy.deepcopy(project).cpu().float()
        self.head = to_torch(space, "features" if from_features else "embeddings")
        self.image_size = (size, size) if isinstance(size, int) else tuple(size)
        self._normalized = not from_features
        self.eval()
        with torch.no_grad():
            check_width(self.head.weight.shape[1], self.vectors(torch.zeros(1, 3, *self.image_size)).shape[1])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels of shape (n, 3, height, width) to adapted vectors of shape (n, k), unit rows."""
        return self.head(self.vectors(pixels))

    def vectors(self, pixels: torch.Tensor) -> torch.Tensor:
        """What goes into the space: pre-projection features, or the model's own embeddings with unit rows."""
        encoded = self.tower(pixels)
        encoded = encoded[0] if isinstance(encoded, tuple) else getattr(encoded, "pooler_output", encoded)
        projected = self.project(encoded)
        return torch.nn.functional.normalize(projected, dim=-1) if self._normalized else projected


def _projector(model: Any, space: Space) -> Any:
    """What stands between the tower's output and the space."""
    if not isinstance(model, Encoder):
        return torch.nn.Identity() if hasattr(model, "visual") else getattr(model, "visual_projection", None)
    if isinstance(space, IsoCLIP):
        return torch.nn.Identity()
    if model.image_head is not None:
        raise ModelError(
            f"the image head of {model.spec} is not linear, and a {type(space).__name__} belongs behind it. Export an "
            "IsoCLIP, or pass the model itself instead of the encoder."
        )
    pair = model.projectors
    project = torch.nn.Linear(pair.image.shape[1], pair.embedding_dim, bias=pair.image_bias is not None)
    with torch.no_grad():
        project.weight.copy_(torch.from_numpy(pair.image))
        if pair.image_bias is not None:
            project.bias.copy_(torch.from_numpy(pair.image_bias))
    return project
