"""From a spec to an encoder."""

from __future__ import annotations

import importlib
from typing import Any

from isomix.encoders.base import Encoder
from isomix.projectors.model_spec import parse_spec, unknown_model

__all__ = ["SCHEMES", "load_encoder"]

SCHEMES = {
    "embedded": "isomix.encoders.embedded",
    "hf": "isomix.encoders.hf",
    "openclip": "isomix.encoders.openclip",
}
"""Scheme → module whose function ``load(name, *, offline, device, revision, **options)`` gives the encoder."""


def load_encoder(
    spec: str, *, offline: bool = False, device: str | None = None, revision: str | None = None, **options: Any
) -> Encoder:
    """Load an encoder by name.

    Parameters
    ----------
    spec : str
        ``"embedded"``, the small model that comes with isomix (icons, emoji, clip art), or ``"embedded:as-trained"``,
        the same towers with the projectors they were trained with; ``"hf:<hub id or folder>"``, a CLIP, SigLIP or
        SigLIP 2 of transformers; a short name such as ``"clip-b32"`` (``isomix.projectors.model_spec.SHORT_NAMES``);
        ``"openclip:<architecture>/<tag>"``, ``"openclip:hf-hub:<hub id>"`` or
        ``"openclip:local-dir:<folder>"``, a model of open_clip; a folder is read as ``"hf:<folder>"``.
    offline : bool
        Never open a connection.
    device : str, optional
        Where the towers run, e.g. ``"cuda"``; default ``"cpu"``.
    revision : str, optional
        Branch, tag or commit on the hub.
    **options
        Of the encoder, e.g. ``preprocessing`` for ``hf:`` folders that do not record it.

    Raises
    ------
    ModelError
        Unknown scheme, or a model that cannot be found or used.
    OfflineError
        It would have to be downloaded.
    MissingExtraError
        Its framework is not installed.
    """
    scheme, name = parse_spec(spec)
    if scheme not in SCHEMES:
        raise unknown_model(spec)
    load = importlib.import_module(SCHEMES[scheme]).load
    return load(name, offline=offline, device=device, revision=revision, **options)
