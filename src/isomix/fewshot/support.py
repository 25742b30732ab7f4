"""What a classifier knows: the shots, accumulated over every ``fit`` and ``partial_fit``, and the texts of the classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles, Floats, Indices
from isomix.errors import InputError
from isomix.fewshot.imputation import complete
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.texts import ClassTexts

__all__ = ["Shots", "Support", "into_space"]


def into_space(space: Any, X: Floats) -> Floats:
    """Rows in a space, in the dtype of ``X``; ``X`` itself without one."""
    return X if space is None else np.asarray(space.transform(X), X.dtype)


@dataclass(frozen=True)
class Shots:
    """Class means and scatter of the shots, and the shots themselves for the classifiers that cannot do without.

    Attributes
    ----------
    moments : ClassMoments
    in_space : ClassMoments or None
        Of the shots in an adapted space.
    X : ndarray, shape (N, d), or None
        Unit rows, with the class numbers ``y`` and ``weights`` (N,).
    """

    moments: ClassMoments
    in_space: ClassMoments | None = None
    X: Floats | None = None
    y: Indices | None = None
    weights: Doubles | None = None

    @classmethod
    def of(cls, X: Floats, y: Indices, n_classes: int, weights: Doubles, *, space: Any, keep: bool) -> Shots:
        """From unit rows, with moments in ``space`` where it is not None, and with the rows where ``keep`` says so."""
        if space is not None and (isinstance(space, type) or not hasattr(space, "transform")):
            raise InputError(f"space: got {space!r}, expected a fitted space, with transform, or None.")
        inside = None if space is None else ClassMoments.of(into_space(space, X), y, n_classes, weights)
        moments = ClassMoments.of(X, y, n_classes, weights)
        return cls(moments, inside, X, y, weights) if keep else cls(moments, inside)

    def take(self, positions: Indices, n_classes: int) -> Shots:
        """The same shots where class i has number ``positions[i]`` among ``n_classes``."""
        return Shots(
            self.moments.take(positions, n_classes),
            None if self.in_space is None else self.in_space.take(positions, n_classes),
            self.X,
            None if self.y is None else positions[self.y],
            self.weights,
        )

    def some(self, wanted: NDArray[np.bool_]) -> Shots:
        """The same shots without the classes that are not ``wanted`` and have none."""
        if wanted.all():
            return self
        places = np.cumsum(wanted) - 1
        inside = self.in_space
        return Shots(
            replace(self.moments, counts=self.moments.counts[wanted], means=self.moments.means[wanted]),
            None if inside is None else replace(inside, counts=inside.counts[wanted], means=inside.means[wanted]),
            self.X,
            None if self.y is None else places[self.y],
            self.weights,
        )

    def merge(self, other: Shots) -> Shots:
        """The union with more shots of the same classes."""
        return Shots(
            self.moments.merge(other.moments),
            None if self.in_space is None or other.in_space is None else self.in_space.merge(other.in_space),
            None if self.X is None or other.X is None else np.concatenate([self.X, other.X]),
            None if self.y is None or other.y is None else np.concatenate([self.y, other.y]),
            None if self.weights is None or other.weights is None else np.concatenate([self.weights, other.weights]),
        )

    def kept(self) -> tuple[Floats, Indices, Doubles]:
        """Rows, class numbers and weights."""
        if self.X is None or self.y is None or self.weights is None:
            raise InputError("this term needs the shots themselves: set keeps_shots = True in the classifier's class.")
        return self.X, self.y, self.weights


@dataclass(frozen=True)
class Support:
    """What the terms of a classifier are computed from.

    Attributes
    ----------
    shots : Shots
    means : ndarray, shape (C, d)
        Mean images; imputed for classes without pictures.
    texts : ndarray, shape (C, d)
        Unit class texts; imputed for classes without text, zero where no class has any.
    has_text : ndarray of bool, shape (C,)
    prompts : list of ndarray, shape (p, d) each
        p = 0 for a class without text.
    """

    shots: Shots
    means: Doubles
    texts: Doubles
    has_text: NDArray[np.bool_]
    prompts: list[Doubles]

    @classmethod
    def of(cls, shots: Shots, texts: ClassTexts, classes: NDArray[Any]) -> Support:
        """Fill in what is missing; raises :class:`InputError` for a class without pictures and text."""
        names = np.array(classes.tolist(), dtype=object)
        moments = shots.moments
        means, completed = complete(moments.means, moments.counts > 0, texts.vectors, texts.known, names)
        return cls(shots, means, completed, texts.known, texts.prompts)

    @property
    def moments(self) -> ClassMoments:
        """Of the shots."""
        return self.shots.moments

    @property
    def given_texts(self) -> Doubles:
        """The texts of the classes that have one."""
        return self.texts[self.has_text]
