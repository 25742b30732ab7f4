"""One HTML file with pictures inside: what was found on this table, to be kept or sent."""

from __future__ import annotations

import html
from base64 import b64encode
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from isomix import __version__
from isomix.errors import IsomixError
from isomix.web.columns import name_of
from isomix.web.jobs import Working
from isomix.web.routes.bands import evidence
from isomix.web.routes.bands import spectrum as spectrum_of
from isomix.web.routes.classes import classes_of
from isomix.web.routes.common import StudioOf, attachment, sends
from isomix.web.routes.search import called, count_votes, search_both
from isomix.web.routes.table import examples
from isomix.web.studio import Studio
from isomix.web.text import file_stem, printable

router = APIRouter()
QUERIES, HITS = 6, 8
STYLE = """
:root{color-scheme:light dark;--ink:light-dark(#16181d,#eceef1);--dim:light-dark(#5d636c,#a3a9b3);--line:light-dark(#e2e2de,#2f3237);
--iso:light-dark(#1a62d6,#7db0ff);--bg:light-dark(#fbfbfa,#131416)}
body{font:16px/1.6 system-ui,sans-serif;color:var(--ink);background:var(--bg);max-width:62rem;margin:3rem auto;padding:0 1.5rem}
h1{font-size:2rem;letter-spacing:-.02em;line-height:1.2}h2{margin-top:3rem;border-top:1px solid var(--line);padding-top:1.5rem}
p.dim,td.dim,figcaption{color:var(--dim)}img{width:84px;height:84px;object-fit:cover;border-radius:8px;display:block}
.row{display:flex;gap:6px;align-items:center;margin:6px 0;flex-wrap:wrap}.row b{width:5.5rem;font-weight:500;color:var(--dim);font-size:.85rem}
table{border-collapse:collapse}td,th{padding:.3rem 1rem .3rem 0;text-align:left}svg{width:100%;height:auto}
""".strip()


@router.get("/api/export/report", response_class=Response, responses=sends("text/html"))
def report(
    studio: StudioOf,
    request: Request,
    space: Annotated[str, Query(max_length=120)] = "isoclip",
    k_top: Annotated[int, Query(ge=0, le=100_000)] = 0,
    k_bottom: Annotated[int, Query(ge=0, le=100_000)] = 0,
    seed: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> Response:
    """The report of one space and band."""
    pictures = _Pictures(studio, request)
    parts = [
        f"<h1>{_text(studio.path.name)}</h1><p class=dim>{len(studio.rows):,} pictures · {_text(studio.rows.table.metadata.model)} · "
        f"{_text(_in_words(studio, space, k_top, k_bottom))} · {date.today():%d %B %Y} · isomix {__version__}</p>",
        _searches(studio, pictures, space, (k_top, k_bottom), seed),
        _spectrum(studio, k_top, k_bottom),
        _votes(studio, space),
        _classes(studio, pictures),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(studio.path.name)}, seen by isomix</title><style>{STYLE}</style>{''.join(parts)}</html>"
    )
    return attachment(page, f"{file_stem(studio.path.stem)}-report.html", "text/html; charset=utf-8")


def _in_words(studio: Studio, space: str, k_top: int, k_bottom: int) -> str:
    """The space, and what its band cuts or how its rows were made."""
    name = called(studio, "row", space)
    cut = "" if name_of(space) else f" cutting the {k_top} largest and {k_bottom} smallest directions"
    return f"{name['title']}{cut}{' (' + name['note'] + ')' if name['note'] else ''}"


def _text(value: Any) -> str:
    return html.escape(printable(str(value)), quote=True)


class _Pictures:
    def __init__(self, studio: Studio, request: Request) -> None:
        self._studio, self._pictures = studio, request.app.state.pictures

    def __call__(self, row: int, title: str = "") -> str:
        content = self._pictures.get(self._studio.rows, row, 96)
        name = _text(self._studio.rows.paths[row])
        if content is None:
            return f"<code>{name}</code>"
        label = f"{name}{f' · {_text(title)}' if title else ''}"
        return f'<img alt="{name}" title="{label}" src="data:image/webp;base64,{b64encode(content).decode()}">'


def _searches(studio: Studio, pictures: _Pictures, space: str, band: tuple[int, int], seed: int) -> str:
    parts = [
        "<h2>Side by side</h2><p class=dim>The first picture is the query; its neighbours follow, the nearest first.</p>"
    ]
    for row in examples(studio, n=QUERIES, seed=seed)["rows"]:
        found = search_both(studio, studio.query(f"row:{row['row']}"), space, band, HITS)
        for side, name in (("plain", "plain"), ("adapted", called(studio, "row", space)["title"])):
            if found["working"]:
                raise Working(found["working"])
            if found[side] is None:
                parts.append(f"<p class=dim>{_text(found['reason'])}</p>")
                continue
            hits = "".join(pictures(hit["row"], f"cosine {hit['cosine']:.3f}") for hit in found[side]["hits"])
            parts.append(f'<div class="row"><b>{_text(name)}</b>{pictures(row["row"])}<span>→</span>{hits}</div>')
        parts.append("<br>")
    return "".join(parts)


def _spectrum(studio: Studio, k_top: int, k_bottom: int) -> str:
    try:
        curve = spectrum_of(studio)
    except IsomixError as error:
        return f"<h2>Spectrum</h2><p>{_text(error)}</p>"
    parts = ["<h2>Spectrum</h2>", _curve(curve, k_top, k_bottom)]
    try:
        found = evidence(studio)
        parts.append(f"<p>{_text(found['words'])}</p>")
    except IsomixError as reason:
        parts.append(f"<p class=dim>Which band: {_text(reason)}.</p>")
    return "".join(parts)


def _curve(curve: dict[str, Any], k_top: int, k_bottom: int) -> str:
    from math import log10

    width, height, n = 800, 220, curve["directions"]
    series = [values for values in (curve["values"], curve["control"]) if values]
    low, high = (log10(f(max(v, 1e-6) for s in series for v in s)) for f in (min, max))
    span = max(high - low, 1e-9)

    def path(values: list[float]) -> str:
        points = (
            f"{i / max(n - 1, 1) * width:.1f} {10 + (high - log10(max(v, 1e-6))) / span * (height - 20):.1f}"
            for i, v in enumerate(values)
        )
        return "M" + "L".join(points)

    left, right = k_top / n * width, (n - k_bottom) / n * width
    dashed = (
        f'<path d="{path(curve["control"])}" fill="none" stroke="var(--dim)" stroke-dasharray="5 4"/>'
        if curve["control"]
        else ""
    )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="Singular values and the kept band">'
        f'<rect x="{left:.1f}" width="{max(right - left, 0):.1f}" height="{height}" fill="var(--iso)" opacity=".1"/>{dashed}'
        f'<path d="{path(curve["values"])}" fill="none" stroke="var(--iso)" stroke-width="2.5"/></svg>'
        f"<figcaption>Singular values over their median, largest first; the band keeps what is tinted, {n - k_top - k_bottom} of {n} "
        "directions. Dashed: random projectors.</figcaption></figure>"
    )


def _votes(studio: Studio, space: str) -> str:
    counted = count_votes(studio)
    if not counted["total"]:
        return "<h2>Votes</h2><p class=dim>None were cast.</p>"
    test = (
        f"Sign test: p = {counted['p']:.3g}."
        if counted["p"] is not None
        else f"{counted['enough']} decided votes make a test."
    )
    return (
        f"<h2>Votes</h2><p>{counted['adapted']} for the adapted side, {counted['plain']} for the plain one, {counted['same']} ties, "
        f"over all spaces. {test}</p>"
    )


def _classes(studio: Studio, pictures: _Pictures) -> str:
    found = classes_of(studio)
    if not found["classes"]:
        return ""
    parts = ["<h2>Classes</h2>"]
    if found["accuracy"]:
        a = found["accuracy"]
        parts.append(
            f"<p>{a['right']} of {a['n']} pictures are recognised by the classifier without them: {100 * a['share']:.0f} %, 95 % interval "
            f"{100 * a['low']:.0f} to {100 * a['high']:.0f}.</p>"
        )
    for entry in found["classes"]:
        shown = "".join(pictures(row) for row in entry["rows"][:16])
        rest = f"<span>and {len(entry['rows']) - 16} more</span>" if len(entry["rows"]) > 16 else ""
        parts.append(f'<div class="row"><b>{_text(entry["name"])}</b>{shown}{rest}</div>')
    return "".join(parts)
