"""Visual inversion: the patches whose image embedding is nearest to a text embedding."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from isomix.errors import InputError
from isomix.inversion.base import ModalityInversion

__all__ = ["VisualInversion"]


@dataclass(eq=False)
class VisualInversion(ModalityInversion):
    """Optimise pseudo-patches until their image embedding matches a text embedding (OVI).

    The result is compared with text embeddings: a text-to-text search that runs from image to text.

    Parameters
    ----------
    model : transformers CLIPModel or isomix Encoder
    n_tokens : int
        Pseudo-patches; each stands, in reading order, for an equal share of the picture's patches. The paper uses 1 for
        ViT-B/32 and 4 for ViT-L/14.
    n_steps, learning_rate, weight_decay, batch_size, seed
        See :class:`~isomix.inversion.ModalityInversion`. The defaults are the paper's.

    Raises
    ------
    ModelError
        No CLIP of transformers.
    InputError
        More pseudo-patches than patches.

    Notes
    -----
    Mistretta et al., *Cross the Gap*, ICLR 2025, arXiv 2502.04263.
    """

    n_steps: int = field(default=1000, kw_only=True)

    _tower, _projection = "vision_model", "visual_projection"

    def __post_init__(self) -> None:
        super().__post_init__()
        patches = self.model.vision_model.embeddings.num_patches
        if self.n_tokens > patches:
            raise InputError(f"n_tokens: got {self.n_tokens}, but the model's pictures have only {patches} patches.")
        self._share = torch.arange(patches) * self.n_tokens // patches

    def _inputs(self) -> torch.nn.Module:
        layer: torch.nn.Module = self.model.vision_model.embeddings.patch_embedding
        return layer

    def _width(self) -> int:
        return int(self.model.vision_model.embeddings.patch_embedding.weight.shape[0])

    def _place(self, tokens: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return tokens[:, self._share].transpose(1, 2).reshape(output.shape).to(output.dtype)

    def _around(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        size = self.model.vision_model.embeddings.image_size
        nothing = torch.zeros(1, device=tokens.device)  # every patch of it is overwritten
        return {"pixel_values": nothing.expand(len(tokens), 3, size, size)}
