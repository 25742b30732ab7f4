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
from isomix.projectors import Projectors
from isomix.spaces.band_comparison import WHOLE, Comparison, by_labels, compare, decide
from isomix.spaces.bands import Band
from isomix.spaces.base import Space
from isomix.spaces.gallery_sample import draw_sample, nearest_rows, subsample
from isomix.spaces.operator import InterModalOperator
from isomix.spaces.spectrum import prior_band

__all__ = ["TextPCA"]

CLIFF_SHARE = 5 / 16
"""Share of the width that is kept once the cliff is cut: 160 of 512."""


class TextPCA(Space):
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
        bank = normalize_rows(check_fit_rows(self, X, "text embeddings", min_rows=2), "text embeddings")
        behind = self._behind_the_cliff(bank)
        self.cliff_ = behind.shape[1]
        inside = bank if not self.cliff_ else normalize_rows(bank - (bank @ behind) @ behind.T, "text embeddings")
        directions, self.singular_values_, _ = principal_directions(inside, center=True)
        available = len(directions)
        self.choice_: Comparison | None = None
        if self.n_components is None:
            share = CLIFF_SHARE if self.cliff_ else 0.5
            wanted = min(max(int(share * self.n_features_in_), 1), available)
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

    def _behind_the_cliff(self, bank: Floats) -> Doubles:
        """Left singular vectors of the text projector behind the cliff of its spectrum, shape (d, cliff_)."""
        if self.projectors is None:
            return np.empty((bank.shape[1], 0))
        if not isinstance(self.projectors, Projectors):
            raise InputError(f"projectors: got {type(self.projectors).__name__}, expected isomix.Projectors.")
        operator = InterModalOperator(self.projectors.text_only())
        prior = prior_band(operator.S)
        if prior is None:
            return np.empty((bank.shape[1], 0))
        self.projectors.check_text_embeddings(bank)
        return operator.U[:, operator.rank - prior.k_bottom :]

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

    def describe(self) -> dict[str, Any]:
        """As for every space, with how many directions behind the cliff were cut first."""
        return super().describe() | {"cliff": self.cliff_}

    def _parameters(self) -> dict[str, Any]:
        parameters = {"n_components": self.n_components_, "modality": self.modality}
        if self.projectors is None:
            return parameters
        return parameters | {"cliff": self.cliff_, **self.projectors.text_only().parameters()}

    def _source(self) -> dict[str, Any]:
        if self.projectors is None:
            return {}
        return {"model": self.projectors.source, "text_projector": self.projectors.text_only().fingerprint}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        tensors = {} if self.projectors is None else self.projectors.text_only().tensors()
        return {**tensors, "operator": np.asarray(self.operator_), "singular_values": self.singular_values_}

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        tensors, parameters = document.tensors, document.parameters
        wanted = int(parameters["n_components"])
        shapes: dict[str, tuple[int | str, ...]] = {"operator": (wanted, "d"), "singular_values": ("r",)}
        with_projectors = "cliff" in parameters
        if with_projectors:
            shapes |= Projectors.tensor_shapes(tensors, parameters)
        sizes = expect_tensors(document, path, shapes)
        model = document.source.get("model", "")
        projectors = Projectors.from_tensors(tensors, parameters, model) if with_projectors else None
        space = cls(wanted, projectors=projectors)
        space.choice_, space.cliff_ = None, int(parameters.get("cliff", 0))
        space.operator_ = tensors["operator"]
        space.singular_values_ = tensors["singular_values"]
        space.offset_ = None
        space.n_components_, space.n_features_in_ = wanted, sizes["d"]
        return space
