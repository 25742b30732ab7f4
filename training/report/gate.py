"""The gate: a new model replaces the old one when all its runs beat it, and raw pixels, in every cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.report.tables import table
from training.report.tasks import PERHAPS_SEEN, TRANSFER

__all__ = ["Cell", "cells", "failing", "failures", "gate"]

Run = dict[str, Any]
GROUPS = {
    "drawings": "drawings that the first weights have not seen",
    "perhaps seen": "drawings that the first weights were probably trained on",
    "transfer": "stamps, many of them photographs, which the gate does not ask for",
}


@dataclass(frozen=True)
class Cell:
    """One figure of the gate, in per cent: every run has to beat the baseline, and raw pixels where they have the figure.

    ``group`` is a key of ``GROUPS``: where the first weights were probably trained on the pictures, their figure is too high.
    """

    name: str
    group: str
    runs: tuple[float, ...]
    baseline: float
    raw: float | None

    @property
    def measure(self) -> str:
        """Pair of projectors and what was measured, without task and number."""
        pair, *_, last = self.name.split(", ")
        return f"{pair}, {last.split('@')[0]}"

    @property
    def passed(self) -> bool:
        """Whether the worst run is ahead of both."""
        return min(self.runs) > max(self.baseline, -np.inf if self.raw is None else self.raw)


def cells(runs: Sequence[Run], baseline: Run) -> list[Cell]:
    """Every figure that the gate looks at, for both pairs of projectors."""
    figures, controls = [_figures(run) for run in runs], _figures(baseline, raw=True)
    return [
        Cell(", ".join(key), _group(key[1]), tuple(found[key] for found in figures), value, controls.get(key))
        for key, value in _figures(baseline).items()
    ]


def _group(task: str) -> str:
    return "transfer" if task in TRANSFER else "perhaps seen" if task in PERHAPS_SEEN else "drawings"


def _figures(run: Run, raw: bool = False) -> dict[tuple[str, ...], float]:
    """Pair, task and what was measured → its figure in per cent; with ``raw`` that of raw pixels, which have no text."""
    result: dict[tuple[str, ...], float] = {}
    for pair, found in run["pairs"].items():
        for task, entry in found["images"].items():
            for method in ("plain", "isoclip"):
                mean = (run["raw"]["images"][task] if raw else entry["map"][method])["mean"]
                result[pair, task, method, "mAP"] = mean
        for part, entry in found["few_shot"].items():
            for method, by_shots in entry["accuracy"].items():
                if method == "zero-shot":  # no shots: one cell, and nothing that raw pixels could do
                    if not raw:
                        result[pair, part, "zero-shot", "accuracy"] = float(np.mean(next(iter(by_shots.values()))))
                    continue
                for shots, drawn in by_shots.items():
                    chosen = run["raw"]["few_shot"][part][shots] if raw else drawn
                    result[pair, part, method, f"shots {shots}", "accuracy"] = float(np.mean(chosen))
        for task, entry in found["text_to_image"].items() if not raw else ():
            for k in (1, 5, 10):
                result[pair, task, "text to image", f"recall@{k}"] = entry[f"recall_at_{k}"]
    return {name: 100 * value for name, value in result.items()}


def failures(judged: Sequence[Cell]) -> list[Cell]:
    """Cells in which some run does not beat both."""
    return [cell for cell in judged if not cell.passed]


def gate(judged: Sequence[Cell]) -> str:
    """PASS or FAIL for each group of cells, and how many passed by measure."""
    lines, rows = [], []
    for name, what in GROUPS.items():
        group = [cell for cell in judged if cell.group == name]
        passed = [cell for cell in group if cell.passed]
        verdict = "PASS" if len(passed) == len(group) else "FAIL"
        lines += [f"**{verdict}** on {what}: {len(passed)} of {len(group)} cells.", ""]
        for measure in dict.fromkeys(cell.measure for cell in group):
            counts = [sum(cell.measure == measure for cell in part) for part in (passed, group)]
            rows.append([measure, name, f"{counts[0]} of {counts[1]}"])
    return "\n".join([*lines, table(["cells", "pictures", "passed"], rows)])


def failing(judged: Sequence[Cell]) -> str:
    """The cells in which some run does not beat both, with their figures."""
    rows = []
    for cell in failures(judged):
        figures = " / ".join(f"{value:.1f}" for value in cell.runs)
        raw = "" if cell.raw is None else f"{cell.raw:.1f}"
        rows.append([cell.name, figures, f"{cell.baseline:.1f}", raw, cell.group])
    return table(["cell that fails", "runs", "first weights", "raw pixels", "pictures"], rows)
