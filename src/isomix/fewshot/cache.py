"""The cache term of Tip-Adapter and APE: every shot votes for its class, the more the nearer it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax

from isomix._arrays import Doubles, Floats, Indices, check_integer
from isomix.errors import InputError
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.inputs import check_number
from isomix.fewshot.prototypes import TextCosine
from isomix.fewshot.support import Support
from isomix.fewshot.terms import Term
from isomix.fewshot.weights import Parameter, Values
from isomix.linalg import normalize_rows

__all__ = ["ALPHA_GRID", "Cache", "SelectedCache"]

ALPHA_GRID = (0.0, *(2.0 ** (j / 2) for j in range(-10, 9)))
SHARPNESS_GRID = (1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0, 35.0)
AUTHORS_SHARPNESS = 5.5


class ClassSums:
    """Sums over the shots of every class of the columns of an affinity matrix: the product with one-hot labels, without it."""

    def __init__(self, y: Indices, n_classes: int) -> None:
        self.order = np.argsort(y, kind="stable")
        self._present, self._starts = np.unique(y[self.order], return_index=True)
        self._n_classes = n_classes

    def __call__(self, affinity: Floats) -> Floats:
        """Affinities (n, N) with columns in ``order`` to class sums (n, C)."""
        sums = np.zeros((len(affinity), self._n_classes), affinity.dtype)
        sums[:, self._present] = np.add.reduceat(affinity, self._starts, axis=1)
        return sums


class Cache(Term):
    """Σ_i w_i exp(-beta (1 - x·f_i)) [y_i = c] over the shots f_i.

    Parameters
    ----------
    support : Support
        With the shots themselves.
    sharpness : float or None
        beta; None: chosen.
    """

    weight_start = 1.0
    weight_grid = ALPHA_GRID
    weight_is_surprising = False
    spread_rows = None

    def __init__(self, support: Support, sharpness: float | None) -> None:
        check_number(sharpness, "sharpness", chosen=True)
        self.sharpness = sharpness
        X, self.classes, weights = support.shots.kept()
        self.counts = support.moments.counts
        self.sums = ClassSums(self.classes, len(self.counts))
        self.votes = self.votes_of(X, weights)
        self._keys = np.ascontiguousarray(self.channels_of(X)[self.sums.order])
        self._votes_in_order = self.votes[self.sums.order]

    def channels_of(self, X: Floats) -> Floats:
        """What keys and queries are compared by."""
        return X

    def votes_of(self, X: Floats, weights: Doubles) -> Doubles:
        """w_i, what a shot adds to its class."""
        return weights

    def parameters(self) -> list[Parameter]:
        """``sharpness``."""
        return [Parameter.of("sharpness", self.sharpness, AUTHORS_SHARPNESS, SHARPNESS_GRID)]

    def logits(self, X: Floats, values: Values) -> Floats:
        """The formula."""
        affinity = self.channels_of(X) @ self._keys.T.astype(X.dtype, copy=False)
        affinity -= 1.0
        affinity *= values["sharpness"]
        np.exp(affinity, out=affinity)
        affinity *= self._votes_in_order.astype(X.dtype)
        return self.sums(affinity)

    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """Without a shot's own vote, and the sum of its class times W / (W - w), since its rivals keep all of theirs."""
        logits = self.logits(held_out.X, values)
        if held_out.from_shots:
            X = self.channels_of(held_out.X)
            rows, y = np.arange(len(X)), held_out.y
            own = np.exp(values["sharpness"] * (np.einsum("ij,ij->i", X, X) - 1.0)) * self.votes[held_out.rows]
            total = self.counts[y]
            logits[rows, y] = (logits[rows, y] - own) * total / (total - held_out.weights)
        return logits


class SelectedCache(Cache):
    """The cache on the channels that tell the class texts apart, with votes by what zero-shot makes of a shot.

    Channels are ranked by lambda S - (1 - lambda) V, with S the mean product between texts of different classes and V their
    variance over the classes, and the lowest are kept; keys and queries are normalised again on them. A vote is
    w_i exp(gamma KL_i), with KL_i = -log p_y the divergence of the zero-shot prediction from the label.

    Parameters
    ----------
    support : Support
    sharpness : float or None
    texts : TextCosine
        Zero-shot.
    n_channels : int or None
        None: 7/8 of the width.
    balance : float
        lambda.
    gamma : float
    """

    def __init__(
        self,
        support: Support,
        sharpness: float | None,
        texts: TextCosine,
        *,
        n_channels: int | None,
        balance: float,
        gamma: float,
    ) -> None:
        self.zero_shot, self.gamma = texts, gamma
        self.channels = _select_channels(support.texts, n_channels, balance)
        super().__init__(support, sharpness)

    def channels_of(self, X: Floats) -> Floats:
        """Unit rows of the selected channels."""
        return normalize_rows(np.ascontiguousarray(X[:, self.channels]), "selected channels")

    def votes_of(self, X: Floats, weights: Doubles) -> Doubles:
        """w_i exp(gamma KL_i)."""
        log_p = log_softmax(np.asarray(self.zero_shot(X), np.float64), axis=1)
        surprise = -log_p[np.arange(len(log_p)), self.classes]
        return np.asarray(weights * np.exp(self.gamma * surprise))

    def attributes(self, values: Values) -> dict[str, Any]:
        """``channels``."""
        return {"channels": self.channels}


def _select_channels(texts: Doubles, n_channels: int | None, balance: float) -> Indices:
    n, d = texts.shape
    kept = max(1, d * 7 // 8) if n_channels is None else check_integer(n_channels, "n_channels", minimum=1)
    if kept > d:
        raise InputError(f"n_channels: got {kept}, expected at most the width of the embeddings, {d}.")
    similarity = (texts.sum(axis=0) ** 2 - (texts**2).sum(axis=0)) / (n * (n - 1))
    criterion = balance * similarity - (1.0 - balance) * texts.var(axis=0)
    return np.sort(np.argsort(criterion, kind="stable")[:kept])
