"""Discriminant analysis around class texts moved across the modality gap; a classifier of our own."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from isomix._arrays import Doubles, Floats
from isomix.errors import InputError
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.imputation import GapMap
from isomix.fewshot.inputs import check_number
from isomix.fewshot.leave_one_out import discriminant_without
from isomix.fewshot.linear import LinearFewShot, discriminant
from isomix.fewshot.mixing import PRIOR_SHOTS
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.shrinkage import check_shrinkage

__all__ = ["GapShiftedLDA"]


class GapShiftedLDA(LinearFewShot):
    """Zero-shot logits plus a discriminant whose means and covariance start from the class texts, training-free.

    logits = s x·t_c + beta (x·W_c + b_c), W_c = Sigma^-1 nu_c and b_c = -½ nu_cᵀ Sigma^-1 nu_c, with

    - g_c = m + gamma (t_c - t): the text moved across the modality gap, m and t the mean image and mean text, gamma by least squares
      over the classes (:mod:`isomix.fewshot.imputation`);
    - nu_c = (K_c mu_c + kappa g_c) / (K_c + kappa): the posterior mean of the class under the prior N(g_c, Sigma_within / kappa);
    - Sigma = Σ (x - g_y)(x - g_y)ᵀ / N, shrunk: the spread of pictures around what the text promises. It exists at one shot, and
      has N degrees of freedom where the within-class covariance has N - C.

    Source: this project. No weight is searched for: kappa and the balance are the same at any number of shots.

    Parameters
    ----------
    prior_shots : float
        kappa, what a text is worth in shots.
    balance : float
        beta in units of the weight at which both terms differ as much between classes, which follows from the moments. 0: zero-shot.
    shrinkage : {"kubokawa-srivastava", "oas"} or float
        Of the covariance; see :func:`isomix.fewshot.shrinkage.shrink`.
    logit_scale : float
        s.
    calibrate : bool
        Choose the temperature of ``predict_proba`` by leave-one-out, exact but for the gap, which is taken as known.

    Attributes
    ----------
    ensemble_weight_ : float
        beta.

    Notes
    -----
    Measured on ViT-B/32 embeddings of ImageNet at 1, 2 and 4 shots: 63.7, 65.1 and 66.3 %, where :class:`ProjectAndMix` with weights
    from the shots has 63.0, 64.3 and 66.2. On two subsets of 100 classes of the same data it is behind at 1 and 4 shots by up to
    2.0 points and level at 2. The balance was found on the very data it is scored on, so this is no proof of a win, and it is no
    default. Weights chosen by leave-one-out were worse (58.0 % at 2 shots, 65.7 at 4).

    Examples
    --------
    >>> import numpy as np
    >>> T = {"cat": np.array([0.8, 0.0, 0.6]), "dog": np.array([0.0, 0.8, 0.6])}
    >>> clf = GapShiftedLDA().fit(np.array([[0.8, 0.6, 0.0], [0.6, 0.8, 0.0]]), ["cat", "dog"], text=T)
    >>> clf.predict(np.array([[0.9, 0.1, 0.0]]))
    array(['cat'], dtype='<U3')
    """

    method = "gap-shifted-lda"
    needs_text = True
    _discriminates = True
    _state: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        prior_shots: float = PRIOR_SHOTS,
        balance: float = 0.5,
        *,
        shrinkage: str | float = "kubokawa-srivastava",
        logit_scale: float = 100.0,
        calibrate: bool = False,
    ) -> None:
        self.prior_shots = prior_shots
        self.balance = balance
        self.shrinkage = shrinkage
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _check_parameters(self) -> None:
        check_number(self.prior_shots, "prior_shots")
        check_number(self.balance, "balance")
        super()._check_parameters()
        check_shrinkage(self.shrinkage)
        if self.shrinkage == "ledoit-wolf":
            raise InputError(
                "shrinkage: 'ledoit-wolf' is not available around moved texts. Use 'kubokawa-srivastava', 'oas' or a number."
            )

    def _set_moments(self, moments: ClassMoments) -> None:
        super()._set_moments(moments)
        both = (moments.counts > 0) & self.has_text_
        if not both.any():
            raise InputError(
                "GapShiftedLDA: expected text and pictures of at least one class, to measure the gap between them."
            )
        self._centres = GapMap.fit(self.text_[both], moments.means[both], moments.counts[both])(self.texts_)
        apart = (moments.means - self._centres) * np.sqrt(moments.counts)[:, None]
        self._around_texts = replace(moments, scatter=moments.scatter + apart.T @ apart, fourth=float("nan"))

    def _means(self) -> tuple[Doubles, Doubles]:
        """Return nu (C, d) and the share K_c / (K_c + kappa) of the mean images in it (C,)."""
        counts = self.moments_.counts
        share = counts / np.where(counts > 0, counts + self.prior_shots, 1.0)
        return self._centres + share[:, None] * (self.moments_.means - self._centres), share

    def _even_weight(self, W: Doubles, b: Doubles) -> float:
        """The beta at which both terms vary equally between classes, from the second moments of the pictures."""
        moments = self.moments_
        second = (moments.scatter + (moments.means * moments.counts[:, None]).T @ moments.means) / moments.total
        mean = moments.counts @ moments.means / moments.total
        W, b, T = W - W.mean(axis=0), b - b.mean(), self.texts_ - self.texts_.mean(axis=0)
        of_text = float(np.vdot(T @ second, T))
        of_images = float(np.vdot(W @ second, W)) + 2.0 * float(b @ (W @ mean)) + float(b @ b)
        return self.logit_scale * float(np.sqrt(of_text / max(of_images, np.finfo(np.float64).tiny)))

    def _choose(self, held_out: HeldOut | None) -> None:
        """Nothing is chosen: the weights are given, and beta follows from the moments."""

    def _held_out_logits(self, held_out: HeldOut) -> Floats:
        means, share = self._means()
        dtype = held_out.X.dtype
        if held_out.from_shots:
            other = discriminant_without(
                held_out, self._around_texts, means, self.shrinkage, footing=True, centres=self._centres, share=share
            )
        else:
            W, b = discriminant(self._around_texts, means, self.shrinkage)
            other = np.asarray(held_out.X @ W.T.astype(dtype) + b.astype(dtype))
        zero_shot = held_out.X @ np.ascontiguousarray(self.texts_.T * self.logit_scale, dtype)
        return np.asarray(zero_shot + dtype.type(self.ensemble_weight_) * other)

    def _compile(self) -> None:
        W, b = discriminant(self._around_texts, self._means()[0], self.shrinkage)
        self.ensemble_weight_ = self.balance * self._even_weight(W, b)
        self.coef_ = self.logit_scale * self.texts_ + self.ensemble_weight_ * W
        self.intercept_, self.space_coef_ = self.ensemble_weight_ * b, None
        self._converted = {}
