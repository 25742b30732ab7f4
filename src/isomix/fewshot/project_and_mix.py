"""Project and Mix: text-aligned mixed prototypes plus linear discriminant analysis."""

from __future__ import annotations

from typing import Any

from isomix.fewshot.base import FewShotClassifier
from isomix.fewshot.discriminant import Discriminant
from isomix.fewshot.prototypes import PrototypeCosine
from isomix.fewshot.support import Support
from isomix.fewshot.terms import Term, Weighted

__all__ = ["ProjectAndMix"]


class ProjectAndMix(FewShotClassifier):
    """Text-aligned mixed prototypes plus linear discriminant analysis, training-free.

    logits = s x·m_c + beta (x·W_c + b_c), with m_c of :class:`TextAlignedPrototypes` and W, b of :class:`LDA`. Our reading of
    Goswami et al., *Cross-Modal Prototype Alignment and Mixing for Training-Free Few-Shot Classification*, arXiv 2603.24528, which
    is public as an abstract and a few figures only; the choice of the weights from the shots alone is this project's.

    Parameters
    ----------
    mixing_weight : float, "shrinkage" or None
        As in :class:`MixedPrototypes`.
    n_directions, untrusted_texts : int or None
        As in :class:`TextAlignedPrototypes`.
    ensemble_weight : float or None
        beta. None: chosen by leave-one-out; 0 at one shot, where there is no scatter. Without text that can be trusted, at two
        shots, it is the weight at which the discriminant differs twice as much between classes as the cosines.
    shrinkage : {"kubokawa-srivastava", "ledoit-wolf", "oas"} or float
        Of the covariance; see :func:`isomix.fewshot.shrinkage.shrink`. beta goes with its scale.
    logit_scale : float, optional
        s. None: that of ``text=``, where an encoder made it, else 100, OpenAI CLIP's.
    space : fitted space, optional
        Any :mod:`isomix.spaces` object: the discriminant, which compares images with images, works on ``space.transform(X)``;
        the prototypes, which hold text, stay in the plain space.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba``, on the same held-out shots as the weights; ``"auto"`` where these are chosen.

    Attributes
    ----------
    mixing_weight_, prior_shots_, n_directions_, ensemble_weight_, untrusted_texts_ : the weights in use
    trusted_texts_ : ndarray of bool, shape (C,)
    weight_tier_ : str
        Where they come from, see the base class.
    prototypes_ : ndarray, shape (C, d)

    Notes
    -----
    Weights are chosen by the Brier score of held-out shots, one parameter after the other from the prior rule. By default every
    shot is judged by the classifier without it (exact, in closed form, see :mod:`isomix.fewshot.leave_one_out`).
    Without text it is the nearest class mean plus LDA.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    >>> T = {"cat": np.array([0.8, 0.0, 0.6]), "dog": np.array([0.0, 0.8, 0.6])}
    >>> clf = ProjectAndMix().fit(X, ["cat", "cat", "dog", "dog"], text=T)
    >>> clf.predict(np.array([[0.9, 0.1, 0.0]])), clf.weight_tier_
    (array(['cat'], dtype='<U3'), 'leave-one-out')
    """

    method = "project-and-mix"
    takes_pool = True

    def __init__(
        self,
        mixing_weight: float | str | None = None,
        n_directions: int | None = None,
        ensemble_weight: float | None = None,
        untrusted_texts: int | None = None,
        *,
        shrinkage: str | float = "kubokawa-srivastava",
        logit_scale: float | None = None,
        space: Any = None,
        calibrate: bool | str = "auto",
    ) -> None:
        self.mixing_weight = mixing_weight
        self.n_directions = n_directions
        self.ensemble_weight = ensemble_weight
        self.untrusted_texts = untrusted_texts
        self.shrinkage = shrinkage
        self.logit_scale = logit_scale
        self.space = space
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term | Weighted, ...]:
        aligned = PrototypeCosine(
            support,
            self.logit_scale_,
            self.mixing_weight,
            projected=True,
            n_directions=self.n_directions,
            untrusted_texts=self.untrusted_texts,
        )
        discriminant = Discriminant.of(support, self.shrinkage, self.space, leads=not aligned.uses_text)
        return (aligned, Weighted("ensemble_weight", self.ensemble_weight, discriminant))
