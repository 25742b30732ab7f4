"""What logits are a sum of: terms, each with its formula, the numbers it has to choose, and its exact leave-one-out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from isomix._arrays import Doubles, Floats
from isomix.fewshot.held_out import SAMPLED_ROWS, HeldOut
from isomix.fewshot.inputs import check_number
from isomix.fewshot.support import into_space
from isomix.fewshot.weights import HeldOutLogits, Parameter, Values

__all__ = ["Linear", "Term", "Weighted"]


class Linear(NamedTuple):
    """Logits x·coef_c + intercept_c, or of x in a space.

    Attributes
    ----------
    coef : ndarray, shape (C, d)
    intercept : ndarray, shape (C,)
    space : fitted space or None
    """

    coef: Doubles
    intercept: Doubles
    space: Any = None

    def __call__(self, X: Floats) -> Floats:
        """Logits (n, C) of rows (n, d), in their dtype."""
        X = into_space(self.space, X)
        return np.asarray(X @ self.coef.T.astype(X.dtype) + self.intercept.astype(X.dtype))


class Term(ABC):
    """A function r_c(x) of shots and texts, made anew whenever these change.

    A term that is linear in x (or in x in a space) defines :meth:`linear`, any other :meth:`logits`. Its constructor takes the
    :class:`~isomix.fewshot.support.Support` and the user's numbers, and checks them.
    """

    weight_start: ClassVar[float] = 0.0
    """Its weight in a sum where nothing can be held out to choose it by."""
    weight_grid: tuple[float, ...] = (0.0, *(2.0**j for j in range(-7, 5)))
    """Candidate weights, in units of the one at which it differs as much between classes as the terms before it."""
    weight_expected: float = 0.0
    """The weight that is to be expected without any data, in the same units."""
    weight_is_surprising: ClassVar[bool] = True
    """Whether a weight far from that has to be earned, see :class:`isomix.fewshot.weights.Parameter`."""
    uses_text: bool = True
    """Whether it compares with texts, whose logit scale says something about confidence."""
    spread_rows: ClassVar[int | None] = SAMPLED_ROWS
    """By how many held-out shots, at most, that unit is measured; None: by all."""

    @property
    def exists(self) -> bool:
        """False where shots and texts do not allow for it: it is left out of the sum."""
        return True

    def note(self, weight: str | None) -> str | None:
        """What to warn of in ``fit``, in a sum where its weight has that name (None: no weight)."""
        return None

    def parameters(self) -> list[Parameter]:
        """What it has to choose, its weight in the sum apart; raises :class:`InputError` for numbers that cannot be."""
        return []

    def attributes(self, values: Values) -> dict[str, Any]:
        """What else than its parameters a fitted classifier shows, by name without the underscore."""
        return {}

    def linear(self, values: Values) -> Linear | None:
        """Coefficients and intercepts; None for a term that is not linear."""
        return None

    def logits(self, X: Floats, values: Values) -> Floats:
        """Logits (n, C) of unit rows (n, d), in their dtype."""
        linear = self.linear(values)
        if linear is None:
            raise NotImplementedError(f"{type(self).__name__} defines neither linear nor logits.")
        return linear(X)

    @abstractmethod
    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """Logits (n, C) of held-out shots, each by the term without it where ``held_out.from_shots``."""

    def candidates(self, held_out: HeldOut) -> HeldOutLogits:
        """The same for a search, which asks for blocks of rows at many weights: computed once for each of its parameters.

        A term that can do better overrides it.
        """
        names = [parameter.name for parameter in self.parameters()]
        known: dict[tuple[Any, ...], Floats] = {}

        def logits(values: Values, rows: slice) -> Floats:
            key = tuple(values[name] for name in names)
            if key not in known:
                known[key] = self.held_out_logits(held_out, values)
            return known[key][rows]

        return logits


class Weighted:
    """A term of a sum, and its weight.

    Parameters
    ----------
    name : str or None
        Of the weight: the constructor's argument. None: the weight is 1.
    given : float or None
        None: chosen.
    term : Term
    """

    def __init__(self, name: str | None, given: float | None, term: Term) -> None:
        if name is not None:
            check_number(given, name, chosen=True)
        self.name, self.given, self.term = name, given, term

    @classmethod
    def of(cls, term: Term | Weighted) -> Weighted:
        """A bare term has the weight 1."""
        return term if isinstance(term, Weighted) else cls(None, None, term)

    def weight(self, values: Values) -> float:
        """The weight at these values."""
        return 1.0 if self.name is None else float(values[self.name])

    def note(self) -> str | None:
        """What to warn of in ``fit``."""
        return self.term.note(self.name) if self.name is None or self.given else None

    def parameters(self) -> list[Parameter]:
        """Its weight, if it has one, and what the term has to choose."""
        if self.name is None:
            return self.term.parameters()
        if self.term.exists:
            weight = Parameter.of(self.name, self.given, self.term.weight_start, self.term.weight_grid)
        else:
            weight = Parameter(self.name, 0.0, given=self.given is not None)
        return [weight, *self.term.parameters()]

    def in_units(self, weight: Parameter, unit: float) -> Parameter:
        """The parameter of the weight with its candidates multiplied by ``unit``."""
        expected = self.term.weight_expected * unit

        def surprise(value: float) -> float:
            return float(np.log2((1.0 + value / unit) / (1.0 + expected / unit)) ** 2)

        grid = [unit * factor for factor in weight.grid]
        return Parameter(weight.name, expected, grid, surprise if self.term.weight_is_surprising else None)
