"""A fitted space as modules of torch: alone, behind an image tower, and in a sentence-transformers pipeline."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from isomix._affine import AffineMap
from isomix._arrays import Doubles
from isomix._extras import require
from isomix.encoders.base import Encoder
from isomix.errors import ModelError
from isomix.exports.contract import FittedSpace, check_width, maps_features

__all__ = ["ImageEncoder", "SpaceModule", "to_sentence_transformers"]


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


def to_sentence_transformers(mapped: AffineMap) -> list[Any]:
    """See :meth:`isomix.spaces.Space.to_sentence_transformers`."""
    needed = "sentence_transformers.sentence_transformer.modules"
    modules = require(needed, "sentence-transformers", "to_sentence_transformers")
    bias = mapped.bias
    dense = modules.Dense(
        mapped.weight.shape[1],
        mapped.weight.shape[0],
        bias=bias is not None,
        activation_function=torch.nn.Identity(),
        init_weight=torch.from_numpy(np.array(mapped.weight, np.float32)),
        init_bias=None if bias is None else torch.from_numpy(np.array(bias, np.float32)),
    )
    return [dense.requires_grad_(False), modules.Normalize()]


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

    def __init__(self, model: Any, space: FittedSpace) -> None:
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
        from_features = isinstance(model, Encoder) and maps_features(space)
        self.tower = copy.deepcopy(tower).cpu().float()
        self.project = copy.deepcopy(project).cpu().float()
        mapped = space.affine_map("features" if from_features else "embeddings")
        self.head = SpaceModule(mapped.weight, mapped.bias)
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


def _projector(model: Any, space: FittedSpace) -> Any:
    """What stands between the tower's output and the space."""
    if not isinstance(model, Encoder):
        return torch.nn.Identity() if hasattr(model, "visual") else getattr(model, "visual_projection", None)
    if maps_features(space):
        return torch.nn.Identity()
    if model.image_head is not None:
        raise ModelError(
            f"the image head of {model.spec} is not linear, and a {type(space).__name__} belongs behind it. Export an "
            "IsoCLIP, or pass the model itself instead of the encoder."
        )
    side = model.projectors.side("image")
    project = torch.nn.Linear(side.width, model.embedding_dim, bias=side.bias is not None)
    with torch.no_grad():
        project.weight.copy_(torch.from_numpy(side.weight))
        if side.bias is not None:
            project.bias.copy_(torch.from_numpy(side.bias))
    return project
