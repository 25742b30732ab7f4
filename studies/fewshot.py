"""The numbers of docs/few-shot.md beside its ImageNet table: weights from the shots judged on data that shaped no rule.

Run it with: make study. First part: the bundled pictures with the embedded model, and ViT-B/32 embeddings of Caltech101, where
these are beside the checkout. Shots are drawn like CoOp's, seeds 1, 2 and 3; queries are all other pictures. A cell is the accuracy
in per cent with weights from the shots alone, then with the best weights of a search on the queries themselves: an upper bound,
which a few hundred queries overstate by about a point.

Second part: what did not work, on ViT-B/32 embeddings of ImageNet.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isomix import TextPCA, load_encoder
from isomix.benchmark.shots import draw_few_shot
from isomix.encoders.prompts import class_name, encode_classes
from isomix.errors import IsomixWarning
from isomix.fewshot import CLASSIFIERS, MixedPrototypes, ProjectAndMix, ZeroShot
from isomix.fewshot.prototypes import PRIOR_SHOTS
from isomix.fewshot.weights import coordinate_search
from isomix.linalg import normalize_rows

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PICTURES = ROOT / "src" / "isomix" / "demo" / "pictures"
TEMPLATES = ("{}", "a picture of a {}", "an icon of a {}", "a drawing of a {}", "a symbol for a {}")
SEEDS = (1, 2, 3)
SCALES = [0.0, *(2.0**j for j in range(-14, 10))]
WEIGHTS: dict[str, list[float]] = {
    "prior_shots": [PRIOR_SHOTS * 2.0 ** (j / 2) for j in range(-10, 11)],
    "ensemble_weight": SCALES,
    "alpha": SCALES,
    "gamma": [0.0, 6.25, 12.5, 25.0, 50.0, 100.0, 200.0],
    "sharpness": [2.0**j for j in range(-6, 10)],
    "mixing_weight": [j / 20 for j in range(21)],
}


class Task(NamedTuple):
    """Pictures of one set; ``text`` is (C, p, d), in the order of the labels 0 .. C - 1, or None."""

    name: str
    X: Any
    y: Any
    text: Any
    shots: tuple[int, ...]
    logit_scale: float


def tasks() -> Iterable[Task]:
    """What no constant was chosen on."""
    encoder = load_encoder("embedded")
    for group, shots in (("icons", (1, 2, 4)), ("emoji", (1, 2))):
        paths = sorted(path for path in (PICTURES / group).glob("*/*") if path.suffix in (".png", ".webp"))
        names, y = np.unique([path.parent.name for path in paths], return_inverse=True)
        X = encoder.encode_image(paths, show_progress_bar=False).embeddings
        text = np.stack(list(encode_classes(encoder, names.tolist(), templates=TEMPLATES).values()))
        yield Task(f"embedded model, {group}, {len(names)} classes", X, y, text, shots, encoder.logit_scale)
    if not DATA.is_dir():
        print("skipped: the ViT-B/32 embeddings are not beside this checkout")
        return
    with np.load(DATA / "vitb32_caltech101.npz") as stored:
        X = np.concatenate([stored["val"], stored["test"]]).astype(np.float32)
        y = np.concatenate([stored["val_labels"], stored["test_labels"]]).astype(np.intp)
    yield Task("ViT-B/32, Caltech101, 100 classes, no text", X, y, None, (1, 2, 4, 8, 16), 100.0)
    # The file holds no text of Caltech101; some classes have the name of a class of ImageNet, whose text is there.
    import json

    split = json.loads((DATA / "splits" / "split_zhou_Caltech101.json").read_text(encoding="utf-8"))
    with np.load(DATA / "vitb32_imagenet_fewshot.npz") as stored:
        rows = {str(name).lower(): row for name, row in zip(stored["class_names"], stored["text"], strict=True)}
    named = {label: class_name(name).lower() for _, label, name in split["test"]}
    known = sorted(label for label, name in named.items() if name in rows)
    text = np.stack([rows[named[label]] for label in known]).astype(np.float32)[:, None]
    kept = np.isin(y, known)
    name = f"ViT-B/32, Caltech101, the {len(known)} classes with a text in ImageNet"
    yield Task(name, X[kept], np.searchsorted(known, y[kept]), text, (1, 2, 4, 8, 16), 100.0)


def best_weights(clf: Any, Q: Any, q: Any) -> float:
    """Accuracy with the best weights of a search on the queries, from those that the classifier has."""
    chosen = {parameter.name for parameter in clf._sum.parameters() if len(parameter.grid)}
    chosen |= {part.name for part in clf._sum.parts if part.name is not None}  # also a discriminant at one shot
    grids: dict[str, Any] = {name: grid for name, grid in WEIGHTS.items() if name in chosen}
    if "n_directions" in chosen:
        whole = len(clf._sum.parts[0].term.directions.vectors)
        grids["n_directions"] = sorted({max(1, round(whole * f)) for f in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)})
    if not grids:
        return float(clf.score(Q, q))
    start = dict(clf._values)

    def loss(point: dict[str, Any]) -> float:
        clf._use(start | point)
        return -float(clf.score(Q, q))

    return -loss(coordinate_search(loss, grids, {name: start[name] for name in grids}))


def judge(task: Task, methods: list[str]) -> None:
    """Print the table of one task, and where the weights from the shots fall short."""
    X, y = normalize_rows(task.X), task.y
    print(f"\n### {task.name}\n")
    print("| method | " + " | ".join(f"{k} shot{'s' * (k > 1)}" for k in task.shots) + " |")
    print("|---" * (len(task.shots) + 1) + "|", flush=True)
    draws = []
    for shots in task.shots:
        for seed in SEEDS:
            drawn = np.array(draw_few_shot(y.tolist(), shots, random.Random(seed)))
            draws.append((shots, drawn, np.setdiff1d(np.arange(len(y)), drawn)))
    zero_shot: dict[int, list[float]] = {}
    below, far = [], []
    for method in methods:
        kind = CLASSIFIERS[method]
        if kind.needs_text and task.text is None:
            continue
        scores: dict[int, list[tuple[float, float]]] = {}
        for shots, drawn, rest in draws:
            try:
                clf = kind(logit_scale=task.logit_scale)  # type: ignore[call-arg]
            except TypeError:  # methods without a logit scale
                clf = kind()
            clf.fit(X[drawn], y[drawn], text=task.text)
            chosen = float(clf.score(X[rest], y[rest]))
            scores.setdefault(shots, []).append((100 * chosen, 100 * best_weights(clf, X[rest], y[rest])))
        cells = []
        for shots, found in scores.items():
            own, best = np.mean(found, axis=0)
            if method == "zero-shot":
                zero_shot[shots] = [score for score, _ in found]
            elif zero_shot and method not in ("lda", "nearest-class-mean"):
                lost = sum(score < zero for (score, _), zero in zip(found, zero_shot[shots], strict=True))
                if own < np.mean(zero_shot[shots]) or lost:
                    below.append(f"{method} at {shots} ({own - np.mean(zero_shot[shots]):+.1f}, {lost} of 3 draws)")
            if best - own > 0.5:
                far.append(f"{method} at {shots} ({own - best:+.1f})")
            cells.append(f"{own:.1f}" if own == best else f"{own:.1f} / {best:.1f}")
        print(f"| {method} | {' | '.join(cells)} |", flush=True)
    print(f"\nBelow zero-shot in a draw, with the mean difference: {', '.join(below) or 'nowhere'}.\n")
    print(f"More than 0.5 from the best weights in the mean: {', '.join(far) or 'nowhere'}.")


def imagenet() -> None:
    """What did not work: the shrinkage formula, a space for the discriminant, and small sets of classes."""
    with np.load(DATA / "vitb32_imagenet_fewshot.npz") as stored:
        images = {k: normalize_rows(stored[f"images_{k}"].astype(np.float32)) for k in (1, 2, 4)}
        labels = {k: stored[f"labels_{k}"].astype(np.intp) for k in (1, 2, 4)}
        text = normalize_rows(stored["text"].astype(np.float32))
    print("\n### ViT-B/32, ImageNet\n")
    for shots in (2, 4):
        X, y = images[shots], labels[shots]
        Q, q = (np.concatenate([part[k] for k in (1, 2, 4) if k != shots]) for part in (images, labels))
        fresh = (Q @ X.T).max(axis=1) <= 0.995
        Q, q = Q[fresh], q[fresh]
        space = TextPCA().fit(text)
        for name, clf in (
            ("mixed prototypes, leave-one-out", MixedPrototypes()),
            ("mixed prototypes, mixing_weight='shrinkage'", MixedPrototypes("shrinkage")),
            ("Project and Mix", ProjectAndMix()),
            ("Project and Mix, discriminant in the space of Text PCA", ProjectAndMix(space=space)),
        ):
            print(f"{shots} shots, {name}: {100 * clf.fit(X, y, text=text).score(Q, q):.1f}", flush=True)
        for n_classes in (5, 20):
            gains = []
            for seed in range(50):
                some = np.sort(np.random.default_rng(seed).choice(1000, n_classes, replace=False))
                mine, theirs = np.isin(y, some), np.isin(q, some)
                arguments = np.searchsorted(some, y[mine]), text[some]
                asked = Q[theirs], np.searchsorted(some, q[theirs])
                few = ProjectAndMix().fit(X[mine], *arguments).score(*asked)
                gains.append(100 * (few - ZeroShot().fit(X[mine], *arguments).score(*asked)))
            print(
                f"{shots} shots, Project and Mix less zero-shot on 50 random sets of {n_classes} classes: mean "
                f"{np.mean(gains):+.1f}, below zero-shot in {np.count_nonzero(np.array(gains) < 0)}, worst {min(gains):+.1f}",
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["zero-shot", *(m for m in CLASSIFIERS if m != "zero-shot")])
    parser.add_argument("--part", choices=("judge", "imagenet"), help="one of the two parts")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", IsomixWarning)
    start = time.perf_counter()
    if arguments.part != "imagenet":
        for task in tasks():
            judge(task, arguments.methods)
    if arguments.part != "judge" and DATA.is_dir():
        imagenet()
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
