"""Training and held-out pictures, kept apart: concepts, styles and clip art held out, near-duplicates dropped."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from isomix._files import writing
from isomix.errors import InputError
from training.config import load_section
from training.data.corpora import read_corpora
from training.data.duplicates import leaks
from training.data.pixels import Pixels, small_pixels
from training.files import write_text

__all__ = ["SPLITS", "Rows", "Splits", "assign", "family_of", "gather", "load_rows", "make_dataset", "read_list"]

SPLITS = ("train", "held-out concept", "held-out style", "held-out clip art", "transfer", "dropped")
# Words that tell apart pictures of one concept: a man running and a woman running are held out together.
VARIANTS = re.compile("m[ae]n|wom[ae]n|person|people|boy|girl")


@dataclass(frozen=True)
class Splits:
    """The section ``[splits]``; ``config.toml`` explains the fields."""

    seed: int
    held_out_concepts: float
    held_out_emoji: str
    held_out_clip_art: int
    max_siblings: int
    min_visible: int
    duplicate_side: int
    duplicate_cosine: float
    first_weights_min_count: int


class Rows(NamedTuple):
    """The pictures of one split.

    Attributes
    ----------
    pictures : ndarray of uint8, shape (n, side, side, 4)
        Red, green, blue and straight alpha; a read-only memory map.
    index : pyarrow.Table
        One row a picture: row (in the whole data set), source, name, concept, captions, kind, topic, monochrome, split,
        seen_by_first_weights, dropped_because.
    """

    pictures: Pixels
    index: pa.Table


def load_rows(dataset: Path | str, split: str) -> Rows:
    """Load the pictures of one split; no picture of another split can be reached through the result.

    Parameters
    ----------
    dataset : path
        The folder with ``pictures.npy`` and ``index.parquet``.
    split : str
        One of ``SPLITS``. What fits a model asks for ``"train"`` and for nothing else.

    Returns
    -------
    Rows

    Raises
    ------
    InputError
        No such split, or no data set there.

    Notes
    -----
    A split is one run of rows. The file is mapped from its first to its last row, not sliced from a map of the whole.
    """
    if split not in SPLITS:
        raise InputError(f"split: got {split!r}, expected one of {', '.join(SPLITS)}.")
    folder = Path(dataset)
    if not (folder / "index.parquet").is_file():
        raise InputError(
            f"{folder}: no data set. Run the stages fetch, render, caption and split of `python -m training`."
        )
    index = pq.read_table(folder / "index.parquet", filters=[("split", "=", split)])
    with (folder / "pictures.npy").open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if not index.num_rows:
        return Rows(np.empty((0, *shape[1:]), dtype), index)
    first = index["row"][0].as_py()
    here = (index.num_rows, *shape[1:])
    offset = start + first * int(np.prod(shape[1:]))
    return Rows(np.memmap(folder / "pictures.npy", dtype, "r", offset, here), index)


def make_dataset(config: Path, output: Path) -> None:
    """Split the pictures and write ``output/dataset``: ``pictures.npy``, ``index.parquet`` and ``summary.json``.

    Parameters
    ----------
    config, output : Path
        Configuration file and output folder, with the results of the stages render and caption.

    Notes
    -----
    Rows are ordered by split, then source as in the configuration, then name. The same input and seed give the same bytes.
    """
    settings = load_section(Splits, "splits", config)
    table, pictures, uses = gather(config, output)
    sources, concepts, kinds = (table[column].to_pylist() for column in ("source", "concept", "kind"))
    listed = read_list(config.with_name(settings.held_out_emoji)) if settings.held_out_emoji else frozenset()
    splits = assign(sources, concepts, kinds, uses, settings, listed)
    empty, monochrome, small = _look(pictures, len(splits), settings)
    reasons: list[str | None] = [None] * len(splits)
    for row in np.flatnonzero(empty):
        splits[row], reasons[row] = "dropped", "empty"
    leaking, leaked = leaks(small, splits, settings.duplicate_cosine)
    for row in leaking:
        splits[row], reasons[row] = "dropped", "near-duplicate of a held-out picture"
    order = np.argsort([SPLITS.index(split) for split in splits], kind="stable")

    table = table.append_column("monochrome", pa.array(monochrome))
    table = table.append_column("split", pa.array(splits))
    table = table.append_column("seen_by_first_weights", pa.array(_seen(table, splits, settings, set(leaked.tolist()))))
    table = table.append_column("dropped_because", pa.array(reasons))
    table = table.take(order).add_column(0, "row", pa.array(np.arange(len(order))))

    folder = output / "dataset"
    folder.mkdir(exist_ok=True)
    # An index never stands beside pictures of another run: it goes first and comes last.
    (folder / "index.parquet").unlink(missing_ok=True)
    with writing(folder / "pictures.npy") as part:
        _write(part, pictures, order)
    write_text(folder / "summary.json", json.dumps(_summary(table), indent=1) + "\n")
    with writing(folder / "index.parquet") as part:
        pq.write_table(table, part)
    sys.stderr.write(f"split: {dict(Counter(table['split'].to_pylist()))}\n")


def read_list(path: Path) -> frozenset[str]:
    """The lines of a text file that are no comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


class Gathered:
    """Pictures of all sources, read where they lie."""

    def __init__(self, parts: list[Pixels]) -> None:
        self.parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __getitem__(self, row: int) -> Pixels:
        part = int(np.searchsorted(self._starts, row, "right")) - 1
        return np.asarray(self.parts[part][row - self._starts[part]])


def gather(config: Path, output: Path) -> tuple[pa.Table, Gathered, dict[str, str]]:
    """What the stages render and caption left: the table of captions, the pictures of its rows, source to use.

    Raises
    ------
    InputError
        A stage is missing, or the two list different drawings.
    """
    corpora = {name: corpus for name, corpus in read_corpora(config).items() if corpus.kind != "words"}
    if not (output / "captions.parquet").is_file():
        raise InputError(f"{output}: no captions.parquet. Run `python -m training caption` first.")
    table = pq.read_table(output / "captions.parquet")
    listed = list(zip(table["source"].to_pylist(), table["name"].to_pylist(), strict=True))
    parts, drawn = [], []
    for name in corpora:
        listing = output / "pictures" / f"{name}.json"
        if not listing.is_file():
            raise InputError(f"{listing}: not found. Run `python -m training render` first.")
        drawn += [(name, picture) for picture in json.loads(listing.read_text(encoding="utf-8"))["names"]]
        parts.append(np.load(output / "pictures" / f"{name}.npy", mmap_mode="r"))
    if drawn != listed:
        raise InputError("captions and pictures list different drawings. Run the stages render and caption again.")
    return table, Gathered(parts), {name: corpus.use for name, corpus in corpora.items()}


def _hash(seed: int, *key: str) -> float:
    """A number in [0, 1) that depends on the seed and the key alone, not on what else is in the data."""
    digest = hashlib.sha256("\0".join((str(seed), *key)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def family_of(concept: str) -> str:
    """The words of a concept but for those that tell variants of one thing apart.

    Examples
    --------
    >>> family_of("woman running")
    'running'
    """
    words = concept.split()
    return " ".join(word for word in words if not VARIANTS.fullmatch(word)) or concept


def assign(
    sources: Sequence[str],
    concepts: Sequence[str],
    kinds: Sequence[str],
    uses: Mapping[str, str],
    settings: Splits,
    listed: frozenset[str] = frozenset(),
) -> list[str]:
    """Decide from words alone which pictures are held out.

    Parameters
    ----------
    sources, concepts, kinds : sequences of str, n of them
    uses : mapping of str
        Source to "train", "held-out style" or "transfer".
    settings : Splits
    listed : frozenset of str
        Families of emoji concepts to hold out; if there are any, no other emoji is. Icons are chosen by hash.

    Returns
    -------
    list of str, n of them
        Every picture of a held-out concept is held out, in whatever source it stands; clip art of one concept stays together.
    """
    splits = [uses[source] for source in sources]
    families = [family_of(concept) for concept in concepts]
    drawn_in: dict[str, set[str]] = defaultdict(set)
    emoji = set()
    for source, family, kind, split in zip(sources, families, kinds, splits, strict=True):
        if kind in ("emoji", "icon") and split == "train":
            drawn_in[family].add(source)
            if kind == "emoji":
                emoji.add(family)
    held_out = {
        family
        for family, where in drawn_in.items()
        if len(where) >= 2
        and (
            family in listed
            if listed and family in emoji
            else _hash(settings.seed, "concept", family) < settings.held_out_concepts
        )
    }
    # Clip art of a concept that is held out would teach it, so it is held out with the others.
    splits = [
        "held-out concept" if split == "train" and family in held_out else split
        for split, family in zip(splits, families, strict=True)
    ]
    free = [kind == "clip art" and split == "train" for kind, split in zip(kinds, splits, strict=True)]
    clip_art = Counter(itertools.compress(families, free))
    chosen: set[str] = set()
    total = 0
    for family in sorted(clip_art, key=lambda family: _hash(settings.seed, "clip art", family)):
        if total < settings.held_out_clip_art and clip_art[family] <= settings.max_siblings:
            chosen.add(family)
            total += clip_art[family]
    return [
        "held-out clip art" if is_free and family in chosen else split
        for split, family, is_free in zip(splits, families, free, strict=True)
    ]


def _look(pictures: Gathered, rows: int, settings: Splits) -> tuple[NDArray[np.bool_], list[bool], NDArray[np.float32]]:
    """Which pictures are empty, which have one colour, and the small pixels of all."""
    empty, monochrome, small = np.zeros(rows, np.bool_), [], []
    for row in range(rows):
        picture = pictures[row]
        opaque = picture[picture[..., 3] >= 128][:, :3]
        empty[row] = (picture[..., 3] >= 32).sum() < settings.min_visible
        monochrome.append(bool(len(opaque) == 0 or (np.ptp(opaque, axis=0) <= 8).all()))
        small.append(small_pixels(picture, settings.duplicate_side))
    return empty, monochrome, np.stack(small)


def _seen(table: pa.Table, splits: list[str], settings: Splits, leaked: set[int]) -> list[str]:
    """Whether the first weights were trained on a picture or a near-duplicate of it: "no" or "perhaps"."""
    kinds, concepts = table["kind"].to_pylist(), table["concept"].to_pylist()
    count = Counter(concept for kind, concept in zip(kinds, concepts, strict=True) if kind == "icon")

    def unseen(kind: str, concept: str, split: str) -> bool:
        if split == "held-out concept" and kind == "emoji":
            return bool(settings.held_out_emoji)
        rare = kind == "icon" and count[concept] < settings.first_weights_min_count
        return rare or split in ("held-out style", "transfer")

    columns = enumerate(zip(kinds, concepts, splits, strict=True))
    return ["no" if row not in leaked and unseen(*column) else "perhaps" for row, column in columns]


def _write(path: Path, pictures: Gathered, order: NDArray[np.intp]) -> None:
    shape = (len(order), *pictures[0].shape)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for row, at in enumerate(order):
        out[row] = pictures[int(at)]
    out.flush()


def _summary(table: pa.Table) -> dict[str, Any]:
    rows = table.select(["split", "kind", "source", "dropped_because", "concept"]).to_pylist()
    summary: dict[str, Any] = {"pictures": len(rows), "splits": {}, "kinds": {}, "sources": {}, "dropped_because": {}}
    for split in SPLITS:
        here = [row for row in rows if row["split"] == split]
        summary["splits"][split] = {"pictures": len(here), "concepts": len({row["concept"] for row in here})}
    for column, name in (("kind", "kinds"), ("source", "sources")):
        for (value, split), count in Counter((row[column], row["split"]) for row in rows).items():
            summary[name].setdefault(value, {})[split] = count
    reasons = Counter(row["dropped_because"] for row in rows if row["dropped_because"])
    summary["dropped_because"] = dict(sorted(reasons.items()))
    return summary
