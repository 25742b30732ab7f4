"""ProKeR: kernel ridge regression of what zero-shot leaves over."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.special import softmax

from isomix._arrays import Doubles, Floats
from isomix.errors import InputError
from isomix.fewshot.cache import ResidualFewShot
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.inputs import check_number

__all__ = ["ProKeR"]

MAX_SHOTS = 10_000


class ProKeR(ResidualFewShot):
    """Zero-shot plus K(x, S) (K_SS / lambda + I)^-1 (L - F W_t), an RBF kernel ridge (Bendou et al., CVPR 2025).

    Parameters
    ----------
    alpha : float or None
        Weight of the regression in the logits, which the paper folds into lambda. None: chosen; 1 at one shot.
    sharpness : float or None
        lambda, the strength of the fit: the larger, the closer it follows the shots. None: chosen; 1 at one shot.
    bandwidth : float
        beta in K(x, f) = exp(-beta ‖x - f‖² / 2) = exp(-beta (1 - x·f)).
    logit_scale : float
    calibrate : bool
        Choose the temperature of ``predict_proba`` on the same held-out shots.

    Notes
    -----
    The zero-shot scores F W_t are probabilities (softmax of s x·t) where labels are subtracted from them, so that both have one
    unit (our reading). The N x N kernel of the shots is decomposed once, O(N³), for all lambda and the exact leave-one-out.

    Raises
    ------
    InputError
        More than 10,000 shots.
    """

    method = "proker"
    _sharpness_grid = tuple(4.0**j for j in range(-4, 4))

    def __init__(
        self,
        alpha: float | None = None,
        sharpness: float | None = None,
        *,
        bandwidth: float = 8.0,
        logit_scale: float = 100.0,
        calibrate: bool = False,
    ) -> None:
        self.alpha = alpha
        self.sharpness = sharpness
        self.bandwidth = bandwidth
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.bandwidth, "bandwidth", positive=True)

    def _prior_sharpness(self) -> float:
        return 1.0

    def _prepare(self) -> None:
        n = len(self.support_)
        if n > MAX_SHOTS:
            raise InputError(
                f"ProKeR: got {n} shots, and its kernel is N x N; expected at most {MAX_SHOTS}. Use another method."
            )
        kernel = np.asarray(self._kernel(self.support_.astype(np.float64)), np.float64)
        # Weights as repeated shots: √w K √w, whose coefficients are √w times those of a shot.
        self._root = np.sqrt(self.support_weights_)
        kernel *= self._root[:, None] * self._root
        self._eigenvalues, self._vectors = scipy.linalg.eigh(kernel, driver="evd", overwrite_a=True, check_finite=False)
        target = -softmax(np.asarray(self._zero_shot(self.support_.astype(np.float64))), axis=1)
        target[np.arange(n), self.support_classes_] += 1.0
        self._target = self._vectors.T @ (target * self._root[:, None])
        self._dual: tuple[float, Doubles] | None = None

    def _compile(self) -> None:
        super()._compile()
        self._coefficients(self.sharpness_)

    def _kernel(self, X: Floats) -> Floats:
        affinity = X @ self.support_.T.astype(X.dtype, copy=False)
        affinity -= 1.0
        affinity *= self.bandwidth
        return np.asarray(np.exp(affinity, out=affinity))

    def _coefficients(self, sharpness: float) -> Doubles:
        if self._dual is None or self._dual[0] != sharpness:
            solved = (
                self._vectors @ (self._target / (self._eigenvalues / sharpness + 1.0)[:, None]) if sharpness else 0.0
            )
            self._dual = sharpness, np.asarray(solved * self._root[:, None])
        return self._dual[1]

    def _residual(self, X: Floats, sharpness: float) -> Floats:
        return np.asarray(self._kernel(X) @ self._coefficients(sharpness).astype(X.dtype))

    def _held_out_residual(self, held_out: HeldOut, sharpness: float) -> Floats:
        if not held_out.from_shots or not sharpness:
            return self._residual(held_out.X, sharpness)
        # (K / lambda + I)^-1 = lambda G with G = (K + lambda I)^-1; the fit without i is f_i - g_i / G_ii, g the coefficients.
        rows = held_out.rows
        V = self._vectors[rows]
        inverse = 1.0 / (self._eigenvalues + sharpness)
        coefficients = V @ (inverse[:, None] * self._target)
        diagonal = (V**2) @ inverse
        target = V @ self._target
        predicted = target - coefficients / diagonal[:, None]
        return np.asarray(sharpness * predicted / self._root[rows, None], held_out.X.dtype)
