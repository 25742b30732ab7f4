"""The contract of every few-shot classifier: embeddings and labels in, logits out, scikit-learn's interface around it."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from isomix._arrays import Doubles, Floats, blocks, check_finite_rows, first_identical, working_dtype
from isomix._estimators import check_fitted, check_rows
from isomix.errors import InputError, IsomixWarning
from isomix.fewshot.held_out import HeldOut, calibrated_temperature, leave_one_out, validation_shots
from isomix.fewshot.imputation import complete
from isomix.fewshot.inputs import check_number, check_one_label_each, read_shots, unit_rows
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.texts import labels_of, read_texts, warn_identical
from isomix.linalg import normalize_rows

__all__ = ["CLASSIFIERS", "FewShotClassifier"]

CLASSIFIERS: dict[str, type[FewShotClassifier]] = {}
BLOCK_ROWS = 1024


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Base of the training-free classifiers.

    A subclass names itself (``method``), chooses its weights from held-out shots (``_choose``), turns moments, texts and
    weights into what prediction needs (``_compile``), and computes logits of unit rows (``_logits``).

    Attributes
    ----------
    classes_ : ndarray, shape (C,)
        Sorted labels.
    counts_ : ndarray, shape (C,)
        Shots a class (sum of the sample weights).
    weight_tier_ : {"given", "none", "few", "full", "rule"}
        Where the weights come from: the constructor; the shots alone, by leave-one-out; validation shots; or the prior rule,
        because nothing can be left out at one shot a class.
    temperature_ : float
        Divides the logits in ``predict_proba``; 1 without ``calibrate``.
    n_features_in_ : int
    """

    method: ClassVar[str]
    needs_text: ClassVar[bool] = False
    _state: ClassVar[tuple[str, ...]] = ()
    logit_scale: float
    calibrate: bool
    classes_: NDArray[Any]
    moments_: ClassMoments
    text_: Doubles
    has_text_: NDArray[np.bool_]
    prompts_: list[Doubles]
    weight_tier_: str
    temperature_: float
    n_features_in_: int
    source_: Mapping[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "method" in cls.__dict__:
            CLASSIFIERS[cls.method] = cls

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
    ) -> Self:
        """Fit on the shots.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Image embeddings; float16, float32 or float64. Rows are scaled to unit length, with a warning if they were not.
        y : array_like, shape (n,)
            Labels.
        text : array_like (C, d) or (C, p, d), or mapping of label to (d,) or (p, d) array, optional
            Class text embeddings, in the order of the sorted labels; p prompts of a class become their normalised mean.
            A mapping may hold classes without pictures, and leave out (or map to None) classes without text.
        sample_weight : array_like, shape (n,), optional
            Frequencies: weight 2 counts like the same shot given twice.
        validation : (array_like (m, d), array_like (m,)), optional
            Held-out pictures and labels to choose the weights by, instead of leave-one-out.
        tier : {"none", "few", "full"}, optional
            How the weights are chosen. Default: ``"none"`` without ``validation``, ``"full"`` with it. ``"few"`` uses the first
            min(K, 4) validation shots of every class, CoOp's rule, for K the largest number of shots of a class.

        Raises
        ------
        InputError
            Fewer than two classes, a class without text and pictures, a picture under two labels, widths that differ,
            NaN, zero rows, or a ``tier`` that does not go with ``validation``.
        """
        if tier not in (None, "none", "few", "full") or (tier in ("few", "full")) != (
            validation is not None and tier is not None
        ):
            raise InputError(
                f"tier: got {tier!r} {'with' if validation is not None else 'without'} validation; expected 'none' without "
                "validation, or 'few' or 'full' with validation=(embeddings, labels)."
            )
        self._check_parameters()
        matrix, labels, weights = read_shots(self, X, y, sample_weight, reset=True)
        classes = self._union(labels, labels_of(text))
        self._set_classes(classes, matrix.shape[1], text)
        matrix, numbers, weights = self._unique_shots(matrix, labels, weights)
        self._set_moments(ClassMoments.of(matrix, numbers, len(classes), weights))
        self._remember(matrix, numbers, weights)
        held_out = self._held_out(matrix, numbers, weights, validation, tier)
        self._settle(held_out)
        return self

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
            Announces labels, so that one may come without text.

        Raises
        ------
        InputError
            As in :meth:`fit`, or a label that is new and stands neither in ``text`` nor in ``classes``.
        """
        if isinstance(classes, str):
            raise InputError(f"classes: got the string {classes!r}, expected a list of labels, e.g. [{classes!r}].")
        announced = [*labels_of(text), *(() if classes is None else np.asarray(list(classes)).tolist())]
        if not hasattr(self, "classes_"):
            self._pending = announced
            try:
                return self.fit(X, y, text, sample_weight)
            finally:
                del self._pending
        matrix, labels, weights = read_shots(self, X, y, sample_weight, reset=False)
        merged = self._union(labels, [*announced, *self.classes_.tolist()])
        known = {*self.classes_.tolist(), *announced}
        unseen = [label for label in np.unique(labels).tolist() if label not in known]
        if unseen:
            raise InputError(
                f"labels {unseen[:5]!r} were not there in fit. If they are new classes and no misspellings, pass their text, "
                "text={label: embedding}, or announce them with classes=[...]."
            )
        if text is None or labels_of(text):
            old = {c: p for c, p, has in zip(self.classes_.tolist(), self.prompts_, self.has_text_, strict=True) if has}
            text = {**old, **({} if text is None else text)}
        positions = np.searchsorted(merged, self.classes_)
        earlier = self.moments_.take(positions, len(merged))
        self._set_classes(merged, matrix.shape[1], text)
        matrix, numbers, weights = self._unique_shots(matrix, labels, weights)
        self._set_moments(earlier.merge(ClassMoments.of(matrix, numbers, len(merged), weights)))
        self._recall(positions, matrix, numbers, weights)
        self._compile()
        return self

    def _union(self, labels: NDArray[Any], more: list[Any]) -> NDArray[Any]:
        more = [*more, *getattr(self, "_pending", ())]
        try:
            classes = np.unique(labels)
            if more:
                extra = np.array(more, dtype=object) if labels.dtype == object else np.asarray(more)
                if (extra.dtype.kind in "US") != (labels.dtype.kind in "US") and labels.dtype != object:
                    raise TypeError(f"labels of kinds {labels.dtype} and {extra.dtype}")
                classes = np.union1d(classes, extra)
        except TypeError as error:
            raise InputError(
                f"labels in y and text cannot be put in one order ({error}). Use one type for all."
            ) from error
        if len(classes) < 2:
            raise InputError(
                f"got {len(classes)} class ({classes.tolist()!r}), expected at least two classes with pictures or text."
            )
        return classes

    def _set_classes(self, classes: NDArray[Any], width: int, text: Any) -> None:
        if text is None and self.needs_text:
            raise InputError(
                f"{type(self).__name__} needs text=: class text embeddings of shape ({len(classes)}, {width}), in the order "
                "of the sorted labels, or a mapping {label: embedding}."
            )
        texts = read_texts(text, classes, width)
        warn_identical(texts, classes)
        self.classes_ = classes
        self.text_, self.has_text_, self.prompts_ = texts

    def _unique_shots(
        self, matrix: Floats, labels: NDArray[Any], weights: Doubles
    ) -> tuple[Floats, NDArray[np.intp], Doubles]:
        """Unit rows; a picture given twice becomes one shot of twice the weight, so that leaving it out leaves it out."""
        numbers = np.searchsorted(self.classes_, labels).astype(np.intp)
        twins = first_identical(matrix)
        check_one_label_each(twins, numbers, self.classes_)
        kept = np.unique(twins)
        if len(kept) < len(matrix):
            weights = np.asarray(np.bincount(twins, weights, minlength=len(matrix)), np.float64)[kept]
            matrix, numbers = matrix[kept], numbers[kept]
        return normalize_rows(matrix, "images"), numbers, weights

    def _set_moments(self, moments: ClassMoments) -> None:
        self.moments_ = moments
        self.counts_ = moments.counts
        names = np.array(self.classes_.tolist(), dtype=object)
        self.means_, self.texts_ = complete(moments.means, moments.counts > 0, self.text_, self.has_text_, names)

    def _held_out(
        self, X: Floats, y: NDArray[np.intp], weights: Doubles, validation: Any, tier: str | None
    ) -> HeldOut | None:
        if validation is None:
            return leave_one_out(X, y, weights, self.moments_)
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise InputError(
                f"validation: got {type(validation).__name__}, expected two arrays, validation=(embeddings, labels)."
            )
        array = check_rows(self, validation[0], "validation images")
        V = np.asarray(array, working_dtype(array.dtype))
        check_finite_rows(V, "validation images")
        V, labels = normalize_rows(V, "validation images"), np.asarray(validation[1])
        if labels.shape != (len(V),):
            raise InputError(
                f"validation: got {len(V)} rows and labels of shape {labels.shape}, expected one label a row."
            )
        unknown = labels[~np.isin(labels, self.classes_)]
        if unknown.size:
            raise InputError(
                f"validation: labels {np.unique(unknown)[:5].tolist()!r} are no classes of the shots or texts. Leave their "
                "pictures out, or give text of them."
            )
        return validation_shots(V, np.searchsorted(self.classes_, labels), self.moments_, tier or "full")

    def _settle(self, held_out: HeldOut | None) -> None:
        self.weight_tier_ = "given"
        self.temperature_ = 1.0
        self._choose(held_out)
        self._compile()
        if self.calibrate:
            if held_out is None:
                warnings.warn(
                    "calibrate=True: at one shot a class nothing can be left out, so the probabilities are not calibrated. "
                    "Give more shots, or validation=(embeddings, labels).",
                    IsomixWarning,
                    stacklevel=3,
                )
            else:
                self.temperature_ = calibrated_temperature(self._held_out_logits(held_out), held_out)

    def _check_parameters(self) -> None:
        """Check constructor arguments; called by ``fit``."""

    def _remember(self, X: Floats, y: NDArray[np.intp], weights: Doubles) -> None:
        """Keep shots, for methods that cannot do with moments."""

    def _recall(self, positions: NDArray[np.intp], X: Floats, y: NDArray[np.intp], weights: Doubles) -> None:
        """Add shots to those kept; class i now has number ``positions[i]``."""

    @abstractmethod
    def _choose(self, held_out: HeldOut | None) -> None:
        """Set the learned weights; ``held_out`` is None where every class has one shot."""

    @abstractmethod
    def _compile(self) -> None:
        """Derive what ``_logits`` needs from moments, texts and weights."""

    @abstractmethod
    def _logits(self, X: Floats) -> Floats:
        """Logits (n, C) of unit rows (n, d), in the dtype of ``X``."""

    def _held_out_logits(self, held_out: HeldOut) -> Floats:
        """Logits of held-out shots with the chosen weights, each by the classifier that has not seen it."""
        raise NotImplementedError

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
            Rows whose largest probability is below it are "none of these"; use it with ``calibrate=True``.
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
            yield rows, self._logits(unit_rows(np.asarray(array[rows], dtype), rows.start))

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
