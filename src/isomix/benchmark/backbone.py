"""The model behind a run: named once, loaded when something needs it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from isomix._arrays import Floats
from isomix._files import writing
from isomix.encoders.base import Encoder
from isomix.encoders.prompts import default_templates
from isomix.errors import FingerprintMismatchError
from isomix.projectors import Projectors
from isomix.projectors.model_spec import parse_spec

__all__ = ["Backbone"]


class Backbone:
    """An encoder by name.

    Parameters
    ----------
    spec : str
        As for :func:`isomix.load_encoder`.
    cache : path-like, optional
        Folder where text embeddings are kept.
    offline : bool
    device : str, optional
    made_with : str
        Fingerprint of the projectors that the embeddings at hand were made with; others are refused.

    Attributes
    ----------
    encoder : Encoder
        Loaded on first use.
    projectors : Projectors
        Of the encoder if that is loaded, else two tensors of its weights and nothing else.
    """

    def __init__(
        self,
        spec: str,
        *,
        cache: Path | None = None,
        offline: bool = False,
        device: str | None = None,
        made_with: str = "",
    ) -> None:
        self.spec = spec
        self.cache = cache
        self.offline = offline
        self.device = device
        self.made_with = made_with

    @cached_property
    def encoder(self) -> Encoder:
        """The model."""
        from isomix.encoders import load_encoder

        return self._checked(load_encoder(self.spec, offline=self.offline, device=self.device))

    @cached_property
    def projectors(self) -> Projectors:
        """Its last linear maps."""
        if "encoder" in self.__dict__:
            return self.encoder.projectors
        projectors = Projectors.from_pretrained(self.spec, offline=self.offline)
        self._check(projectors)
        return projectors

    def _checked(self, encoder: Encoder) -> Encoder:
        self._check(encoder.projectors)
        return encoder

    def _check(self, projectors: Projectors) -> None:
        if self.made_with not in ("", projectors.fingerprint):
            raise FingerprintMismatchError(
                f"the embeddings were made with projectors {self.made_with[:12]}, and {self.spec!r} has "
                f"{projectors.fingerprint[:12]}. Name the model that made them."
            )

    @property
    def fingerprint(self) -> str:
        """Of the encoder if it is loaded, else of the projectors."""
        return self.encoder.fingerprint if "encoder" in self.__dict__ else self.projectors.fingerprint

    @property
    def logit_scale(self) -> float:
        """Inverse temperature; 100, OpenAI's, where the weights do not say."""
        return float(self.projectors.logit_scale or 100.0)

    def labels(self) -> dict[str, str]:
        """``model`` and ``pretrained`` as CLIP_benchmark writes them."""
        spec = parse_spec(self.spec)
        scheme, name = spec
        if scheme == "openclip" and (weights := spec.open_clip().weights):
            return {"model": spec.open_clip().place, "pretrained": weights}
        if scheme == "embedded":
            return {"model": scheme, "pretrained": name or "converged"}
        return {"model": name, "pretrained": scheme}

    def encode_text(self, sentences: Sequence[str]) -> tuple[Floats, Floats]:
        """Embeddings (n, d) and pre-projection features (n, d_text) of sentences, from the cache where it has them."""
        key = hashlib.sha256("\0".join((self.encoder.fingerprint, *sentences)).encode()).hexdigest()[:24]
        path = None if self.cache is None else self.cache / f"text-{key}.npz"
        if path is not None and path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                return stored["embeddings"], stored["features"]
        encoded = self.encoder.encode_text(sentences, show_progress_bar=False)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path) as part:
                np.savez(part, embeddings=encoded.embeddings, features=encoded.features)
        return encoded.embeddings, encoded.features

    def class_texts(self, class_names: Sequence[str], templates: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
        """Text embeddings of classes, shape (C, p, d), and the p templates that were used."""
        chosen = tuple(templates) or default_templates(self.encoder)
        sentences = [template.format(name) for name in class_names for template in chosen]
        embeddings, _ = self.encode_text(sentences)
        return embeddings.reshape(len(class_names), len(chosen), -1), chosen
