"""Arrays with one value a row, ids most often, that stand beside the vectors in a .npz or .safetensors file: as columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np

from isomix._extras import require
from isomix.errors import FileFormatError
from isomix.store.formats.base import Block, reading

__all__ = ["Lists"]


class Lists:
    """What :meth:`isomix.store.formats.Source.bring` takes; read as streams, so that memory is bounded.

    Parameters
    ----------
    path : pathlib.Path
        For messages.
    lists : mapping of str to numpy.dtype
        Numbers, or numpy's text and bytes.
    streams : callable
        A context that gives a stream for each, where its values begin.
    """

    def __init__(
        self,
        path: Path,
        lists: Mapping[str, np.dtype[Any]],
        streams: Callable[[], AbstractContextManager[list[IO[bytes]]]],
    ) -> None:
        self.path, self.lists, self._streams = path, lists, streams
        pa = require("pyarrow", "app", "Columns")
        texts = {"U": pa.string(), "S": pa.binary()}
        with reading(path, "a file with columns"):
            self.fields = [
                pa.field(name, texts.get(dtype.kind) or pa.from_numpy_dtype(dtype)) for name, dtype in lists.items()
            ]

    def attach(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """The same blocks with the values of their rows."""
        pa = require("pyarrow", "app", "Columns")
        with reading(self.path, "a file with columns"), self._streams() as streams:
            for block in blocks:
                columns = []
                for stream, dtype, field in zip(streams, self.lists.values(), self.fields, strict=True):
                    content = stream.read(len(block.vectors) * dtype.itemsize)
                    if len(content) < len(block.vectors) * dtype.itemsize:
                        raise FileFormatError(f"{self.path} ends within {field.name}. Copy it again.")
                    values = np.frombuffer(content, dtype)
                    if dtype.kind == "U":
                        _check_text(values, self.path, field.name)
                    columns.append(pa.array(values.tolist() if dtype.kind in "US" else values, field.type))
                yield block._replace(columns=pa.record_batch(columns, schema=pa.schema(self.fields)))


def _check_text(values: np.ndarray[Any, Any], path: Path, name: str) -> None:
    """Raise :class:`FileFormatError` where an array of text holds numbers that are no characters."""
    codes = values.view(values.dtype.str[0] + "u4")
    if ((codes > sys.maxunicode) | (codes >> 11 == 0xD800 >> 11)).any():
        raise FileFormatError(f"{path} holds text in {name} that is no Unicode: it is damaged. Copy it again.")
