"""CoOp's sampler against published index files, and its rules."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from isomix.benchmark.shots import draw_few_shot, few_shot_split
from isomix.errors import InputError

SPLITS = {"caltech101": "split_zhou_Caltech101.json", "dtd": "split_zhou_DescribableTextures.json"}


@pytest.mark.parametrize("dataset", SPLITS)
@pytest.mark.parametrize("n_shots", [1, 4, 16])
@pytest.mark.parametrize("seed", [1, 2])
def test_reproduces_the_published_indices(shared_data: Path, dataset: str, n_shots: int, seed: int) -> None:
    split = json.loads((shared_data / "splits" / SPLITS[dataset]).read_text())
    published = json.loads((shared_data / "indices" / f"{dataset}_shot_{n_shots}-seed_{seed}.json").read_text())
    parts = few_shot_split([i[1] for i in split["train"]], [i[1] for i in split["val"]], n_shots, seed)
    for part, positions in zip(("train", "val"), parts, strict=True):
        items = published[part]["data"] if isinstance(published[part], dict) else published[part]
        assert [split[part][p][1] for p in positions] == [item["label"] for item in items]
        assert all(item["impath"].endswith(split[part][p][0]) for p, item in zip(positions, items, strict=True))


def test_a_short_class_is_drawn_with_replacement() -> None:
    drawn = draw_few_shot(["a", "b", "b", "b"], 3, random.Random(0))
    assert drawn[:3] == [0, 0, 0]
    assert sorted(drawn[3:]) == [1, 2, 3]


def test_validation_draws_at_most_four() -> None:
    train, validation = few_shot_split(["a"] * 20, ["a"] * 20, 16, 3)
    assert (len(train), len(validation)) == (16, 4)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="n_shots"):
        few_shot_split(["a"], ["a"], 0, 1)
    with pytest.raises(InputError, match="train_labels"):
        few_shot_split([], [], 1, 1)
