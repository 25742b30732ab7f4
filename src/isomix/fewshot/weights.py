"""The choice of weights, for every classifier: candidates, a score on held-out shots, a weak prior, a search.

A classifier states its :class:`Parameter` list and its logits of the held-out shots as a function of the weights;
:func:`choose` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from isomix._arrays import Floats, blocks
from isomix.errors import InputError
from isomix.fewshot.held_out import HeldOut

__all__ = [
    "HELD_OUT_SOURCES",
    "SOURCES",
    "HeldOutLogits",
    "Parameter",
    "Values",
    "balancing_weight",
    "brier_score",
    "check_source",
    "choose",
    "coordinate_search",
    "source_of",
]

HELD_OUT_SOURCES = ("leave-one-out", "few-validation", "validation")
SOURCES = (*HELD_OUT_SOURCES, "prior", "given")
SCORED_AT_ONCE = 1 << 18

Values = Mapping[str, Any]
"""Parameter name → value."""

HeldOutLogits = Callable[[Values, slice], Floats]
"""Logits (n, C) of some held-out rows at given weights: a new array, or a view of one that must not be written to."""


@dataclass(frozen=True)
class Parameter:
    """A number that a classifier chooses, or was given.

    Attributes
    ----------
    name : str
        The constructor's argument, where it is one.
    start : number
        The value given; or that of the prior rule, where the search starts, and ends when nothing can be held out.
    grid : sequence of numbers
        Candidates. Empty: nothing to choose.
    surprise : callable, optional
        How far a candidate is from what is to be expected without any data, squared, in units in which half a shot outweighs 1:
        with a handful of shots the prior rule should hold.
    given : bool
        The user's own number, which holds at any number of shots.
    """

    name: str
    start: Any
    grid: Sequence[Any] = ()
    surprise: Callable[[Any], float] | None = None
    given: bool = False

    @classmethod
    def of(cls, name: str, given: Any, start: Any, grid: Sequence[Any]) -> Parameter:
        """The number given, or where it is None one to choose."""
        return cls(name, start, grid) if given is None else cls(name, float(given), given=True)


def source_of(parameters: Sequence[Parameter], held_out: HeldOut | None) -> str:
    """Where the weights come from; one of ``SOURCES``."""
    if not any(len(parameter.grid) for parameter in parameters):
        return "given"
    return "prior" if held_out is None else held_out.source


def choose(
    parameters: Sequence[Parameter], logits: HeldOutLogits | None, held_out: HeldOut | None, halvings: int = 0
) -> dict[str, Any]:
    """The value of every parameter: those with the least Brier score plus prior on the held-out shots.

    Parameters
    ----------
    parameters : sequence of Parameter
        Searched in this order, one after the other.
    logits : callable
        Of the held-out shots at any weights, each by the classifier that has not seen it.
    held_out : HeldOut or None
        None (like ``logits``): nothing can be left out, and every parameter stays at its start.
    halvings : int
        See :func:`brier_score`.
    """
    start = {parameter.name: parameter.start for parameter in parameters}
    searched = [parameter for parameter in parameters if len(parameter.grid)]
    if held_out is None or logits is None or not searched:
        return start

    def loss(point: dict[str, Any]) -> float:
        surprise = sum(parameter.surprise(point[parameter.name]) for parameter in searched if parameter.surprise)
        score = brier_score(lambda rows: logits(point, rows), held_out, halvings)
        return score + 0.5 * float(surprise) / float(held_out.weights.sum())

    return coordinate_search(loss, {parameter.name: parameter.grid for parameter in searched}, start)


def balancing_weight(base: Floats, term: Floats) -> float:
    """The weight at which a term differs between classes as much as what it is added to; both are logits (n, C).

    Logits that are all the same have no spread: then the unit is that of the term itself.
    """
    return (float(base.std(axis=1).mean()) or 1.0) / max(float(term.std(axis=1).mean()), 1e-12)


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


def check_source(tier: str | None, has_validation: bool) -> str:
    """What the weights are chosen by, from the arguments of ``fit``."""
    if tier is None:
        return "validation" if has_validation else "leave-one-out"
    if tier not in HELD_OUT_SOURCES or (tier != "leave-one-out") != has_validation:
        raise InputError(
            f"tier: got {tier!r} {'with' if has_validation else 'without'} validation; expected 'leave-one-out' without "
            "validation, or 'few-validation' or 'validation' with validation=(embeddings, labels)."
        )
    return tier
