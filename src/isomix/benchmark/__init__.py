"""The harness of ``isomix eval``: data sets, protocols, methods, runs and their tables."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isomix.benchmark.datasets import DATASETS, open_dataset
    from isomix.benchmark.figures import draw
    from isomix.benchmark.harness import Harness, Result
    from isomix.benchmark.methods import METHODS
    from isomix.benchmark.rendering import render
    from isomix.benchmark.runs import RunFolder, read_runs
    from isomix.benchmark.tables import lay_out

# Imported on first use: reading runs or listing data sets needs no model and no classifier.
_MODULE_OF = {
    "DATASETS": "datasets",
    "METHODS": "methods",
    "Harness": "harness",
    "Result": "harness",
    "RunFolder": "runs",
    "draw": "figures",
    "lay_out": "tables",
    "open_dataset": "datasets",
    "read_runs": "runs",
    "render": "rendering",
}

__all__ = [
    "DATASETS",
    "METHODS",
    "Harness",
    "Result",
    "RunFolder",
    "draw",
    "lay_out",
    "open_dataset",
    "read_runs",
    "render",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
