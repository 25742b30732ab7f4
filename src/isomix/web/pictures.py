"""Pictures on their way out and in: rows only, re-encoded, a few at a time; uploads checked before they are decoded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from io import BytesIO

from PIL import Image

from isomix.encoders.images import read_image
from isomix.errors import ImageError
from isomix.store.thumbnails import THUMBNAIL_SIDE, Thumbnails, make_thumbnail
from isomix.web.collection import Collection

__all__ = ["SIDES", "Busy", "Pictures", "read_upload"]

SIDES = (THUMBNAIL_SIDE, 256, 1024)
KEPT_BYTES = 64_000_000
DECODERS = 2
WAITING = 600
MAX_MEGAPIXELS = 100.0
UPLOAD_MEGAPIXELS = 50.0
UPLOAD_MAGIC = (
    *((0, magic) for magic in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")),
    (8, b"WEBP"),
    *((4, b"ftyp" + brand) for brand in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")),
)
SHEET_SIDE = 48


class Busy(Exception):  # noqa: N818 - not an error: try again
    """Too many pictures are waiting to be decoded."""


class Pictures:
    """Pictures of rows as WebP, in the sizes of ``SIDES``; what was made is kept while there is room.

    Parameters
    ----------
    thumbnails : Thumbnails
        Those that ``embed`` made; those that are missing are made here and added.
    """

    def __init__(self, thumbnails: Thumbnails) -> None:
        self.thumbnails = thumbnails
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._decoders = threading.BoundedSemaphore(DECODERS)
        self._waiting = 0

    def get(self, rows: Collection, row: int, side: int) -> bytes | None:
        """The picture of a row, or None when there is neither file nor thumbnail."""
        key = rows.hashes[row] or rows.ids[row]
        with self._lock:
            if (key, side) in self._kept:
                self._kept.move_to_end((key, side))
                return self._kept[key, side]
        small = self.thumbnails.get([key]).get(key)
        if side == THUMBNAIL_SIDE and small is not None:
            return self._keep(key, side, small)
        path, _ = rows.file(row)
        if path is None:
            return small
        try:
            with self._turn():
                content = make_thumbnail(read_image(path, max_megapixels=MAX_MEGAPIXELS), side, quality=82)
        except ImageError:
            return small
        if side == THUMBNAIL_SIDE:
            self.thumbnails.put({key: content})
        return self._keep(key, side, content)

    def sheet(self, rows: Collection, numbers: list[int]) -> bytes:
        """Thumbnails side by side in rows of 16, 48 pixels each, as one WebP; what is missing stays transparent."""
        keys = [rows.hashes[row] or rows.ids[row] for row in numbers]
        found = self.thumbnails.get(keys)
        columns = min(16, len(numbers))
        lines = -(-len(numbers) // 16)
        sheet = Image.new("RGBA", (columns * SHEET_SIDE, lines * SHEET_SIDE))
        for place, (row, key) in enumerate(zip(numbers, keys, strict=True)):
            content = found.get(key) or self.get(rows, row, THUMBNAIL_SIDE)
            if content is None:
                continue
            with Image.open(BytesIO(content), formats=("WEBP",)) as opened:
                small = opened.convert("RGB")
            small.thumbnail((SHEET_SIDE, SHEET_SIDE))
            x, y = place % 16 * SHEET_SIDE, place // 16 * SHEET_SIDE
            sheet.paste(small, (x + (SHEET_SIDE - small.width) // 2, y + (SHEET_SIDE - small.height) // 2))
        encoded = BytesIO()
        sheet.save(encoded, "WEBP", quality=75, method=2)
        return encoded.getvalue()

    def _turn(self) -> _Turn:
        return _Turn(self)

    def _keep(self, key: str, side: int, content: bytes) -> bytes:
        with self._lock:
            if (key, side) not in self._kept:
                self._kept[key, side] = content
                self._size += len(content)
            while self._size > KEPT_BYTES and self._kept:
                _, gone = self._kept.popitem(last=False)
                self._size -= len(gone)
        return content


class _Turn:
    """A place among those who decode; :class:`Busy` when the queue is full."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    def __enter__(self) -> None:
        with self._pictures._lock:
            if self._pictures._waiting >= WAITING:
                raise Busy
            self._pictures._waiting += 1
        self._pictures._decoders.acquire()

    def __exit__(self, *_: object) -> None:
        self._pictures._decoders.release()
        with self._pictures._lock:
            self._pictures._waiting -= 1


def read_upload(content: bytes) -> Image.Image:
    """An uploaded picture, of a format that browsers send, not too large, its first frame.

    Raises
    ------
    ImageError
        The reason, fit to be shown.
    """
    if not any(content[start : start + len(magic)] == magic for start, magic in UPLOAD_MAGIC):
        raise ImageError("no picture of a format that is taken (JPEG, PNG, WebP, GIF, AVIF, HEIF, BMP, TIFF)")
    return read_image(content, max_megapixels=UPLOAD_MEGAPIXELS)
