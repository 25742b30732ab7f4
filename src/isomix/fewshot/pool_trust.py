"""How far a pool of unlabelled pictures is trusted: lambda, the weight of its term, from 0 to 1.

**Members.** A pool may hold strangers, pictures of no class. Shots and texts tell them: t(x) = max_c x·t_c over the texts does not use
a label, so it is distributed alike over shots and over pictures of the classes in the pool; strangers are mostly below. With q the
lower quartile of the shots', the share of members is P(t ≥ q) in the pool over P(t ≥ q) among the shots: the proportion of a mixture
by a ratio of tails (Blanchard, Lee and Scott, *Semi-supervised novelty detection*, JMLR 2010), at one threshold. A picture with
t < q counts in the term as much as members are expected there: 1 in a pool without strangers, a fifth where half are strangers.

**Trust.** lambda = clip((M - ½) / ½, 0, 1) · clip((N - 3) / 3, 0, 1) · clip((s - ½) / ¼, 0, 1), with s the share of members, so that
a pool of strangers for the most part is not used, N the members a class and M the cohesive mass
(:func:`isomix.neighbors.kinship.cohesive_mass`) of the pictures with t ≥ q among themselves, because strangers that stand in groups say
nothing about the classes; and 0 when the shots object, as labelled pictures that had no part in it: texts plus a pool term started
from the texts alone have a worse Brier score on the shots than the texts. A classifier that was loaded has no shots: then its class
means are judged, which object less readily.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles, Floats, Indices
from isomix.fewshot.imputation import GapMap
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.pool import Logits, PoolRows, class_term, softmax
from isomix.fewshot.support import into_space
from isomix.fewshot.terms import Linear
from isomix.linalg import normalize_rows
from isomix.neighbors import search
from isomix.neighbors.kinship import NEIGHBORS, Background, evenly, median_mass, without_self

__all__ = ["Judges", "Pool", "pool_of", "trust"]

LEAST_MASS, LEAST_ROWS_A_CLASS = 0.5, 3.0
"""Up to which lambda is 0; it is 1 from twice as much."""
LEAST_SHARE_OF_MEMBERS = 0.5
"""Up to which lambda is 0; it is 1 from half as much again."""
MEMBER_QUANTILE = 0.25
TEXT_SHOTS = 2.0
"""What a text is worth, in pictures of its class."""
TRUST_ROWS = 20_000
"""Of a larger pool so many rows say how far it is trusted."""
JUDGED_ROWS = 5_000
JUDGED_SHOTS = 4_096
BLOCK_ROWS = 4_096


class Pool(NamedTuple):
    """What a classifier took from unlabelled pictures, and why.

    Attributes
    ----------
    weight : float
        lambda, from 0 (the pool is not used) to 1: how far the term differs between classes, in units of the classifier.
    rows : int
        Pictures in the pool, less those ``dropped``.
    dropped : int
        Pictures that are, bit for bit, a shot or an earlier picture of the pool.
    members : float
        Estimated share of pictures that belong to some class.
    mass : float
        M: how many neighbours' worth of kin a picture of a class has.
    rows_a_class : float
        N.
    gain, error : float or None
        By how much the pool improves the Brier score of the texts on the shots, and its standard error; None where M or N have
        decided.
    term : Linear or None
        Added to the classifier's logits over temperature; None with ``weight`` 0.
    """

    weight: float
    rows: int
    dropped: int
    members: float
    mass: float
    rows_a_class: float
    gain: float | None = None
    error: float | None = None
    term: Linear | None = None

    def explanation(self) -> str:
        """How far it is trusted and why, in a sentence."""
        seen = f"{self.rows} pictures, {self.members:.0%} of them of a class, {self.rows_a_class:.1f} a class"
        seen += f", cohesive mass {self.mass:.2f}"
        if self.gain is not None:
            seen += f", gain on the shots {self.gain:+.3f} ± {self.error:.3f}"
        if self.weight:
            return f"the pool is used with weight {self.weight:.2f} of 1 ({seen})"
        if self.rows_a_class <= LEAST_ROWS_A_CLASS:
            return f"the pool is not used: more than {LEAST_ROWS_A_CLASS:g} pictures a class are needed ({seen})"
        if self.members <= LEAST_SHARE_OF_MEMBERS:
            return f"the pool is not used: most of its pictures belong to no class ({seen})"
        if self.mass <= LEAST_MASS:
            return f"the pool is not used: its pictures do not stand in groups, mass {LEAST_MASS:g} is needed ({seen})"
        return f"the pool is not used: it would make the texts worse on the shots ({seen})"


class Judges(NamedTuple):
    """Labelled pictures by which a pool is judged.

    Attributes
    ----------
    X : ndarray, shape (n, d)
        Unit rows.
    y : ndarray, shape (n,)
        Class numbers.
    likeness : ndarray, shape (n,)
        Largest cosine with a text.
    """

    X: Floats
    y: Indices
    likeness: Floats

    @classmethod
    def of(
        cls, shots: tuple[Floats, Indices] | None, moments: ClassMoments, texts: Doubles, has_text: NDArray[np.bool_]
    ) -> Judges:
        """Shots of classes with text, or the means of these classes, where there are no shots."""
        known = texts[has_text]
        some = np.zeros(0, np.intp) if shots is None else np.flatnonzero(has_text[shots[1]])
        if shots is not None and len(some):
            some = some[evenly(len(some), JUDGED_SHOTS)]
            X, y = shots[0][some], shots[1][some]
            return cls(X, y, likeness(X, known))
        both = has_text & (moments.counts > 0)
        means = moments.means[both]  # of a mean that is no unit row the cosine is the mean of its pictures' cosines
        return cls(normalize_rows(means, "mean images"), np.flatnonzero(both), likeness(means, known))


def likeness(X: Floats, texts: Doubles) -> Floats:
    """t(x) = max_c x·t_c; (n,)."""
    return np.asarray((X @ texts.T.astype(X.dtype)).max(axis=1))


def likeness_of(rows: PoolRows, texts: Doubles) -> Floats:
    """The same of a pool, by blocks."""
    return np.concatenate([likeness(U, texts) for _, U in rows.blocks(BLOCK_ROWS)])


class Members(NamedTuple):
    """Which pictures of a pool belong to some class, as far as t(x) tells.

    Attributes
    ----------
    threshold : float
        q, the lower quartile of t(x) among labelled pictures.
    share : float
        Estimated share of members in the pool.
    below : float
        Estimated share of members among the pictures with t(x) < q, which is what each of them counts.

    Examples
    --------
    A pool of as many members, like the shots, as strangers:

    >>> import numpy as np
    >>> shots = np.array([1.0, 2.0, 3.0, 4.0])
    >>> Members.of(np.array([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]), shots)
    Members(threshold=1.75, share=0.5, below=0.2)
    """

    threshold: float
    share: float
    below: float

    @classmethod
    def of(cls, pool: Floats, labelled: Floats) -> Members:
        """From t(x) of the pictures of a pool, (m,), and of labelled pictures, (n,)."""
        threshold = float(np.quantile(labelled, MEMBER_QUANTILE))
        above, expected = float((pool >= threshold).mean()), float((labelled >= threshold).mean())
        share = min(above / expected, 1.0)
        return cls(threshold, share, min(share * (1.0 - expected) / max(1.0 - above, 1e-12), 1.0))

    def weights(self, pool: Floats) -> Floats | None:
        """What each picture counts, (m,), by its t(x); None where all count alike."""
        return None if self.below == 1.0 else np.where(pool >= self.threshold, 1.0, self.below).astype(pool.dtype)


def trust(mass: float, rows_a_class: float, members: float, gain: float | None = None) -> float:
    """lambda, see the module; without ``gain`` the largest that it can be."""
    if gain is not None and gain < 0.0:
        return 0.0
    mass = (mass - LEAST_MASS) / LEAST_MASS
    rows_a_class = (rows_a_class - LEAST_ROWS_A_CLASS) / LEAST_ROWS_A_CLASS
    members = (members - LEAST_SHARE_OF_MEMBERS) / (LEAST_SHARE_OF_MEMBERS / 2.0)
    return float(np.prod(np.clip([mass, rows_a_class, members], 0.0, 1.0)))


def pool_of(
    rows: PoolRows,
    logits: Logits,
    *,
    shots: tuple[Floats, Indices] | None,
    moments: ClassMoments,
    means: Doubles,
    texts: Doubles,
    has_text: NDArray[np.bool_],
    logit_scale: float,
    space: Any = None,
) -> Pool:
    """The term of a pool at the weight that it deserves.

    Parameters
    ----------
    rows : PoolRows
    logits : callable
        Logits over temperature of the classifier, (n, C) of unit rows (n, d), as a new array.
    shots : (ndarray (n, d), ndarray (n,)) or None
        Unit rows and class numbers to judge the pool by. None: the class means.
    moments : ClassMoments
        Of the shots.
    means, texts : ndarray, shape (C, d)
        Complete, see :class:`~isomix.fewshot.support.Support`.
    has_text : ndarray of bool, shape (C,)
    logit_scale : float
    space : fitted space or None
        In which the cohesive mass is measured.
    """
    judges, some = Judges.of(shots, moments, texts, has_text), rows.some(TRUST_ROWS)
    like = likeness_of(some, texts[has_text])
    members = Members.of(like, judges.likeness)
    mass = pool_mass(some, like >= members.threshold, space)
    rows_a_class = members.share * len(rows) / len(means)
    found = Pool(trust(mass, rows_a_class, members.share), len(rows), rows.dropped, members.share, mass, rows_a_class)
    if not found.weight:
        return found
    some.weights = members.weights(like)
    both = has_text & (moments.counts > 0)
    of_texts = np.asarray(GapMap.fit(texts[both], moments.means[both])(texts), np.float64)
    gain, error = _gain(some, judges, texts, of_texts, logit_scale)
    weight = trust(mass, rows_a_class, members.share, gain)
    found = found._replace(weight=weight, gain=gain, error=error)
    if not weight:
        return found
    rows.weights = some.weights if len(some) == len(rows) else members.weights(likeness_of(rows, texts[has_text]))
    counts = moments.counts
    prior = (counts[:, None] * means + TEXT_SHOTS * of_texts) / (counts + TEXT_SHOTS)[:, None]
    return found._replace(term=class_term(rows, logits, prior, counts + TEXT_SHOTS, weight))


def pool_mass(rows: PoolRows, of_a_class: NDArray[np.bool_], space: Any = None) -> float:
    """Cohesive mass M of some rows of a pool among themselves, the median over at most 5,000; 0 for fewer than four."""
    if of_a_class.sum() < 4:
        return 0.0
    own = rows.take(np.flatnonzero(of_a_class))
    if space is not None:
        own = normalize_rows(into_space(space, own), "unlabelled in the space")
    judged = evenly(len(own), JUDGED_ROWS)
    k = min(NEIGHBORS, len(own) - 1)
    cosines, found = search(own[judged], own, k + 1, normalize=False)
    others = without_self(found, judged)
    shape = len(judged), k
    background = Background.of([own]).thresholds(own[judged], within=True)
    return median_mass(own, judged, found[others].reshape(shape), cosines[others].reshape(shape), background)


def _gain(rows: PoolRows, judges: Judges, texts: Doubles, of_texts: Doubles, logit_scale: float) -> tuple[float, float]:
    """Brier score of the texts less that of texts and pool: the mean over the judges, and its standard error."""
    scaled = logit_scale * texts

    def start(U: Floats) -> Floats:
        return np.asarray(U @ scaled.T.astype(U.dtype))

    term = class_term(rows, start, of_texts, np.full(len(texts), TEXT_SHOTS), 1.0)
    without = start(judges.X)
    gains = _brier(without, judges.y) - _brier(without + term(judges.X), judges.y)
    return float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))


def _brier(logits: Floats, y: Indices) -> Doubles:
    p = softmax(np.array(logits, np.float64))
    return np.asarray(np.einsum("ij,ij->i", p, p) - 2.0 * p[np.arange(len(y)), y])
