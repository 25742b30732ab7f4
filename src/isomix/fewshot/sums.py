"""Sums of terms: the choice of all their weights at once, and prediction by one matrix product for all linear ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from isomix._arrays import Doubles, Floats
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.support import into_space
from isomix.fewshot.terms import Term, Weighted
from isomix.fewshot.weights import Parameter, Values, balancing_weight

__all__ = ["HeldOutSum", "Predictor", "Sum"]


class Sum:
    """logits(x) = Σ_j w_j r_j(x) of terms r_j and weights w_j."""

    def __init__(self, terms: Iterable[Term | Weighted]) -> None:
        self.parts = tuple(Weighted.of(term) for term in terms)

    @property
    def uses_text(self) -> bool:
        """Whether any term compares with texts."""
        return any(part.term.uses_text for part in self.parts)

    def notes(self) -> list[str]:
        """What to warn of in ``fit``."""
        return [note for part in self.parts if (note := part.note()) is not None]

    def parameters(self, logits: HeldOutSum | None = None) -> list[Parameter]:
        """All that is to be chosen; candidate weights in units that ``logits`` of held-out shots give."""
        found: list[Parameter] = []
        for j, part in enumerate(self.parts):
            own = part.parameters()
            if logits is not None and part.name is not None and own[0].grid:
                unit = logits.unit(j, {parameter.name: parameter.start for parameter in [*found, *own]})
                own[0] = part.in_units(own[0], unit)
            found += own
        return found

    def held_out(self, held_out: HeldOut) -> HeldOutSum:
        """Logits of held-out shots at any weights."""
        return HeldOutSum(self.parts, held_out)

    def now(self, values: Values) -> dict[str, Any]:
        """Values at the present number of shots: the user's own numbers hold, what was chosen stays."""
        return {p.name: p.start if p.given else values[p.name] for p in self.parameters()}

    def attributes(self, values: Values) -> dict[str, Any]:
        """What a fitted classifier shows, by name without the underscore."""
        shown = dict(values)
        for part in self.parts:
            shown |= part.term.attributes(values)
        return shown


class HeldOutSum:
    """Logits of held-out shots at any weights, each by the terms without it; what is not asked for is not computed."""

    def __init__(self, parts: Sequence[Weighted], held_out: HeldOut) -> None:
        self._parts, self._held_out = parts, held_out
        self._candidates: dict[int, Any] = {}

    def term(self, j: int, values: Values, rows: slice) -> Floats:
        """Logits of a term without its weight, (n, C); perhaps a view."""
        if j not in self._candidates:  # a discriminant of weight 0, for one, costs as much as a fit
            self._candidates[j] = self._parts[j].term.candidates(self._held_out)
        return np.asarray(self._candidates[j](values, rows))

    def __call__(self, values: Values, rows: slice = slice(None), first: int | None = None) -> Floats:
        """Logits (n, C) of the ``first`` terms (default: all), a new array."""
        total: Floats | None = None
        for j, weight in _used(self._parts[:first], values):
            logits = self.term(j, values, rows)
            if weight != 1.0:
                logits = logits.dtype.type(weight) * logits
            if total is None:
                total = logits if logits.flags.owndata else logits.copy()
            else:
                total += logits
        return np.asarray(total)

    def unit(self, j: int, values: Values) -> float:
        """The weight at which term j differs as much between classes as the terms before it."""
        some = self._parts[j].term.spread_rows
        rows = slice(None, None, 1 if some is None else 1 + (len(self._held_out.y) - 1) // some)
        own = self.term(j, values, rows)
        return balancing_weight(self(values, rows, j) if j else np.zeros_like(own), own)


class Predictor:
    """A sum at chosen weights.

    Attributes
    ----------
    coef : ndarray, shape (C, d), or None
        Of all terms that are linear in x; None where there are none.
    intercept : ndarray, shape (C,)
    """

    def __init__(self, parts: Sequence[Weighted], values: Values) -> None:
        self.coef: Doubles | None = None
        self.intercept: Doubles | None = None
        self._in_spaces: list[tuple[Any, Doubles]] = []
        self._others: list[tuple[float, Term]] = []
        self._values = values
        self._converted: dict[Any, tuple[Floats | None, Floats | None, list[tuple[Any, Floats]]]] = {}
        for j, weight in _used(parts, values):
            term = parts[j].term
            linear = term.linear(values)
            if linear is None:
                self._others.append((weight, term))
                continue
            coef, intercept = weight * linear.coef, weight * linear.intercept
            self.intercept = intercept if self.intercept is None else self.intercept + intercept
            if linear.space is not None:
                self._in_spaces.append((linear.space, coef))
            else:
                self.coef = coef if self.coef is None else self.coef + coef

    @property
    def is_linear(self) -> bool:
        """Whether ``coef`` and ``intercept`` say it all but for what is computed in a space."""
        return not self._others

    def __call__(self, X: Floats) -> Floats:
        """Logits (n, C) of unit rows (n, d), in their dtype."""
        coef, intercept, in_spaces = self._in_dtype(X.dtype)
        logits: Any = None if coef is None else X @ coef
        for space, coef in in_spaces:
            logits = _plus(logits, into_space(space, X) @ coef)
        for weight, term in self._others:
            other = term.logits(X, self._values)
            logits = _plus(logits, other if weight == 1.0 else X.dtype.type(weight) * other)
        return np.asarray(logits if intercept is None else _plus(logits, intercept))

    def _in_dtype(self, dtype: np.dtype[Any]) -> tuple[Floats | None, Floats | None, list[tuple[Any, Floats]]]:
        """Coefficients (d, C) in the dtype of the queries, converted once rather than for each block of them."""
        if dtype not in self._converted:
            self._converted[dtype] = (
                None if self.coef is None else np.ascontiguousarray(self.coef.T, dtype),
                None if self.intercept is None or not self.intercept.any() else self.intercept.astype(dtype),
                [(space, np.ascontiguousarray(coef.T, dtype)) for space, coef in self._in_spaces],
            )
        return self._converted[dtype]


def _used(parts: Sequence[Weighted], values: Values) -> list[tuple[int, float]]:
    """Number and weight of the terms that count; the first where none does."""
    weights = [(j, part.weight(values)) for j, part in enumerate(parts)]
    return [(j, weight) for j, weight in weights if weight] or weights[:1]


def _plus(total: Floats | None, more: Floats) -> Floats:
    if total is None:
        return more
    total += more
    return total
