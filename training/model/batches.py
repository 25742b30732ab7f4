"""Training pictures in memory-mapped levels, the development concepts, and batches as functions of seed and step."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from isomix._files import writing
from isomix.errors import InputError
from training.data.splits import load_rows
from training.model.text import Captions

__all__ = ["Batch", "Sampler", "TrainingSet", "generators"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingSet:
    """The training split, and nothing of any other.

    Attributes
    ----------
    concept : ndarray of int64, shape (n,)
        Number of each picture's concept.
    source : ndarray of int64, shape (n,)
    kind : ndarray of str, shape (n,)
    monochrome : ndarray of bool, shape (n,)
    captions : Captions
    train, development : ndarray of int64
        Positions among the pictures of the split: those to train on, and those of the concepts set aside to look at.
    level : callable
        Pictures at a side, uint8, shape (n, 4, side, side), premultiplied RGBA; memory-mapped.
    """

    concept: Integers
    source: Integers
    kind: NDArray[np.str_]
    monochrome: NDArray[np.bool_]
    captions: Captions
    train: Integers
    development: Integers
    level: Callable[[int], NDArray[np.uint8]]

    @classmethod
    def load(cls, dataset: Path, cache: Path, *, development: float = 0.02, development_rows: int = 500) -> TrainingSet:
        """Read the training split of a data set folder; smaller copies of its pictures go into ``cache``.

        Parameters
        ----------
        dataset : Path
            Folder of ``pictures.npy`` and ``index.parquet``.
        cache : Path
        development : float
            Part of the concepts with several sources that is set aside, by their hash: the same for every seed.
        development_rows : int
            Most pictures to look at; the others of those concepts are left out.
        """
        pictures, table = load_rows(dataset, "train")
        _, concept = np.unique(names := np.array(table["concept"].to_pylist()), return_inverse=True)
        _, source = np.unique(np.array(table["source"].to_pylist()), return_inverse=True)
        aside = _development_concepts(names, source, development)
        inside = np.isin(concept, aside)
        order = {number: place for place, number in enumerate(aside)}
        looked_at = sorted(np.flatnonzero(inside).tolist(), key=lambda row: (order[int(concept[row])], row))

        stat = (dataset / "pictures.npy").stat()
        key = f"{stat.st_size} {stat.st_mtime_ns} {(dataset / 'index.parquet').stat().st_mtime_ns}"

        @functools.cache
        def level(side: int) -> NDArray[np.uint8]:
            digest = hashlib.sha256(key.encode()).hexdigest()[:12]
            return _level(pictures, side, cache / f"side-{side}-{digest}.npy")

        return cls(
            concept.astype(np.int64),
            source.astype(np.int64),
            np.array(table["kind"].to_pylist()),
            np.array(table["monochrome"].to_pylist(), bool),
            Captions.of(table["captions"].to_pylist()),
            np.flatnonzero(~inside),
            np.array(looked_at[:development_rows], np.int64),
            level,
        )


def _development_concepts(names: NDArray[Any], source: Integers, part: float) -> Integers:
    """Numbers of the concepts drawn by several sources whose hash falls below ``part``, in the order of the hash."""
    distinct, concept = np.unique(names, return_inverse=True)
    pairs = np.unique(np.stack([concept, source], 1), axis=0)
    several = np.bincount(pairs[:, 0], minlength=len(distinct)) > 1
    place = np.array([int(hashlib.sha256(f"development {name}".encode()).hexdigest()[:12], 16) for name in distinct])
    chosen = np.flatnonzero(several & (place < part * 16**12))
    return chosen[np.argsort(place[chosen])]


def _level(pictures: NDArray[np.uint8], side: int, path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as part:
            made = np.lib.format.open_memmap(part, "w+", np.uint8, (len(pictures), 4, side, side))
            for start in range(0, len(pictures), 2048):
                made[start : start + 2048] = _premultiplied(np.array(pictures[start : start + 2048]), side)
            made.flush()
    return np.asarray(np.load(path, mmap_mode="r"))


def _premultiplied(pictures: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Straight RGBA (n, h, w, 4) → premultiplied (n, 4, side, side), antialiased."""
    values = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    values[:, :3] *= values[:, 3:] / 255
    if values.shape[-1] != side:
        values = functional.interpolate(values, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return values.round_().clamp_(0, 255).to(torch.uint8).numpy()


@dataclass(frozen=True)
class Batch:
    """Positions in the training set, concept and text of every picture of a batch."""

    pictures: Integers
    concepts: Integers
    texts: NDArray[np.int32]


class Sampler:
    """Draws concepts in proportion to a power of their number of pictures, and pictures of each concept.

    The mean of ``kind_weights`` over the pictures of a concept (1 for a kind not named) is a factor.
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        power: float,
        label: float,
        per_concept: int = 1,
        kind_weights: Mapping[str, float] | None = None,
    ) -> None:
        self.captions, self.label, self.per_concept = data.captions, label, per_concept
        order = np.argsort(data.concept[data.train], kind="stable")
        self.pictures = data.train[order]
        self.concepts, self.starts, self.counts = np.unique(
            data.concept[self.pictures], return_index=True, return_counts=True
        )
        weights = np.array([(kind_weights or {}).get(kind, 1.0) for kind in data.kind[self.pictures].tolist()])
        self.log_weights = power * np.log(self.counts) + np.log(np.add.reduceat(weights, self.starts) / self.counts)

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """A batch in which no concept occurs more than ``per_concept`` times, neighbours sharing theirs."""
        wanted = size // self.per_concept
        if wanted > len(self.concepts):
            raise InputError(
                f"a batch of {size} needs {wanted} concepts, and the training split has {len(self.concepts)}. "
                "Choose smaller batches."
            )
        keys = self.log_weights + rng.gumbel(size=len(self.concepts))  # the largest keys: drawn without replacement
        chosen = np.argpartition(-keys, wanted - 1)[:wanted]
        places = np.floor(rng.random((wanted, self.per_concept)) * self.counts[chosen, None]).astype(np.int64)
        if self.per_concept == 2:  # two different pictures wherever there are two
            second = (1 + np.floor(rng.random(wanted) * (self.counts[chosen] - 1))).astype(np.int64)
            places[:, 1] = (places[:, 0] + second) % self.counts[chosen]
        pictures = self.pictures[(self.starts[chosen, None] + places).ravel()]
        concepts = np.repeat(self.concepts[chosen], self.per_concept)
        return Batch(pictures, concepts, self.captions.draw(pictures, self.label, rng))


def generators(seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The random numbers of one step: they depend on seed and step alone, so a run goes on as if never interrupted."""
    rng = np.random.default_rng((seed, step))
    return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))
