"""The stage ``recognise``: which emoji concepts the first weights were not trained on, as far as can be told.

The first weights were trained elsewhere, with concepts held out that nobody wrote down. A comparison on pictures that
one side was trained on says nothing, so the emoji concepts that this recipe holds out are those that the first weights
do not recognise. Their share of recognised drawings has two modes, far apart: near 0 and near 1.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from isomix._arrays import blocks
from isomix.encoders.embedded import EmbeddedEncoder
from training.data.pixels import on_white
from training.data.splits import family_of, gather
from training.files import write_text

__all__ = ["recognise"]

AMONG = 10  # a drawing is recognised when its own concept is among so many of all that are compared
MIN_DRAWINGS = 4
SHARE = 0.3


def recognise(config: Path, output: Path, *, weights: Path | None, to: Path) -> None:
    """List the families of emoji concepts of which a model recognises fewer than ``SHARE`` of the drawings.

    Parameters
    ----------
    config, output : Path
        Configuration and output folder, after the stages render and caption.
    weights : Path or None
        Folder of exported weights; None: those that come with isomix.
    to : Path
        The list, one family a line.
    """
    table, pictures, uses = gather(config, output)
    columns = zip(*(table[name].to_pylist() for name in ("source", "concept", "kind")), strict=True)
    trained = [
        (row, concept)
        for row, (source, concept, kind) in enumerate(columns)
        if kind == "emoji" and uses[source] == "train"
    ]
    count = Counter(concept for _, concept in trained)
    drawings = [(row, concept) for row, concept in trained if count[concept] >= MIN_DRAWINGS]
    concepts, label = np.unique([concept for _, concept in drawings], return_inverse=True)
    encoder = EmbeddedEncoder("as-trained", weights=weights)
    texts = encoder.encode_text(concepts.tolist()).embeddings
    ranks = []
    for part in blocks(len(drawings), 256):
        rgb = on_white(np.stack([pictures[row] for row, _ in drawings[part]]))
        scores = encoder.encode_image(list(rgb), show_progress_bar=False).embeddings @ texts.T
        own = scores[np.arange(len(scores)), label[part]]
        ranks.append((scores > own[:, None]).sum(axis=1))
    recognised = np.concatenate(ranks) < AMONG
    families, family = np.unique([family_of(concept) for _, concept in drawings], return_inverse=True)
    share = np.bincount(family, recognised) / np.bincount(family)
    listed = families[share < SHARE].tolist()
    histogram = np.histogram(share, bins=10, range=(0, 1))[0].tolist()
    write_text(
        to,
        f"# Emoji concepts of which the first weights recognise fewer than {SHARE:.0%} of the drawings: their own name\n"
        f"# among the first {AMONG} of {len(concepts)}. Made by `python -m training recognise`. Families by share of drawings\n"
        f"# recognised, in tenths: {', '.join(map(str, histogram))}.\n" + "".join(f"{name}\n" for name in listed),
    )
    sys.stderr.write(
        f"recognise: {len(listed)} of {len(families)} families are listed; by share, in tenths: {histogram}\n"
    )
