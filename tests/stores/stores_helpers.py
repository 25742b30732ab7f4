"""Vectors of the tests, and the command line in a process of its own."""

from __future__ import annotations

import sys

import numpy as np

WIDTH = 32


def text(vector: np.ndarray) -> str:
    return f"[{','.join(f'{value:.9g}' for value in vector)}]"


def unit(rows: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def command(*words: object) -> list[str]:
    """The command line in a process of its own."""
    return [sys.executable, "-m", "isomix", *map(str, words)]
