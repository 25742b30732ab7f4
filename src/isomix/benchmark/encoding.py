"""From files to arrays: every picture is encoded once for a model, into a table that later runs read."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from isomix._arrays import Floats, as_matrix
from isomix._files import writing
from isomix.benchmark.backbone import Backbone
from isomix.benchmark.datasets.base import Captions, Pictures
from isomix.benchmark.samples import Samples, Vectors, warn_duplicates
from isomix.errors import InputError
from isomix.store.formats.npy import load_npz

__all__ = ["encode_captions", "encode_pictures"]


def encode_pictures(
    pictures: Pictures,
    backbone: Backbone,
    cache: str | os.PathLike[str],
    *,
    batch_size: int = 32,
    skip_unreadable: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> Samples:
    """Encode the pictures that are not in the table yet, and read all of them.

    Parameters
    ----------
    pictures : Pictures
        A part of the data set will do; what the table holds beyond it stays there.
    backbone : Backbone
    cache : path-like
        Folder of the tables: ``<data set>-<fingerprint of the model>.lance``, with pre-projection features.
    batch_size : int
    skip_unreadable : bool
        Leave unreadable pictures out, and say so in the result. Default: refuse, because figures on fewer pictures
        compare with nobody's.
    progress : callable, optional
        Called with (done, total, failed).

    Raises
    ------
    InputError
        Pictures that cannot be read.
    """
    from isomix.store.embed import embed
    from isomix.store.table import EmbeddingTable

    folder = Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = backbone.encoder
    stem = f"{_slug(pictures.name, pictures.root)}-{encoder.fingerprint[:12]}"
    listing, table_path = folder / f"{stem}.csv", folder / f"{stem}.lance"
    whole = [i for i in range(len(pictures)) if i not in pictures.boxes]
    _write_list(listing, pictures, whole)
    embed(
        listing,
        table_path,
        encoder,
        root=pictures.root,
        keep_features=True,
        keep_vanished=True,
        batch_size=batch_size,
        progress=progress,
    )
    table = EmbeddingTable.open(table_path, encoder)
    place = {path: row for row, path in enumerate(table.column("path"))}
    rows = np.array([place.get(pictures.paths[i], -1) for i in whole], np.intp)
    lost = [pictures.paths[i] for i, row in zip(whole, rows) if row < 0]
    if lost and (pictures.ground_truth is not None or not skip_unreadable):
        reasons = {error["path"]: error["reason"] for error in table.errors()}
        raise InputError(
            f"{pictures.name}: {len(lost)} of {len(pictures):,} pictures cannot be read, e.g. {lost[0]} "
            f"({reasons.get(lost[0], 'not in the table')}). Replace them; or leave them out with skip_unreadable, "
            "where the figures need not compare with others'."
        )
    stored = np.concatenate([np.zeros((0, encoder.image_feature_dim), np.float32), *table.iter_embeddings("feature")])
    features = np.empty((len(pictures), encoder.image_feature_dim), np.float32)
    readable = np.ones(len(pictures), bool)
    readable[np.array(whole, np.intp)[rows < 0]] = False
    features[np.array(whole, np.intp)[rows >= 0]] = stored[rows[rows >= 0]]
    if pictures.boxes:
        features[list(pictures.boxes)] = _encode_boxes(pictures, backbone, folder / f"{stem}-boxes.npz")
    features = features[readable]
    samples = Samples(
        pictures.name,
        Vectors(encoder.project_image(features), features),
        pictures.labels[readable],
        pictures.splits[readable],
        pictures.class_names,
        pictures.query_split,
        pictures.gallery_split,
        ground_truth=pictures.ground_truth,
        files=tuple(pictures.root / path for path, ok in zip(pictures.paths, readable) if ok),
        unreadable=tuple(lost),
    )
    if pictures.own:
        warn_duplicates(samples)
    return samples


def encode_captions(captions: Captions, backbone: Backbone) -> Samples:
    """Encode sentences: the first of every picture is a query, the others are the gallery."""
    embeddings, features = backbone.encode_text(captions.sentences)
    first = np.r_[True, captions.images[1:] != captions.images[:-1]]
    splits = np.where(first, "query", "gallery")
    return Samples(
        captions.name,
        Vectors(embeddings, features),
        captions.images,
        splits,
        (),
        "query",
        "gallery",
        "text",
        notes={"queries": "first caption of every image", "gallery": "all other captions"},
    )


def _slug(name: str, root: Path) -> str:
    """A file name; one's own data is told apart by where it lies."""
    place = hashlib.sha256(os.fspath(root.resolve()).encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(name.partition(":")[2]).name or name).strip("-") + f"-{place}"


def _write_list(path: Path, pictures: Pictures, rows: list[int]) -> None:
    with writing(path) as part, part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split"))
        for i in rows:
            label = pictures.class_names[pictures.labels[i]] if pictures.class_names else ""
            writer.writerow((pictures.paths[i], label, pictures.splits[i]))


def _encode_boxes(pictures: Pictures, backbone: Backbone, path: Path) -> Floats:
    """Features of the parts of pictures that are queries; kept beside the table."""
    from isomix.encoders.images import read_image

    key = hashlib.sha256(repr([(pictures.paths[i], box) for i, box in pictures.boxes.items()]).encode()).hexdigest()
    if path.is_file():
        stored = load_npz(path, ("key", "features"))
        if str(stored["key"]) == key:
            return as_matrix(stored["features"], f"{path}, features")
    cut = [read_image(pictures.root / pictures.paths[i]).crop(_corners(box)) for i, box in pictures.boxes.items()]
    found = backbone.encoder.encode_image(cut, show_progress_bar=False)
    if not found.ok.all():
        row, reason = next(iter(found.errors.items()))
        raise InputError(f"{pictures.name}: query {row} cannot be cut to its box {pictures.boxes[row]}: {reason}.")
    with writing(path) as part:
        np.savez(part, features=found.features, key=np.array(key))
    return found.features


def _corners(box: tuple[float, ...]) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(value) for value in box)
    return left, top, right, bottom
