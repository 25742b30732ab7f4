"""The spaces that a table is searched in: how each is made, which one holds where none is named, and what is said of it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from isomix.encoders.lazy import LazyEncoder
from isomix.errors import MissingExtraError, ModelError
from isomix.store.bank import Bank, embed_bank, fit_bank, kept_space
from isomix.store.table import EmbeddingTable, space_beside

if TYPE_CHECKING:
    from isomix.spaces import IsoCLIP, NestedTextPCA, Space, TextPCA

__all__ = ["SPACE_NAMES", "TableSpaces"]

SPACE_NAMES = ("auto", "plain", "isoclip", "text-pca", "nested-text-pca")


class TableSpaces:
    """Spaces of one table, each fitted when it is first needed.

    Parameters
    ----------
    table : EmbeddingTable
    model : LazyEncoder
        That of the table.
    band : str or pair of int
        Of ``isoclip``.
    sentences : sequence of str or ndarray, optional
        Bank of ``text-pca`` and ``nested-text-pca``.
    """

    def __init__(
        self, table: EmbeddingTable, model: LazyEncoder, band: str | tuple[int, int], sentences: Bank | None
    ) -> None:
        self.table, self.model, self.band, self.sentences = table, model, band, sentences

    def fitted(self, name: str) -> Space:
        """A space by its name."""
        if self.kept is not None and name == self.kept.method and self.sentences is None:
            return self.kept
        if name == "isoclip":
            return self.isoclip
        return self.text_pca if name == "text-pca" else self.nested_text_pca

    @cached_property
    def kept(self) -> Space | None:
        """The space that the table was smoothed in and that is kept beside it."""
        return kept_space(self.table)

    @cached_property
    def isoclip(self) -> IsoCLIP:
        """IsoCLIP; of the model, two tensors are read."""
        from isomix.spaces.defaults import fit_isoclip
        from isomix.store.formats.base import SAMPLE_ROWS, first_rows

        pair, made = self.model.projectors, self.table.metadata
        return fit_isoclip(
            pair if pair.image_bias is None else pair.text_only(),
            self.band,
            lambda: first_rows(self.table.iter_embeddings(), SAMPLE_ROWS, made.embedding_dim),
            backbone=made.model,
        )

    @cached_property
    def text_pca(self) -> TextPCA:
        """Text PCA of the bank."""
        from isomix.spaces import TextPCA

        bank = embed_bank(self.sentences, lambda: self.model.encoder)
        return TextPCA(projectors=self.model.projectors).fit(bank)

    @cached_property
    def nested_text_pca(self) -> NestedTextPCA:
        """Nested Text PCA of the bank."""
        return fit_bank(self.sentences, lambda: self.model.encoder, self.model.projectors)

    def default(self) -> tuple[str, str]:
        """The space of pictures where none is named, and why.

        With a bank of sentences Nested Text PCA; else the space kept beside the table, unless a band was asked for; else
        IsoCLIP, or the plain space where the model has no preset band and the automatic one cuts nothing.
        """
        if self.sentences is not None:
            return "nested-text-pca", self.note("nested-text-pca")
        if self.band == "preset" and self.kept is not None:
            kept = f"kept in {space_beside(self.table.path).name}"
            return self.kept.method, "; ".join(each for each in (self.note(self.kept.method), kept) if each)
        problem = self._no_isoclip()
        return ("plain", problem) if problem else ("isoclip", self.note("isoclip"))

    def _no_isoclip(self) -> str:
        """Why image queries stay in the plain space by default; empty when they do not."""
        from isomix.spaces.bands import has_preset

        if self.band != "preset" or has_preset(self.table.metadata.model):
            return ""
        none = "there is no preset band for this model"
        try:
            fitted = self.isoclip
        except (ModelError, MissingExtraError) as error:
            return f"{none}, and its projectors cannot be read for an automatic one ({error})"
        plain = fitted.band_source_ != "preset" and fitted.band_ == (0, 0)
        return f"{none}, and the automatic one cuts nothing" if plain else ""

    def note(self, name: str) -> str:
        """Band or width of a space, in words."""
        if name == "isoclip":
            source = self.isoclip.band_source_
            chosen = source if self.isoclip.band_evidence_ is None else f"automatic, from the {source}"
            if self.isoclip.preset_of_:
                chosen = f"preset of {self.isoclip.preset_of_}"
            elif self.band == "preset" and source != "preset":
                chosen = f"no preset, so {chosen}"
            made_from = "" if self.isoclip.form_ == "exact" else f", from the {self.isoclip.form_}"
            return f"{self.isoclip.band_.words(self.isoclip.rank_)}, {chosen}{made_from}"
        if name == "plain":
            return ""
        described = self.fitted(name).describe()
        cliff = described.get("cliff")
        cut = f", {cliff} directions behind the cliff cut" if cliff else ""
        sizes = described["parameters"].get("sizes")
        if sizes:
            return f"Nested Text PCA, {', '.join(map(str, sizes))} directions{cut}"
        if name == "text-pca":
            return f"Text PCA, {described['n_components']} directions{cut}"
        return f"{described['n_components']} numbers"
