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

from typing import Any

import numpy as np

from isomix._arrays import Doubles, Floats
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.shrinkage import shrink

__all__ = ["discriminant_without", "excess", "means_without", "scatter_factor"]


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
    centres: Doubles | None = None,
    share: Doubles | None = None,
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
    centres : ndarray, shape (C, d), optional
        What ``moments.scatter`` is taken around, when that is not the class means but points that no shot moves.
    share : ndarray, shape (C,), optional
        How much of its mean image stands in a row of ``means``: a shot left out moves it by that much less. Default: all of it.

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
    part = np.ones(n) if share is None else share[y]
    lost = part * held_out.weights / (moments.counts[y] - held_out.weights)
    own = M[y] - lost[:, None] * (X - mu[y])
    if centres is None:
        r, factor = X - mu[y], scatter_factor(held_out, moments)
    else:
        r, factor = X - ((centres - g) @ basis)[y], held_out.weights
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
        oDo = oDo - part**2 * of_scatter / freedom * excess(held_out, moments)
    logits[rows, y] = np.einsum("ij,ij,ij->i", X, D, own) + gain * xr * oDr - 0.5 * (oDo + gain * oDr**2)
    return np.asarray(logits)
