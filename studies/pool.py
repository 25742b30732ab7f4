"""Unlabelled pictures in few-shot classification: Project and Mix with and without a pool, as one Markdown table.

    python studies/pool.py [--draws 3]

Run it from a checkout beside the shared data (ViT-B/32 embeddings of Caltech101 and ImageNet). The pool is what is to be classified,
cut or with strangers as the name of a row says. Every picture is a query once it is no shot.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isomix import load_encoder
from isomix.encoders.prompts import encode_classes
from isomix.fewshot import ProjectAndMix
from isomix.linalg import normalize_rows

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PICTURES = ROOT / "src" / "isomix" / "demo" / "pictures"
TEMPLATES = ("{}", "a picture of a {}", "an icon of a {}", "a drawing of a {}", "a symbol for a {}")
SHOTS = (1, 2, 4)
GROUPS = {"birds": (80, 147), "dogs": (151, 269), "mixed": (270, 400), "things": (500, 700), "food": (924, 970)}
# set, what the pool is made of
ROWS = [
    ("caltech", "all"), ("caltech", "10 a class"), ("caltech", "6 a class"), ("caltech", "3 a class"), ("caltech", "long tail"),
    ("caltech", "half of the classes"), ("caltech", "as many strangers"), ("icons", "all"), ("emoji", "all"), ("birds", "all"),
    ("dogs", "all"), ("mixed", "all"), ("things", "all"), ("food", "all"), ("food", "twice as many strangers"),
    ("birds", "two noisy copies of each"), ("food", "two noisy copies of each"), ("imagenet", "all"),
]  # fmt: skip


def sets() -> Iterator[tuple[str, Any, Any, Any, float]]:
    """Name, unit rows, class numbers, class texts and logit scale."""
    encoder = load_encoder("embedded")
    for group in ("icons", "emoji"):
        paths = sorted(path for path in (PICTURES / group).glob("*/*") if path.suffix in (".png", ".webp"))
        names, y = np.unique([path.parent.name for path in paths], return_inverse=True)
        X = encoder.encode_image(paths, show_progress_bar=False).embeddings
        text = np.stack(list(encode_classes(encoder, names.tolist(), templates=TEMPLATES).values())).mean(axis=1)
        yield group, normalize_rows(X), y, normalize_rows(text), encoder.logit_scale
    with np.load(DATA / "vitb32_imagenet_fewshot.npz") as stored:
        X = normalize_rows(np.concatenate([stored[f"images_{k}"] for k in (4, 2, 1)]).astype(np.float32))
        y = np.concatenate([stored[f"labels_{k}"] for k in (4, 2, 1)]).astype(np.intp)
        bank = normalize_rows(stored["text"].astype(np.float32))
        numbers = {str(name).lower(): i for i, name in enumerate(stored["class_names"])}
    copies = (np.tril(X @ X.T, -1) > 0.995).any(axis=1)
    X, y = X[~copies], y[~copies]
    yield "imagenet", X, y, bank, 100.0
    for name, (first, last) in GROUPS.items():
        inside = (y >= first) & (y < last)
        yield name, X[inside], y[inside] - first, bank[first:last], 100.0
    # The classes of Caltech101 with the name of a class of ImageNet, whose text is there.
    split = json.loads((DATA / "splits" / "split_zhou_Caltech101.json").read_text(encoding="utf-8"))
    names_of = {label: name.replace("_", " ") for _, label, name in split["test"]}
    with np.load(DATA / "vitb32_caltech101.npz") as stored:
        X = normalize_rows(np.concatenate([stored["val"], stored["test"]]).astype(np.float32))
        y = np.concatenate([stored["val_labels"], stored["test_labels"]]).astype(np.intp)
    known = np.array(sorted(label for label, name in names_of.items() if name in numbers))
    inside = np.isin(y, known)
    text = bank[[numbers[names_of[label]] for label in known.tolist()]]
    yield "caltech", X[inside], np.searchsorted(known, y[inside]), text, 100.0


def cut(y: Any, kind: str, rng: Any) -> Any:
    """Numbers of the pictures to classify."""
    classes = [rng.permutation(np.flatnonzero(y == c)) for c in range(y.max() + 1)]
    if kind.endswith("a class"):
        sizes = [int(kind.split()[0])] * len(classes)
    elif kind == "long tail":
        sizes = rng.permutation([80 // rank for rank in range(1, len(classes) + 1)]).tolist()
    elif kind == "half of the classes":
        sizes = [len(y) * (c % 2) for c in range(len(classes))]
    else:
        sizes = [len(y)] * len(classes)
    return np.concatenate([rows[:size] for rows, size in zip(classes, sizes, strict=True)])


def pool(Q: Any, kind: str, strangers: Any, rng: Any) -> Any:
    """The pictures to classify, and what else the pool has."""
    if "strangers" in kind:
        count = len(Q) * (2 if "twice" in kind else 1)
        return np.concatenate([Q, strangers[rng.permutation(len(strangers))[:count]]])
    if "copies" in kind:
        noisy = [Q + 0.02 * rng.normal(size=Q.shape) for _ in range(2)]
        return np.concatenate([Q, *(normalize_rows(copy.astype(np.float32)) for copy in noisy)])
    return Q


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    known = {name: rest for name, *rest in sets()}
    print("| pictures | pool | shots | M, N | lambda | without | with the pool | difference, worst draw |")
    print("|---|---|---|---|---|---|---|---|")
    for name, kind in ROWS:
        X, y, text, scale = known[name]
        strangers = known["imagenet" if name == "caltech" else "caltech"][0]
        for K in SHOTS:
            found = []
            for draw in range(1 if name == "imagenet" else arguments.draws):
                rng = np.random.default_rng([101, draw, K])
                shots = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:K] for c in range(len(text))])
                rest = np.setdiff1d(np.arange(len(y)), shots)
                rest = rest[cut(y[rest], kind, rng)]
                U = pool(X[rest], kind, strangers, rng)
                clf = ProjectAndMix(logit_scale=scale, calibrate=True).fit(X[shots], y[shots], text=text)
                without = 100 * clf.score(X[rest], y[rest])
                taken = clf.use_pool(U, shots=(X[shots], y[shots])).pool_
                assert taken is not None
                with_pool = 100 * clf.score(X[rest], y[rest])
                found.append((taken.mass, taken.rows_a_class, taken.weight, without, with_pool, with_pool - without))
            M, N, weight, without, with_pool, difference = np.mean(found, axis=0)
            print(
                f"| {name}, {len(text)} | {kind} | {K} | {M:.2f}, {N:.1f} | {weight:.2f} | {without:.1f} | {with_pool:.1f} "
                f"| {difference:+.1f}, {min(row[-1] for row in found):+.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
