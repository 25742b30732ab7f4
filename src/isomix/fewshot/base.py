"""The contract of every few-shot classifier: embeddings and labels in, logits out, scikit-learn's interface around it."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from isomix._arrays import Doubles, Floats, Indices, blocks, working_dtype
from isomix._estimators import check_fitted, check_rows
from isomix.errors import InputError, IsomixWarning
from isomix.fewshot.calibration import check_calibrate, temperature
from isomix.fewshot.encoded import DEFAULT_LOGIT_SCALE, unpack
from isomix.fewshot.held_out import HeldOut, leave_one_out, validation_shots
from isomix.fewshot.inputs import (
    all_classes,
    check_labels,
    check_number,
    check_something_each,
    read_shots,
    read_validation,
    unique_shots,
    unit_rows,
)
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.pool import PoolRows, PoolTerm
from isomix.fewshot.sums import HeldOutSum, Predictor, Sum
from isomix.fewshot.support import Shots, Support
from isomix.fewshot.terms import Term, Weighted
from isomix.fewshot.texts import ClassTexts, labels_of, read_texts, warn_identical, warn_misspelt
from isomix.fewshot.transduction import TakesPool
from isomix.fewshot.weights import Values, check_source, choose, source_of

__all__ = ["CLASSIFIERS", "FewShotClassifier"]

CLASSIFIERS: dict[str, type[FewShotClassifier]] = {}
BLOCK_ROWS = 1024


class FewShotClassifier(TakesPool, ClassifierMixin, BaseEstimator, ABC):
    """Base of the training-free classifiers: logits are a sum of terms, which a subclass names in ``_terms``.

    Attributes
    ----------
    classes_ : ndarray, shape (C,)
        Sorted labels.
    counts_ : ndarray, shape (C,)
        Shots a class (sum of the sample weights).
    weights_ : dict of str to number
        Every weight in use, chosen or given, by the name of the constructor's argument: with text,
        ``type(classifier)(**classifier.weights_)`` is the same classifier with nothing left to choose, but for its temperature.
    weight_tier_ : {"leave-one-out", "few-validation", "validation", "prior", "given"}
        Where the weights come from: the shots alone, each left out in turn; some or all validation pictures; the prior rule,
        because nothing can be left out at one shot a class; or the constructor (also where there is nothing to choose).
    temperature_ : float
        Divides the logits in ``predict_proba``. ``calibrate="auto"``, the default, chooses it where weights are chosen on held-out
        shots, on at most 512 of them, and leaves it 1 where weights are given or come from the prior rule; ``True`` chooses it
        wherever shots can be held out, on all of them, and warns where none can; ``False`` leaves it 1. No label depends on it.
    logit_scale_ : float
        s, in the classifiers that have it: the constructor's; else that of ``text=``, where an encoder made it; else 100.
    n_features_in_ : int
    pool_ : Pool or None
        What was taken from unlabelled pictures, and why; None without any.
    coef_, intercept_ : ndarray, shapes (C, d) and (C,)
        Of the terms that are linear in the embeddings, where all terms are linear. A class without pictures and text has the
        intercept -inf.
    """

    method: ClassVar[str]
    needs_text: ClassVar[bool] = False
    keeps_shots: ClassVar[bool] = False
    _announced: Sequence[Any] = ()
    space: Any = None
    calibrate: bool | str
    classes_: NDArray[Any]
    moments_: ClassMoments
    text_: Doubles
    has_text_: NDArray[np.bool_]
    prompts_: list[Doubles]
    weights_: dict[str, float]
    weight_tier_: str
    temperature_: float
    logit_scale_: float
    n_features_in_: int
    coef_: Doubles
    intercept_: Doubles
    source_: Mapping[str, Any]
    _shots: Shots
    _sum: Sum
    _values: Values
    _predictor: Predictor
    _live: NDArray[np.bool_]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "method" in cls.__dict__:
            CLASSIFIERS[cls.method] = cls

    @abstractmethod
    def _terms(self, support: Support) -> Sequence[Term | Weighted]:
        """The terms that logits are the sum of."""

    # ------------------------------------------------------------------ fitting

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        text: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        tier: str | None = None,
        unlabelled: ArrayLike | None = None,
    ) -> Self:
        """Fit on the shots.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Image embeddings; float16, float32 or float64. Rows are scaled to unit length, with a warning if they were not.
        y : array_like, shape (n,)
            Labels.
        text : array_like (C, d) or (C, p, d), or mapping of label to (d,) or (p, d) array, optional
            Class text embeddings, in the order of the sorted labels; p prompts of a class become their normalised mean. What
            ``encoder.encode_text`` returns can stand in the place of an array; the logit scale of its model is then taken
            from it, unless the constructor was given one.
            A mapping may hold classes without pictures, and leave out (or map to None) classes without text. What looks
            like a misspelt label is warned of: the same class twice, with pictures by one name and with text by another.
        sample_weight : array_like, shape (n,), optional
            Frequencies: weight 2 counts like the same shot given twice.
        validation : (array_like (m, d), array_like (m,)), optional
            Held-out pictures and labels to choose the weights by, instead of leave-one-out.
        tier : {"leave-one-out", "few-validation", "validation"}, optional
            What the weights are chosen by. Default: ``"leave-one-out"`` without ``validation``, ``"validation"`` with it.
            ``"few-validation"`` uses the first min(K, 4) validation shots of every class, CoOp's rule, for K the largest number
            of shots of a class.
        unlabelled : array_like, shape (m, d), optional
            Pictures without labels, for instance those to be classified: see :meth:`use_pool`. Pictures that are shots, too, are
            dropped from it. No weight is chosen by it.

        Raises
        ------
        InputError
            Fewer than two classes, a class without text and pictures, a picture under two labels, widths that differ,
            NaN, zero rows, or a ``tier`` that does not go with ``validation``.
        """
        check_calibrate(self.calibrate)
        source = check_source(tier, validation is not None)
        matrix, labels, weights = read_shots(self, X, y, sample_weight, reset=True)
        check_labels(labels_of(text), "text")
        text, carried = unpack(text)
        self._set_logit_scale(carried)
        # An array has a row for each announced class, too; the others wait in partial_fit for what they lack.
        by_order = text is not None and not isinstance(text, Mapping)
        classes = all_classes(labels, [*labels_of(text), *(self._announced if by_order else ())])
        texts = self._read_texts(text, classes, matrix.shape[1])
        check_something_each(classes, labels, texts.known)
        warn_misspelt(text, classes, set(labels.tolist()), self._announced)
        given = matrix
        matrix, numbers, weights = unique_shots(matrix, labels, weights, classes)
        self._set_support(classes, texts, self._shots_of(matrix, numbers, weights, len(classes)))
        if unlabelled is not None:
            self.check_takes_pool()
        for note in self._sum.notes():
            warnings.warn(f"{type(self).__name__}: {note}", IsomixWarning, stacklevel=2)
        held_out: HeldOut | None
        if validation is None:
            held_out = leave_one_out(matrix, numbers, weights, self.moments_)
        else:
            held_out = validation_shots(*read_validation(self, validation, classes), self.moments_, source)
        self._choose(held_out)
        if unlabelled is not None:
            self._take_pool(PoolRows(unlabelled, self.n_features_in_, given), (matrix, numbers))
        return self

    def _choose(self, held_out: HeldOut | None) -> None:
        """Weights and temperature; ``held_out`` is None where every class has one shot."""
        logits: HeldOutSum | None = None if held_out is None else self._sum.held_out(held_out)
        parameters = self._sum.parameters(logits)
        # The logit scale was trained for cosines with texts; for pictures alone it says nothing about confidence.
        halvings = 0 if self.has_text_.any() and self._sum.uses_text else 7
        self.weight_tier_ = source_of(parameters, held_out)
        self._use(choose(parameters, logits, held_out, halvings))
        self.temperature_ = temperature(self.calibrate, self.weight_tier_, logits, self._values, held_out)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        text: Any = None,
        classes: Iterable[Any] | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Add shots, classes or texts, without the earlier shots.

        Means and scatter become those of all shots. Weights that ``fit`` chose stay as they are (a mixing weight goes on
        growing with the number of shots); call ``fit`` with all shots to choose again. The first call is ``fit``. A picture that
        an earlier call had under another label is not found: most classifiers keep no pictures.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        text : mapping of label to (d,) or (p, d) array, or array_like, optional
            Texts of new classes, or new texts of old ones; an array needs one row for each of all sorted labels.
        classes : iterable of labels, optional
            Announces labels. A class that has neither pictures nor text yet is one already, with its column in the
            probabilities, but of probability 0: it is predicted once it has pictures, or by its text alone once it has that.
            The first call needs two classes that have something.

        Raises
        ------
        InputError
            As in :meth:`fit`, or a label that is new and stands neither in ``text`` nor in ``classes``.
        """
        if isinstance(classes, str):
            raise InputError(f"classes: got the string {classes!r}, expected a list of labels, e.g. [{classes!r}].")
        listed = [] if classes is None else list(classes)
        check_labels(listed, "classes")
        check_labels(labels_of(text), "text")
        listed = np.asarray(listed).tolist()
        announced = [*labels_of(text), *listed]
        if not hasattr(self, "classes_"):
            if listed:
                all_classes(np.asarray(y), announced)  # one type of labels, before anything is fitted
            self._announced = listed
            try:
                self.fit(X, y, text, sample_weight)
            finally:
                del self._announced
            self._add_empty(listed)
            return self
        matrix, labels, weights = read_shots(self, X, y, sample_weight, reset=False)
        merged = all_classes(labels, [*announced, *self.classes_.tolist()])
        known = {*self.classes_.tolist(), *announced}
        unseen = [label for label in np.unique(labels).tolist() if label not in known]
        if unseen:
            raise InputError(
                f"labels {unseen[:5]!r} were not there in fit. If they are new classes and no misspellings, pass their text, "
                "text={label: embedding}, or announce them with classes=[...]."
            )
        text, _ = unpack(text)
        if text is None or labels_of(text):
            text = {**self._known_texts(), **({} if text is None else text)}
        if self.pool_ is not None:
            warnings.warn(
                "partial_fit: what was learnt from unlabelled pictures is dropped; call use_pool with them again.",
                IsomixWarning,
                stacklevel=2,
            )
        earlier = self._shots.take(np.searchsorted(merged, self.classes_), len(merged))
        texts = self._read_texts(text, merged, matrix.shape[1])
        warn_misspelt(text, merged, {*labels.tolist(), *self.classes_[self.counts_ > 0].tolist()}, listed)
        matrix, numbers, weights = unique_shots(matrix, labels, weights, merged)
        more = self._shots_of(matrix, numbers, weights, len(merged))
        self._set_support(merged, texts, earlier.merge(more))
        self._use(self._sum.now(self._values))
        return self

    def _add_empty(self, labels: list[Any]) -> None:
        """Classes without pictures and text; those that are there already stay as they are."""
        merged = all_classes(self.classes_, labels)
        if len(merged) > len(self.classes_):
            shots = self._shots.take(np.searchsorted(merged, self.classes_), len(merged))
            self._set_support(merged, read_texts(self._known_texts(), merged, self.n_features_in_), shots)
            self._use(self._sum.now(self._values))

    def _known_texts(self) -> dict[Any, Doubles]:
        return {c: p for c, p, has in zip(self.classes_.tolist(), self.prompts_, self.has_text_, strict=True) if has}

    def _set_logit_scale(self, carried: float | None) -> None:
        """The constructor's, or that of the texts, or the default; nothing in a classifier without one."""
        if hasattr(self, "logit_scale"):
            carried = DEFAULT_LOGIT_SCALE if carried is None else carried
            self.logit_scale_ = carried if self.logit_scale is None else self.logit_scale

    def _read_texts(self, text: Any, classes: NDArray[Any], width: int) -> ClassTexts:
        texts = read_texts(text, classes, width)
        if self.needs_text and not texts.known.any():
            raise InputError(
                f"{type(self).__name__} needs text=: class text embeddings of shape ({len(classes)}, {width}), in the order "
                "of the sorted labels, or a mapping {label: embedding}."
            )
        warn_identical(texts, classes)
        return texts

    def _shots_of(self, X: Floats, y: Indices, weights: Doubles, n_classes: int) -> Shots:
        return Shots.of(X, y, n_classes, weights, space=self.space, keep=self.keeps_shots)

    def _set_support(self, classes: NDArray[Any], texts: ClassTexts, shots: Shots) -> None:
        """Make the terms of these shots and texts."""
        # A class that waits for its first picture or text has no part in the terms.
        self._live = live = (shots.moments.counts > 0) | texts.known
        support = Support.of(shots.some(live), texts.some(live), classes[live])
        self._sum = Sum(self._terms(support))
        self.pool_ = None
        self._shots = shots
        self.classes_, self.moments_, self.counts_ = classes, shots.moments, shots.moments.counts
        self.text_, self.has_text_, self.prompts_ = texts
        self.means_, self.texts_ = self._spread(support.means), self._spread(support.texts)

    def _use(self, values: Values) -> None:
        """Predict with these values of the terms' parameters."""
        self._values = values
        shown = self._sum.attributes(values)
        for name, value in shown.items():
            setattr(self, f"{name}_", self._spread(value) if name == "prototypes" else value)
        self.weights_ = {name: shown[name] for name in self._get_param_names() if name in shown}
        parts = self._sum.parts
        if self.pool_ is not None and self.pool_.term is not None:
            parts = (*parts, Weighted.of(PoolTerm(self.pool_.term, self.temperature_)))
        self._predictor = predictor = Predictor(parts, values)
        if predictor.coef is not None and predictor.intercept is not None and predictor.is_linear:
            self.coef_ = self._spread(predictor.coef)
            self.intercept_ = self._spread(predictor.intercept, -np.inf)

    def _spread(self, rows: Doubles, fill: float = 0.0) -> Doubles:
        """One row for every class, from one for each that has pictures or text."""
        if self._live.all():
            return rows
        every = np.full((len(self._live), *rows.shape[1:]), fill)
        every[self._live] = rows
        return every

    # ------------------------------------------------------------------ prediction

    def logits(self, X: ArrayLike) -> Floats:
        """Logits of every class, shape (n, C), also for two classes."""
        return np.concatenate([block for _, block in self._blocks(X)])

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits (n, C); for two classes scikit-learn's form (n,), the second less the first."""
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities (n, C): the softmax of the logits over ``temperature_``."""
        probabilities = self.logits(X)
        probabilities /= self.temperature_
        return np.asarray(softmax(probabilities, axis=1))

    def predict(self, X: ArrayLike, *, reject_below: float | None = None, reject_label: Any = None) -> NDArray[Any]:
        """Labels (n,) of the largest logit.

        Parameters
        ----------
        X : array_like, shape (n, d)
        reject_below : float, optional
            Rows whose largest probability is below it are "none of these"; the probability is as good as its calibration, see ``temperature_``.
        reject_label : object
            What those rows get. The default None makes the result an object array.
        """
        if reject_below is not None:
            check_number(reject_below, "reject_below", highest=1.0)
        best, reject = [], []
        for _, logits in self._blocks(X):
            best.append(logits.argmax(axis=1))
            if reject_below is not None:
                reject.append(softmax(logits / self.temperature_, axis=1).max(axis=1) < reject_below)
        labels = self.classes_[np.concatenate(best)]
        if reject_below is None:
            return np.asarray(labels)
        return np.where(
            np.concatenate(reject), np.array(reject_label, np.result_type(np.asarray(reject_label), labels)), labels
        )

    def _blocks(self, X: ArrayLike) -> Iterable[tuple[slice, Floats]]:
        array = check_rows(self, X, "images")
        dtype = working_dtype(array.dtype)
        for rows in blocks(len(array), BLOCK_ROWS):
            logits = self._predictor(unit_rows(np.asarray(array[rows], dtype), rows.start))
            if not self._live.all():
                every = np.full((len(logits), len(self._live)), -np.inf, logits.dtype)
                every[:, self._live] = logits
                logits = every
            yield rows, logits

    def save(self, path: str | os.PathLike[str], *, source: Mapping[str, Any] | None = None) -> None:
        """Write the fitted classifier to one safetensors file; :func:`load_classifier` reads it.

        Parameters
        ----------
        path : path-like
        source : mapping, optional
            What it was made from, as JSON values (``isomix fit`` records the encoder); ``source_`` after loading.
        """
        from isomix.fewshot.persistence import save_classifier

        check_fitted(self)
        save_classifier(self, path, source or {})
