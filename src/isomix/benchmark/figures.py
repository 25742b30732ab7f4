"""The figures that a folder of runs has the numbers for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isomix.benchmark.tables import dataset_name
from isomix.plotting.plots import plot_accuracy, plot_bands, plot_latency
from isomix.spaces.bands import Band

__all__ = ["draw"]

Record = dict[str, Any]


def draw(runs: Sequence[Record], folder: str | os.PathLike[str], ending: str = ".svg") -> list[Path]:
    """Draw accuracy over shots, mAP over bands and quality against latency, one figure a data set and model.

    Parameters
    ----------
    runs : sequence of dict
        As :func:`isomix.benchmark.runs.read_runs` gives them.
    folder : path-like
        Made if it is not there.
    ending : {".svg", ".png", ".pdf"}

    Returns
    -------
    list of pathlib.Path
        What was written; empty where no data set has two bands, two numbers of shots, or a timed method.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for run in runs:
        key: tuple[str, ...] = (run["dataset"], run["model"], run["pretrained"], run["task"], str(run.get("tier", "")))
        groups.setdefault(key, []).append(run)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def place(kind: str, key: tuple[str, ...]) -> Path:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join((dataset_name(key[0]), *key[1:], kind))).strip("-")
        written.append(target / f"{name}{ending}")
        return written[-1]

    for key, members in groups.items():
        title = ", ".join(part for part in (dataset_name(key[0]), key[1], key[4] and f"tier {key[4]}") if part)
        if key[3] == "fewshot" and len({run["shots"] for run in members}) > 1:
            plot_accuracy(_over_shots(members), place("shots", key), title=title)
        bands = {Band(*map(int, m.groups())): _map(run) for run in members if (m := _band(run["method"]))}
        if len(bands) > 1:
            plot_bands(bands, place("bands", key), title=title)
        timed = {run["method"]: run for run in members if "latency" in run["details"]}
        if timed:
            points = {name: (run["details"]["latency"]["ratio_to_plain"], _map(run)) for name, run in timed.items()}
            plot_latency(points, place("latency", key), title=title)
    return written


def _band(method: str) -> re.Match[str] | None:
    return re.fullmatch(r"isoclip:(\d+)/(\d+)", method)


def _map(run: Record) -> float:
    return float(run["metrics"]["mean_average_precision"])


def _over_shots(runs: Sequence[Record]) -> dict[str, dict[int, tuple[float, float]]]:
    found: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        found.setdefault(run["method"], {}).setdefault(run["shots"], []).append(run["metrics"]["accuracy"])
    return {
        method: {k: (float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else 0.0) for k, v in by_shots.items()}
        for method, by_shots in found.items()
    }
