"""A data set as embeddings with labels: what every protocol works on."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Floats, first_identical
from isomix.errors import InputError, IsomixWarning

__all__ = ["Samples", "Vectors", "stratified_halves", "warn_duplicates"]

Rows = NDArray[np.intp]


class Vectors(NamedTuple):
    """Embeddings, shape (n, d), and the pre-projection features behind them, shape (n, d_in), where they are known."""

    embeddings: Floats
    features: Floats | None

    def take(self, rows: Any) -> Vectors:
        """Some of the rows."""
        return Vectors(self.embeddings[rows], None if self.features is None else self.features[rows])


@dataclass(frozen=True)
class Samples:
    """Embeddings with labels, splits and texts, one row a sample.

    Attributes
    ----------
    name : str
    vectors : Vectors
    labels : ndarray of intp, shape (n,)
    splits : ndarray of str, shape (n,)
    class_names : tuple of str
    query_split, gallery_split : str
        As in :class:`isomix.benchmark.datasets.Pictures`.
    modality : {"image", "text"}
    text : ndarray, shape (C, p, d), or None
        Text embeddings of the classes, p prompts each.
    ground_truth : tuple of mappings, or None
    files : tuple of pathlib.Path
        The pictures, where there are any: for measuring how long one takes.
    unreadable : tuple of str
        Pictures that were left out.
    notes : mapping
        What a reader of the results must know, JSON values.
    """

    name: str
    vectors: Vectors
    labels: Rows
    splits: NDArray[np.str_]
    class_names: tuple[str, ...]
    query_split: str = ""
    gallery_split: str = ""
    modality: str = "image"
    text: Floats | None = None
    ground_truth: tuple[Mapping[str, Any], ...] | None = None
    files: tuple[Path, ...] = ()
    unreadable: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self, rows: Rows | slice = slice(None)) -> str:
        """Hexadecimal SHA-256 over everything about some rows that a figure can depend on."""
        digest = hashlib.sha256()
        picked = (*self.vectors.take(rows), self.labels[rows], self.splits[rows], self.text)
        for array in picked:
            if array is not None:
                digest.update(f"{array.shape}{array.dtype.str}".encode())
                digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        digest.update(repr((self.class_names, self.query_split, self.gallery_split, self.modality)).encode())
        for truth in self.ground_truth or ():
            digest.update(repr({name: np.asarray(found).tolist() for name, found in sorted(truth.items())}).encode())
        return digest.hexdigest()

    def rows(self, split: str, *, needed_for: str) -> Rows:
        """Row numbers of a split.

        Raises
        ------
        InputError
            There is no such row.
        """
        rows = np.flatnonzero(self.splits == split)
        if not rows.size:
            have = ", ".join(repr(str(name)) for name in np.unique(self.splits))
            raise InputError(f"{self.name}: {needed_for} needs a split {split!r}, and the rows are in {have}.")
        return rows

    def with_test_split(self) -> Samples:
        """The same, or where nothing is split, half of every class for training and half for testing."""
        if (self.splits != "").any():
            return self
        train = stratified_halves(self.labels)
        splits = np.where(train, "train", "test")
        return replace(
            self, splits=splits, notes={**self.notes, "split": "half of every class each, drawn with seed 0"}
        )


def stratified_halves(labels: Rows) -> NDArray[np.bool_]:
    """Which rows are in the training half: the larger one of every class, drawn with seed 0.

    Raises
    ------
    InputError
        A class with a single picture.
    """
    counts = np.bincount(labels)
    if (counts == 1).any():
        raise InputError(
            f"labels: class {int(np.flatnonzero(counts == 1)[0])} has one picture, so it cannot be split in two. "
            "Give it a second one, or a column of splits."
        )
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.zeros(len(labels), bool)
    for label in np.flatnonzero(counts):
        members = order[labels[order] == label]
        train[members[: (len(members) + 1) // 2]] = True
    return train


def warn_duplicates(samples: Samples) -> None:
    """Warn of rows that are equal bit for bit: across splits they give the answer away, within one they count twice."""
    twins = first_identical(samples.vectors.embeddings)
    rows = np.flatnonzero(twins != np.arange(len(twins)))
    if not rows.size:
        return
    other = int((samples.splits[rows] != samples.splits[twins[rows]]).sum())
    contradictory = int((samples.labels[rows] != samples.labels[twins[rows]]).sum())
    warnings.warn(
        f"{samples.name}: {rows.size} rows equal an earlier one, e.g. rows {int(twins[rows[0]])} and {int(rows[0])}; "
        f"{other} of them lie in another split, {contradictory} have another label. "
        "Hits on them say nothing.",
        IsomixWarning,
        stacklevel=3,
    )
