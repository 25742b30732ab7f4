"""TIMO: prompts weighted by the pictures of their class, and a discriminant that counts them among the pictures."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, NamedTuple

import numpy as np

from isomix._arrays import Doubles, Floats, Indices
from isomix.errors import InputError, IsomixWarning
from isomix.fewshot.gda import GDA
from isomix.fewshot.held_out import HeldOut, brier_score, coordinate_search
from isomix.fewshot.inputs import check_number
from isomix.fewshot.leave_one_out import means_without
from isomix.fewshot.linear import ENSEMBLE_GRID, balancing_weight
from isomix.fewshot.moments import ClassMoments
from isomix.linalg import normalize_rows

__all__ = ["TIMO"]

GAMMA = 50.0
GAMMA_GRID = (0.0, 6.25, 12.5, 25.0, 50.0, 100.0, 200.0)


class _Prompts(NamedTuple):
    """All prompts, one below the other."""

    rows: Doubles
    classes: Indices

    def of(self, c: int) -> Doubles:
        """Prompts of a class, (p, d)."""
        start, stop = np.searchsorted(self.classes, (c, c + 1))
        return self.rows[start:stop]


def _guided(scores: Doubles, prompts: Doubles, gamma: float) -> Doubles:
    """Image-guided texts (n, d) of one class, from the cosines (n, p) of n mean images with its p prompts."""
    lengths = np.maximum(np.sqrt(np.einsum("ij,ij->i", scores, scores)), np.finfo(np.float64).tiny)[:, None]
    exponents = gamma * scores / lengths
    weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    return np.asarray(normalize_rows(weights @ prompts, "image-guided texts"))


class TIMO(GDA):
    """Text and pictures that guide each other: s x·t_c + alpha (x·W_c + b_c), for several prompts a class, training-free.

    With u_c the normalised mean image and t_cp the prompts of a class:

    - image-guided text: t_c = norm(Σ_p softmax_p(gamma m_cp / ‖m_c‖) t_cp) with the cosines m_cp = u_c·t_cp;
    - text-guided image: W and b are those of linear discriminant analysis on the pictures and the prompts m_cp t_cp,
      which count as further samples of the class.

    Li et al., *Text and Image Are Mutually Beneficial*, AAAI 2025 (arXiv 2412.11375), in our own formulas, with all
    prompts (the paper's TIMO; its variant TIMO-S also searches for how many). The paper writes alpha in front of the
    other term.

    Parameters
    ----------
    alpha : float or None
        Weight of the discriminant. None: chosen, by leave-one-out unless validation is given; 0 at one shot without
        validation, which leaves the image-guided text.
    gamma : float or None
        How strongly the pictures weigh the prompts; 0 is their mean. None: chosen likewise; 50 at one shot without
        validation, the authors' number for most sets.
    prompt_weight : float
        What a prompt counts for as a sample, in pictures. The paper keeps ten augmented views of a picture as samples,
        so that a prompt counts for a tenth of it. 0: the discriminant of GDA.
    shrinkage : {"kubokawa-srivastava", "oas"} or float
        Of the covariance; see :func:`isomix.fewshot.shrinkage.shrink`.
    logit_scale : float
        s.
    calibrate : bool
        Choose the temperature of ``predict_proba`` on the same held-out shots.

    Attributes
    ----------
    gamma_, ensemble_weight_ : float
        gamma and alpha.
    prototypes_ : ndarray, shape (C, d)
        The image-guided texts.

    Notes
    -----
    With one prompt a class its softmax is 1 and t_c is the class text: GDA with the text as one more sample. A class
    without pictures is guided by its imputed mean image and adds no samples.

    Leave-one-out is exact for the image-guided text, and for the discriminant but for one thing: the lengths m_cp of
    the prompts are those with all pictures, of which the one left out is one in K.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    >>> T = {"cat": np.array([[0.8, 0.0, 0.6], [0.6, 0.0, 0.8]]), "dog": np.array([[0.0, 0.8, 0.6], [0.0, 0.6, 0.8]])}
    >>> clf = TIMO(0.1, gamma=5.0).fit(X, ["cat", "cat", "dog", "dog"], text=T)
    >>> clf.prototypes_.round(2)  # nearer to the first prompts, which look more like the pictures
    array([[0.75, 0.  , 0.66],
           [0.  , 0.75, 0.66]])
    """

    method = "timo"
    _state: ClassVar[tuple[str, ...]] = ("gamma_", "ensemble_weight_")

    gamma_: float

    def __init__(
        self,
        alpha: float | None = None,
        gamma: float | None = None,
        *,
        prompt_weight: float = 0.1,
        shrinkage: str | float = "kubokawa-srivastava",
        logit_scale: float = 100.0,
        calibrate: bool = False,
    ) -> None:
        super().__init__(alpha, shrinkage=shrinkage, logit_scale=logit_scale, calibrate=calibrate)
        self.gamma = gamma
        self.prompt_weight = prompt_weight

    def _check_parameters(self) -> None:
        check_number(self.gamma, "gamma", chosen=True)
        check_number(self.prompt_weight, "prompt_weight")
        super()._check_parameters()
        if self.shrinkage == "ledoit-wolf":
            raise InputError(
                "shrinkage: 'ledoit-wolf' is not available among prompts. Use 'kubokawa-srivastava', 'oas' or a number."
            )

    def _set_moments(self, moments: ClassMoments) -> None:
        super()._set_moments(moments)
        # A class without text has one prompt, the imputed text.
        lists = [p if len(p) else text[None] for p, text in zip(self.prompts_, self.texts_, strict=True)]
        owners = np.repeat(np.arange(len(lists)), [len(p) for p in lists])
        self._all_prompts = prompts = _Prompts(np.concatenate(lists), owners)
        self._unit_means = np.asarray(normalize_rows(self.means_, "image prototypes"), np.float64)
        cosines = np.einsum("ij,ij->i", prompts.rows, self._unit_means[owners])
        samples = (moments.counts > 0)[owners] & self.has_text_[owners]
        added = ClassMoments.of(
            (prompts.rows * cosines[:, None])[samples],
            owners[samples],
            len(lists),
            np.full(np.count_nonzero(samples), float(self.prompt_weight)),
        )
        self._with_prompts = moments.merge(added) if self.prompt_weight else moments
        present = (moments.counts > 0)[:, None]
        self._means_with_prompts = np.where(present, self._with_prompts.means, self.means_)

    def _scatter_known(self) -> bool:
        return self._with_prompts.has_scatter  # with several prompts already at one shot

    def _discriminant_moments(self) -> tuple[ClassMoments, Doubles]:
        return self._with_prompts, self._means_with_prompts

    def _guided_texts(self, gamma: float) -> Doubles:
        """One row a class."""
        texts = np.empty_like(self.texts_)
        for c, mean in enumerate(self._unit_means):
            prompts = self._all_prompts.of(c)
            texts[c] = _guided((prompts @ mean)[None], prompts, gamma)[0]
        return texts

    def _held_out_cosines(self, held_out: HeldOut, gamma: float) -> Floats:
        """Cosines (n, C) with the image-guided texts; that of the own class without the shot."""
        dtype = held_out.X.dtype
        cosines = held_out.X @ np.ascontiguousarray(self._guided_texts(gamma).T, dtype)
        if held_out.from_shots:
            X = np.asarray(held_out.X, np.float64)
            own = normalize_rows(means_without(held_out, self.moments_.counts, X, self.moments_.means), "mean images")
            for c in np.unique(held_out.y):
                rows, prompts = np.flatnonzero(held_out.y == c), self._all_prompts.of(c)
                texts = _guided(np.asarray(own[rows] @ prompts.T), prompts, gamma)
                cosines[rows, c] = np.einsum("ij,ij->i", X[rows], texts)
        return np.asarray(cosines)

    def _choose(self, held_out: HeldOut | None) -> None:
        scatter = self._scatter_known()
        if self.alpha and not scatter:
            warnings.warn(
                "alpha: one shot and one prompt a class have no within-class scatter, so the discriminant is left out. "
                "Give more prompts or more shots.",
                IsomixWarning,
                stacklevel=5,
            )
        start = {
            "gamma": GAMMA if self.gamma is None else float(self.gamma),
            "alpha": float(self.alpha or 0.0) if scatter else 0.0,
        }
        grids: dict[str, Any] = {}
        if self.gamma is None and len(self._all_prompts.rows) > len(self.classes_):
            grids["gamma"] = GAMMA_GRID
        if self.alpha is None and scatter:
            grids["alpha"] = ENSEMBLE_GRID
        if None in (self.gamma, self.alpha):
            self.weight_tier_ = "rule" if held_out is None else held_out.tier
        if grids and held_out is not None:
            start |= self._search_weights(held_out, grids, start)
        self.gamma_, self.ensemble_weight_ = start["gamma"], start["alpha"]

    def _search_weights(self, held_out: HeldOut, grids: dict[str, Any], start: dict[str, float]) -> dict[str, float]:
        scale = held_out.X.dtype.type(self.logit_scale)
        texts = {g: scale * self._held_out_cosines(held_out, g) for g in {start["gamma"], *grids.get("gamma", ())}}
        other = self._discriminant_logits(held_out) if "alpha" in grids or start["alpha"] else None
        unit = 1.0
        if "alpha" in grids and other is not None:
            unit = balancing_weight(float(texts[start["gamma"]].std(axis=1).mean()), other)
            grids = {**grids, "alpha": [unit * f for f in grids["alpha"]]}

        def loss(point: dict[str, float]) -> float:
            def logits_of(rows: slice) -> Floats:
                logits = texts[point["gamma"]][rows].copy()
                if other is not None and point["alpha"]:
                    logits += logits.dtype.type(point["alpha"]) * other[rows]
                return logits

            # The same weak prior against a large weight as in Project and Mix: half a shot.
            surprise = np.log2(1.0 + point["alpha"] / unit) ** 2 if "alpha" in grids else 0.0
            return brier_score(logits_of, held_out) + 0.5 * float(surprise) / float(held_out.weights.sum())

        return coordinate_search(loss, grids, start)

    def _held_out_logits(self, held_out: HeldOut) -> Floats:
        logits = held_out.X.dtype.type(self.logit_scale) * self._held_out_cosines(held_out, self.gamma_)
        if self.ensemble_weight_:
            logits += logits.dtype.type(self.ensemble_weight_) * self._discriminant_logits(held_out)
        return np.asarray(logits)

    def _text_prototypes(self) -> Doubles:
        return self._guided_texts(self.gamma_)
