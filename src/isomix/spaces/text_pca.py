"""Text PCA: project embeddings on the principal directions of text embeddings."""

from __future__ import annotations

import os
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, Floats, as_matrix, check_integer, working_dtype
from isomix._documents import Document, expect_tensors
from isomix._estimators import check_fit_rows
from isomix.errors import InputError
from isomix.linalg import normalize_rows, principal_directions
from isomix.spaces.band_selection import Choice, choose, draw_sample, nearest_rows, subsample
from isomix.spaces.bands import Band
from isomix.spaces.base import Space

__all__ = ["TextPCA"]


class TextPCA(Space):
    """Principal directions of a bank of text embeddings, as a space for image-image similarity.

    Parameters
    ----------
    n_components : int or "auto", optional
        Directions to keep. Default: half the width of the embeddings, or as many as the bank has if that is fewer.
        ``"auto"``: chosen from the ``gallery`` given to ``fit``.

    Attributes
    ----------
    operator_ : ndarray of float64, shape (n_components_, d)
        Orthonormal rows.
    singular_values_ : ndarray of float64, shape (r,)
        Of the centred bank, descending.
    n_components_ : int
    choice_ : Choice or None
        What spoke for an automatic number of components.

    Raises
    ------
    InputError
        On ``fit``: fewer than two sentences, or more components than the bank has directions.

    Notes
    -----
    Herzog & Wang, *Reevaluating the Intra-Modal Misalignment Hypothesis in CLIP*, CVPR 2026, arXiv 2603.16100: the
    bank is centred, the projected image embeddings are not. Their bank is "a photo of a {name}" for the ImageNet class names.
    It needs no projectors, so it works on any stored embedding.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> sentences, pictures = rng.normal(size=(50, 8)), rng.normal(size=(3, 8))
    >>> TextPCA().fit(sentences).transform(pictures).shape
    (3, 4)
    """

    method = "text-pca"

    def __init__(self, n_components: int | Literal["auto"] | None = None) -> None:
        self.n_components = n_components

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
        bank = normalize_rows(check_fit_rows(self, X, "text embeddings", min_rows=2), "text embeddings")
        directions, self.singular_values_, _ = principal_directions(bank, center=True)
        available = len(directions)
        self.choice_: Choice | None = None
        if self.n_components is None:
            wanted = min(max(self.n_features_in_ // 2, 1), available)
        elif self.n_components == "auto":
            wanted = self._choose(bank, directions, gallery, gallery_labels)
        else:
            wanted = check_integer(self.n_components, "n_components", minimum=1)
        if not 1 <= wanted <= available:
            raise InputError(
                f"n_components: got {wanted}, but the centred bank of {len(bank)} sentences with {bank.shape[1]} feature(s) "
                f"has only {available} directions. Use a larger bank or fewer components."
            )
        self.operator_ = directions[:wanted]
        self.offset_ = None
        self.n_components_ = wanted
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
        self.choice_ = choose(normalize_rows(rows) @ directions.T, np.eye(available), sample, bands)
        return available - self.choice_.band.k_bottom

    def _parameters(self) -> dict[str, Any]:
        return {"n_components": self.n_components_, "modality": self.modality}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {"operator": np.asarray(self.operator_), "singular_values": self.singular_values_}

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        wanted = int(document.parameters["n_components"])
        sizes = expect_tensors(document, path, {"operator": (wanted, "d"), "singular_values": ("r",)})
        space = cls(wanted)
        space.choice_ = None
        space.operator_ = document.tensors["operator"]
        space.singular_values_ = document.tensors["singular_values"]
        space.offset_ = None
        space.n_components_, space.n_features_in_ = wanted, sizes["d"]
        return space
