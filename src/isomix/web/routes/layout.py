"""The map: every picture a point, in the plain space and in an adapted one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from numpy.typing import NDArray

from isomix.errors import InputError, IsomixError
from isomix.web.routes.common import StudioOf, sends
from isomix.web.studio import Studio

router = APIRouter()
MAX_TSNE = 20_000
SAMPLE = 20_000
Singles = NDArray[np.float32]
Method = Literal["auto", "pca", "tsne"]
Top = Annotated[int, Query(ge=0, le=100_000)]


@router.get("/api/layout")
def layout(
    studio: StudioOf,
    space: Annotated[str, Query(max_length=120)] = "isoclip",
    k_top: Top = 0,
    k_bottom: Top = 0,
    method: Method = "auto",
) -> dict[str, Any]:
    """How the layout was made; computes it on the first call."""
    used, note = _method(studio, method)
    plain, adapted, reason = _positions(studio, space, (k_top, k_bottom), used)
    return {"method": used, "note": note, "rows": len(plain), "adapted": adapted is not None, "reason": reason}


@router.get("/api/layout.bin", response_class=Response, responses=sends("application/octet-stream"))
def layout_numbers(
    studio: StudioOf,
    space: Annotated[str, Query(max_length=120)] = "isoclip",
    k_top: Top = 0,
    k_bottom: Top = 0,
    method: Method = "auto",
) -> Response:
    """The layout as little-endian float32: x and y of every row in the plain space, then in the adapted one, if there is one."""
    used, _ = _method(studio, method)
    plain, adapted, _ = _positions(studio, space, (k_top, k_bottom), used)
    both = plain if adapted is None else np.concatenate([plain, adapted])
    return Response(np.ascontiguousarray(both, "<f4").tobytes(), media_type="application/octet-stream")


def _method(studio: Studio, method: Method) -> tuple[str, str]:
    if {"x", "y"} <= set(studio.rows.table.columns):
        return "columns", "the columns x and y of the table"
    n = len(studio.rows)
    at_hand = find_spec("openTSNE") is not None
    if method == "tsne" and not at_hand:
        raise InputError("t-SNE needs openTSNE. Install it with: pip install 'isomix[map]'")
    if method == "pca" or n < 30:
        return "pca", "the two directions of largest variance"
    if method == "tsne" or (at_hand and n <= MAX_TSNE):
        return "tsne", "t-SNE; the adapted layout starts from the plain one"
    why = f"more than {MAX_TSNE:,} pictures" if at_hand else "openTSNE is not installed (isomix[map])"
    return "pca", f"the two directions of largest variance; t-SNE would show more ({why})"


def _positions(studio: Studio, space: str, band: tuple[int, int], method: str) -> tuple[Singles, Singles | None, str]:
    key = ("layout", space, band, method)
    if method == "columns":
        table = studio.rows.table
        return (
            _fit(np.array([table.column("x"), table.column("y")], np.float32).T),
            None,
            "the table's own x and y have one layout",
        )

    problem = ""
    try:
        studio.check_band(space, band)
    except IsomixError as error:
        problem = str(error)

    def compute() -> tuple[Singles, Singles | None, str]:
        start = _pca(studio.rows.vectors)
        plain = start if method == "pca" else _tsne(studio.rows.vectors, start)
        if problem:
            return _fit(plain), None, problem
        vectors = studio.adapted_vectors(space, band)
        adapted = _pca(vectors) if method == "pca" else _tsne(vectors, plain)
        return _fit(plain), _aligned(_fit(adapted), _fit(plain)), ""

    return studio.slow.result(key, compute, f"laying out {len(studio.rows):,} pictures twice", wait=0.2)


def _pca(vectors: Singles) -> Singles:
    sample = vectors[np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]]
    mean = sample.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov((sample - mean).T.astype(np.float64)))
    return np.asarray((vectors - mean) @ directions[:, :-3:-1].astype(np.float32))


def _tsne(vectors: Singles, start: Singles) -> Singles:
    from openTSNE import TSNE
    from openTSNE.initialization import rescale

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(
        perplexity=perplexity, initialization=rescale(start.astype(np.float64)), random_state=0, n_jobs=1, n_iter=350
    )
    return np.asarray(tsne.fit(vectors), np.float32)


def _fit(points: Singles) -> Singles:
    """Into the unit square, shape kept, outliers clipped to its edge."""
    low, high = np.percentile(points, [0.2, 99.8], axis=0)
    scale = max(float((high - low).max()), 1e-9)
    return np.asarray(np.clip(0.5 + (points - (low + high) / 2) / scale * 0.96, 0.0, 1.0), np.float32)


def _aligned(points: Singles, target: Singles) -> Singles:
    """Turned and mirrored so that points move as little as can be (orthogonal Procrustes)."""
    centred, goal = points - points.mean(axis=0), target - target.mean(axis=0)
    U, _, Vt = np.linalg.svd(centred.T @ goal)
    return _fit(np.asarray(centred @ (U @ Vt), np.float32))
