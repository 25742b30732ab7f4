"""Arrays with one value a row, ids most often, that stand beside the vectors in a .npz or .safetensors file: as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np

from isomix._extras import require
from isomix.errors import FileFormatError
from isomix.store.formats.base import Block

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
        self.fields = [
            pa.field(name, texts.get(dtype.kind) or pa.from_numpy_dtype(dtype)) for name, dtype in lists.items()
        ]

    def attach(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """The same blocks with the values of their rows."""
        pa = require("pyarrow", "app", "Columns")
        with self._streams() as streams:
            for block in blocks:
                columns = []
                for stream, dtype, field in zip(streams, self.lists.values(), self.fields, strict=True):
                    content = stream.read(len(block.vectors) * dtype.itemsize)
                    if len(content) < len(block.vectors) * dtype.itemsize:
                        raise FileFormatError(f"{self.path} ends within {field.name}. Copy it again.")
                    values = np.frombuffer(content, dtype)
                    columns.append(pa.array(values.tolist() if dtype.kind in "US" else values, field.type))
                yield block._replace(columns=pa.record_batch(columns, schema=pa.schema(self.fields)))
