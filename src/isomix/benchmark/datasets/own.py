"""One's own data, and the one function that opens any data set by its name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Floats, as_matrix
from isomix.benchmark.datasets.base import DATASETS, Captions, Pictures
from isomix.benchmark.samples import Samples, Vectors, warn_duplicates
from isomix.errors import FileFormatError, InputError, IsomixWarning
from isomix.store.formats.npy import load_npz

if TYPE_CHECKING:
    from isomix.store.table import EmbeddingTable

__all__ = ["SCHEMES", "open_dataset", "read_arrays", "read_pictures", "read_table"]

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SPLIT_NAMES |= {"query": "query", "gallery": "gallery"}
SCHEMES = {
    "folder": "a folder of one folder a class; or of train/, val/, test/ (query/, gallery/) with a folder a class each",
    "csv": "a CSV file with the columns path and label, and split if wanted",
    "table": "an embedding table with labels",
    "arrays": "an .npz file with embeddings and labels, and split, features, text, class_names if wanted; or with "
    "<split> and <split>_labels for some of train, val, test, query, gallery",
}


def open_dataset(spec: str, root: str | os.PathLike[str] = ".") -> Pictures | Captions | Samples:
    """Open a data set.

    Parameters
    ----------
    spec : str
        A name of ``DATASETS``, or ``folder:PATH``, ``csv:PATH``, ``table:PATH``, ``arrays:PATH``.
    root : path-like
        Folder of the published data sets.

    Returns
    -------
    Pictures, Captions or Samples
        The last for data that comes with its embeddings.

    Raises
    ------
    InputError
        Unknown, missing or incomplete; the message says what is expected where.
    """
    if spec in DATASETS:
        return DATASETS[spec].load(root)
    scheme, _, path = spec.partition(":")
    if scheme in ("folder", "csv") and path:
        return read_pictures(spec, path, from_folder=scheme == "folder")
    if scheme == "table" and path:
        return read_table(spec, path)
    if scheme == "arrays" and path:
        return read_arrays(spec, path)
    own = "; ".join(f"{name}:PATH, {what}" for name, what in SCHEMES.items())
    raise InputError(f"{spec!r} is no data set. Expected one of {', '.join(DATASETS)}, or one's own: {own}.")


def retrieval_splits(splits: NDArray[np.str_]) -> tuple[str, str]:
    """Query and gallery split; both empty for all against all."""
    present = set(splits.tolist())
    for pair in (("query", "gallery"), ("test", "train")):
        if set(pair) <= present:
            return pair
    return "", ""


def read_pictures(name: str, path: str, *, from_folder: bool) -> Pictures:
    """Pictures with labels from folders or a CSV file.

    Raises
    ------
    InputError
        A picture without a label, or fewer than two classes.
    """
    from isomix.store.scan import scan

    found = scan(path)
    if from_folder != Path(path).is_dir():
        raise InputError(f"{name}: expected {SCHEMES['folder' if from_folder else 'csv']}.")
    paths = [file.path for file in found.files]
    if from_folder:
        parts = [p.split("/") for p in paths]
        split = all(len(p) > 2 and p[0] in SPLIT_NAMES for p in parts)
        splits = [SPLIT_NAMES[p[0]] if split else "" for p in parts]
        labels = [(p[1] if split else p[0]) if len(p) > 1 else None for p in parts]
    else:
        splits = [_split_name(name, file.annotations.get("split")) for file in found.files]
        labels = [file.annotations.get("label") for file in found.files]
    classes, numbers = _number(name, labels, paths)
    missing = [file.path for file in found.files if file.size is None]
    if missing:
        raise InputError(f"{name}: {len(missing)} of {len(paths)} pictures are missing, e.g. {', '.join(missing[:5])}.")
    if found.duplicates:
        warnings.warn(
            f"{name}: {len(found.duplicates)} paths are listed more than once and count once, "
            f"e.g. {found.duplicates[0]}.",
            IsomixWarning,
            stacklevel=2,
        )
    as_array = np.array(splits)
    query, gallery = retrieval_splits(as_array)
    return Pictures(name, found.root, tuple(paths), numbers, as_array, _spoken(classes), (), query, gallery, own=True)


def _spoken(classes: Sequence[str]) -> tuple[str, ...]:
    from isomix.encoders.prompts import class_name

    return tuple(class_name(label) for label in classes)


def _split_name(name: str, split: str | None) -> str:
    if split in (None, ""):
        return ""
    if split not in SPLIT_NAMES:
        raise InputError(f"{name}: the split {split!r} is unknown; expected one of {', '.join(SPLIT_NAMES)}.")
    return SPLIT_NAMES[str(split)]


def _number(name: str, labels: Sequence[Any], rows: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
    without = [row for row, label in zip(rows, labels) if label in (None, "")]
    if without:
        raise InputError(f"{name}: {len(without)} pictures without a label, e.g. {without[0]}.")
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise InputError(
            f"{name}: all {len(rows)} pictures are of the class {classes[0]!r}; with one class every answer is right. "
            f"Expected {SCHEMES['folder']}."
        )
    numbers = {label: i for i, label in enumerate(classes)}
    return classes, np.array([numbers[label] for label in labels], np.intp)


def read_table(name: str, path: str) -> Samples:
    """A table of embeddings with labels; its model is needed for texts and projectors only."""
    from isomix.store.table import EmbeddingTable, check_is_plain

    table = EmbeddingTable.open(path)
    check_is_plain(table)
    rows = table.rows(columns=["path", "label", "split"])
    if not rows:
        raise InputError(f"{name}: the table is empty.")
    classes, labels = _number(name, [row["label"] for row in rows], [row["path"] for row in rows])
    splits = np.array([_split_name(name, row["split"]) for row in rows])
    query, gallery = retrieval_splits(splits)
    samples = Samples(
        name,
        Vectors(_column(table, "embedding"), _column(table, "feature") if "feature" in table.columns else None),
        labels,
        splits,
        _spoken(classes),
        query,
        gallery,
        files=tuple(table.root / row["path"] for row in rows),
        notes={"model": table.metadata.model, "projectors": table.metadata.projectors},
    )
    warn_duplicates(samples)
    return samples


def _column(table: EmbeddingTable, name: str) -> Floats:
    return as_matrix(np.concatenate(list(table.iter_embeddings(name))), f"{table.path}, {name}", nonzero_rows=True)


def read_arrays(name: str, path: str) -> Samples:
    """Embeddings, labels and what else an ``.npz`` file holds; see ``SCHEMES``.

    Raises
    ------
    InputError
        A missing array, or arrays that do not fit together; pickled arrays are refused.
    """
    try:
        arrays = load_npz(Path(path))
    except FileFormatError as error:
        raise InputError(f"{name}: {error} Expected {SCHEMES['arrays']}.") from error
    parts = [split for split in dict.fromkeys(SPLIT_NAMES.values()) if split in arrays]
    if "embeddings" in arrays:
        embeddings, labels = arrays["embeddings"], _labels_of(name, arrays, "labels")
        splits = np.array([_split_name(name, str(s)) for s in arrays.get("split", np.full(len(labels), ""))])
        features = arrays.get("features")
    elif parts:
        embeddings = np.concatenate([arrays[part] for part in parts])
        labels = np.concatenate([_labels_of(name, arrays, f"{part}_labels") for part in parts])
        splits = np.repeat(parts, [len(arrays[part]) for part in parts])
        held = [part for part in parts if f"{part}_features" in arrays]
        features = np.concatenate([arrays[f"{part}_features"] for part in parts]) if held == parts else None
    else:
        raise InputError(f"{name}: {path} holds {', '.join(arrays) or 'nothing'}. Expected {SCHEMES['arrays']}.")
    matrix = as_matrix(embeddings, f"{name}, embeddings", nonzero_rows=True, min_rows=2)
    sizes = {"labels": len(labels), "split": len(splits)} | ({} if features is None else {"features": len(features)})
    wrong = {what: size for what, size in sizes.items() if size != len(matrix)}
    if wrong:
        raise InputError(f"{name}: {len(matrix)} embeddings, but {wrong}; expected one entry for every embedding.")
    class_names, numbers = _names(name, labels, arrays.get("class_names"))
    text = arrays.get("text")
    if text is not None:
        text = text[:, None] if text.ndim == 2 else text
        if text.ndim != 3 or len(text) != len(class_names) or text.shape[2] != matrix.shape[1]:
            raise InputError(
                f"{name}: text has the shape {arrays['text'].shape}, expected "
                f"({len(class_names)}, {matrix.shape[1]}) or ({len(class_names)}, prompts, {matrix.shape[1]}), "
                "a row for each class."
            )
        as_matrix(text.reshape(-1, text.shape[2]), f"{name}, text", nonzero_rows=True)
        text = text.astype(matrix.dtype)
    if features is not None:
        features = as_matrix(features, f"{name}, features", nonzero_rows=True)
    query, gallery = retrieval_splits(splits)
    samples = Samples(name, Vectors(matrix, features), numbers, splits, class_names, query, gallery, text=text)
    warn_duplicates(samples)
    return samples


def _labels_of(name: str, arrays: dict[str, NDArray[Any]], key: str) -> NDArray[Any]:
    labels = arrays.get(key)
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iuUS":
        found = "nothing" if labels is None else f"{labels.dtype} of shape {labels.shape}"
        raise InputError(f"{name}: {key}: got {found}, expected a list of class numbers or names.")
    return labels


def _names(name: str, labels: NDArray[Any], listed: NDArray[Any] | None) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Class names and the number of every label; numbers count into ``listed`` where there is one."""
    if labels.dtype.kind in "iu" and listed is not None:
        names = tuple(str(n) for n in listed)
        if labels.min() < 0 or labels.max() >= len(names):
            raise InputError(f"{name}: labels from {labels.min()} to {labels.max()}, but {len(names)} class_names.")
        numbers = labels.astype(np.intp)
    else:
        known = np.unique(labels if listed is None else listed.astype(str))
        outside = np.setdiff1d(labels.astype(known.dtype), known)
        if outside.size or (listed is not None and listed.tolist() != known.tolist()):
            raise InputError(
                f"{name}: class_names must be the sorted names of all labels; {outside[:5].tolist()} are not."
            )
        names = tuple(str(n) for n in known)
        numbers = np.searchsorted(known, labels.astype(known.dtype)).astype(np.intp)
    empty = np.setdiff1d(np.arange(len(names)), numbers)
    if empty.size:
        warnings.warn(
            f"{name}: {empty.size} of {len(names)} classes have no picture, e.g. {names[empty[0]]!r}.",
            IsomixWarning,
            stacklevel=3,
        )
    if len(np.unique(numbers)) < 2:
        raise InputError(f"{name}: all labels are the same; with one class every answer is right.")
    return names, numbers
