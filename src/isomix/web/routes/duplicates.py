"""Duplicates: identical bytes, near ones around a threshold, leaks between splits, verdicts, and files of all that."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections import defaultdict
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from isomix.errors import InputError
from isomix.neighbors import near_pairs
from isomix.store.thumbnails import THUMBNAIL_SIDE
from isomix.web.routes.common import Body, StudioOf, attachment, csv_text, sends
from isomix.web.studio import Studio
from isomix.web.text import file_stem, printable

router = APIRouter()
FLOORS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
MAX_PAIRS = 300_000
AROUND = 6
Threshold = Annotated[float, Query(ge=-1, le=1)]


class NearPairs(NamedTuple):
    """Near pairs of a table by descending score; those below ``floor`` were not looked for."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    scores: NDArray[np.floating[Any]]
    floor: float


def identical(studio: Studio) -> list[list[int]]:
    """Groups of rows whose files have the same bytes."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(studio.rows.hashes):
        if digest:
            groups[digest].append(row)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group[0]))


def pairs_of(studio: Studio) -> NearPairs:
    """All near pairs that are not of identical bytes; :class:`Working` while they are looked for."""
    n = len(studio.rows)

    def look() -> NearPairs:
        for floor in FLOORS:
            try:
                found = near_pairs(studio.rows.vectors, threshold=floor, max_pairs=MAX_PAIRS)
            except InputError:
                if floor == FLOORS[-1]:
                    raise
                continue
            digests = np.array(studio.rows.hashes)
            other = (digests[found.left] != digests[found.right]) | (digests[found.left] == "")
            return NearPairs(found.left[other], found.right[other], found.scores[other], floor)
        raise AssertionError("the last floor returns or raises")

    return studio.slow.result("pairs", look, f"comparing {n * (n - 1) // 2:,} pairs", wait=0.3)


@router.get("/api/duplicates")
def duplicates(
    studio: StudioOf,
    threshold: Threshold = 0.97,
    offset: Annotated[int, Query(ge=0, le=10**7)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 30,
) -> dict[str, Any]:
    """Groups of duplicates at a threshold, and the six pairs on either side of it."""
    near = pairs_of(studio)
    same = identical(studio)
    above = int(np.searchsorted(-near.scores, -threshold, side="right"))
    groups = _groups(studio, near, above)
    leaks = _leaks(studio, near, above, same)
    shown_groups, shown_same = groups[offset : offset + limit], same[offset : offset + limit]
    nearest = [*range(max(0, above - AROUND), above)], [*range(above, min(len(near.scores), above + AROUND))]
    verdicts = studio.side_file.verdicts
    shown = {row for group in (*shown_groups, *shown_same) for row in group}
    shown |= {int(side[i]) for i in (*nearest[0], *nearest[1]) for side in (near.left, near.right)}
    shown |= {row for leak in leaks[:limit] for row in leak[:2]}
    return {
        "threshold": threshold,
        "floor": near.floor,
        "pairs": above,
        "pairs_in_all": len(near.scores),
        "histogram": np.histogram(near.scores, bins=60, range=(near.floor, 1.0))[0].tolist(),
        "above": [_pair(studio, near, i, verdicts) for i in nearest[0]],
        "below": [_pair(studio, near, i, verdicts) for i in nearest[1]],
        "groups": shown_groups,
        "n_groups": len(groups),
        "identical": shown_same,
        "n_identical": len(same),
        "leaks": [{"left": left, "right": right, "score": score} for left, right, score in leaks[:limit]],
        "n_leaks": len(leaks),
        "verdicts": len(verdicts),
        "splits": sorted({printable(split) for split in studio.rows.splits if split is not None}),
        "known": studio.describe(sorted(shown)),
    }


def _pair(studio: Studio, near: NearPairs, i: int, verdicts: dict[tuple[str, str], str]) -> dict[str, Any]:
    left, right = int(near.left[i]), int(near.right[i])
    first, second = sorted((studio.rows.ids[left], studio.rows.ids[right]))
    return {
        "left": left,
        "right": right,
        "score": round(float(near.scores[i]), 5),
        "verdict": verdicts.get((first, second)),
    }


def _groups(studio: Studio, near: NearPairs, above: int) -> list[list[int]]:
    """Connected rows of the pairs above the threshold, without pairs that were judged different; the largest first."""
    number = studio.rows.number_of
    judged = {
        frozenset((number[a], number[b]))
        for (a, b), verdict in studio.side_file.verdicts.items()
        if verdict == "different" and a in number and b in number
    }
    left, right = near.left[:above], near.right[:above]
    if judged:
        kept = np.array([frozenset((int(a), int(b))) not in judged for a, b in zip(left, right, strict=True)], bool)
        left, right = left[kept], right[kept]
    rows, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    if not len(rows):
        return []
    i, j = places[: len(left)], places[len(left) :]
    component = connected_components(
        coo_array((np.ones(len(i), bool), (i, j)), shape=(len(rows), len(rows))), directed=False
    )[1]
    order = np.argsort(component, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(component[order])) + 1)
    return sorted((group.tolist() for group in groups), key=lambda group: (-len(group), group[0]))


def _leaks(studio: Studio, near: NearPairs, above: int, same: list[list[int]]) -> list[tuple[int, int, float]]:
    """Pairs, identical or near, whose rows stand in different splits."""
    splits = studio.rows.splits

    def differ(a: int, b: int) -> bool:
        return splits[a] is not None and splits[b] is not None and splits[a] != splits[b]

    exact = [(g[0], other, 1.0) for g in same for other in g[1:] if differ(g[0], other)]
    close = [
        (int(a), int(b), round(float(s), 5))
        for a, b, s in zip(near.left[:above], near.right[:above], near.scores[:above], strict=True)
        if differ(int(a), int(b))
    ]
    return exact + close


class VerdictBody(Body):
    """What a pair is; null takes it back."""

    left: Annotated[int, Field(ge=0)]
    right: Annotated[int, Field(ge=0)]
    verdict: Literal["same", "different", "later"] | None


@router.post("/api/verdicts")
def judge(studio: StudioOf, body: VerdictBody) -> dict[str, int]:
    """Keep a verdict on a pair; nothing is ever deleted."""
    left, right = studio.check_row(body.left), studio.check_row(body.right)
    studio.side_file.judge(studio.rows.ids[left], studio.rows.ids[right], body.verdict)
    return {"verdicts": len(studio.side_file.verdicts)}


@router.get(
    "/api/export/duplicates", response_class=Response, responses=sends("text/csv", "application/json", "text/html")
)
def export_duplicates(
    studio: StudioOf, request: Request, threshold: Threshold = 0.97, kind: Literal["csv", "json", "html"] = "csv"
) -> Response:
    """Groups and leaks at a threshold."""
    near, same = pairs_of(studio), identical(studio)
    above = int(np.searchsorted(-near.scores, -threshold, side="right"))
    listed = [("identical", group) for group in same] + [("near", group) for group in _groups(studio, near, above)]
    stem = f"{file_stem(studio.path.stem)}-duplicates"
    paths = studio.rows.paths
    if kind == "csv":
        rows = (
            (number, what, paths[row], studio.rows.splits[row])
            for number, (what, group) in enumerate(listed, 1)
            for row in group
        )
        return attachment(csv_text(("group", "kind", "path", "split"), rows), f"{stem}.csv", "text/csv; charset=utf-8")
    if kind == "json":
        leaks = _leaks(studio, near, above, same)
        value = {
            "threshold": threshold,
            "groups": [{"kind": what, "paths": [printable(paths[row]) for row in group]} for what, group in listed],
            "leaks": [{"left": printable(paths[a]), "right": printable(paths[b]), "cosine": s} for a, b, s in leaks],
        }
        return attachment(json.dumps(value, ensure_ascii=False, indent=1), f"{stem}.json", "application/json")
    return attachment(_page(studio, request, listed, threshold), f"{stem}.html", "text/html; charset=utf-8")


def _page(studio: Studio, request: Request, listed: list[tuple[str, list[int]]], threshold: float) -> str:
    parts = [
        "<!doctype html><meta charset=utf-8><title>Duplicates</title><style>body{font:15px/1.5 system-ui;margin:2rem;"
        "color-scheme:light dark}img{width:96px;height:96px;object-fit:cover;border-radius:8px;margin:2px}</style>",
        f"<h1>{html.escape(printable(studio.path.name))}: {len(listed)} groups at a cosine of {threshold:g}</h1>",
    ]
    for number, (what, group) in enumerate(listed, 1):
        parts.append(f"<h2>{number} · {what}</h2><p>")
        for row in group:
            content = request.app.state.pictures.get(studio.rows, row, THUMBNAIL_SIDE)
            name = html.escape(printable(studio.rows.paths[row]), quote=True)
            parts.append(
                f'<img alt="{name}" title="{name}" src="data:image/webp;base64,{b64encode(content).decode()}">'
                if content
                else f"<code>{name}</code> "
            )
    return "".join(parts)
