"""Tables of evaluations in Markdown; figures in per cent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.report.episodes import mean_and_halfwidth

__all__ = ["table", "tables"]

Run = dict[str, Any]


def tables(runs: Sequence[Run], baseline: Run) -> dict[str, str]:
    """Markdown tables by the name of their place in ``docs/embedded-model.md``."""
    return {
        "images": _images(runs, baseline),
        "isoclip": _differences([baseline, *runs]),
        "texts": _texts([baseline, *runs]),
        "text-to-image": _text_to_image(runs, baseline),
        "few-shot": _few_shot(runs, baseline),
        "effects": _effects(runs, baseline),
        "spectrum": _spectra([baseline, *runs]),
        "speed": _speed([baseline, *runs]),
    }


def _line(cells_: Sequence[str]) -> str:
    return "| " + " | ".join(cells_) + " |"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join([_line(header), _line(["---"] * len(header)), *map(_line, rows)])


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and, from two runs on, the standard deviation between them; values in [0, 1], shown in per cent."""
    array = 100 * np.array(values, np.float64)
    shown = f"{array.mean():.{digits}f}"
    return f"{shown} ± {array.std(ddof=1):.{digits}f}" if len(array) > 1 else shown


def _band(band: Sequence[int]) -> str:
    return f"{band[0]}/{band[1]}"


def _difference(entry: dict[str, Any]) -> str:
    low, high = entry["interval"]
    return f"{100 * entry['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _images(runs: Sequence[Run], baseline: Run) -> str:
    columns = ("plain", "isoclip", "oracle", "text-pca", "features")
    header = ["projectors, task", "queries / gallery", "raw pixels"]
    header += ["first weights: plain", "IsoCLIP", "best band (oracle)", "Text PCA", "pre-projection"]
    header += ["new: plain", "IsoCLIP", "best band (oracle)", "Text PCA", "pre-projection"] if runs else []
    rows = []
    for pair, found in baseline["pairs"].items():
        for task, figures in found["images"].items():
            row = [f"{pair}, {task}", f"{figures['n_queries']} / {figures['n_gallery']}"]
            row.append(_spread([baseline["raw"]["images"][task]["mean"]]))
            for group in ([baseline], runs) if runs else ([baseline],):
                each = [run["pairs"][pair]["images"][task]["map"] for run in group]
                row += [_spread([maps[column]["mean"] for maps in each]) for column in columns]
            rows.append(row)
    return table(header, rows)


def _differences(all_runs: Sequence[Run]) -> str:
    rows = []
    for pair, found in all_runs[0]["pairs"].items():
        bands = [run["pairs"][pair]["band"] for run in all_runs]
        rows.append([f"**{pair}**: band", *(f"{_band(b['band'])} (best {_band(b['best'])})" for b in bands)])
        for task in found["images"]:
            each = [run["pairs"][pair]["images"][task] for run in all_runs]
            rows.append([task, *(_difference(entry["differences"]["isoclip"]) for entry in each)])
    return table(["IsoCLIP minus plain, mAP points", *(run["name"] for run in all_runs)], rows)


def _texts(all_runs: Sequence[Run]) -> str:
    rows = []
    for pair, found in all_runs[0]["pairs"].items():
        for task in found["texts"]:
            row = [f"{pair}, {task}"]
            for run in all_runs:
                entry = run["pairs"][pair]["texts"][task]
                band, best = run["pairs"][pair]["text_band"]["band"], entry["best_band"]
                maps = entry["map"]
                row.append(f"{_spread([maps['plain']['mean']])} → {_spread([maps['isoclip']['mean']])} ({_band(band)})")
                row.append(
                    f"{_difference(entry['differences']['isoclip'])}, oracle {_spread([maps['oracle']['mean']])} ({_band(best)})"
                )
            rows.append(row)
    header = [part for run in all_runs for part in (f"{run['name']}: plain → IsoCLIP", "difference")]
    return table(["projectors, task", *header], rows)


def _text_to_image(runs: Sequence[Run], baseline: Run) -> str:
    header = ["projectors, task", "captions / pictures", "chance@1", "first weights @1 / @5 / @10"]
    header += ["new @1 / @5 / @10"] if runs else []
    rows = []
    for pair, found in baseline["pairs"].items():
        for task, figures in found["text_to_image"].items():
            row = [
                f"{pair}, {task}",
                f"{figures['n_queries']} / {figures['n_pictures']}",
                _spread([figures["chance_at_1"]], 2),
            ]
            for group in ([baseline], runs) if runs else ([baseline],):
                each = [run["pairs"][pair]["text_to_image"][task] for run in group]
                row.append(" / ".join(_spread([entry[f"recall_at_{k}"] for entry in each]) for k in (1, 5, 10)))
            rows.append(row)
    return table(header, rows)


def _few_shot(runs: Sequence[Run], baseline: Run) -> str:
    """Accuracy in per cent: mean over draws and runs; with runs, the first weights in brackets."""
    pair = next(iter(baseline["pairs"]))
    blocks = []
    for part, figures in baseline["pairs"][pair]["few_shot"].items():
        shots = list(baseline["raw"]["few_shot"][part])
        rows = [["raw pixels, nearest class mean", *(_drawn(baseline["raw"]["few_shot"][part][k]) for k in shots)]]
        for method in figures["accuracy"]:
            row = [method]
            for k in shots:
                first = figures["accuracy"][method][k]
                each = [np.mean(run["pairs"][pair]["few_shot"][part]["accuracy"][method][k]) for run in runs]
                row.append(f"{_spread(each)} ({100 * np.mean(first):.1f})" if runs else _drawn(first))
            rows.append(row)
        header = [f"{part}, {figures['n_classes']} classes ({pair})", *(f"{k} shots" for k in shots)]
        blocks.append(table(header, rows))
    return "\n\n".join(blocks)


def _drawn(accuracies: Sequence[float]) -> str:
    mean, half = mean_and_halfwidth(list(accuracies))
    return f"{100 * mean:.1f} ± {100 * half:.1f}"


def _effects(runs: Sequence[Run], baseline: Run) -> str:
    """Of the first weights, with their interval over draws; of the runs, their mean and the spread between them."""
    pair, found = next(iter(baseline["pairs"].items()))
    blocks = []
    for part, figures in found["few_shot"].items():
        shots = list(next(iter(figures["accuracy"].values())))
        rows = []
        for effect, first in figures["effects"].items():
            rows.append([effect, "first", *(f"{100 * first[k][0]:+.1f} ± {100 * first[k][1]:.1f}" for k in shots)])
            each = [run["pairs"][pair]["few_shot"][part]["effects"][effect] for run in runs]
            if runs:
                rows.append(["", "new", *(_signed([entry[k][0] for entry in each]) for k in shots)])
        blocks.append(table([f"{part} ({pair})", "weights", *(f"{k} shots" for k in shots)], rows))
    return "\n\n".join(blocks)


def _signed(values: Sequence[float]) -> str:
    return f"+{_spread(values)}" if np.mean(values) >= 0 else _spread(values)


def _spectra(all_runs: Sequence[Run]) -> str:
    rows = []
    for pair in all_runs[0]["pairs"]:
        for run in all_runs:
            entry = run["pairs"][pair]["spectrum"]
            figures = (entry["top_over_median"], entry["random_top_over_median"], entry["effective_rank"])
            rows.append([pair, run["name"], *(f"{figure:.1f}" for figure in figures[:2]), f"{figures[2]:.0f}"])
    header = ["projectors", "weights", "top / median", "random projectors", "effective rank"]
    return table(header, rows)


def _speed(all_runs: Sequence[Run]) -> str:
    rows = []
    for run in all_runs:
        speed = run["speed"]
        each = [speed[f"pictures_per_second_{cores}"] for cores in ("one_core", "two_cores")]
        figures = [f"{speed['ms_one_picture_one_core']:.1f}", *(f"{value:.0f}" for value in each)]
        rows.append([run["name"], *figures, f"{speed['bytes'] / 1e6:.1f}"])
    return table(["weights", "ms, one picture, one core", "pictures/s, one core", "two cores", "MB on disk"], rows)
