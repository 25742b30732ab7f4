"""Contact sheets: queries and their hits as one picture to look at."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from isomix.encoders.images import read_image
from isomix.errors import ImageError, InputError

__all__ = ["Row", "Tile", "contact_sheet"]

INK, GREY, LINE, PAPER = "#1f2328", "#6a737d", "#d0d7de", "#ffffff"
# Green and red differ in lightness as well, and a tick or a cross says it again for those who see neither.
MARK_COLOURS = {"right": "#1a7f37", "wrong": "#cf222e"}
GAP = 10

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes
    ----------
    image : PIL image or path
        A path that cannot be read becomes an empty tile that says so: a sheet of hits outlives a deleted file.
    caption : str
        One or more lines below the picture, cut to the tile's width; the first line stands out.
    mark : {"right", "wrong"}, optional
        Draws a green frame with a tick, or a red one with a cross.
    """

    image: Image.Image | str | os.PathLike[str]
    caption: str = ""
    mark: Literal["right", "wrong"] | None = None


class Row(NamedTuple):
    """One line of a sheet: a query (or none), its hits, and a title above them."""

    query: Tile | None
    hits: Sequence[Tile]
    title: str = ""


def contact_sheet(
    rows: Iterable[Row | tuple[Tile | None, Sequence[Tile]]],
    *,
    tile_size: int = 112,
    title: str = "",
    footer: str = "",
) -> Image.Image:
    r"""Draw queries on the left and their hits beside them, best first.

    Parameters
    ----------
    rows : iterable of Row, or of (query tile, hit tiles)
        A row without a query continues the one above, e.g. the same query in another space.
    tile_size : int
        Side of a picture in pixels, at least 32.
    title, footer : str
        Text above and below everything; may have several lines.

    Returns
    -------
    PIL.Image.Image
        RGB, as large as its content needs.

    Raises
    ------
    InputError
        No rows, or tiles too small to recognise anything.

    Examples
    --------
    >>> from PIL import Image
    >>> red, pink = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "pink")
    >>> sheet = contact_sheet([(Tile(red, "query"), [Tile(pink, "pink.png\n0.93", "right")])])
    >>> sheet.mode
    'RGB'
    """
    lines = [Row(*row) for row in rows]
    if not lines:
        raise InputError("rows: got none, expected at least one query with its hits.")
    if tile_size < 32:
        raise InputError(f"tile_size: got {tile_size}, expected at least 32 pixels.")
    text, bold = _font(max(10, tile_size // 9)), _font(max(12, tile_size // 7))
    line_height = _line_height(text)
    caption_lines = max(
        (tile.caption.count("\n") + 1 for row in lines for tile in _tiles(row) if tile.caption), default=0
    )
    cell_height = tile_size + 4 + caption_lines * line_height
    query_width = tile_size + 2 * GAP if any(row.query for row in lines) else 0
    columns = max(len(row.hits) for row in lines)
    content = query_width + columns * (tile_size + GAP) - GAP
    width = 2 * GAP + max(
        content, *(_text_width(s, bold) for s in (title, *(row.title for row in lines))), _text_width(footer, text)
    )

    head = _line_height(bold) + 4
    title_height = _block_height(title, bold)
    footer_height = _block_height(footer, text)
    heights = [cell_height + (head if row.title else 0) + GAP for row in lines]
    separators = sum(GAP for row in lines[1:] if row.query)
    sheet = Image.new("RGB", (width, title_height + sum(heights) + separators + footer_height + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = GAP
    if title:
        draw.multiline_text((GAP, y), _printable(title, keep="\n"), fill=INK, font=bold)
        y += title_height
    for number, (row, height) in enumerate(zip(lines, heights, strict=True)):
        if number and row.query:
            draw.line([(GAP, y), (width - GAP, y)], fill=LINE)
            y += GAP
        top = y
        if row.title:
            draw.text((GAP + query_width, y), _printable(row.title), fill=GREY, font=bold)
            top += head
        if row.query:
            _draw_tile(sheet, draw, row.query, (GAP, top), tile_size, text, line_height)
        for column, tile in enumerate(row.hits):
            left = GAP + query_width + column * (tile_size + GAP)
            _draw_tile(sheet, draw, tile, (left, top), tile_size, text, line_height)
        y += height
    if footer:
        draw.multiline_text((GAP, y + GAP // 2), _printable(footer, keep="\n"), fill=GREY, font=text)
    return sheet


def _tiles(row: Row) -> list[Tile]:
    return [*([row.query] if row.query else []), *row.hits]


def _draw_tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, at: tuple[int, int], size: int, font: Font, step: int
) -> None:
    x, y = at
    try:
        picture = read_image(tile.image)
        picture.thumbnail((size - 8, size - 8), Image.Resampling.LANCZOS, reducing_gap=2.0)
        sheet.paste(picture, (x + (size - picture.width) // 2, y + (size - picture.height) // 2))
    except ImageError:
        draw.text((x + size // 2, y + size // 2), "unreadable", fill=GREY, font=font, anchor="mm")
    draw.rectangle(
        (x, y, x + size - 1, y + size - 1), outline=MARK_COLOURS.get(tile.mark or "", LINE), width=3 if tile.mark else 1
    )
    if tile.mark:
        _draw_mark(draw, (x + size - 1, y), max(12, size // 7), tile.mark)
    for number, line in enumerate(tile.caption.split("\n") if tile.caption else ()):
        draw.text((x, y + size + 3 + number * step), _fit(line, size, font), fill=GREY if number else INK, font=font)


def _draw_mark(draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: int, mark: str) -> None:
    x, y = corner[0] - size, corner[1]
    draw.rectangle((x, y, x + size, y + size), fill=MARK_COLOURS[mark])
    if mark == "right":
        strokes = [[(0.22, 0.52), (0.42, 0.74), (0.78, 0.28)]]
    else:
        strokes = [[(0.27, 0.27), (0.73, 0.73)], [(0.73, 0.27), (0.27, 0.73)]]
    for stroke in strokes:
        draw.line([(x + a * size, y + b * size) for a, b in stroke], fill=PAPER, width=2)


def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _line_height(font: Font) -> int:
    top, bottom = font.getbbox("Ag|")[1::2]
    return round(bottom - top) + 4


def _block_height(text: str, font: Font) -> int:
    return (text.count("\n") + 1) * (_line_height(font) + 4) + GAP if text else 0


def _text_width(text: str, font: Font) -> int:
    return max(round(font.getlength(_printable(line))) for line in text.split("\n"))


def _printable(text: str, keep: str = "") -> str:
    # Undecodable file names carry lone surrogates, and control characters would move the pen.
    return "".join(
        c if c in keep or unicodedata.category(c) not in {"Cc", "Cs"} else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _fit(text: str, width: int, font: Font) -> str:
    text = _printable(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
