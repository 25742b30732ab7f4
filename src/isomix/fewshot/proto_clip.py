"""Proto-CLIP without training: a mixture of two softmaxes, over image prototypes and over texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax

from isomix._arrays import Floats
from isomix.fewshot.base import FewShotClassifier
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.inputs import check_number
from isomix.fewshot.leave_one_out import MixedCosines
from isomix.fewshot.support import Support
from isomix.fewshot.terms import Term
from isomix.fewshot.weights import HeldOutLogits, Parameter, Values
from isomix.linalg import normalize_rows

__all__ = ["LogMixture", "ProtoCLIP"]

MIXING_GRID = tuple(j / 20 for j in range(20))
SHARPNESS_GRID = tuple(50.0 * 2.0 ** (j / 2) for j in range(-5, 6))


class ProtoCLIP(FewShotClassifier):
    """Probabilities a softmax(-b ‖x - z_c‖²) + (1 - a) softmax(-b ‖x - t_c‖²) (Palanisamy et al., IROS 2024), training-free.

    z_c is the normalised mean image and t_c the class text. Logits are the logarithms of the probabilities.

    Parameters
    ----------
    mixing_weight : float or None
        a. None: chosen, by leave-one-out unless validation is given; 1/9 at one shot.
    sharpness : float or None
        b. None: chosen likewise; 50 at one shot, with which the second softmax is zero-shot's at a logit scale of 100.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba`` on the same held-out shots; ``"auto"`` where the weights are chosen on them.

    Attributes
    ----------
    mixing_weight_, sharpness_ : float
    prototypes_ : ndarray, shape (C, d)
        z_c.
    """

    method = "proto-clip"
    needs_text = True

    def __init__(
        self, mixing_weight: float | None = None, sharpness: float | None = None, *, calibrate: bool | str = "auto"
    ) -> None:
        self.mixing_weight = mixing_weight
        self.sharpness = sharpness
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term]:
        return (LogMixture(support, self.mixing_weight, self.sharpness),)


class LogMixture(Term):
    """log(a softmax(2 b x·z_c) + (1 - a) softmax(2 b x·t_c)): for unit vectors ‖x - z‖² = 2 - 2 x·z.

    Parameters
    ----------
    support : Support
    mixing_weight, sharpness : float or None
        a and b; None: chosen.
    """

    def __init__(self, support: Support, mixing_weight: float | None, sharpness: float | None) -> None:
        check_number(mixing_weight, "mixing_weight", highest=1.0, chosen=True)
        check_number(sharpness, "sharpness", positive=True, chosen=True)
        self.support, self.mixing_weight, self.sharpness = support, mixing_weight, sharpness
        self.images = np.asarray(normalize_rows(support.means, "image prototypes"))

    def parameters(self) -> list[Parameter]:
        """``mixing_weight`` and ``sharpness``."""
        return [
            Parameter.of("mixing_weight", self.mixing_weight, 1 / 9, MIXING_GRID),
            Parameter.of("sharpness", self.sharpness, 50.0, SHARPNESS_GRID),
        ]

    def logits(self, X: Floats, values: Values) -> Floats:
        """The formula."""
        images, texts = X @ self.images.T.astype(X.dtype), X @ self.support.texts.T.astype(X.dtype)
        return _log_mixture(images, texts, values["mixing_weight"], values["sharpness"])

    def candidates(self, held_out: HeldOut) -> HeldOutLogits:
        """From the cosines, which no weight changes."""
        cosines = MixedCosines(held_out, self.support.moments, self.support.means, self.support.texts, None)
        images, texts = cosines(1.0, 0), cosines(0.0, 0)

        def logits(values: Values, rows: slice) -> Floats:
            return _log_mixture(images[rows], texts[rows], values["mixing_weight"], values["sharpness"])

        return logits

    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """From the same."""
        return self.candidates(held_out)(values, slice(None))

    def attributes(self, values: Values) -> dict[str, Any]:
        """``prototypes``: the normalised mean images."""
        return {"prototypes": self.images}


def _log_mixture(images: Floats, texts: Floats, a: float, b: float) -> Floats:
    """Log of the mixture, from cosines."""
    scale = images.dtype.type(2.0 * b)
    by_text = log_softmax(scale * texts, axis=1)
    if a == 0.0:
        return np.asarray(by_text)
    by_image = log_softmax(scale * images, axis=1)
    if a == 1.0:
        return np.asarray(by_image)
    return np.asarray(np.logaddexp(by_image + images.dtype.type(np.log(a)), by_text + images.dtype.type(np.log1p(-a))))
