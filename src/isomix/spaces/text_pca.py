"""Text PCA: project embeddings on the principal directions of text embeddings."""

from __future__ import annotations

import os
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Doubles, Floats, as_matrix, check_integer, working_dtype
from isomix._documents import Document
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.projectors import Projectors
from isomix.spaces.band_comparison import WHOLE, Comparison, by_labels, compare, decide
from isomix.spaces.bands import Band
from isomix.spaces.gallery_sample import draw_sample, nearest_rows, subsample
from isomix.spaces.text_bank import TextBankSpace

__all__ = ["TextPCA"]

CLIFF_SHARE = 5 / 16
"""Share of the width that is kept once the cliff is cut: 160 of 512."""


class TextPCA(TextBankSpace):
    """Principal directions of a bank of text embeddings, as a space for image-image similarity.

    Parameters
    ----------
    n_components : int or "auto", optional
        Directions to keep. Default: half the width of the embeddings, five sixteenths where the cliff was cut first, or
        as many as the bank has if that is fewer. ``"auto"``: chosen from the ``gallery`` given to ``fit``.
    projectors : Projectors, optional
        The model's own; the text projector alone is enough. If its spectrum is that of a trained CLIP, the directions behind
        its cliff (50 of 512 for OpenAI's ViT-B/32) are cut, and the principal directions of the text embeddings are computed
        in what is left. Other spectra change nothing.

    Attributes
    ----------
    operator_ : ndarray of float64, shape (n_components_, d)
        Orthonormal rows.
    singular_values_ : ndarray of float64, shape (r,)
        Of the centred bank, descending.
    n_components_ : int
    cliff_ : int
        How many directions of the text projector were cut first; 0 without ``projectors``.
    choice_ : Comparison or None
        What spoke for an automatic number of components.

    Raises
    ------
    InputError
        On ``fit``: fewer than two sentences, or more components than the bank has directions.
    ModelError
        On ``fit``: there is a cliff to cut, and the text projector is not that of the bank
        (:meth:`isomix.Projectors.check_text_embeddings`).

    Notes
    -----
    Herzog & Wang, *Reevaluating the Intra-Modal Misalignment Hypothesis in CLIP*, CVPR 2026, arXiv 2603.16100: the
    bank is centred, the projected image embeddings are not. Their bank is "a photo of a {name}" for the ImageNet class names.
    Without projectors it works on any stored embedding. The cut of the cliff is this project's: with a bank of 300
    sentences or more it is the best space for image-image similarity that was found on OpenAI's ViT-B/32
    (``docs/bands.md``); fewer sentences gain less.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> sentences, pictures = rng.normal(size=(50, 8)), rng.normal(size=(3, 8))
    >>> TextPCA().fit(sentences).transform(pictures).shape
    (3, 4)
    """

    method = "text-pca"

    def __init__(
        self, n_components: int | Literal["auto"] | None = None, *, projectors: Projectors | None = None
    ) -> None:
        self.n_components = n_components
        self.projectors = projectors

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        gallery: ArrayLike | None = None,
        gallery_labels: ArrayLike | None = None,
    ) -> Self:
        """Learn the directions from text embeddings.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Text embeddings; their rows are normalised first.
        y : ignored
        gallery : array_like, shape (m, d), optional
            Image embeddings from which ``n_components="auto"`` chooses, by mean average precision on a sample of them
            (:mod:`isomix.spaces.band_selection`). Without labels, the nearest sentence of the bank stands in for the label.
        gallery_labels : array_like, shape (m,), optional

        Returns
        -------
        TextPCA
            This object.
        """
        bank, directions = self._directions(X)
        self.choice_: Comparison | None = None
        available = len(directions)
        if self.n_components is None:
            share = CLIFF_SHARE if self.cliff_ else 0.5
            wanted = min(max(int(share * self.n_features_in_), 1), available)
        elif self.n_components == "auto":
            wanted = self._choose(bank, directions, gallery, gallery_labels)
        else:
            wanted = check_integer(self.n_components, "n_components", minimum=1)
        self.operator_ = self._keep(wanted, bank, directions)
        return self

    def _choose(self, bank: Floats, directions: Doubles, gallery: ArrayLike | None, labels: ArrayLike | None) -> int:
        if gallery is None:
            raise InputError("n_components='auto' chooses from image embeddings: give fit(..., gallery=embeddings).")
        array = np.asarray(gallery)
        if labels is None:
            array = subsample(array)
        rows = as_matrix(array, "gallery", width=self.n_features_in_, width_of="the text embeddings", keep_half=True)
        sample = draw_sample(len(array), nearest_rows(rows, bank) if labels is None else labels)
        rows = np.asarray(rows[sample.rows], working_dtype(rows.dtype))
        available = len(directions)
        keep = {max(1, round(available * part)) for part in (*(2.0**-p for p in range(3, 8)), *np.arange(3, 17) / 16)}
        bands = [Band(0, available - k) for k in sorted(keep)]
        # A sentence of its own for every row says nothing, and the whole stays.
        labels = np.arange(len(rows)) if sample.labels is None else sample.labels
        C = normalize_rows(rows) @ directions.T
        self.choice_ = decide(compare(C, np.eye(available), bands, sample.n_queries, by_labels(labels)), WHOLE)
        return available - self.choice_.band.k_bottom

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        space = cls()._read(document, path)
        space.n_components, space.choice_ = space.n_components_, None
        return space
