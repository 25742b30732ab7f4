"""IsoCLIP inside the model itself: its projector W replaced by W' = W U_k U_kᵀ, and back.

Nothing is remembered between the two: a space knows the model's own projector bit for bit, so a model that was folded,
saved and loaded elsewhere can still be unfolded. For that, folding insists on exactly the space's projector.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from isomix._arrays import Floats
from isomix._extras import require
from isomix.encoders.base import Encoder
from isomix.errors import ModelError
from isomix.exports.contract import ProjectorSpace
from isomix.projectors import Projectors
from isomix.projectors.checkpoints import LAYOUTS, Linear, Residual

if TYPE_CHECKING:
    import torch

__all__ = ["fold_into", "require_plain", "require_text", "unfold"]

_INSTEAD = "Put space.to_torch('features') behind the model's pre-projection features instead."


class _Weight(NamedTuple):
    """A model's projector, as a view of shape (d, d_in) that can be written to."""

    name: str
    values: torch.Tensor
    eps: float

    def holds(self, weight: Floats) -> bool:
        """Whether it is ``weight``, bit for bit after the cast to its own dtype."""
        return self.values.shape == weight.shape and bool((self.values == self._cast(weight)).all())

    def distance(self, weight: Floats) -> float:
        """Frobenius norm of the difference over that of ``weight``; infinite for another shape."""
        if self.values.shape != weight.shape:
            return float("inf")
        return float((self.values - self._cast(weight)).double().norm() / np.linalg.norm(weight))

    def is_near(self, weight: Floats) -> bool:
        """Whether it is ``weight`` but for a few entries rounded the other way, by a decomposition made elsewhere."""
        return self.distance(weight) <= self.eps / 4

    def write(self, weight: Floats) -> None:
        self.values.copy_(self._cast(weight))

    def _cast(self, weight: Floats) -> torch.Tensor:
        return self.values.new_tensor(weight)  # same dtype and device


def fold_into(model: Any, space: ProjectorSpace) -> None:
    """See :meth:`isomix.IsoCLIP.fold_into`."""
    require_plain(model, space)
    if isinstance(model, Encoder):
        model.projectors = space.folded_projectors()
        model.fingerprint = _mixed(model.fingerprint, space)
    else:
        _, folded = _weights(space)
        _find(model, space.modality).write(folded)


def unfold(model: Any, space: ProjectorSpace) -> None:
    """See :meth:`isomix.IsoCLIP.unfold`."""
    if isinstance(model, Encoder):
        if model.projectors.fingerprint != space.folded_projectors().fingerprint:
            raise ModelError("this encoder was not folded with this space, so there is nothing to undo.")
        model.projectors = space.projectors
        model.fingerprint = _mixed(model.fingerprint, space)
        return
    own, folded = _weights(space)
    found = _find(model, space.modality)
    if not found.is_near(folded):
        state = "is the model's own" if found.holds(own) else "belongs to neither this space nor its model"
        raise ModelError(f"{found.name} {state}: it was not folded with this space, so there is nothing to undo.")
    found.write(own)


def require_plain(model: Any, space: ProjectorSpace) -> None:
    """Raise :class:`ModelError` unless the projector of ``model`` is the space's own, not folded and not another's."""
    if not isinstance(model, Encoder):
        own, folded = _weights(space)
        found = _find(model, space.modality)
        if not found.holds(own):
            raise ModelError(_mismatch(found, own, folded, space))
    elif model.projectors.fingerprint != space.projectors.fingerprint:
        foldable = space.projectors.side(space.modality).bias is None
        same = foldable and model.projectors.fingerprint == space.folded_projectors().fingerprint
        raise ModelError(
            "this encoder is folded with this space already; unfold it first."
            if same
            else f"the projectors of this encoder ({model.spec}) are not those of the space "
            f"({space.projectors.source or 'no source given'}). Fit the space on encoder.projectors."
        )


def require_text(model: Any, own: Projectors) -> None:
    """Raise :class:`ModelError` unless the text projector of ``model`` is that of ``own``, which may have no other."""
    weight = own.side("text").weight
    if isinstance(model, Encoder):
        same = np.array_equal(model.projectors.text, weight)
    else:
        same = _find(model, "text").holds(weight)
    if not same:
        raise ModelError(
            f"the text projector of this {type(model).__name__} is not that of the space "
            f"({own.source or 'no source given'}). Fit the space on this model's projectors."
        )


def _weights(space: ProjectorSpace) -> tuple[Floats, Floats]:
    folded = space.folded_projectors()
    return space.projectors.side(space.modality).weight, folded.side(space.modality).weight


def _find(model: Any, modality: str) -> _Weight:
    torch = require("torch", "hf", "Folding")
    heads = list(dict.fromkeys(getattr(layout, modality) for layout in LAYOUTS))
    for head in heads:
        *parents, last = head.tensor.split(".")
        owner = reduce(lambda module, part: getattr(module, part, None), parents, model)
        values = getattr(owner, last, None)
        if not (isinstance(values, torch.Tensor) and values.ndim == 2):
            continue
        if isinstance(head, Residual):
            raise ModelError(f"the image head at {head.mlp} is an MLP, not a matrix. {_INSTEAD}")
        bias = getattr(owner, "bias", None) if last == "weight" else None
        if bias is not None and bool(bias.any()):  # zeros are a model without one, as converted: PE-Core
            place = head.tensor.removesuffix(".weight")
            raise ModelError(f"{place} has a bias and cannot be folded into one matrix. {_INSTEAD}")
        weight = values.detach()
        return _Weight(head.tensor, weight.T if head.in_first else weight, torch.finfo(weight.dtype).eps)
    raise ModelError(
        f"a {type(model).__name__} has no {modality} projector at any known place "
        f"({', '.join(head.tensor for head in heads if isinstance(head, Linear))}). "
        "Expected a CLIP of transformers or open_clip, or an encoder of isomix."
    )


def _mismatch(found: _Weight, own: Floats, folded: Floats, space: ProjectorSpace) -> str:
    shape = tuple(found.values.shape)
    subject = f"{found.name}, as out x in of shape {shape}, is not the space's {space.modality} projector"
    if found.is_near(folded):
        return f"{found.name} is folded with this space already; unfold it first."
    if found._replace(values=found.values.T).holds(own):
        return f"{subject} but its transpose. Fit the space on projectors that are out x in."
    if found.values.shape != own.shape:
        return f"{subject} of shape {own.shape}. It belongs to another model."
    distance = found.distance(own)
    if distance < 1e-2:
        return (
            f"{subject} but a rounded copy of it (relative difference {distance:.1g}), which could not be restored "
            "exactly. Fit the space on the projectors of this very model."
        )
    return f"{subject} (relative difference {distance:.2g}): it is another model's, or folded with another space."


def _mixed(fingerprint: str, space: ProjectorSpace) -> str:
    """A fingerprint for the folded encoder; exclusive or, so that unfolding gives the first one back."""
    return f"{int(fingerprint, 16) ^ int(space.folded_projectors().fingerprint, 16):064x}"
