"""Pictures of one size: every drawing fitted, centred and stored as RGBA with straight alpha."""

from __future__ import annotations

import io
import json
import multiprocessing
import signal
import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from training.config import load_section
from training.data.corpora import Drawing, drawings, read_corpora
from training.data.pixels import Pixels
from training.files import write_array, write_text

__all__ = ["Render", "fit", "render", "render_corpora"]

# Clip art is often small on its page: it is drawn larger, and what is empty around it is cut off.
TRIM_SCALE = 4


@dataclass(frozen=True)
class Render:
    """The section ``[render]``."""

    side: int
    workers: int


def render(drawing: Drawing, side: int) -> Pixels | None:
    """Draw one picture.

    Parameters
    ----------
    drawing : Drawing
        SVG text, or a file that resvg or Pillow reads.
    side : int
        Pixels.

    Returns
    -------
    ndarray of uint8, shape (side, side, 4), or None
        Red, green, blue and straight alpha; the longest side fitted, centred. None for a picture that cannot be drawn.

    Notes
    -----
    System fonts are left out, so that a picture is the same on every machine; text in clip art is not drawn.

    Examples
    --------
    >>> svg = '<svg xmlns="http://www.w3.org/2000/svg" width="2" height="1"><path d="M0 0h2v1h-2z"/></svg>'
    >>> render(Drawing("bar", svg), 8)[:, 0, 3]
    array([  0,   0, 255, 255, 255, 255,   0,   0], dtype=uint8)
    """
    try:
        return fit(_rasterise(drawing, side), side)
    except (ValueError, OSError):
        # resvg raises ValueError, Pillow OSError; corpora hold some broken files, which are counted later.
        return None


def _rasterise(drawing: Drawing, side: int) -> Image.Image:
    if isinstance(drawing.source, Path) and drawing.source.suffix != ".svg":
        return Image.open(drawing.source)
    if drawing.trim:
        side *= TRIM_SCALE
    if drawing.aspect is not None and drawing.aspect < 1:
        image = _draw(drawing.source, height=side)
    else:
        image = _draw(drawing.source, width=side)
        if image.height > side:
            image = _draw(drawing.source, height=side)
    return image.crop(image.convert("RGBA").getchannel("A").getbbox()) if drawing.trim else image


def _draw(source: str | Path, *, width: int | None = None, height: int | None = None) -> Image.Image:
    """Draw an SVG with one side given; the other follows."""
    png = resvg_py.svg_to_bytes(
        svg_string=source if isinstance(source, str) else None,
        svg_path=str(source) if isinstance(source, Path) else None,
        width=width,
        height=height,
        # Without a resolution lengths in millimetres or points fail.
        dpi=96,
        skip_system_fonts=True,
    )
    return Image.open(io.BytesIO(png))


def fit(image: Image.Image, side: int) -> Pixels:
    """Resize the longest side to ``side`` and centre the picture on a transparent square.

    Parameters
    ----------
    image : PIL.Image.Image
        Any mode.
    side : int

    Returns
    -------
    ndarray of uint8, shape (side, side, 4)
        Straight alpha; black where nothing is drawn.
    """
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    rgba = image.convert("RGBA")
    if (width, height) != image.size:
        # With premultiplied colours transparent pixels do not bleed into the edge; this filter does not overshoot.
        rgba = rgba.convert("RGBa").resize((width, height), Image.Resampling.HAMMING).convert("RGBA")
    pixels = np.zeros((side, side, 4), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    pixels[top : top + height, left : left + width] = np.asarray(rgba)
    pixels[pixels[..., 3] == 0] = 0
    return pixels


def render_corpora(config: Path, output: Path) -> None:
    """Draw every corpus into ``output/pictures/<name>.npy``, with the names in ``<name>.json``.

    Parameters
    ----------
    config, output : Path
        Configuration file and output folder.

    Notes
    -----
    A corpus whose drawings are those in ``<name>.json``, at this size, is kept; remove that file to have it drawn again. A picture that
    cannot be drawn is stored empty, and its name listed under ``failed``.
    """
    settings = load_section(Render, "render", config)
    folder = output / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    # Workers leave Ctrl-C to this process, which then drops what they have not begun.
    ignore_interrupt = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(settings.workers, multiprocessing.get_context("spawn"), ignore_interrupt) as pool:
        try:
            for name, corpus in read_corpora(config).items():
                todo = drawings(output / "corpora" / name, corpus)
                if todo and not _is_done(folder, name, todo, settings.side):
                    _render_corpus(pool, name, todo, folder, settings.side)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _is_done(folder: Path, name: str, todo: list[Drawing], side: int) -> bool:
    """Whether the drawings of the configuration are those that were drawn, at this size."""
    listing = folder / f"{name}.json"
    if not listing.is_file():
        return False
    names = json.loads(listing.read_text(encoding="utf-8"))["names"]
    shape = np.load(folder / f"{name}.npy", mmap_mode="r").shape
    return bool(names == [drawing.name for drawing in todo] and shape == (len(names), side, side, 4))


def _render_corpus(pool: Executor, name: str, todo: list[Drawing], folder: Path, side: int) -> None:
    pictures = np.zeros((len(todo), side, side, 4), np.uint8)
    failed = []
    done = pool.map(partial(render, side=side), todo, chunksize=64)
    for row, (drawing, picture) in enumerate(zip(todo, done, strict=True)):
        if picture is None:
            failed.append(drawing.name)
        else:
            pictures[row] = picture
        if row % 256 == 0:
            sys.stderr.write(f"\rrender {name}: {row} of {len(todo)}")
    # The names come last: where they are, the pictures are whole.
    write_array(folder / f"{name}.npy", pictures)
    write_text(folder / f"{name}.json", json.dumps({"names": [drawing.name for drawing in todo], "failed": failed}))
    sys.stderr.write(f"\rrender {name}: {len(todo)} pictures, {len(failed)} failed\n")
