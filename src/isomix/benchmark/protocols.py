"""The four protocols on arrays: retrieval, nearest class mean, few-shot and zero-shot classification."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Floats, blocks
from isomix.benchmark.backbone import Backbone
from isomix.benchmark.banks import Bank
from isomix.benchmark.methods import Context, Fitted, fit_method
from isomix.benchmark.samples import Samples, Vectors
from isomix.errors import InputError, IsomixWarning
from isomix.fewshot import CLASSIFIERS, FewShotClassifier, ZeroShot
from isomix.fewshot.weights import HELD_OUT_SOURCES
from isomix.linalg import normalize_rows
from isomix.metrics.classification import classification_metrics
from isomix.metrics.retrieval import retrieval_metrics
from isomix.metrics.revisited import revisited_metrics

__all__ = [
    "TIERS",
    "Outcome",
    "Sides",
    "check_classifier",
    "few_shot",
    "fit_on",
    "nearest_class_mean",
    "retrieval",
    "sides",
    "uses_pool",
    "zero_shot",
]

TIERS = HELD_OUT_SOURCES
"""Where weights come from: the shots alone; min(K, 4) validation pictures a class; the whole validation split."""
CONFIDENCE = 0.95
POOL = "+pool"

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Outcome:
    """What one run measured.

    Attributes
    ----------
    metrics : dict
        Fractions in [0, 1], with ``intervals`` at 95 % where there are any.
    details : dict
        What was fitted and on how much; JSON values.
    """

    metrics: dict[str, Any]
    details: dict[str, Any]


@dataclass(frozen=True)
class Sides:
    """Row numbers of queries and gallery; the same ones when all search all."""

    queries: Rows
    gallery: Rows
    all_against_all: bool


def sides(samples: Samples) -> Sides:
    """Which rows search which."""
    if not samples.query_split:
        rows = np.arange(len(samples))
        return Sides(rows, rows, True)
    return Sides(
        samples.rows(samples.query_split, needed_for="retrieval"),
        samples.rows(samples.gallery_split, needed_for="retrieval"),
        False,
    )


def fit_on(samples: Samples, rows: Rows, spec: str, backbone: Backbone | None, bank: Callable[[], Bank]) -> Fitted:
    """Fit a method on some rows of a data set; their labels are not shown to it."""
    return fit_method(spec, Context(samples.vectors.take(rows), samples.modality, backbone, bank))


def retrieval(samples: Samples, fitted: Fitted) -> Outcome:
    """Image-to-image or text-to-text retrieval.

    Raises
    ------
    InputError
        A gallery of one class, or no query with anything relevant in the gallery; smoothing with queries of another modality,
        each of which would stand in the gallery too.

    Warns
    -----
    IsomixWarning
        Queries without anything relevant in the gallery; they are in no mean.
    """
    chosen = sides(samples)
    gallery = fitted.gallery(samples.vectors.take(chosen.gallery))
    same = chosen.all_against_all and fitted.queries is fitted.gallery
    queries = gallery if same else fitted.queries(samples.vectors.take(chosen.queries))
    details: dict[str, Any] = {"n_gallery": len(chosen.gallery), "all_against_all": chosen.all_against_all}
    smoothing = fitted.smoothing
    if smoothing is not None:
        details["uses"] = "gallery"
    if samples.ground_truth is not None:
        if smoothing is not None:
            gallery = smoothing.fit_transform(gallery)
            queries = smoothing.transform(queries) if fitted.expand else queries
        by_difficulty = revisited_metrics(queries @ gallery.T, samples.ground_truth)
        named = {f"{figure}_{level}": v for level, figures in by_difficulty.items() for figure, v in figures.items()}
        # The papers' "mAP" of these two sets is that of Easy.
        return Outcome({"mean_average_precision": by_difficulty["easy"]["mean_average_precision"], **named}, details)
    labels = samples.labels
    if len(np.unique(labels[chosen.gallery])) < 2:
        raise InputError(
            f"{samples.name}: the gallery has one class only, so every answer is right. Expected two classes or more."
        )
    metrics = retrieval_metrics(
        queries,
        labels[chosen.queries],
        None if same else gallery,
        None if same else labels[chosen.gallery],
        remove_self=chosen.all_against_all,
        smoothing=smoothing,
        expand=fitted.expand,
        confidence=CONFIDENCE,
    )
    if metrics["n_skipped"]:
        warnings.warn(
            f"{samples.name}: {metrics['n_skipped']} of {len(queries)} queries have nothing of their class in the "
            "gallery; they are in no mean.",
            IsomixWarning,
            stacklevel=2,
        )
    return Outcome(metrics, details)


def nearest_class_mean(samples: Samples, fitted: Fitted, backbone: Backbone | None) -> Outcome:
    """Classify test pictures by the cosine with class means of the whole train split.

    Where pre-projection features are known, means are taken of them, unnormalised, and then projected and normalised
    (the protocol of Magistri et al., CVPR 2026); else of unit embeddings. ``details["means_of"]`` says which.
    """
    if fitted.smoothing is not None:
        raise InputError(
            "smoothing changes a gallery that is searched, and class means search none. Leave '+smoothing' out."
        )
    train = samples.rows("train", needed_for="nearest class mean")
    test = samples.rows("test", needed_for="nearest class mean")
    classes = np.unique(samples.labels[train])
    unknown = np.setdiff1d(samples.labels[test], classes)
    if unknown.size:
        raise InputError(
            f"{samples.name}: {unknown.size} classes of the test split have no training picture, e.g. "
            f"{samples.class_names[unknown[0]]!r}."
        )
    vectors = samples.vectors.take(train)
    labels = np.searchsorted(classes, samples.labels[train])
    if vectors.features is None or backbone is None:
        means = Vectors(_means(normalize_rows(vectors.embeddings, "embeddings"), labels, len(classes)), None)
        means_of = "unit embeddings"
    else:
        features = _means(vectors.features, labels, len(classes))
        means = Vectors(backbone.encoder.project_image(np.asarray(features, np.float32)), features)
        means_of = "pre-projection features"
    queries, prototypes = fitted.queries(samples.vectors.take(test)), fitted.gallery(means)
    predictions = np.concatenate(
        [classes[(queries[rows] @ prototypes.T).argmax(1)] for rows in blocks(len(queries), 4096)]
    )
    metrics = classification_metrics(samples.labels[test], predictions, confidence=CONFIDENCE)
    return Outcome(metrics, {"means_of": means_of, "n_train": len(train), "n_classes": len(classes)})


def _means(rows: Floats, labels: Rows, n: int) -> Floats:
    sums = np.zeros((n, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return np.asarray(sums / np.bincount(labels, minlength=n)[:, None], rows.dtype)


def few_shot(samples: Samples, method: str, *, shots: Rows, held_out: Rows, tier: str, logit_scale: float) -> Outcome:
    """Fit a classifier on the shots, and test it on the whole test split.

    Parameters
    ----------
    samples : Samples
        With ``text`` for the classifiers that need it.
    method : str
        A name of :data:`isomix.fewshot.CLASSIFIERS`; with ``+pool`` behind it the test pictures, without their labels, are the pool
        of a classifier that takes one, and ``details["uses"]`` says so.
    shots : ndarray of intp
        Rows of the shots; see :func:`draw_shots`.
    held_out : ndarray of intp
        Rows that the weights are chosen by, in tiers ``"few-validation"`` and ``"validation"``.
    tier : {"leave-one-out", "few-validation", "validation"}
        See ``TIERS``.
    logit_scale : float

    Raises
    ------
    InputError
        Unknown method or tier, or a split that is missing.
    """
    check_classifier(method)
    if tier not in TIERS:
        raise InputError(f"tier: got {tier!r}, expected one of {', '.join(TIERS)}.")
    test = samples.rows("test", needed_for="few-shot classification")
    if tier != "leave-one-out" and not held_out.size:
        raise InputError(f"{samples.name}: tier {tier!r} chooses weights on a split 'val', and there is none.")
    X, y = samples.vectors.embeddings, samples.labels
    unit = normalize_rows(X[shots], "embeddings")  # the classifiers warn of rows that are not unit; here it is meant
    text = None if samples.text is None else dict(enumerate(samples.text))
    kind = CLASSIFIERS[method.removesuffix(POOL)]
    classifier = kind(logit_scale=logit_scale) if "logit_scale" in signature(kind).parameters else kind()
    if tier == "leave-one-out":
        classifier.fit(unit, y[shots], text)
    else:
        classifier.fit(unit, y[shots], text, validation=(X[held_out], y[held_out]), tier=tier)
    details = {
        "n_train": len(shots),
        "n_validation": 0 if tier == "leave-one-out" else len(held_out),
        "n_classes": len(classifier.classes_),
        "weights_from": classifier.weight_tier_,
        "weights": classifier.weights_,
    }
    if uses_pool(method):
        classifier.use_pool(X[test], shots=(unit, y[shots]))
        why = "" if classifier.pool_ is None else classifier.pool_.explanation()
        details |= {"uses": "unlabelled pictures", "pool": why}
    return Outcome(_scored(classifier, X[test], y[test]), details)


def check_classifier(method: str) -> None:
    """Raise :class:`InputError` for a name that is not in :data:`isomix.fewshot.CLASSIFIERS`, or takes no pool and has ``+pool``."""
    kind = CLASSIFIERS.get(method.removesuffix(POOL))
    if kind is None:
        raise InputError(f"method: got {method!r}, expected one of {', '.join(sorted(CLASSIFIERS))}.")
    if uses_pool(method) and not kind.takes_pool:
        takers = sorted(name for name, each in CLASSIFIERS.items() if each.takes_pool)
        raise InputError(f"method: got {method!r}, but only {', '.join(takers)} take unlabelled pictures ({POOL}).")


def uses_pool(method: str) -> bool:
    """Whether a few-shot method looks at the test pictures, without their labels, before it classifies any of them."""
    return method.endswith(POOL)


def zero_shot(samples: Samples, logit_scale: float) -> Outcome:
    """Classify by the class texts alone; on the test split, or on all rows where nothing is split."""
    if samples.text is None:
        raise InputError(f"{samples.name}: zero-shot classification needs class texts: name the model with --model.")
    split = (samples.splits == "test").any()
    rows = samples.rows("test", needed_for="zero-shot") if split else np.arange(len(samples))
    classifier = ZeroShot(logit_scale=logit_scale).fit(text=dict(enumerate(samples.text)))
    metrics = _scored(classifier, samples.vectors.embeddings[rows], samples.labels[rows])
    return Outcome(metrics, {"n_classes": len(samples.text), "n_prompts": int(samples.text.shape[1])})


def _scored(classifier: FewShotClassifier, X: Floats, y: Rows) -> dict[str, Any]:
    predictions, certainty = np.empty(len(X), np.intp), np.empty(len(X))
    for rows in blocks(len(X), 4096):
        probabilities = classifier.predict_proba(X[rows])
        predictions[rows] = classifier.classes_[probabilities.argmax(1)]
        certainty[rows] = np.minimum(probabilities.max(1), 1.0)
    return classification_metrics(y, predictions, certainty, confidence=CONFIDENCE)
