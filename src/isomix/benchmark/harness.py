"""From names to run files: opens data, encodes it once, and measures every method that is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix.benchmark.backbone import Backbone
from isomix.benchmark.banks import bank_identity, read_bank
from isomix.benchmark.datasets import Captions, Pictures, open_dataset
from isomix.benchmark.encoding import encode_captions, encode_pictures
from isomix.benchmark.latency import measure_latency
from isomix.benchmark.methods import Fitted, check_methods, reads_bank
from isomix.benchmark.protocols import (
    Outcome,
    check_classifier,
    few_shot,
    fit_on,
    nearest_class_mean,
    retrieval,
    sides,
    zero_shot,
)
from isomix.benchmark.runs import RunFolder, called
from isomix.benchmark.samples import Samples, Vectors
from isomix.benchmark.shots import draw_shots
from isomix.encoders.prompts import check_templates
from isomix.errors import InputError, IsomixError, OutputError

__all__ = ["Harness", "Result"]


@dataclass(frozen=True)
class Result:
    """One run that was asked for.

    Attributes
    ----------
    what : dict
        Data set, task, method and so on.
    record : dict or None
        The run's file; None where it could not be made.
    measured : bool
        False for one that an earlier call measured.
    problem : str
        Why there is no record.
    """

    what: dict[str, Any]
    record: dict[str, Any] | None = None
    measured: bool = False
    problem: str = ""


class Harness:
    """Runs protocols on data sets by name.

    Parameters
    ----------
    runs : RunFolder
    model : str, optional
        Default: the table's own model, none for arrays, and ``"embedded"`` for files.
    root : path-like
        Folder of the published data sets.
    cache : path-like, optional
        Where encoded pictures and texts are kept. Default: ``features`` in the folder of the runs.
    text_bank : path-like, optional
        For Text PCA; see :func:`isomix.benchmark.banks.read_bank`.
    templates : sequence of str
        Sentences around a class name. Default: those of the data set.
    batch_size : int
    skip_unreadable : bool
        See :func:`isomix.benchmark.encoding.encode_pictures`.
    latency : int
        Timed queries of every retrieval method; 0: none.
    offline, device
        Of the model.
    progress : callable, optional
        Of encoding.
    """

    def __init__(
        self,
        runs: RunFolder,
        *,
        model: str | None = None,
        root: str | os.PathLike[str] = ".",
        cache: str | os.PathLike[str] | None = None,
        text_bank: str | os.PathLike[str] | None = None,
        templates: Sequence[str] = (),
        batch_size: int = 32,
        skip_unreadable: bool = False,
        latency: int = 0,
        offline: bool = False,
        device: str | None = None,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> None:
        self.runs = runs
        self.model = model
        self.root = root
        self.cache = Path(cache) if cache is not None else runs.folder / "features"
        self.text_bank = None if text_bank is None else Path(text_bank)
        self.templates = check_templates(templates)
        self.latency = latency
        self._encoding: dict[str, Any] = {
            "batch_size": batch_size,
            "skip_unreadable": skip_unreadable,
            "progress": progress,
        }
        self._loading: dict[str, Any] = {"offline": offline, "device": device, "cache": self.cache}
        self._backbones: dict[tuple[str, str], Backbone] = {}

    # ------------------------------------------------------------------ protocols

    def retrieval(self, dataset: str, methods: Sequence[str]) -> Iterator[Result]:
        """Image-to-image retrieval, or text-to-text on captions: one run a method."""
        check_methods(methods)
        samples, backbone = self._encode(open_dataset(dataset, self.root))
        task = f"{samples.modality}_retrieval"
        rows = sides(samples).gallery

        def measure(method: str) -> Outcome:
            fitted = fit_on(samples, rows, method, backbone, lambda: read_bank(self.text_bank, backbone))
            outcome = retrieval(samples, fitted)
            # An expanded query searches twice, which the time of a map would hide.
            timing = self._time(samples, backbone, fitted) if self.latency and not fitted.expand else {}
            return replace(outcome, details={**outcome.details, **timing, "fitted": fitted.description})

        yield from self._mapped(samples, backbone, task, methods, measure)

    def ncm(self, dataset: str, methods: Sequence[str]) -> Iterator[Result]:
        """Nearest class mean of the whole train split: one run a method."""
        check_methods(methods)
        samples, backbone = self._encode(_pictures_only(open_dataset(dataset, self.root)))
        samples = samples.with_test_split()
        train = samples.rows("train", needed_for="nearest class mean")

        def measure(method: str) -> Outcome:
            fitted = fit_on(samples, train, method, backbone, lambda: read_bank(self.text_bank, backbone))
            outcome = nearest_class_mean(samples, fitted, backbone)
            return replace(outcome, details={**outcome.details, "fitted": fitted.description})

        yield from self._mapped(samples, backbone, "ncm", methods, measure)

    def few_shot(
        self, dataset: str, methods: Sequence[str], *, shots: Sequence[int], seeds: Sequence[int], tiers: Sequence[str]
    ) -> Iterator[Result]:
        """Few-shot classification: one run for every method, number of shots, seed and tier."""
        for method in methods:
            check_classifier(method)
        opened = _pictures_only(open_dataset(dataset, self.root))
        needed = self._needed(opened, shots, seeds, tiers)
        templates = opened.templates if isinstance(opened, Pictures) else ()
        part = opened.take(needed) if isinstance(opened, Pictures) and needed is not None else opened
        samples, backbone = self._encode(part)
        if needed is None:
            samples = samples.with_test_split()
            labels, splits = samples.labels, samples.splits
            place = np.arange(len(samples))
        else:
            labels, splits = opened.labels, opened.splits
            place = np.full(len(labels), -1)
            place[needed] = np.arange(len(needed))
        samples = self._with_text(samples, backbone, templates)
        scale = 100.0 if backbone is None else backbone.logit_scale
        test = samples.rows("test", needed_for="few-shot classification")
        validation = np.flatnonzero(samples.splits == "val")
        for n_shots in shots:
            for seed in seeds:
                drawn, few = (place[rows] for rows in draw_shots(labels, splits, n_shots, seed))
                for tier in tiers:
                    held_out = {"leave-one-out": few[:0], "few-validation": few}.get(tier, validation)
                    data = samples.fingerprint(np.concatenate([test, drawn, held_out]))
                    for method in methods:
                        settings = self._settings(samples, backbone, "fewshot", method, data)
                        settings |= {"shots": n_shots, "seed": seed, "tier": tier, "logit_scale": scale}

                        def measure(
                            method: str = method, drawn: Any = drawn, held_out: Any = held_out, tier: str = tier
                        ) -> Outcome:
                            return few_shot(
                                samples, method, shots=drawn, held_out=held_out, tier=tier, logit_scale=scale
                            )

                        yield self._run(settings, measure, samples, backbone)

    def zero_shot(self, dataset: str) -> Iterator[Result]:
        """Classification by class texts: one run."""
        opened = _pictures_only(open_dataset(dataset, self.root))
        if isinstance(opened, Pictures) and (opened.splits == "test").any():
            opened = opened.take(np.flatnonzero(opened.splits == "test"))
        templates = opened.templates if isinstance(opened, Pictures) else ()
        samples, backbone = self._encode(opened)
        samples = self._with_text(samples, backbone, templates)
        scale = 100.0 if backbone is None else backbone.logit_scale
        settings = self._settings(samples, backbone, "zeroshot", "zero-shot") | {"logit_scale": scale}
        yield self._run(settings, lambda: zero_shot(samples, scale), samples, backbone)

    # ------------------------------------------------------------------ parts

    def _encode(self, opened: Pictures | Captions | Samples) -> tuple[Samples, Backbone | None]:
        if isinstance(opened, Samples):
            made = opened.notes.get("model")
            model = self.model or (None if made is None else str(made))
            return opened, None if model is None else self._backbone(model, str(opened.notes.get("projectors", "")))
        backbone = self._backbone(self.model or "embedded", "")
        if isinstance(opened, Captions):
            return encode_captions(opened, backbone), backbone
        return encode_pictures(opened, backbone, self.cache, **self._encoding), backbone

    def _backbone(self, spec: str, made_with: str) -> Backbone:
        key = (spec, made_with)
        if key not in self._backbones:
            self._backbones[key] = Backbone(spec, made_with=made_with, **self._loading)
        return self._backbones[key]

    def _with_text(self, samples: Samples, backbone: Backbone | None, templates: Sequence[str]) -> Samples:
        if samples.text is not None or backbone is None:
            return samples
        text, used = backbone.class_texts(samples.class_names, self.templates or templates)
        width = samples.vectors.embeddings.shape[1]
        if text.shape[2] != width:
            raise InputError(
                f"{samples.name}: its embeddings are {width} wide, and those of {backbone.spec!r} {text.shape[2]}. "
                "Name the model that made them."
            )
        return replace(samples, text=text, notes={**samples.notes, "templates": list(used)})

    def _needed(
        self, opened: Pictures | Samples, shots: Sequence[int], seeds: Sequence[int], tiers: Sequence[str]
    ) -> NDArray[np.intp] | None:
        """Rows of a split data set that few-shot runs look at; ImageNet is not encoded whole for 16 shots."""
        if isinstance(opened, Samples) or self._encoding["skip_unreadable"] or not (opened.splits == "train").any():
            return None
        used = opened.splits == "test"
        if "validation" in tiers:
            used |= opened.splits == "val"
        for n_shots in shots:
            for seed in seeds:
                drawn, held_out = draw_shots(opened.labels, opened.splits, n_shots, seed)
                used[drawn] = True
                if "few-validation" in tiers:
                    used[held_out] = True
        return np.flatnonzero(used)

    def _time(self, samples: Samples, backbone: Backbone | None, fitted: Fitted) -> dict[str, Any]:
        row = int(sides(samples).queries[0])
        files = samples.files
        if files and backbone is not None and samples.modality == "image":
            encoder, measured = backbone.encoder, "encode and map"

            def vectors() -> Vectors:
                found = encoder.encode_image([files[row]], show_progress_bar=False)
                return Vectors(found.embeddings, found.features)
        else:
            one, measured = samples.vectors.take(slice(row, row + 1)), "map alone"

            def vectors() -> Vectors:
                return one

        plain = fit_on(samples, sides(samples).gallery[:1], "plain", None, lambda: read_bank(None, None))
        found = measure_latency(
            lambda: fitted.queries(vectors()), lambda: plain.queries(vectors()), repeats=self.latency
        )
        return {"latency": {**found, "measured": measured}}

    def _settings(
        self, samples: Samples, backbone: Backbone | None, task: str, method: str, data: str | None = None
    ) -> dict[str, Any]:
        explicit = backbone is not None and (self.model is not None or not samples.notes.get("model"))
        settings: dict[str, Any] = {
            "dataset": samples.name,
            "task": task,
            "method": method,
            "backbone": None if backbone is None else backbone.spec,
            "backbone_fingerprint": backbone.fingerprint if explicit and backbone is not None else None,
            "data_fingerprint": data or samples.fingerprint(),
            "unreadable": list(samples.unreadable),
            **{key: samples.notes[key] for key in ("templates", "split", "queries", "gallery") if key in samples.notes},
        }
        return settings

    def _mapped(
        self,
        samples: Samples,
        backbone: Backbone | None,
        task: str,
        methods: Sequence[str],
        measure: Callable[[str], Outcome],
    ) -> Iterator[Result]:
        data = samples.fingerprint()
        for method in methods:
            settings = self._settings(samples, backbone, task, method, data)
            if task != "ncm" and self.latency:
                settings["latency_repeats"] = self.latency
            if reads_bank(method):
                settings["text_bank"] = bank_identity(self.text_bank)

            def outcome(method: str = method) -> Outcome:
                return measure(method)

            yield self._run(settings, outcome, samples, backbone)

    def _run(
        self, settings: dict[str, Any], measure: Callable[[], Outcome], samples: Samples, backbone: Backbone | None
    ) -> Result:
        labels = {"model": "not named", "pretrained": ""} if backbone is None else backbone.labels()
        about = {**labels, "backbone": settings["backbone"], "notes": dict(samples.notes)}
        what = called(settings)
        try:
            record, measured = self.runs.run(settings, measure, about)
        except OutputError:  # a full disk is no reason to go on without the runs
            raise
        except IsomixError as error:
            return Result(what, problem=str(error))
        return Result(what, record, measured)


def _pictures_only(opened: Pictures | Captions | Samples) -> Pictures | Samples:
    if isinstance(opened, Captions) or (isinstance(opened, Pictures) and opened.ground_truth is not None):
        raise InputError(f"{opened.name} has no classes to tell apart; it is for retrieval.")
    return opened
