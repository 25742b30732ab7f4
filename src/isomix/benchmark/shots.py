"""Which items are the shots: CoOp's sampler, reproduced item by item.

Zhou et al., *Learning to Prompt for Vision-Language Models* (IJCV 2022), draw K training and min(K, 4) validation items a class with
Python's ``random`` after ``random.seed(seed)``. Published results are only comparable on the same items.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import check_integer
from isomix.errors import InputError

__all__ = ["draw_few_shot", "draw_shots", "few_shot_split"]

Rows = NDArray[np.intp]


def draw_few_shot(labels: Sequence[Hashable], n_shots: int, generator: random.Random) -> list[int]:
    """Positions of ``n_shots`` items of every label, grouped by label in order of first appearance.

    A label with fewer items is drawn from with replacement.

    Parameters
    ----------
    labels : sequence of length n
    n_shots : int
    generator : random.Random
        Its state advances.

    Examples
    --------
    >>> draw_few_shot(["b", "a", "b", "a", "b"], 2, random.Random(1))
    [0, 4, 3, 1]
    """
    groups: dict[Hashable, list[int]] = {}
    for position, label in enumerate(labels):
        groups.setdefault(label, []).append(position)
    drawn: list[int] = []
    for items in groups.values():
        enough = len(items) >= n_shots
        drawn += generator.sample(items, n_shots) if enough else generator.choices(items, k=n_shots)
    return drawn


def few_shot_split(
    train_labels: Sequence[Hashable], validation_labels: Sequence[Hashable], n_shots: int, seed: int
) -> tuple[list[int], list[int]]:
    """Training and validation items of one of CoOp's few-shot splits.

    Parameters
    ----------
    train_labels, validation_labels : sequence
        Labels in the order of the split file.
    n_shots : int
        K shots a class; min(K, 4) for validation.
    seed : int
        CoOp's tables are means over seeds 1, 2 and 3.

    Returns
    -------
    train, validation : list of int
        Positions in the two sequences.

    Raises
    ------
    InputError
        ``n_shots`` below 1, or no labels.
    """
    check_integer(n_shots, "n_shots", minimum=1)
    check_integer(seed, "seed")
    if not len(train_labels):
        raise InputError("train_labels: got none, expected the label of every training item.")
    generator = random.Random(seed)
    train = draw_few_shot(train_labels, n_shots, generator)
    return train, draw_few_shot(validation_labels, min(n_shots, 4), generator)


def draw_shots(labels: Rows, splits: NDArray[np.str_], n_shots: int, seed: int) -> tuple[Rows, Rows]:
    """Rows of CoOp's shots and of its validation shots (empty without a ``val`` split)."""
    train, val = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "val")
    if not train.size:
        raise InputError("few-shot classification draws its shots from a split 'train', and there is none.")
    shots, held_out = few_shot_split(labels[train].tolist(), labels[val].tolist(), n_shots, seed)
    return train[np.array(shots, np.intp)], val[np.array(held_out, np.intp)]
