"""TIMO: prompts weighted by the pictures of their class, and a discriminant that counts them among the pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isomix._arrays import Doubles, Floats, Indices
from isomix.errors import InputError
from isomix.fewshot.base import FewShotClassifier
from isomix.fewshot.discriminant import Discriminant
from isomix.fewshot.held_out import HeldOut
from isomix.fewshot.inputs import check_number
from isomix.fewshot.leave_one_out import means_without
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.support import Support
from isomix.fewshot.terms import Linear, Term, Weighted
from isomix.fewshot.weights import Parameter, Values
from isomix.linalg import normalize_rows

__all__ = ["TIMO", "GuidedTextCosine", "PromptedDiscriminant"]

GAMMA = 50.0
GAMMA_GRID = (0.0, 6.25, 12.5, 25.0, 50.0, 100.0, 200.0)


class TIMO(FewShotClassifier):
    """Text and pictures that guide each other: s x·t_c + alpha (x·W_c + b_c), for several prompts a class, training-free.

    With u_c the normalised mean image and t_cp the prompts of a class:

    - image-guided text: t_c = norm(Σ_p softmax_p(gamma m_cp / ‖m_c‖) t_cp) with the cosines m_cp = u_c·t_cp;
    - text-guided image: W and b are those of linear discriminant analysis on the pictures and the prompts m_cp t_cp,
      which count as further samples of the class.

    Li et al., *Text and Image Are Mutually Beneficial*, AAAI 2025 (arXiv 2412.11375), in our own formulas, with all
    prompts (the paper's TIMO; its variant TIMO-S also searches for how many). The paper writes alpha in front of the
    other term.

    Parameters
    ----------
    alpha : float or None
        Weight of the discriminant. None: chosen, by leave-one-out unless validation is given; 0 at one shot without
        validation, which leaves the image-guided text.
    gamma : float or None
        How strongly the pictures weigh the prompts; 0 is their mean. None: chosen likewise; 50 at one shot without
        validation, the authors' number for most sets.
    prompt_weight : float
        What a prompt counts for as a sample, in pictures. The paper keeps ten augmented views of a picture as samples,
        so that a prompt counts for a tenth of it. 0: the discriminant of GDA.
    shrinkage : {"kubokawa-srivastava", "oas"} or float
        Of the covariance; see :func:`isomix.fewshot.shrinkage.shrink`.
    logit_scale : float, optional
        s. None: that of ``text=``, where an encoder made it, else 100, OpenAI CLIP's.
    calibrate : {"auto", True, False}
        Choose the temperature of ``predict_proba`` on the same held-out shots; ``"auto"`` where the weights are chosen on them.

    Attributes
    ----------
    gamma_, alpha_ : float
        ``ensemble_weight_`` is alpha by its name in Project and Mix.
    prototypes_ : ndarray, shape (C, d)
        The image-guided texts.

    Notes
    -----
    With one prompt a class its softmax is 1 and t_c is the class text: GDA with the text as one more sample. A class
    without pictures is guided by its imputed mean image and adds no samples.

    Leave-one-out is exact for the image-guided text, and for the discriminant but for one thing: the lengths m_cp of
    the prompts are those with all pictures, of which the one left out is one in K.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    >>> T = {"cat": np.array([[0.8, 0.0, 0.6], [0.6, 0.0, 0.8]]), "dog": np.array([[0.0, 0.8, 0.6], [0.0, 0.6, 0.8]])}
    >>> clf = TIMO(0.1, gamma=5.0).fit(X, ["cat", "cat", "dog", "dog"], text=T)
    >>> clf.prototypes_.round(2)  # nearer to the first prompts, which look more like the pictures
    array([[0.75, 0.  , 0.66],
           [0.  , 0.75, 0.66]])
    """

    method = "timo"
    needs_text = True
    alpha_: float

    def __init__(
        self,
        alpha: float | None = None,
        gamma: float | None = None,
        *,
        prompt_weight: float = 0.1,
        shrinkage: str | float = "kubokawa-srivastava",
        logit_scale: float | None = None,
        calibrate: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.gamma = gamma
        self.prompt_weight = prompt_weight
        self.shrinkage = shrinkage
        self.logit_scale = logit_scale
        self.calibrate = calibrate

    def _terms(self, support: Support) -> tuple[Term | Weighted, ...]:
        prompts = _Prompts.of(support)
        return (
            GuidedTextCosine(support, prompts, self.logit_scale_, self.gamma),
            Weighted("alpha", self.alpha, PromptedDiscriminant(support, prompts, self.prompt_weight, self.shrinkage)),
        )

    @property
    def ensemble_weight_(self) -> float:
        """The name of ``alpha_`` in Project and Mix."""
        return self.alpha_


class _Prompts(NamedTuple):
    """All prompts, one below the other; a class without text has one, its imputed text.

    Attributes
    ----------
    rows : ndarray, shape (P, d)
    classes : ndarray, shape (P,)
        Class numbers, ascending.
    images : ndarray, shape (C, d)
        Normalised mean images, which guide them.
    """

    rows: Doubles
    classes: Indices
    images: Doubles

    @classmethod
    def of(cls, support: Support) -> _Prompts:
        lists = [p if len(p) else text[None] for p, text in zip(support.prompts, support.texts, strict=True)]
        owners = np.repeat(np.arange(len(lists)), [len(p) for p in lists])
        images = np.asarray(normalize_rows(support.means, "image prototypes"), np.float64)
        return cls(np.concatenate(lists), owners, images)

    def of_class(self, c: int) -> Doubles:
        """Prompts of a class, (p, d)."""
        start, stop = np.searchsorted(self.classes, (c, c + 1))
        return self.rows[start:stop]


class GuidedTextCosine(Term):
    """s x·t_c with the image-guided texts t_c = norm(Σ_p softmax_p(gamma m_cp / ‖m_c‖) t_cp), m_cp = u_c·t_cp.

    Parameters
    ----------
    support : Support
    prompts : _Prompts
    scale : float
        s.
    gamma : float or None
        None: chosen.
    """

    def __init__(self, support: Support, prompts: _Prompts, scale: float, gamma: float | None) -> None:
        check_number(scale, "logit_scale (100 for OpenAI CLIP)", positive=True)
        check_number(gamma, "gamma", chosen=True)
        self.moments, self.prompts, self.scale, self.gamma = support.moments, prompts, scale, gamma

    def parameters(self) -> list[Parameter]:
        """``gamma``; with one prompt a class there is one candidate, since nothing depends on it."""
        several = len(self.prompts.rows) > len(self.prompts.images)
        return [Parameter.of("gamma", self.gamma, GAMMA, GAMMA_GRID if several else (GAMMA,))]

    def texts(self, values: Values) -> Doubles:
        """t_c, (C, d)."""
        texts = np.empty_like(self.prompts.images)
        for c, mean in enumerate(self.prompts.images):
            prompts = self.prompts.of_class(c)
            texts[c] = _guided((prompts @ mean)[None], prompts, values["gamma"])[0]
        return texts

    def linear(self, values: Values) -> Linear:
        """The texts times s."""
        texts = self.texts(values)
        return Linear(self.scale * texts, np.zeros(len(texts)))

    def held_out_logits(self, held_out: HeldOut, values: Values) -> Floats:
        """The text of the own class is guided by the mean image without the shot."""
        dtype = held_out.X.dtype
        cosines = held_out.X @ np.ascontiguousarray(self.texts(values).T, dtype)
        if held_out.from_shots:
            X = np.asarray(held_out.X, np.float64)
            own = normalize_rows(means_without(held_out, self.moments.counts, X, self.moments.means), "mean images")
            for c in np.unique(held_out.y):
                rows, prompts = np.flatnonzero(held_out.y == c), self.prompts.of_class(c)
                texts = _guided(np.asarray(own[rows] @ prompts.T), prompts, values["gamma"])
                cosines[rows, c] = np.einsum("ij,ij->i", X[rows], texts)
        return np.asarray(dtype.type(self.scale) * cosines)

    def attributes(self, values: Values) -> dict[str, Any]:
        """``prototypes``: the image-guided texts."""
        return {"prototypes": self.texts(values)}


def _guided(scores: Doubles, prompts: Doubles, gamma: float) -> Doubles:
    """Image-guided texts (n, d) of one class, from the cosines (n, p) of n mean images with its p prompts."""
    lengths = np.maximum(np.sqrt(np.einsum("ij,ij->i", scores, scores)), np.finfo(np.float64).tiny)[:, None]
    exponents = gamma * scores / lengths
    weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    return np.asarray(normalize_rows(weights @ prompts, "image-guided texts"))


class PromptedDiscriminant(Discriminant):
    """The discriminant of the pictures and of the prompts m_cp t_cp, each of which counts for ``prompt_weight`` pictures.

    Its leave-one-out is exact but for the lengths m_cp, which stay those with all pictures.
    """

    spread_rows = None

    def __init__(self, support: Support, prompts: _Prompts, prompt_weight: float, shrinkage: str | float) -> None:
        check_number(prompt_weight, "prompt_weight")
        if shrinkage == "ledoit-wolf":
            raise InputError(
                "shrinkage: 'ledoit-wolf' is not available among prompts. Use 'kubokawa-srivastava', 'oas' or a number."
            )
        moments, owners = support.moments, prompts.classes
        cosines = np.einsum("ij,ij->i", prompts.rows, prompts.images[owners])
        samples = ((moments.counts > 0) & support.has_text)[owners]
        if prompt_weight:
            added = (prompts.rows * cosines[:, None])[samples]
            weights = np.full(len(added), float(prompt_weight))
            moments = moments.merge(ClassMoments.of(added, owners[samples], len(moments.counts), weights))
        present = (support.moments.counts > 0)[:, None]
        super().__init__(moments, np.where(present, moments.means, support.means), shrinkage)
