"""The space that a verb adapts into: saved before, or fitted from a model's projectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isomix._arrays import Floats
    from isomix.spaces import Space

__all__ = ["fit_space", "kept_by_table", "space_of_bank"]


def fit_space(
    rows: Callable[[], Floats],
    model: str,
    saved: Path | None,
    band: str,
    modality: str,
    text_only: bool,
    compact: bool,
    offline: bool,
) -> Space:
    """The saved space, or IsoCLIP of a model; what the user did not ask for is said on stderr.

    ``rows`` gives stored embeddings that an automatic band is chosen by.
    """
    from isomix.cli.common import log
    from isomix.spaces import Projectors, load_space
    from isomix.spaces.defaults import fit_isoclip

    if saved is not None:
        return load_space(saved)
    # Without being asked to: where the image head is not one matrix, the text projector alone adapts stored embeddings.
    projectors = Projectors.from_pretrained(model, offline=offline, text_only=text_only or None)
    if projectors.image is None and not text_only:
        log.print(
            f"{model} has no image projector that is one matrix, so its text projector alone is used",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    space = fit_isoclip(projectors, band, rows, modality=str(modality), compact=compact)
    if space.preset_of_:
        log.print(f"preset band of {space.preset_of_}", markup=False, soft_wrap=True)
    if band == "preset" and space.band_evidence_ is not None:
        log.print(
            f"there is no preset band for {model}, so the automatic one holds, {space.band_}: "
            f"{space.band_evidence_['why']}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    return space


def kept_by_table(table: Path) -> Space | None:
    """The space that the table was smoothed in before, if it is kept beside it."""
    from isomix.cli.common import log
    from isomix.store import EmbeddingTable
    from isomix.store.bank import kept_space

    kept = kept_space(EmbeddingTable.open(table))
    if kept is not None:
        log.print(
            f"smoothed in {kept.method} as before; name the --model for IsoCLIP",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    return kept


def space_of_bank(table: Path | None, model: str | None, bank: Path, offline: bool) -> Space:
    """Nested Text PCA; the model, where it is known, encodes sentences and has its cliff cut."""
    from isomix.encoders.lazy import LazyEncoder
    from isomix.store import EmbeddingTable
    from isomix.store.bank import fit_bank, read_bank

    sentences = read_bank(bank)
    made = None if table is None else EmbeddingTable.open(table)
    name = made.metadata.model if model is None and made is not None else model
    lazy = LazyEncoder(name or "", offline=offline, made_by=None if made is None else made.made_by)
    return fit_bank(sentences, lambda: lazy.encoder, lazy.projectors if name else None)
