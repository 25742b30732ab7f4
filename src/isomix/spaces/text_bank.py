"""What the spaces of a bank of text embeddings share: its principal directions, behind the cliff of the projector."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, Floats
from isomix._documents import Document, expect_tensors
from isomix._estimators import check_fit_rows
from isomix.errors import InputError
from isomix.linalg import normalize_rows, principal_directions
from isomix.projectors import Projectors
from isomix.spaces.base import Space
from isomix.spaces.operator import InterModalOperator
from isomix.spaces.spectrum import prior_band

__all__ = ["TextBankSpace"]


class TextBankSpace(Space):
    """A space along principal directions of a bank of text embeddings.

    Attributes
    ----------
    projectors : Projectors or None
    singular_values_ : ndarray of float64, shape (r,)
        Of the centred bank, descending.
    cliff_ : int
        How many directions of the text projector were cut first; 0 without ``projectors``.
    """

    projectors: Projectors | None

    def _directions(self, X: ArrayLike) -> tuple[Floats, Doubles]:
        """The bank as unit rows, and all its principal directions, shape (r, d), in what the cut of the cliff leaves."""
        bank = normalize_rows(check_fit_rows(self, X, "text embeddings", min_rows=2), "text embeddings")
        behind = self._behind_the_cliff(bank)
        self.cliff_ = behind.shape[1]
        inside = bank if not self.cliff_ else normalize_rows(bank - (bank @ behind) @ behind.T, "text embeddings")
        directions, self.singular_values_, _ = principal_directions(inside, center=True)
        return bank, directions

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

    def _keep(self, wanted: int, bank: Floats, directions: Doubles) -> Doubles:
        """The first directions; :class:`InputError` where the bank has not so many."""
        available = len(directions)
        if not 1 <= wanted <= available:
            raise InputError(
                f"n_components: got {wanted}, but the centred bank of {len(bank)} sentences with {bank.shape[1]} feature(s) "
                f"has only {available} directions. Use a larger bank or fewer components."
            )
        self.n_components_, self.offset_ = wanted, None
        return directions[:wanted]

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

    def _read(self, document: Document, path: str | os.PathLike[str]) -> Self:
        """Take over what ``_tensors`` and ``_parameters`` say."""
        tensors, parameters = document.tensors, document.parameters
        self.n_components_ = int(parameters["n_components"])
        shapes: dict[str, tuple[int | str, ...]] = {"operator": (self.n_components_, "d"), "singular_values": ("r",)}
        with_projectors = "cliff" in parameters
        if with_projectors:
            shapes |= Projectors.tensor_shapes(tensors, parameters)
        self.n_features_in_ = expect_tensors(document, path, shapes)["d"]
        model = document.source.get("model", "")
        self.projectors = Projectors.from_tensors(tensors, parameters, model) if with_projectors else None
        self.cliff_ = int(parameters.get("cliff", 0))
        self.operator_, self.offset_ = tensors["operator"], None
        self.singular_values_ = tensors["singular_values"]
        return self
