"""Linear discriminant analysis with a shrunk covariance."""

from __future__ import annotations

import warnings

from isomix.errors import IsomixWarning
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.linear import LinearFewShot

__all__ = ["LDA"]


class LDA(LinearFewShot):
    """Linear discriminant analysis of unit rows, equal priors: logits x·W_c + b_c.

    W = Sigma^-1 mu_c and b = -½ mu_cᵀ Sigma^-1 mu_c, up to a constant of each row, with the pooled within-class covariance Sigma.
    At one shot a class there is no scatter: Sigma is then the identity (with a warning), the nearest class mean in Euclidean
    distance. Text is used for classes without pictures only.

    Parameters
    ----------
    shrinkage : {"kubokawa-srivastava", "ledoit-wolf", "oas"} or float
        How the covariance is shrunk, see :func:`isomix.fewshot.shrinkage.shrink`. Kubokawa-Srivastava is GDA's choice (Wang et al., ICLR
        2024); its logits are too flat for probabilities unless calibrated. ``partial_fit`` cannot update Ledoit-Wolf.
    calibrate : bool
        Choose the temperature of ``predict_proba`` by leave-one-out.

    Attributes
    ----------
    coef_ : ndarray, shape (C, d)
    intercept_ : ndarray, shape (C,)

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
    >>> LDA(shrinkage=0.5).fit(X, [0, 0, 1, 1]).predict(X)
    array([0, 0, 1, 1])
    """

    method = "lda"
    _mixes = False
    _discriminates = True
    logit_scale = 1.0

    def __init__(self, shrinkage: str | float = "kubokawa-srivastava", *, calibrate: bool = False) -> None:
        self.shrinkage = shrinkage
        self.calibrate = calibrate

    def _choose(self, held_out: HeldOut | None) -> None:
        if not self._scatter_known():
            warnings.warn(
                "LDA: one shot a class (or equal shots) has no within-class scatter; the covariance is taken as the identity. "
                "Give more shots, or use ProjectAndMix.",
                IsomixWarning,
                stacklevel=4,
            )
        self.prior_shots_, self.n_directions_, self.ensemble_weight_ = 0.0, 0, 1.0
