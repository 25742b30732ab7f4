"""Search: one query in two spaces side by side, nine of them while a band is moved, and votes."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from isomix.errors import ImageError, InputError, IsomixError, ModalityError
from isomix.metrics.proportions import sign_test
from isomix.store.side_file import Vote
from isomix.store.thumbnails import make_thumbnail
from isomix.web.columns import smoothed_words
from isomix.web.jobs import Working
from isomix.web.pictures import read_upload
from isomix.web.routes.common import BandBody, Body, StudioOf, sends
from isomix.web.sides import Band
from isomix.web.sides import Query as SideQuery
from isomix.web.studio import Studio
from isomix.web.text import without_paths

router = APIRouter()
MAX_K = 400
UPLOAD_SECONDS = 20.0
ENOUGH_VOTES = 20
QueryKey = Annotated[str, Field(min_length=3, max_length=600)]


class SearchBody(BandBody):
    """A query: ``row:<number>``, ``rows:<numbers>``, ``upload:<id>`` or ``text:<words>``."""

    query: QueryKey
    k: int = Field(24, ge=1, le=MAX_K)
    exact: bool = True


@router.post("/api/search")
def search(studio: StudioOf, body: SearchBody) -> dict[str, Any]:
    """The nearest pictures of one query, in the plain space and in an adapted one."""
    return search_both(studio, studio.query(body.query), body.space, body.band, body.k, exact=body.exact)


def search_both(
    studio: Studio, query: SideQuery, space: str, band: tuple[int, int] | None, k: int, *, exact: bool = True
) -> dict[str, Any]:
    """What :func:`search` answers."""
    n = len(studio.rows)
    k = min(k, n)
    (plain,) = studio.plain.rank([query], k)
    answer: dict[str, Any] = {
        "query": {"key": query.key, "kind": query.kind, "name": query.name, "row": query.row},
        "rows": n,
        "plain": {
            "hits": [
                _hit(row, score, place)
                for place, (row, score) in enumerate(zip(plain.rows, plain.scores, strict=True), 1)
            ]
        },
        "adapted": None,
        "reason": "",
        "working": "",
    }
    shown = {int(row) for row in plain.rows} | ({query.row} if query.row >= 0 else set())
    try:
        space = studio.place(query, space)
        side = studio.side(space)
        (adapted,) = side.rank([query], k, _band(studio, space, band), exact=exact)
    except Working as working:  # the plain side need not wait
        answer["working"] = working.what
    except IsomixError as error:
        answer["reason"] = without_paths(str(error))
    else:
        was, now = plain.places(adapted.rows), adapted.places(plain.rows)
        answer["adapted"] = {
            "space": space,
            **called(studio, query.kind, space),
            "band": adapted.band,
            "candidates": side.candidates if isinstance(side, Band) else None,
            "hits": [
                {**_hit(row, score, place), "was": before}
                for place, (row, score, before) in enumerate(zip(adapted.rows, adapted.scores, was, strict=True), 1)
            ],
        }
        for hit, place in zip(answer["plain"]["hits"], now, strict=True):
            hit["now"] = place
        shown |= set(adapted.rows.tolist())
    answer["known"] = studio.describe(sorted(shown))
    return answer


def called(studio: Studio, kind: str, space: str) -> dict[str, str]:
    """What a page writes above a side for a kind of query, and how its rows were made."""
    words, _ = smoothed_words(studio.rows)
    if kind == "text" and words is not None:
        return {"title": "plain, smoothed", "note": words.note}
    found = next((each for each in studio.spaces() if each["name"] == space), {})
    return {"title": found.get("title", space), "note": found.get("note", "")}


def _hit(row: np.int64, score: np.float64, place: int) -> dict[str, Any]:
    return {"row": int(row), "rank": place, "cosine": round(float(score), 6)}


def _band(studio: Studio, space: str, band: tuple[int, int] | None) -> tuple[int, int] | None:
    if band is not None:
        return band
    return next((tuple(s["band"]) for s in studio.spaces() if s["name"] == space and s.get("band")), None)


class RerankBody(BandBody):
    """Up to nine queries while a band is moved; without ``exact``, the band on multiples of 16 beside the one given."""

    queries: list[QueryKey] = Field(min_length=1, max_length=9)
    k: int = Field(6, ge=1, le=48)
    exact: bool = False


@router.post("/api/rerank")
def rerank(studio: StudioOf, body: RerankBody) -> dict[str, Any]:
    """The nearest pictures of several queries in one band, with their places in the plain space."""
    queries = [studio.query(key) for key in body.queries]
    for query in queries:
        if studio.place(query, body.space) != body.space:
            raise ModalityError("Words are not ranked here: pinned queries are pictures.")
    side = studio.side(body.space)
    plain = studio.plain.rank(queries, min(body.k, len(studio.rows)))
    adapted = side.rank(queries, min(body.k, len(studio.rows)), _band(studio, body.space, body.band), exact=body.exact)
    version = studio.rows.hashes
    return {
        "band": adapted[0].band,
        "candidates": side.candidates if isinstance(side, Band) else None,
        "queries": [
            {
                "key": query.key,
                "hits": [
                    {
                        "row": int(row),
                        "version": version[row][:16] or studio.rows.ids[row][:16],
                        "was": was,
                        "cosine": round(float(score), 6),
                    }
                    for row, score, was in zip(found.rows, found.scores, before.places(found.rows), strict=True)
                ],
            }
            for query, found, before in zip(queries, adapted, plain, strict=True)
        ],
    }


@router.post("/api/uploads", openapi_extra={"requestBody": {"content": {"image/*": {}}, "required": True}})
async def upload(studio: StudioOf, request: Request) -> dict[str, str]:
    """A picture to look for; it is embedded, and nothing but a small copy in memory is kept."""
    content = await request.body()
    decoding: asyncio.Semaphore = request.app.state.decoding
    async with decoding:
        work = asyncio.ensure_future(run_in_threadpool(_embed, studio, content))
        try:
            return await asyncio.wait_for(asyncio.shield(work), UPLOAD_SECONDS)
        except TimeoutError:
            raise InputError(f"this picture took longer than {UPLOAD_SECONDS:.0f} seconds to read.") from None


def _embed(studio: Studio, content: bytes) -> dict[str, str]:
    image = read_upload(content)
    encoder = studio.encoder(wait=UPLOAD_SECONDS)
    found = encoder.encode_image([image], show_progress_bar=False)
    if not found.ok[0]:
        raise ImageError(found.errors[0])
    key = f"upload:{secrets.token_hex(8)}"
    studio.uploads[key] = make_thumbnail(image, 256)
    studio.remember(SideQuery(key, "upload", "your picture", found.embeddings[0]))
    return {"query": key}


@router.get("/api/uploads/{name}", response_class=Response, responses=sends("image/webp"))
def uploaded(studio: StudioOf, name: str) -> Response:
    """The small copy of an uploaded picture."""
    content = studio.uploads.get(f"upload:{name}")
    if content is None:
        raise InputError("this picture is not here any more. Drop it again.")
    return Response(content, media_type="image/webp", headers={"cache-control": "private, max-age=86400"})


class VoteBody(Body):
    """Which side was better."""

    query: QueryKey
    space: str = Field(min_length=1, max_length=120)
    choice: Literal["plain", "adapted", "same"]


@router.get("/api/votes")
def votes(studio: StudioOf, space: Annotated[str, Query(max_length=120)] = "") -> dict[str, Any]:
    """Votes so far, and after 20 of them the sign test."""
    return count_votes(studio, space)


@router.post("/api/votes")
def vote(studio: StudioOf, body: VoteBody) -> dict[str, Any]:
    """Vote on one query; a second vote on it replaces the first."""
    query = studio.query(body.query)
    stable = f"row:{studio.rows.ids[query.row]}" if query.row >= 0 else body.query
    studio.side_file.vote(Vote(stable, body.space, body.choice))
    return count_votes(studio, body.space)


def count_votes(studio: Studio, space: str = "") -> dict[str, Any]:
    """Wins of either side; ``space`` is that of the votes counted, "" for all."""
    cast = [vote.choice for vote in studio.side_file.votes if not space or vote.space == space]
    counts = {choice: cast.count(choice) for choice in ("plain", "adapted", "same")}
    enough = counts["plain"] + counts["adapted"] >= ENOUGH_VOTES
    return {
        **counts,
        "total": len(cast),
        "enough": ENOUGH_VOTES,
        "p": sign_test(counts["adapted"], counts["plain"]) if enough else None,
    }
