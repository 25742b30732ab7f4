"""Classifiers as files: constructor arguments, labels, moments, texts and chosen weights; prediction is derived from them again.

A space inside a classifier goes into the same file, its tensors under ``space.``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._documents import Document, expect_tensors, load, write_document
from isomix.errors import InputError
from isomix.fewshot.base import CLASSIFIERS, FewShotClassifier
from isomix.fewshot.moments import ClassMoments
from isomix.spaces.base import SPACES, Space

__all__ = ["load_classifier", "save_classifier"]

SPACE_PREFIX = "space."


def save_classifier(classifier: FewShotClassifier, path: str | os.PathLike[str], source: Mapping[str, Any]) -> None:
    """Write a fitted classifier; see :meth:`FewShotClassifier.save`."""
    space = getattr(classifier, "space", None)
    if space is not None and not isinstance(space, Space):
        raise InputError(f"space: a {type(space).__name__} cannot be saved; only spaces of isomix can.")
    labels = classifier.classes_
    if labels.dtype.kind not in "iubU" and not all(isinstance(label, str) for label in labels.tolist()):
        raise InputError(f"labels of dtype {labels.dtype} cannot be saved; use strings or integers.")
    moments = classifier.moments_
    learned: dict[str, Any] = {name: getattr(classifier, name) for name in classifier._state}
    scalars = {
        name: (value.item() if isinstance(value, np.generic) else value)
        for name, value in learned.items()
        if not isinstance(value, np.ndarray)
    }
    # JSON has no infinity: a text worth any number of shots (mixing weight 0) is written as null.
    scalars = {name: None if value == float("inf") else value for name, value in scalars.items()}
    parameters = {
        "arguments": {name: value for name, value in classifier.get_params(deep=False).items() if name != "space"},
        "labels": labels.tolist(),
        "label_dtype": "object" if labels.dtype == object else labels.dtype.str,
        "learned": scalars,
        "weight_tier": classifier.weight_tier_,
        "temperature": classifier.temperature_,
    }
    tensors: dict[str, NDArray[Any]] = {
        "counts": moments.counts,
        "means": moments.means,
        "scatter": moments.scatter,
        "text": classifier.text_,
        "has_text": classifier.has_text_,
        **{name: value for name, value in learned.items() if isinstance(value, np.ndarray)},
    }
    if np.isfinite(moments.fourth):
        tensors["fourth"] = np.array([moments.fourth])
    if any(len(prompts) > 1 for prompts in classifier.prompts_):
        tensors["prompts"] = np.concatenate(classifier.prompts_)
        tensors["prompt_counts"] = np.array([len(prompts) for prompts in classifier.prompts_])
    if space is not None:
        inside: ClassMoments = classifier.space_moments_
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
        Not such a file, of an unknown version or method, or with inconsistent contents.
    """
    return load(path, "classifier", dict.fromkeys(CLASSIFIERS, _rebuild))


def _rebuild(document: Document, path: str | os.PathLike[str]) -> FewShotClassifier:
    shapes: dict[str, tuple[int | str, ...]] = {
        "counts": ("C",), "means": ("C", "d"), "scatter": ("d", "d"), "text": ("C", "d"), "has_text": ("C",)
    }  # fmt: skip
    if "prompts" in document.tensors:
        shapes |= {"prompts": ("prompts", "d"), "prompt_counts": ("C",)}
    sizes = expect_tensors(document, path, shapes)
    parameters, tensors = document.parameters, document.tensors
    classifier = CLASSIFIERS[document.method](**parameters["arguments"])
    if "space" in parameters:
        _rebuild_space(classifier, document, path)
    classifier._check_parameters()
    labels = parameters["labels"]
    if len(labels) != sizes["C"] or len(labels) < 2:
        raise ValueError(f"{len(labels)} labels for {sizes['C']} classes")
    classifier.classes_ = np.array(labels, dtype=np.dtype(parameters["label_dtype"]))
    classifier.n_features_in_ = sizes["d"]
    classifier.text_, classifier.has_text_ = tensors["text"], tensors["has_text"].astype(bool)
    if "prompts" in tensors:
        ends = np.cumsum(tensors["prompt_counts"])
        classifier.prompts_ = np.split(tensors["prompts"], ends[:-1])
    else:
        classifier.prompts_ = [
            row[None] if has else row[None][:0] for row, has in zip(classifier.text_, classifier.has_text_, strict=True)
        ]
    for name in classifier._state:
        value = tensors[name] if name in tensors else parameters["learned"][name]
        setattr(classifier, name, float("inf") if value is None else value)
    fourth = float(tensors["fourth"][0]) if "fourth" in tensors else float("nan")
    classifier._set_moments(ClassMoments(tensors["counts"], tensors["means"], tensors["scatter"], fourth))
    classifier.weight_tier_, classifier.temperature_ = str(parameters["weight_tier"]), float(parameters["temperature"])
    classifier.source_ = document.source
    classifier._compile()
    return classifier


def _rebuild_space(classifier: Any, document: Document, path: str | os.PathLike[str]) -> None:
    stored = document.parameters["space"]
    tensors = {
        name.removeprefix(SPACE_PREFIX): tensor
        for name, tensor in document.tensors.items()
        if name.startswith(SPACE_PREFIX)
    }
    means, scatter = tensors.pop("moment_means"), tensors.pop("moment_scatter")
    inside = Document("space", stored["method"], stored["parameters"], tensors, stored["source"])
    space = SPACES[inside.method]._from_document(inside, path)
    counts, k = document.tensors["counts"], space.n_components_
    if means.shape != (len(counts), k) or scatter.shape != (k, k):
        raise ValueError(f"moments of shapes {means.shape} and {scatter.shape} in a space of width {k}")
    if space.n_features_in_ != document.tensors["means"].shape[1]:
        raise ValueError(f"a space of embeddings of width {space.n_features_in_}")
    classifier.space = space
    fourth = float("nan") if stored["fourth"] is None else float(stored["fourth"])
    classifier.space_moments_ = ClassMoments(counts, means, scatter, fourth)
