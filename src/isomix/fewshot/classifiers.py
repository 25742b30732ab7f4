"""Classifiers that are functions of class means, scatter and texts: each is the sum of terms that its ``_terms`` returns."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import as_matrix
from isomix.errors import InputError
from isomix.fewshot.base import FewShotClassifier
from isomix.fewshot.discriminant import Discriminant
from isomix.fewshot.encoded import unpack
from isomix.fewshot.prototypes import PrototypeCosine, TextCosine
from isomix.fewshot.support import Support
from isomix.fewshot.terms import Term, Weighted
from isomix.fewshot.texts import labels_of

__all__ = ["GDA", "LDA", "MixedPrototypes", "NearestClassMean", "TextAlignedPrototypes", "ZeroShot"]


class ZeroShot(FewShotClassifier):
    """CLIP's own classifier: logits s x·t_c with the class texts t_c (Radford et al., ICML 2021).

    Parameters
    ----------
    logit_scale : float, optional
        s, the model's inverse temperature. None: that of ``text=``, where an encoder made it, else 100, OpenAI CLIP's.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba`` on the shots. ``"auto"`` does not: there are no weights to choose.

    Notes
    -----
    ``fit(text={label: embedding, ...})`` is enough; shots, if given, are used for nothing but the labels, the shape checks and the
    temperature.

    Examples
    --------
    >>> import numpy as np
    >>> clf = ZeroShot().fit(text={"cat": np.array([1.0, 0.0]), "dog": np.array([0.0, 1.0])})
    >>> clf.predict(np.array([[0.6, 0.8]]))
    array(['dog'], dtype='<U3')
    """

    method = "zero-shot"
    needs_text = True

    def __init__(self, *, logit_scale: float | None = None, calibrate: bool | str = "auto") -> None:
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term]:
        return (TextCosine(support, self.logit_scale_),)

    def fit(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        text: Any = None,
        sample_weight: ArrayLike | None = None,
        **options: Any,
    ) -> Self:
        """Fit; ``X`` and ``y`` may be left out when ``text`` is a mapping. See the base class for the rest."""
        if X is None and y is None and labels_of(text):
            labels = np.array(labels_of(text))
            arrays, _ = unpack(text)
            # One picture a class, its own text: a zero-shot classifier looks at no picture.
            first = [np.atleast_2d(np.asarray(arrays[label]))[:1] for label in labels.tolist()]
            X, y = as_matrix(np.concatenate(first), "text", nonzero_rows=True), labels
            X = X / np.linalg.norm(X, axis=1, keepdims=True)
        elif X is None:
            raise InputError("ZeroShot: without X and y, text must be a mapping {label: embedding}.")
        return super().fit(X, y, text, sample_weight, **options)  # type: ignore[arg-type]


class NearestClassMean(FewShotClassifier):
    """Cosine with the mean image of a class: logits s x·norm(mu_c).

    Text is used for classes without pictures only.

    Parameters
    ----------
    logit_scale : float, optional
        As in :class:`ZeroShot`.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba`` by leave-one-out. ``"auto"`` does not: there are no weights to choose.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> NearestClassMean().fit(X, ["a", "a", "b"]).predict(np.array([[0.28, 0.96]]))
    array(['b'], dtype='<U1')
    """

    method = "nearest-class-mean"

    def __init__(self, *, logit_scale: float | None = None, calibrate: bool | str = "auto") -> None:
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term]:
        return (PrototypeCosine(support, self.logit_scale_, mixing_weight=1.0),)


class MixedPrototypes(FewShotClassifier):
    """Cosine with a mix of mean image and text: s x·m_c with m_c = norm(a norm(mu_c) + (1 - a) t_c).

    The text is a biased estimate of the prototype with little variance, the mean image an unbiased one with much: mixing them is a
    shrinkage estimator (Goswami et al., arXiv 2603.24528). Without text it is the nearest class mean, a = 1.

    Parameters
    ----------
    mixing_weight : float, "shrinkage" or None
        a, from 0 (text) to 1 (images). None: a = K / (K + kappa) for K shots a class (their harmonic mean), with kappa, the
        number of shots a text is worth, chosen by leave-one-out; at one shot by what the shots say of the texts
        (:mod:`isomix.fewshot.text_trust`). "shrinkage": bias² / (bias² + variance / K) from
        :func:`isomix.fewshot.shrinkage_report`, without any search. It is the best weight for the squared error, not for
        decisions: on ViT-B/32 embeddings of ImageNet at 4 shots it gives 54 % where leave-one-out gives 65 %.
    untrusted_texts : int or None
        In how many classes the text counts as missing, those that it fits worst. None: chosen where the mixing weight is, else
        0; where it is all of them, a is 1.
    logit_scale : float, optional
        As in :class:`ZeroShot`.
    calibrate : {"auto", True, False}
        As in :class:`ProjectAndMix`.

    Attributes
    ----------
    mixing_weight_ : float
    prior_shots_ : float
        kappa.
    untrusted_texts_ : int
    trusted_texts_ : ndarray of bool, shape (C,)
        Classes that have text, which is trusted.
    prototypes_ : ndarray, shape (C, d)
    """

    method = "mixed-prototypes"
    takes_pool = True

    def __init__(
        self,
        mixing_weight: float | str | None = None,
        untrusted_texts: int | None = None,
        *,
        logit_scale: float | None = None,
        calibrate: bool | str = "auto",
    ) -> None:
        self.mixing_weight = mixing_weight
        self.untrusted_texts = untrusted_texts
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term]:
        mixed = PrototypeCosine(support, self.logit_scale_, self.mixing_weight, untrusted_texts=self.untrusted_texts)
        return (mixed,)


class TextAlignedPrototypes(FewShotClassifier):
    """Mixed prototypes whose mean images are projected on the principal directions of the class texts.

    With T = [t_1 .. t_C] = U S Vᵀ and P the projector on the first k right singular vectors, m_c = norm(a norm(P mu_c) +
    (1 - a) t_c): what the pictures of a class show beside the class (background, context) is left out. Queries are not projected.
    Our reading of Goswami et al., arXiv 2603.24528. Without text it is the nearest class mean.

    Parameters
    ----------
    mixing_weight : float, "shrinkage" or None
        As in :class:`MixedPrototypes`.
    n_directions : int or None
        k. None: chosen by leave-one-out around the effective rank of the texts, which is also the rule at one shot. 0: nothing
        is projected.
    untrusted_texts : int or None
        As in :class:`MixedPrototypes`.
    logit_scale : float, optional
        As in :class:`ZeroShot`.
    calibrate : {"auto", True, False}
        As in :class:`ProjectAndMix`.

    Attributes
    ----------
    mixing_weight_, prior_shots_, untrusted_texts_, trusted_texts_, prototypes_
        As in :class:`MixedPrototypes`.
    n_directions_ : int
        k; 0 where nothing is projected (no text, or none that is trusted).
    """

    method = "text-aligned-prototypes"
    takes_pool = True

    def __init__(
        self,
        mixing_weight: float | str | None = None,
        n_directions: int | None = None,
        untrusted_texts: int | None = None,
        *,
        logit_scale: float | None = None,
        calibrate: bool | str = "auto",
    ) -> None:
        self.mixing_weight = mixing_weight
        self.n_directions = n_directions
        self.untrusted_texts = untrusted_texts
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term]:
        aligned = PrototypeCosine(
            support,
            self.logit_scale_,
            self.mixing_weight,
            projected=True,
            n_directions=self.n_directions,
            untrusted_texts=self.untrusted_texts,
        )
        return (aligned,)


class LDA(FewShotClassifier):
    """Linear discriminant analysis of unit rows, equal priors: logits x·W_c + b_c.

    W_c = Sigma^-1 mu_c and b_c = -½ mu_cᵀ Sigma^-1 mu_c, up to a constant of each row, with the pooled within-class covariance
    Sigma. At one shot a class there is no scatter: Sigma is then the identity (with a warning), the nearest class mean in Euclidean
    distance. Text is used for classes without pictures only.

    Parameters
    ----------
    shrinkage : {"kubokawa-srivastava", "ledoit-wolf", "oas"} or float
        How the covariance is shrunk, see :func:`isomix.fewshot.shrinkage.shrink`. Kubokawa-Srivastava is GDA's choice (Wang et al., ICLR
        2024); its logits are too flat for probabilities unless calibrated. ``partial_fit`` cannot update Ledoit-Wolf.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba`` by leave-one-out. ``"auto"`` does not: there are no weights to choose.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
    >>> LDA(shrinkage=0.5).fit(X, [0, 0, 1, 1]).predict(X)
    array([0, 0, 1, 1])
    """

    method = "lda"

    def __init__(self, shrinkage: str | float = "kubokawa-srivastava", *, calibrate: bool | str = "auto") -> None:
        self.shrinkage = shrinkage
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term]:
        return (Discriminant.of(support, self.shrinkage),)


class GDA(FewShotClassifier):
    """Zero-shot logits plus Gaussian discriminant analysis: s x·t_c + alpha (x·W_c + b_c) (Wang et al., ICLR 2024).

    Parameters
    ----------
    alpha : float or None
        Weight of the discriminant. None: chosen, by leave-one-out unless validation is given; 0 at one shot.
    shrinkage : {"kubokawa-srivastava", "ledoit-wolf", "oas"} or float
        The paper's is Kubokawa-Srivastava.
    logit_scale : float, optional
        As in :class:`ZeroShot`.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba`` on the same held-out shots; ``"auto"`` where the weights are chosen on them.

    Attributes
    ----------
    alpha_, ensemble_weight_ : float
        alpha, also by its name in Project and Mix.
    """

    method = "gda"
    takes_pool = True
    needs_text = True
    alpha_: float

    def __init__(
        self,
        alpha: float | None = None,
        *,
        shrinkage: str | float = "kubokawa-srivastava",
        logit_scale: float | None = None,
        calibrate: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.shrinkage = shrinkage
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term | Weighted, ...]:
        return (
            TextCosine(support, self.logit_scale_),
            Weighted("alpha", self.alpha, Discriminant.of(support, self.shrinkage)),
        )

    @property
    def ensemble_weight_(self) -> float:
        """The name of ``alpha_`` in Project and Mix."""
        return self.alpha_
