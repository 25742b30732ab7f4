"""Texts as an encoder gives them: embeddings together with the logit scale of their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isomix.encoders.base import Embeddings
from isomix.errors import InputError

__all__ = ["DEFAULT_LOGIT_SCALE", "unpack"]

DEFAULT_LOGIT_SCALE = 100.0
"""OpenAI CLIP's, for texts that do not say theirs."""


def unpack(text: Any) -> tuple[Any, float | None]:
    """``text=`` with arrays in place of an encoder's :class:`~isomix.encoders.Embeddings`, and their logit scale if they say one.

    Parameters
    ----------
    text : Embeddings, or a list or mapping of them, or whatever else ``fit`` takes
        A mapping may also have the logit scale itself, like that of :func:`~isomix.encoders.prompts.encode_classes`.

    Raises
    ------
    InputError
        Embeddings of two models.
    """
    parts = list(text.values()) if isinstance(text, Mapping) else text if isinstance(text, list | tuple) else [text]
    carriers = [text, *(part for part in parts if isinstance(part, Embeddings))]
    found = {float(scale) for part in carriers if (scale := getattr(part, "logit_scale", None)) is not None}
    if len(found) > 1:
        raise InputError(
            f"text: embeddings of models with the logit scales {', '.join(f'{scale:g}' for scale in sorted(found))}, expected "
            "one model. Encode all texts with the encoder of the pictures."
        )
    scale = found.pop() if found else None
    if isinstance(text, Mapping):
        return {label: _array(part) for label, part in text.items()}, scale
    return [_array(part) for part in text] if isinstance(text, list | tuple) else _array(text), scale


def _array(part: Any) -> Any:
    return part.embeddings if isinstance(part, Embeddings) else part
