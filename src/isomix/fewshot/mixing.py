"""Mixed prototypes: the directions of the class texts, the mix itself, and its cosines with held-out shots for any weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isomix._arrays import Doubles, Floats
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.leave_one_out import excess, means_without, scatter_factor
from isomix.fewshot.moments import ClassMoments
from isomix.linalg import normalize_rows

__all__ = [
    "PRIOR_SHOTS", "MixedCosines", "TextDirections", "mean_shots", "mix", "mixing_weight_of", "prior_shots_of"
]  # fmt: skip


PRIOR_SHOTS = 8.0
"""What a class text is worth where the shots cannot tell, in shots: the mixing weight is K / (K + 8).

Measured on ViT-B/32 embeddings of ImageNet: the best weight stays at 8 to 11 prior shots for 1, 2 and 4 shots a class.
"""


def mean_shots(counts: Doubles) -> float:
    """Harmonic mean of the shots of the classes that have any: the variance of a class mean goes with 1 / K."""
    present = counts[counts > 0]
    return float(len(present) / (1.0 / present).sum()) if present.size else 0.0


def mixing_weight_of(prior_shots: float, shots: float) -> float:
    """K / (K + kappa): the weight of K shots against a text worth kappa of them."""
    return shots / (shots + prior_shots) if shots else 0.0


def prior_shots_of(mixing_weight: float, shots: float) -> float:
    """How many shots the text is worth at weight a: kappa = K (1 - a) / a; infinite for a = 0."""
    return shots * (1.0 - mixing_weight) / mixing_weight if mixing_weight > 0 else float("inf")


class TextDirections(NamedTuple):
    """Principal directions of the class texts, uncentred, by descending energy.

    Attributes
    ----------
    vectors : ndarray, shape (r, d)
        Orthonormal rows.
    effective : int
        In how many directions the texts differ: exp of the entropy of the energies of the centred texts, the effective rank of
        Roy and Vetterli (EUSIPCO 2007) on squared singular values, plus one for their mean. At most r.
    """

    vectors: Doubles
    effective: int

    @classmethod
    def of(cls, texts: Doubles, rtol: float = 1e-6) -> TextDirections:
        """From the smaller Gram matrix of the unit rows (C, d), several times faster than their singular value decomposition.

        Examples
        --------
        >>> import numpy as np
        >>> TextDirections.of(np.array([[0.6, 0.8, 0.0], [0.6, -0.4, 0.69282], [0.6, -0.4, -0.69282]])).effective
        3
        """
        energy, vectors = np.linalg.eigh(_gram(texts))
        kept = np.flatnonzero(energy > rtol**2 * energy[-1])[::-1]
        directions = vectors[:, kept].T
        if len(texts) < texts.shape[1]:
            directions = directions @ texts / np.sqrt(energy[kept])[:, None]
        spread = np.linalg.eigvalsh(_gram(texts - texts.mean(axis=0)))
        spread = spread[spread > rtol**2 * energy[-1]]
        p = spread / spread.sum()
        effective = 1 + round(float(np.exp(-(p * np.log(p)).sum()))) if len(p) else 1
        return cls(np.asarray(directions), min(effective, len(directions)))


def _gram(rows: Doubles) -> Doubles:
    return np.asarray(rows @ rows.T if rows.shape[0] < rows.shape[1] else rows.T @ rows)


def mix(images: Doubles, texts: Doubles, weight: float) -> Doubles:
    """norm(a u + (1 - a) t) of unit rows; exactly t for a = 0 and u for a = 1."""
    if weight in (0.0, 1.0):
        return images if weight else texts
    return np.asarray(normalize_rows(weight * images + (1.0 - weight) * texts, "mixed prototypes"))


class _Parts(NamedTuple):
    """What cosines are computed from, in one basis; ``scatter`` is the diagonal of the scatter matrix."""

    X: Doubles
    means: Doubles
    texts: Doubles | None
    own: Doubles | None
    class_means: Doubles
    scatter: Doubles

    def turned(self, directions: Doubles, scatter: Doubles) -> _Parts:
        """In the basis of the rows of ``directions``, without ``own``, which is cheaper to derive again than to turn."""
        turn = directions.T
        X, means = self.X @ turn, self.means @ turn
        class_means = means if self.class_means is self.means else self.class_means @ turn
        return _Parts(
            X,
            means,
            None if self.texts is None else self.texts @ turn,
            None,
            class_means,
            np.einsum("ij,ij->i", directions @ scatter, directions),
        )

    def first(self, k: int) -> _Parts:
        """The first k coordinates."""
        return _Parts(
            self.X[:, :k],
            self.means[:, :k],
            None if self.texts is None else self.texts[:, :k],
            None if self.own is None else self.own[:, :k],
            self.class_means[:, :k],
            self.scatter[:k],
        )


class MixedCosines:
    """Cosines of held-out shots with mixed prototypes, for any mixing weight and number of directions.

    The cosine with a mix is (a x·u + (1 - a) x·t) / ‖a u + (1 - a) t‖, and the norm needs u·t alone, so that a mixing weight
    costs a few operations on (n, C) matrices, and a number of directions one matrix product. The prototype of a shot's own
    class is the one without the shot, on equal footing (see :mod:`isomix.fewshot.leave_one_out`).

    Parameters
    ----------
    held_out : HeldOut
    moments : ClassMoments
    means, texts : ndarray, shape (C, d)
        Complete: one row a class. ``texts`` is None without any text.
    directions : ndarray, shape (r, d), or None
        Orthonormal rows; None: prototypes are never projected.
    footing : bool
        Only tests, which compare with refits, turn it off.
    """

    def __init__(
        self,
        held_out: HeldOut,
        moments: ClassMoments,
        means: Doubles,
        texts: Doubles | None,
        directions: Doubles | None,
        *,
        footing: bool = True,
    ) -> None:
        self._held_out, self._moments, self._footing = held_out, moments, footing
        dtype = held_out.X.dtype
        self._x_text = None if texts is None else held_out.X @ np.ascontiguousarray(texts.T, dtype)
        self._plain = self._with_own(
            _Parts(np.asarray(held_out.X, np.float64), means, texts, None, moments.means, np.diag(moments.scatter))
        )
        # Everything in the basis of the directions, once: a number of directions is then a slice.
        self._turned = None if directions is None else self._with_own(self._plain.turned(directions, moments.scatter))
        self._cache: dict[int, tuple[Floats, Doubles, Doubles]] = {}

    def _with_own(self, parts: _Parts) -> _Parts:
        held_out = self._held_out
        if not held_out.from_shots:
            return parts
        return parts._replace(own=means_without(held_out, self._moments.counts, parts.X, parts.class_means))

    def _images(self, k: int) -> tuple[Floats, Doubles, Doubles]:
        """Cosines x·u (n, C); u·t of every class (C,); u'·t of the own class without the shot (n,)."""
        if k in self._cache:
            return self._cache[k]
        held_out, dtype = self._held_out, self._held_out.X.dtype
        parts = self._plain if self._turned is None or not k else self._turned.first(k)
        u = normalize_rows(parts.means, "image prototypes")
        cosines = parts.X.astype(dtype) @ np.ascontiguousarray(u.T, dtype)
        ut = np.zeros(len(u)) if parts.texts is None else np.einsum("ij,ij->i", u, parts.texts)
        own_ut = ut[held_out.y]
        if parts.own is not None:
            square = np.einsum("ij,ij->i", parts.own, parts.own)
            if self._footing:
                variance = self._variance(parts.X - parts.class_means[held_out.y], float(parts.scatter.sum()))
                square = np.maximum(square - variance * excess(held_out, self._moments), 0.1 * square)
            own = parts.own / np.sqrt(square)[:, None]
            cosines[np.arange(len(own)), held_out.y] = np.einsum("ij,ij->i", parts.X, own)
            if parts.texts is not None:
                own_ut = np.einsum("ij,ij->i", own, parts.texts[held_out.y])
        self._cache[k] = cosines, ut, own_ut
        return self._cache[k]

    def _variance(self, residuals: Doubles, trace: float) -> Doubles:
        """Trace of the within-class covariance without each shot; (n,)."""
        held_out, moments = self._held_out, self._moments
        freedom = np.maximum(moments.degrees_of_freedom - held_out.weights, 1.0)
        lost = scatter_factor(held_out, moments) * np.einsum("ij,ij->i", residuals, residuals)
        return np.asarray((trace - lost) / freedom)

    def __call__(
        self, mixing_weight: float, n_directions: int, rows: slice = slice(None), scale: float = 1.0
    ) -> Floats:
        """``scale`` times the cosines (n, C), a new array, or some rows of it; ``n_directions`` 0 for no projection."""
        a, x_text = mixing_weight, self._x_text
        if x_text is None:
            return self._images(n_directions)[0][rows] * self._held_out.X.dtype.type(scale)
        if a == 0.0:
            return x_text[rows] * x_text.dtype.type(scale)
        x_image, ut, own_ut = self._images(n_directions)
        x_image, x_text = x_image[rows], x_text[rows]

        def norm_of(cosine: Doubles) -> Doubles:
            square = a * a + (1.0 - a) ** 2 + 2.0 * a * (1.0 - a) * np.clip(cosine, -1.0, 1.0)
            return np.asarray(np.sqrt(np.maximum(square, 1e-12)))

        norm = norm_of(ut) / scale
        cosines = np.asarray((a / norm).astype(x_image.dtype)) * x_image
        cosines += ((1.0 - a) / norm).astype(x_image.dtype) * x_text
        if self._held_out.from_shots:
            own = np.arange(len(x_image)), self._held_out.y[rows]
            cosines[own] = (a * x_image[own] + (1.0 - a) * x_text[own]) * (scale / norm_of(own_ut[rows]))
        return np.asarray(cosines)
