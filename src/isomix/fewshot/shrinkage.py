"""The pooled within-class covariance: shrunk by one of three published rules or a number, and solved with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from isomix._arrays import Doubles
from isomix.errors import InputError
from isomix.fewshot.moments import ClassMoments

__all__ = ["SHRINKAGE_METHODS", "ShrunkCovariance", "check_shrinkage", "precision_times", "shrink"]


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
    >>> from isomix.fewshot.moments import ClassMoments
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
