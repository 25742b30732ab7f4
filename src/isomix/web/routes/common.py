"""What the routes share: the studio of the application, lists of rows in an address, and what a hit looks like."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from isomix.errors import InputError
from isomix.web.studio import Studio
from isomix.web.text import csv_cell, file_stem

__all__ = ["BandBody", "Body", "StudioOf", "attachment", "csv_text", "parse_rows", "sends"]

MAX_ROWS = 2_000


def _studio(request: Request) -> Studio:
    return request.app.state.studio


StudioOf = Annotated[Studio, Depends(_studio)]


class Body(BaseModel):
    """A JSON body: nothing that is not named is taken."""

    model_config = ConfigDict(extra="forbid", str_max_length=600)


class BandBody(Body):
    """An adapted space, and where its band is cut."""

    space: str = "isoclip"
    band: tuple[int, int] | None = Field(None, description="Directions cut at the top and at the bottom.")


def parse_rows(studio: Studio, text: str, most: int = MAX_ROWS) -> list[int]:
    """Row numbers of ``"3-5,9"``, or of a kept selection, ``"s:<name>"``, in the order given."""
    if text.startswith("s:"):
        return studio.selection(text.removeprefix("s:"))
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        start = studio.check_row(first)
        stop = studio.check_row(last) if dash else start
        if stop - start + len(found) >= most:
            raise InputError(f"rows: more than the {most} that are taken at once.")
        found.extend(range(start, stop + 1))
    return found


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV that no spreadsheet runs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([csv_cell(cell) for cell in row] for row in rows)
    return out.getvalue()


def sends(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """For the description of a route: what it answers when it does not answer JSON."""
    return {200: {"description": "A file.", "content": {kind: {} for kind in kinds}}}


def attachment(content: str | bytes, name: str, kind: str) -> Response:
    """A file to be saved."""
    stem, dot, suffix = name.rpartition(".")
    safe = f"{file_stem(stem)}{dot}{file_stem(suffix)}"
    return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{safe}"'})
