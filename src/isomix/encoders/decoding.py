"""What one picture may cost: memory that all decoding threads share, processor time, and the scans of a JPEG.

No thread is ever killed. Memory is set aside before it is needed; time is looked at whenever a decoder asks for more of the
file, which those of JPEG, PNG, GIF, TIFF and the plain formats do all the time. A decoder that takes the whole file in one call
(WebP, AVIF, HEIF, JPEG 2000) is bounded by the number of pixels alone, and so are the scans of a JPEG, of which thousands fit
into what a decoder asks for at once: they are counted before.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from isomix.errors import ImageError

__all__ = ["BUDGET", "GuardedBytes", "MemoryBudget", "check_scans", "memory"]

BUDGET = 1 << 30
"""Bytes that files and decoded pictures may take at a time in one process; a picture that needs more is decoded alone."""

SECONDS = 30.0
"""Processor time for one picture."""

HEADER_READS = 100_000
"""Pieces of a header, which some decoders read byte by byte."""

MAX_SCANS = 100
MEGAPIXEL_SCANS = 1600
"""Scans times megapixels: 16 scans of the largest picture. Encoders make 6 to 12."""

_SCAN = b"\xff\xda"
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_STANDS_ALONE = {0x01, 0xD8}
_END = 0xD9


class MemoryBudget:
    """Bytes shared by threads; who came first never waits, so that nobody waits for ever.

    Parameters
    ----------
    total : int
        What is held beyond it is at most what one thread asks for.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._held: dict[int, int] = {}  # thread → bytes, in the order of arrival
        self._changed = threading.Condition()

    @contextmanager
    def held(self) -> Iterator[None]:
        """What this thread asks for in here is given back at the end; within another ``held`` at the end of that one."""
        me = threading.get_ident()
        with self._changed:
            outermost = me not in self._held
            self._held.setdefault(me, 0)
        try:
            yield
        finally:
            if outermost:
                with self._changed:
                    del self._held[me]
                    self._changed.notify_all()

    def ask(self, count: int) -> None:
        """Wait until ``count`` more bytes may be used; within ``held`` only."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(
                lambda: sum(self._held.values()) + count <= self.total or next(iter(self._held)) == me
            )
            self._held[me] += count


memory = MemoryBudget(BUDGET)
"""The budget of this process."""


class GuardedBytes(BytesIO):
    """The content of a picture file, which stops a decoder that has taken too long.

    Attributes
    ----------
    in_header : bool
        Set to false when the decoder has read the header.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.in_header = True
        self._reads = 0
        self._deadline = time.thread_time() + SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        """Bytes, or :class:`ImageError` when time is up."""
        self._reads += 1
        if self.in_header and self._reads > HEADER_READS:
            raise ImageError("its header goes on and on")
        if (not self.in_header or self._reads % 1024 == 0) and time.thread_time() > self._deadline:
            raise ImageError(f"not decoded within {SECONDS:g} seconds of processor time")
        return super().read(size)


def check_scans(content: bytes, megapixels: float) -> None:
    """Refuse a JPEG that goes over its pixels again and again.

    Raises
    ------
    ImageError
    """
    allowed = min(MAX_SCANS, max(16, int(MEGAPIXEL_SCANS / megapixels)))
    if content.count(_SCAN) <= allowed:  # also counts what lies in thumbnails and profiles, and takes no time
        return
    scans = _count_scans(content, allowed)
    if scans > allowed:
        raise ImageError(f"more than {allowed} scans for {megapixels:.1f} megapixels; pictures have 6 to 12")


def _count_scans(content: bytes, enough: int) -> int:
    scans, place = 0, 0
    while scans <= enough and (found := _NEXT_MARKER.search(content, place)):
        code, place = found[1][0], found.end()
        if code == _END:
            break
        if code not in _STANDS_ALONE:
            scans += code == _SCAN[1]
            place += max(2, int.from_bytes(content[place : place + 2], "big"))
    return scans
