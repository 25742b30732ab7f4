"""Files that are whole or not there: written under another name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pixels", "atomic", "write_array", "write_text"]

Pixels = NDArray[np.uint8]


def atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write a file, so that an interruption leaves no half of it, and two processes do not mix theirs."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a ``.npy`` file, whole or not at all."""

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array)

    atomic(path, save)
