"""Classifiers as files: constructor arguments, labels, moments, texts and chosen weights; prediction is derived from them again.

A space inside a classifier goes into the same file, its tensors under ``space.``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._documents import Document, expect_tensors, load, write_document
from isomix.errors import InputError
from isomix.fewshot.base import CLASSIFIERS, FewShotClassifier
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.pool_trust import Pool
from isomix.fewshot.stored import check_prediction, check_stored, moment_problems, read_labels
from isomix.fewshot.support import Shots
from isomix.fewshot.terms import Linear
from isomix.fewshot.texts import ClassTexts
from isomix.fewshot.weights import SOURCES
from isomix.spaces.base import SPACES, Space

__all__ = ["load_classifier", "save_classifier"]

SPACE_PREFIX = "space."
PROBES = 64
KEPT = ("support_", "support_classes_", "support_weights_")
# What earlier versions wrote.
OLD_SOURCES = {"none": "leave-one-out", "few": "few-validation", "full": "validation", "rule": "prior"}
OLD_NAMES = {"alpha_": "ensemble_weight_"}
MISSING = {"untrusted_texts_": 0}


def save_classifier(classifier: FewShotClassifier, path: str | os.PathLike[str], source: Mapping[str, Any]) -> None:
    """Write a fitted classifier; see :meth:`FewShotClassifier.save`."""
    space = classifier.space
    if space is not None and not isinstance(space, Space):
        raise InputError(f"space: a {type(space).__name__} cannot be saved; only spaces of isomix can.")
    labels = classifier.classes_
    if labels.dtype.kind not in "iubU" and not all(isinstance(label, str) for label in labels.tolist()):
        raise InputError(f"labels of dtype {labels.dtype} cannot be saved; use strings or integers.")
    shots, moments = classifier._shots, classifier.moments_
    # JSON has no infinity: a text worth any number of shots (mixing weight 0) is written as null.
    learned = {f"{name}_": None if value == float("inf") else value for name, value in classifier._values.items()}
    parameters = {
        "arguments": {name: value for name, value in classifier.get_params(deep=False).items() if name != "space"},
        "labels": labels.tolist(),
        "label_dtype": "object" if labels.dtype == object else labels.dtype.str,
        "learned": learned,
        "weight_tier": classifier.weight_tier_,
        "temperature": classifier.temperature_,
        "logit_scale": getattr(classifier, "logit_scale_", None),
    }
    tensors: dict[str, NDArray[Any]] = {
        "counts": moments.counts,
        "means": moments.means,
        "scatter": moments.scatter,
        "text": classifier.text_,
        "has_text": classifier.has_text_,
    }
    if classifier.keeps_shots:
        tensors |= dict(zip(KEPT, shots.kept(), strict=True))
    if np.isfinite(moments.fourth):
        tensors["fourth"] = np.array([moments.fourth])
    if any(len(prompts) > 1 for prompts in classifier.prompts_):
        tensors["prompts"] = np.concatenate(classifier.prompts_)
        tensors["prompt_counts"] = np.array([len(prompts) for prompts in classifier.prompts_])
    pool = classifier.pool_
    if pool is not None and pool.term is not None:
        parameters["pool"] = {name: value for name, value in pool._asdict().items() if name != "term"}
        tensors |= {"pool_coef": pool.term.coef, "pool_intercept": pool.term.intercept}
    inside = shots.in_space
    if space is not None and inside is not None:
        parameters["space"] = {
            "method": space.method,
            "parameters": space._parameters(),
            "source": space._source(),
            "fourth": inside.fourth if np.isfinite(inside.fourth) else None,
        }
        stored = {**space._tensors(), "moment_means": inside.means, "moment_scatter": inside.scatter}
        tensors |= {SPACE_PREFIX + name: tensor for name, tensor in stored.items()}
    write_document(path, Document("classifier", classifier.method, parameters, tensors, dict(source)))


def load_classifier(path: str | os.PathLike[str]) -> FewShotClassifier:
    """Read a classifier written by ``save``; it predicts, and takes more shots, like the one that was saved.

    Raises
    ------
    FileFormatError
        Not such a file, of an unknown version or method, or with contents that no classifier has: labels that repeat, a
        temperature of 0, weights below 0, shots beside the counts, and whatever would give probabilities that are not finite.
        The message lists every problem.
    """
    return load(path, "classifier", dict.fromkeys(CLASSIFIERS, _rebuild))


def _rebuild(document: Document, path: str | os.PathLike[str]) -> FewShotClassifier:
    with np.errstate(all="ignore"):  # what comes of it is checked
        return _rebuild_checked(document, path)


def _rebuild_checked(document: Document, path: str | os.PathLike[str]) -> FewShotClassifier:
    shapes: dict[str, tuple[int | str, ...]] = {
        "counts": ("C",), "means": ("C", "d"), "scatter": ("d", "d"), "text": ("C", "d"), "has_text": ("C",)
    }  # fmt: skip
    if "prompts" in document.tensors:
        shapes |= {"prompts": ("prompts", "d"), "prompt_counts": ("C",)}
    if "fourth" in document.tensors:
        shapes |= {"fourth": (1,)}
    if "pool" in document.parameters:
        shapes |= {"pool_coef": ("C", "d"), "pool_intercept": ("C",)}
    sizes = expect_tensors(document, path, shapes)
    parameters, tensors = document.parameters, document.tensors
    kind = CLASSIFIERS[document.method]
    check_stored(document, path, (*SOURCES, *OLD_SOURCES), KEPT if kind.keeps_shots else ())
    classifier = kind(**parameters["arguments"])
    classifier._set_logit_scale(parameters.get("logit_scale"))
    classes = read_labels(parameters)
    classifier.n_features_in_ = sizes["d"]
    fourth = float(tensors["fourth"][0]) if "fourth" in tensors else float("nan")
    shots = Shots(ClassMoments(tensors["counts"], tensors["means"], tensors["scatter"], fourth))
    if classifier.keeps_shots:
        X, y, weights = (tensors[name] for name in KEPT)
        shots = replace(shots, X=X, y=y, weights=weights)
    if "space" in parameters:
        classifier.space, inside = _rebuild_space(document, path)
        shots = replace(shots, in_space=inside)
    classifier._set_support(classes, _texts_of(tensors), shots)
    learned = parameters["learned"]
    classifier.weight_tier_ = OLD_SOURCES.get(parameters["weight_tier"], parameters["weight_tier"])
    classifier.temperature_ = float(parameters["temperature"])
    classifier.source_ = document.source
    if "pool" in parameters:
        classifier.pool_ = Pool(**parameters["pool"], term=Linear(tensors["pool_coef"], tensors["pool_intercept"]))
    classifier._use(classifier._sum.now({p.name: _value(learned, p.name) for p in classifier._sum.parameters()}))
    rows = np.concatenate([classifier.means_, classifier.text_])
    rows = rows[np.abs(rows).max(axis=1) > 0][:PROBES].astype(np.float32)
    coef, intercept = classifier._predictor.coef, classifier._predictor.intercept
    check_prediction(coef, intercept, classifier.logits(rows)[:, classifier._live], path)
    return classifier


def _texts_of(tensors: Mapping[str, NDArray[Any]]) -> ClassTexts:
    text, known = tensors["text"], tensors["has_text"].astype(bool)
    if "prompts" in tensors:
        return ClassTexts(text, known, np.split(tensors["prompts"], np.cumsum(tensors["prompt_counts"])[:-1]))
    return ClassTexts(text, known, [row[None] if has else row[None][:0] for row, has in zip(text, known, strict=True)])


def _value(learned: Mapping[str, Any], name: str) -> Any:
    key = f"{name}_"
    value = (MISSING | dict(learned))[key if key in learned else OLD_NAMES.get(key, key)]
    return float("inf") if value is None else value


def _rebuild_space(document: Document, path: str | os.PathLike[str]) -> tuple[Space, ClassMoments]:
    stored = document.parameters["space"]
    tensors = {
        name.removeprefix(SPACE_PREFIX): tensor
        for name, tensor in document.tensors.items()
        if name.startswith(SPACE_PREFIX)
    }
    means, scatter = tensors.pop("moment_means"), tensors.pop("moment_scatter")
    inside = Document("space", stored["method"], stored["parameters"], tensors, stored["source"])
    space = SPACES[inside.method]._from_document(inside, path)
    problems = list(moment_problems(document.tensors["counts"], means, scatter, "in the space: "))
    if problems:
        raise ValueError("; ".join(problems))
    counts, k = document.tensors["counts"], space.n_components_
    if means.shape != (len(counts), k) or scatter.shape != (k, k):
        raise ValueError(f"moments of shapes {means.shape} and {scatter.shape} in a space of width {k}")
    if space.n_features_in_ != document.tensors["means"].shape[1]:
        raise ValueError(f"a space of embeddings of width {space.n_features_in_}")
    fourth = float("nan") if stored["fourth"] is None else float(stored["fourth"])
    return space, ClassMoments(counts, means, scatter, fourth)
