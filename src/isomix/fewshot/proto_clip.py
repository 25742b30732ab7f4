"""Proto-CLIP without training: a mixture of two softmaxes, over image prototypes and over texts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import log_softmax

from isomix._arrays import Floats
from isomix.fewshot.base import FewShotClassifier
from isomix.fewshot.held_out import HeldOut, brier_score, coordinate_search
from isomix.fewshot.inputs import check_number
from isomix.fewshot.mixing import MixedCosines
from isomix.linalg import normalize_rows

__all__ = ["ProtoCLIP"]


class ProtoCLIP(FewShotClassifier):
    """Probabilities a softmax(-b ‖x - z_c‖²) + (1 - a) softmax(-b ‖x - t_c‖²) (Palanisamy et al., IROS 2024), training-free.

    z_c is the normalised mean image and t_c the class text. Logits are the logarithms of the probabilities.

    Parameters
    ----------
    mixing_weight : float or None
        a. None: chosen, by leave-one-out unless validation is given; 1/9 at one shot.
    sharpness : float or None
        b. None: chosen likewise; 50 at one shot, with which the second softmax is zero-shot's at a logit scale of 100.
    calibrate : bool
        Choose the temperature of ``predict_proba`` on the same held-out shots.
    """

    method = "proto-clip"
    needs_text = True
    _state: ClassVar[tuple[str, ...]] = ("mixing_weight_", "sharpness_")
    logit_scale = 1.0

    def __init__(
        self, mixing_weight: float | None = None, sharpness: float | None = None, *, calibrate: bool = False
    ) -> None:
        self.mixing_weight = mixing_weight
        self.sharpness = sharpness
        self.calibrate = calibrate

    def _check_parameters(self) -> None:
        check_number(self.mixing_weight, "mixing_weight", highest=1.0, chosen=True)
        check_number(self.sharpness, "sharpness", positive=True, chosen=True)

    def _choose(self, held_out: HeldOut | None) -> None:
        start: dict[str, Any] = {"mixing_weight": 1 / 9, "sharpness": 50.0}
        grids: dict[str, Any] = {
            "mixing_weight": [j / 20 for j in range(20)],
            "sharpness": [50.0 * 2.0 ** (j / 2) for j in range(-5, 6)],
        }
        for name in tuple(grids):
            if getattr(self, name) is not None:
                start[name] = float(getattr(self, name))
                del grids[name]
        if grids:
            self.weight_tier_ = "rule" if held_out is None else held_out.tier
        if grids and held_out is not None:
            images, texts = self._cosines(held_out)

            def loss(point: dict[str, Any]) -> float:
                a, b = point["mixing_weight"], point["sharpness"]
                return brier_score(lambda rows: _log_mixture(images[rows], texts[rows], a, b), held_out)

            start = coordinate_search(loss, grids, start)
        self.mixing_weight_, self.sharpness_ = float(start["mixing_weight"]), float(start["sharpness"])

    def _cosines(self, held_out: HeldOut) -> tuple[Floats, Floats]:
        cosines = MixedCosines(held_out, self.moments_, self.means_, self.texts_, None)
        return cosines(1.0, 0), cosines(0.0, 0)

    def _compile(self) -> None:
        self.prototypes_ = np.asarray(normalize_rows(self.means_, "image prototypes"))

    def _logits(self, X: Floats) -> Floats:
        images, texts = X @ self.prototypes_.T.astype(X.dtype), X @ self.texts_.T.astype(X.dtype)
        return _log_mixture(images, texts, self.mixing_weight_, self.sharpness_)

    def _held_out_logits(self, held_out: HeldOut) -> Floats:
        return _log_mixture(*self._cosines(held_out), self.mixing_weight_, self.sharpness_)


def _log_mixture(images: Floats, texts: Floats, a: float, b: float) -> Floats:
    """Log of the mixture, from cosines: for unit vectors ‖x - z‖² = 2 - 2 x·z."""
    scale = images.dtype.type(2.0 * b)
    by_text = log_softmax(scale * texts, axis=1)
    if a == 0.0:
        return np.asarray(by_text)
    by_image = log_softmax(scale * images, axis=1)
    if a == 1.0:
        return np.asarray(by_image)
    return np.asarray(np.logaddexp(by_image + images.dtype.type(np.log(a)), by_text + images.dtype.type(np.log1p(-a))))
