"""Exact leave-one-out in closed form: what class means and the discriminant become without one shot.

Without the shot x of class y, which has total weight W (so r = x - mu_y, w its weight), mean and pooled scatter change by rank one:

    mu_y' = (W mu_y - w x) / (W - w),        S' = S - w W / (W - w) r rᵀ.

A shrunk covariance a S' + b I, whose a and b depend on the shot left out, is diagonal plus rank one in the eigenbasis of S, so
that Sherman-Morrison gives every logit of every shot from three matrix products. Checked against refits in the tests.

**Equal footing** (this project). The class of the shot left out is judged with W - w shots, its rivals with all of theirs. The
squared length of its mean, ‖M‖² + tr(Sigma) / (W - w) in expectation, is inflated by tr(Sigma) (1 / (W - w) - 1 / W) over what the
classifier to be deployed will have; in a quadratic term like that of a discriminant this outweighs everything else at few shots,
and weights chosen that way throw the discriminant away. ``footing=True`` subtracts this known excess; the direction of the mean
stays that of W - w shots.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isomix._arrays import Doubles, Floats
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.shrinkage import shrink
from isomix.linalg import normalize_rows

__all__ = ["MixedCosines", "discriminant_without", "means_without"]


def means_without(held_out: HeldOut, counts: Doubles, X: Doubles, means: Doubles) -> Doubles:
    """Mean of the class of every held-out shot without that shot, from shots (n, d) and class means (C, d); (n, d)."""
    total, w = counts[held_out.y][:, None], held_out.weights[:, None]
    return np.asarray((total * means[held_out.y] - w * X) / (total - w))


def scatter_factor(held_out: HeldOut, moments: ClassMoments) -> Doubles:
    """The factor w W / (W - w) by which r rᵀ leaves the scatter; (n,)."""
    total, w = moments.counts[held_out.y], held_out.weights
    return np.asarray(w * total / (total - w))


def excess(held_out: HeldOut, moments: ClassMoments) -> Doubles:
    """1 / (W - w) - 1 / W: by how much the variance of the class mean grows, in units of the class variance; (n,)."""
    total, w = moments.counts[held_out.y], held_out.weights
    return np.asarray(1.0 / (total - w) - 1.0 / total)


def _fourth_without(held_out: HeldOut, moments: ClassMoments) -> Doubles:
    """Σ w ‖x - mu_y‖⁴ without each held-out shot: its class mates' residuals become r_k + w r / (W - w)."""
    fourth = np.empty(len(held_out.y))
    order = np.argsort(held_out.y_all, kind="stable")
    bounds = np.searchsorted(held_out.y_all[order], np.arange(len(moments.counts) + 1))
    for c in np.unique(held_out.y):
        mates, rows = order[bounds[c] : bounds[c + 1]], np.flatnonzero(held_out.y == c)
        R = np.asarray(held_out.X_all[mates], np.float64) - moments.means[c]
        r = np.asarray(held_out.X[rows], np.float64) - moments.means[c]
        share = (held_out.weights[rows] / (moments.counts[c] - held_out.weights[rows]))[:, None]
        own, squares = np.einsum("ij,ij->i", r, r)[:, None], np.einsum("ij,ij->i", R, R)
        moved = squares + 2.0 * share * (r @ R.T) + share**2 * own
        w = held_out.weights_all[mates]
        gone = ((1.0 + share[:, 0]) ** 2 * own[:, 0]) ** 2  # the shot itself is among its mates
        fourth[rows] = moments.fourth - w @ squares**2 + moved**2 @ w - held_out.weights[rows] * gone
    return fourth


def discriminant_without(
    held_out: HeldOut,
    moments: ClassMoments,
    means: Doubles,
    shrinkage: str | float,
    *,
    footing: bool,
) -> Floats:
    """Discriminant logits (x - g)ᵀ Sigma^-1 (mu_c - g) - ½ (mu_c - g)ᵀ Sigma^-1 (mu_c - g) of every shot without itself.

    Parameters
    ----------
    held_out : HeldOut
        n shots.
    moments : ClassMoments
        Of all shots.
    means : ndarray, shape (C, d)
        Means of all shots, or what stands for them where a class has no pictures.
    shrinkage : str or float
        See :func:`isomix.fewshot.shrinkage.shrink`; its intensity, too, is the one without the shot.
    footing : bool
        Equal footing, see the module.

    Returns
    -------
    ndarray, shape (n, C)
        In the dtype of the shots, up to a constant of each row (g is the mean of ``means``).
    """
    dtype, d, n = held_out.X.dtype, means.shape[1], len(held_out.y)
    rows, y = np.arange(n), held_out.y
    g = means.mean(axis=0)
    eigenvalues, basis = np.linalg.eigh(moments.scatter)  # NumPy's, see isomix.fewshot.shrinkage
    eigenvalues = np.maximum(eigenvalues, 0.0)
    X, M = (np.asarray(held_out.X, np.float64) - g) @ basis, (means - g) @ basis
    mu = M if means is moments.means else (moments.means - g) @ basis
    r = X - mu[y]
    own = M[y] - (held_out.weights / (moments.counts[y] - held_out.weights))[:, None] * r
    factor = scatter_factor(held_out, moments)
    r_square = np.einsum("ij,ij->i", r, r)
    trace = np.maximum(eigenvalues.sum() - factor * r_square, np.finfo(np.float64).eps * moments.total)
    square = (eigenvalues**2).sum() - 2.0 * factor * (r**2 @ eigenvalues) + (factor * r_square) ** 2
    fourth: Any = _fourth_without(held_out, moments) if shrinkage == "ledoit-wolf" else np.nan
    covariance = shrink(shrinkage, trace, square, fourth, moments.total - held_out.weights, d)
    slope, ridge = (np.broadcast_to(np.asarray(number, np.float64), n) for number in covariance)

    D = 1.0 / (slope[:, None] * eigenvalues + ridge[:, None])
    Dr = D * r
    gain = slope * factor
    gain = gain / np.maximum(1.0 - gain * np.einsum("ij,ij->i", r, Dr), np.finfo(np.float64).eps)
    xr = np.einsum("ij,ij->i", X, Dr)

    # For every class: xᵀ D mu, rᵀ D mu and muᵀ D mu, three products in the dtype of the shots.
    Mt = np.ascontiguousarray(M.T, dtype)
    XDM, RDM = (X * D).astype(dtype) @ Mt, Dr.astype(dtype) @ Mt
    logits = D.astype(dtype) @ (Mt**2)
    logits += gain.astype(dtype)[:, None] * RDM**2
    logits *= -0.5
    logits += XDM
    logits += (gain * xr).astype(dtype)[:, None] * RDM

    oDo, oDr = np.einsum("ij,ij,ij->i", own, D, own), np.einsum("ij,ij->i", own, Dr)
    if footing:
        # tr(Sigma^-1 S') from Sigma = slope S' + ridge I.
        inverse_trace = D.sum(axis=1) + gain * np.einsum("ij,ij->i", Dr, Dr)
        filled = slope > 0
        of_scatter = np.where(filled, d - ridge * inverse_trace, trace / ridge) / np.where(filled, slope, 1.0)
        freedom = np.maximum(moments.degrees_of_freedom - held_out.weights, 1.0)
        oDo = oDo - of_scatter / freedom * excess(held_out, moments)
    logits[rows, y] = np.einsum("ij,ij,ij->i", X, D, own) + gain * xr * oDr - 0.5 * (oDo + gain * oDr**2)
    return np.asarray(logits)


class _Parts(NamedTuple):
    """What cosines are computed from, in one basis; ``scatter`` is the diagonal of the scatter matrix."""

    X: Doubles
    means: Doubles
    texts: Doubles | None
    own: Doubles | None
    class_means: Doubles
    scatter: Doubles

    def turned(self, directions: Doubles, scatter: Doubles) -> _Parts:
        """In the basis of the rows of ``directions``, without ``own``, which is cheaper to derive again than to turn."""
        turn = directions.T
        X, means = self.X @ turn, self.means @ turn
        class_means = means if self.class_means is self.means else self.class_means @ turn
        return _Parts(
            X,
            means,
            None if self.texts is None else self.texts @ turn,
            None,
            class_means,
            np.einsum("ij,ij->i", directions @ scatter, directions),
        )

    def first(self, k: int) -> _Parts:
        """The first k coordinates."""
        return _Parts(
            self.X[:, :k],
            self.means[:, :k],
            None if self.texts is None else self.texts[:, :k],
            None if self.own is None else self.own[:, :k],
            self.class_means[:, :k],
            self.scatter[:k],
        )


class MixedCosines:
    """Cosines of held-out shots with mixed prototypes, for any mixing weight and number of directions.

    The cosine with a mix is (a x·u + (1 - a) x·t) / ‖a u + (1 - a) t‖, and the norm needs u·t alone, so that a mixing weight
    costs a few operations on (n, C) matrices, and a number of directions one matrix product. The prototype of a shot's own
    class is the one without the shot, on equal footing (see :mod:`isomix.fewshot.leave_one_out`).

    Parameters
    ----------
    held_out : HeldOut
    moments : ClassMoments
    means, texts : ndarray, shape (C, d)
        Complete: one row a class. ``texts`` is None without any text.
    directions : ndarray, shape (r, d), or None
        Orthonormal rows; None: prototypes are never projected.
    offsets : ndarray, shape (C,), optional
        Added to the cosines with the texts.
    footing : bool
        Only tests, which compare with refits, turn it off.
    """

    def __init__(
        self,
        held_out: HeldOut,
        moments: ClassMoments,
        means: Doubles,
        texts: Doubles | None,
        directions: Doubles | None,
        *,
        offsets: Doubles | None = None,
        footing: bool = True,
    ) -> None:
        self._held_out, self._moments, self._footing = held_out, moments, footing
        dtype = held_out.X.dtype
        self._x_text = None if texts is None else held_out.X @ np.ascontiguousarray(texts.T, dtype)
        if self._x_text is not None and offsets is not None and offsets.any():
            self._x_text += offsets.astype(dtype)
        self._plain = self._with_own(
            _Parts(np.asarray(held_out.X, np.float64), means, texts, None, moments.means, np.diag(moments.scatter))
        )
        # Everything in the basis of the directions, once: a number of directions is then a slice.
        self._turned = None if directions is None else self._with_own(self._plain.turned(directions, moments.scatter))
        self._cache: dict[int, tuple[Floats, Doubles, Doubles]] = {}

    def _with_own(self, parts: _Parts) -> _Parts:
        held_out = self._held_out
        if not held_out.from_shots:
            return parts
        return parts._replace(own=means_without(held_out, self._moments.counts, parts.X, parts.class_means))

    def _images(self, k: int) -> tuple[Floats, Doubles, Doubles]:
        """Cosines x·u (n, C); u·t of every class (C,); u'·t of the own class without the shot (n,)."""
        if k in self._cache:
            return self._cache[k]
        held_out, dtype = self._held_out, self._held_out.X.dtype
        parts = self._plain if self._turned is None or not k else self._turned.first(k)
        u = normalize_rows(parts.means, "image prototypes")
        cosines = parts.X.astype(dtype) @ np.ascontiguousarray(u.T, dtype)
        ut = np.zeros(len(u)) if parts.texts is None else np.einsum("ij,ij->i", u, parts.texts)
        own_ut = ut[held_out.y]
        if parts.own is not None:
            square = np.einsum("ij,ij->i", parts.own, parts.own)
            if self._footing:
                variance = self._variance(parts.X - parts.class_means[held_out.y], float(parts.scatter.sum()))
                square = np.maximum(square - variance * excess(held_out, self._moments), 0.1 * square)
            own = parts.own / np.sqrt(square)[:, None]
            cosines[np.arange(len(own)), held_out.y] = np.einsum("ij,ij->i", parts.X, own)
            if parts.texts is not None:
                own_ut = np.einsum("ij,ij->i", own, parts.texts[held_out.y])
        self._cache[k] = cosines, ut, own_ut
        return self._cache[k]

    def _variance(self, residuals: Doubles, trace: float) -> Doubles:
        """Trace of the within-class covariance without each shot; (n,)."""
        held_out, moments = self._held_out, self._moments
        freedom = np.maximum(moments.degrees_of_freedom - held_out.weights, 1.0)
        lost = scatter_factor(held_out, moments) * np.einsum("ij,ij->i", residuals, residuals)
        return np.asarray((trace - lost) / freedom)

    def __call__(
        self, mixing_weight: float, n_directions: int, rows: slice = slice(None), scale: float = 1.0
    ) -> Floats:
        """``scale`` times the cosines (n, C), a new array, or some rows of it; ``n_directions`` 0 for no projection."""
        a, x_text = mixing_weight, self._x_text
        if x_text is None:
            return self._images(n_directions)[0][rows] * self._held_out.X.dtype.type(scale)
        if a == 0.0:
            return x_text[rows] * x_text.dtype.type(scale)
        x_image, ut, own_ut = self._images(n_directions)
        x_image, x_text = x_image[rows], x_text[rows]

        def norm_of(cosine: Doubles) -> Doubles:
            square = a * a + (1.0 - a) ** 2 + 2.0 * a * (1.0 - a) * np.clip(cosine, -1.0, 1.0)
            return np.asarray(np.sqrt(np.maximum(square, 1e-12)))

        norm = norm_of(ut) / scale
        cosines = np.asarray((a / norm).astype(x_image.dtype)) * x_image
        cosines += ((1.0 - a) / norm).astype(x_image.dtype) * x_text
        if self._held_out.from_shots:
            own = np.arange(len(x_image)), self._held_out.y[rows]
            cosines[own] = (a * x_image[own] + (1.0 - a) * x_text[own]) * (scale / norm_of(own_ut[rows]))
        return np.asarray(cosines)
