"""The tour's contact sheet: the same queries among plain embeddings and in a smoothed gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isomix.demo.groups import Group
from isomix.demo.measure import Vectors
from isomix.neighbors import Smoothing
from isomix.plotting.sheets import Row, Tile, contact_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ISOCLIP", "PLAIN", "TEXT_PCA", "Pictures", "neighbour_sheet"]

PLAIN, ISOCLIP, TEXT_PCA = "plain", "IsoCLIP", "Text PCA"
QUERIES, HITS = 6, 8


@dataclass(frozen=True)
class Pictures:
    """One group after embedding, rows as in its table.

    Attributes
    ----------
    group : Group
    paths : list of pathlib.Path
    labels : ndarray of str, shape (n,), or None
        Class names, where every picture has one.
    spaces : dict of str to ndarray, shape (n, any)
        Vectors by method; ``PLAIN`` first, and the names of adapted spaces begin with ``ISOCLIP`` or ``TEXT_PCA``.
    """

    group: Group
    paths: list[Path]
    labels: NDArray[np.str_] | None
    spaces: dict[str, Vectors]

    @property
    def best_space(self) -> str:
        """The space that is smoothed, beside the plain one: that of a bank, the best on a real CLIP (docs/gallery.md)."""
        return next(name for name in self.spaces if name.startswith(TEXT_PCA))


def neighbour_sheet(embedded: Sequence[Pictures], model: str, seed: int) -> Image:
    """Draw the nearest neighbours of queries that were drawn at random, not picked.

    Parameters
    ----------
    embedded : sequence of Pictures
        The queries are shared out among them.
    model : str
        For the line at the bottom.
    seed : int
        Of the queries.
    """
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for pictures in embedded:
        wanted = min(QUERIES // len(embedded), len(pictures.paths))
        queries = np.sort(rng.choice(len(pictures.paths), wanted, replace=False))
        smoothed = Smoothing().fit(pictures.spaces[pictures.best_space])
        plain = pictures.spaces[PLAIN]
        cosines = plain[queries] @ plain.T
        cosines[np.arange(wanted), queries] = -np.inf
        shown = {
            PLAIN: cosines,
            f"{pictures.best_space}, smoothed, expanded": smoothed.leave_one_out_scores(queries, expand=True),
        }
        for number, query in enumerate(queries):
            for name, scores in shown.items():
                nearest = np.argsort(-scores[number], kind="stable")[: min(HITS, len(plain) - 1)]
                tiles = [_tile(pictures, int(h), int(query), float(scores[number, h])) for h in nearest]
                rows.append(Row(_tile(pictures, int(query)) if name == PLAIN else None, tiles, name))
    footer = (
        f"Queries drawn at random (seed {seed}); neighbours among all other pictures of the group, smoothed without the query. "
        f"Model: {model}."
    )
    return contact_sheet(rows, tile_size=96, title="Nearest neighbours", footer=footer)


def _tile(pictures: Pictures, row: int, query: int | None = None, score: float | None = None) -> Tile:
    path, labels = pictures.paths[row], pictures.labels
    name = path.stem if labels is None else str(labels[row])
    caption = name if score is None else f"{name}\n{score:.2f}" + ("" if labels is None else f" {path.stem}")
    if query is None or labels is None:
        return Tile(path, caption)
    return Tile(path, caption, "right" if labels[row] == labels[query] else "wrong")
