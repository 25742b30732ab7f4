"""What a search of a table gets and gives: queries, hits, answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "Hit", "Query", "Vector"]

Vector = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Query:
    """One query, with its plain embedding: the model's own.

    Attributes
    ----------
    name : str
        As it was given.
    kind : {"image", "text", "row", "vector", "sum"}
    vector : ndarray, shape (d,)
    file : pathlib.Path or None
        The picture, where there is one.
    row : dict
        The query's own row in the table (``id``, ``path``, ``label``); empty when it has none.
    """

    name: str
    kind: Literal["image", "text", "row", "vector", "sum"]
    vector: Vector
    file: Path | None = None
    row: dict[str, Any] = field(default_factory=dict)


class Hit(NamedTuple):
    """One row found: its cosine, its row number, its columns, and the file on this machine."""

    score: float
    number: int
    row: dict[str, Any]
    file: Path


@dataclass(frozen=True)
class Answer:
    """What one query found.

    Attributes
    ----------
    query : Query
    space : str
        ``"plain"``, ``"isoclip"``, ``"text-pca"``, ``"nested-text-pca"``, or the method of the space kept beside the table.
    note : str
        The band or width of the space, or why an image query stayed in the plain one; and whether rows are smoothed.
    hits : list of Hit
        Best first.
    """

    query: Query
    space: str
    note: str
    hits: list[Hit]
