"""The heads inside torch models: what their activations are, and how they are taken off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isomix._extras import first_line, require
from isomix.errors import ModelError
from isomix.projectors.checkpoints import Layout, Residual
from isomix.projectors.residual_head import name_activation

__all__ = ["activation_of", "move_to", "no_mlp", "take_off_heads"]

_NEEDS = "A model of torch"


def activation_of(function: Callable[[Any], Any]) -> str:
    """The name of a torch activation; see :func:`isomix.projectors.residual_head.name_activation`."""
    torch = require("torch", "hf", _NEEDS)
    return name_activation(lambda x: function(torch.from_numpy(x)).numpy())


def move_to(device: str, model: Any) -> Any:
    """``model.to(device)``, or a :class:`ModelError` that names the way out."""
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {device!r} cannot be used: {first_line(error)}. Try device='cpu'.") from error


def no_mlp() -> Any:
    """A module to stand in for the MLP of x + MLP(LayerNorm(x)), so that x comes out."""
    torch: Any = require("torch", "hf", _NEEDS)

    class NoMlp(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.zeros_like(x)

    return NoMlp()


def take_off_heads(model: Any, layout: Layout) -> None:
    """Replace both heads of a model of open_clip by what lets the pre-projection features through."""
    nn = require("torch", "openclip", _NEEDS).nn
    for head in (layout.image, layout.text):
        if isinstance(head, Residual):
            path, _, leaf = head.mlp.rpartition(".")
            setattr(model.get_submodule(path), leaf, no_mlp())
            continue
        path, _, leaf = head.tensor.removesuffix(".weight").rpartition(".")
        parent = model.get_submodule(path)
        if leaf in ("proj", "text_projection") and path in ("", "visual", "text") and head.tensor != "text.proj.weight":
            setattr(parent, leaf, None)  # open_clip leaves out a projector that is None
        elif leaf == "c_proj":  # read as weight and bias inside the attention
            width = parent.c_proj.in_features
            setattr(parent, leaf, nn.Linear(width, width))
            nn.init.eye_(parent.c_proj.weight)
            nn.init.zeros_(parent.c_proj.bias)
        else:
            setattr(parent, leaf, nn.Identity())
