"""Useless texts, swapped names, wrong labels: Project and Mix against its parts. Prints the tables of docs/few-shot.md.

Run it with: python studies/text_trust.py (``make study`` does). Pictures: the bundled icons and emoji and, where they are beside the
checkout, photographs of fruit and vegetables, all by the embedded model; ViT-B/32 embeddings of Caltech101 and of ranges of
ImageNet. "Before" is what Project and Mix did without asking the shots about the texts: the weight of a text at one shot fixed at 8
shots, then chosen by leave-one-out, every text trusted.

Constants were chosen while looking at the sets marked "looked at", other draws of them; at no set of the second group.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isomix import load_encoder
from isomix.encoders.prompts import class_name, encode_classes
from isomix.errors import IsomixWarning
from isomix.fewshot import LDA, MixedPrototypes, NearestClassMean, ProjectAndMix, ZeroShot
from isomix.linalg import normalize_rows

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PICTURES = ROOT / "src" / "isomix" / "demo" / "pictures"
TEMPLATES = ("{}", "a picture of a {}", "an icon of a {}", "a drawing of a {}", "a symbol for a {}")
# Ranges of ImageNet's class numbers.
LOOKED_AT = {"birds": (80, 147), "dogs": (151, 269), "food": (924, 970)}
NEW = {"snakes": (33, 69), "insects": (300, 327), "tools to vehicles": (840, 920)}
SHOTS = (1, 2, 4, 8, 16)
FEW_CLASSES = 12
KINDS = ("true", "random", "permuted", "half random", "fifth swapped", "fifth of labels wrong")
PARTS = ("zero-shot", "class mean", "mixed", "LDA")
LEFT = 2
SAME_PICTURE = 0.995
FIRST_SEED = 100


class Set(NamedTuple):
    """Pictures, class numbers 0 .. C - 1 and unit class texts."""

    name: str
    looked_at: bool
    X: Any
    y: Any
    text: Any
    logit_scale: float

    def of_at_least(self, n: int) -> Any:
        """Classes of n pictures or more."""
        return np.flatnonzero(np.bincount(self.y, minlength=len(self.text)) >= n)


def embedded(name: str, looked_at: bool, folder: Path) -> Set:
    """Pictures of a folder of one folder a class, at any depth."""
    encoder = load_encoder("embedded")
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".webp", ".jpg"))
    names, y = np.unique([path.parent.name for path in paths], return_inverse=True)
    X = normalize_rows(encoder.encode_image(paths, show_progress_bar=False).embeddings)
    words = [name.replace("-", " ") for name in names.tolist()]
    prompts = np.stack(list(encode_classes(encoder, words, templates=TEMPLATES).values()))
    return Set(name, looked_at, X, y, normalize_rows(prompts.mean(axis=1)), encoder.logit_scale)


def sets() -> Iterator[Set]:
    """Every set there is."""
    yield embedded("icons", True, PICTURES / "icons")
    yield embedded("emoji", True, PICTURES / "emoji")
    if not DATA.is_dir():
        print("skipped: the photographs and the ViT-B/32 embeddings are not beside this checkout")
        return
    yield embedded("fruit and vegetables", False, DATA / "grocery" / "train")
    with np.load(DATA / "vitb32_imagenet_fewshot.npz") as stored:
        X, y = (np.concatenate([stored[f"{part}_{k}"] for k in (1, 2, 4)]) for part in ("images", "labels"))
        text = normalize_rows(stored["text"].astype(np.float32))
        rows = {str(name).lower(): row for name, row in zip(stored["class_names"], text, strict=True)}
    X, kept = np.unique(normalize_rows(X.astype(np.float32)), axis=0, return_index=True)
    y = y[kept].astype(np.intp)
    for looked_at, ranges in ((True, LOOKED_AT), (False, NEW)):
        for name, (first, end) in ranges.items():
            some = (first <= y) & (y < end)
            yield Set(f"ImageNet, {name}", looked_at, X[some], y[some] - first, text[first:end], 100.0)
    split = json.loads((DATA / "splits" / "split_zhou_Caltech101.json").read_text(encoding="utf-8"))
    named = {label: class_name(name).lower() for _, label, name in split["test"]}
    known = sorted(label for label, name in named.items() if name in rows)
    with np.load(DATA / "vitb32_caltech101.npz") as stored:
        X = normalize_rows(np.concatenate([stored["val"], stored["test"]]).astype(np.float32))
        y = np.concatenate([stored["val_labels"], stored["test_labels"]]).astype(np.intp)
    some = np.isin(y, known)
    yield Set(
        "Caltech101", True, X[some], np.searchsorted(known, y[some]), np.stack([rows[named[c]] for c in known]), 100.0
    )


class Draw(NamedTuple):
    """Shots, texts and queries."""

    X: Any
    y: Any
    text: Any
    Q: Any
    q: Any


def draw(data: Set, n_classes: int, shots: int, kind: str, seed: int) -> Draw:
    """A draw of classes and shots, with what is wrong with its texts or labels; queries are at most 1,000 other pictures."""
    rng = np.random.default_rng([FIRST_SEED + seed, n_classes, shots])
    classes = np.sort(rng.choice(data.of_at_least(shots + LEFT), n_classes, replace=False))
    drawn, rest = [], []
    for c in classes:
        order = rng.permutation(np.flatnonzero(data.y == c))
        drawn.append(order[:shots])
        rest.append(order[shots:])
    s, r = np.concatenate(drawn), np.concatenate(rest)
    r = rng.permutation(r)[:1000]
    r = r[(data.X[r] @ data.X[s].T).max(axis=1) <= SAME_PICTURE]
    y, text = np.searchsorted(classes, data.y[s]), data.text[classes].copy()
    wrong = rng.permutation(n_classes)
    if kind == "random":  # a tower of random weights: a narrow cone
        d = text.shape[1]
        common = normalize_rows(rng.normal(size=(1, d)))
        text = normalize_rows(0.8 * common + 0.6 * normalize_rows(rng.normal(size=text.shape))).astype(np.float32)
    elif kind == "permuted":
        text = text[wrong]
    elif kind == "half random":
        half = wrong[: n_classes // 2]
        text[half] = normalize_rows(rng.normal(size=(len(half), text.shape[1])))
    elif kind == "fifth swapped":
        fifth = wrong[: max(2, n_classes // 5)]
        text[fifth] = text[np.roll(fifth, 1)]
    elif kind == "fifth of labels wrong":
        some = rng.permutation(len(y))[: len(y) // 5]
        y[some] = (y[some] + rng.integers(1, n_classes, len(some))) % n_classes
    return Draw(data.X[s], y, text, data.X[r], np.searchsorted(classes, data.y[r]))


def judge(data: Set, d: Draw, shots: int) -> dict[str, float]:
    """Accuracies in per cent."""
    s = data.logit_scale
    before = ProjectAndMix(1 / 9, logit_scale=s) if shots == 1 else ProjectAndMix(untrusted_texts=0, logit_scale=s)
    methods = {
        "zero-shot": ZeroShot(logit_scale=s),
        "class mean": NearestClassMean(logit_scale=s),
        "mixed": MixedPrototypes(logit_scale=s),
        "LDA": LDA(),
        "before": before,
        "after": ProjectAndMix(logit_scale=s),
    }
    return {name: 100 * float(m.fit(d.X, d.y, text=d.text).score(d.Q, d.q)) for name, m in methods.items()}


def line(cells: Any) -> None:
    """One row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    """Print the whole table, then its summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=6, help="of 12 classes; of all classes a third of it")
    draws = parser.parse_args().draws
    warnings.simplefilter("ignore", IsomixWarning)
    start = time.perf_counter()
    line(["set", "classes", "shots", "texts", *PARTS, "before", "after", "before, after less the better part"])
    line(["---"] * 11)
    lost: dict[tuple[bool, str, int], list[tuple[float, float, str]]] = defaultdict(list)
    for data in sets():
        for every in (False, True):
            for shots in SHOTS:
                there = len(data.of_at_least(shots + LEFT))
                if there < FEW_CLASSES:
                    continue
                n_classes = there if every else FEW_CLASSES
                for kind in KINDS:
                    if kind == KINDS[-1] and shots == 1:  # a class of one wrong picture is another class
                        continue
                    found = []
                    for seed in range(max(draws // 3, 1) if every else draws):
                        d = draw(data, n_classes, shots, kind, seed)
                        if len(np.unique(d.y)) == n_classes:  # all labels of a class may have become wrong
                            found.append(judge(data, d, shots))
                    if not found:
                        continue
                    mean = {name: float(np.mean([scores[name] for scores in found])) for name in found[0]}
                    better = max(mean[part] for part in PARTS)
                    gaps = mean["before"] - better, mean["after"] - better
                    lost[data.looked_at, kind, shots].append((*gaps, f"{data.name}, {n_classes} classes"))
                    cells = [f"{mean[name]:.1f}" for name in (*PARTS, "before", "after")]
                    line([data.name, n_classes, shots, kind, *cells, f"{gaps[0]:+.1f}, {gaps[1]:+.1f}"])
    for looked_at in (True, False):
        print(f"\n{'Sets looked at, new draws' if looked_at else 'Sets not looked at'}: less the better part\n")
        line(["texts", "shots", "cases", "before: mean", "worst", "after: mean", "worst", "where"])
        line(["---"] * 8)
        for kind in KINDS:
            for shots in SHOTS:
                rows = lost.get((looked_at, kind, shots))
                if rows:
                    before, after = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
                    numbers = [f"{v:+.1f}" for v in (before.mean(), before.min(), after.mean(), after.min())]
                    line([kind, shots, len(rows), *numbers, rows[int(after.argmin())][2]])
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
