"""The discriminant term: Gaussian classes with one shrunk covariance."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from isomix._arrays import Doubles, Floats
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.leave_one_out import discriminant_without
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.shrinkage import check_shrinkage, precision_times
from isomix.fewshot.support import Support, into_space
from isomix.fewshot.terms import Linear, Term
from isomix.fewshot.weights import Values

__all__ = ["Discriminant"]

LEAD = 2.0
"""Weight beside class means, in units of the one at which both differ as much between classes."""
FEW_SHOTS = 3
"""Below it, in the mean, that weight is not chosen."""


class Discriminant(Term):
    """x·W_c + b_c with W_c = Sigma^-1 mu_c and b_c = -½ mu_cᵀ Sigma^-1 mu_c: Gaussian classes of equal priors.

    Sigma is the pooled within-class covariance, shrunk. Without scatter (one shot a class) it is the identity, and in a weighted
    sum the term is left out.

    Parameters
    ----------
    moments : ClassMoments
    means : ndarray, shape (C, d)
        mu_c, complete.
    shrinkage : str or float
        See :func:`isomix.fewshot.shrinkage.shrink`.
    space : fitted space or None
        Where ``moments`` and ``means`` live, if not among the embeddings.
    leads : bool
        In a sum with terms that know no text: it is expected to weigh twice as much as they do, and at two shots a class it
        does. Leaving one of two out takes half of a class and half of what the covariance knows of it, by which the
        discriminant, ahead of the class means wherever it was measured, loses all of its lead.
    """

    uses_text = False

    def __init__(
        self, moments: ClassMoments, means: Doubles, shrinkage: str | float, space: Any = None, *, leads: bool = False
    ) -> None:
        check_shrinkage(shrinkage)
        self.moments, self.means, self.shrinkage, self.space = moments, means, shrinkage, space
        if leads:
            self.weight_expected = LEAD
            if moments.total < FEW_SHOTS * np.count_nonzero(moments.counts):
                self.weight_grid = (LEAD,)

    @classmethod
    def of(cls, support: Support, shrinkage: str | float, space: Any = None, *, leads: bool = False) -> Discriminant:
        """Of the shots, in the space if there is one."""
        moments = support.moments if support.shots.in_space is None else support.shots.in_space
        present = moments.counts > 0
        if space is None:
            means = support.means
        elif present.all():
            means = moments.means
        else:  # classes without pictures: their imputed mean image, moved into the space
            means = moments.means.copy()
            means[~present] = np.asarray(space.transform(support.means[~present]), np.float64)
        return cls(moments, means, shrinkage, space, leads=leads)

    @cached_property
    def solved(self) -> Linear:
        """W and b, less a constant of each row of logits.

        W_c = Sigma^-1 (mu_c - g), b_c = -½ (mu_c + g)ᵀ W_c with g the mean of the class means: no decision or probability sees
        the difference, which would cost half precision its digits.
        """
        g = self.means.mean(axis=0)
        W = precision_times(self.moments, self.shrinkage, self.means - g)
        return Linear(W, -0.5 * np.einsum("ij,ij->i", W, self.means + g), self.space)

    @property
    def exists(self) -> bool:
        """Whether there is a scatter to take a covariance from."""
        return self.moments.has_scatter

    def note(self, weight: str | None) -> str | None:
        """Without scatter the covariance is the identity, or the term has no part in the sum."""
        if self.exists:
            return None
        if weight is None:
            return (
                "one shot a class (or equal shots) has no within-class scatter; the covariance is taken as the identity. "
                "Give more shots, or use ProjectAndMix."
            )
        return (
            f"{weight}: at one shot a class there is no within-class scatter, so the discriminant is left out. Give more shots; "
            "TIMO can do with more prompts."
        )

    def linear(self, values: Values) -> Linear:
        """W and b; nothing is chosen."""
        return self.solved

    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """Exact, on equal footing: see :mod:`isomix.fewshot.leave_one_out`."""
        if not (held_out.from_shots and self.exists):
            return self.solved(held_out.X)
        inside = replace(
            held_out, X=into_space(self.space, held_out.X), X_all=into_space(self.space, held_out.X_all)
        )  # fmt: skip
        return discriminant_without(inside, self.moments, self.means, self.shrinkage, footing=True)
