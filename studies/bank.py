"""Spaces of a bank of sentences before smoothing, and stronger re-ranking after it: prints the tables of docs/gallery.md.

Run it with: make study. Reads ``../shared/data`` beside the checkout and says what it skips where that is absent. The sizes 64, 128
and 256, the form of the weights and the share of the names were chosen on classes with even numbers (``--tune`` prints those) and on
earlier draws; the tables are of classes with odd numbers, but for the whole of Caltech101. The bank is the thousand names of
ImageNet, once without those of the classes that are searched, and without all of the range that they are from; once with them.
The aim was set on eight other sets, which are not at hand. ``--only`` prints one part.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from smoothing import DATA, MAP, Embedded, ViT, line, split, unit

from isomix import NestedTextPCA, Projectors, Smoothing, TextPCA, retrieval_metrics
from isomix.metrics import scores_metrics

SIZES = (64, 128, 256)
RANGES = {
    "birds and reptiles": (7, 70),
    "dogs": (151, 269),
    "mammals": (270, 400),
    "things": (500, 700),
    "food and plants": (924, 1000),
}
MOST_RERANKED = 2500
Map = Callable[[Any], Any]


class Set(NamedTuple):
    """Queries against a gallery, and the numbers of ImageNet's names that are taken out of the bank."""

    name: str
    queries: Any
    labels: Any
    gallery: Any
    gallery_labels: Any
    out: Any


def sets(vit: ViT, parity: int) -> Iterator[Set]:
    """Eight sets; of the classes with even (0) or odd (1) numbers."""
    rng = np.random.default_rng(7 + parity)
    C, c = vit.all
    E, e = vit.imagenet
    listed = json.loads((DATA / "splits" / "split_zhou_Caltech101.json").read_text(encoding="utf-8"))["test"]
    place = {name.lower(): i for i, name in enumerate(vit.names)}
    known = np.unique([place[name.replace("_", " ")] for *_, name in listed if name.replace("_", " ") in place])
    own = np.arange(parity, 100, 2)
    (X, y), (G, g) = vit.caltech["test"], vit.caltech["val"]
    asked, there = (np.isin(labels, own) | bool(parity) for labels in (y, g))
    yield Set("Caltech101, test against val", X[asked], y[asked], G[there], g[there], known)
    drawn = split(rng, C, c, classes=own, most=rng.integers(1, 41, len(own)))
    yield Set("Caltech101, 1 to 40 a class", *drawn, known)
    for name, (first, end) in RANGES.items():
        classes = np.arange(first + (first + parity) % 2, end, 2)
        yield Set(f"ImageNet, {name}", *split(rng, E, e, classes=classes), np.arange(first, end))
    classes = np.arange(parity, 1000, 2)
    yield Set("ImageNet, 500 classes, 3 each", *split(rng, E, e, classes=classes, most=3), classes)


# ---------------------------------------------------------------------- spaces


def text_pca(bank: Any, k: int, projectors: Projectors | None = None) -> Any:
    """Directions of Text PCA, at most as many as there are."""
    available = len(TextPCA(1, projectors=projectors).fit(bank).singular_values_)
    return TextPCA(min(k, available), projectors=projectors).fit(bank)


def named(X: Any, bank: Any, scale: float = 50.0) -> Any:
    """How the bank names a picture: the square root of the softmax of its cosines with the sentences."""
    logits = scale * (X @ bank.T)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.sqrt(p / p.sum(axis=1, keepdims=True))


def whitened(rows: Any, shrinkage: float = 10.0) -> Any:
    """Operator that whitens by rows: (covariance + shrinkage times its mean eigenvalue) to the power of minus a half."""
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    return (vectors / np.sqrt(values + shrinkage * values.mean())) @ vectors.T


def spaces(bank: Any, gallery: Any, vit: ViT | None, projectors: Projectors | None) -> dict[str, Map]:
    """What is compared, by name; embeddings to rows of any length. ``gallery`` is seen where a space says so."""
    half = text_pca(bank, bank.shape[1] // 2)
    sizes = [bank.shape[1] // share for share in (8, 4, 2)]
    nested, behind = NestedTextPCA().fit(bank), NestedTextPCA(projectors=projectors).fit(bank)
    every = text_pca(bank, bank.shape[1])
    power = np.sqrt(every.singular_values_ / every.singular_values_[0])[: every.n_components_]
    white = whitened(behind.transform(gallery))
    auto = TextPCA("auto").fit(bank, gallery=gallery[:1000])
    found: dict[str, Map] = {"plain": unit}
    if vit is not None:
        found["IsoCLIP 150/50"] = vit.iso.transform
    found |= {
        "Text PCA, half the width": half.transform,
        "Text PCA, automatic count (sees the gallery)": auto.transform,
        "Text PCA behind the cliff (text-pca-cliff)": TextPCA(projectors=projectors).fit(bank).transform,
        "weighted by the square root of the text's spread": lambda X: (X @ every.operator_.T) * power,
        "mean of three cosines, exactly": lambda X: np.hstack([unit(X @ half.operator_[:k].T) for k in sizes]),
        "the same as one linear map": nested.transform,
        "behind the cliff: nested-text-pca": behind.transform,
        "that, whitened by the gallery": lambda X: behind.transform(X) @ white,
        "that, and how the bank names a picture (not linear)": lambda X: np.hstack(
            [behind.transform(X), 0.5 * named(X, bank)]
        ),
    }
    return found


def three(Q: Any, labels: Any, G: Any, gallery_labels: Any) -> list[float]:
    """MAP in per cent: as it is, with the gallery smoothed, and with queries expanded."""
    smoothing, relevant = Smoothing().fit(G), labels[:, None] == gallery_labels
    scores = Q @ G.T, Q @ smoothing.gallery_.T, smoothing.transform(Q) @ smoothing.gallery_.T
    return [100 * scores_metrics(each, relevant)[MAP] for each in scores]


def print_spaces(vit: ViT, projectors: Projectors, parity: int) -> None:
    """Means over the eight sets, and every set smoothed and expanded."""
    for known in (False, True):
        print(
            f"\nThe bank {'has the names of' if known else 'does not name'} the classes that are searched: mAP in per cent\n"
        )
        measured: dict[str, list[list[float]]] = {}
        names = []
        for s in sets(vit, parity):
            bank = vit.bank if known else np.delete(vit.bank, s.out, axis=0)
            names.append(s.name)
            for name, transform in spaces(bank, s.gallery, vit, projectors).items():
                Q, G = unit(transform(s.queries)), unit(transform(s.gallery))
                measured.setdefault(name, []).append(three(Q, s.labels, G, s.gallery_labels))
        line("space", "mean", "smoothed", "expanded", *names)
        line(*["---"] * (4 + len(names)))
        for name, rows in measured.items():
            line(name, *(f"{each:.1f}" for each in np.mean(rows, axis=0)), *(f"{row[2]:.1f}" for row in rows))


def print_embedded() -> None:
    """The same on the embedded model; no class is searched that it was not trained to tell, so names stay in the bank."""
    source = Embedded()
    print("\nThe embedded model, everyday nouns: mAP in per cent, before / smoothed / expanded\n")
    every = {task.name: task for task in source.tasks(instances=False) if "split" not in task.name}
    tasks = list(every.values())
    line("space", *(task.name for task in tasks))
    line(*["---"] * (1 + len(tasks)))
    cells: dict[str, list[str]] = {}
    for task in tasks:
        G = task.queries if task.gallery is None else task.gallery
        for name, transform in spaces(source.bank, G, None, source.encoder.projectors).items():
            Q = unit(transform(task.queries))
            if task.gallery is None:
                ways: list[dict[str, Any]] = [
                    {},
                    {"smoothing": Smoothing()},
                    {"smoothing": Smoothing(), "expand": True},
                ]
                figures = [100 * retrieval_metrics(Q, task.labels, **way)[MAP] for way in ways]
            else:
                figures = three(Q, task.labels, unit(transform(G)), task.gallery_labels)
            cells.setdefault(name, []).append(" / ".join(f"{figure:.1f}" for figure in figures))
    for name, row in cells.items():
        line(name, *row)


# ---------------------------------------------------------------------- stronger re-ranking


def diffusion(Q: Any, G: Any, k: int = 10, k_query: int = 5, alpha: float = 0.9, power: float = 3.0) -> Any:
    """Diffusion on the graph of mutual neighbours, solved exactly: Iscen et al., CVPR 2017."""
    n = len(G)
    cosines = G @ G.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    A = np.zeros((n, n))
    np.put_along_axis(A, near, np.maximum(np.take_along_axis(cosines, near, 1), 0) ** power, axis=1)
    A = np.minimum(A, A.T)
    degrees = np.maximum(A.sum(axis=1), 1e-12) ** -0.5
    scores = Q @ G.T
    first = np.argpartition(-scores, k_query - 1, axis=1)[:, :k_query]
    start = np.zeros_like(scores)
    np.put_along_axis(start, first, np.maximum(np.take_along_axis(scores, first, 1), 0) ** power, axis=1)
    found = np.linalg.solve(np.eye(n) - alpha * degrees[:, None] * A * degrees, start.T).T
    return found / found.max(axis=1, keepdims=True) + 1e-3 * scores  # rows that nothing reached keep their order


def k_reciprocal(Q: Any, G: Any, k1: int = 10, k2: int = 3, share: float = 0.6) -> Any:
    """Re-ranking with k-reciprocal encoding, one query at a time, none of which sees another: Zhong et al., CVPR 2017."""
    n = len(G)
    cosines = G @ G.T
    np.fill_diagonal(cosines, 2.0)  # a row is its own nearest
    distances = np.maximum(2 - 2 * np.minimum(cosines, 1), 0)
    largest = distances.max()
    nearest = np.argsort(-cosines, axis=1, kind="stable")
    last = np.take_along_axis(cosines, nearest[:, k1 : k1 + 1], axis=1)[:, 0]

    def reciprocal(k: int) -> list[set[int]]:
        lists = [set(row) for row in nearest[:, : k + 1].tolist()]
        return [{j for j in mine if i in lists[j]} for i, mine in enumerate(lists)]

    whole, halves = reciprocal(k1), reciprocal(round(k1 / 2))

    def encoding(mine: set[int], own: Any) -> Any:
        wider = set(mine)
        for j in mine:
            if len(halves[j] & mine) > 2 / 3 * len(halves[j]):
                wider |= halves[j]
        rows, found = sorted(wider), np.zeros(n)
        found[rows] = np.exp(-own[rows] / largest)
        return found / max(found.sum(), 1e-12)

    V = np.stack([encoding(whole[i], distances[i]) for i in range(n)])
    averaged = np.stack([V[nearest[i, :k2]].mean(axis=0) for i in range(n)])
    scores = Q @ G.T
    result = np.empty_like(scores)
    for i, row in enumerate(scores):
        order, own = np.argsort(-row, kind="stable"), np.maximum(2 - 2 * row, 0)
        v = encoding({int(j) for j in order[:k1] if row[j] >= last[j]}, own)
        v = (v + V[order[: k2 - 1]].sum(axis=0)) / k2
        overlap = np.minimum(v, averaged).sum(axis=1)
        result[i] = -((1 - share) * (1 - overlap / (2 - overlap)) + share * own / largest)
    return result


def print_reranking(vit: ViT, projectors: Projectors, parity: int) -> None:
    """Means over the sets that these methods can hold whole, and seconds of them all."""
    print("\nAfter nested-text-pca, names not in the bank: mAP in per cent\n")
    ways: dict[str, Callable[[Any, Any, Smoothing], Any]] = {
        "as it is": lambda Q, G, S: Q @ G.T,
        "smoothed and expanded": lambda Q, G, S: S.transform(Q) @ S.gallery_.T,
        "diffusion": lambda Q, G, S: diffusion(Q, G),
        "diffusion of the smoothed and expanded": lambda Q, G, S: diffusion(S.transform(Q), S.gallery_),
        "k-reciprocal": lambda Q, G, S: k_reciprocal(Q, G),
        "k-reciprocal of the smoothed and expanded": lambda Q, G, S: k_reciprocal(S.transform(Q), S.gallery_),
    }
    figures: dict[str, list[float]] = {name: [] for name in ways}
    seconds = dict.fromkeys(ways, 0.0)
    names = []
    for s in sets(vit, parity):
        if len(s.queries) + len(s.gallery) > MOST_RERANKED:
            continue
        names.append(s.name)
        space = NestedTextPCA(projectors=projectors).fit(np.delete(vit.bank, s.out, axis=0))
        Q, G = space.transform(s.queries), space.transform(s.gallery)
        for name, way in ways.items():
            start = time.process_time()
            scores = way(Q, G, Smoothing().fit(G))
            seconds[name] += time.process_time() - start
            figures[name].append(100 * scores_metrics(scores, s.labels[:, None] == s.gallery_labels)[MAP])
    line("method", "mean", "times the first", *names)
    line(*["---"] * (3 + len(names)))
    for name, row in figures.items():
        cost = seconds[name] / seconds["as it is"]
        line(name, f"{np.mean(row):.1f}", f"{cost:.1f}", *(f"{each:.1f}" for each in row))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["spaces", "embedded", "reranking"])
    parser.add_argument("--tune", action="store_true", help="the classes on which choices were made")
    arguments = parser.parse_args()
    parity = 0 if arguments.tune else 1
    if (DATA / "vitb32_caltech101.npz").exists():
        vit = ViT()
        with np.load(DATA / "projectors" / "openai_vitb32_text.npz") as stored:
            projectors = Projectors(text=stored["text"].astype(np.float32))
        if arguments.only in (None, "spaces"):
            print_spaces(vit, projectors, parity)
        if arguments.only in (None, "reranking"):
            print_reranking(vit, projectors, parity)
    else:
        print("skipped: the ViT-B/32 embeddings are not beside this checkout")
    if arguments.only in (None, "embedded"):
        print_embedded()


if __name__ == "__main__":
    main()
