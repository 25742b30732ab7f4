"""IsoCLIP: similarity within one modality, in the isotropic band of the inter-modal operator."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, Floats, as_matrix
from isomix._documents import Document, expect_tensors
from isomix._estimators import check_fitted
from isomix.errors import BandError, InputError, ModalityError, ModelError
from isomix.linalg import ProductSVD, coordinate_map
from isomix.projectors import Projectors
from isomix.spaces.band_selection import Choice, automatic_band
from isomix.spaces.bands import Band, check_band, published_band
from isomix.spaces.base import Space, apply_map
from isomix.spaces.spectrum import affine_weights, decompose

__all__ = ["IsoCLIP"]


class IsoCLIP(Space):
    """Restrict a projector to the isotropic band of the inter-modal operator.

    Parameters
    ----------
    projectors : Projectors
        The model's image and text projector.
    k_top, k_bottom : int, optional
        Singular directions to leave out at either end. Given together, they override ``band``.
    band : {"preset", "auto"} or str, default "preset"
        ``"preset"``: the published band of the backbone that ``projectors.source`` names. ``"auto"``: chosen in ``fit``
        from labelled embeddings (mean average precision), from unlabelled ones and a bank of sentences (the nearest
        sentence for a label), or from the spectrum: what stands out at its top is cut, if unlabelled embeddings, where
        there are any, do not speak against it (neighbour contrast). ``band_evidence_`` holds what speaks for it.
        Another string: the published band of the backbone of that name, e.g. ``"openai/clip-vit-base-patch32"``.
    modality : {"image", "text"}, default "image"
        Which embeddings are compared with one another. Vectors of an adapted modality must not be compared with the
        other modality: text-to-image search stays in the original space.
    compact : bool, default True
        Return k numbers a vector, with exactly the same cosines as the d numbers of ``compact=False``.

    Attributes
    ----------
    singular_values_ : ndarray of float64, shape (r,)
        Of Psi = W_imageᵀ W_text, descending.
    rank_ : int
        r, the numerical rank of Psi.
    band_ : Band
        The (k_top, k_bottom) used.
    band_source_ : {"given", "published", "labels", "sentences", "embeddings", "spectrum"}
        What decided the band.
    band_evidence_ : Choice or None
        Scores behind a band chosen from embeddings (:class:`isomix.spaces.band_selection.Choice`).
    directions_ : ndarray of float64, shape (d_in, r - k_top - k_bottom)
        U_k: the kept singular directions of the pre-projection features of this modality.
    operator_ : ndarray of float64, shape (n_components_, d), or None
        Maps stored embeddings; None when the head has a bias.
    feature_operator_ : ndarray of float64, shape (n_components_, d_in)
        Maps pre-projection features (with a 1 appended when the head has a bias).
    n_components_ : int
        Width of the result.

    Raises
    ------
    BandError
        On ``fit``: no direction would be left, or no band is published.

    Notes
    -----
    With Psi = U S Vᵀ and U_k the columns of the band, the adapted projector is W' = W U_k U_kᵀ (Magistri et al.,
    *IsoCLIP*, CVPR 2026, arXiv 2603.19862). Three consequences are this project's:

    * U_k lies in the row space of W, so a stored embedding e = W h / ‖W h‖ is adapted by A = W' W⁺ alone: no picture is
      encoded again.
    * With the QR decomposition W U_k = Q R, the k-vector R U_kᵀ h has the same inner products as the d-vector W' h.
    * Psi is never formed: its decomposition needs only a d x d one (:func:`isomix.linalg.svd_of_product`).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> projectors = Projectors(rng.normal(size=(8, 12)), rng.normal(size=(8, 10)))
    >>> iso = IsoCLIP(projectors, k_top=2, k_bottom=1).fit()
    >>> iso.rank_, iso.n_components_
    (8, 5)
    >>> features = rng.normal(size=(3, 12))
    >>> stored = projectors.project_image(features)
    >>> bool(np.allclose(iso.transform(stored), iso.transform_features(features)))
    True
    """

    method = "isoclip"

    def __init__(
        self,
        projectors: Projectors,
        *,
        k_top: int | None = None,
        k_bottom: int | None = None,
        band: str = "preset",
        modality: str = "image",
        compact: bool = True,
    ) -> None:
        self.projectors = projectors
        self.k_top = k_top
        self.k_bottom = k_bottom
        self.band = band
        self.modality = modality
        self.compact = compact

    def fit(self, X: ArrayLike | None = None, y: ArrayLike | None = None, *, bank: ArrayLike | None = None) -> Self:
        """Decompose the operator and keep the band.

        Parameters
        ----------
        X : array_like, shape (n, d), optional
            Looked at with ``band="auto"`` only: a sample of stored embeddings (pre-projection features, shape (n, d_in),
            for a head with a bias), 50 at least, a few hundred are enough.
        y : array_like, shape (n,), optional
            Their labels, if there are any.
        bank : array_like, shape (m, d), optional
            Embeddings of the other modality, such as a few hundred sentences: without labels, the nearest of them stands
            in for the label. Better than nothing at all (``docs/bands.md``).

        Returns
        -------
        IsoCLIP
            This object.
        """
        if not isinstance(self.projectors, Projectors):
            raise InputError(
                f"projectors: got {type(self.projectors).__name__}, expected isomix.Projectors "
                "(see Projectors.from_pretrained)."
            )
        if self.modality not in ("image", "text"):
            raise InputError(f"modality: got {self.modality!r}, expected 'image' or 'text'.")
        decomposition = decompose(self.projectors)
        self.singular_values_ = decomposition.S
        self.rank_ = len(self.singular_values_)
        self.band_source_, self.band_evidence_, self.band_ = self._resolve_band(X, y, bank, decomposition)
        directions = decomposition.U if self.modality == "image" else decomposition.V
        self.directions_ = np.ascontiguousarray(directions[:, self.band_.k_top : self.rank_ - self.band_.k_bottom])
        self.offset_ = None
        self.n_features_in_ = self.projectors.embedding_dim
        weight = affine_weights(self.projectors)[0 if self.modality == "image" else 1]
        self._set_operators(np.asarray(weight, np.float64))
        return self

    def _resolve_band(
        self, X: ArrayLike | None, y: ArrayLike | None, bank: ArrayLike | None, decomposition: ProductSVD
    ) -> tuple[str, Choice | None, Band]:
        if (self.k_top is None) != (self.k_bottom is None):
            raise BandError(
                f"got k_top={self.k_top} and k_bottom={self.k_bottom}: give both, or neither for the published band."
            )
        if self.k_top is not None and self.k_bottom is not None:
            return "given", None, check_band(self.k_top, self.k_bottom, self.rank_)
        if self.band == "auto":
            return automatic_band(self.projectors, decomposition, X, y, self.modality, bank)
        name = self.projectors.source if self.band == "preset" else self.band
        return "published", None, check_band(*published_band(name, self.modality), self.rank_)

    def _set_operators(self, weight: Doubles) -> None:
        projected = weight @ self.directions_
        if self.compact:
            _, R = scipy.linalg.qr(projected, mode="economic")
            left = R * np.where(np.diag(R) < 0, -1.0, 1.0)[:, None]
        else:
            left = projected
        self.feature_operator_ = left @ self.directions_.T
        self.n_components_ = int(left.shape[0])
        # U_kᵀ W⁺ is the left inverse of W U_k on the embedding's own subspace.
        has_bias = self._bias() is not None
        self.operator_ = None if has_bias else left @ coordinate_map(weight, self.directions_)

    def _bias(self) -> Floats | None:
        return self.projectors.image_bias if self.modality == "image" else self.projectors.text_bias

    def _operator(self) -> Doubles:
        if self.operator_ is None:
            raise ModelError(
                f"{self.projectors.why_not_linear(self.modality)}, so stored embeddings do not determine the adapted "
                "ones. Encode again and use transform_features on the pre-projection features, or map the stored ones "
                "with TextPCA."
            )
        return self.operator_

    def transform_features(self, features: ArrayLike) -> Floats:
        """Map pre-projection features to the same vectors that ``transform`` gives for their embeddings.

        Parameters
        ----------
        features : array_like, shape (n, d_in)
            d_image or d_text wide, according to ``modality``.

        Returns
        -------
        ndarray, shape (n, n_components_)
            Unit rows; float64 if float64 came in, else float32.

        Raises
        ------
        InputError, NotFittedError
        """
        check_fitted(self)
        weight = self.projectors.image if self.modality == "image" else self.projectors.text
        width = weight.shape[1]
        H = as_matrix(
            features, f"{self.modality} features", width=width, width_of=f"the {self.modality} projector's input"
        )
        if self._bias() is None:
            return apply_map(H, self.feature_operator_, None, "features")
        return apply_map(_with_ones(H), self.feature_operator_, None, "features")

    def folded_projectors(self) -> Projectors:
        """The projector pair with this modality's projector replaced by W' = W U_k U_kᵀ, shape (d, d_in).

        Put into the model, it returns adapted embeddings of this modality at the cost of the plain ones.

        Raises
        ------
        ModelError
            The head has a bias.
        """
        check_fitted(self)
        pair = self.projectors
        if self._bias() is not None:
            raise ModelError(
                f"{self.projectors.why_not_linear(self.modality)} and cannot be folded into one matrix. Put "
                "to_torch('features') behind the model's pre-projection features instead."
            )
        image = self.modality == "image"
        weight = pair.image if image else pair.text
        folded = ((weight @ self.directions_) @ self.directions_.T).astype(weight.dtype)
        return Projectors(
            folded if image else pair.image,
            pair.text if image else folded,
            image_bias=pair.image_bias,
            text_bias=pair.text_bias,
            logit_scale=pair.logit_scale,
            source=pair.source,
            linearised_at=pair.linearised_at,
        )

    def fold_into(self, model: Any) -> None:
        """Put W' = W U_k U_kᵀ in the place of a model's projector, so that it returns adapted embeddings at no cost.

        They are the vectors of ``compact=False`` before normalisation: as wide as the plain ones, with the cosines of
        ``transform``. The other modality's projector stays, so text and image embeddings must not be compared any more.

        Parameters
        ----------
        model : transformers CLIP, open_clip model or isomix Encoder
            Changed in place, in its own dtype and on its own device. A transformers tower ``…WithProjection`` will do.
            An Encoder gets another fingerprint too; its torch model, if it has one, is left alone.

        Raises
        ------
        ModelError
            Its projector is not exactly this space's (another model, a rounded copy, a transposed one), it is folded
            already, it has a bias, or no projector is found.

        Examples
        --------
        >>> import isomix
        >>> encoder = isomix.load_encoder("embedded")
        >>> iso = isomix.IsoCLIP(encoder.projectors).fit()
        >>> iso.fold_into(encoder)  # encoder.encode_image now gives adapted embeddings
        >>> iso.unfold(encoder)
        """
        from isomix.exports.folding import fold_into

        fold_into(self, model)

    def unfold(self, model: Any) -> None:
        """Undo :meth:`fold_into`: the model's projector is again what it was, bit for bit.

        Works on a folded model that was saved and loaded, too.

        Raises
        ------
        ModelError
            The model is not folded with this space.
        """
        from isomix.exports.folding import unfold

        unfold(self, model)

    def check_modality(self, modality: str) -> None:
        """Refuse vectors of the other modality.

        Raises
        ------
        ModalityError
        """
        if modality != self.modality:
            raise ModalityError(
                f"this space was made for {self.modality}-{self.modality} similarity and got {modality} embeddings. "
                "Text-to-image search uses the original embeddings on both sides."
            )

    def _parameters(self) -> dict[str, Any]:
        return {
            "k_top": self.band_.k_top,
            "k_bottom": self.band_.k_bottom,
            "modality": self.modality,
            "compact": bool(self.compact),
            "rank": self.rank_,
            "band_source": self.band_source_,
            **self.projectors.parameters(),
        }

    def _source(self) -> dict[str, Any]:
        return {"model": self.projectors.source, "projectors": self.projectors.fingerprint}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        tensors = {
            **self.projectors.tensors(),
            "singular_values": self.singular_values_,
            "directions": self.directions_,
            "feature_operator": self.feature_operator_,
        }
        if self.operator_ is not None:
            tensors["operator"] = self.operator_
        return tensors

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        tensors, parameters = document.tensors, document.parameters
        modality = parameters["modality"]
        biased = f"{modality}_bias" in tensors
        inner = "d_image" if modality == "image" else "d_text"
        if biased:
            inner = "d_in"
        shapes: dict[str, tuple[int | str, ...]] = {
            **Projectors.tensor_shapes(tensors),
            "singular_values": (int(parameters["rank"]),),
            "directions": (inner, int(parameters["rank"]) - parameters["k_top"] - parameters["k_bottom"]),
            "feature_operator": ("k", inner),
        }
        if not biased:
            shapes["operator"] = ("k", "d")
        sizes = expect_tensors(document, path, shapes)
        pair = Projectors.from_tensors(tensors, parameters, document.source.get("model", ""))
        space = cls(
            pair,
            k_top=parameters["k_top"],
            k_bottom=parameters["k_bottom"],
            modality=modality,
            compact=parameters["compact"],
        )
        space.singular_values_ = tensors["singular_values"]
        space.rank_ = int(parameters["rank"])
        space.band_ = check_band(parameters["k_top"], parameters["k_bottom"], space.rank_)
        space.directions_ = tensors["directions"]
        space.feature_operator_ = tensors["feature_operator"]
        space.operator_ = tensors.get("operator")
        space.offset_ = None
        space.band_source_, space.band_evidence_ = parameters["band_source"], None
        space.n_components_ = sizes["k"]
        space.n_features_in_ = sizes["d"]
        return space


def _with_ones(features: Floats) -> Floats:
    return np.concatenate([features, np.ones((len(features), 1), features.dtype)], axis=1)
