"""Few-shot accuracy: every classifier of isomix, drawn shots, and which of the papers' effects appear."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from isomix._arrays import Floats
from isomix.errors import IsomixWarning
from isomix.fewshot import CLASSIFIERS, NearestClassMean, ProjectAndMix
from isomix.spaces import Space

__all__ = ["EFFECTS", "accuracies", "draws", "effects", "mean_and_halfwidth"]

Codes = NDArray[np.intp]
Accuracies = dict[str, dict[int, list[float]]]

EFFECTS = {
    "mixing pictures and text, against pictures alone": ("mixed-prototypes", "nearest-class-mean"),
    "mixing pictures and text, against text alone": ("mixed-prototypes", "zero-shot"),
    "text-aligned prototypes, against mixed ones": ("text-aligned-prototypes", "mixed-prototypes"),
    "adding the discriminant (Project and Mix), against prototypes alone": (
        "project-and-mix",
        "text-aligned-prototypes",
    ),
    "Project and Mix, against LDA": ("project-and-mix", "lda"),
    "Project and Mix without mixing (pictures alone), against with": (
        "project-and-mix, pictures alone",
        "project-and-mix",
    ),
    "Project and Mix without text alignment, against with": ("project-and-mix, no alignment", "project-and-mix"),
    "IsoCLIP under the discriminant of Project and Mix": ("project-and-mix, IsoCLIP", "project-and-mix"),
    "IsoCLIP under the nearest class mean": ("nearest-class-mean, IsoCLIP", "nearest-class-mean"),
}
"""An effect → the method that has it and the one it is compared with."""


def draws(
    labels: Codes, shots: tuple[int, ...], n_draws: int, max_queries: int, seed: int
) -> list[tuple[Codes, Codes]]:
    """For every draw, pictures for the shots, class by class (n_classes, max shots), and the queries (n,).

    The first K columns are the K shots, so fewer shots are part of more, and the queries are the same for all K.
    """
    most = max(shots)
    result = []
    for draw in range(n_draws):
        generator = np.random.default_rng([seed, draw])
        support, queries = [], []
        for label in range(int(labels.max()) + 1):
            members = generator.permutation(np.flatnonzero(labels == label))
            support.append(members[:most])
            queries.append(members[most : most + max_queries])
        result.append((np.stack(support), np.concatenate(queries)))
    return result


def accuracies(
    E: Floats,
    labels: Codes,
    text: Floats | None,
    shots: tuple[int, ...],
    episodes: list[tuple[Codes, Codes]],
    space: Space | None = None,
) -> Accuracies:
    """Accuracy of every method, number of shots and draw.

    Parameters
    ----------
    E : ndarray, shape (n, d)
        Unit rows: embeddings, or raw pixels with ``text=None``, where the nearest class mean is the only method.
    labels : ndarray of int, shape (n,)
    text : ndarray, shape (C, d), or None
    shots, episodes
        As given to :func:`draws`, and what it returned.
    space : Space, optional
        A fitted IsoCLIP: adds the methods that use it.

    Returns
    -------
    dict
        Method → shots → one accuracy a draw, in [0, 1]. Weights come from the shots alone (leave-one-out).
    """
    result: Accuracies = {}
    methods = _methods(text is not None, space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IsomixWarning)  # one shot has no scatter, and says so 130 times
        for support, queries in episodes:
            for k in shots:
                chosen = support[:, :k].ravel()
                for name, (make, moved) in methods.items():
                    Z = E if moved is None else moved.transform(E)
                    given = text if moved is None else None
                    classifier = make().fit(Z[chosen], labels[chosen], text=given)
                    score = float((classifier.predict(Z[queries]) == labels[queries]).mean())
                    result.setdefault(name, {}).setdefault(k, []).append(score)
    return result


def _methods(has_text: bool, space: Space | None) -> Mapping[str, tuple[Callable[[], Any], Space | None]]:
    """Name → how a classifier is made, and the space that its input is moved to."""
    if not has_text:
        return {"nearest-class-mean": (NearestClassMean, None)}
    methods: dict[str, tuple[Callable[[], Any], Space | None]] = {
        name: (classifier, None) for name, classifier in CLASSIFIERS.items()
    }
    methods["project-and-mix, pictures alone"] = (lambda: ProjectAndMix(mixing_weight=1.0), None)
    methods["project-and-mix, no alignment"] = (_Unaligned, None)
    if space is not None:
        methods["project-and-mix, IsoCLIP"] = (lambda: ProjectAndMix(space=space), None)
        methods["nearest-class-mean, IsoCLIP"] = (NearestClassMean, space)
    return methods


class _Unaligned(ProjectAndMix):
    """Project and Mix with prototypes that are not projected on the directions of the texts."""

    _projects = False


def mean_and_halfwidth(values: list[float]) -> tuple[float, float]:
    """Mean over draws and half the width of its 95 % interval (Student's t); 0 for a single draw."""
    array = np.asarray(values, np.float64)
    n = len(array)
    return float(array.mean()), float(student.ppf(0.975, n - 1) * array.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0


def effects(found: Accuracies) -> dict[str, dict[int, tuple[float, float]]]:
    """Every effect → shots → mean difference of accuracy on the same draws, and half the width of its interval."""
    return {
        name: {
            k: mean_and_halfwidth((np.array(found[method][k]) - np.array(found[other][k])).tolist())
            for k in found[method]
        }
        for name, (method, other) in EFFECTS.items()
        if method in found and other in found
    }
