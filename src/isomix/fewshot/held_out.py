"""Held-out shots: which ones the weights are chosen by, how weights are scored, and the temperature."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from isomix._arrays import Doubles, Floats, Indices, blocks
from isomix.fewshot.moments import ClassMoments

__all__ = [
    "SAMPLED_ROWS",
    "HeldOut",
    "brier_score",
    "calibrated_temperature",
    "coordinate_search",
    "leave_one_out",
    "validation_shots",
]

SAMPLED_ROWS = 512
SCORED_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class HeldOut:
    """Shots that the weights are chosen by.

    Attributes
    ----------
    X : ndarray, shape (n, d)
        Unit rows.
    y : ndarray, shape (n,)
        Class numbers.
    weights : ndarray, shape (n,)
    tier : {"none", "few", "full"}
        ``"none"``: the rows are shots of the fit, and each must be judged by the classifier without it.
    rows : ndarray, shape (n,)
        Their numbers among all shots; empty for validation shots, like the next three.
    X_all, y_all, weights_all : ndarray
        Every shot, of which ``X`` may be a part.
    """

    X: Floats
    y: Indices
    weights: Doubles
    tier: str
    rows: Indices
    X_all: Floats
    y_all: Indices
    weights_all: Doubles

    @property
    def from_shots(self) -> bool:
        """Whether the rows have to be left out."""
        return self.tier == "none"


def leave_one_out(
    X: Floats, y: Indices, weights: Doubles, moments: ClassMoments, max_rows: int | None = None
) -> HeldOut | None:
    """Shots that can be left out, because their class has others; None if there are none.

    At most ``max_rows`` of them, taken in turn from the classes: what is estimated from them, one number for each candidate
    weight, has a standard error of a few percent there at most, and the cost stays that of a few fits. Default: 512 (1 + 6 / K)
    at K shots a class, because the more shots there are, the less a wrong weight costs.
    """
    rows = np.flatnonzero(moments.counts[y] - weights > 1e-9 * moments.counts[y])
    if not rows.size or moments.degrees_of_freedom <= 1:
        return None
    if max_rows is None:
        max_rows = int(SAMPLED_ROWS * (1.0 + 6.0 * np.count_nonzero(moments.counts) / moments.total))
    if rows.size > max_rows:
        order = np.argsort(y[rows], kind="stable")
        ranked = y[rows][order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        turn = np.arange(rows.size) - np.repeat(starts, np.diff(np.r_[starts, rows.size]))
        # In each round the classes come in a scattered order, so that a cut round is not the first half of the alphabet.
        scattered = (ranked * 2654435761) % 4294967296
        rows = np.sort(rows[order[np.lexsort((scattered, turn))][:max_rows]])
    return HeldOut(X[rows], y[rows], weights[rows], "none", rows, X, y, weights)


def validation_shots(X: Floats, y: Indices, moments: ClassMoments, tier: str) -> HeldOut:
    """Validation pictures; for tier ``"few"`` the first min(K, 4) of each class, K the largest number of shots of a class."""
    if tier == "few":
        limit = int(min(max(moments.counts.max(), 1.0), 4.0))
        order = np.argsort(y, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(y[order]) != 0])
        turn = np.arange(len(y)) - np.repeat(starts, np.diff(np.r_[starts, len(y)]))
        rows = np.sort(order[turn < limit])
        X, y = X[rows], y[rows]
    return HeldOut(X, y, np.ones(len(y)), tier, y[:0], X[:0], y[:0], np.zeros(0))


def brier_score(logits_of: Callable[[slice], Floats], held_out: HeldOut, halvings: int = 0) -> float:
    """Weighted mean of Σ_c (p_c - [c = y])² less one, p the softmax of the logits; lower is better.

    A proper score like the log-loss, which a few confident errors cannot dominate.

    Parameters
    ----------
    logits_of : callable
        Gives the logits of a slice of the held-out rows, as a new array, which is overwritten. It is asked for blocks that
        stay in the processor's cache.
    held_out : HeldOut
    halvings : int
        Take the least score of logits / T over T = 1, 2, 4, ... 2^halvings. For logits whose scale means nothing: the score
        charges a candidate for its confidence too, so that a term that makes every logit larger loses although no decision
        depends on it.
    """
    first = logits_of(slice(0, 1))
    totals = np.zeros(halvings + 1)
    for rows in blocks(len(held_out.y), max(SCORED_AT_ONCE // first.shape[1], 1)):
        logits = logits_of(rows)
        own = np.arange(len(logits)), held_out.y[rows]
        logits -= logits.max(axis=1, keepdims=True)
        for j in range(halvings + 1):
            cooled = np.exp(logits * logits.dtype.type(0.5**j)) if halvings else np.exp(logits, out=logits)
            total = cooled.sum(axis=1)
            square = np.einsum("ij,ij->i", cooled, cooled) / total**2
            totals[j] += held_out.weights[rows] @ (square - 2.0 * cooled[own] / total)
    return float(totals.min() / held_out.weights.sum())


def calibrated_temperature(logits: Floats, held_out: HeldOut) -> float:
    """Temperature T > 0 with the least log-loss of softmax(logits / T) on held-out shots (Guo et al., ICML 2017).

    Labels count as right with probability (n + 1) / (n + 2) for n shots (Platt 1999): a few shots that are all classified
    correctly must not make the classifier certain of everything.
    """
    shifted = np.asarray(logits - logits.max(axis=1, keepdims=True), np.float64)
    doubt = 1.0 / (held_out.weights.sum() + 2.0)
    own = shifted[np.arange(len(shifted)), held_out.y]
    others = (shifted.sum(axis=1) - own) / max(shifted.shape[1] - 1, 1)
    right = (1.0 - doubt) * own + doubt * others

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        normaliser = np.log(np.exp(inverse * shifted).sum(axis=1))
        return float(np.average(normaliser - inverse * right, weights=held_out.weights))

    found = minimize_scalar(loss, bounds=(np.log(1e-2), np.log(1e3)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def coordinate_search(
    loss: Callable[[dict[str, Any]], float],
    grids: Mapping[str, Sequence[Any]],
    start: Mapping[str, Any],
    sweeps: int = 3,
) -> dict[str, Any]:
    """Minimise over grids: one parameter after the other from ``start``, then steps along one or two while they help.

    Along one parameter every second candidate is looked at, once, then the neighbours of the best.

    The steps are for valleys that run across the axes: a discriminant is worth more when the text weighs more, too. Ties go to
    the earlier point, and nothing is computed twice.
    """
    axes = {name: sorted({start[name], *grid}) for name, grid in grids.items()}
    point = dict(start)
    seen: dict[Hashable, float] = {}

    def cached(candidate: dict[str, Any]) -> float:
        key = tuple(candidate[name] for name in axes)
        if key not in seen:
            seen[key] = loss(candidate)
        return seen[key]

    def best(candidates: Iterable[dict[str, Any]]) -> dict[str, Any]:
        return min([point, *candidates], key=cached)

    for sweep in range(sweeps):
        before = point
        for name, grid in axes.items():
            if not sweep:
                point = best({**point, name: value} for value in grid[::2])
            place = grid.index(point[name])
            point = best({**point, name: value} for value in grid[max(place - 1, 0) : place + 2])
        if point == before:
            break
    while (step := best(_neighbours(point, axes))) != point:
        point = step
    return point


def _neighbours(point: dict[str, Any], grids: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The neighbours of ``point`` on the grids that differ in one or two parameters."""
    for names in (*combinations(grids, 1), *combinations(grids, 2)):
        for move in product((-1, 1), repeat=len(names)):
            moved = dict(point)
            for name, by in zip(names, move, strict=True):
                place = grids[name].index(point[name]) + by
                moved[name] = grids[name][min(max(place, 0), len(grids[name]) - 1)]
            yield moved
