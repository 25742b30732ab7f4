"""Labelled pictures as arrays: what a few-shot classifier is fitted on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isomix.encoders.base import Encoder
from isomix.encoders.batching import iter_encoded
from isomix.encoders.images import read_image
from isomix.errors import InputError
from isomix.store.scan import SourceFile, scan
from isomix.store.table import EmbeddingTable

__all__ = ["Shots", "encode_files", "read_shots"]


@dataclass(frozen=True)
class Shots:
    """Embeddings of labelled pictures.

    Attributes
    ----------
    embeddings : ndarray, shape (n, d)
    labels : ndarray of str, shape (n,)
    paths : list of str, length n
    failures : dict of str to str
        Path and reason of every picture that could not be read.
    empty_classes : list of str
        Class folders, or labels of the list, without a picture that can be read.
    """

    embeddings: NDArray[np.floating]
    labels: NDArray[np.str_]
    paths: list[str]
    failures: dict[str, str]
    empty_classes: list[str]


def read_shots(
    source: str | os.PathLike[str],
    encoder: Encoder,
    *,
    batch_size: int = 32,
    max_megapixels: float = 100.0,
    progress: Callable[[int, int], None] | None = None,
) -> Shots:
    """Encode labelled pictures.

    Parameters
    ----------
    source : path-like
        A folder whose subfolders are the classes, a CSV file with the columns path and label, or a table with labels
        that the same encoder made (nothing is encoded then).
    encoder : Encoder
    batch_size : int
    max_megapixels : float
    progress : callable, optional
        Called with (done, total) after every batch.

    Raises
    ------
    InputError
        A picture without a label, or none that can be read.
    FingerprintMismatchError
        A table of another model.
    """
    if os.fspath(source).rstrip("/").endswith(".lance"):
        return _from_table(EmbeddingTable.open(source, encoder))
    files = scan(source, labels="folders").files
    unlabelled = [file.path for file in files if not file.annotations.get("label")]
    if unlabelled:
        raise InputError(
            f"{os.fspath(source)}: {len(unlabelled)} pictures without a label, e.g. {unlabelled[0]!r}. Expected one folder a "
            "class with its pictures inside, or a CSV file with the columns path and label."
        )
    rows, kept, paths, failures = [], [], [], {}
    for file, embedding, reason in encode_files(files, encoder, batch_size, max_megapixels, progress):
        if embedding is None:
            failures[file.path] = reason
        else:
            rows.append(embedding)
            kept.append(str(file.annotations["label"]))
            paths.append(file.path)
    if not rows:
        raise InputError(
            f"{os.fspath(source)}: none of {len(files)} pictures can be read, e.g. {next(iter(failures.items()))}."
        )
    announced = _class_folders(Path(source)) | {str(file.annotations["label"]) for file in files}
    return Shots(np.stack(rows), np.array(kept), paths, failures, sorted(announced - set(kept)))


def _class_folders(source: Path) -> set[str]:
    if not source.is_dir():
        return set()
    return {entry.name for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith(".")}


def encode_files(
    files: list[SourceFile],
    encoder: Encoder,
    batch_size: int,
    max_megapixels: float,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[SourceFile, NDArray[np.float32] | None, str]]:
    """Every file with its embedding, shape (d,), or None and the reason; in order, batch by batch."""
    loaders = (partial(read_image, file.location, max_megapixels=max_megapixels) for file in files)
    for batch in iter_encoded(encoder, loaders, batch_size=batch_size):
        for index in range(len(batch)):
            file = files[batch.start + index]
            yield file, batch.embeddings[index] if batch.ok[index] else None, batch.errors.get(index, "")
        if progress is not None:
            progress(batch.start + len(batch), len(files))


def _from_table(table: EmbeddingTable) -> Shots:
    rows = list(table.rows(columns=["path", "label"]))
    labels = [row["label"] for row in rows]
    missing = sum(label is None for label in labels)
    if missing:
        raise InputError(
            f"{table.path}: {missing} of {len(labels)} rows have no label. Make the table with --labels folders, or from a "
            "CSV file with a label column."
        )
    return Shots(table.embeddings(), np.array(labels), [row["path"] for row in rows], {}, [])
