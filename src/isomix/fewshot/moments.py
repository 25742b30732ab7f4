"""Class means and the pooled within-class scatter: accumulated once, and updated with more shots.

Everything is float64, but for the products of a block of float32 shots, which are summed up in float64. Weights are
frequencies: a shot of weight 2 counts like the same shot given twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from isomix._arrays import Doubles, Floats, Indices, blocks

__all__ = ["ClassMoments"]

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
