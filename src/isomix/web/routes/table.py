"""The table, its rows, pictures and selections."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from isomix import __version__
from isomix.errors import InputError
from isomix.web.jobs import Working
from isomix.web.pictures import SIDES, Pictures
from isomix.web.routes.common import Body, StudioOf, attachment, csv_text, parse_rows, sends
from isomix.web.text import file_stem, printable

router = APIRouter()
IMMUTABLE = "private, max-age=31536000, immutable"
MAX_SHEET = 256
# Nothing to see: a frame with a line through it, in a grey that both themes bear.
MISSING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><rect width="96" height="96" fill="#8884"/>'
    '<path d="M30 66 66 30M30 30h36v36H30z" fill="none" stroke="#888" stroke-width="2"/></svg>'
)


@router.get("/api/table")
def table(studio: StudioOf) -> dict[str, Any]:
    """What is open: the table, its model, its spaces, what people said so far."""
    rows = studio.rows
    labels = Counter(label for label in rows.labels if label is not None)
    splits = Counter(split for split in rows.splits if split is not None)
    try:
        studio.encoder()
        words = {"ready": True, "reason": ""}
    except Working as working:
        words = {"ready": False, "reason": "", "working": working.what}
    except Exception:  # noqa: BLE001 - the reason is what the page shows
        words = {"ready": False, "reason": studio.encoder_problem()}
    return {
        "name": printable(studio.path.name),
        "rows": len(rows),
        "width": int(rows.vectors.shape[1]),
        "model": printable(rows.table.metadata.model),
        "spaces": studio.spaces(),
        "words": words,
        "labels": [{"name": printable(name), "count": count} for name, count in labels.most_common(1000)],
        "n_labels": len(labels),
        "splits": {printable(name): count for name, count in splits.items()},
        "read_only": studio.read_only,
        "change": studio.change,
        "revision": studio.side_file.revision,
        "thumbnails": len(studio.thumbnails),
        "version": __version__,
    }


@router.post("/api/reload")
def reload(studio: StudioOf) -> dict[str, int]:
    """Read the table anew after it has changed on the disk."""
    studio.reload()
    return {"rows": len(studio.rows)}


@router.get("/api/rows")
def rows(studio: StudioOf, rows: Annotated[str, Query(max_length=20_000)]) -> dict[str, Any]:
    """What is known of some rows."""
    return {"rows": studio.describe(parse_rows(studio, rows))}


@router.get("/api/examples")
def examples(
    studio: StudioOf, n: Annotated[int, Query(ge=1, le=60)] = 9, seed: Annotated[int, Query(ge=0, le=10**6)] = 0
) -> dict[str, Any]:
    """Rows to begin with: of different labels where there are labels, any otherwise."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(studio.rows)).tolist()
    seen: set[str] = set()
    chosen: list[int] = []
    for row in order:
        label = studio.rows.labels[row]
        if label is None or label not in seen:
            chosen.append(row)
            seen.add(label or "")
        if len(chosen) == n:
            break
    chosen += [row for row in order if row not in set(chosen)][: n - len(chosen)]
    return {"rows": studio.describe(chosen)}


@router.get("/api/picture/{row}", response_class=Response, responses=sends("image/webp", "image/svg+xml"))
def picture(
    studio: StudioOf,
    request: Request,
    row: Annotated[int, Path(ge=0, le=10**9)],
    size: int = SIDES[0],
    v: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The picture of a row, re-encoded; ``v`` makes the address that of this content."""
    number = studio.check_row(row)
    side = min((s for s in SIDES if s >= size), default=SIDES[-1])
    pictures: Pictures = request.app.state.pictures
    content = pictures.get(studio.rows, number, side)
    if content is None:
        return Response(MISSING, media_type="image/svg+xml", headers={"cache-control": "no-store"})
    cache = IMMUTABLE if v and v == (studio.rows.hashes[number][:16] or studio.rows.ids[number][:16]) else "no-store"
    return Response(content, media_type="image/webp", headers={"cache-control": cache})


@router.get("/api/sheet", response_class=Response, responses=sends("image/webp"))
def sheet(studio: StudioOf, request: Request, rows: Annotated[str, Query(max_length=20_000)]) -> Response:
    """Thumbnails of up to 256 rows as one picture, for the map."""
    numbers = parse_rows(studio, rows, MAX_SHEET)
    if not numbers:
        raise InputError("rows: got none, expected at least one row.")
    content = request.app.state.pictures.sheet(studio.rows, numbers)
    return Response(content, media_type="image/webp", headers={"cache-control": "private, max-age=3600"})


class SelectionBody(Body):
    """Rows that belong together."""

    rows: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=1_000_000)


@router.post("/api/selections")
def keep_selection(studio: StudioOf, body: SelectionBody) -> dict[str, str]:
    """Keep a selection that is too long for an address."""
    return {"selection": studio.keep_selection(body.rows)}


@router.get(
    "/api/export/selection", response_class=Response, responses=sends("text/csv", "application/json", "text/plain")
)
def export_selection(
    studio: StudioOf,
    rows: Annotated[str, Query(max_length=20_000)],
    kind: Literal["csv", "json", "txt"] = "csv",
) -> Response:
    """Rows, ids, paths and labels of a selection; all of them."""
    numbers = parse_rows(studio, rows, len(studio.rows) + 1)
    found = studio.describe(numbers)
    columns = ("row", "id", "path", "label", "mine", "split")
    stem = f"{file_stem(studio.path.stem)}-selection"
    if kind == "json":
        text = json.dumps([{name: row[name] for name in columns} for row in found], ensure_ascii=False, indent=1)
        return attachment(text, f"{stem}.json", "application/json")
    if kind == "txt":
        return attachment("".join(f"{row['path']}\n" for row in found), f"{stem}.txt", "text/plain; charset=utf-8")
    text = csv_text(columns, ([row[name] for name in columns] for row in found))
    return attachment(text, f"{stem}.csv", "text/csv; charset=utf-8")


@router.get("/api/codes")
def codes(studio: StudioOf) -> dict[str, Any]:
    """The label of every row as a number, -1 without one; the user's own labels come first."""
    mine = studio.side_file.labels
    labels = [mine.get(i) or label for i, label in zip(studio.rows.ids, studio.rows.labels, strict=True)]
    names = [name for name, _ in Counter(label for label in labels if label is not None).most_common()]
    number = {name: place for place, name in enumerate(names)}
    return {
        "names": [printable(name) for name in names],
        "codes": [-1 if label is None else number[label] for label in labels],
    }
