"""IsoCLIP: similarity within one modality, in the isotropic band of the inter-modal operator."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._affine import AffineMap
from isomix._arrays import Doubles, Floats, check_integer
from isomix._documents import Document, expect_tensors
from isomix._estimators import check_fitted
from isomix.errors import InputError, ModalityError, ModelError
from isomix.projectors import Projectors
from isomix.projectors.side import Side, check_modality
from isomix.spaces.band_selection import automatic_band
from isomix.spaces.bands import Band, check_band, parse_band, preset_band
from isomix.spaces.base import Space
from isomix.spaces.operator import FORMS, InterModalOperator
from isomix.spaces.recognition import find_preset

__all__ = ["IsoCLIP"]

_STOOD_IN = {("text projector alone", "image"), ("image gram", "image")}
"""Form and side for which the operator has something else than the modality's own projector."""


class IsoCLIP(Space):
    """Restrict a projector to the isotropic band of the inter-modal operator.

    Parameters
    ----------
    projectors : Projectors
        The model's image and text projector. The text projector alone is enough for stored embeddings: see Notes.
    band : str or pair of int, default "preset"
        Which singular directions to cut. ``"preset"``: that of the backbone that ``projectors.source`` names or that
        they are a copy of (:mod:`isomix.spaces.recognition`; a guess by the name in ``config.json`` is warned of).
        ``"150/50"`` or ``(150, 50)``: so many of the largest and of the smallest singular values. ``"auto"``: a prior from
        the spectrum, which stored embeddings confirm or refuse and labels or a bank of sentences move; ``band_evidence_``
        says what decided (:mod:`isomix.spaces.band_selection`).
        Another string: the preset band of the backbone of that name, e.g. ``"openai/clip-vit-base-patch32"``.
    modality : {"image", "text"}, default "image"
        Which embeddings are compared with one another. Vectors of an adapted modality must not be compared with the
        other modality: text-to-image search stays in the plain space.
    compact : bool, default True
        Return k numbers a vector, with exactly the same cosines as the d numbers of ``compact=False``.
    image_gram : array_like, shape (d, d), optional
        G = W_image W_imageᵀ, symmetric and positive definite, to be used instead of the image projector.

    Attributes
    ----------
    singular_values_ : ndarray of float64, shape (r,)
        Of Psi = W_imageᵀ W_text, descending.
    rank_ : int
        r, the numerical rank of Psi.
    band_ : Band
        The (k_top, k_bottom) used.
    band_source_ : {"given", "preset", "labels", "sentences", "embeddings", "spectrum"}
        What decided the band.
    preset_of_ : str
        What a copy was recognised as, and by what; empty for anything else.
    band_evidence_ : dict or None
        Of ``band="auto"``: what was decided and why, as a few JSON values; saved with the space.
    directions_ : ndarray of float64, shape (d_in, r - k_top - k_bottom)
        U_k: the kept singular directions of the pre-projection features of this modality; without the image projector,
        of the embeddings.
    form_ : {"exact", "text projector alone", "image gram"}
        What the operator was made from.
    operator_ : ndarray of float64, shape (n_components_, d), or None
        Maps stored embeddings; None when the head has a bias.
    feature_operator_ : ndarray of float64, shape (n_components_, d_in), or None
        Maps pre-projection features (with a 1 appended when the head has a bias); None for a side without a projector.
    n_components_ : int
        Width of the result.

    Raises
    ------
    BandError
        On ``fit``: no direction would be left, or there is no preset band.

    Notes
    -----
    With Psi = U S Vᵀ and U_k the columns of the band, the adapted projector is W' = W U_k U_kᵀ (Magistri et al.,
    *IsoCLIP*, CVPR 2026, arXiv 2603.19862). Three consequences are this project's:

    * U_k lies in the row space of W, so a stored embedding e = W h / ‖W h‖ is adapted by A = W' W⁺ alone: no picture is
      encoded again.
    * With the QR decomposition W U_k = Q R, the k-vector R U_kᵀ h has the same inner products as the d-vector W' h.
    * Psi is never formed: its decomposition needs only a d x d one (:mod:`isomix.spaces.operator`).
    * A = G W_t V_k S_k⁻² V_kᵀ W_tᵀ with G = W_image W_imageᵀ, so stored embeddings need the image projector through G
      alone. If its rows are nearly orthogonal, G ∝ I, and A is the orthogonal projection on the middle *left singular
      vectors of the text projector*: with ``Projectors(text=W)`` that is what is used, for images and texts alike. It is
      also how models whose image head is no matrix (SigLIP) are adapted. ``docs/bands.md`` has what it gives.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> projectors = Projectors(rng.normal(size=(8, 12)), rng.normal(size=(8, 10)))
    >>> iso = IsoCLIP(projectors, band="2/1").fit()
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
        band: str | tuple[int, int] = "preset",
        *,
        modality: str = "image",
        compact: bool = True,
        image_gram: ArrayLike | None = None,
    ) -> None:
        self.projectors = projectors
        self.band = band
        self.modality = modality
        self.compact = compact
        self.image_gram = image_gram

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
            Embeddings of the other modality, such as a few hundred sentences: without labels, embeddings that mean the
            same of them are relevant to each other.

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
        check_modality(self.modality)
        operator = InterModalOperator(self.projectors, self.image_gram)
        self.singular_values_, self.rank_ = operator.S, operator.rank
        self.form_ = operator.form
        # With the identity for the image side, image and text embeddings have the same directions.
        modality = "image" if self.form_ == "text projector alone" else self.modality
        self.preset_of_ = ""
        self.band_source_, self.band_evidence_, self.band_ = self._resolve_band(operator, X, y, bank)
        kept = self.band_.kept(self.rank_)
        self.directions_ = np.ascontiguousarray(operator.directions(modality)[:, kept])
        left = self._left(operator.projected(modality, kept))
        has_bias = operator.side(modality).bias is not None
        self.operator_ = None if has_bias else left @ operator.coordinate_map(modality, kept)
        self.feature_operator_: Doubles | None = left @ self.directions_.T
        if self.operator_ is not None and (self.form_, modality) in _STOOD_IN:
            side = self._side()
            self.feature_operator_ = None if side is None else self.operator_ @ side.affine
        self.offset_ = None
        self.n_components_, self.n_features_in_ = int(left.shape[0]), self.projectors.embedding_dim
        return self

    def _resolve_band(
        self, operator: InterModalOperator, X: ArrayLike | None, y: ArrayLike | None, bank: ArrayLike | None
    ) -> tuple[str, dict[str, Any] | None, Band]:
        band = parse_band(self.band)
        if isinstance(band, Band):
            return "given", None, check_band(band, operator.rank)
        if band == "auto":
            choice = automatic_band(operator, X, y, self.modality, bank)
            return choice.source, choice.to_dict(), choice.band
        preset = find_preset(self.projectors, self.modality) if band == "preset" else None
        if preset is not None:
            self.preset_of_ = preset.recognised(self.projectors.source)
            return "preset", None, check_band(preset.band, operator.rank)
        name = self.projectors.source if band == "preset" else band
        return "preset", None, check_band(preset_band(name, self.modality), operator.rank)

    def _left(self, projected: Doubles) -> Doubles:
        """What stands before U_kᵀ: W U_k, or R of W U_k = Q R, which has the same inner products in k numbers."""
        if not self.compact:
            return projected
        import scipy.linalg

        R = scipy.linalg.qr(projected, mode="economic")[1]
        return np.asarray(R * np.where(np.diag(R) < 0, -1.0, 1.0)[:, None])

    def _side(self) -> Side | None:
        """The modality's own projector; None where there is only something that stands in for it."""
        missing = self.modality == "image" and self.projectors.image is None
        return None if missing else self.projectors.side(self.modality)

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
        rows = self.projectors.side(self.modality).features(features)
        return self._feature_map()(rows, name="features")

    def _feature_map(self) -> AffineMap:
        side, operator = self.projectors.side(self.modality), self.feature_operator_
        if operator is None or side.bias is None:
            return AffineMap(np.asarray(operator))
        return AffineMap(operator[:, :-1], operator[:, -1])  # a 1 is appended to the feature

    def folded_projectors(self) -> Projectors:
        """The projector pair with this modality's projector replaced by W' = W U_k U_kᵀ, shape (d, d_in).

        Put into the model, it returns adapted embeddings of this modality at the cost of the plain ones.

        Raises
        ------
        ModelError
            The head has a bias.
        """
        check_fitted(self)
        if self.form_ != "exact":
            raise ModelError(
                f"this space was made from the {self.form_}: it has no projector W' to put into a model. Read both "
                "projectors with Projectors.from_pretrained(...), or put to_torch() behind the model's embeddings."
            )
        side = self.projectors.side(self.modality)
        if side.bias is not None:
            raise ModelError(
                f"{self.projectors.why_not_linear(self.modality)} and cannot be folded into one matrix. Put "
                "to_torch('features') behind the model's pre-projection features instead."
            )
        folded = ((side.weight @ self.directions_) @ self.directions_.T).astype(side.weight.dtype)
        return self.projectors.replace(**{self.modality: folded})

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

        fold_into(model, self)

    def unfold(self, model: Any) -> None:
        """Undo :meth:`fold_into`: the model's projector is again what it was, bit for bit.

        Works on a folded model that was saved and loaded, too.

        Raises
        ------
        ModelError
            The model is not folded with this space.
        """
        from isomix.exports.folding import unfold

        unfold(model, self)

    def check_modality(self, modality: str) -> None:
        """Refuse vectors of the other modality.

        Raises
        ------
        ModalityError
        """
        if modality != self.modality:
            raise ModalityError(
                f"this space was made for {self.modality}-{self.modality} similarity and got {modality} embeddings. "
                "Text-to-image search uses the plain embeddings on both sides."
            )

    def describe(self) -> dict[str, Any]:
        """As for every space, with what the band cuts, ``{"k_top": 150, "k_bottom": 50, "of": 512}``, and ``form``."""
        return super().describe() | {"band": self.band_.to_dict(self.rank_), "form": self.form_}

    def _parameters(self) -> dict[str, Any]:
        return {
            "k_top": self.band_.k_top,
            "k_bottom": self.band_.k_bottom,
            "modality": self.modality,
            "compact": bool(self.compact),
            "rank": self.rank_,
            "band_source": self.band_source_,
            "form": self.form_,
            **({"preset_of": self.preset_of_} if self.preset_of_ else {}),
            **({} if self.band_evidence_ is None else {"band_evidence": self.band_evidence_}),
            **self.projectors.parameters(),
        }

    def _source(self) -> dict[str, Any]:
        part = "text_projector" if self.projectors.image is None else "projectors"
        return {"model": self.projectors.source, part: self.projectors.fingerprint}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        tensors = {
            **self.projectors.tensors(),
            "singular_values": self.singular_values_,
            "directions": self.directions_,
        }
        optional = {"operator": self.operator_, "feature_operator": self.feature_operator_}
        if self.form_ == "image gram":
            optional["image_gram"] = np.asarray(self.image_gram, np.float64)
        return tensors | {name: tensor for name, tensor in optional.items() if tensor is not None}

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        tensors, parameters = document.tensors, document.parameters
        modality, form = parameters["modality"], parameters.get("form", "exact")  # not said by isomix 0.1
        check_modality(modality)
        band = Band(*(check_integer(parameters[name], name) for name in ("k_top", "k_bottom")))
        if form not in FORMS:
            raise ValueError(f"form {form!r} is none of {', '.join(FORMS)}")
        biased = f"{modality}_bias" in tensors
        inner = "d_in" if biased else f"d_{modality}"
        alone, no_features = form == FORMS[1], modality == "image" and bool(parameters.get("text_only"))
        stood_in = (form, "image" if alone else modality) in _STOOD_IN
        shapes: dict[str, tuple[int | str, ...]] = {
            **Projectors.tensor_shapes(tensors, parameters),
            "singular_values": (int(parameters["rank"]),),
            "directions": ("d" if stood_in else inner, int(parameters["rank"]) - band.k_top - band.k_bottom),
        }
        if not no_features:
            shapes["feature_operator"] = ("k", inner)
        if stood_in or not biased:
            shapes["operator"] = ("k", "d")
        if form == "image gram":
            shapes["image_gram"] = ("d", "d")
        sizes = expect_tensors(document, path, shapes)
        space = cls(
            Projectors.from_tensors(tensors, parameters, document.source.get("model", "")),
            band=(band.k_top, band.k_bottom),
            modality=modality,
            compact=parameters["compact"],
            image_gram=tensors.get("image_gram"),
        )
        space.form_ = form
        space.singular_values_ = tensors["singular_values"]
        space.rank_ = int(parameters["rank"])
        space.band_ = check_band(band, space.rank_)
        space.directions_ = tensors["directions"]
        space.feature_operator_ = tensors.get("feature_operator")
        space.operator_ = tensors.get("operator")
        space.offset_ = None
        source = parameters["band_source"]
        space.band_source_ = {"published": "preset"}.get(source, source)
        space.preset_of_ = str(parameters.get("preset_of", ""))
        space.band_evidence_ = parameters.get("band_evidence")
        space.n_components_, space.n_features_in_ = sizes["k"], sizes["d"]
        return space
