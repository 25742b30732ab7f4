"""Sets of captions for text-to-text retrieval: Flickr30k, COCO and nocaps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from isomix.benchmark.datasets.base import Captions, Dataset

__all__ = ["KarpathyCaptions", "NocapsCaptions"]


@dataclass(frozen=True)
class KarpathyCaptions(Dataset):
    """Captions in Karpathy's JSON: {"images": [{"split": …, "sentences": [{"raw": …}, …]}, …]}."""

    file: str = ""
    split: str = ""
    tasks: ClassVar[tuple[str, ...]] = ("retrieval",)

    def read(self, folder: Path) -> Captions:
        """Read the sentences of one split."""
        content = json.loads((folder / self.file).read_text(encoding="utf-8"))
        chosen = [image for image in content["images"] if image["split"] == self.split]
        return _captions(self.name, ([s["raw"] for s in image["sentences"]] for image in chosen))


@dataclass(frozen=True)
class NocapsCaptions(Dataset):
    """Captions in COCO's annotation format."""

    file: str = ""
    tasks: ClassVar[tuple[str, ...]] = ("retrieval",)

    def read(self, folder: Path) -> Captions:
        """Read the annotations, grouped by picture."""
        content = json.loads((folder / self.file).read_text(encoding="utf-8"))
        by_image: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation["caption"])
        return _captions(self.name, by_image.values())


def _captions(name: str, groups: Iterable[list[str]]) -> Captions:
    lists = list(groups)
    images = np.repeat(np.arange(len(lists)), [len(sentences) for sentences in lists])
    return Captions(name, tuple(s.strip() for sentences in lists for s in sentences), images)


SETS: tuple[Dataset, ...] = (
    KarpathyCaptions(
        "flickr30k",
        "flickr30k",
        {"captions": 5070, "images": 1014},
        ("dataset_flickr30k.json (Karpathy's splits)",),
        "dataset_flickr30k.json",
        "val",
    ),
    KarpathyCaptions(
        "coco",
        "coco",
        {"captions": 25010, "images": 5000},
        ("dataset_coco.json (Karpathy's splits)",),
        "dataset_coco.json",
        "test",
    ),
    NocapsCaptions(
        "nocaps",
        "nocaps",
        {"captions": 45000, "images": 4500},
        ("nocaps_val_4500_captions.json",),
        "nocaps_val_4500_captions.json",
    ),
)
