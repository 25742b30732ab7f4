"""Every classifier, the weights chosen in three ways, on few-shot features of ImageNet: a table in Markdown.

    python studies/table_fewshot.py FOLDER [--shots 1 2 4]

FOLDER holds ``vitb32_imagenet_fewshot.npz``. Support: one of its sets; queries: half of the images of the other two, less
near-duplicates of the support (cosine above 0.995). The other half is the validation set of the tiers "few-validation" and
"validation"; by leave-one-out the classifier sees the support alone. All tiers are scored on the same queries. The file has one text a class, so
TIMO has no prompts to choose from here; studies/fewshot.py has several.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np

from isomix.errors import IsomixWarning
from isomix.fewshot import CLASSIFIERS
from isomix.fewshot.weights import HELD_OUT_SOURCES
from isomix.linalg import normalize_rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--without", nargs="*", default=[], help="methods to leave out, e.g. proker, which takes minutes"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", IsomixWarning)
    with np.load(arguments.folder / "vitb32_imagenet_fewshot.npz") as stored:
        images = {k: normalize_rows(stored[f"images_{k}"].astype(np.float32)) for k in (1, 2, 4)}
        labels = {k: stored[f"labels_{k}"] for k in (1, 2, 4)}
        text = normalize_rows(stored["text"].astype(np.float32))
    print(
        "| shots | method | leave-one-out | few-validation | validation | seconds, leave-one-out |\n|---|---|---|---|---|---|"
    )
    for shots in arguments.shots:
        X, y = images[shots], labels[shots]
        others = [k for k in (1, 2, 4) if k != shots]
        Q, q = np.concatenate([images[k] for k in others]), np.concatenate([labels[k] for k in others])
        fresh = np.flatnonzero((Q @ X.T).max(axis=1) <= 0.995)
        half = np.random.default_rng(0).permutation(fresh)
        V, v = Q[half[: len(half) // 2]], q[half[: len(half) // 2]]
        Q, q = Q[half[len(half) // 2 :]], q[half[len(half) // 2 :]]
        for name, cls in CLASSIFIERS.items():
            if name in arguments.without:
                continue
            cells, seconds = [], 0.0
            for tier in HELD_OUT_SOURCES:
                start = time.perf_counter()
                clf = cls().fit(X, y, text=text, validation=None if tier == "leave-one-out" else (V, v), tier=tier)
                seconds = seconds or time.perf_counter() - start
                score = f"{100 * clf.score(Q, q):.1f}"
                cells.append(score if clf.weight_tier_ == tier else f"{score} ({clf.weight_tier_})")
                if clf.weight_tier_ == "given":  # nothing to choose: the tiers are one
                    cells += ["", ""]
                    break
            print(f"| {shots} | {name} | {' | '.join(cells)} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
