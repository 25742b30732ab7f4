"""How far to trust the class texts: the shots are labelled pictures to which no text was fitted, so even one a class can tell.

Source: this project. The constants were found on ViT-B/32 embeddings of Caltech101 and of ranges of ImageNet, and on the bundled
icons and emoji; ``studies/text_trust.py`` prints what the rule does there, and on other classes, sets and draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from isomix._arrays import Doubles, Floats, Indices
from isomix.linalg import normalize_rows

__all__ = ["MendedTexts", "TextTrust", "log_loss_temperature", "mend", "reliability", "text_trust"]

Mask = NDArray[np.bool_]

DISTANT_SHOTS = 1.5
"""What a text is worth in shots where pictures of different classes have nothing in common."""
LEAST_DISTANCE = 0.05
USELESS = 1.0
"""A mean z below it: no text is trusted."""
OVERCONFIDENT = 1.5
"""A temperature above it: some texts must be wrong."""
FEWEST_CLASSES = 3
"""Of which texts and pictures can be mismatched."""
USEFUL_MEAN, USEFUL_VARIANCE, PRIOR_CLASSES = 3.0, 2.0, 2.0
"""Prior of the z of a useful text, worth two classes."""
LEAST_MEAN, LEAST_VARIANCE = 1.5, 1.0
PRIOR_SHARE = (4.0, 1.0)
"""Beta prior of the share of useful texts."""
STEPS = 50
JUDGED_SHOTS = 128
OFFSETS = np.arange(0.0, 5.1, 0.5)


class Reliability(NamedTuple):
    """What the shots say of each text.

    Attributes
    ----------
    posterior : ndarray, shape (C,)
        Probability that the text belongs to its class.
    z : ndarray, shape (C,)
        How much more similar a class is to its own text than to others, in deviations of the unmatched: about N(0, 1) for a
        useless text; 2.5 to 5 in the mean for CLIP's.
    deviation : float
        Of the unmatched similarities.
    similarities : ndarray, shape (m, C)
        Of at most 128 classes, evenly spaced, with every text.
    """

    posterior: Doubles
    z: Doubles
    deviation: float
    similarities: Floats


class TextTrust(NamedTuple):
    """What follows from it.

    Attributes
    ----------
    prior_shots : float
        kappa, what a text is worth in shots; 0: no text is trusted.
    untrusted : int
        In how many classes the text counts as missing: those with the lowest z.
    """

    prior_shots: float
    untrusted: int


class MendedTexts(NamedTuple):
    """Texts of all classes, those that are not trusted replaced: text logits are x·t_c + offset_c.

    Attributes
    ----------
    texts : ndarray, shape (C, d)
        Unit rows.
    offsets : ndarray, shape (C,)
    trusted : ndarray of bool, shape (C,)
    """

    texts: Doubles
    offsets: Doubles
    trusted: Mask


def reliability(u: Doubles, texts: Doubles) -> Reliability:
    """Which texts belong to their class.

    D is S = u Tᵀ less what a class has with any text and a text with any class (its row and column means over the unmatched), and
    z_c = D_cc / sd(D, c ≠ t). The z are a mixture of N(0, 1), the useless, and N(mu, v), the useful: expectation-maximisation.

    Parameters
    ----------
    u, texts : ndarray, shape (C, d)
        Unit class means (at one shot, the shots) and unit texts of at least three classes. The deviation, one number, is
        that of at most 128 rows of S, evenly spaced.
    """
    C, rows = len(u), _evenly(len(u))
    S = u[rows].astype(np.float32) @ texts.T.astype(np.float32)
    own = np.einsum("ij,ij->i", u, texts)
    of_class = (u @ texts.sum(axis=0) - own) / (C - 1)
    of_text = (texts @ u.sum(axis=0) - own) / (C - 1) - of_class.mean()
    D = S - (of_class[rows, None] + of_text).astype(S.dtype)
    matched = own - of_class - of_text
    unmatched = float(np.einsum("ij,ij->", D, D, dtype=np.float64)) - float(matched[rows] @ matched[rows])
    freedom = ((C - 1) ** 2 - C) * len(rows) / C
    deviation = max(float(np.sqrt(max(unmatched, 0.0) / freedom)), 1e-12)
    z = matched / deviation
    mu, v, share = USEFUL_MEAN, USEFUL_VARIANCE, PRIOR_SHARE[0] / sum(PRIOR_SHARE)
    for _ in range(STEPS):
        # Where the wider of the two would call a text useful because it fits even worse than by chance, z is cut off.
        cut = np.maximum(z, -mu / max(v - 1.0, 1e-12))
        odds = np.log(share / (1.0 - share)) - 0.5 * np.log(v) - (cut - mu) ** 2 / (2.0 * v) + cut**2 / 2.0
        q = 1.0 / (1.0 + np.exp(-np.clip(odds, -50.0, 50.0)))
        mu = max(float(q @ z + PRIOR_CLASSES * USEFUL_MEAN) / (q.sum() + PRIOR_CLASSES), LEAST_MEAN)
        v = float(q @ (z - mu) ** 2 + PRIOR_CLASSES * USEFUL_VARIANCE) / (q.sum() + PRIOR_CLASSES)
        v = max(v, LEAST_VARIANCE)
        share = float((q.sum() + PRIOR_SHARE[0]) / (C + sum(PRIOR_SHARE)))
    return Reliability(q, z, deviation, S)


def text_trust(means: Doubles, texts: Doubles, logit_scale: float) -> TextTrust:
    """What the texts are worth.

    kappa_0 = 1.5 / (1 - mean over the classes of the cosine of their picture with the most similar one of another class): it is
    among these that one picture errs. T is the temperature of s S with the least log-loss.

    - Fewer than three classes, T < 1.5, or no text with a posterior below ½: all texts are trusted, kappa = kappa_0 / max(T, 1).
    - A mean z below 1, or no text with a posterior above ½: none is.
    - Else some: those with a posterior above ½. The others are mended; kappa = kappa_0 / max(T', 1) with T' the temperature then.

    Parameters
    ----------
    means, texts : ndarray, shape (C, d)
        Mean images (not of unit length: their products are those of pictures) and unit texts of the classes that have both.
    logit_scale : float
        s.
    """
    C = len(means)
    kappa = DISTANT_SHOTS / max(1.0 - nearest_rival(means), LEAST_DISTANCE)
    if C < FEWEST_CLASSES:
        return TextTrust(kappa, 0)
    found = reliability(_unit(means), texts)
    useful = found.posterior > 0.5
    if found.z.mean() < USELESS or not useful.any():
        return TextTrust(kappa, C)
    temperature, _ = log_loss_temperature(logit_scale * found.similarities, _evenly(C))
    if temperature < OVERCONFIDENT or useful.all():
        return TextTrust(kappa / max(temperature, 1.0), 0)
    untrusted = int(C - useful.sum())
    return TextTrust(kappa / max(mended_offset(found, useful, logit_scale)[1], 1.0), untrusted)


def nearest_rival(means: Doubles) -> float:
    """Mean over the classes of the largest product with the mean of another class; 0 for a single class.

    Of at most 128 classes, evenly spaced.
    """
    rows = _evenly(len(means))
    products = means[rows].astype(np.float32) @ means.T.astype(np.float32)
    products[np.arange(len(rows)), rows] = -np.inf if len(means) > 1 else 0.0
    return float(products.max(axis=1).mean())


def _unit(means: Doubles) -> Doubles:
    return np.asarray(normalize_rows(means, "class means"), np.float64)


def _evenly(n: int) -> Indices:
    return np.arange(n)[:: 1 + (n - 1) // JUDGED_SHOTS]


def mended_offset(found: Reliability, useful: Mask, logit_scale: float) -> tuple[float, float]:
    """The offset of classes without a trusted text, over the mean of the others' text logits, and the temperature with it.

    Both with the least log-loss of the shots; the offset from 0 to 5 deviations of the unmatched.
    """
    S, rows = found.similarities, _evenly(len(useful))
    replaced = np.where(useful, S, S[:, useful].mean(axis=1, keepdims=True))
    tried = []
    for offset in OFFSETS * found.deviation:
        logits = logit_scale * (replaced + np.where(useful, 0.0, offset).astype(S.dtype))
        temperature, loss = log_loss_temperature(logits, rows)
        tried.append((loss, float(offset), temperature))
    _, offset, temperature = min(tried)
    return offset, temperature


def mend(means: Doubles, texts: Doubles, known: Indices, untrusted: int, logit_scale: float) -> MendedTexts:
    """The texts of the ``untrusted`` classes with the lowest z replaced by the direction of the mean of the other texts.

    Parameters
    ----------
    means, texts : ndarray, shape (C, d)
        Complete, of all classes.
    known : ndarray of int
        Classes that have both pictures and a text of their own: those that can be judged.
    untrusted : int
        At most all of them; then, as with 0, nothing is replaced.
    logit_scale : float
    """
    trusted = np.ones(len(texts), bool)
    if not 0 < untrusted < len(known) or len(known) < FEWEST_CLASSES:
        if untrusted:
            trusted[known] = False
        return MendedTexts(texts, np.zeros(len(texts)), trusted)
    u = _unit(means[known])
    found = reliability(u, texts[known])
    trusted[known[np.argsort(found.z, kind="stable")[:untrusted]]] = False
    offset, _ = mended_offset(found, trusted[known], logit_scale)
    g = texts[known][trusted[known]].mean(axis=0)
    length = float(np.linalg.norm(g))
    direction = g / max(length, 1e-12)
    # x·g + offset, written with the direction of g; the difference is a constant for all but a few per cent.
    shift = offset - (1.0 - length) * float((u @ direction).mean())
    return MendedTexts(np.where(trusted[:, None], texts, direction), np.where(trusted, 0.0, shift), trusted)


def log_loss_temperature(logits: Floats, y: Indices) -> tuple[float, float]:
    """T with the least mean log-loss of softmax(logits / T) for the labels y (n,), plus (log T)² / 2 n; and that loss.

    The prior is worth one shot. Not labels that count as right with probability (n + 1) / (n + 2) as for calibration: with six
    shots that alone makes every T larger than 1.5.
    """
    some = logits - logits.max(axis=1, keepdims=True)
    own = float(some[np.arange(len(y)), y].mean())

    def loss(log_t: float) -> float:
        inverse = some.dtype.type(np.exp(-log_t))
        normaliser = np.log(np.exp(some * inverse).sum(axis=1, dtype=np.float64)).mean()
        return float(normaliser - inverse * own + 0.5 * log_t**2 / len(y))

    found = minimize_scalar(loss, bounds=(-1.0, 7.0), method="bounded", options={"xatol": 0.02})
    return float(np.exp(found.x)), float(found.fun)
