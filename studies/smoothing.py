"""Gallery smoothing and query expansion after several spaces, on every set at hand: prints the tables of docs/gallery.md.

Run it with: make study. Reads ``../shared/data`` beside the checkout (real ViT-B/32 embeddings, photographs of groceries) and says
what it skips where that is absent; the embedded model's tasks need nothing. The rule's constants (k, alpha, background, strength)
were picked on draws with seed 0 from the same four sources; the draws here have other seeds, class ranges and sizes. No label is seen
by any method. Where ImageNet's classes are searched, their names are taken out of the bank behind Text PCA first. ``--only`` prints
one part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isomix import IsoCLIP, Projectors, Smoothing, TextPCA, load_encoder, retrieval_metrics, search
from isomix.encoders import Encoder
from isomix.encoders.prompts import class_name, nouns
from isomix.linalg import normalize_rows
from isomix.metrics import scores_metrics

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PICTURES = ROOT / "src" / "isomix" / "demo" / "pictures"
SEEDS = (101, 102)
QUERIES = 500
MAP = "mean_average_precision"
Space = Any


class Task(NamedTuple):
    """Queries against a gallery, or all against all; and the spaces that are tried, by name."""

    name: str
    queries: Any
    labels: Any
    gallery: Any
    gallery_labels: Any
    spaces: dict[str, Space | None]
    kind: str = "classes"


def unit(rows: Any) -> Any:
    """Float32 rows of length one."""
    return normalize_rows(np.asarray(rows, np.float32))


def split(rng: Any, X: Any, y: Any, *, classes: Any = None, most: Any = None) -> tuple[Any, Any, Any, Any]:
    """Up to ten queries of each class, and of the rest a gallery of ``most`` (a number, or one a class)."""
    queries: list[int] = []
    gallery: list[int] = []
    for number, c in enumerate(np.unique(y) if classes is None else classes):
        members = rng.permutation(np.flatnonzero(y == c))
        asked = max(1, min(10, int(0.4 * len(members))))
        room = None if most is None else int(most if np.isscalar(most) else most[number])
        queries += members[:asked].tolist()
        gallery += members[asked:][:room].tolist()
    picked = rng.permutation(queries)[:QUERIES]
    return X[picked], y[picked], X[gallery], y[gallery]


# ---------------------------------------------------------------------- what is at hand


class ViT:
    """ViT-B/32 embeddings beside the checkout."""

    def __init__(self) -> None:
        caltech, imagenet = (np.load(DATA / f"vitb32_{name}.npz") for name in ("caltech101", "imagenet_fewshot"))
        self.caltech = {part: (unit(caltech[part]), caltech[f"{part}_labels"].astype(int)) for part in ("val", "test")}
        self.train = unit(caltech["train_16shots"]), caltech["train_16shots_labels"].astype(int)
        self.all = tuple(np.concatenate(parts) for parts in zip(*self.caltech.values(), strict=True))
        X = unit(np.concatenate([imagenet[f"images_{k}"] for k in (4, 2, 1)]))
        y = np.concatenate([imagenet[f"labels_{k}"] for k in (4, 2, 1)]).astype(int)
        scores, rows = search(X, X, 1, exclude_self=True)
        twins = (scores[:, 0] > 0.995) & (rows[:, 0] < np.arange(len(X)))  # the same picture in two of the sets
        self.imagenet = X[~twins], y[~twins]
        self.bank = unit(imagenet["text"])
        self.names = [str(name) for name in imagenet["class_names"]]
        with np.load(DATA / "projectors" / "openai_vitb32_text.npz") as stored:
            projectors = Projectors(text=stored["text"].astype(np.float32))
        self.iso = IsoCLIP(projectors, band=(150, 50)).fit()

    def spaces(self, gallery: Any, without: Any = ()) -> dict[str, Space | None]:
        """Spaces, with the names of some of ImageNet's classes taken out of the bank."""
        bank = np.delete(self.bank, np.unique(np.asarray(without, int)), axis=0)
        return {
            "plain": None,
            "IsoCLIP 150/50": self.iso,
            "Text PCA half": TextPCA().fit(bank),
            "Text PCA auto": TextPCA("auto").fit(bank, gallery=gallery),
        }

    def tasks(self) -> Iterator[Task]:
        """Caltech101 and ImageNet, whole and drawn."""
        C, c = self.all
        E, e = self.imagenet

        def task(name: str, parts: tuple[Any, ...], without: Any = (), kind: str = "classes") -> Task:
            return Task(name, *parts, self.spaces(parts[2], without), kind)

        some = np.random.default_rng(SEEDS[0]).permutation(len(self.caltech["test"][0]))[:QUERIES]
        X, y = self.caltech["test"]
        yield task("Caltech101, test against 16 a class", (X[some], y[some], *self.train))
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            for most in (1, 2, 6):
                yield task(f"Caltech101, {most} a class", split(rng, C, c, most=most))
            yield task("Caltech101, 1 to 40 a class", split(rng, C, c, most=rng.integers(1, 41, 100)))
            q, ql, G, g = split(rng, C, c)
            twice = rng.choice(len(G), 3)
            copied = (
                np.concatenate([G, np.repeat(G[twice], 200, axis=0)]),
                np.concatenate([g, np.repeat(g[twice], 200)]),
            )
            yield task("Caltech101 and 3 x 200 copies", (q, ql, *copied))
            odd = rng.permutation(len(E))[:2000]
            strangers = np.concatenate([G, E[odd]]), np.concatenate([g, 1000 + np.arange(2000)])
            yield task("Caltech101 and 2,000 strangers", (q, ql, *strangers))
            for most in (1, 3):
                classes = rng.permutation(1000)[:500]
                yield task(f"ImageNet, 500 classes, {most} each", split(rng, E, e, classes=classes, most=most), classes)
            for name, first, end in (("mammals", 270, 400), ("things", 500, 700), ("food and plants", 924, 1000)):
                classes = np.arange(first, end)
                yield task(f"ImageNet, {name}", split(rng, E, e, classes=classes), classes)
            kinds = rng.permutation(50)[:20]
            inside = np.isin(e // 20, kinds)
            yield task("ImageNet, 20 neighbouring ids a class", split(rng, E[inside], e[inside] // 20), e[inside])
            rows, other = (rng.permutation(len(E)) for _ in range(2))
            mixed = unit(0.65 * E[rows[:300]] + 0.35 * E[other[:300]])
            same = (mixed, np.arange(300), E[rows[:1500]], np.arange(1500))
            yield task("the very picture, mixed with another (CLIP)", same, kind="instances")
            Z = unit(rng.normal(size=(1000, 512)))
            noisy = unit(Z[:200] + 2.5 * rng.normal(size=(200, 512)) / np.sqrt(512))
            yield task(
                "the very row, with noise (random rows)", (noisy, np.arange(200), Z, np.arange(1000)), kind="instances"
            )

    def texts(self) -> Iterator[tuple[str, Any, Any, Any, Any, Space]]:
        """Class names against pictures."""
        E, e = self.imagenet
        for most in (1, 2, 4):
            first = np.concatenate([np.flatnonzero(e == c)[:most] for c in range(1000)])
            yield (f"ImageNet, 1,000 classes, {most} each", self.bank, np.arange(1000), E[first], e[first], self.half())
        for name, start, end in (("dogs", 151, 269), ("birds", 80, 147), ("food", 924, 970)):
            inside = (e >= start) & (e < end)
            classes = np.arange(start, end)
            yield f"ImageNet, {name}", self.bank[classes], classes, E[inside], e[inside], self.half(classes)
        listed = json.loads((DATA / "splits" / "split_zhou_Caltech101.json").read_text(encoding="utf-8"))["test"]
        place = {name.lower(): i for i, name in enumerate(self.names)}
        known = {
            int(label): place[name.replace("_", " ")] for _, label, name in listed if name.replace("_", " ") in place
        }
        classes = np.array(sorted(known))
        X, y = self.caltech["val"]
        inside = np.isin(y, classes)
        texts = self.bank[[known[c] for c in classes]]
        yield f"Caltech101, val, {len(classes)} class names", texts, classes, X[inside], y[inside], self.half()

    def half(self, without: Any = ()) -> Space:
        """Half the width of Text PCA."""
        return TextPCA().fit(np.delete(self.bank, np.asarray(without, int), axis=0))


class Embedded:
    """Pictures through the embedded model."""

    def __init__(self) -> None:
        self.encoder: Encoder = load_encoder("embedded")
        self.bank = bank = self.encoder.encode_text(nouns(), show_progress_bar=False).embeddings
        self.spaces: dict[str, Space | None] = {
            "plain": None,
            "IsoCLIP preset": IsoCLIP(self.encoder.projectors).fit(),
            "Text PCA half": TextPCA().fit(bank),
        }
        self.groups = {name: self._encode(PICTURES / name, "*/*.png") for name in ("icons", "emoji")}

    def _encode(self, folder: Path, pattern: str) -> tuple[list[Path], Any, Any]:
        paths = sorted(folder.glob(pattern))
        E = self.encoder.encode_image(paths, show_progress_bar=False).embeddings
        return paths, E, np.array([path.parent.name for path in paths])

    def tasks(self, *, instances: bool = True) -> Iterator[Task]:
        """Bundled pictures, all against all and split; photographs of groceries, also found again as instances."""
        for name, (_, E, labels) in self.groups.items():
            yield Task(f"{name}, all against all", E, labels, None, None, self.spaces)
            for seed in SEEDS:
                yield Task(f"{name}, split", *split(np.random.default_rng(seed), E, labels), self.spaces)
        if not (DATA / "grocery").is_dir():
            print("skipped: the photographs of groceries are not beside this checkout")
            return
        paths, E, labels = self._encode(DATA / "grocery", "*/*/**/*.jpg")
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            for most in (5, 30):
                yield Task(f"groceries, {most} a class (weak encoder)", *split(rng, E, labels, most=most), self.spaces)
        if instances:
            yield from self._instances(paths, E)

    def _instances(self, paths: list[Path], E: Any) -> Iterator[Task]:
        from PIL import Image

        rows = np.sort(np.random.default_rng(SEEDS[0]).permutation(len(paths))[:300])
        changed: dict[str, list[Any]] = {"rotated by 15°": [], "cropped to 80 %": []}
        for row in rows:
            with Image.open(paths[row]) as opened:
                picture = opened.convert("RGB")
            w, h = picture.size
            changed["rotated by 15°"].append(picture.rotate(15))
            changed["cropped to 80 %"].append(picture.crop((w // 10, h // 10, w - w // 10, h - h // 10)))
        for how, pictures in changed.items():
            Q = self.encoder.encode_image(pictures, show_progress_bar=False).embeddings
            spaces = {name: self.spaces[name] for name in ("plain", "Text PCA half")}
            yield Task(f"the very grocery, {how} (weak encoder)", Q, rows, E, np.arange(len(E)), spaces, "instances")

    def texts(self) -> Iterator[tuple[str, Any, Any, Any, Any, Space]]:
        """Class names against pictures."""
        for name, (_, E, labels) in self.groups.items():
            classes = np.unique(labels)
            sentences = [class_name(label) for label in classes]
            T = self.encoder.encode_text(sentences, show_progress_bar=False).embeddings
            yield f"{name}, {len(classes)} class names", T, classes, E, labels, self.spaces["Text PCA half"]


# ---------------------------------------------------------------------- what is measured


def cosine_cubed(G: Any, k: int = 10) -> Any:
    """Each row and its k nearest, weighted by the third power of their cosines: what is usually done."""
    scores, rows = search(G, G, min(k, len(G) - 1), exclude_self=True)
    return unit(G + np.einsum("nk,nkd->nd", np.maximum(scores, 0) ** 3, G[rows]))


def measure(task: Task) -> dict[str, tuple[float, ...]]:
    """Of every space: mAP in per cent as it is, its gain by cosine³, smoothing, smoothing with expansion; and the mass."""
    found = {}
    for name, space in task.spaces.items():
        Q = unit(task.queries) if space is None else space.transform(task.queries)
        if task.gallery is None:
            G, against = Q, (Q, task.labels)
        else:
            G = unit(task.gallery) if space is None else space.transform(task.gallery)
            against = (Q, task.labels, G, task.gallery_labels)
        plain = 100 * retrieval_metrics(*against)[MAP]
        ways = [100 * retrieval_metrics(*against, smoothing=Smoothing(), expand=each)[MAP] for each in (False, True)]
        cubed = np.nan
        if task.gallery is not None:
            cubed = 100 * retrieval_metrics(Q, task.labels, cosine_cubed(G), task.gallery_labels)[MAP] - plain
        found[name] = plain, cubed, ways[0] - plain, ways[1] - plain, Smoothing().fit(G).mass_
    return found


def measure_texts(T: Any, classes: Any, G: Any, labels: Any, space: Space) -> list[float]:
    """MAP of class names against pictures: plain, smoothed over the space's neighbours, over plain neighbours; zero-shot too."""
    relevant = classes[:, None] == labels
    figures = []
    galleries = [G, Smoothing(space=space).fit(G).gallery_, Smoothing().fit(G).gallery_]
    for gallery in galleries:
        figures.append(100 * scores_metrics(T @ gallery.T, relevant)[MAP])
    for gallery in galleries[:2]:
        figures.append(100 * float((classes[(gallery @ T.T).argmax(axis=1)] == labels).mean()))
    return figures


# ---------------------------------------------------------------------- what is printed


def line(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def gains(values: tuple[float, ...]) -> list[str]:
    """Cells of one space."""
    plain, *changes, mass = values
    return [f"{plain:.1f}", *("-" if np.isnan(each) else f"{each:+.1f}" for each in changes), f"{mass:.2f}"]


def print_images(tasks: list[Task]) -> None:
    """A table of two spaces a task, then what every space gains on average."""
    measured: dict[str, list[tuple[Task, dict[str, tuple[float, ...]]]]] = {}
    for task in tasks:
        measured.setdefault(task.name, []).append((task, measure(task)))
    shown = ("plain", "Text PCA half")
    print("\nImage to image: mAP in per cent, and what is added to it (means over the draws)\n")
    line("task", "rows", *(cell for s in shown for cell in (s, "cosine³", "smoothed", "expanded", "mass")))
    line(*["---"] * 12)
    for name, draws in measured.items():
        task = draws[0][0]
        cells: list[str] = []
        for space in shown:
            mean = np.mean([figures[space] for _, figures in draws], axis=0)
            cells += gains(tuple(mean))
        line(name, len(task.queries if task.gallery is None else task.gallery), *cells)
    print("\nEvery space: means and the worst single draw, over all draws of tasks that search for classes\n")
    line("space", "draws", "before", "smoothed", "and expanded", "worst smoothed", "worst expanded")
    line(*["---"] * 7)
    every = [(task, figures) for draws in measured.values() for task, figures in draws if task.kind == "classes"]
    for encoder, spaces in (("ViT-B/32", ("plain", "IsoCLIP 150/50", "Text PCA half", "Text PCA auto")),
                            ("embedded", ("plain", "IsoCLIP preset", "Text PCA half"))):  # fmt: skip
        own = "IsoCLIP 150/50" if encoder == "ViT-B/32" else "IsoCLIP preset"
        for space in spaces:
            rows = np.array([figures[space] for task, figures in every if own in task.spaces])
            if len(rows):
                mean, least = rows.mean(axis=0), rows.min(axis=0)
                line(f"{encoder}, {space}", len(rows), f"{mean[0]:.1f}", f"{mean[2]:+.2f}", f"{mean[3]:+.2f}",
                     f"{least[2]:+.2f}", f"{least[3]:+.2f}")  # fmt: skip


def print_texts(sources: list[ViT | Embedded]) -> None:
    """The table of text to image."""
    print("\nText to image: class names against pictures, mAP; zero-shot accuracy of the pictures beside it\n")
    line("task", "pictures", "plain", "smoothed over Text PCA's neighbours", "over plain neighbours",
         "zero-shot, plain", "zero-shot, smoothed")  # fmt: skip
    line(*["---"] * 7)
    for source in sources:
        for name, T, classes, G, labels, space in source.texts():
            line(name, len(G), *(f"{figure:.1f}" for figure in measure_texts(unit(T), classes, unit(G), labels, space)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["images", "texts"])
    arguments = parser.parse_args()
    sources: list[ViT | Embedded] = []
    if (DATA / "vitb32_caltech101.npz").exists():
        sources.append(ViT())
    else:
        print("skipped: the ViT-B/32 embeddings are not beside this checkout")
    sources.append(Embedded())
    if arguments.only != "texts":
        print_images([task for source in sources for task in source.tasks()])
    if arguments.only != "images":
        print_texts(sources)


if __name__ == "__main__":
    main()
