"""What isomix computes from fixed inputs, as an .npz file; run as ``python probe.py OUT.npz`` in a process of its own."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Gallery with ties and near-duplicates, labels, rows of shots, class texts."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 192))
    labels = np.repeat(np.arange(12), 50)
    rows = (centres[labels] + 1.5 * rng.standard_normal((600, 192))).astype(np.float32)
    rows[310:320] = rows[10:20]
    rows[420:430] = rows[20:30] + np.float32(0.01) * rng.standard_normal((10, 192)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    shots = np.flatnonzero(np.arange(600) % 50 < 4)
    text = {f"class {c}": centres[c] / np.linalg.norm(centres[c]) for c in range(12)}
    return rows, labels, shots, text


def computed(order: np.ndarray | None = None, **blocks: int) -> dict[str, np.ndarray]:
    """Results by name. Those whose name ends in "!" are promised to the bit.

    ``order`` permutes the gallery of searches and the shots of fits; results are given for the rows as they were.
    """
    import isomix
    from isomix.fewshot import CLASSIFIERS, GDA
    from isomix.metrics import retrieval_metrics
    from isomix.neighbors import near_pairs, search

    rows, labels, shots, text = inputs()
    names = np.array([f"class {label}" for label in labels])
    order = np.arange(len(rows)) if order is None else order
    scores, found = search(rows[:100], rows[order], 8, **blocks)
    pairs = near_pairs(rows[order], threshold=0.9)
    left, right = order[pairs.left], order[pairs.right]
    by_name = np.lexsort((np.maximum(left, right), np.minimum(left, right)))
    metrics = retrieval_metrics(rows[order], labels[order])
    iso = isomix.IsoCLIP(isomix.Projectors.from_pretrained("embedded"), modality="image").fit()
    results = {
        "search scores!": scores,
        "search rows, without ties!": np.where(_alone(scores), order[found], -1),
        "near pairs!": np.stack([np.minimum(left, right), np.maximum(left, right)])[:, by_name],
        "mean average precision": np.array(metrics["mean_average_precision"]),  # ranks order ties by row number
        "adapted": iso.transform(rows),
    }
    chosen = order[np.isin(order, shots)]
    for kind in (isomix.ProjectAndMix, isomix.MixedPrototypes, GDA):
        classifier = kind().fit(rows[chosen], names[chosen], text=text)
        name = next(name for name, known in CLASSIFIERS.items() if known is kind)
        results[f"{name} labels!"] = classifier.predict(rows)
        results[f"{name} probabilities"] = classifier.predict_proba(rows)
        results[f"{name} weights"] = np.array([value for _, value in sorted(classifier.weights_.items())], np.float64)
    return results


def written() -> dict[str, np.ndarray]:
    """Bytes of what the verbs write."""
    import isomix
    from isomix.store import adapt, embed
    from isomix.store.table import EmbeddingTable

    rows, labels, shots, text = inputs()
    pictures = Path(isomix.__file__).parent / "demo" / "pictures" / "icons" / "bell"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "rows.npy", rows)
        iso = isomix.IsoCLIP(isomix.Projectors.from_pretrained("embedded"), modality="image").fit()
        for number, size in enumerate((64, 600)):
            adapt(folder / "rows.npy", folder / f"adapted{number}.npy", iso, rows_per_block=size)
        iso.save(folder / "space.safetensors")
        fitted = isomix.ProjectAndMix().fit(rows[shots], [f"class {labels[i]}" for i in shots], text=text)
        fitted.save(folder / "model.safetensors")
        embed(pictures, folder / "table.lance", isomix.load_encoder("embedded"), batch_size=4)
        table = EmbeddingTable.open(folder / "table.lance")
        files = {
            f"{path.name}!": path.read_bytes() for path in folder.iterdir() if path.suffix in (".npy", ".safetensors")
        }
        results = {name: np.frombuffer(content, np.uint8) for name, content in files.items() if name != "rows.npy!"}
        return results | {"table paths!": np.array(table.column("path")), "table embeddings!": table.embeddings()}


def _alone(scores: np.ndarray) -> np.ndarray:
    """Which scores of a row no other of it equals; the last may equal one that is not shown."""
    same = np.isclose(np.diff(scores, axis=1), 0, atol=1e-7)
    ends = np.ones((len(scores), 1), bool)
    return ~(np.hstack([same, ends]) | np.hstack([~ends, same]))


if __name__ == "__main__":
    np.savez(sys.argv[1], **computed(), **written())
