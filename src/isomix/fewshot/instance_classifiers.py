"""Classifiers that keep the shots, zero-shot plus what these say: each is the sum of terms that its ``_terms`` returns."""

from __future__ import annotations

from isomix.fewshot.base import FewShotClassifier
from isomix.fewshot.cache import Cache, SelectedCache
from isomix.fewshot.kernel_ridge import KernelRidge
from isomix.fewshot.prototypes import TextCosine
from isomix.fewshot.support import Support
from isomix.fewshot.terms import Term, Weighted

__all__ = ["APE", "ProKeR", "TipAdapter"]


class TipAdapter(FewShotClassifier):
    """Logits s x·t_c + alpha Σ_i exp(-beta (1 - x·f_i)) [y_i = c] (Zhang et al., ECCV 2022), training-free.

    Parameters
    ----------
    alpha : float or None
        Weight of the cache. None: chosen, by leave-one-out unless validation is given; 1 at one shot, the authors' start.
    sharpness : float or None
        beta. None: chosen likewise; 5.5 at one shot, the authors' start.
    logit_scale : float, optional
        As in :class:`ZeroShot`.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba`` on the same held-out shots; ``"auto"`` where the weights are chosen on them.

    Attributes
    ----------
    alpha_, sharpness_ : float

    Notes
    -----
    Leave-one-out drops a shot's own key, and scales the sum of its class by W / (W - w), since its rivals keep all of theirs.
    """

    method = "tip-adapter"
    needs_text = True
    keeps_shots = True

    def __init__(
        self,
        alpha: float | None = None,
        sharpness: float | None = None,
        *,
        logit_scale: float | None = None,
        calibrate: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.sharpness = sharpness
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term | Weighted, ...]:
        return (
            TextCosine(support, self.logit_scale_),
            Weighted("alpha", self.alpha, Cache(support, self.sharpness)),
        )


class APE(FewShotClassifier):
    """Tip-Adapter on the channels that tell the classes apart, with keys weighted by what zero-shot makes of them.

    Zhu et al., ICCV 2023, training-free, in our reading of its formulas: channels are ranked by lambda S - (1 - lambda) V, S the
    mean product between texts of different classes and V their variance over the classes, and the lowest ones are kept; keys and
    queries are normalised again on them. A key's vote is exp(gamma KL), KL the divergence of its zero-shot prediction from its
    label, -log p_y.

    Parameters
    ----------
    alpha, sharpness, logit_scale, calibrate
        As in :class:`TipAdapter`.
    n_channels : int or None
        None: 7/8 of the width (the authors keep 900 of 1024).
    channel_balance : float
        lambda.
    gamma : float
        0: all keys vote alike. Negative values trust keys that zero-shot gets right.

    Attributes
    ----------
    alpha_, sharpness_ : float
    channels_ : ndarray of int
        The selected channels.
    """

    method = "ape"
    needs_text = True
    keeps_shots = True

    def __init__(
        self,
        alpha: float | None = None,
        sharpness: float | None = None,
        *,
        n_channels: int | None = None,
        channel_balance: float = 0.7,
        gamma: float = -0.1,
        logit_scale: float | None = None,
        calibrate: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.sharpness = sharpness
        self.n_channels = n_channels
        self.channel_balance = channel_balance
        self.gamma = gamma
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term | Weighted, ...]:
        zero_shot = TextCosine(support, self.logit_scale_)
        cache = SelectedCache(
            support,
            self.sharpness,
            zero_shot,
            n_channels=self.n_channels,
            balance=self.channel_balance,
            gamma=self.gamma,
        )
        return (zero_shot, Weighted("alpha", self.alpha, cache))


class ProKeR(FewShotClassifier):
    """Zero-shot plus K(x, S) (K_SS / lambda + I)^-1 (L - F W_t), an RBF kernel ridge (Bendou et al., CVPR 2025).

    Parameters
    ----------
    alpha : float or None
        Weight of the regression in the logits, which the paper folds into lambda. None: chosen; 1 at one shot.
    sharpness : float or None
        lambda, the strength of the fit: the larger, the closer it follows the shots. None: chosen; 1 at one shot.
    bandwidth : float
        beta in K(x, f) = exp(-beta ‖x - f‖² / 2) = exp(-beta (1 - x·f)).
    logit_scale : float, optional
        As in :class:`ZeroShot`.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba`` on the same held-out shots; ``"auto"`` where the weights are chosen on them.

    Attributes
    ----------
    alpha_, sharpness_ : float

    Notes
    -----
    The zero-shot scores F W_t are probabilities (softmax of s x·t) where labels are subtracted from them, so that both have one
    unit (our reading). The N x N kernel of the shots is decomposed once, O(N³), for all lambda and the exact leave-one-out.

    Raises
    ------
    InputError
        More than 10,000 shots.
    """

    method = "proker"
    needs_text = True
    keeps_shots = True

    def __init__(
        self,
        alpha: float | None = None,
        sharpness: float | None = None,
        *,
        bandwidth: float = 8.0,
        logit_scale: float | None = None,
        calibrate: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.sharpness = sharpness
        self.bandwidth = bandwidth
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term | Weighted, ...]:
        zero_shot = TextCosine(support, self.logit_scale_)
        ridge = KernelRidge(support, self.sharpness, zero_shot, bandwidth=self.bandwidth)
        return (zero_shot, Weighted("alpha", self.alpha, ridge))
