"""Pictures of what was found: plots of spectra, bands and tables, and contact sheets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isomix.plotting.notebook import Shown, show
    from isomix.plotting.plots import plot_accuracy, plot_bands, plot_latency, plot_spectrum
    from isomix.plotting.sheets import Row, Tile, contact_sheet

_PLOTS = ("plot_accuracy", "plot_bands", "plot_latency", "plot_spectrum")

__all__ = [
    "Row",
    "Shown",
    "Tile",
    "contact_sheet",
    "plot_accuracy",
    "plot_bands",
    "plot_latency",
    "plot_spectrum",
    "show",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "plots" if name in _PLOTS else "notebook" if name in ("Shown", "show") else "sheets"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
