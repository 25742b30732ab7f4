"""Visual inversion: the patches whose image embedding is nearest to a text embedding."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from isomix.errors import InputError
from isomix.inversion.base import ModalityInversion, replaced_output

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

    _needs = ("vision_model", "visual_projection")

    def __post_init__(self) -> None:
        super().__post_init__()
        patches = self.model.vision_model.embeddings.num_patches
        if self.n_tokens > patches:
            raise InputError(f"n_tokens: got {self.n_tokens}, but the model's pictures have only {patches} patches.")
        self._share = torch.arange(patches) * self.n_tokens // patches

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pseudo-patches of shape (n, n_tokens, width) to image embeddings of shape (n, d), not normalised."""

        def fill(patches: torch.Tensor) -> torch.Tensor:
            return tokens[:, self._share].transpose(1, 2).reshape(patches.shape).to(patches.dtype)

        embeddings = self.model.vision_model.embeddings
        size = embeddings.image_size
        nothing = torch.zeros(1, device=tokens.device).expand(len(tokens), 3, size, size)  # overwritten by ``fill``
        with replaced_output(embeddings.patch_embedding, fill):
            pooled = self.model.vision_model(pixel_values=nothing).pooler_output
        return self.model.visual_projection(pooled)

    def _width(self) -> int:
        return int(self.model.vision_model.embeddings.patch_embedding.weight.shape[0])

    def _output_width(self) -> int:
        return int(self.model.visual_projection.weight.shape[0])
