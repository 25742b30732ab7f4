"""The term of a pool of unlabelled pictures; how far it is trusted is in the module ``pool_trust``.

Gaussian classes of one covariance over the pool, by expectation-maximisation started from the classifier and added to it.
The responsibilities of a round are the softmax of the classifier's logits / temperature plus the term; the prior of a class is
(K mu + 2 g) / (K + 2), worth K + 2 pictures, with mu the mean of its K shots and g its text moved over the gap between texts and
pictures. There are no class priors: a class that nothing in the pool belongs to keeps its mean, and frequent classes gain nothing.

**Every row is judged by class means without itself**, or a row of a small class would pull the mean to itself and confirm itself:
with r its share in a class of total weight W (so mu' = (W mu - r u) / (W - r)) and equal footing for the length of the mean, as in
:mod:`isomix.fewshot.leave_one_out`. This holds within the rounds. What is left at the end is linear in the picture.

After TransCLIP (Zanella, Gérin and Ben Ayed, *Boosting vision-language models with transduction*, NeurIPS 2024), with the whole
classifier in the place of its text term and without its neighbour term. Leaving each row out is this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Doubles, Floats, Indices, as_matrix, bit_sums, blocks, working_dtype
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.inputs import unit_rows
from isomix.fewshot.terms import Linear, Term
from isomix.fewshot.weights import Values

__all__ = ["Logits", "PoolRows", "PoolTerm", "class_term", "softmax"]

ROUNDS = 4
SHRINKAGE = 0.6
LEAST_SHARE = 1.0 / 64.0
"""Smaller shares in a class are not left out of its mean; so at most 64 numbers a row are kept between two rounds."""
SPREAD_ROWS = 4096
BLOCK_NUMBERS = 1 << 21

Logits = Callable[[Floats], Floats]
Shares = tuple[Indices, Indices, Floats]


class PoolTerm(Term):
    """x·W_c + b_c learnt from a pool, times the temperature of the classifier that it is added to."""

    def __init__(self, learnt: Linear, temperature: float) -> None:
        self.learnt, self.temperature = learnt, temperature

    def linear(self, values: Values) -> Linear:
        """W and b; nothing is chosen."""
        return Linear(self.temperature * self.learnt.coef, self.temperature * self.learnt.intercept)

    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """No shot has a label in it."""
        return self.logits(held_out.X, values)


class PoolRows:
    """Unit rows of a pool, read by blocks; the pool is neither copied nor changed.

    Parameters
    ----------
    pool : array_like, shape (m, d)
        float16, float32 or float64, perhaps memory-mapped.
    width : int
    shots : ndarray, shape (n, d), or None
        Shots, as they were given.

    Attributes
    ----------
    dropped : int
        Pictures that are, bit for bit, a shot, or came before.
    weights : ndarray, shape (m,), or None
        How much each counts, from 0 to 1; None: all do.

    Raises
    ------
    InputError
        Wrong dtype, dimensions or width, NaN, rows of zeros.
    """

    def __init__(self, pool: ArrayLike, width: int, shots: Floats | None = None) -> None:
        array = as_matrix(
            pool, "unlabelled", width=width, width_of="the shots'", nonzero_rows=True, keep_half=True
        )  # fmt: skip
        self._array, self.dtype = array, working_dtype(array.dtype)
        # As they were given: unit rows of two calls may differ in the last digit.
        dtype = self.dtype if shots is None else shots.dtype
        sums = np.empty(len(array), np.uint64)
        for part in blocks(len(array), 4096):
            sums[part] = bit_sums(array[part].astype(dtype))
        known, first = np.unique(sums, return_index=True)
        if shots is not None:
            first = first[~np.isin(known, bit_sums(shots))]
        self.numbers = np.sort(first)
        self.dropped = len(array) - len(first)
        self.weights: Floats | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def some(self, most: int) -> PoolRows:
        """At most so many of the rows, at random, but the same ones every time; without weights."""
        fewer = copy(self)
        fewer.weights = None
        if len(self) > most:
            fewer.numbers = np.sort(np.random.default_rng(0).choice(self.numbers, most, replace=False))
        return fewer

    def take(self, rows: Indices) -> Floats:
        """Some of the rows."""
        return self._unit(self._array[self.numbers[rows]], 0)

    def blocks(self, size: int) -> Iterator[tuple[int, Floats]]:
        """First row and rows of every block."""
        for part in blocks(len(self), size):
            yield part.start, self.take(np.arange(part.start, part.stop))

    def _unit(self, rows: Floats, start: int) -> Floats:
        return unit_rows(np.asarray(rows, self.dtype), start)


def softmax(logits: Floats) -> Floats:
    """Of every row, in place."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


class _Gaussians(NamedTuple):
    """Classes after a round: (x - g)ᵀ P (mu_c - g) - ½ (mu_c - g)ᵀ P (mu_c - g), and what leaving a row out takes."""

    g: Doubles
    P: Doubles
    coef: Doubles
    lengths: Doubles
    totals: Doubles
    mean_square: float

    @classmethod
    def of(
        cls, second: Doubles, n: float, shares: Doubles, sums: Doubles, prior: Doubles, counts: Doubles
    ) -> _Gaussians:
        """From Σ u uᵀ of rows that count n in all, shares (C,) and sums (C, d) of the classes, and their prior means and counts."""
        d = len(second)
        totals = counts + shares
        means = (counts[:, None] * prior + sums) / totals[:, None]
        scatter = (second - (sums / np.maximum(shares, 1e-9)[:, None]).T @ sums) / n
        sigma = (1.0 - SHRINKAGE) * scatter + SHRINKAGE * np.trace(scatter) / d * np.eye(d)
        P, g = np.linalg.inv(sigma), means.mean(axis=0)
        V = means - g
        coef = V @ P
        mean = sums.sum(axis=0) / n
        outer = second / n - np.outer(mean, g) - np.outer(g, mean) + np.outer(g, g)
        return cls(g, P, coef, np.einsum("ij,ij->i", coef, V), totals, float(np.vdot(P, outer)))

    def linear(self, scale: float) -> Linear:
        """For any picture."""
        return Linear(scale * self.coef, -scale * (0.5 * self.lengths + self.coef @ self.g))

    def __call__(self, U: Floats, shares: Shares) -> Floats:
        """Logits (n, C) of rows of the pool, each without itself where it has a share."""
        dtype = U.dtype
        logits = U @ self.coef.T.astype(dtype)
        logits -= (self.coef @ self.g).astype(dtype)
        row, column, r = shares
        of_row, n, W = logits[row, column].astype(np.float64), self.lengths[column], self.totals[column]
        centred = U - self.g.astype(dtype)
        own = np.einsum("ij,ij->i", centred @ self.P.astype(dtype), centred).astype(np.float64)[row]
        logits -= (0.5 * self.lengths).astype(dtype)
        left = W - r
        inflated = self.mean_square * (1.0 / left - 1.0 / W)
        square = (W**2 * n - 2.0 * W * r * of_row + r**2 * own) / left**2 - inflated
        logits[row, column] = (W * of_row - r * own) / left - 0.5 * square
        return np.asarray(logits)


def class_term(
    rows: PoolRows, start: Logits, prior: Doubles, counts: Doubles, weight: float, least_share: float = LEAST_SHARE
) -> Linear:
    """Expectation-maximisation over a pool, see the module: the term for any picture, on the scale of ``start``.

    Time is that of three products of the pool with the classes, and one with a matrix (d, d), a round; memory beside the pool that of
    some blocks of 8 MB, of a few arrays (d, d), and of at most 64 shares a row, in practice of a few. There is no (m, C) matrix.

    Parameters
    ----------
    rows : PoolRows
        m rows, one at least.
    start : callable
        Logits (n, C) of unit rows (n, d), as a new array.
    prior : ndarray, shape (C, d)
        Class means before any picture of the pool.
    counts : ndarray, shape (C,)
        What they are worth, in pictures; above 1.
    weight : float
        lambda: how far the term differs between classes, in units of ``start``.
    least_share : float
        See ``LEAST_SHARE``.
    """
    C, d = prior.shape
    n = float(len(rows) if rows.weights is None else rows.weights.sum(dtype=np.float64))
    size, step = max(BLOCK_NUMBERS // max(C, d), 16), 1 + (len(rows) - 1) // SPREAD_ROWS
    second, spread = np.zeros((d, d)), 0.0
    learnt, gaussians, scale = Linear(np.zeros((C, d)), np.zeros(C)), None, 0.0
    known: list[Shares] = []
    for _ in range(ROUNDS):
        shares, sums = np.zeros(C), np.zeros((C, d))
        kept: list[Shares] = []
        sample: list[tuple[Floats, Floats, Shares]] = []
        for b, (first, U) in enumerate(rows.blocks(size)):
            logits = start(U)
            weights = np.ones(len(U), U.dtype) if rows.weights is None else rows.weights[first : first + len(U)]
            if gaussians is None:
                spread += float(weights @ logits.std(axis=1)) / n
                second += (U.T * weights) @ U
            else:
                logits += U.dtype.type(scale) * gaussians(U, known[b])
            R = softmax(logits)
            R *= weights[:, None]
            shares += np.ones(len(R), R.dtype) @ R
            sums += R.T @ U
            i, c = np.nonzero(least_share < R)
            kept.append((i.astype(np.int32), c.astype(np.int32), R[i, c]))
            of_sample = (i + first) % step == 0
            offset = -first % step
            of = (i[of_sample] - offset) // step, c[of_sample], R[i, c][of_sample]
            sample.append((U[offset::step].copy(), weights[offset::step], of))  # a view would keep the whole block
        known = kept
        gaussians = _Gaussians.of(second, n, shares, sums, prior, counts)
        deviation = sum(float(w @ gaussians(U, of).std(axis=1)) for U, w, of in sample)
        deviation /= sum(float(w.sum(dtype=np.float64)) for _, w, _ in sample)
        scale = weight * spread / max(deviation, 1e-300)
        learnt = gaussians.linear(scale)
    return learnt
