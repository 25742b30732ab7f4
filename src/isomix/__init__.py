"""Better image-to-image search and few-shot classification from the CLIP model you already have. No training.

The names below and the subpackages are imported on first use, so that ``import isomix`` costs nothing and needs only
the base install.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "isomix.encoders": ("Embeddings", "Encoder", "load_encoder"),
    "isomix.errors": ("IsomixError", "IsomixWarning"),
    "isomix.metrics": ("retrieval_metrics",),
    "isomix.fewshot": (
        "LDA",
        "MixedPrototypes",
        "NearestClassMean",
        "ProjectAndMix",
        "TextAlignedPrototypes",
        "ZeroShot",
        "load_classifier",
    ),
    "isomix.neighbors": ("Smoothing", "search"),
    "isomix.plotting": ("show",),
    "isomix.spaces": ("IsoCLIP", "NestedTextPCA", "Projectors", "TextPCA", "load_space"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
_SUBPACKAGES = (
    "benchmark",
    "cluster",
    "demo",
    "encoders",
    "errors",
    "exports",
    "fewshot",
    "inversion",
    "metrics",
    "neighbors",
    "plotting",
    "projectors",
    "spaces",
    "store",
)

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"isomix.{name}")
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module 'isomix' has no attribute {name!r}") from None
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return [*__all__, *_SUBPACKAGES]


if TYPE_CHECKING:  # the same names, for type checkers and editors
    # ruff: noqa: F401
    from isomix import (
        benchmark,
        cluster,
        demo,
        encoders,
        errors,
        exports,
        fewshot,
        inversion,
        metrics,
        neighbors,
        plotting,
        projectors,
        spaces,
        store,
    )
    from isomix.encoders import Embeddings, Encoder, load_encoder
    from isomix.errors import IsomixError, IsomixWarning
    from isomix.fewshot import (
        LDA,
        MixedPrototypes,
        NearestClassMean,
        ProjectAndMix,
        TextAlignedPrototypes,
        ZeroShot,
        load_classifier,
    )
    from isomix.metrics import retrieval_metrics
    from isomix.neighbors import Smoothing, search
    from isomix.plotting import show
    from isomix.spaces import IsoCLIP, NestedTextPCA, Projectors, TextPCA, load_space
