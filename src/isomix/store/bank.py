"""Banks of sentences, and the space of a table that was made from one: kept beside the table, so that searches use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from isomix._arrays import Floats, as_matrix
from isomix.errors import InputError, IsomixError, TableError
from isomix.store.formats.npy import load_npy, load_npz
from isomix.store.table import EmbeddingTable, space_beside

if TYPE_CHECKING:
    from isomix.encoders.base import Encoder
    from isomix.projectors import Projectors
    from isomix.spaces import NestedTextPCA, Space

__all__ = ["NOUNS", "Bank", "embed_bank", "fit_bank", "kept_space", "read_bank", "stored_bank"]

NOUNS = "nouns"
Bank = Sequence[str] | Floats
"""Sentences, or their embeddings, shape (n, d); ``"nouns"`` for everyday nouns."""


def read_bank(path: str | os.PathLike[str]) -> Bank:
    """Sentences of a text file, one a line, or the embeddings in an ``.npz`` or ``.npy`` file; ``nouns`` stays the word.

    Raises
    ------
    InputError
        A file that cannot be read, without a sentence, or that is no bank.
    """
    name = Path(path)
    if name.suffix in (".npy", ".npz"):
        return stored_bank(name)
    if os.fspath(path) == NOUNS and not name.exists():
        return NOUNS
    try:
        lines = [line.strip() for line in name.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"bank: {name} cannot be read ({error}). Expected a text file with one sentence a line, an .npz or .npy file of "
            f"their embeddings, or {NOUNS!r} for everyday nouns."
        ) from error
    sentences = [line for line in lines if line]
    if len(sentences) < 2:
        raise InputError(f"bank: {name} holds {len(sentences)} sentence(s), expected two at least, one a line.")
    return sentences


def stored_bank(path: Path) -> Floats:
    """Text embeddings of an ``.npz`` (array ``text`` or ``embeddings``) or ``.npy`` file.

    Raises
    ------
    FileFormatError
        No such file, or a damaged one.
    InputError
        No text embeddings in it.
    """
    if path.suffix == ".npz":
        arrays = load_npz(path)
        found = [key for key in ("text", "embeddings") if key in arrays]
        if not found:
            raise InputError(f"text bank: {path} holds {', '.join(arrays)}; expected 'text' or 'embeddings'.")
        stored = arrays[found[0]]
    else:
        stored = load_npy(path)
    return as_matrix(stored, "text bank", nonzero_rows=True, min_rows=2)


def embed_bank(bank: Bank | None, encoder: Callable[[], Encoder]) -> Floats:
    """Embeddings of a bank; of everyday nouns in the model's own prompt for ``"nouns"`` and None.

    Parameters
    ----------
    bank : sequence of str, ndarray or None
    encoder : callable
        Gives the model; called for sentences only.
    """
    if isinstance(bank, np.ndarray):
        return bank
    model = encoder()
    if bank is None or isinstance(bank, str):
        from isomix.encoders.prompts import default_templates, nouns

        bank = [default_templates(model)[0].format(noun) for noun in nouns()]
    return model.encode_text(list(bank), show_progress_bar=False).embeddings


def fit_bank(bank: Bank | None, encoder: Callable[[], Encoder], projectors: Projectors | None) -> NestedTextPCA:
    """The space of a bank: Nested Text PCA, behind the cliff of the model's text projector where it has one."""
    from isomix.spaces import NestedTextPCA

    return NestedTextPCA(projectors=projectors).fit(embed_bank(bank, encoder))


def kept_space(table: EmbeddingTable) -> Space | None:
    """The space that :func:`isomix.store.smooth_column` kept beside a table, or None.

    Raises
    ------
    TableError
        The file is there and is no space for the vectors of this table.
    """
    from isomix.spaces import load_space

    path = space_beside(table.path)
    if not path.exists():
        return None
    again = "Remove it, or make it again with: isomix adapt TABLE --smooth --bank FILE"
    try:
        space = load_space(path)
        made_for = space.describe()["source"]
        if "text_projector" in made_for:  # alone, it has no fingerprint to compare
            table.made_by.check_name(made_for["model"])
        table.made_by.check(str(made_for.get("model")), projectors=made_for.get("projectors", ""))
    except IsomixError as error:
        raise TableError(f"{path}, the space kept beside {table.path}, cannot be used: {error} {again}") from error
    if space.n_features_in_ != table.metadata.embedding_dim:
        raise TableError(
            f"{path} maps vectors of width {space.n_features_in_}, and those of {table.path} have "
            f"{table.metadata.embedding_dim}. {again}"
        )
    return space
