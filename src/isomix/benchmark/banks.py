"""Text embeddings for Text PCA: one's own, of one's own names, or of everyday nouns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from isomix._arrays import Floats
from isomix.benchmark.backbone import Backbone
from isomix.benchmark.datasets.base import A_PHOTO
from isomix.encoders.prompts import nouns
from isomix.errors import InputError
from isomix.store.bank import stored_bank

__all__ = ["Bank", "bank_identity", "read_bank"]


@dataclass(frozen=True)
class Bank:
    """Text embeddings that Text PCA takes its directions from.

    Attributes
    ----------
    name : str
        Where they come from.
    embeddings : ndarray, shape (n, d)
    """

    name: str
    embeddings: Floats


def read_bank(path: Path | None, backbone: Backbone | None) -> Bank:
    """Read or make a bank.

    Parameters
    ----------
    path : pathlib.Path, optional
        ``.npy`` or ``.npz`` (array ``text`` or ``embeddings``) of text embeddings; any other file: a name a line, for
        "a photo of a {name}." Default: a few hundred everyday nouns, in the model's own sentence.
    backbone : Backbone, optional
        Needed for names and nouns.

    Raises
    ------
    InputError
        A file that cannot be used, or names without a model.
    """
    if path is not None and path.suffix in (".npy", ".npz"):
        return Bank(path.name, stored_bank(path))
    if backbone is None:
        raise InputError(
            "Text PCA needs text embeddings of the model that made these embeddings: give them as a text bank (.npz), "
            "or name the model."
        )
    if path is None:
        embeddings, _ = backbone.class_texts(nouns(), ())
        return Bank("everyday nouns", embeddings[:, 0])
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"text bank: {path} cannot be read ({error}).") from error
    return Bank(path.name, backbone.encode_text([A_PHOTO[0].format(name) for name in names])[0])


def bank_identity(path: Path | None) -> str:
    """What tells one bank from another: the SHA-256 of its file."""
    if path is None:
        return "everyday nouns"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"text bank: {path} cannot be read ({error}).") from error
