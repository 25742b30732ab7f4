"""Bias and variance made visible: what a class text and a mean image are worth as estimates of the class's true mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles
from isomix._estimators import check_fitted
from isomix._extras import require
from isomix.errors import InputError
from isomix.fewshot.imputation import GapMap
from isomix.fewshot.moments import ClassMoments

if TYPE_CHECKING:
    from isomix.fewshot.base import FewShotClassifier

__all__ = ["PrototypeErrors", "ShrinkageReport", "prototype_errors", "shrinkage_report"]


@dataclass(frozen=True)
class ShrinkageReport:
    """Estimated errors of text and image prototypes, class by class; squared lengths, for unit embeddings.

    Attributes
    ----------
    classes : ndarray, shape (C,)
        Classes with text and pictures.
    shots : ndarray, shape (C,)
    text_bias_squared : ndarray, shape (C,)
        Unbiased estimate of ‖p_c - M_c‖² for the text p_c moved across the modality gap; not below zero.
    image_variance : float
        Unbiased estimate of E‖x - M_y‖², pooled over the classes: a mean of K pictures has the variance image_variance / K.
    implied_weights : ndarray, shape (C,)
        bias² / (bias² + variance / K): the weight of the mean image with the least expected squared error.
    pooled_weight : float
        The same from the mean bias² and the harmonic mean of the shots: what ``mixing_weight="shrinkage"`` uses.
    chosen_weight : float
        The mixing weight in use; NaN for a classifier that does not mix.
    """

    classes: NDArray[Any]
    shots: Doubles
    text_bias_squared: Doubles
    image_variance: float
    implied_weights: Doubles
    pooled_weight: float
    chosen_weight: float

    def to_dict(self) -> dict[str, Any]:
        """The same as values for JSON, class by class; first those whose text is worth least."""
        columns = (self.classes.tolist(), self.shots, self.text_bias_squared, self.implied_weights)
        rows = [
            {
                "label": label,
                "shots": float(shots),
                "text_bias_squared": float(bias),
                "image_variance": self.image_variance / float(shots),
                "implied_weight": float(weight),
            }
            for label, shots, bias, weight in zip(*columns, strict=True)
        ]
        return {
            "image_variance": self.image_variance,
            "pooled_weight": self.pooled_weight,
            "chosen_weight": None if np.isnan(self.chosen_weight) else self.chosen_weight,
            "classes": sorted(rows, key=lambda row: -float(row["text_bias_squared"])),
        }

    def plot(self, axes: Any = None) -> Any:
        """Draw image variance against squared text bias, one point a class, the implied weights as lines; returns the axes.

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        """
        if axes is None:
            axes = require("matplotlib.figure", "plot", "ShrinkageReport.plot").Figure(figsize=(6, 5)).subplots()
        variance = self.image_variance / self.shots
        axes.scatter(self.text_bias_squared, variance, s=12, alpha=0.6, linewidths=0, label="a class")
        limit = 1.05 * max(float(self.text_bias_squared.max(initial=0.0)), float(variance.max(initial=0.0)), 1e-6)
        for weight, style in ((self.pooled_weight, "-"), (self.chosen_weight, "--")):
            if 0.0 < weight < 1.0:
                name = "implied by all classes" if style == "-" else "chosen"
                axes.plot([0, limit], [0, limit * (1.0 - weight) / weight], style, label=f"{name}: weight {weight:.2f}")
        axes.set(
            xlim=(0, limit), ylim=(0, limit), xlabel="squared bias of the text", ylabel="variance of the mean image",
            title="What mixes: text bias against image variance",
        )  # fmt: skip
        axes.legend(loc="upper right")
        return axes


def shrinkage_report(classifier: FewShotClassifier) -> ShrinkageReport:
    """Bias and variance of the two prototypes of every class, in the space of the mean images.

    The gap between the modalities is no bias that a cosine sees, since it is much the same for all classes: texts are first
    moved by it, p_c = m + gamma (t_c - t) (see :mod:`isomix.fewshot.imputation`). Then E‖p_c - mu_c‖² = bias² + variance / K,
    and the variance is known from the scatter (this project's plug-in estimates).

    Parameters
    ----------
    classifier : fitted classifier with text
        At least two shots in some class, without which the variance cannot be estimated.

    Raises
    ------
    InputError
        No text, or one shot a class.
    NotFittedError
    """
    check_fitted(classifier)
    moments = classifier.moments_
    errors = prototype_errors(moments, classifier.text_, classifier.has_text_)
    both = (moments.counts > 0) & classifier.has_text_
    bias, noise = errors.text_bias_squared, errors.image_variance / moments.counts[both]
    return ShrinkageReport(
        classes=classifier.classes_[both],
        shots=moments.counts[both],
        text_bias_squared=bias,
        image_variance=errors.image_variance,
        implied_weights=bias / np.maximum(bias + noise, np.finfo(np.float64).tiny),
        pooled_weight=errors.pooled_weight,
        chosen_weight=float(classifier.weights_.get("mixing_weight", float("nan"))),
    )


class PrototypeErrors(NamedTuple):
    """See the attributes of the same name of :class:`ShrinkageReport`."""

    text_bias_squared: Doubles
    image_variance: float
    pooled_weight: float


def prototype_errors(moments: ClassMoments, texts: Doubles, has_text: NDArray[np.bool_]) -> PrototypeErrors:
    """The estimates behind the report, from the moments of the shots and the class texts (C, d)."""
    both = (moments.counts > 0) & has_text
    if both.sum() < 2:
        raise InputError("shrinkage_report: expected at least two classes with both text and pictures. Fit with text=.")
    variance = moments.within_variance
    if not np.isfinite(variance):
        raise InputError(
            "shrinkage_report: at one shot a class the variance of pictures cannot be estimated. Give a second shot of some class."
        )
    means, shots = moments.means[both], moments.counts[both]
    moved = GapMap.fit(texts[both], means)(texts[both])
    distance = np.einsum("ij,ij->i", moved - means, moved - means)
    pooled_bias = max(float((distance - variance / shots).mean()), 0.0)
    noise = float((variance / shots).mean())
    pooled_weight = pooled_bias / max(pooled_bias + noise, np.finfo(np.float64).tiny)
    return PrototypeErrors(np.maximum(distance - variance / shots, 0.0), variance, pooled_weight)
