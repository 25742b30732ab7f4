"""Retrieval metrics beside pytorch-metric-learning's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from isomix import retrieval_metrics

NAMES = (
    "mean_average_precision",
    "mean_average_precision_at_r",
    "mean_reciprocal_rank",
    "precision_at_1",
    "r_precision",
)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("separation", [0.0, 1.0])
def test_all_against_all(seed, separation):
    """Random scores of both signs, and classes that separate; the query itself is not retrieved."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(9), rng.integers(2, 12, 9))
    Z = unit(rng.normal(size=(len(labels), 8)) + separation * rng.normal(size=(9, 8))[labels])
    theirs = AccuracyCalculator(include=NAMES, device=torch.device("cpu")).get_accuracy(
        torch.tensor(Z), torch.tensor(labels)
    )
    ours = retrieval_metrics(Z, labels)
    for name in NAMES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name


def test_queries_against_a_gallery():
    rng = np.random.default_rng(0)
    Q, G = unit(rng.normal(size=(20, 8))), unit(rng.normal(size=(70, 8)))
    q, g = rng.integers(0, 5, 20), rng.integers(0, 5, 70)
    theirs = AccuracyCalculator(include=NAMES, device=torch.device("cpu")).get_accuracy(
        torch.tensor(Q), torch.tensor(q), torch.tensor(G), torch.tensor(g)
    )
    ours = retrieval_metrics(Q, q, G, g)
    for name in NAMES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name
