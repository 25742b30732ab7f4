"""Few-shot fitting and prediction against scikit-learn and against plain grid searches; ratios within one run.

    python benches/bench_fewshot.py [--classes 1000 --shots 16 --width 512 --views 10 --validation 50000]

Embeddings are synthetic (unit rows around unit class means, class texts apart by a gap): speed does not depend on them.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from isomix.fewshot import GDA, ProjectAndMix, TipAdapter
from isomix.linalg import normalize_rows


def timed(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    best, result = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def naive_tip_adapter(X: Any, y: Any, T: Any, Xv: Any, yv: Any) -> float:
    """The published search: 200 x 20 candidates on the validation set, everything computed again for each."""
    clip_logits, affinity, onehot = 100 * Xv @ T.T, Xv @ X.T, np.eye(len(T), dtype=X.dtype)[y]
    best = 0.0
    for beta in np.linspace(0.1, 7.0, NAIVE_STEPS):
        for alpha in np.linspace(0.1, 3.0, NAIVE_STEPS):
            logits = clip_logits + alpha * (np.exp(-beta * (1 - affinity)) @ onehot)
            best = max(best, float((logits.argmax(1) == yv).mean()))
    return best


def naive_gda(X: Any, y: Any, T: Any, Xv: Any, yv: Any) -> float:
    """GDA's published search, step by step as the authors' script has it (github mrflogs/ICLR24), on this machine's BLAS.

    A mask over all samples for every class, twice; the covariance, twice; its pseudo-inverse; and for each of seven alphas the
    zero-shot logits, the discriminant and the accuracy on the validation set again. Nothing is slower than there: the script's
    float32 products are float32 products here.
    """
    mu = np.stack([X[y == c].mean(0) for c in range(len(T))])
    R = np.concatenate([X[y == c] - mu[c] for c in range(len(T))])
    n, d = R.shape

    def covariance() -> Any:
        centred = R - R.mean(0)
        return centred.T @ centred / (n - 1)

    ridge = np.trace(covariance()) * np.eye(d, dtype=X.dtype)
    precision = d * np.linalg.pinv((n - 1) * covariance() + ridge)
    W = precision @ mu.T
    b = np.log(1 / len(T)) - 0.5 * ((mu @ precision) * mu).sum(1)
    best = 0.0
    for alpha in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0):
        logits = 100 * Xv @ T.T + np.float32(alpha) * (Xv @ W + b)
        best = max(best, float((logits.argmax(1) == yv).mean()))
    return best


NAIVE_STEPS = 2  # of 200 x 20 (Tip-Adapter's search_step); the time is scaled up to 4,000 candidates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--views", type=int, default=10, help="augmented views in GDA's protocol; 0 to skip it")
    parser.add_argument("--validation", type=int, default=50_000, help="validation pictures there; ImageNet has 50,000")
    parser.add_argument("--skip-sklearn", action="store_true")
    arguments = parser.parse_args()
    C, K, d = arguments.classes, arguments.shots, arguments.width
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(C, d)) + 2.0
    y = np.repeat(np.arange(C), K)

    def around(labels: Any, noise: float) -> Any:
        return normalize_rows((centres[labels] + noise * rng.normal(size=(len(labels), d))).astype(np.float32))

    X, T = around(y, 3.0), normalize_rows((centres + 1.5 * rng.normal(size=(C, d)) - 4.0).astype(np.float32))
    yv = np.repeat(np.arange(C), min(K, 4))
    Xv, Q = around(yv, 3.0), around(rng.integers(0, C, arguments.queries), 3.0)
    base = peak_mb()
    ours, clf = timed(lambda: ProjectAndMix().fit(X, y, text=T), 3)
    print(
        f"fit of {C} classes x {K} shots x {d}, weights chosen (ProjectAndMix): {ours:.2f} s, peak +{peak_mb() - base:.0f} MB"
    )
    print(f"  of which without choosing: {timed(lambda: ProjectAndMix(0.3, 100, 0.1).fit(X, y, text=T), 3)[0]:.2f} s")

    product, _ = timed(lambda: Q @ clf.coef_.T.astype(np.float32), 5)
    predict, _ = timed(lambda: clf.predict(Q), 5)
    print(f"predict {len(Q)} rows: {predict:.3f} s, {predict / product:.2f} x the bare matrix product")

    alone, _ = timed(lambda: GDA().fit(X, y, text=T), 3)
    print(f"GDA, weight by leave-one-out, no validation pictures: {alone:.2f} s")
    gda, _ = timed(lambda: GDA().fit(X, y, text=T, validation=(Xv, yv)), 3)
    naive, _ = timed(lambda: naive_gda(X, y, T, Xv, yv))
    print(f"  same samples, {len(yv)} validation pictures: {gda:.2f} s; its script {naive:.2f} s, {naive / gda:.1f} x")
    if arguments.views:
        many, of_many = around(np.tile(y, arguments.views), 3.0), np.tile(y, arguments.views)
        q = rng.integers(0, C, arguments.validation)
        V = around(q, 3.0)
        gda, _ = timed(lambda: GDA().fit(many, of_many, text=T, validation=(V, q)))
        naive, _ = timed(lambda: naive_gda(many, of_many, T, V, q))
        print(
            f"  its protocol, {arguments.views} views of a shot as samples, {len(V)} validation pictures: {gda:.2f} s; its "
            f"script {naive:.2f} s, {naive / gda:.1f} x; {naive / alone:.1f} x ours without views and validation pictures"
        )
        del many, of_many, V
    tip, _ = timed(lambda: TipAdapter().fit(X, y, text=T, validation=(Xv, yv)))
    tip_naive, _ = timed(lambda: naive_tip_adapter(X, y, T, Xv, yv))
    tip_naive *= 4000 / NAIVE_STEPS**2
    print(
        f"Tip-Adapter, weights likewise: {tip:.2f} s; naive search {tip_naive:.0f} s (scaled), {tip_naive / tip:.1f} x"
    )
    if not arguments.skip_sklearn:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        rounds = []  # in turns, because a machine's speed drifts
        for _ in range(3):
            lda, _ = timed(lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, y))
            rounds.append((lda, timed(lambda: ProjectAndMix().fit(X, y, text=T), 3)[0]))
        print(
            f"scikit-learn LDA (lsqr, shrinkage='auto'): {np.median([a for a, _ in rounds]):.1f} s, "
            f"{np.median([a / b for a, b in rounds]):.1f} x ProjectAndMix with weights chosen (median of 3 rounds)"
        )


if __name__ == "__main__":
    main()
