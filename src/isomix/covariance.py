"""Class means and the pooled within-class covariance: accumulated once, updated with more shots, shrunk, and solved with.

Everything is float64, but for the products of a block of float32 shots, which are summed up in float64. Weights are frequencies: a shot of weight 2 counts like the same shot given twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from isomix._arrays import Floats, blocks
from isomix.errors import InputError

__all__ = ["SHRINKAGE_METHODS", "ClassMoments", "ShrunkCovariance", "check_shrinkage", "precision_times", "shrink"]

Doubles = NDArray[np.float64]
Indices = NDArray[np.intp]
BLOCK_ROWS = 512
SUMMED_ROWS = 4096  # each block of sums costs a pass over all classes


@dataclass(frozen=True)
class ClassMoments:
    """Number, mean and pooled scatter of the shots of every class; size O(C d + d²), whatever the number of shots.

    Attributes
    ----------
    counts : ndarray, shape (C,)
        Sum of the weights of a class; zero for a class without shots.
    means : ndarray, shape (C, d)
        Zero for a class without shots.
    scatter : ndarray, shape (d, d)
        Σ w (x - mu_y)(x - mu_y)ᵀ over all shots.
    fourth : float
        Σ w ‖x - mu_y‖⁴, which Ledoit-Wolf needs; NaN after :meth:`merge`, because it cannot be updated from these moments.
    """

    counts: Doubles
    means: Doubles
    scatter: Doubles
    fourth: float

    @classmethod
    def of(cls, X: Floats, y: Indices, n_classes: int, weights: Doubles) -> ClassMoments:
        """Moments of the shots ``X`` (n, d) with class numbers ``y`` (n,) and weights (n,)."""
        d = X.shape[1]
        counts = np.asarray(np.bincount(y, weights, minlength=n_classes), np.float64)
        means = np.zeros((n_classes, d))
        for part in blocks(len(X), SUMMED_ROWS):
            rows = np.asarray(X[part], np.float64)
            sums = csr_array((weights[part], (y[part], np.arange(len(rows)))), (n_classes, len(rows))) @ rows
            means += np.asarray(sums)
        means /= np.where(counts > 0, counts, 1.0)[:, None]
        scatter, fourth, rounded = np.zeros((d, d)), 0.0, means.astype(X.dtype)
        for part in blocks(len(X), BLOCK_ROWS):
            residuals = X[part] - rounded[y[part]]
            squares = np.asarray(np.einsum("ij,ij->i", residuals, residuals), np.float64)
            fourth += float(weights[part] @ squares**2)
            residuals *= np.sqrt(weights[part]).astype(X.dtype)[:, None]
            scatter += residuals.T @ residuals  # one array with itself: half the work of a general product
        return cls(counts, means, scatter, fourth)

    @property
    def total(self) -> float:
        """Number of shots (sum of the weights)."""
        return float(self.counts.sum())

    @property
    def degrees_of_freedom(self) -> float:
        """Number of shots less the number of classes that have any: 0 at one shot a class."""
        return self.total - np.count_nonzero(self.counts)

    @property
    def has_scatter(self) -> bool:
        """Whether a covariance can be estimated: shots that differ, and more of them than classes."""
        return self.degrees_of_freedom > 1 and float(np.trace(self.scatter)) > 1e-12 * self.total

    @property
    def within_variance(self) -> float:
        """Unbiased estimate of E‖x - mu_y‖², the trace of the within-class covariance; NaN at one shot a class."""
        freedom = self.degrees_of_freedom
        return float(np.trace(self.scatter)) / freedom if freedom > 0 else float("nan")

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Moments of the union of two sets of shots of the same classes (Chan, Golub and LeVeque 1983, eq. 2.1)."""
        counts = self.counts + other.counts
        safe = np.where(counts > 0, counts, 1.0)
        shift = other.means - self.means
        means = self.means + shift * (other.counts / safe)[:, None]
        # A class that is new in ``other`` has no mean to move from.
        means = np.where((self.counts > 0)[:, None], means, other.means)
        moved = shift * np.sqrt(self.counts * other.counts / safe)[:, None]
        return ClassMoments(counts, means, self.scatter + other.scatter + moved.T @ moved, float("nan"))

    def take(self, positions: Indices, n_classes: int) -> ClassMoments:
        """The same moments where class i has number ``positions[i]`` among ``n_classes``; the others have no shots."""
        counts, means = np.zeros(n_classes), np.zeros((n_classes, self.means.shape[1]))
        counts[positions], means[positions] = self.counts, self.means
        return replace(self, counts=counts, means=means)


class ShrunkCovariance(NamedTuple):
    """A covariance ``slope * scatter + ridge * identity``.

    Both may be arrays: one covariance for every shot left out.
    """

    slope: Any
    ridge: Any


def _toward_identity(intensity: Any, trace: Any, n: Any, d: int) -> ShrunkCovariance:
    return ShrunkCovariance((1.0 - intensity) / n, intensity * trace / (n * d))


def _kubokawa_srivastava(trace: Any, square: Any, fourth: Any, n: Any, d: int) -> ShrunkCovariance:
    return ShrunkCovariance(np.ones_like(trace) / d, trace / ((n - 1.0) * d))


def _ledoit_wolf(trace: Any, square: Any, fourth: Any, n: Any, d: int) -> ShrunkCovariance:
    if np.isnan(fourth).any():
        raise InputError(
            "shrinkage='ledoit-wolf' needs all shots at once, and partial_fit keeps none of the earlier ones. "
            "Use 'oas' or 'kubokawa-srivastava', or fit again with all shots."
        )
    dispersion = (square / n**2 - (trace / n) ** 2 / d) / d
    error = (fourth / n - square / n**2) / (n * d)
    intensity = np.divide(np.clip(error, 0.0, dispersion), dispersion, out=np.ones_like(trace), where=dispersion > 0)
    return _toward_identity(intensity, trace, n, d)


def _oas(trace: Any, square: Any, fourth: Any, n: Any, d: int) -> ShrunkCovariance:
    mean_square, mu_square = square / (n * d) ** 2, (trace / (n * d)) ** 2
    numerator, denominator = mean_square + mu_square, (n + 1.0) * (mean_square - mu_square / d)
    intensity = np.divide(numerator, denominator, out=np.ones_like(trace), where=denominator > 0)
    return _toward_identity(np.minimum(intensity, 1.0), trace, n, d)


_RULES: dict[str, Callable[[Any, Any, Any, Any, int], ShrunkCovariance]] = {
    "kubokawa-srivastava": _kubokawa_srivastava,
    "ledoit-wolf": _ledoit_wolf,
    "oas": _oas,
}
SHRINKAGE_METHODS = tuple(_RULES)


def check_shrinkage(method: object) -> None:
    """Raise :class:`InputError` unless ``method`` names a rule or is a number in (0, 1]."""
    number = isinstance(method, int | float | np.number) and not isinstance(method, bool)
    if number and 0.0 < float(method) <= 1.0:  # type: ignore[arg-type]
        return
    if not (isinstance(method, str) and method in _RULES):
        raise InputError(
            f"shrinkage: got {method!r}, expected one of {', '.join(SHRINKAGE_METHODS)}, or a number above 0 and up to 1."
        )


def shrink(method: str | float, trace: Any, square: Any, fourth: Any, n: Any, d: int) -> ShrunkCovariance:
    """Shrunk covariance from the invariants of a scatter matrix S; scalars, or arrays for many scatters at once.

    Parameters
    ----------
    method : {"kubokawa-srivastava", "ledoit-wolf", "oas"} or float
        - Kubokawa and Srivastava (2008) as in GDA (Wang et al., ICLR 2024): Sigma^-1 = d (S + tr(S) / (n - 1) I)^-1.
        - Ledoit and Wolf (2004), and OAS (Chen et al. 2010, eq. 23 as scikit-learn has it), on S / n.
        - a number rho: (1 - rho) S / n + rho tr(S) / (n d) I.
    trace, square, fourth : float or ndarray
        tr(S), ‖S‖² (Frobenius) and Σ ‖x - mu‖⁴ (for Ledoit-Wolf only).
    n : float or ndarray
        Number of shots.
    d : int
        Width.

    Raises
    ------
    InputError
        Unknown method, or Ledoit-Wolf without ``fourth``.
    """
    check_shrinkage(method)
    trace = np.asarray(trace, np.float64)
    if isinstance(method, str):
        return _RULES[method](trace, square, fourth, n, d)
    return _toward_identity(float(method), trace, n, d)


def precision_times(moments: ClassMoments, method: str | float, matrix: Doubles) -> Doubles:
    """Sigma^-1 times the rows of ``matrix`` (m, d), by a Cholesky factorisation; (m, d).

    Without any scatter (one shot a class, or equal shots) no covariance can be estimated and Sigma is the identity.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]]), np.array([0, 0, 1, 1])
    >>> moments = ClassMoments.of(X, y, 2, np.ones(4))
    >>> precision_times(moments, 1.0, moments.means).round(9)  # all shrinkage: the identity over the mean variance
    array([[18.,  6.],
           [ 6., 18.]])
    """
    d = moments.scatter.shape[0]
    trace = float(np.trace(moments.scatter))
    if not trace > np.finfo(np.float64).eps * moments.total:
        return np.array(matrix, np.float64)
    square = float(np.vdot(moments.scatter, moments.scatter))
    covariance = shrink(method, trace, square, moments.fourth, moments.total, d)
    sigma = covariance.slope * moments.scatter
    sigma[np.diag_indices(d)] += covariance.ridge
    # NumPy's routines only: SciPy's wheel has threads of its own, and two pools that spin on the same cores stall each other.
    try:
        np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"shrinkage={method!r} leaves a covariance that cannot be inverted ({moments.total:g} shots, width {d}). "
            "Use more shrinkage."
        ) from error
    return np.asarray(np.linalg.solve(sigma, matrix.T).T)
