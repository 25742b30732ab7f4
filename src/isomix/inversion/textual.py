"""Textual inversion: the sentence whose text embedding is nearest to an image embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch

from isomix.encoders.base import Encoder
from isomix.errors import InputError
from isomix.inversion.base import ModalityInversion

__all__ = ["TextualInversion"]


@dataclass(eq=False)
class TextualInversion(ModalityInversion):
    """Optimise pseudo-words in a sentence until its text embedding matches an image embedding (OTI).

    The result is compared with image embeddings: an image-to-image search that runs from text to image.

    Parameters
    ----------
    model : transformers CLIPModel or isomix Encoder
    tokenizer : callable, optional
        Sentence to ``{"input_ids": [start, …, end]}``, as in transformers. Default: the encoder's.
    template : str
        ``{}`` stands for the pseudo-words.
    n_tokens, n_steps, learning_rate, weight_decay, batch_size, seed
        See :class:`~isomix.inversion.ModalityInversion`. The defaults are the paper's.

    Raises
    ------
    ModelError
        No CLIP of transformers.
    InputError
        No tokenizer, a template without exactly one ``{}``, or a sentence too long for the model.

    Notes
    -----
    Mistretta et al., *Cross the Gap*, ICLR 2025, arXiv 2502.04263, after Baldrati et al., *SEARLE*, ICCV 2023. The text
    tower looks only backwards and is read at the end token, so the padding to 77 tokens is left out: the same embedding
    from a sentence of six.
    """

    tokenizer: Callable[[str], Any] | None = field(default=None, repr=False)
    _: KW_ONLY
    template: str = "a photo of {}"
    n_steps: int = 150

    _tower, _projection = "text_model", "text_projection"

    def __post_init__(self) -> None:
        encoder = self.model
        super().__post_init__()
        if self.tokenizer is None and isinstance(encoder, Encoder):
            self.tokenizer = encoder.tokenizer
        if self.tokenizer is None:
            raise InputError("tokenizer: got none. Pass the model's tokenizer, or an encoder loaded as 'hf:…'.")
        self._ids, self._words = self._sentence(self.tokenizer)

    def _sentence(self, tokenizer: Callable[[str], Any]) -> tuple[torch.Tensor, slice]:
        """Token ids of the template with room for the pseudo-words, and where that is."""
        parts = self.template.split("{}")
        if len(parts) != 2:
            raise InputError(f"template: got {self.template!r}, expected exactly one {{}}, as in 'a photo of {{}}'.")
        before, after = (list(tokenizer(part.strip())["input_ids"]) for part in parts)
        # The ids under the pseudo-words are never looked up, but the tower finds the end of the sentence by its id.
        room = [before[0]] * self.n_tokens
        ids = torch.tensor([before[:-1] + room + after[1:]])
        longest = self.model.text_model.embeddings.position_embedding.weight.shape[0]
        if ids.shape[1] > longest:
            raise InputError(
                f"template: with {self.n_tokens} pseudo-words {self.template!r} has {ids.shape[1]} tokens, "
                f"the model reads at most {longest}. Use a shorter one."
            )
        return ids, slice(len(before) - 1, len(before) - 1 + self.n_tokens)

    def _inputs(self) -> torch.nn.Module:
        layer: torch.nn.Module = self.model.text_model.embeddings.token_embedding
        return layer

    def _width(self) -> int:
        return int(self.model.text_model.embeddings.token_embedding.weight.shape[1])

    def _place(self, tokens: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        before, after = output[:, : self._words.start], output[:, self._words.stop :]
        return torch.cat([before, tokens.to(output.dtype), after], dim=1)

    def _around(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"input_ids": self._ids.to(tokens.device).expand(len(tokens), -1)}
