"""Sets for instance and fine-grained retrieval: CUB, Places365, iNaturalist, and revisited Oxford and Paris."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from isomix.benchmark.datasets.base import A_PHOTO, Dataset, Pictures, read_text
from isomix.errors import FileFormatError, InputError

__all__ = ["CUB", "INaturalist", "Places365", "RevisitedLandmarks", "read_ground_truth"]

# What a pickle of lists, dictionaries, numbers and arrays needs; nothing among them runs code of the file's choice.
HARMLESS = {
    (module, name)
    for core in ("numpy.core.multiarray", "numpy._core.multiarray")
    for module, name in ((core, "_reconstruct"), (core, "scalar"), ("numpy", "ndarray"), ("numpy", "dtype"))
} | {("_codecs", "encode")}
NDARRAY = "numpy.ndarray"
"""Stands for the class, which would make arrays of any size."""


@dataclass(frozen=True)
class CUB(Dataset):
    """CUB-200-2011: retrieval of all pictures among all, and its own train and test split for classification."""

    def read(self, folder: Path) -> Pictures:
        """Read the four lists, which share their picture numbers."""
        names = _numbered(folder / "classes.txt")
        files = _numbered(folder / "images.txt")
        classes = _numbered(folder / "image_class_labels.txt")
        in_train = _numbered(folder / "train_test_split.txt")
        order = sorted(files, key=int)
        shown = tuple(names[i].partition(".")[2].replace("_", " ") for i in sorted(names, key=int))
        labels = np.array([int(classes[i]) - 1 for i in order], np.intp)
        splits = np.array(["train" if in_train[i] == "1" else "test" for i in order])
        return Pictures(self.name, folder / "images", tuple(files[i] for i in order), labels, splits, shown, A_PHOTO)


@dataclass(frozen=True)
class Places365(Dataset):
    """The validation pictures of Places365, all against all."""

    tasks: ClassVar[tuple[str, ...]] = ("retrieval", "zeroshot")

    def read(self, folder: Path) -> Pictures:
        """Read the list of categories and the list of validation pictures."""
        categories = [line.rsplit(" ", 1) for line in read_text(folder / "categories_places365.txt")]
        names = {int(number): path.split("/", 2)[2].replace("/", " ").replace("_", " ") for path, number in categories}
        rows = [line.rsplit(" ", 1) for line in read_text(folder / "places365_val.txt")]
        root = next(
            (folder / name for name in ("val_256", "val_large") if (folder / name).is_dir()), folder / "val_256"
        )
        labels = np.array([int(label) for _, label in rows], np.intp)
        shown = tuple(names[i] for i in range(len(names)))
        return Pictures(self.name, root, tuple(path for path, _ in rows), labels, _all("val", rows), shown, A_PHOTO)


@dataclass(frozen=True)
class INaturalist(Dataset):
    """iNaturalist 2021 ``train_mini``: a folder a species, all against all."""

    tasks: ClassVar[tuple[str, ...]] = ("retrieval", "zeroshot")

    def read(self, folder: Path) -> Pictures:
        """List the folders of the species, ``00000_Animalia_…_Genus_species``."""
        root = folder / "train_mini"
        species = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        found = [
            (i, f"{name}/{file.name}") for i, name in enumerate(species) for file in sorted((root / name).iterdir())
        ]
        shown = tuple(" ".join(name.split("_")[-2:]) for name in species)
        labels = np.array([i for i, _ in found], np.intp)
        return Pictures(self.name, root, tuple(path for _, path in found), labels, _all("train", found), shown, A_PHOTO)


@dataclass(frozen=True)
class RevisitedLandmarks(Dataset):
    """Revisited Oxford or Paris (Radenović et al., CVPR 2018): queries cut to their box; easy, hard and junk rows."""

    tasks: ClassVar[tuple[str, ...]] = ("retrieval",)

    def read(self, folder: Path) -> Pictures:
        """Read ``gnd_<name>.json`` or ``.pkl``."""
        truth = read_ground_truth(folder, f"gnd_{self.name}")
        queries, database = list(truth["qimlist"]), list(truth["imlist"])
        entries = [
            {group: np.asarray(entry[group], np.int64).ravel() for group in ("easy", "hard", "junk")}
            for entry in truth["gnd"]
        ]
        outside = [i for i, entry in enumerate(entries) for rows in entry.values() if (rows >= len(database)).any()]
        if len(entries) != len(queries) or outside:
            raise InputError(
                f"{self.name}: the ground truth in {folder} names {len(queries)} queries, has {len(entries)} entries, "
                f"and {len(outside)} lists point outside the {len(database)} database pictures."
            )
        boxes = {i: tuple(float(v) for v in np.ravel(entry["bbx"])) for i, entry in enumerate(truth["gnd"])}
        splits = np.array(["query"] * len(queries) + ["gallery"] * len(database))
        labels = np.full(len(splits), -1, np.intp)
        paths = tuple(f"{name}.jpg" for name in (*queries, *database))
        return Pictures(
            self.name, folder / "jpg", paths, labels, splits, (), A_PHOTO, "query", "gallery", boxes, tuple(entries)
        )


class _HarmlessUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        if name == "_reconstruct":
            return _empty_array
        return NDARRAY if name == "ndarray" else super().find_class(module, name)


def _empty_array(kind: Any, shape: Any, dtype: Any) -> NDArray[Any]:
    """What numpy makes before the values come, and nothing larger."""
    if (kind, shape) != (NDARRAY, (0,)):
        raise pickle.UnpicklingError(f"it asks for an array of the shape {shape!r} without values")
    return np.empty(0, np.int8)


def _unpickle(content: bytes) -> Any:
    """Lists, dictionaries, numbers and arrays; memory is asked for only where the bytes for it are there."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it numbers an object {argument}")
    return _HarmlessUnpickler(io.BytesIO(content), encoding="latin1").load()


def read_ground_truth(folder: Path, stem: str) -> dict[str, Any]:
    """The dictionary imlist, qimlist, gnd of a revisited set, from ``<stem>.json`` if it is there, else ``<stem>.pkl``.

    The pickle is read without running anything in it: lists, dictionaries, numbers and numpy arrays, no other object. A
    JSON file holds the same dictionary with lists in the place of arrays.

    Raises
    ------
    FileFormatError
        A pickle that asks for anything else, or no dictionary of the three.
    """
    path = folder / f"{stem}.json"
    if path.is_file():
        truth = json.loads(path.read_text(encoding="utf-8"))
    else:
        path = folder / f"{stem}.pkl"
        content = path.read_bytes()
        try:
            truth = _unpickle(content)
        except Exception as error:
            raise FileFormatError(
                f"{path} is refused: a pickle may hold lists, dictionaries, numbers and numpy arrays only "
                f"({error}). Convert it to {stem}.json, the same dictionary with lists in the place of arrays."
            ) from error
    if not isinstance(truth, dict) or not {"imlist", "qimlist", "gnd"} <= set(truth):
        raise FileFormatError(f"{path}: expected a dictionary of imlist, qimlist and gnd.")
    return truth


def _numbered(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in read_text(path))


def _all(split: str, rows: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.str_]]:
    return np.full(len(rows), split)


SETS: tuple[Dataset, ...] = (
    CUB(
        "cub2011",
        "CUB_200_2011",
        {"train": 5994, "test": 5794, "classes": 200},
        ("images/", "images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt"),
    ),
    RevisitedLandmarks(
        "roxford5k", "roxford5k", {"query": 70, "gallery": 4993}, ("jpg/", "gnd_roxford5k.pkl or gnd_roxford5k.json")
    ),
    RevisitedLandmarks(
        "rparis6k", "rparis6k", {"query": 70, "gallery": 6322}, ("jpg/", "gnd_rparis6k.pkl or gnd_rparis6k.json")
    ),
    Places365(
        "places365",
        "places365",
        {"val": 36500, "classes": 365},
        ("val_256/ or val_large/", "places365_val.txt", "categories_places365.txt"),
    ),
    INaturalist(
        "inaturalist2021", "inaturalist2021", {"train": 500000, "classes": 10000}, ("train_mini/<species>/*.jpg",)
    ),
)
