"""What calibration by default is worth, and what it costs: the table of docs/few-shot.md.

Run: ``python studies/calibration.py``, or ``make study``. Project and Mix with weights from the shots alone, its probabilities as
they were (``calibrate=False``) and as they are by default; labels are the same. Sets and draws are those of
``studies/fewshot.py``, and ImageNet, where its few-shot features are beside the checkout. The bundled pictures are judged twice,
with the logit scale of their encoder and without any, which leaves 100. One thing was chosen while looking
at this table: that the class a label may wrongly stand for is the best of the others (calibrated_temperature), not any of them.

The last line is the processor time of ``fit`` with the default over that without, alternated in one process.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from fewshot import DATA, SEEDS, tasks

from isomix.benchmark.shots import draw_few_shot
from isomix.errors import IsomixWarning
from isomix.fewshot import ProjectAndMix
from isomix.linalg import normalize_rows
from isomix.metrics import classification_metrics

SHOTS = (2, 4, 16)
Split = tuple[Any, Any, Any, Any, Any]
"""Shots and their labels, texts, queries and their labels."""


def splits() -> Iterable[tuple[str, int, float | None, list[Split]]]:
    """Name, shots, logit scale (None: not said) and draws of every row."""
    for task in tasks():
        X = normalize_rows(task.X)
        for scale in (None, task.logit_scale) if task.logit_scale != 100.0 else (None,):
            name = task.name if scale is None else f"{task.name}, logit scale {scale:.1f}"
            for shots in SHOTS:
                if shots not in task.shots:
                    continue
                draws = []
                for seed in SEEDS:
                    drawn = np.array(draw_few_shot(task.y.tolist(), shots, random.Random(seed)))
                    rest = np.setdiff1d(np.arange(len(X)), drawn)
                    draws.append((X[drawn], task.y[drawn], task.text, X[rest], task.y[rest]))
                yield name, shots, scale, draws
    if not DATA.is_dir():
        return
    with np.load(DATA / "vitb32_imagenet_fewshot.npz") as stored:
        images = {k: normalize_rows(stored[f"images_{k}"].astype(np.float32)) for k in (1, 2, 4)}
        labels = {k: stored[f"labels_{k}"].astype(np.intp) for k in (1, 2, 4)}
        text = normalize_rows(stored["text"].astype(np.float32))
    for shots in (2, 4):
        Q, q = (np.concatenate([part[k] for k in (1, 2, 4) if k != shots]) for part in (images, labels))
        fresh = (Q @ images[shots].T).max(axis=1) <= 0.995  # the file's sets overlap
        yield (
            "ViT-B/32, ImageNet, 1000 classes",
            shots,
            None,
            [(images[shots], labels[shots], text, Q[fresh], q[fresh])],
        )


def judge(split: Split, scale: float | None) -> list[float]:
    """Accuracy, and confidence and calibration error without and with the default, in per cent; and the temperature."""
    X, y, text, Q, q = split
    found: list[float] = []
    for calibrate in (False, "auto"):
        clf = ProjectAndMix(logit_scale=scale, calibrate=calibrate).fit(X, y, text=text)
        chances = clf.predict_proba(Q)
        scores = classification_metrics(q, clf.predict(Q), chances)
        found += [scores["accuracy"], float(chances.max(axis=1).mean()), scores["expected_calibration_error"]]
    if found[0] != found[3]:
        raise RuntimeError("the temperature changed a label")
    return [100 * value for value in (found[0], found[1], found[4], found[2], found[5])] + [clf.temperature_]


def cost() -> float:
    """Median ratio of processor times, 100 classes of 16 shots in 512 dimensions."""
    rng = np.random.default_rng(0)
    text = normalize_rows(rng.standard_normal((100, 512)))
    y = np.repeat(np.arange(100), 16)
    X = normalize_rows(0.5 * text[y] + rng.standard_normal((1600, 512)) / 512**0.5).astype(np.float32)

    def seconds(calibrate: bool | str) -> float:
        start = time.process_time()
        ProjectAndMix(calibrate=calibrate).fit(X, y, text)
        return time.process_time() - start

    pairs = [(seconds("auto"), seconds(False)) for _ in range(41)]
    return float(np.median([auto / plain for auto, plain in pairs]))


def main() -> None:
    """Print the table and the cost."""
    warnings.simplefilter("ignore", IsomixWarning)
    print(
        "| set | shots | accuracy | mean confidence | calibration error | temperature |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name, shots, scale, draws in splits():
        accuracy, before, after, error, mended, temperature = np.mean([judge(split, scale) for split in draws], axis=0)
        cells = f"{accuracy:.1f} | {before:.1f} → {after:.1f} | {error:.1f} → {mended:.1f} | {temperature:.2g}"
        print(f"| {name} | {shots} | {cells} |", flush=True)
    print(f"\nfit with the default over fit without, processor time: {cost():.3f}")


if __name__ == "__main__":
    main()
