"""The model behind a run: named once, loaded when something needs it, its texts encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isomix._arrays import Floats, as_matrix
from isomix._files import writing
from isomix.encoders.lazy import LazyEncoder, MadeBy
from isomix.encoders.prompts import default_templates
from isomix.errors import FileFormatError
from isomix.projectors.model_spec import parse_spec
from isomix.store.formats.npy import load_npz

__all__ = ["Backbone"]


class Backbone(LazyEncoder):
    """A model by name that keeps the text embeddings it has made.

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
        made_by = MadeBy("these embeddings were", projectors=made_with)
        super().__init__(spec, offline=offline, device=device, made_by=made_by)
        self.cache = cache

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
            stored = load_npz(path, ("embeddings", "features"))
            if {array.shape[:1] for array in stored.values()} != {(len(sentences),)}:
                raise FileFormatError(f"{path} does not hold {len(sentences)} sentences. Delete it: it is made again.")
            return as_matrix(stored["embeddings"], f"{path}, embeddings"), as_matrix(
                stored["features"], f"{path}, features"
            )
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
