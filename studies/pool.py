"""Unlabelled pictures in few-shot classification: Project and Mix with and without a pool, as three Markdown tables.

    python studies/pool.py [--part tuned|changed|reported] [--draws 3]

Run it from a checkout beside the shared data (ViT-B/32 embeddings of Caltech101 and ImageNet, photographs of groceries). The trust
was chosen on the sets of the first table, on other draws. The second set lost with strangers at four shots, which is why strangers
count less than other pictures. The sets of the third table had no part in it. The pool is what is to be classified, cut
or with strangers as the name of a row says. Every picture is a query once it is no shot.
"""

from __future__ import annotations

import argparse
import json
import warnings
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
GROUPS = {
    "birds": (80, 147), "dogs": (151, 269), "mixed": (270, 400), "things": (500, 700), "food": (924, 970),
    "fish": (0, 80), "more things": (700, 924), "plants": (970, 1000),
}  # fmt: skip
STRANGERS = "half as many strangers", "as many strangers", "twice as many strangers", "four times as many strangers"
COPIES = "two noisy copies of each"
# Set, what the pool is made of. The trust was chosen on the first; strangers counted fully before the second was seen.
TUNED = [
    ("caltech", "all"), ("caltech", "10 a class"), ("caltech", "6 a class"), ("caltech", "3 a class"), ("caltech", "long tail"),
    ("caltech", "half of the classes"), ("caltech", STRANGERS[1]), ("caltech", STRANGERS[2]), ("icons", "all"),
    ("icons", STRANGERS[0]), ("emoji", "all"), ("birds", "all"), ("birds", STRANGERS[2]), ("birds", COPIES), ("dogs", "all"),
    ("mixed", "all"), ("mixed", STRANGERS[1]), ("things", "all"), ("food", "all"), ("food", STRANGERS[1]), ("food", STRANGERS[2]),
    ("food", COPIES), ("imagenet", "all"),
]  # fmt: skip
CHANGED = [
    ("caltech, other texts", kind) for kind in ("all", "10 a class", "long tail", "half of the classes", *STRANGERS[1:])
]
REPORTED = [
    *(("icons, every second", kind) for kind in ("all", STRANGERS[0], STRANGERS[2], COPIES)),
    *((name, kind) for name in ("fish", "more things", "plants", "60 at random") for kind in ("all", *STRANGERS[1:3], COPIES)),
    *(("groceries", kind) for kind in ("all", "10 a class", STRANGERS[1], STRANGERS[2])),
]  # fmt: skip


PARTS = {
    "tuned": ("Sets that the trust was chosen on, other draws", TUNED, 101),
    "changed": ("A set that was to be reported, and led to strangers counting less", CHANGED, 501),
    "reported": ("Sets that had no part in it", REPORTED, 501),
}
# Classes of Caltech101 that go by another name in ImageNet, whose text stands in for theirs.
OTHER_NAMES = {
    "airplane": "airliner", "binocular": "binoculars", "butterfly": "monarch butterfly", "camera": "reflex camera",
    "car_side": "station wagon", "chair": "folding chair", "cougar_body": "cougar", "crab": "dungeness crab",
    "crocodile": "nile crocodile", "cup": "coffee mug", "elephant": "african bush elephant", "ewer": "water jug",
    "ferry": "ocean liner", "flamingo_head": "flamingo", "gerenuk": "gazelle", "kangaroo": "wallaby", "lamp": "table lamp",
    "laptop": "laptop computer", "lobster": "american lobster", "minaret": "mosque", "motorbike": "moped",
    "nautilus": "chambered nautilus", "panda": "giant panda", "watch": "digital watch", "wild_cat": "lynx",
    "windsor_chair": "rocking chair", "hawksbill": "loggerhead sea turtle", "pagoda": "stupa", "ketch": "schooner",
    "mandolin": "acoustic guitar", "euphonium": "french horn", "pigeon": "partridge",
}  # fmt: skip


def sets() -> dict[str, tuple[Any, Any, Any, float]]:
    """Unit rows, class numbers, class texts and logit scale by name."""
    encoder = load_encoder("embedded")
    found: dict[str, tuple[Any, Any, Any, float]] = {}

    def encode(paths: list[Path], labels: list[str], templates: tuple[str, ...]) -> tuple[Any, Any, Any, float]:
        names, y = np.unique(labels, return_inverse=True)
        X = encoder.encode_image(paths, show_progress_bar=False).embeddings
        text = np.stack(list(encode_classes(encoder, names.tolist(), templates=templates).values())).mean(axis=1)
        return normalize_rows(X), y, normalize_rows(text), encoder.logit_scale

    for group in ("icons", "emoji"):
        paths = sorted(path for path in (PICTURES / group).glob("*/*") if path.suffix in (".png", ".webp"))
        found[group] = encode(paths, [path.parent.name for path in paths], TEMPLATES)
    paths = sorted((DATA / "grocery").glob("*/*/*/**/*.jpg"))
    kinds = [path.relative_to(DATA / "grocery").parts[2] for path in paths]
    found["groceries"] = encode(paths, kinds, ("a photo of a {}",))
    with np.load(DATA / "vitb32_imagenet_fewshot.npz") as stored:
        X = normalize_rows(np.concatenate([stored[f"images_{k}"] for k in (4, 2, 1)]).astype(np.float32))
        y = np.concatenate([stored[f"labels_{k}"] for k in (4, 2, 1)]).astype(np.intp)
        bank = normalize_rows(stored["text"].astype(np.float32))
        numbers = {str(name).lower(): i for i, name in enumerate(stored["class_names"])}
    copies = (np.tril(X @ X.T, -1) > 0.995).any(axis=1)
    X, y = X[~copies], y[~copies]
    found["imagenet"] = X, y, bank, 100.0
    for name, (first, last) in GROUPS.items():
        found[name] = only(found["imagenet"], range(first, last))
    found["60 at random"] = only(found["imagenet"], np.sort(np.random.default_rng(7).choice(1000, 60, replace=False)))
    found["icons, every second"] = only(found["icons"], range(1, len(found["icons"][2]), 2))
    split = json.loads((DATA / "splits" / "split_zhou_Caltech101.json").read_text(encoding="utf-8"))
    names_of = {label: name for _, label, name in split["test"]}
    with np.load(DATA / "vitb32_caltech101.npz") as stored:
        X = normalize_rows(np.concatenate([stored["val"], stored["test"]]).astype(np.float32))
        y = np.concatenate([stored["val_labels"], stored["test_labels"]]).astype(np.intp)
    same = {label: name.replace("_", " ") for label, name in names_of.items()}
    other = {label: OTHER_NAMES[name] for label, name in names_of.items() if name in OTHER_NAMES}
    for key, called in (("caltech", same), ("caltech, other texts", other)):
        known = np.array(sorted(label for label, name in called.items() if name in numbers))
        inside = np.isin(y, known)
        text = bank[[numbers[called[label]] for label in known.tolist()]]
        found[key] = X[inside], np.searchsorted(known, y[inside]), text, 100.0
    return found


def only(pictures: tuple[Any, Any, Any, float], classes: Any) -> tuple[Any, Any, Any, float]:
    """Some classes of a set."""
    X, y, text, scale = pictures
    chosen = np.asarray(classes)
    inside = np.isin(y, chosen)
    return X[inside], np.searchsorted(chosen, y[inside]), text[chosen], scale


def strangers_of(name: str, known: dict[str, tuple[Any, Any, Any, float]]) -> Any:
    """Pictures of other classes by the same encoder."""
    if name.startswith("icons") or name == "groceries":
        return known["emoji"][0]
    return known["imagenet" if name.startswith("caltech") else "caltech"][0]


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
    if kind in STRANGERS:
        count = int(len(Q) * dict(zip(STRANGERS, (0.5, 1, 2, 4), strict=True))[kind])
        return np.concatenate([Q, strangers[rng.permutation(len(strangers))[:count]]])
    if kind == COPIES:
        noisy = [Q + 0.02 * rng.normal(size=Q.shape) for _ in range(2)]
        return np.concatenate([Q, *(normalize_rows(copy.astype(np.float32)) for copy in noisy)])
    return Q


def measure(pictures: tuple[Any, Any, Any, float], kind: str, strangers: Any, K: int, seed: list[int]) -> list[float]:
    """True and estimated share of members, M, N, lambda, accuracy without the pool and with it, judged by shots and by class means."""
    X, y, text, scale = pictures
    rng = np.random.default_rng(seed)
    shots = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:K] for c in range(len(text))])
    rest = np.setdiff1d(np.arange(len(y)), shots)
    rest = rest[cut(y[rest], kind, rng)]
    U = pool(X[rest], kind, strangers, rng)
    clf = ProjectAndMix(logit_scale=scale, calibrate=True).fit(X[shots], y[shots], text=text)
    without = clf.score(X[rest], y[rest])
    by_means = clf.use_pool(U).score(X[rest], y[rest])
    with_pool = clf.use_pool(U, shots=(X[shots], y[shots])).score(X[rest], y[rest])
    taken: Any = clf.pool_
    trust = [taken.members, taken.mass, taken.rows_a_class, taken.weight]
    return [len(rest) / len(U), *trust, 100 * without, 100 * with_pool, 100 * by_means]


def table(rows: list[tuple[str, str]], seed: int, draws: int, known: dict[str, tuple[Any, Any, Any, float]]) -> None:
    """Print it, as it is measured."""
    print(
        "| pictures, classes | pool | shots | of a class: true, found | M, N | lambda | without | with | difference, worst draw | loaded |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    means, loaded = [], []
    for name, kind in rows:
        for K in SHOTS:
            count = 1 if name == "imagenet" else draws
            found = np.array(
                [measure(known[name], kind, strangers_of(name, known), K, [seed, i, K]) for i in range(count)]
            )
            true, members, M, N, weight, without, with_pool, by_means = found.mean(axis=0)
            means.append(with_pool - without)
            loaded.append(by_means - without)
            worst = (found[:, 6] - found[:, 5]).min()
            print(
                f"| {name}, {len(known[name][2])} | {kind} | {K} | {true:.2f}, {members:.2f} | {M:.2f}, {N:.1f} | {weight:.2f} "
                f"| {without:.1f} | {with_pool:.1f} | {means[-1]:+.1f}, {worst:+.1f} | {loaded[-1]:+.1f} |",
                flush=True,
            )
    for what, gains in (("judged by the shots", means), ("judged by class means, as after loading", loaded)):
        print(
            f"\n{len(gains)} rows, {what}: used in {np.count_nonzero(gains)}, mean {np.mean(gains):+.2f}, "
            f"least {min(gains):+.2f}, largest {max(gains):+.2f}."
        )


def main() -> None:
    """Print both tables, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=list(PARTS))
    parser.add_argument("--draws", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    known = sets()
    for part, (title, rows, seed) in PARTS.items():
        if arguments.part in (None, part):
            print(f"\n{title}:\n")
            table(rows, seed, arguments.draws, known)


if __name__ == "__main__":
    main()
