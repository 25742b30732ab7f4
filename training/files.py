"""Texts and arrays that are whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._files import writing

__all__ = ["write_array", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a ``.npy`` file, whole or not at all."""
    with writing(path) as part:
        np.save(part, array)
