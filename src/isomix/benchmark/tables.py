"""Tables of runs, with published figures beside them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from isomix.benchmark.datasets import DATASETS
from isomix.benchmark.methods import METHODS, uses_gallery
from isomix.benchmark.protocols import uses_pool
from isomix.benchmark.reference import reference, reference_mean, sources
from isomix.benchmark.rendering import Row, Table
from isomix.benchmark.runs import HEADLINE
from isomix.errors import InputError, IsomixWarning

__all__ = ["dataset_name", "lay_out"]

TITLES = {
    "image_retrieval": "Image-to-image retrieval",
    "text_retrieval": "Text-to-text retrieval",
    "ncm": "Nearest class mean",
    "fewshot": "Few-shot classification",
    "zeroshot": "Zero-shot classification",
}
TIER_NOTES = {
    "leave-one-out": "weights from the shots alone",
    "few-validation": "weights from min(K, 4) validation pictures a class",
    "validation": "weights from the whole validation split",
}
ORDER = (
    *METHODS,
    *("zero-shot", "nearest-class-mean", "mixed-prototypes", "text-aligned-prototypes", "lda", "tip-adapter", "ape"),
    *("gda", "proker", "proto-clip", "project-and-mix"),
)
Record = dict[str, Any]


def lay_out(runs: Sequence[Record], *, against: str | None = None) -> list[Table]:
    """Lay runs out: a table for every task and backbone, and for few-shot runs for every data set and tier.

    Parameters
    ----------
    runs : sequence of dict
        As :func:`isomix.benchmark.runs.read_runs` gives them.
    against : {"paper"}, optional
        Put published figures and the difference below ours, where there are any.

    Raises
    ------
    InputError
        Two runs that would stand in one cell: of other settings under the same names.

    Warns
    -----
    IsomixWarning
        Runs on data that have changed since; they are left out.
    """
    if against not in (None, "paper"):
        raise InputError(f"against: got {against!r}, expected 'paper' or nothing.")
    runs = _on_present_data(runs)
    groups: dict[tuple[str, ...], list[Record]] = {}
    for run in runs:
        tier = run.get("tier")
        own = (run["dataset"], str(tier)) if run["task"] == "fewshot" else ("", "")
        groups.setdefault((run["task"], _model(run), *own), []).append(run)
    result = []
    for (task, model, *_), members in groups.items():
        if task not in HEADLINE:
            raise InputError(f"task: got {task!r}, expected one of {', '.join(HEADLINE)}.")
        build = _few_shot_table if task == "fewshot" else _method_table
        result.append(build(members, model, against == "paper"))
    result += _few_shot_means(runs, against == "paper")
    return result


def _on_present_data(runs: Sequence[Record]) -> list[Record]:
    """Runs without those of a data set that were made before it changed: a figure of one state compares with none of the other.

    It has changed when a run was made again, with the same settings, on other data. With the earlier one go all that read
    the same data, and all before it; few-shot runs each read data of their own.
    """
    latest: dict[str, Record] = {}
    stale: dict[str, set[str]] = {}
    until: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: str(run["time"])):
        settings = {name: value for name, value in run["settings"].items() if name != "data_fingerprint"}
        key = json.dumps(settings, sort_keys=True)
        before = latest.get(key, run)
        if before["settings"].get("data_fingerprint") != run["settings"].get("data_fingerprint"):
            name = run["dataset"]
            stale.setdefault(name, set()).add(before["settings"].get("data_fingerprint"))
            until[name] = max(until.get(name, ""), str(before["time"]))
        latest[key] = run
    kept = [
        run
        for run in runs
        if run["dataset"] not in stale
        or (
            run["settings"].get("data_fingerprint") not in stale[run["dataset"]]
            and str(run["time"]) > until[run["dataset"]]
        )
    ]
    for name in stale:
        gone = sum(run["dataset"] == name for run in runs) - sum(run["dataset"] == name for run in kept)
        warnings.warn(
            f"{name} has changed since {gone} of its runs were made; they are left out. Measure again what is missing.",
            IsomixWarning,
            stacklevel=3,
        )
    return kept


def dataset_name(spec: str) -> str:
    """A data set as a heading: one's own by the last part of its path."""
    scheme, _, path = spec.partition(":")
    return f"{scheme} {PurePath(path).name}" if path else spec


def _model(run: Record) -> str:
    return str(run.get("backbone") or f"{run['model']} {run['pretrained']}".strip())


def _methods(runs: Sequence[Record]) -> list[str]:
    """Names in a fixed order: baselines first, then as they were run."""
    places = {name: i for i, name in enumerate(ORDER)}
    names = dict.fromkeys(run["method"] for run in runs)
    return sorted(
        names, key=lambda name: (places.get(name.partition("+")[0].partition(":")[0], len(places)), name.count("+"))
    )


def _method_table(runs: Sequence[Record], model: str, published: bool) -> Table:
    task = runs[0]["task"]
    figure, heading = HEADLINE[task]
    order = {name: i for i, name in enumerate(DATASETS)}
    datasets = sorted({run["dataset"] for run in runs}, key=lambda name: (order.get(name, len(order)), name))
    found = _one_each(runs, ("method", "dataset"))
    latency = any("latency" in run["details"] for run in runs)
    values: dict[str, list[float | None]] = {}
    theirs: dict[str, list[float | None]] = {}
    for method in _methods(runs):
        cells = [found.get((method, dataset)) for dataset in datasets]
        values[method] = [None if run is None else 100 * run["metrics"][figure] for run in cells]
        theirs[method] = [
            reference(task, runs[0].get("backbone"), method, dataset) if published else None for dataset in datasets
        ]
    columns = [dataset_name(name) for name in datasets]
    several = len(datasets) > 1
    if several:
        columns.append("mean")
        # A mean over fewer sets than the other rows have would compare with none of them.
        for figures in values.values():
            figures.append(_mean(figures))
        for method, figures in theirs.items():
            mean = reference_mean(task, runs[0].get("backbone"), method, datasets) if published else None
            figures.append(mean if mean is not None else _mean(figures))
    timings = {method: _latency([found.get((method, name)) for name in datasets]) for method in values}
    note = f"{heading[0].upper() if heading.islower() else heading[0]}{heading[1:]} in percent."
    if latency:
        columns.append("ms a query")
        note += f" {_latency_note(runs)}"
    rows = list(_rows(values, theirs, timings if latency else None))
    if published and any(row.kind == "published" for row in rows):
        note += f" Published: {sources()[task]}."
    seeing = [method for method in values if uses_gallery(method)]
    if seeing:
        note += (
            f" Uses the whole gallery, without labels: {', '.join(seeing)}; the others look at one vector at a time."
        )
    return Table(f"{TITLES[task]}, {model}", tuple(columns), tuple(rows), note)


def _mean(figures: Sequence[float | None]) -> float | None:
    there = [figure for figure in figures if figure is not None]
    return float(np.mean(there)) if len(there) == len(figures) else None


def _rows(
    values: Mapping[str, Sequence[float | None]],
    theirs: Mapping[str, Sequence[float | None]],
    extra: Mapping[str, str] | None = None,
    spread: Mapping[str, Sequence[float | None]] | None = None,
) -> Iterator[Row]:
    columns = list(zip(*values.values()))
    top = [max((v for v in column if v is not None), default=None) for column in columns]
    for method, figures in values.items():
        add = () if extra is None else (extra[method],)
        deviations = (spread or {}).get(method, [None] * len(figures))
        cells = tuple(_cell(v) + ("" if d is None else f" ± {d:.1f}") for v, d in zip(figures, deviations))
        best = tuple(v is not None and len(values) > 1 and v == t for v, t in zip(figures, top))
        yield Row(method, cells + add, best + (False,) * len(add))
        published = theirs.get(method, [])
        if any(v is not None for v in published):
            blank = ("",) * len(add)
            none = (False,) * (len(cells) + len(add))
            yield Row("published", tuple(map(_cell, published)) + blank, none, "published")
            gaps = [None if a is None or b is None else a - b for a, b in zip(figures, published)]
            yield Row("difference", tuple(_cell(g, sign=True) for g in gaps) + blank, none, "difference")


def _few_shot_table(runs: Sequence[Record], model: str, published: bool) -> Table:
    first = runs[0]
    shots = sorted({run["shots"] for run in runs})
    values, spread, seeds = _over_seeds(runs, shots)
    theirs = {
        method: [
            reference("fewshot", first.get("backbone"), method, first["dataset"], shots=k, tier=first["tier"])
            if published
            else None
            for k in shots
        ]
        for method in values
    }
    rows = tuple(_rows(values, theirs, spread=spread))
    note = f"Accuracy in percent, mean ± standard deviation over seeds {seeds}; {TIER_NOTES[first['tier']]}."
    note += _pool_note(values)
    if any(row.kind == "published" for row in rows):
        note += f" Published: {sources()['fewshot']}."
    title = f"{TITLES['fewshot']}, {dataset_name(first['dataset'])}, {model}, tier {first['tier']}"
    return Table(title, _shot_headings(shots), rows, note)


def _over_seeds(
    runs: Sequence[Record], shots: Sequence[int]
) -> tuple[dict[str, list[float | None]], dict[str, list[float | None]], str]:
    found = _one_each(runs, ("method", "shots", "seed"))
    seeds = sorted({run["seed"] for run in runs})
    means: dict[str, list[float | None]] = {}
    spread: dict[str, list[float | None]] = {}
    for method in _methods(runs):
        for k in shots:
            cells = [found.get((method, k, seed)) for seed in seeds]
            figures = [100 * run["metrics"]["accuracy"] for run in cells if run is not None]
            whole = len(figures) == len(seeds)
            means.setdefault(method, []).append(float(np.mean(figures)) if whole else None)
            several = whole and len(figures) > 1
            spread.setdefault(method, []).append(float(np.std(figures, ddof=1)) if several else None)
    return means, spread, ", ".join(map(str, seeds))


def _few_shot_means(runs: Sequence[Record], published: bool) -> Iterator[Table]:
    """Plain means over the data sets of one backbone and tier, for the methods that have run on all of them."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for run in runs:
        if run["task"] == "fewshot":
            groups.setdefault((_model(run), run["tier"]), []).append(run)
    for (model, tier), members in groups.items():
        datasets = list(dict.fromkeys(run["dataset"] for run in members))
        if len(datasets) < 2:
            continue
        shots = sorted({run["shots"] for run in members})
        per_set = [_over_seeds([run for run in members if run["dataset"] == name], shots)[0] for name in datasets]
        means: dict[str, list[float | None]] = {}
        for method in _methods(members):
            columns = zip(*(values.get(method, [None] * len(shots)) for values in per_set))
            means[method] = [_mean(column) for column in columns]
        theirs = {
            method: [
                reference_mean("fewshot", members[0].get("backbone"), method, datasets, shots=k, tier=tier)
                if published
                else None
                for k in shots
            ]
            for method in means
        }
        title = f"{TITLES['fewshot']}, mean of {len(datasets)} sets, {model}, tier {tier}"
        note = f"Accuracy in percent; {TIER_NOTES[tier]}. Sets: {', '.join(map(dataset_name, datasets))}."
        note += _pool_note(means)
        yield Table(title, _shot_headings(shots), tuple(_rows(means, theirs)), note)


def _pool_note(methods: Iterable[str]) -> str:
    seeing = [method for method in methods if uses_pool(method)]
    if not seeing:
        return ""
    return f" Uses unlabelled pictures, those of the test split: {', '.join(seeing)}; the others look at one picture at a time."


def _shot_headings(shots: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{k} shot" if k == 1 else f"{k} shots" for k in shots)


def _one_each(runs: Iterable[Record], keys: Sequence[str]) -> dict[tuple[Any, ...], Record]:
    found: dict[tuple[Any, ...], Record] = {}
    for run in runs:
        key = tuple(run[name] for name in keys)
        if key in found:
            old, new = found[key]["settings"], run["settings"]
            differ = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            raise InputError(
                f"two runs for {run['dataset']}, {', '.join(map(str, key))}: they differ in "
                f"{', '.join(differ) or 'nothing'}. Keep one of them in the folder, or tabulate two folders."
            )
        found[key] = run
    return found


def _latency(runs: Sequence[Record | None]) -> str:
    timed = [run["details"]["latency"] for run in runs if run is not None and "latency" in run["details"]]
    if not timed:
        return ""
    median, ratio = (float(np.median([t[key] for t in timed])) for key in ("median_ms", "ratio_to_plain"))
    return f"{median:.3g} ({ratio:.2f} x plain)"


def _latency_note(runs: Sequence[Record]) -> str:
    timed = [run for run in runs if "latency" in run["details"]]
    machines = sorted({f"{run['machine']['processor']}, {run['machine']['cores']} cores" for run in timed})
    measured = sorted({run["details"]["latency"]["measured"] for run in timed})
    return f"Latency ({'; '.join(measured)}), warm, median: {'; '.join(machines)}."


def _cell(value: float | None, *, sign: bool = False) -> str:
    return "" if value is None else f"{value:+.1f}" if sign else f"{value:.1f}"
