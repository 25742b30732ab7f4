"""The tour's two measurements, on arrays: retrieval by class, and few-shot accuracy over random draws of shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix.errors import InputError
from isomix.fewshot import (
    LDA,
    FewShotClassifier,
    MixedPrototypes,
    NearestClassMean,
    ProjectAndMix,
    TextAlignedPrototypes,
    ZeroShot,
)
from isomix.metrics.retrieval import retrieval_metrics
from isomix.neighbors import Smoothing

__all__ = ["Accuracy", "Retrieval", "measure_few_shot", "measure_retrieval"]

Vectors = NDArray[np.floating[Any]]
Strings = NDArray[np.str_]
RESAMPLES = 2000


@dataclass(frozen=True)
class Retrieval:
    """Retrieval by one method, every picture a query against all others; fractions in [0, 1].

    Attributes
    ----------
    mean_average_precision, recall_at_1 : float
    gain : float
        Mean average precision minus that of the first method.
    gain_interval : (float, float)
        95 % bootstrap interval of the gain, classes drawn with replacement: pictures of one class are not independent.
    """

    method: str
    mean_average_precision: float
    recall_at_1: float
    gain: float
    gain_interval: tuple[float, float]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one method at one number of shots, over draws of the shots; fractions in [0, 1]."""

    method: str
    shots: int
    mean: float
    standard_deviation: float
    draws: tuple[float, ...]


def measure_retrieval(
    spaces: Mapping[str, Vectors], labels: Strings, *, smoothed: Mapping[str, bool] | None = None, seed: int = 0
) -> list[Retrieval]:
    """Score every space on the same pictures.

    Parameters
    ----------
    spaces : mapping of str to ndarray, shape (n, d)
        Method → vectors; the first is what the others are compared with.
    labels : ndarray of str, shape (n,)
    smoothed : mapping of str to bool, optional
        Spaces that are scored smoothed as well (a query never smooths the rows it is judged by), and whether with expanded
        queries, too.
    seed : int
        Of the bootstrap.
    """
    rows: list[Retrieval] = []
    reference: NDArray[np.float64] | None = None
    methods: dict[str, tuple[Vectors, dict[str, Any]]] = {}
    for space, vectors in spaces.items():
        methods[space] = vectors, {}
        if smoothed is not None and space in smoothed:
            methods[f"{space}, smoothed"] = vectors, {"smoothing": Smoothing()}
            if smoothed[space]:
                methods[f"{space}, smoothed, expanded"] = vectors, {"smoothing": Smoothing(), "expand": True}
    for method, (vectors, how) in methods.items():
        figures = retrieval_metrics(vectors, labels, ks=(1,), return_per_query=True, **how)
        precision = figures["per_query"]["mean_average_precision"]
        reference = precision if reference is None else reference
        gain, interval = _gain(precision - reference, labels, seed)
        rows.append(Retrieval(method, figures["mean_average_precision"], figures["recall_at_1"], gain, interval))
    return rows


def _gain(difference: NDArray[np.float64], labels: Strings, seed: int) -> tuple[float, tuple[float, float]]:
    scored = np.isfinite(difference)  # a query without a second picture of its class has no precision
    _, classes = np.unique(labels[scored], return_inverse=True)
    sums, counts = np.bincount(classes, difference[scored]), np.bincount(classes)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(RESAMPLES, len(counts)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(sums.sum() / counts.sum()), (float(low), float(high))


def measure_few_shot(
    embeddings: Vectors,
    labels: Strings,
    text: Vectors,
    *,
    logit_scale: float,
    also: Mapping[str, Vectors],
    shots: Sequence[int] = (1, 2, 4),
    draws: int = 20,
    seed: int = 0,
) -> list[Accuracy]:
    """Classify all other pictures from a few of each class.

    Parameters
    ----------
    embeddings : ndarray, shape (n, d)
    labels : ndarray of str, shape (n,)
    text : ndarray, shape (C, d)
        Text embeddings of the sorted labels.
    logit_scale : float
        The model's inverse temperature.
    also : mapping of str to ndarray, shape (n, any)
        Other vectors of the same pictures, for the nearest class mean.
    shots : sequence of int
        Pictures a class.
    draws : int
        Random draws of the shots, two at least; all methods see the same ones.
    seed : int

    Returns
    -------
    list of Accuracy
        LDA is missing at one shot, where there is no within-class scatter.

    Raises
    ------
    InputError
        A class without a picture to spare as a query.
    """
    classes, numbers = np.unique(labels, return_inverse=True)
    fewest = int(np.bincount(numbers).min())
    if fewest <= max(shots):
        scarce = classes[np.bincount(numbers).argmin()]
        raise InputError(
            f"shots: got {max(shots)}, but the class {str(scarce)!r} has {fewest} picture(s), "
            "and one at least must be left to test on."
        )
    classifiers = _classifiers(logit_scale)
    nearest = {f"nearest class mean, {space}": vectors for space, vectors in also.items()}
    accuracies: dict[tuple[str, int], list[float]] = {(m, k): [] for m in (*classifiers, *nearest) for k in shots}
    accuracies.pop(("LDA", 1), None)
    for k in shots:
        rng = np.random.default_rng([seed, k])
        for _ in range(draws):
            chosen = [rng.choice(np.flatnonzero(numbers == c), k, replace=False) for c in range(len(classes))]
            support = np.concatenate(chosen)
            queries = np.setdiff1d(np.arange(len(labels)), support)
            for method, classifier in classifiers.items():
                if (method, k) in accuracies:
                    classifier.fit(embeddings[support], labels[support], text=text)
                    right = classifier.predict(embeddings[queries]) == labels[queries]
                    accuracies[method, k].append(float(right.mean()))
            for method, vectors in nearest.items():
                right = (
                    NearestClassMean().fit(vectors[support], labels[support]).predict(vectors[queries])
                    == labels[queries]
                )
                accuracies[method, k].append(float(right.mean()))
    return [
        Accuracy(method, k, float(np.mean(values)), float(np.std(values, ddof=1)), tuple(values))
        for (method, k), values in accuracies.items()
    ]


def _classifiers(logit_scale: float) -> dict[str, FewShotClassifier]:
    return {
        "zero-shot": ZeroShot(logit_scale=logit_scale),
        "nearest class mean": NearestClassMean(logit_scale=logit_scale),
        "mixed prototypes": MixedPrototypes(logit_scale=logit_scale),
        "text-aligned prototypes": TextAlignedPrototypes(logit_scale=logit_scale),
        "LDA": LDA(),
        "Project and Mix": ProjectAndMix(logit_scale=logit_scale),
    }
