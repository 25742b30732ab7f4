"""Project and Mix: text-aligned mixed prototypes plus linear discriminant analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles, Floats
from isomix.errors import InputError
from isomix.fewshot.linear import LinearFewShot
from isomix.fewshot.moments import ClassMoments

__all__ = ["ProjectAndMix"]


class ProjectAndMix(LinearFewShot):
    """Text-aligned mixed prototypes plus linear discriminant analysis, training-free.

    logits = s x·m_c + beta (x·W_c + b_c), with m_c of :class:`TextAlignedPrototypes` and W, b of :class:`LDA`. Our reading of
    Goswami et al., *Cross-Modal Prototype Alignment and Mixing for Training-Free Few-Shot Classification*, arXiv 2603.24528, which
    is public as an abstract and a few figures only; the choice of the weights from the shots alone is this project's.

    Parameters
    ----------
    mixing_weight : float, "shrinkage" or None
        As in :class:`MixedPrototypes`.
    n_directions : int or None
        As in :class:`TextAlignedPrototypes`.
    ensemble_weight : float or None
        beta. None: chosen by leave-one-out; 0 at one shot, where there is no scatter.
    shrinkage : {"kubokawa-srivastava", "ledoit-wolf", "oas"} or float
        Of the covariance; see :func:`isomix.fewshot.shrinkage.shrink`. beta goes with its scale.
    logit_scale : float
        s.
    space : fitted space, optional
        Any :mod:`isomix.spaces` object: the discriminant, which compares images with images, works on ``space.transform(X)``;
        the prototypes, which hold text, stay in the original space.
    calibrate : bool
        Choose the temperature of ``predict_proba``, on the same held-out shots as the weights.

    Attributes
    ----------
    mixing_weight_, prior_shots_, n_directions_, ensemble_weight_ : the weights in use
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
    (array(['cat'], dtype='<U3'), 'none')
    """

    method = "project-and-mix"
    _projects = True
    _discriminates = True

    def __init__(
        self,
        mixing_weight: float | str | None = None,
        n_directions: int | None = None,
        ensemble_weight: float | None = None,
        *,
        shrinkage: str | float = "kubokawa-srivastava",
        logit_scale: float = 100.0,
        space: Any = None,
        calibrate: bool = False,
    ) -> None:
        self.mixing_weight = mixing_weight
        self.n_directions = n_directions
        self.ensemble_weight = ensemble_weight
        self.shrinkage = shrinkage
        self.logit_scale = logit_scale
        self.space = space
        self.calibrate = calibrate

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.space is not None and (isinstance(self.space, type) or not hasattr(self.space, "transform")):
            raise InputError(f"space: got {self.space!r}, expected a fitted space, with transform, or None.")

    def _into_space(self, X: Floats) -> Floats:
        return X if self.space is None else np.asarray(self.space.transform(X), X.dtype)

    def _remember(self, X: Floats, y: NDArray[np.intp], weights: Doubles) -> None:
        if self.space is not None:
            self.space_moments_ = ClassMoments.of(self._into_space(X), y, len(self.classes_), weights)

    def _recall(self, positions: NDArray[np.intp], X: Floats, y: NDArray[np.intp], weights: Doubles) -> None:
        if self.space is not None:
            new = ClassMoments.of(self._into_space(X), y, len(self.classes_), weights)
            self.space_moments_ = self.space_moments_.take(positions, len(self.classes_)).merge(new)

    def _discriminant_moments(self) -> tuple[ClassMoments, Doubles]:
        if self.space is None:
            return self.moments_, self.means_
        moments = self.space_moments_
        present = moments.counts > 0
        if present.all():
            return moments, moments.means
        # Classes without pictures: their imputed mean image, moved into the space.
        missing = np.zeros_like(moments.means)
        missing[~present] = np.asarray(self.space.transform(self.means_[~present]), np.float64)
        return moments, np.where(present[:, None], moments.means, missing)
