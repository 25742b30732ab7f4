"""The family of Project and Mix: a mix of prototypes plus a discriminant, one matrix product at prediction.

Every member is this one class with some of its parts fixed, so that they share the choice of weights and the leave-one-out.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from isomix._arrays import Doubles, Floats, check_integer
from isomix.errors import InputError, IsomixWarning
from isomix.fewshot.base import FewShotClassifier
from isomix.fewshot.held_out import SAMPLED_ROWS, HeldOut, brier_score, coordinate_search
from isomix.fewshot.inputs import check_number
from isomix.fewshot.leave_one_out import discriminant_without
from isomix.fewshot.mixing import (
    PRIOR_SHOTS,
    MixedCosines,
    TextDirections,
    mean_shots,
    mix,
    mixing_weight_of,
    prior_shots_of,
)
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.shrinkage import check_shrinkage, precision_times
from isomix.linalg import normalize_rows

__all__ = ["LinearFewShot", "balancing_weight", "discriminant"]

PRIOR_SHOTS_GRID = tuple(PRIOR_SHOTS * 2.0 ** (j / 2) for j in range(-8, 9))
DIRECTIONS_GRID = (0.5, 0.7, 1.0, 1.4, 2.0, np.inf)
ENSEMBLE_GRID = (0.0, *(2.0**j for j in range(-7, 5)))


def discriminant(moments: ClassMoments, means: Doubles, shrinkage: str | float) -> tuple[Doubles, Doubles]:
    """Coefficients (C, d) and intercepts (C,) of linear discriminant analysis with equal priors.

    W_c = Sigma^-1 (mu_c - g), b_c = -½ (mu_c + g)ᵀ W_c with g the mean of ``means``: the textbook's logits less a constant of
    each row, which no decision or probability sees, and which would cost half precision its digits.
    """
    g = means.mean(axis=0)
    W = precision_times(moments, shrinkage, means - g)
    return W, -0.5 * np.einsum("ij,ij->i", W, means + g)


def balancing_weight(spread: float, logits: Floats) -> float:
    """The weight at which logits (n, C) differ between classes by ``spread``; candidate weights are given in units of it.

    Prototypes that are all the same have no spread: then the unit is that of the logits themselves.
    """
    return (spread or 1.0) / max(float(logits.std(axis=1).mean()), 1e-300)


class LinearFewShot(FewShotClassifier):
    """Logits s x·m_c + beta (x·W_c + b_c); see :class:`isomix.fewshot.ProjectAndMix` for the parts.

    Class attributes say which parts a member has: ``_fixed_mixing_weight`` (None: it is chosen), ``_projects``,
    ``_discriminates`` and ``_mixes``.
    """

    _fixed_mixing_weight: ClassVar[float | None] = None
    _projects: ClassVar[bool] = False
    _mixes: ClassVar[bool] = True
    _discriminates: ClassVar[bool] = False
    _state: ClassVar[tuple[str, ...]] = ("prior_shots_", "n_directions_", "ensemble_weight_")

    mixing_weight_: float
    n_directions_: int
    ensemble_weight_: float
    prior_shots_: float
    prototypes_: Doubles
    _directions: TextDirections | None
    _solved: tuple[ClassMoments, tuple[Doubles, Doubles]] | None
    coef_: Doubles
    intercept_: Doubles
    space_coef_: Doubles | None
    shrinkage: str | float = "kubokawa-srivastava"
    space: Any = None

    # ------------------------------------------------------------------ parameters

    def _check_parameters(self) -> None:
        mixing_weight = getattr(self, "mixing_weight", None)
        if not (isinstance(mixing_weight, str) and mixing_weight == "shrinkage"):
            check_number(mixing_weight, "mixing_weight, if it is not 'shrinkage'", highest=1.0, chosen=True)
        # GDA and TIMO call it alpha.
        check_number(
            getattr(self, "ensemble_weight", None),
            "alpha" if hasattr(self, "alpha") else "ensemble_weight",
            chosen=True,
        )
        n_directions = getattr(self, "n_directions", None)
        if n_directions is not None:
            check_integer(n_directions, "n_directions", minimum=1)
        check_number(self.logit_scale, "logit_scale (100 for OpenAI CLIP)", positive=True)
        if self._discriminates:
            check_shrinkage(self.shrinkage)

    # ------------------------------------------------------------------ weights

    def _choose(self, held_out: HeldOut | None) -> None:
        has_text = bool(self.has_text_.any())
        given_mix = self._given_mixing_weight(has_text)
        given_beta = getattr(self, "ensemble_weight", None) if self._discriminates and self._mixes else 0.0
        if self._discriminates and not self._scatter_known():
            if given_beta:
                warnings.warn(
                    "ensemble_weight: at one shot a class there is no within-class scatter, so the discriminant is left out.",
                    IsomixWarning,
                    stacklevel=5,
                )
            given_beta = 0.0
        directions = None if self._directions is None else self._directions.vectors
        given_k = 0 if directions is None else getattr(self, "n_directions", None)
        if given_k is not None and directions is not None and given_k > len(directions):
            raise InputError(
                f"n_directions: got {given_k}, but the texts of {int(self.has_text_.sum())} classes span {len(directions)} "
                "directions. Use at most that many, or None."
            )
        shots = mean_shots(self.counts_)
        start: dict[str, Any] = {
            "prior_shots": PRIOR_SHOTS if given_mix is None else prior_shots_of(given_mix, shots),
            "n_directions": 0 if self._directions is None else self._directions.effective,
            "ensemble_weight": 0.0,
        }
        if given_k is not None:
            start["n_directions"] = given_k
        if given_beta is not None:
            start["ensemble_weight"] = given_beta
        grids: dict[str, list[Any]] = {}
        if given_mix is None:
            grids["prior_shots"] = list(PRIOR_SHOTS_GRID)
        if given_k is None and directions is not None:
            k = start["n_directions"]
            grids["n_directions"] = [max(int(min(k * f, len(directions))), 1) for f in DIRECTIONS_GRID]
        if given_beta is None:
            grids["ensemble_weight"] = list(ENSEMBLE_GRID)
        chosen = start
        if grids:
            self.weight_tier_ = "rule" if held_out is None else held_out.tier
            if held_out is not None:
                chosen = self._search(held_out, grids, start)
        self.prior_shots_ = float(chosen["prior_shots"])
        self.n_directions_ = int(chosen["n_directions"])
        self.ensemble_weight_ = float(chosen["ensemble_weight"])

    def _given_mixing_weight(self, has_text: bool) -> float | None:
        given = self._fixed_mixing_weight
        if given is None:
            given = getattr(self, "mixing_weight", None)
            if given == "shrinkage":
                from isomix.fewshot.shrinkage_report import shrinkage_report

                one_shot = not np.isfinite(self.moments_.within_variance)
                return None if one_shot else shrinkage_report(self).pooled_weight if has_text else 1.0
            if not has_text and given not in (None, 1.0):
                raise InputError(
                    f"mixing_weight: got {given!r}, but there is no text to mix with. Pass text=, or leave mixing_weight alone."
                )
        return 1.0 if not has_text and self._mixes else given

    def _follow_the_shots(self) -> None:
        """Weights at the present number of shots: given ones hold, a chosen mixing weight is K / (K + kappa)."""
        shots = mean_shots(self.counts_)
        given: Any = self._fixed_mixing_weight
        if given is None:
            given = getattr(self, "mixing_weight", None)
        if not self.has_text_.any():
            given = 1.0
        if given is None or given == "shrinkage":
            self.mixing_weight_ = mixing_weight_of(self.prior_shots_, shots)
        else:
            self.mixing_weight_, self.prior_shots_ = float(given), prior_shots_of(float(given), shots)
        beta = getattr(self, "ensemble_weight", None)
        if self._discriminates and beta is not None:
            self.ensemble_weight_ = float(beta) if self._scatter_known() else 0.0

    def _search(self, held_out: HeldOut, grids: dict[str, list[Any]], start: dict[str, Any]) -> dict[str, Any]:
        shots = mean_shots(self.counts_)
        cosines = self._cosines(held_out)
        scale = float(self.logit_scale)
        other: Floats | None = None
        unit = 1.0
        if self._discriminates and ("ensemble_weight" in grids or start["ensemble_weight"]):
            other = self._discriminant_logits(held_out)
            if "ensemble_weight" in grids:
                some = slice(None, None, 1 + (len(other) - 1) // SAMPLED_ROWS)
                mixed = cosines(mixing_weight_of(start["prior_shots"], shots), start["n_directions"], some)
                spread = self.logit_scale * float(mixed.std(axis=1).mean())
                unit = balancing_weight(spread, other[some])
                grids = {**grids, "ensemble_weight": [unit * f for f in grids["ensemble_weight"]]}

        # The logit scale was trained for cosines with texts; for pictures alone it says nothing about confidence.
        halvings = 0 if self.has_text_.any() else 7

        def loss(point: dict[str, Any]) -> float:
            def logits_of(rows: slice) -> Floats:
                logits = cosines(mixing_weight_of(point["prior_shots"], shots), point["n_directions"], rows, scale)
                if other is not None and point["ensemble_weight"]:
                    logits += logits.dtype.type(point["ensemble_weight"]) * other[rows]
                return logits

            # A weak prior, worth half a shot at a factor of 4 from the prior rule: with a handful of shots the rule should hold.
            surprise = (
                (np.log(max(point["prior_shots"], 1e-9) / PRIOR_SHOTS) / np.log(4.0)) ** 2
                if "prior_shots" in grids
                else 0.0
            )
            surprise += np.log2(1.0 + point["ensemble_weight"] / unit) ** 2
            return brier_score(logits_of, held_out, halvings) + 0.5 * float(surprise) / float(held_out.weights.sum())

        return coordinate_search(loss, grids, start)

    # ------------------------------------------------------------------ parts

    def _scatter_known(self) -> bool:
        return self.moments_.has_scatter

    def _set_moments(self, moments: ClassMoments) -> None:
        super()._set_moments(moments)
        self._solved = None
        projects = self._projects and bool(self.has_text_.any())
        self._directions = TextDirections.of(self.text_[self.has_text_]) if projects else None

    def _cosines(self, held_out: HeldOut) -> MixedCosines:
        directions = None if self._directions is None else self._directions.vectors
        texts = self.texts_ if self.has_text_.any() else None
        return MixedCosines(held_out, self.moments_, self.means_, texts, directions)

    def _text_prototypes(self) -> Doubles:
        return self.texts_

    def _discriminant_moments(self) -> tuple[ClassMoments, Doubles]:
        return self.moments_, self.means_

    def _discriminant(self) -> tuple[Doubles, Doubles]:
        """Of all shots; the weights play no part in it, so it is computed once for a set of shots."""
        moments, means = self._discriminant_moments()
        if self._solved is None or self._solved[0] is not moments:
            self._solved = moments, discriminant(moments, means, self.shrinkage)
        return self._solved[1]

    def _into_space(self, X: Floats) -> Floats:
        return X

    def _discriminant_logits(self, held_out: HeldOut) -> Floats:
        moments, means = self._discriminant_moments()
        moved = held_out
        if self.space is not None:
            everything = self._into_space(held_out.X_all) if len(held_out.X_all) else held_out.X_all
            moved = replace(held_out, X=self._into_space(held_out.X), X_all=everything)
        if held_out.from_shots and self._scatter_known():
            return discriminant_without(moved, moments, means, self.shrinkage, footing=True)
        W, b = self._discriminant()
        return np.asarray(moved.X @ W.T.astype(moved.X.dtype) + b.astype(moved.X.dtype))

    def _held_out_logits(self, held_out: HeldOut) -> Floats:
        logits: Any = 0.0
        if self._mixes:
            logits = self.logit_scale * self._cosines(held_out)(self.mixing_weight_, self.n_directions_)
        beta = self.ensemble_weight_ if self._mixes else 1.0
        return np.asarray(
            logits + beta * self._discriminant_logits(held_out) if self._discriminates and beta else logits
        )

    # ------------------------------------------------------------------ prediction

    def _compile(self) -> None:
        d = self.means_.shape[1]
        coef, intercept = np.zeros((len(self.classes_), d)), np.zeros(len(self.classes_))
        self.space_coef_ = None
        if self._mixes:
            self._follow_the_shots()
            images = self.means_
            if self._directions is not None:
                V = self._directions.vectors[: self.n_directions_]
                images = images @ V.T @ V
            if self.mixing_weight_:
                images = np.asarray(normalize_rows(images, "image prototypes"), np.float64)
            self.prototypes_ = mix(images, self._text_prototypes(), self.mixing_weight_)
            coef += self.logit_scale * self.prototypes_
        beta = self.ensemble_weight_ if self._mixes else 1.0
        if self._discriminates and beta:
            W, b = self._discriminant()
            intercept += beta * b
            if self.space is None:
                coef += beta * W
            else:
                self.space_coef_ = beta * W
        self.coef_, self.intercept_ = coef, intercept
        self._converted: dict[Any, tuple[Floats, Floats | None, Floats | None]] = {}

    def _logits(self, X: Floats) -> Floats:
        coef, intercept, space_coef = self._in_dtype(X.dtype)
        logits = X @ coef
        if space_coef is not None:
            logits += self._into_space(X) @ space_coef
        if intercept is not None:
            logits += intercept
        return np.asarray(logits)

    def _in_dtype(self, dtype: np.dtype[Any]) -> tuple[Floats, Floats | None, Floats | None]:
        """Coefficients (d, C) in the dtype of the queries, converted once rather than for each block of them."""
        if dtype not in self._converted:
            self._converted[dtype] = (
                np.ascontiguousarray(self.coef_.T, dtype),
                self.intercept_.astype(dtype) if self.intercept_.any() else None,
                None if self.space_coef_ is None else np.ascontiguousarray(self.space_coef_.T, dtype),
            )
        return self._converted[dtype]
