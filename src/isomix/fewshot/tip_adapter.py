"""Tip-Adapter and APE: zero-shot logits plus a cache of the shots, whole or on selected channels."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from isomix._arrays import Doubles, Floats, check_integer
from isomix.errors import InputError
from isomix.fewshot.cache import ClassSums, ResidualFewShot
from isomix.fewshot.held_out import HeldOut
from isomix.linalg import normalize_rows

__all__ = ["APE", "TipAdapter"]


class TipAdapter(ResidualFewShot):
    """Logits s x·t_c + alpha Σ_i exp(-beta (1 - x·f_i)) [y_i = c] (Zhang et al., ECCV 2022), training-free.

    Parameters
    ----------
    alpha : float or None
        Weight of the cache. None: chosen, by leave-one-out unless validation is given; 1 at one shot, the authors' start.
    sharpness : float or None
        beta. None: chosen likewise; 5.5 at one shot, the authors' start.
    logit_scale : float
    calibrate : bool
        Choose the temperature of ``predict_proba`` on the same held-out shots.

    Attributes
    ----------
    alpha_, sharpness_ : float

    Notes
    -----
    Leave-one-out drops a shot's own key, and scales the sum of its class by W / (W - w), since its rivals keep all of theirs.
    """

    method = "tip-adapter"
    _sharpness_grid = (1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0, 35.0)

    def __init__(
        self,
        alpha: float | None = None,
        sharpness: float | None = None,
        *,
        logit_scale: float = 100.0,
        calibrate: bool = False,
    ) -> None:
        self.alpha = alpha
        self.sharpness = sharpness
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _prior_sharpness(self) -> float:
        return 5.5

    def _prepare(self) -> None:
        self._sums = ClassSums(self.support_classes_, len(self.classes_))
        self._keys = np.ascontiguousarray(self._channels(self.support_)[self._sums.order])
        self._values = self._key_weights()[self._sums.order]

    def _channels(self, X: Floats) -> Floats:
        """What keys and queries are compared by."""
        return X

    def _key_weights(self) -> Doubles:
        """What a key adds to its class."""
        return self.support_weights_

    def _residual(self, X: Floats, sharpness: float) -> Floats:
        return self._sums(self._affinity(self._channels(X), sharpness))

    def _affinity(self, X: Floats, sharpness: float) -> Floats:
        affinity = X @ self._keys.T.astype(X.dtype, copy=False)
        affinity -= 1.0
        affinity *= sharpness
        np.exp(affinity, out=affinity)
        affinity *= self._values.astype(X.dtype)
        return np.asarray(affinity)

    def _held_out_residual(self, held_out: HeldOut, sharpness: float) -> Floats:
        X = self._channels(held_out.X)
        residual = self._residual(held_out.X, sharpness)
        if held_out.from_shots:
            rows, y = np.arange(len(X)), held_out.y
            own = np.exp(sharpness * (np.einsum("ij,ij->i", X, X) - 1.0)) * self._key_weights()[held_out.rows]
            total = self.moments_.counts[y]
            residual[rows, y] = (residual[rows, y] - own) * total / (total - held_out.weights)
        return residual


class APE(TipAdapter):
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
    """

    method = "ape"

    def __init__(
        self,
        alpha: float | None = None,
        sharpness: float | None = None,
        *,
        n_channels: int | None = None,
        channel_balance: float = 0.7,
        gamma: float = -0.1,
        logit_scale: float = 100.0,
        calibrate: bool = False,
    ) -> None:
        super().__init__(alpha, sharpness, logit_scale=logit_scale, calibrate=calibrate)
        self.n_channels = n_channels
        self.channel_balance = channel_balance
        self.gamma = gamma

    def _prepare(self) -> None:
        texts = self.texts_
        n = len(texts)
        similarity = (texts.sum(axis=0) ** 2 - (texts**2).sum(axis=0)) / (n * (n - 1))
        criterion = self.channel_balance * similarity - (1.0 - self.channel_balance) * texts.var(axis=0)
        d = texts.shape[1]
        kept = (
            max(1, d * 7 // 8) if self.n_channels is None else check_integer(self.n_channels, "n_channels", minimum=1)
        )
        if kept > d:
            raise InputError(f"n_channels: got {kept}, expected at most the width of the embeddings, {d}.")
        self.channels_ = np.sort(np.argsort(criterion, kind="stable")[:kept])
        super()._prepare()

    def _channels(self, X: Floats) -> Floats:
        return normalize_rows(np.ascontiguousarray(X[:, self.channels_]), "selected channels")

    def _key_weights(self) -> Doubles:
        log_p = log_softmax(np.asarray(self._zero_shot(self.support_), np.float64), axis=1)
        surprise = -log_p[np.arange(len(log_p)), self.support_classes_]
        return np.asarray(self.support_weights_ * np.exp(self.gamma * surprise))
