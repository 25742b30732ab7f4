"""The kernel ridge term of ProKeR: a regression on the shots of what zero-shot leaves over."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.special import softmax

from isomix._arrays import Doubles, Floats
from isomix.errors import InputError
from isomix.fewshot.cache import ALPHA_GRID
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.inputs import check_number
from isomix.fewshot.prototypes import TextCosine
from isomix.fewshot.support import Support
from isomix.fewshot.terms import Term
from isomix.fewshot.weights import Parameter, Values

__all__ = ["KernelRidge"]

MAX_SHOTS = 10_000
STRENGTH_GRID = tuple(4.0**j for j in range(-4, 4))


class KernelRidge(Term):
    """K(x, S) (K_SS / lambda + I)^-1 (L - softmax(F)) with K(x, f) = exp(-beta (1 - x·f)) over the shots S.

    L are the one-hot labels and F the zero-shot logits of the shots. The N x N kernel of the shots is decomposed once, O(N³), for
    all lambda and the exact leave-one-out; it is scaled by the roots of the weights, which makes a weight a repeated shot.

    Parameters
    ----------
    support : Support
        With the shots themselves; at most 10,000.
    strength : float or None
        lambda; None: chosen.
    texts : TextCosine
        Zero-shot.
    bandwidth : float
        beta.
    """

    weight_start = 1.0
    weight_grid = ALPHA_GRID
    weight_is_surprising = False
    spread_rows = None

    def __init__(self, support: Support, strength: float | None, texts: TextCosine, *, bandwidth: float) -> None:
        check_number(strength, "sharpness", chosen=True)
        check_number(bandwidth, "bandwidth", positive=True)
        self.strength, self.bandwidth = strength, bandwidth
        self.shots, classes, weights = support.shots.kept()
        n = len(self.shots)
        if n > MAX_SHOTS:
            raise InputError(
                f"ProKeR: got {n} shots, and its kernel is N x N; expected at most {MAX_SHOTS}. Use another method."
            )
        X = self.shots.astype(np.float64)
        kernel = np.asarray(self._kernel(X), np.float64)
        self._root = np.sqrt(weights)
        kernel *= self._root[:, None] * self._root
        self._eigenvalues, self._vectors = scipy.linalg.eigh(kernel, driver="evd", overwrite_a=True, check_finite=False)
        target = -softmax(texts(X), axis=1)
        target[np.arange(n), classes] += 1.0
        self._target = self._vectors.T @ (target * self._root[:, None])
        self._dual: tuple[float, Doubles] | None = None

    def parameters(self) -> list[Parameter]:
        """``sharpness``, the constructor's name of lambda."""
        return [Parameter.of("sharpness", self.strength, 1.0, STRENGTH_GRID)]

    def logits(self, X: Floats, values: Values) -> Floats:
        """The formula."""
        return np.asarray(self._kernel(X) @ self._coefficients(values["sharpness"]).astype(X.dtype))

    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """(K / lambda + I)^-1 = lambda G with G = (K + lambda I)^-1; the fit without i is f_i - g_i / G_ii, g the coefficients."""
        strength = values["sharpness"]
        if not held_out.from_shots or not strength:
            return self.logits(held_out.X, values)
        V = self._vectors[held_out.rows]
        inverse = 1.0 / (self._eigenvalues + strength)
        coefficients = V @ (inverse[:, None] * self._target)
        diagonal = (V**2) @ inverse
        predicted = V @ self._target - coefficients / diagonal[:, None]
        return np.asarray(strength * predicted / self._root[held_out.rows, None], held_out.X.dtype)

    def _kernel(self, X: Floats) -> Floats:
        affinity = X @ self.shots.T.astype(X.dtype, copy=False)
        affinity -= 1.0
        affinity *= self.bandwidth
        return np.asarray(np.exp(affinity, out=affinity))

    def _coefficients(self, strength: float) -> Doubles:
        if self._dual is None or self._dual[0] != strength:
            solved = self._vectors @ (self._target / (self._eigenvalues / strength + 1.0)[:, None]) if strength else 0.0
            self._dual = strength, np.asarray(solved * self._root[:, None])
        return self._dual[1]
