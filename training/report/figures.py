"""Figures of an evaluation: spectra, mean average precision over bands, and few-shot curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from isomix.plotting.plots import GREY, SERIES, new_figure, plot_accuracy, plot_bands, save_figure
from isomix.spaces.bands import Band
from training.report.episodes import mean_and_halfwidth

__all__ = ["draw_figures"]

DRAWN = (
    "zero-shot",
    "nearest-class-mean",
    "mixed-prototypes",
    "text-aligned-prototypes",
    "lda",
    "tip-adapter",
    "project-and-mix",
)


def draw_figures(run: dict[str, Any], folder: Path, ending: str = ".svg") -> list[Path]:
    """Draw one evaluation; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"embedded-spectrum{ending}"]
    _spectra(run, written[0])
    for pair, found in run["pairs"].items():
        for side, tasks in (("image", found["images"]), ("text", found["texts"])):
            if tasks:
                written.append(folder / f"embedded-bands-{side}-{pair}{ending}")
                title = f"{side}-{side} retrieval, mean of {len(tasks)} tasks, {pair} projectors"
                plot_bands(_mean_grid(tasks), written[-1], title=title)
    pair, found = next(iter(run["pairs"].items()))
    for part, figures in found["few_shot"].items():
        chosen = {method: figures["accuracy"][method] for method in DRAWN}
        chosen["raw pixels, nearest class mean"] = run["raw"]["few_shot"][part]
        curves = {
            method: {int(k): mean_and_halfwidth(values) for k, values in by_shots.items()}
            for method, by_shots in chosen.items()
        }
        written.append(folder / f"embedded-few-shot-{part.replace(' ', '-')}{ending}")
        title = f"{part}: {figures['n_classes']} classes, {pair} projectors"
        plot_accuracy(curves, written[-1], title=title, constant=("zero-shot",))
    return written


def _spectra(run: dict[str, Any], path: Path) -> None:
    figure, axes = new_figure("Singular values of the operator between the modalities")
    for number, (pair, found) in enumerate(run["pairs"].items()):
        values = np.array(found["spectrum"]["values"])
        axes.plot(np.arange(1, len(values) + 1), values / np.median(values), color=SERIES[number], lw=2, label=pair)
    control = np.array(next(iter(run["pairs"].values()))["spectrum"]["random"])
    axes.plot(
        np.arange(1, len(control) + 1), control / np.median(control), color=GREY, ls="--", label="random projectors"
    )
    axes.set(yscale="log", xlabel="singular direction", ylabel="singular value / median")
    axes.legend(frameon=False)
    save_figure(figure, path)


def _mean_grid(tasks: dict[str, Any]) -> dict[Band, float]:
    grids = [{Band(top, bottom): value for top, bottom, value in entry["grid"]} for entry in tasks.values()]
    return {band: float(np.mean([grid[band] for grid in grids])) for band in grids[0]}
