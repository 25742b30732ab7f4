"""PostgreSQL's binary COPY format, as far as it is needed: a key as it comes, and a vector of pgvector's.

A key is never looked into, so that keys of every type come back exactly as they were.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix.errors import FileFormatError

__all__ = ["pack", "read_rows", "read_vectors"]

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + bytes(8)
TRAILER = b"\xff\xff"
_COUNT, _LENGTH = struct.Struct(">h"), struct.Struct(">i")


def read_rows(data: bytes) -> Iterator[list[bytes | None]]:
    """The fields of every row.

    Raises
    ------
    FileFormatError
        Not that format, or cut short.
    """
    if not data.startswith(SIGNATURE):
        raise FileFormatError("the server's answer is not in the binary COPY format. Is there a proxy in between?")
    position = len(HEADER)
    try:
        while True:
            (fields,) = _COUNT.unpack_from(data, position)
            position += 2
            if fields < 0:
                return
            row: list[bytes | None] = []
            for _ in range(fields):
                (length,) = _LENGTH.unpack_from(data, position)
                position += 4
                row.append(None if length < 0 else data[position : position + length])
                position += max(length, 0)
            yield row
    except struct.error:
        raise FileFormatError("the server's answer ended too early. Run the command again.") from None


def read_vectors(fields: Sequence[bytes], names: Sequence[str], width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Vectors of pgvector as an array of shape (n, width); a halfvec is float16, a vector float32.

    Raises
    ------
    FileFormatError
        One has another width; ``names`` says which.
    """
    size = 4 + width * dtype.itemsize
    for field, name in zip(fields, names, strict=True):
        if len(field) != size:
            raise FileFormatError(
                f"the vector at {name} has width {(len(field) - 4) // dtype.itemsize}, and the first has {width}: vectors of "
                "several models in one column. Adapt them apart, each from a column or table of its own."
            )
    rows = np.frombuffer(b"".join(fields), np.uint8).reshape(len(fields), size)
    return np.ascontiguousarray(rows[:, 4:]).view(dtype.newbyteorder(">")).astype(dtype)


def pack(keys: Sequence[bytes], vectors: NDArray[Any], missing: Sequence[int] = ()) -> bytes:
    """Rows of (key, vector) as a whole COPY stream; those of ``missing`` have NULL for a vector."""
    count, width = vectors.shape
    values = vectors.astype(vectors.dtype.newbyteorder(">"))
    size = 8 + width * vectors.dtype.itemsize
    rows = np.zeros((count, size), np.uint8)
    rows[:, :8] = np.frombuffer(struct.pack(">ihh", size - 4, width, 0), np.uint8)
    rows[:, 8:] = values.view(np.uint8).reshape(count, -1)
    without = set(missing)
    pieces = [HEADER]
    for number, key in enumerate(keys):
        value = _LENGTH.pack(-1) if number in without else rows[number].tobytes()
        pieces += (_COUNT.pack(2), _LENGTH.pack(len(key)), key, value)
    pieces.append(TRAILER)
    return b"".join(pieces)
