"""Any picture to upright RGB, or one sentence saying why not."""

from __future__ import annotations

import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isomix._extras import require
from isomix.encoders.base import ImageLike
from isomix.encoders.decoding import GuardedBytes, check_scans, memory
from isomix.errors import ImageError, InputError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["READING", "image_extensions", "open_regular", "read_file", "read_image"]

READING = {"exif_orientation": "applied", "alpha": "composited on white", "animation": "first frame", "icc": "ignored"}
"""What every picture goes through before an encoder's own preprocessing; part of every encoder's ``preprocessing``."""

# No EPS or WMF, whose decoders start other programs; nothing without a signature in the file.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "HEIF", "JPEG2000", "PPM", "ICO", "QOI", "PSD")
_EXTENSIONS = (
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .tif .tiff .bmp .dib .avif .heic .heif .hif .jp2 .j2k .jpx "
    ".ppm .pgm .pbm .pnm .ico .qoi .psd"
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_EXIF_ORIENTATION = 0x0112
_TIFF_BITS_PER_SAMPLE = 258
_WHOLE_FILE_AT_ONCE = {"WEBP", "AVIF", "HEIF", "JPEG2000"}
BYTES_A_PIXEL = (14, 22)
"""What decoding takes at most; the second where the decoder takes the whole file at once. ``benches/bench_pictures.py``."""

_STRIP = 1 << 20


def image_extensions() -> frozenset[str]:
    """Extensions (lower case, with the dot) of the files that a scan of a folder takes for pictures.

    Examples
    --------
    >>> ".jpeg" in image_extensions(), ".txt" in image_extensions()
    (True, False)
    """
    return frozenset(_EXTENSIONS.split())


def _pil() -> Any:
    return require("PIL.Image", "app", "Reading pictures")


def read_image(source: ImageLike, *, max_megapixels: float = 100.0) -> Image.Image:
    """Read one picture as upright 8-bit RGB.

    EXIF orientation is applied, transparency is composited on white, of an animation the first frame is taken, and
    greyscale of 16 or 32 bits or of floats is scaled, not clipped (see Notes). Colour profiles are ignored, as CLIP's
    own preprocessing does.

    Parameters
    ----------
    source : path, bytes, PIL image or uint8 array of shape (height, width) or (height, width, 3 or 4)
        Bytes are the content of a picture file.
    max_megapixels : float
        Larger pictures are refused by what their header says, before they are decoded; so are files of more bytes than a
        picture of that size can need.

    Returns
    -------
    PIL.Image.Image
        Of mode ``"RGB"``.

    Raises
    ------
    ImageError
        The picture cannot be used; the message is the reason, without the path.
    InputError
        ``source`` is nothing that could be a picture.

    Notes
    -----
    16-bit greyscale spans 0 to 65535 (12-bit TIFF: 4095). Of 32-bit integers and floats the file does not say the
    range, so the smallest usual one that holds all values counts: 0 to 1 (floats only), 0 to 255, 0 to 65535, else the
    picture's own minimum to maximum. Values that are not finite become black.

    What a picture may cost is bounded (:mod:`isomix.encoders.decoding`): threads that decode share one budget of memory and
    wait for one another, and a picture that takes too much processor time is refused.

    Examples
    --------
    >>> import numpy as np
    >>> read_image(np.zeros((20, 30, 3), np.uint8)).size
    (30, 20)
    """
    pil = _pil()
    if not max_megapixels > 0:
        raise InputError(f"max_megapixels: got {max_megapixels!r}, expected a positive number.")
    path: str | os.PathLike[str] = ""
    if isinstance(source, pil.Image):
        opened = source
    elif isinstance(source, np.ndarray):
        opened = pil.fromarray(_checked_array(source))
    elif isinstance(source, bytes):
        opened = None
    elif isinstance(source, str | os.PathLike):
        opened, path = None, source
    else:
        raise InputError(
            f"picture: got a {type(source).__name__}, expected a path, bytes, a PIL image or a uint8 array."
        )
    with memory.held(), _quiet_pillow(max_megapixels):
        try:
            if opened is not None:
                return _to_rgb(opened, max_megapixels)
            content = source if isinstance(source, bytes) else read_file(Path(path), max_megapixels=max_megapixels)
            if not content:
                raise ImageError("empty (0 bytes)")
            return _decoded(content, max_megapixels)
        except ImageError:
            raise
        except pil.DecompressionBombError as error:
            raise ImageError(f"more than the {max_megapixels:g} megapixels allowed") from error
        except pil.UnidentifiedImageError as error:
            raise ImageError(_unknown_format(content)) from error
        except Exception as error:  # decoders meet garbage with errors of every kind
            detail = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            raise ImageError(f"cannot be decoded: {' '.join(detail.split())[:200]}") from error


def _checked_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InputError(
            f"picture: got an array of {array.dtype}, shape {array.shape}, expected uint8 of shape (height, width, 3). "
            "Scale other dtypes to 0 … 255, and put the channels last."
        )
    if array.size == 0:
        raise ImageError("the picture has no pixels")
    return array


def read_file(path: Path, *, max_megapixels: float) -> bytes:
    """The bytes of a picture file; never waits for a pipe, and takes no more than a picture can need.

    Raises
    ------
    ImageError
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            # Eight bytes a pixel is the most that a picture needs; a video called .jpg is not read into memory.
            if size > 8e6 * max_megapixels + 16e6:
                raise ImageError(
                    f"{size / 1e6:.0f} MB are too many for a picture of at most {max_megapixels:g} megapixels"
                )
            with memory.held():
                memory.ask(size)
                content = file.read(size + 1)
    except FileNotFoundError as error:
        raise ImageError("no such file") from error
    if len(content) != size:
        raise ImageError("changed while it was read")
    return content


def open_regular(path: Path) -> BufferedReader:
    """A regular file that is not empty, opened for reading; never waits for a pipe.

    Raises
    ------
    ImageError
        Something else.
    OSError
    """
    _check_regular(path.stat())
    # What was a file a moment ago may be a pipe now, so the descriptor is asked again, and opening never waits.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check_regular(os.fstat(file.fileno()))
    except ImageError:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a regular file")
    if status.st_size == 0:
        raise ImageError("empty (0 bytes)")


def _decoded(content: bytes, max_megapixels: float) -> Image.Image:
    stream = GuardedBytes(content)
    with _pil().open(stream, formats=_formats()) as opened:
        stream.in_header = False
        pixels = opened.width * opened.height
        if pixels <= max_megapixels * 1e6:  # else it is refused in a moment
            if opened.format in ("JPEG", "MPO"):
                check_scans(content, pixels / 1e6)
            memory.ask(pixels * BYTES_A_PIXEL[opened.format in _WHOLE_FILE_AT_ONCE])
        return _to_rgb(opened, max_megapixels, ours=True)


@cache
def _formats() -> tuple[str, ...]:
    """The formats of ``_FORMATS`` that this Pillow can open, with HEIF where its extra is installed."""
    pil = _pil()
    pil.init()
    if find_spec("pillow_heif"):
        require("pillow_heif", "heif", "Reading HEIF pictures").register_heif_opener()
    return tuple(name for name in _FORMATS if name in pil.OPEN)


def _unknown_format(content: bytes) -> str:
    head = content[:12]
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and "HEIF" not in _formats():
        return "a HEIF picture, which needs an extra: pip install 'isomix[heif]'"
    return "not a picture of a known format, or cut off within its header"


def _to_rgb(image: Any, max_megapixels: float, *, ours: bool = False) -> Image.Image:
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        raise ImageError(
            f"{width} x {height} pixels = {width * height / 1e6:.1f} megapixels, more than the {max_megapixels:g} "
            f"allowed"
        )
    if not width * height:
        raise ImageError("the picture has no pixels")
    image.load()
    transposition = _transposition(image)
    if image.mode.startswith("I") or image.mode == "F":
        rgb = _scale_deep(image).convert("RGB")
    elif image.has_transparency_data:
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        rgb = _pil().new("RGB", image.size, (255, 255, 255))
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    elif image.mode == "RGB" and ours:
        rgb = image  # a copy would double what the largest pictures take
    else:
        rgb = image.convert("RGB")
    return rgb if transposition is None else rgb.transpose(transposition)


def _transposition(image: Any) -> Any:
    """What makes the picture upright, by its EXIF data; damaged EXIF data count as none."""
    turn = _pil().Transpose
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001 - the EXIF parser fails in many ways, and the pixels are fine
        return None
    return {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }.get(orientation)


def _scale_deep(image: Any) -> Image.Image:
    """Greyscale of more than 8 bits to 8 bits; the ranges are those in the notes of :func:`read_image`."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        twelve_bit = getattr(image, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE) == (12,)
        low, high = 0.0, 4095.0 if twelve_bit else 65535.0
    else:
        low = min(float(strip.min()) for _, strip in _strips(image))
        high = max(float(strip.max()) for _, strip in _strips(image))
        if low >= 0.0:
            usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
            full = next((top for top in usual if high <= top), None)
            low, high = (low, high) if full is None else (0.0, full)
    scaled = np.empty((image.height, image.width), np.uint8)
    for rows, values in _strips(image):
        values -= low
        values *= 255.0 / max(high - low, 1e-30)
        scaled[rows] = np.rint(values, out=values).astype(np.uint8)
    return _pil().fromarray(scaled)


def _strips(image: Any) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Values as floats, a few rows at a time, because eight bytes a pixel are too many for a whole picture."""
    height = max(1, _STRIP // image.width)
    for top in range(0, image.height, height):
        rows = slice(top, min(top + height, image.height))
        part = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        values = part.astype(np.float64 if image.mode == "I" else np.float32)
        yield rows, np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


_IGNORE_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_guard = threading.Lock()
_readers: list[float] = []
_filter_lists: list[list[Any]] = []
_pillow_limit: list[int | None] = []


@contextmanager
def _quiet_pillow(max_megapixels: float) -> Iterator[None]:
    """While any thread reads a picture, Pillow warns nobody, and its own size limit gives way to a larger one of ours.

    Filters of warnings belong to the process, not to the thread, and ``warnings.catch_warnings`` in threads that
    overlap leaves them scrambled. So the first reader in puts one filter in front and the last one out takes the same
    one away.
    """
    pil = _pil()
    with _guard:
        if not _readers:
            _pillow_limit[:] = [pil.MAX_IMAGE_PIXELS]
        _readers.append(max_megapixels)
        _raise_limit(pil)
        if warnings.filters[:1] != [_IGNORE_PILLOW]:
            warnings.filters.insert(0, _IGNORE_PILLOW)  # type: ignore[attr-defined]
            _filter_lists.append(warnings.filters)  # type: ignore[arg-type]
    try:
        yield
    finally:
        with _guard:
            _readers.remove(max_megapixels)
            if _readers:
                _raise_limit(pil)
            else:
                pil.MAX_IMAGE_PIXELS = _pillow_limit[0]
                for filters in (*_filter_lists, warnings.filters):
                    while _IGNORE_PILLOW in filters:
                        filters.remove(_IGNORE_PILLOW)  # type: ignore[attr-defined]
                _filter_lists.clear()


def _raise_limit(pil: Any) -> None:
    # Pillow refuses twice its limit, so half of ours, rounded up, lets through everything that we allow.
    limit = _pillow_limit[0]
    pil.MAX_IMAGE_PIXELS = None if limit is None else max(limit, int(max(_readers) * 5e5) + 1)
