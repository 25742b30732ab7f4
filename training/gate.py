"""The gate: a new model replaces the old one when all its runs beat it, and raw pixels, in every cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.tables import table
from training.tasks import PERHAPS_SEEN

__all__ = ["Cell", "cells", "failures", "gate"]

Run = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One figure of the gate, in per cent: every run has to beat the baseline, and raw pixels where they have the figure.

    ``perhaps_seen``: the first weights were probably trained on these pictures, so their figure is too high.
    """

    name: str
    perhaps_seen: bool
    runs: tuple[float, ...]
    baseline: float
    raw: float | None

    @property
    def passed(self) -> bool:
        """Whether the worst run is ahead of both."""
        return min(self.runs) > max(self.baseline, -np.inf if self.raw is None else self.raw)


def cells(runs: Sequence[Run], baseline: Run) -> list[Cell]:
    """Every figure that the gate looks at, for both pairs of projectors."""
    figures, controls = [_figures(run) for run in runs], _figures(baseline, raw=True)
    return [
        Cell(", ".join(key), key[1] in PERHAPS_SEEN, tuple(found[key] for found in figures), value, controls.get(key))
        for key, value in _figures(baseline).items()
    ]


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
    """PASS or FAIL, apart for cells where the baseline is fair and where it is not, then the cells that fail."""
    lines = []
    for seen, where in ((False, "have not seen the pictures"), (True, "were probably trained on them")):
        group = [cell for cell in judged if cell.perhaps_seen == seen]
        failed = failures(group)
        verdict = "FAIL" if failed else "PASS"
        lines.append(
            f"**{verdict}** where the first weights {where}: {len(group) - len(failed)} of {len(group)} cells."
        )
        lines.append("")
    rows = []
    for cell in failures(judged):
        runs = " / ".join(f"{value:.1f}" for value in cell.runs)
        raw = "" if cell.raw is None else f"{cell.raw:.1f}"
        rows.append([cell.name, runs, f"{cell.baseline:.1f}", raw, "perhaps" if cell.perhaps_seen else "no"])
    if rows:
        lines.append(
            table(["cell that fails", "runs", "first weights", "raw pixels", "seen by the first weights"], rows)
        )
    return "\n".join(lines)
