"""Terms that compare with one unit vector a class: its text, or a mix of its mean image and its text."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from isomix._arrays import Doubles, Floats, Indices, check_integer
from isomix.errors import InputError
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.inputs import check_number
from isomix.fewshot.leave_one_out import MixedCosines
from isomix.fewshot.shrinkage_report import prototype_errors
from isomix.fewshot.support import Support
from isomix.fewshot.terms import Linear, Term
from isomix.fewshot.text_trust import MendedTexts, TextTrust, mend, text_trust
from isomix.fewshot.weights import HeldOutLogits, Parameter, Values
from isomix.linalg import normalize_rows

__all__ = ["PRIOR_SHOTS", "PrototypeCosine", "TextCosine", "TextDirections"]

PRIOR_SHOTS = 8.0
"""What a trusted text is expected to be worth, in shots, where shots can be left out to say more.

Measured on ViT-B/32 embeddings of ImageNet: the best weight stays at 8 to 11 prior shots for 1, 2 and 4 shots a class.
"""
PRIOR_SHOTS_GRID = tuple(2.0 ** (j / 2) for j in range(-8, 9))
"""Candidates, in units of what is expected."""
DIRECTIONS_GRID = (0.5, 0.7, 1.0, 1.4, 2.0, np.inf)


class TextCosine(Term):
    """s x·t_c with the class texts t_c: what CLIP itself says.

    Parameters
    ----------
    support : Support
    scale : float
        s.
    """

    def __init__(self, support: Support, scale: float) -> None:
        check_number(scale, "logit_scale (100 for OpenAI CLIP)", positive=True)
        self.texts, self.scale = support.texts, scale

    def linear(self, values: Values) -> Linear:
        """The texts times s."""
        return Linear(self.scale * self.texts, np.zeros(len(self.texts)))

    def __call__(self, X: Floats) -> Floats:
        """Logits (n, C) of unit rows (n, d), in their dtype."""
        return np.asarray(X @ np.ascontiguousarray(self.texts.T * self.scale, X.dtype))

    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """No shot has a part in it."""
        return self(held_out.X)

    def attributes(self, values: Values) -> dict[str, Any]:
        """``prototypes``: the texts."""
        return {"prototypes": self.texts}


class PrototypeCosine(Term):
    """s x·m_c with the prototypes m_c = norm(a norm(P mu_c) + (1 - a) t_c).

    mu_c is the mean image, t_c the text, and P the projector on the first k principal directions of the texts, or the identity.
    A mixing weight that is chosen is a = K / (K + kappa) for K shots a class: the text counts for kappa shots. With it is chosen
    which texts are trusted (:mod:`isomix.fewshot.text_trust`): where one is not, t_c is the direction of the mean of the others,
    with an offset. Without any text a is 1, and nothing is projected; with none that is trusted a is 1, and at one shot nothing is projected.

    Parameters
    ----------
    support : Support
    scale : float
        s.
    mixing_weight : float, "shrinkage" or None
        a; None: kappa is chosen.
    projected : bool
        Whether P projects.
    n_directions : int or None
        k; None: chosen. 0: not projected.
    untrusted_texts : int or None
        In how many classes the text counts as missing; None: chosen where the mixing weight is, else 0.
    """

    def __init__(
        self,
        support: Support,
        scale: float,
        mixing_weight: float | str | None = None,
        *,
        projected: bool = False,
        n_directions: int | None = None,
        untrusted_texts: int | None = None,
    ) -> None:
        check_number(scale, "logit_scale (100 for OpenAI CLIP)", positive=True)
        if not isinstance(mixing_weight, str) or mixing_weight != "shrinkage":
            check_number(mixing_weight, "mixing_weight, if it is not 'shrinkage'", highest=1.0, chosen=True)
        if n_directions is not None:
            check_integer(n_directions, "n_directions", minimum=0)
        if untrusted_texts is not None:
            check_integer(untrusted_texts, "untrusted_texts", minimum=0)
        self.support, self.scale = support, scale
        self.asked_weight, self.asked_directions, self.asked_trust = mixing_weight, n_directions, untrusted_texts
        self.has_text = bool(support.has_text.any())
        self.directions = TextDirections.of(support.given_texts) if projected and self.has_text else None
        self.shots = _mean_shots(support.moments.counts)
        self.is_weight_given = mixing_weight is not None and not isinstance(mixing_weight, str)
        self.uses_text = self.has_text and not self._trusts_none
        self._mended: dict[int, MendedTexts] = {}

    @cached_property
    def judged(self) -> Indices:
        """The classes that have both pictures and a text."""
        return np.flatnonzero(self.support.has_text & (self.support.moments.counts > 0))

    @cached_property
    def trust(self) -> TextTrust:
        """What the shots say of the texts."""
        return text_trust(self.support.means[self.judged], self.support.texts[self.judged], self.scale)

    def texts(self, values: Values) -> MendedTexts:
        """t_c and what is added to x·t_c."""
        untrusted = int(values["untrusted_texts"])
        if untrusted not in self._mended:
            means, texts = self.support.means, self.support.texts
            self._mended[untrusted] = mend(means, texts, self.judged, untrusted, self.scale)
        return self._mended[untrusted]

    def prototypes(self, values: Values) -> Doubles:
        """m_c, (C, d)."""
        return self._mixed(values)[0]

    def _mixed(self, values: Values) -> tuple[Doubles, Doubles]:
        """m_c (C, d), and the offsets of the texts as they count in the mix (C,)."""
        a, images, (texts, offsets, _) = self.mixing_weight(values), self.support.means, self.texts(values)
        if a == 0.0:
            return texts, offsets
        if self.directions is not None and values["n_directions"]:
            V = self.directions.vectors[: values["n_directions"]]
            images = images @ V.T @ V
        images = np.asarray(normalize_rows(images, "image prototypes"), np.float64)
        if a == 1.0:
            return images, np.zeros(len(images))
        mixed = a * images + (1.0 - a) * texts
        length = np.sqrt(np.einsum("ij,ij->i", mixed, mixed))
        return np.asarray(normalize_rows(mixed, "mixed prototypes")), (1.0 - a) * offsets / length

    def mixing_weight(self, values: Values) -> float:
        """a: the one that was given, or K / (K + kappa)."""
        if not self.has_text:
            return 1.0
        if isinstance(self.asked_weight, str) or self.asked_weight is None:
            return self.shots / (self.shots + values["prior_shots"]) if self.shots else 0.0
        return float(self.asked_weight)

    def linear(self, values: Values) -> Linear:
        """The prototypes times s."""
        prototypes, offsets = self._mixed(values)
        return Linear(self.scale * prototypes, self.scale * offsets)

    def candidates(self, held_out: HeldOut) -> HeldOutLogits:
        """From the closed form for any mixing weight and number of directions."""
        known: dict[int, MixedCosines] = {}

        def cosines(values: Values) -> MixedCosines:
            untrusted = int(values["untrusted_texts"])
            if untrusted not in known:
                texts, offsets, _ = self.texts(values)
                known[untrusted] = MixedCosines(
                    held_out,
                    self.support.moments,
                    self.support.means,
                    texts if self.has_text else None,
                    None if self.directions is None else self.directions.vectors,
                    offsets=offsets,
                )
            return known[untrusted]

        def logits(values: Values, rows: slice) -> Floats:
            return cosines(values)(self.mixing_weight(values), values["n_directions"], rows, float(self.scale))

        return logits

    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """From the same."""
        return self.candidates(held_out)(values, slice(None))

    def attributes(self, values: Values) -> dict[str, Any]:
        """``mixing_weight`` and ``prototypes``."""
        return {
            "mixing_weight": self.mixing_weight(values),
            "prototypes": self.prototypes(values),
            "trusted_texts": self.support.has_text & self.texts(values).trusted,
        }

    # ------------------------------------------------------------------ what it has to choose

    def parameters(self) -> list[Parameter]:
        """``prior_shots``, which is kappa, ``n_directions``, which is k, 0 where nothing is projected, and ``untrusted_texts``."""
        return [self._prior_shots(), self._n_directions(), self._untrusted_texts()]

    @property
    def _judges(self) -> bool:
        """Whether the shots decide on the texts: where their weight is to be chosen."""
        formula = self.asked_weight == "shrinkage" and np.isfinite(self.support.moments.within_variance)
        return self.judged.size > 0 and not formula and not self.is_weight_given and self.asked_trust is None

    @property
    def _trusts_none(self) -> bool:
        return 0 < self.judged.size <= self._untrusted_texts().start and not self.is_weight_given

    def _untrusted_texts(self) -> Parameter:
        if self.asked_trust is not None:
            return Parameter("untrusted_texts", int(self.asked_trust), given=True)
        untrusted = self.trust.untrusted if self._judges else 0
        # At one shot a text that the rule distrusts is mended; shots that can be left out say whether that pays.
        return Parameter("untrusted_texts", untrusted, (0, untrusted) if 0 < untrusted < self.judged.size else ())

    def _prior_shots(self) -> Parameter:
        asked = self.asked_weight
        if not self.has_text:
            if asked not in (None, 1.0, "shrinkage"):
                raise InputError(
                    f"mixing_weight: got {asked!r}, but there is no text to mix with. Pass text=, or leave mixing_weight alone."
                )
            return Parameter("prior_shots", 0.0, given=True)
        if asked is not None and not isinstance(asked, str):
            return Parameter("prior_shots", self._worth_of_text(float(asked)), given=True)
        if self._trusts_none:
            return Parameter("prior_shots", 0.0, (0.0,))
        if asked == "shrinkage" and np.isfinite(self.support.moments.within_variance):
            pooled = prototype_errors(self.support.moments, self.support.texts, self.support.has_text).pooled_weight
            return Parameter("prior_shots", self._worth_of_text(pooled))
        judged_by_rule = self.support.moments.degrees_of_freedom <= 1 or self._untrusted_texts().start
        expected = self.trust.prior_shots if judged_by_rule else PRIOR_SHOTS
        return Parameter(
            "prior_shots", expected, [expected * factor for factor in PRIOR_SHOTS_GRID], partial(_surprise, expected)
        )

    def _worth_of_text(self, a: float) -> float:
        """In shots, at mixing weight a: kappa = K (1 - a) / a."""
        return self.shots * (1.0 - a) / a if a > 0 else float("inf")

    def _n_directions(self) -> Parameter:
        k = self.asked_directions
        if self.directions is None:
            return Parameter("n_directions", 0)
        whole = len(self.directions.vectors)
        if k is None:
            rank = self.directions.effective
            grid = [max(int(min(rank * factor, whole)), 1) for factor in DIRECTIONS_GRID]
            if self._untrusted_texts().start:  # what they span may still be where the classes differ
                return Parameter("n_directions", 0, [0, *grid])
            return Parameter("n_directions", rank, grid)
        if k > whole:
            raise InputError(
                f"n_directions: got {k}, but the texts of {int(self.support.has_text.sum())} classes span {whole} "
                "directions. Use at most that many, or None."
            )
        return Parameter("n_directions", int(k), given=True)


def _surprise(expected: float, prior_shots: float) -> float:
    """1 at a factor of 4 from what is expected."""
    return float((np.log(max(prior_shots, 1e-9) / expected) / np.log(4.0)) ** 2)


def _mean_shots(counts: Doubles) -> float:
    """Harmonic mean of the shots of the classes that have any: the variance of a class mean goes with 1 / K."""
    present = counts[counts > 0]
    return float(len(present) / (1.0 / present).sum()) if present.size else 0.0


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
