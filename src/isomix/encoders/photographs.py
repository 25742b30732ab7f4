"""Whether pictures are photographs, which the embedded model does not know."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from isomix.encoders.images import read_image
from isomix.errors import ImageError

__all__ = ["is_photograph", "mostly_photographs"]

SIDE = 200
"""Pixels of the shorter side, below which a picture is an icon."""
CHROMA = 5.0
"""Mean difference of the largest and the smallest channel, below which it is a scan or a drawing in grey."""
FLATNESS = 0.5
"""Share of neighbours of exactly one colour, above which it is drawn: under 0.25 in photographs, which have noise, over 0.7
in the bundled icons and emoji, enlarged too (``tests/encoders/test_photographs.py``)."""


def is_photograph(path: str | os.PathLike[str]) -> bool:
    """Whether a picture is large, coloured and nowhere flat.

    Raises
    ------
    ImageError
        It cannot be read.
    """
    pixels = np.asarray(read_image(path), np.int16)
    if min(pixels.shape[:2]) < SIDE:
        return False
    chroma = float(np.mean(pixels.max(axis=2) - pixels.min(axis=2)))
    flatness = float(np.mean((pixels[:, 1:] == pixels[:, :-1]).all(axis=2)))
    return chroma > CHROMA and flatness < FLATNESS


def mostly_photographs(paths: Iterable[str | os.PathLike[str]]) -> bool:
    """Whether more than half of the pictures that can be read are photographs; False of none."""
    votes = []
    for path in paths:
        try:
            votes.append(is_photograph(path))
        except ImageError:
            continue
    return sum(votes) > len(votes) / 2
