"""Pictures that were found, in a notebook: a grid of HTML with the pictures inside, or a contact sheet."""

from __future__ import annotations

import html
import os
import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from isomix.encoders.images import read_image
from isomix.errors import ImageError, InputError
from isomix.plotting.sheets import Row, Tile, contact_sheet

__all__ = ["Shown", "html_page", "show"]

SIDE = 112
Picture = Image.Image | str | os.PathLike[str]


class _Card(NamedTuple):
    picture: Picture
    caption: str
    title: str


class _Line(NamedTuple):
    title: str
    query: _Card | None
    cards: list[_Card]


class Shown:
    """Pictures that draw themselves where a notebook shows the value of a cell.

    Everything is inside of the HTML: no file is loaded when the notebook is opened elsewhere, and no script runs.
    """

    def __init__(self, lines: Sequence[_Line], size: int) -> None:
        self._lines, self._size = list(lines), size

    def sheet(self) -> Image.Image:
        """The same as a contact sheet, an image to be saved."""
        rows = [
            Row(
                None if line.query is None else Tile(line.query.picture, line.query.caption or "query"),
                [Tile(card.picture, card.caption) for card in line.cards],
                line.title,
            )
            for line in self._lines
        ]
        return contact_sheet(rows, tile_size=max(32, self._size))

    def _repr_html_(self) -> str:
        return "".join(_line_html(line, self._size) for line in self._lines)

    def __repr__(self) -> str:
        return "\n".join(
            "  ".join(filter(None, [line.title, *(_printable(card.caption.replace("\n", " ")) for card in line.cards)]))
            for line in self._lines
        )


def show(found: Any, *, captions: Sequence[str] | None = None, size: int = SIDE, most: int = 60) -> Shown:
    """Show pictures in a notebook.

    Parameters
    ----------
    found : answers, an answer, hits, pictures, or a mapping
        What :class:`isomix.store.search.TableSearch` gives, or paths, or PIL images; or titles with (picture, caption)
        pairs, a line each.
    captions : sequence of str, optional
        Below each picture; only with pictures.
    size : int
        Side of a picture in pixels.
    most : int
        Pictures a line; how many were left out is said.

    Returns
    -------
    Shown
        Draws itself as the last value of a cell; ``.sheet()`` is a contact sheet.

    Raises
    ------
    InputError
        Nothing to show, or something that is no picture.

    Examples
    --------
    >>> from PIL import Image
    >>> from isomix.plotting.notebook import show
    >>> shown = show([Image.new("RGB", (40, 40), "teal")], captions=["teal"])
    >>> shown
    teal
    >>> shown._repr_html_().count("<img")
    1
    """
    if size < 16 or most < 1:
        raise InputError(f"size, most: got {size} and {most}, expected at least 16 pixels and 1 picture.")
    if isinstance(found, Mapping):
        lines = [_Line(title, None, [_card(*pair) for pair in pairs]) for title, pairs in found.items()]
        return Shown([_cut(line, most) for line in lines], size)
    items: list[Any] = [found] if _is_one(found) else list(found)
    if not items:
        raise InputError("found: got nothing, expected hits, answers, paths or PIL images.")
    if captions is not None and (len(captions) != len(items) or hasattr(items[0], "hits") or hasattr(items[0], "file")):
        raise InputError(
            f"captions: got {len(captions)}, expected one for each of {len(items)} pictures (hits have their own)."
        )
    if hasattr(items[0], "hits"):
        lines = [_answer(answer) for answer in items]
    else:
        cards = [_card(item, None if captions is None else captions[i]) for i, item in enumerate(items)]
        lines = [_Line("", None, cards)]
    return Shown([_cut(line, most) for line in lines], size)


def html_page(title: str, note: str, shown: Shown | None) -> str:
    """A whole page of HTML around pictures, with nothing outside of it; None: there are none."""
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:32px auto;padding:0 16px}"
        "@media(prefers-color-scheme:dark){body{background:#14161a;color:#e6e8eb}}"
    )
    body = "" if shown is None else shown._repr_html_()
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{_text(title)}</title><style>{style}</style>'
        f"<h1>{_text(title)}</h1><p>{_text(note)}</p>{body}</html>\n"
    )


def _is_one(found: Any) -> bool:
    return hasattr(found, "hits") or isinstance(found, Image.Image | str | os.PathLike)


def _answer(answer: Any) -> _Line:
    query = answer.query
    own = None if getattr(query, "file", None) is None else _Card(query.file, "query", str(query.file))
    note = f" ({answer.note})" if getattr(answer, "note", "") else ""
    return _Line(f"{query.name} · {answer.space}{note}", own, [_card(hit, None) for hit in answer.hits])


def _card(item: Any, caption: str | None) -> _Card:
    if hasattr(item, "file") and hasattr(item, "score"):
        label = item.row.get("label") if hasattr(item, "row") else None
        return _Card(item.file, f"{label or item.file.name}\n{item.score:.3f}", str(item.row.get("path", item.file)))
    if isinstance(item, Image.Image):
        return _Card(item, caption or "", "")
    if isinstance(item, str | os.PathLike):
        return _Card(item, Path(item).name if caption is None else caption, os.fspath(item))
    raise InputError(f"found: got a {type(item).__name__}, expected hits, answers, paths or PIL images.")


def _cut(line: _Line, most: int) -> _Line:
    if len(line.cards) <= most:
        return line
    left = f"the first {most} of {len(line.cards)}"
    return _Line(f"{line.title} · {left}" if line.title else left, line.query, line.cards[:most])


def _line_html(line: _Line, size: int) -> str:
    title = f'<div style="font-weight:600;margin:6px 0">{_text(line.title)}</div>' if line.title else ""
    cards: Iterable[_Card] = line.cards if line.query is None else [line.query, *line.cards]
    figures = "".join(_figure(card, size, marked=card is line.query) for card in cards)
    return f'{title}<div style="display:flex;flex-wrap:wrap;gap:8px;margin-bottom:10px">{figures}</div>'


def _figure(card: _Card, size: int, *, marked: bool) -> str:
    edge = "outline:2px solid #1a62d6;outline-offset:2px;" if marked else ""
    box = f"width:{size}px;height:{size}px;border-radius:8px;{edge}"
    try:
        image = read_image(card.picture)
        image.thumbnail((2 * size, 2 * size))
        content = BytesIO()
        image.save(content, "WEBP", quality=80)
        alt = _text(card.caption.partition("\n")[0])
        source = b64encode(content.getvalue()).decode()
        picture = f'<img alt="{alt}" style="{box}object-fit:cover;margin:0" src="data:image/webp;base64,{source}">'
    except ImageError as error:
        picture = (
            f'<div style="{box}border:1px dashed #888;display:grid;place-items:center;font-size:11px;overflow:hidden">'
            f"{_text(str(error))}</div>"
        )
    first, _, rest = card.caption.partition("\n")
    words = f"<span>{_text(first)}</span>{f'<br><small>{_text(rest)}</small>' if rest else ''}"
    style = f"margin:0;width:{size}px;font-size:12px;line-height:1.35;overflow-wrap:anywhere"
    return f'<figure style="{style}" title="{_text(card.title)}">{picture}<figcaption>{words}</figcaption></figure>'


def _text(text: str) -> str:
    return html.escape(_printable(text), quote=True)


def _printable(text: str) -> str:
    return "".join(
        c if unicodedata.category(c) not in {"Cc", "Cf", "Cs"} else "\N{REPLACEMENT CHARACTER}" for c in text
    )
