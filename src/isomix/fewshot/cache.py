"""Base of the peers that add something to the zero-shot logits and keep the shots: what they share in fitting and choosing."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from isomix._arrays import Doubles, Floats, Indices
from isomix.fewshot.base import FewShotClassifier
from isomix.fewshot.held_out import HeldOut, brier_score, coordinate_search
from isomix.fewshot.inputs import check_number

__all__ = ["ClassSums", "ResidualFewShot"]

ALPHA_GRID = (0.0, *(2.0 ** (j / 2) for j in range(-10, 9)))


class ClassSums:
    """Sums over the shots of every class of the columns of an affinity matrix: the product with one-hot labels, without it."""

    def __init__(self, y: Indices, n_classes: int) -> None:
        self.order = np.argsort(y, kind="stable")
        self._present, self._starts = np.unique(y[self.order], return_index=True)
        self._n_classes = n_classes

    def __call__(self, affinity: Floats) -> Floats:
        """Affinities (n, N) with columns in ``order`` to class sums (n, C)."""
        sums = np.zeros((len(affinity), self._n_classes), affinity.dtype)
        sums[:, self._present] = np.add.reduceat(affinity, self._starts, axis=1)
        return sums


class ResidualFewShot(FewShotClassifier):
    """Logits s x·t_c + alpha r_c(x; sharpness), with a residual r computed from the shots.

    Model size O(N d): the shots are kept, because r is no function of means and scatter.
    """

    needs_text = True
    _state: ClassVar[tuple[str, ...]] = ("alpha_", "sharpness_", "support_", "support_classes_", "support_weights_")
    _sharpness_grid: ClassVar[tuple[float, ...]] = ()

    alpha: float | None
    sharpness: float | None = 0.0
    alpha_: float
    sharpness_: float
    support_: Floats
    support_classes_: Indices
    support_weights_: Doubles

    def _check_parameters(self) -> None:
        check_number(self.alpha, "alpha", chosen=True)
        check_number(self.sharpness, "sharpness", chosen=True)
        check_number(self.logit_scale, "logit_scale (100 for OpenAI CLIP)", positive=True)

    def _remember(self, X: Floats, y: Indices, weights: Doubles) -> None:
        self.support_, self.support_classes_, self.support_weights_ = X, y, weights
        self._stale = True

    def _recall(self, positions: Indices, X: Floats, y: Indices, weights: Doubles) -> None:
        self.support_ = np.concatenate([self.support_, X])
        self.support_classes_ = np.concatenate([positions[self.support_classes_], y])
        self.support_weights_ = np.concatenate([self.support_weights_, weights])
        self._stale = True

    def _compile(self) -> None:
        # The weights play no part in it: it is done once for a set of shots, and once after loading.
        if getattr(self, "_stale", True):
            self._prepare()
            self._stale = False

    def _choose(self, held_out: HeldOut | None) -> None:
        start: dict[str, Any] = {
            "alpha": 1.0 if self.alpha is None else float(self.alpha),
            "sharpness": self._prior_sharpness() if self.sharpness is None else float(self.sharpness),
        }
        self.alpha_, self.sharpness_ = start["alpha"], start["sharpness"]
        self._compile()
        grids: dict[str, Any] = {}
        if self.alpha is None:
            grids["alpha"] = ALPHA_GRID
        if self.sharpness is None:
            grids["sharpness"] = self._sharpness_grid
        if not grids:
            return
        if held_out is None:
            self.weight_tier_ = "rule"
            return
        self.weight_tier_ = held_out.tier
        zero_shot = self._zero_shot(held_out.X)
        residuals = {
            value: self._held_out_residual(held_out, value)
            for value in {start["sharpness"], *grids.get("sharpness", ())}
        }
        # Candidates in units of the weight at which both terms differ as much between classes.
        spread = max(float(residuals[start["sharpness"]].std(axis=1).mean()), 1e-12)
        unit = float(zero_shot.std(axis=1).mean()) / spread
        if "alpha" in grids:
            grids["alpha"] = [unit * f for f in ALPHA_GRID]
            start["alpha"] = 0.0

        def loss(point: dict[str, Any]) -> float:
            alpha, residual = zero_shot.dtype.type(point["alpha"]), residuals[point["sharpness"]]
            return brier_score(lambda rows: zero_shot[rows] + alpha * residual[rows], held_out)

        found = coordinate_search(loss, grids, start)
        self.alpha_, self.sharpness_ = float(found["alpha"]), float(found["sharpness"])

    def _prior_sharpness(self) -> float:
        return 0.0

    def _zero_shot(self, X: Floats) -> Floats:
        return np.asarray(X @ np.ascontiguousarray(self.texts_.T * self.logit_scale, X.dtype))

    def _logits(self, X: Floats) -> Floats:
        return np.asarray(self._zero_shot(X) + X.dtype.type(self.alpha_) * self._residual(X, self.sharpness_))

    def _held_out_logits(self, held_out: HeldOut) -> Floats:
        residual = self._held_out_residual(held_out, self.sharpness_)
        return np.asarray(self._zero_shot(held_out.X) + held_out.X.dtype.type(self.alpha_) * residual)

    @abstractmethod
    def _prepare(self) -> None:
        """Derive from shots and texts what the residual needs."""

    @abstractmethod
    def _residual(self, X: Floats, sharpness: float) -> Floats:
        """What the shots say, (n, C)."""

    @abstractmethod
    def _held_out_residual(self, held_out: HeldOut, sharpness: float) -> Floats:
        """The same for held-out shots, each without itself."""
