"""Evaluate one folder of weights on everything held out; the figures go to one JSON file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import isomix.encoders.embedded
from isomix import __version__
from isomix.encoders.embedded import EmbeddedEncoder
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.metrics import retrieval_metrics
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, TextPCA
from isomix.spaces.band_comparison import decide
from isomix.spaces.bands import Band
from isomix.spaces.spectrum import spectrum
from training.config import load_section
from training.data.index import Index
from training.data.pixels import raw_pixels
from training.files import write_text
from training.report.encodings import Encodings
from training.report.episodes import accuracies, draws, effects
from training.report.retrieval import Grid, mean_interval, task_precisions
from training.report.tasks import (
    Classes,
    Limits,
    Task,
    TextToImage,
    classes,
    picture_tasks,
    text_tasks,
    texts_to_images,
)

__all__ = ["Settings", "evaluate", "weights_folder"]

Doubles = NDArray[np.float64]
PACKAGED = "packaged"
TIMED_CALLS = 30
PACKAGED_WEIGHTS = Path(isomix.encoders.embedded.__file__).with_name("weights")


@dataclass(frozen=True)
class Settings:
    """Section ``[evaluate]``."""

    max_pictures: int
    max_concepts: int
    max_captions: int
    known_styles: tuple[str, ...]
    bank: int
    grid_queries: int
    shots: tuple[int, ...]
    draws: int
    max_classes: int
    queries_per_class: int
    n_resamples: int
    seed: int

    @property
    def limits(self) -> Limits:
        """What the tasks take."""
        return Limits(self.max_pictures, self.max_concepts, self.max_captions, self.known_styles, self.seed)


def weights_folder(run: str, output: Path) -> tuple[str, Path | None]:
    """Name and folder of a run: ``packaged``, the name of a training run, or ``NAME=FOLDER``.

    Raises
    ------
    InputError
        There are no weights.
    """
    name, _, place = run.partition("=")
    if run == PACKAGED:
        return name, None
    folder = Path(place) if place else output / "runs" / name / "weights"
    if not (folder / "image.onnx").is_file():
        raise InputError(
            f"{run!r}: {folder} has no image.onnx. Give a run of the training, 'packaged', or NAME=FOLDER with a folder "
            "of exported weights."
        )
    return name, folder


def evaluate(run: str, output: Path, config: Path, say: Callable[[str], object] = lambda line: None) -> Path:
    """Evaluate one run and write ``evaluation/<name>.json`` into the output folder.

    Parameters
    ----------
    run : str
        See :func:`weights_folder`.
    output : Path
        Holds ``dataset`` and ``runs``.
    config : Path
    say : callable
        Takes a line of progress.

    Returns
    -------
    Path
        The JSON file. A run of the same weights on the same data gives the same figures, timings aside.
    """
    settings = load_section(Settings, "evaluate", config)
    name, folder = weights_folder(run, output)
    dataset = output / "dataset"
    index = Index.read(dataset)
    pictures = np.load(dataset / "pictures.npy", mmap_mode="r")
    target = output / "evaluation"
    encodings = Encodings(folder, pictures, target / "cache")
    choosing, tasks = picture_tasks(index, settings.limits)
    text_choosing, captions = text_tasks(index, settings.limits)
    searches = texts_to_images(index, settings.limits)
    few = classes(index, settings.limits, max(settings.shots) + 4, settings.max_classes)
    bank = _bank(index, settings)
    started = time.perf_counter()

    def step(line: str) -> None:
        say(f"{name}: {line} ({time.perf_counter() - started:.0f} s)")

    result: dict[str, Any] = {
        "name": name,
        "isomix": __version__,
        "index_sha256": hashlib.sha256((dataset / "index.parquet").read_bytes()).hexdigest(),
        "fingerprints": {pair: encoder.fingerprint for pair, encoder in encodings.encoders.items()},
        "settings": {key: getattr(settings, key) for key in settings.__dataclass_fields__},
        "raw": _raw(encodings, tasks, few, settings),
        "pairs": {},
    }
    step("raw pixels")
    for pair, encoder in encodings.encoders.items():
        found: dict[str, Any] = {"spectrum": _spectrum(encoder.projectors)}
        band, found["band"] = _choose(choosing, "image", encodings, encoder, settings)
        text_pca = TextPCA().fit(encoder.project_text(encodings.text_features(bank)))
        found["images"] = {
            task.name: _retrieval(task, "image", band, encodings, encoder, settings, text_pca) for task in tasks
        }
        step(f"{pair}: image to image, band {band}")
        if text_choosing is not None:
            text_band, found["text_band"] = _choose(text_choosing, "text", encodings, encoder, settings)
            found["texts"] = {
                task.name: _retrieval(task, "text", text_band, encodings, encoder, settings) for task in captions
            }
            step(f"{pair}: text to text, band {text_band}")
        found["text_to_image"] = {task.name: _search(task, encodings, encoder) for task in searches}
        space = IsoCLIP(encoder.projectors, band=band).fit()
        found["few_shot"] = {part.name: _few_shot(part, encodings, encoder, settings, space) for part in few}
        step(f"{pair}: text to image, few shots")
        result["pairs"][pair] = found
    result["speed"] = _speed(folder)
    step("speed")
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{name}.json"
    write_text(path, json.dumps(result, indent=1))
    return path


def _features(task: Task, encodings: Encodings) -> NDArray[np.float32]:
    if isinstance(task.items, list):
        return encodings.text_features(task.items)
    return encodings.image_features(task.items)


def _bank(index: Index, settings: Settings) -> list[str]:
    """Training captions for Text PCA."""
    rows = index.rows("train")
    distinct = sorted({caption for row in rows.tolist() for caption in index.captions[row]})
    chosen = np.random.default_rng(settings.seed).permutation(len(distinct))[: settings.bank]
    return [distinct[i] for i in sorted(chosen.tolist())]


def _raw(encodings: Encodings, tasks: list[Task], few: list[Classes], settings: Settings) -> dict[str, Any]:
    """The control on the same pictures: retrieval, and the nearest class mean."""
    result: dict[str, Any] = {"images": {}, "few_shot": {}}
    for task in tasks:
        Z = raw_pixels(encodings.pictures(np.asarray(task.items)))
        result["images"][task.name] = mean_interval(
            task_precisions(Z, task), task.clusters[task.queries], settings.n_resamples, settings.seed
        )
    for part in few:
        Z = raw_pixels(encodings.pictures(part.rows))
        found = accuracies(Z, part.labels, None, settings.shots, _draws(part, settings))
        result["few_shot"][part.name] = found["nearest-class-mean"]
    return result


def _choose(
    task: Task, modality: str, encodings: Encodings, encoder: EmbeddedEncoder, settings: Settings
) -> tuple[Band, dict[str, Any]]:
    """The band for one modality, and what speaks for it."""
    grid = Grid(encoder.projectors, _features(task, encodings), modality)
    chosen = decide(grid.precisions(task.thinned(settings.grid_queries)))
    return chosen.band, {
        "band": chosen.band,
        "best": chosen.best,
        "gain": chosen.gain,
        "standard_error": chosen.standard_error,
    }


def _retrieval(
    task: Task,
    modality: str,
    band: Band,
    encodings: Encodings,
    encoder: EmbeddedEncoder,
    settings: Settings,
    text_pca: TextPCA | None = None,
) -> dict[str, Any]:
    """Every method on one task, and its paired difference to the plain embeddings."""
    features = _features(task, encodings)
    grid = Grid(encoder.projectors, features, modality)
    over_bands = grid.precisions(task.thinned(settings.grid_queries))
    best = max(over_bands, key=lambda candidate: float(over_bands[candidate].mean()))
    bands = {"plain": Band(0, 0), "isoclip": band, "oracle": best}
    methods = {name: task_precisions(grid.embeddings(used), task) for name, used in bands.items()}
    methods["features"] = task_precisions(normalize_rows(features), task)
    if text_pca is not None:
        methods["text-pca"] = task_precisions(text_pca.transform(encoder.project_image(features)), task)
    clusters = task.clusters[task.queries]

    def interval(values: Doubles) -> dict[str, Any]:
        return mean_interval(values, clusters, settings.n_resamples, settings.seed)

    return {
        "n_queries": len(task.queries),
        "n_gallery": len(task.gallery),
        "n_concepts": len(np.unique(clusters)),
        "best_band": best,
        "map": {name: interval(values) for name, values in methods.items()},
        "differences": {
            name: interval(values - methods["plain"]) for name, values in methods.items() if name != "plain"
        },
        "grid": [[*candidate, float(values.mean())] for candidate, values in over_bands.items()],
    }


def _search(task: TextToImage, encodings: Encodings, encoder: EmbeddedEncoder) -> dict[str, Any]:
    """Recall of the first relevant picture, and what guessing gives."""
    texts = encoder.project_text(encodings.text_features(task.captions))
    pictures = encoder.project_image(encodings.image_features(task.rows))
    metrics = retrieval_metrics(texts, task.caption_labels, pictures, task.row_labels)
    relevant = np.bincount(task.row_labels)[task.caption_labels]
    names = ("n_queries", "recall_at_1", "recall_at_5", "recall_at_10", "mean_average_precision")
    chance = float((relevant / len(task.rows)).mean())
    return {name: metrics[name] for name in names} | {"n_pictures": len(task.rows), "chance_at_1": chance}


def _draws(part: Classes, settings: Settings) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    return draws(part.labels, settings.shots, settings.draws, settings.queries_per_class, settings.seed)


def _few_shot(
    part: Classes, encodings: Encodings, encoder: EmbeddedEncoder, settings: Settings, space: IsoCLIP
) -> dict[str, Any]:
    E = encoder.project_image(encodings.image_features(part.rows))
    text = encoder.project_text(encodings.text_features(part.names))
    found = accuracies(E, part.labels, text, settings.shots, _draws(part, settings), space)
    return {"n_classes": len(part.names), "accuracy": found, "effects": effects(found)}


def _spectrum(projectors: Projectors) -> dict[str, Any]:
    described = spectrum(projectors)
    return {
        "values": described.singular_values.tolist(),
        "random": described.random_singular_values.tolist(),
        "top_over_median": described.top_over_median,
        "random_top_over_median": described.random_top_over_median,
        "effective_rank": described.effective_rank,
    }


def _speed(folder: Path | None) -> dict[str, Any]:
    """Median milliseconds of one picture on one core, pictures a second on two, and bytes on disk."""
    pixels = np.random.default_rng(0).random((32, 3, 64, 64), np.float32)

    def median_seconds(threads: int, batch: NDArray[np.float32]) -> float:
        encoder = EmbeddedEncoder(threads=threads, weights=folder)
        seconds = []
        for _ in range(TIMED_CALLS + 3):
            start = time.perf_counter()
            encoder.forward_pixels(batch)
            seconds.append(time.perf_counter() - start)
        return float(np.median(seconds[3:]))

    place = PACKAGED_WEIGHTS if folder is None else folder
    return {
        "ms_one_picture_one_core": 1e3 * median_seconds(1, pixels[:1]),
        "pictures_per_second_one_core": 32 / median_seconds(1, pixels),
        "pictures_per_second_two_cores": 32 / median_seconds(2, pixels),
        "bytes": sum(
            path.stat().st_size for path in place.iterdir() if path.suffix in (".onnx", ".safetensors", ".json")
        ),
    }
