"""Arrays as numpy writes them: a header that is held against the bytes that are there before any memory is asked for."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from isomix.errors import FileFormatError
from isomix.store.formats.base import reading

__all__ = ["NpyHeader", "load_npy", "load_npz", "npy_header"]

LONGEST_HEADER = 10_000
"""Bytes; numpy's own limit, which it looks at only after it has read them."""


class NpyHeader(NamedTuple):
    """What a .npy file says of its array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize


def npy_header(stream: IO[bytes]) -> NpyHeader:
    """Read the header at the beginning of a stream, which stands at the first value then.

    Raises
    ------
    ValueError
        No such header.
    """
    version = npy_format.read_magic(stream)
    prefix = 2 if version == (1, 0) else 4
    length = int.from_bytes(stream.read(prefix), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header is announced to be {length:,} bytes long, expected at most {LONGEST_HEADER:,}")
    stream.seek(-prefix, 1)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    header = NpyHeader(*read(stream))
    if min(header.shape, default=0) < 0:
        raise ValueError(f"its header announces the shape {header.shape}")
    return header


def load_npy(path: Path) -> NDArray[Any]:
    """All of a .npy file; memory is that of the file.

    Raises
    ------
    FileFormatError
        No such file, cut short, or of pickled objects.
    """
    with reading(path, "a .npy file"), path.open("rb") as stream:
        return _values(stream, npy_header(stream), path.stat().st_size)


def load_npz(path: Path, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """All arrays of a .npz file, by name.

    Parameters
    ----------
    path : pathlib.Path
    names : sequence of str
        Arrays that must be there.

    Raises
    ------
    FileFormatError
        No such file, a damaged one, one of pickled objects, or one without an array of ``names``.
    """
    found: dict[str, NDArray[Any]] = {}
    with reading(path, "a .npz file"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as stream:
                    header = npy_header(stream)
                    found[member.filename.removesuffix(".npy")] = _values(stream, header, member.file_size)
    missing = [name for name in names if name not in found]
    if missing:
        raise FileFormatError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(found) or 'nothing'}.")
    return found


def _values(stream: IO[bytes], header: NpyHeader, size: int) -> NDArray[Any]:
    """The values behind a header, in memory that is asked for only when a file of ``size`` bytes can hold them."""
    if header.dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never read")
    if stream.tell() + header.nbytes > size:
        raise ValueError(f"{header.nbytes:,} bytes of values are announced, and {size - stream.tell():,} are there")
    content = bytearray(header.nbytes)
    place = 0
    while place < len(content):
        read = stream.readinto(memoryview(content)[place:])  # type: ignore[attr-defined]
        if not read:
            raise ValueError(f"it ends after {place:,} of {len(content):,} bytes")
        place += read
    return np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
