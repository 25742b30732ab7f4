"""What the embedded model is judged on: retrieval tasks and few-shot classes, drawn from the index of the data set.

Every task but the one that chooses bands uses pictures that no stage of the training has read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix.errors import InputError
from training.data.index import Index, Rows

__all__ = [
    "PERHAPS_SEEN",
    "TRANSFER",
    "Classes",
    "Limits",
    "Task",
    "TextToImage",
    "classes",
    "picture_tasks",
    "text_tasks",
    "texts_to_images",
]

PERHAPS_SEEN = frozenset(
    {
        "icon concepts never seen, across sets",
        "clip-art topics, held-out pictures",
        "icon concepts never seen",
        "clip art, by title",
        "unseen icon concepts",
    }
)
"""Tasks on pictures that this recipe holds out and the first weights, with another split, were probably trained on."""
TRANSFER = frozenset({"stamps by topic", "stamps, by their line", "stamp topics"})
"""Tasks on another kind of picture, many of them photographs cut out."""

Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Limits:
    """How much of the data a task takes; whole concepts are drawn until the number of pictures is reached."""

    max_pictures: int
    max_concepts: int
    max_captions: int
    known_styles: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Task:
    """Retrieval within one modality.

    Attributes
    ----------
    name : str
    items : ndarray of int64 (rows of the data set) or list of str (captions)
    queries, gallery : ndarray of int, positions in ``items``
    labels : ndarray of int, shape (n_items,)
        Equal label: relevant.
    groups : ndarray of int, shape (n_items,)
        Equal group: not in the query's gallery. An item is in its own group, so no query finds itself.
    clusters : ndarray of int, shape (n_items,)
        Items of one concept; intervals draw whole clusters.
    """

    name: str
    items: Rows | list[str]
    queries: Codes
    gallery: Codes
    labels: Codes
    groups: Codes
    clusters: Codes

    @classmethod
    def make(
        cls,
        name: str,
        items: Rows | list[str],
        labels: Iterable[Any],
        groups: Iterable[Any],
        clusters: Iterable[Any],
        gallery: NDArray[np.bool_] | None = None,
        queries: NDArray[np.bool_] | None = None,
    ) -> Task | None:
        """Code the columns, drop queries without a relevant item; None if no query is left."""
        coded = [np.unique(np.asarray(list(column)), return_inverse=True)[1] for column in (labels, groups, clusters)]
        everything = np.ones(len(items), bool)
        in_gallery = np.flatnonzero(everything if gallery is None else gallery)
        asked = np.flatnonzero(everything if queries is None else queries)
        label, group = coded[0], coded[1]
        pairs = Counter(zip(label[in_gallery].tolist(), group[in_gallery].tolist()))
        total = Counter(label[in_gallery].tolist())
        scored = [q for q in asked if total[int(label[q])] > pairs[int(label[q]), int(group[q])]]
        if not scored:
            return None
        return cls(name, items, np.array(scored), in_gallery, *coded)

    def thinned(self, n: int) -> Task:
        """The same task with at most n of its queries."""
        if len(self.queries) <= n:
            return self
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.queries))[:n])
        return replace(self, queries=self.queries[chosen])


@dataclass(frozen=True)
class TextToImage:
    """Captions and the pictures they are searched in; relevant where labels are equal."""

    name: str
    captions: list[str]
    caption_labels: Codes
    rows: Rows
    row_labels: Codes


@dataclass(frozen=True)
class Classes:
    """Pictures of some classes, for few-shot classification; ``labels`` index ``names``."""

    name: str
    rows: Rows
    labels: Codes
    names: list[str]


def picture_tasks(index: Index, limits: Limits) -> tuple[Task, list[Task]]:
    """The task on training concepts that chooses bands, and the tasks on held-out pictures."""
    train = np.concatenate([_sample(index, index.rows("train", kind), limits, styles=2) for kind in ("emoji", "icon")])
    choosing = _cross_style("training concepts, cross-style", index, train)
    if choosing is None:
        raise InputError("the training split has no concept in two sources, so no band can be chosen on it.")
    emoji, icons = index.unseen("held-out concept", "emoji"), index.rows("held-out concept", "icon")
    clip_art, stamps = index.rows("held-out clip art"), index.unseen("transfer")
    tasks = [
        _cross_style("emoji concepts never seen, cross-style", index, _sample(index, emoji, limits, styles=2)),
        _cross_style("icon concepts never seen, across sets", index, _sample(index, icons, limits, styles=2)),
        _cross_style(
            "the same, rarer icon concepts",
            index,
            _sample(index, index.unseen("held-out concept", "icon"), limits, styles=2),
        ),
        *(_unseen_style(style, index, limits) for style in ("openmoji", "emojione-v1")),
        _by_topic("clip-art topics, held-out pictures", index, _sample(index, clip_art, limits)),
        _by_topic("stamps by topic", index, _sample(index, stamps, limits)),
        _by_topic("emoji subgroups, other concepts", index, _sample(index, emoji, limits), groups=index.concept),
    ]
    return choosing, [task for task in tasks if task is not None]


def text_tasks(index: Index, limits: Limits) -> tuple[Task | None, list[Task]]:
    """Caption to another caption of the same concept: the task that chooses bands, and those on unseen concepts."""
    train = np.concatenate([index.rows("train", kind) for kind in ("emoji", "icon")])
    tasks = [
        _captions(f"{kind} captions", index, index.rows("held-out concept", kind), limits) for kind in ("emoji", "icon")
    ]
    return _captions("training captions", index, train, limits), [task for task in tasks if task is not None]


def texts_to_images(index: Index, limits: Limits) -> list[TextToImage]:
    """One caption a concept (the label; the title; the line) against the pictures of its task."""
    style = "openmoji"
    known, _ = _known(style, index, limits)
    parts = {
        "emoji concepts never seen": _sample(index, index.unseen("held-out concept", "emoji"), limits),
        "icon concepts never seen": _sample(index, index.rows("held-out concept", "icon"), limits),
        "rarer icon concepts": _sample(index, index.unseen("held-out concept", "icon"), limits),
        f"known concepts in an unseen style ({style})": known,
        "clip art, by title": _sample(index, index.rows("held-out clip art"), limits),
        "stamps, by their line": _sample(index, index.unseen("transfer"), limits),
    }
    return [_text_to_image(name, index, rows) for name, rows in parts.items() if len(rows)]


def classes(index: Index, limits: Limits, min_pictures: int, max_classes: int) -> list[Classes]:
    """Classes with enough pictures: unseen icon concepts, subgroups of emoji, topics of stamps."""
    sets = []
    for name, rows, column in (
        ("unseen icon concepts", index.rows("held-out concept", "icon"), index.concept),
        ("emoji subgroups", index.unseen("held-out concept", "emoji"), index.topic),
        ("emoji subgroups in an unseen style", index.unseen("held-out style", source="openmoji"), index.topic),
        ("stamp topics", index.unseen("transfer"), index.topic),
    ):
        counts = Counter(column[rows].tolist())
        enough = sorted(label for label, count in counts.items() if count >= min_pictures and label)
        if len(enough) > max_classes:
            enough = sorted(np.random.default_rng(limits.seed).permutation(enough)[:max_classes].tolist())
        if len(enough) > 1:
            chosen = rows[np.isin(column[rows], enough)]
            names = [re.sub("[-/_]", " ", label) for label in enough]
            sets.append(Classes(name, chosen, np.searchsorted(enough, column[chosen]), names))
    return sets


def _sample(index: Index, rows: Rows, limits: Limits, styles: int = 1) -> Rows:
    """Whole concepts that occur in enough sources, in random order, until there are enough pictures."""
    by_concept: dict[str, list[int]] = {}
    for row in rows.tolist():
        by_concept.setdefault(str(index.concept[row]), []).append(row)
    chosen: list[int] = []
    for concept in np.random.default_rng(limits.seed).permutation(sorted(by_concept)).tolist():
        members = by_concept[concept]
        if len(set(index.source[members].tolist())) >= styles:
            chosen += members
        if len(chosen) >= limits.max_pictures:
            break
    return np.sort(np.array(chosen, np.int64))


def _cross_style(name: str, index: Index, rows: Rows) -> Task | None:
    concepts = np.char.add(np.char.add(index.kind[rows], "/"), index.concept[rows]) if len(rows) else rows
    return Task.make(name, rows, concepts, index.source[rows], concepts)


def _known(style: str, index: Index, limits: Limits) -> tuple[Rows, Rows]:
    """Pictures of an unseen style whose concept was trained on, one a concept, and those of the known styles."""
    known = index.rows("train", "emoji")
    known = known[np.isin(index.source[known], limits.known_styles)]
    rows = index.unseen("held-out style", source=style)
    rows = rows[np.isin(index.concept[rows], index.concept[known])]
    _, first = np.unique(index.concept[rows], return_index=True)
    rows = np.sort(np.random.default_rng(limits.seed).permutation(rows[np.sort(first)])[: limits.max_concepts])
    return rows, known[np.isin(index.concept[known], index.concept[rows])]


def _unseen_style(style: str, index: Index, limits: Limits) -> Task | None:
    rows, known = _known(style, index, limits)
    items = np.concatenate([rows, known])
    asked = np.arange(len(items)) < len(rows)
    concepts = index.concept[items]
    name = f"unseen style ({style}) to known styles"
    return Task.make(name, items, concepts, index.source[items], concepts, ~asked, asked)


def _by_topic(name: str, index: Index, rows: Rows, groups: NDArray[Any] | None = None) -> Task | None:
    rows = rows[index.topic[rows] != ""]
    own = np.arange(len(rows)) if groups is None else groups[rows]
    return Task.make(name, rows, index.topic[rows], own, index.concept[rows])


def _captions(name: str, index: Index, rows: Rows, limits: Limits) -> Task | None:
    """Captions that belong to one concept alone: its name, and those that share no word with it."""
    by_concept: dict[str, Counter[str]] = {}
    for row in rows.tolist():
        by_concept.setdefault(str(index.concept[row]), Counter()).update(dict.fromkeys(index.captions[row], 1))
    concepts_of = Counter(caption for counts in by_concept.values() for caption in counts)
    items: list[str] = []
    owners: list[str] = []
    for concept in np.random.default_rng(limits.seed).permutation(sorted(by_concept)).tolist():
        unique = [caption for caption, _ in by_concept[concept].most_common() if concepts_of[caption] == 1]
        words = set(concept.split())
        # Two captions of one concept would otherwise be found by the words they share.
        own = [caption for caption in unique if caption == concept or words.isdisjoint(re.findall(r"\w+", caption))]
        if len(own) > 1:
            items += own[: limits.max_captions]
            owners += [concept] * len(own[: limits.max_captions])
        if len(items) >= limits.max_pictures:
            break
    return Task.make(name, items, owners, range(len(items)), owners) if items else None


def _text_to_image(name: str, index: Index, rows: Rows) -> TextToImage:
    rows = np.array([row for row in rows if index.captions[row]], np.int64)
    concepts, labels = np.unique(index.concept[rows], return_inverse=True)
    captions = [
        Counter(index.captions[row][0] for row in rows[labels == code]).most_common(1)[0][0]
        for code in range(len(concepts))
    ]
    return TextToImage(name, captions, np.arange(len(concepts)), rows, labels)
