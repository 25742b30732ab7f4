"""One JSON a run, in CLIP_benchmark's shape, with what is needed to repeat it; a run that is there is not repeated."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

from isomix._files import writing
from isomix.benchmark.protocols import TIERS, Outcome
from isomix.errors import FileFormatError, InputError

__all__ = ["FORMAT", "HEADLINE", "RunFolder", "called", "machine", "read_runs", "versions"]

FORMAT = 1
PACKAGES = ("isomix", "numpy", "scipy", "scikit-learn", "torch", "transformers", "onnxruntime")
OLD_TIERS = {"none": "leave-one-out", "few": "few-validation", "full": "validation"}
"""Words of earlier versions; their files are read as if they had the present ones."""
NAMES = ("dataset", "task", "method", "shots", "tier", "seed")
"""Settings that a reader knows a run by."""
TEXTS = ("dataset", "model", "pretrained", "task", "method", "time")
OBJECTS = ("metrics", "details", "settings")
HEADLINE = {
    "image_retrieval": ("mean_average_precision", "mAP"),
    "text_retrieval": ("mean_average_precision", "mAP"),
    "ncm": ("accuracy", "accuracy"),
    "fewshot": ("accuracy", "accuracy"),
    "zeroshot": ("accuracy", "accuracy"),
}
"""Task → the metric that stands in its tables, and what it is called there."""


class RunFolder:
    """A folder of runs.

    Parameters
    ----------
    folder : path-like
        Made if it is not there.
    command : list of str
        The command line, for the record.
    overwrite : bool
        Run again what is there.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, command: list[str] | None = None, overwrite: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.command = command or []
        self.overwrite = overwrite

    def path(self, settings: Mapping[str, Any]) -> Path:
        """The file of a run: readable first, then what tells all settings apart; an earlier version's, if it is there."""
        renamed = {new: old for old, new in OLD_TIERS.items()}
        if settings.get("tier") in renamed:
            earlier = self._file({**settings, "tier": renamed[settings["tier"]]})
            if earlier.is_file():
                return earlier
        return self._file(settings)

    def _file(self, settings: Mapping[str, Any]) -> Path:
        keys = ("dataset", "model", "task", "method", "shots", "tier", "seed")
        parts = [str(settings[key]) for key in keys if settings.get(key) is not None]
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)).strip("-")[:120]
        return self.folder / f"{readable}_{_digest(settings)}.json"

    def run(
        self, settings: Mapping[str, Any], measure: Callable[[], Outcome], about: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """Measure and write, or read what an earlier run wrote.

        Parameters
        ----------
        settings : mapping
            All that decides the figures, as JSON values: data, model and their fingerprints, task, method, seed, …
        measure : callable
        about : mapping
            What else belongs into the file.

        Returns
        -------
        record : dict
        measured : bool
            False for one that was there.
        """
        path = self.path(settings)
        if path.is_file() and not self.overwrite:
            record = _read(path)
            if record["settings"] == json.loads(json.dumps(settings)):
                return record, False
        started = time.perf_counter()
        outcome = measure()
        record = {
            "format": FORMAT,
            "language": "en",
            **called(settings),
            **about,
            "metrics": outcome.metrics,
            "details": outcome.details,
            "settings": dict(settings),
            "command": self.command,
            "versions": versions(),
            "machine": machine(),
            "seconds": round(time.perf_counter() - started, 3),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with writing(path) as part:
            part.write_text(json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return json.loads(json.dumps(record)), True


def called(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader knows a run by: those of its settings that are in ``NAMES``."""
    return {name: settings[name] for name in NAMES if name in settings}


def read_runs(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All runs of a folder and the folders in it, in the order of their paths.

    Raises
    ------
    InputError
        No run.
    FileFormatError
        A ``.json`` file that is not a run.
    """
    # The tables of encoded pictures that may lie there too have JSON files of their own.
    paths = sorted(p for p in Path(folder).rglob("*.json") if not any(part.endswith(".lance") for part in p.parts))
    if not paths:
        raise InputError(
            f"{os.fspath(folder)} holds no runs (.json). Make some with: isomix eval retrieval … --runs FOLDER"
        )
    return [_read(path) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not a run: {error}. Delete it to measure again.") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise FileFormatError(
            f"{path} is not a run that this isomix reads: format {found!r}, expected {FORMAT}. Move it away, or delete it "
            "to measure again."
        )
    for names in (record, record.get("settings")):
        if isinstance(names, dict) and isinstance(names.get("tier"), str):
            names["tier"] = OLD_TIERS.get(names["tier"], names["tier"])
    problems = list(_problems(record))
    if problems:
        raise FileFormatError(
            f"{path} is not a run that this isomix reads: {'; '.join(problems)}. Move it away, or delete it to measure again."
        )
    return record


def _problems(record: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with what the tables, figures and reports take from a run."""
    yield from (_wrong(name, record.get(name), "text") for name in TEXTS if not isinstance(record.get(name), str))
    yield from (_wrong(name, record.get(name), "an object") for name in OBJECTS if not _is_object(record.get(name)))
    if not isinstance(record.get("backbone"), str | None):
        yield _wrong("backbone", record["backbone"], "text or null")
    task, metrics, details, settings = (record.get(name) for name in ("task", *OBJECTS))
    if _is_object(settings) and not isinstance(settings.get("data_fingerprint"), str | None):
        yield _wrong("settings.data_fingerprint", settings["data_fingerprint"], "text")
    if _is_object(metrics):
        yield from _wrong_metrics(task, metrics)
    if _is_object(details) and "latency" in details:
        yield from _wrong_latency(record, details["latency"])
    if _is_object(details) and not _is_object(details.get("weights") or {}):
        yield _wrong("details.weights", details["weights"], "an object")
    if task == "fewshot":
        yield from (
            _wrong(name, record.get(name), "a whole number") for name in ("shots", "seed") if _no_integer(record, name)
        )
        if record.get("tier") not in TIERS:
            yield _wrong("tier", record.get("tier"), f"one of {', '.join(TIERS)}")


def _wrong_metrics(task: Any, metrics: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(task, str) or task not in HEADLINE:
        yield _wrong("task", task, f"one of {', '.join(HEADLINE)}")
        return
    figure, _ = HEADLINE[task]
    if not _is_number(metrics.get(figure)):
        yield _wrong(f"metrics.{figure}", metrics.get(figure), "a number")
    intervals = metrics.get("intervals", {})
    pair = intervals.get(figure, (0, 0)) if _is_object(intervals) else None
    if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(map(_is_number, pair))):
        yield _wrong(f"metrics.intervals.{figure}", pair, "two numbers")


def _wrong_latency(record: Mapping[str, Any], latency: Any) -> Iterator[str]:
    times = [latency.get(name) for name in ("median_ms", "ratio_to_plain")] if _is_object(latency) else [None]
    if not all(map(_is_number, times)) or not isinstance(latency.get("measured"), str):
        yield _wrong("details.latency", latency, "median_ms, ratio_to_plain (numbers) and measured (text)")
    if not _is_object(record.get("machine")) or not {"processor", "cores"} <= set(record["machine"]):
        yield _wrong("machine", record.get("machine"), "an object with processor and cores")


def _wrong(name: str, value: Any, expected: str) -> str:
    return f"{name} is {str(value)[:60]!r}, expected {expected}"


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    # The comparison is false for NaN and infinity; a whole number of thousands of digits is JSON, too.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < sys.float_info.max


def _no_integer(record: Mapping[str, Any], name: str) -> bool:
    value = record.get(name)
    return not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def versions() -> dict[str, str]:
    """Of Python and the packages whose arithmetic a figure depends on, where they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores and system, without the host's name."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
