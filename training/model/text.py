"""Captions as tokens: every distinct text once, and which texts belong to which picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

import isomix
from isomix.errors import InputError

__all__ = ["TOKENIZER", "Captions", "tokenize"]

TOKENIZER = Path(isomix.__file__).with_name("encoders") / "weights" / "tokenizer.json"


def tokenize(texts: Sequence[str]) -> NDArray[np.int16]:
    """Word pieces of the embedded model's tokenizer, shape (n, 16), padded with 0."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    rows = [tokenizer.encode_batch(list(texts[start : start + 8192])) for start in range(0, len(texts), 8192)]
    return np.array([encoding.ids for batch in rows for encoding in batch], np.int16).reshape(len(texts), -1)


@dataclass(frozen=True)
class Captions:
    """The texts of a list of pictures.

    Attributes
    ----------
    texts : list of str
        Distinct captions, in the order of their first use.
    tokens : ndarray of int16, shape (n_texts, 16)
    ids : ndarray of int32
        Texts of all pictures, one picture's behind the other's; the label first.
    starts : ndarray of int64, shape (n_pictures + 1,)
    """

    texts: list[str]
    tokens: NDArray[np.int16]
    ids: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, captions: Iterable[Sequence[str]]) -> Captions:
        """Collect the captions of every picture.

        Raises
        ------
        InputError
            A picture without any.
        """
        index: dict[str, int] = {}
        ids: list[int] = []
        starts = [0]
        for row, texts in enumerate(captions):
            if not len(texts):
                raise InputError(f"picture {row} has no caption; every training picture needs its label at least.")
            ids.extend(index.setdefault(text, len(index)) for text in texts)
            starts.append(len(ids))
        return cls(list(index), tokenize(list(index)), np.array(ids, np.int32), np.array(starts, np.int64))

    def labels(self, rows: NDArray[Any]) -> NDArray[np.int32]:
        """The first text of each picture."""
        return self.ids[self.starts[rows]]

    def draw(self, rows: NDArray[Any], label: float, rng: np.random.Generator) -> NDArray[np.int32]:
        """One text a picture: its label with probability ``label``, else any of the others."""
        starts = self.starts[rows]
        others = self.starts[rows + 1] - starts - 1
        offset = 1 + np.floor(rng.random(len(rows)) * others).astype(np.int64)
        use_label = (rng.random(len(rows)) < label) | (others == 0)
        return self.ids[starts + np.where(use_label, 0, offset)]
