"""The eleven sets of the few-shot literature, in CoOp's folders with its split files (Zhou et al., IJCV 2022)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isomix.benchmark.datasets.base import A_PHOTO, Dataset, Pictures, read_text
from isomix.errors import InputError

__all__ = ["Aircraft", "CoOpSplit", "ImageNet"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class CoOpSplit(Dataset):
    """A set with a ``split_zhou_*.json``: {"train": [[path, label, class name], …], "val": …, "test": …}.

    Attributes
    ----------
    split_file, images : str
        Names in the folder of the set.
    templates : tuple of str
    edits : mapping of str to str
        Class names that are read out differently.
    """

    split_file: str = ""
    images: str = ""
    templates: tuple[str, ...] = A_PHOTO
    edits: Mapping[str, str] = field(default_factory=dict)

    def read(self, folder: Path) -> Pictures:
        """Read the split file."""
        content = json.loads((folder / self.split_file).read_text(encoding="utf-8"))
        names: dict[int, str] = {}
        paths: list[str] = []
        labels: list[int] = []
        splits: list[str] = []
        for split in SPLITS:
            for path, label, name in content[split]:
                if names.setdefault(label, name) != name:
                    raise InputError(
                        f"{self.name}: the label {label} is {names[label]!r} and {name!r} "
                        f"in {folder / self.split_file}."
                    )
                paths.append(path)
                labels.append(label)
                splits.append(split)
        if sorted(names) != list(range(len(names))):
            raise InputError(f"{self.name}: the labels in {folder / self.split_file} do not run from 0 without gaps.")
        shown = tuple(self.edits.get(names[i], names[i]).replace("_", " ") for i in range(len(names)))
        return _pictures(self.name, folder / self.images, paths, labels, splits, shown, self.templates)


@dataclass(frozen=True)
class Aircraft(Dataset):
    """FGVC Aircraft with its own lists of variants."""

    def read(self, folder: Path) -> Pictures:
        """Read ``variants.txt`` and the three lists."""
        classes = read_text(folder / "variants.txt")
        paths: list[str] = []
        labels: list[int] = []
        splits: list[str] = []
        for split in SPLITS:
            for line in read_text(folder / f"images_variant_{split}.txt"):
                number, _, variant = line.partition(" ")
                paths.append(f"{number}.jpg")
                labels.append(classes.index(variant))
                splits.append(split)
        template = ("a photo of a {}, a type of aircraft.",)
        return _pictures(self.name, folder / "images", paths, labels, splits, tuple(classes), template)


@dataclass(frozen=True)
class ImageNet(Dataset):
    """ImageNet as ``images/train`` and ``images/val`` with a folder a class; the latter is the test set."""

    def read(self, folder: Path) -> Pictures:
        """List the folders in the order of ``classnames.txt``; the pictures of a folder are sorted by name."""
        names = dict(line.strip().split(" ", 1) for line in read_text(folder / "classnames.txt"))
        paths: list[str] = []
        labels: list[int] = []
        splits: list[str] = []
        for split, place in (("train", "train"), ("test", "val")):
            for label, synset in enumerate(sorted(names)):
                found = sorted(entry.name for entry in (folder / "images" / place / synset).iterdir())
                paths += [f"{place}/{synset}/{name}" for name in found]
                labels += [label] * len(found)
                splits += [split] * len(found)
        shown = tuple(names[synset] for synset in sorted(names))
        return _pictures(self.name, folder / "images", paths, labels, splits, shown, A_PHOTO)


def _pictures(
    name: str,
    root: Path,
    paths: list[str],
    labels: list[int],
    splits: list[str],
    class_names: tuple[str, ...],
    templates: tuple[str, ...],
) -> Pictures:
    return Pictures(
        name, root, tuple(paths), np.array(labels, np.intp), np.array(splits), class_names, templates, "test", "train"
    )


def _expected(train: int, val: int, test: int, classes: int) -> dict[str, int]:
    return {"train": train, "val": val, "test": test, "classes": classes}


def _split(
    name: str,
    folder: str,
    title: str,
    images: str,
    counts: tuple[int, int, int, int],
    template: str = A_PHOTO[0],
    edits: Mapping[str, str] | None = None,
) -> CoOpSplit:
    split_file = f"split_zhou_{title}.json"
    layout = (split_file, f"{images}/" if images else "the pictures under the paths of the split file")
    return CoOpSplit(name, folder, _expected(*counts), layout, split_file, images, (template,), edits or {})


EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}
CALTECH_NAMES = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}

SETS: tuple[Dataset, ...] = (
    _split(
        "caltech101",
        "caltech-101",
        "Caltech101",
        "101_ObjectCategories",
        (4128, 1649, 2465, 100),
        edits=CALTECH_NAMES,
    ),
    _split("stanford_cars", "stanford_cars", "StanfordCars", "", (6509, 1635, 8041, 196)),
    _split(
        "oxford_pets",
        "oxford_pets",
        "OxfordPets",
        "images",
        (2944, 736, 3669, 37),
        "a photo of a {}, a type of pet.",
    ),
    _split(
        "oxford_flowers",
        "oxford_flowers",
        "OxfordFlowers",
        "jpg",
        (4093, 1633, 2463, 102),
        "a photo of a {}, a type of flower.",
    ),
    Aircraft(
        "fgvc_aircraft",
        "fgvc_aircraft",
        _expected(3334, 3333, 3333, 100),
        ("images/", "variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt"),
    ),
    _split("dtd", "dtd", "DescribableTextures", "images", (2820, 1128, 1692, 47), "{} texture."),
    _split(
        "eurosat",
        "eurosat",
        "EuroSAT",
        "2750",
        (13500, 5400, 8100, 10),
        "a centered satellite photo of {}.",
        EUROSAT_NAMES,
    ),
    _split(
        "food101",
        "food-101",
        "Food101",
        "images",
        (50500, 20200, 30300, 101),
        "a photo of {}, a type of food.",
    ),
    _split("sun397", "sun397", "SUN397", "SUN397", (15880, 3970, 19850, 397)),
    _split(
        "ucf101",
        "ucf101",
        "UCF101",
        "UCF-101-midframes",
        (7639, 1898, 3783, 101),
        "a photo of a person doing {}.",
    ),
    ImageNet(
        "imagenet",
        "imagenet",
        {"train": 1281167, "test": 50000, "classes": 1000},
        ("classnames.txt", "images/train/<synset>/", "images/val/<synset>/"),
    ),
)
