"""Single tensors out of a safetensors file, wherever it lies: only its header and their bytes are read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isomix._arrays import Floats
from isomix.errors import ModelError

__all__ = ["PartialSafetensors", "open_local", "shard_of_tensor"]

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class PartialSafetensors:
    """A safetensors file of which only the header has been read.

    Attributes
    ----------
    where : str
        What the file is called in messages.
    metadata : dict of str to str
    entries : mapping of str to dict
        Name → ``dtype``, ``shape`` and ``data_offsets``, as in the header.
    read : callable
        ``read(start, stop)`` gives bytes of the file.
    data_start : int
        Where in the file the tensors begin, from which offsets count.
    """

    where: str
    metadata: dict[str, str]
    entries: Mapping[str, Any]
    read: Read
    data_start: int

    @classmethod
    def open(cls, where: str, read: Read, size: int | None = None) -> PartialSafetensors:
        """Read the header.

        Parameters
        ----------
        where : str
        read : callable
            ``read(start, stop)`` gives exactly the bytes ``start`` to ``stop - 1``, or raises.
        size : int, optional
            Bytes of the whole file, where they are known.

        Raises
        ------
        ModelError
            It is not a safetensors file, or not a whole one.
        """
        if size is not None and size < _LENGTH_BYTES:
            raise ModelError(f"{where} has {size} bytes and is no safetensors file. Fetch it again.")
        length = int.from_bytes(read(0, _LENGTH_BYTES), "little")
        start = _LENGTH_BYTES + length
        if length > _MAX_HEADER_BYTES or (size is not None and start > size):
            raise ModelError(f"{where} is no safetensors file, or cut short. Fetch it again; isomix reads no pickles.")
        try:
            header = json.loads(read(_LENGTH_BYTES, start))
            metadata = dict(header.pop("__metadata__", {}))
            for name, entry in header.items():
                _check_entry(name, entry)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError, ArithmeticError, RecursionError) as error:
            raise ModelError(f"{where} has a damaged safetensors header ({error}). Fetch it again.") from error
        if size is not None and start + end != size:
            raise ModelError(
                f"{where} has {size} bytes, its header announces {start + end}: the file is incomplete. Fetch it again."
            )
        return cls(where, metadata, header, read, start)

    def tensor(self, name: str) -> Floats:
        """Read one tensor of floats; bfloat16 becomes float32, which holds all its values.

        Raises
        ------
        ModelError
            Not floats, or sizes that contradict each other.
        """
        if name not in self.entries:
            raise ModelError(
                f"{self.where} holds no tensor {name!r}, though the model's index says so. Fetch it again."
            )
        entry = self.entries[name]
        try:
            kind, shape = entry["dtype"], tuple(int(n) for n in entry["shape"])
            start, stop = (int(n) for n in entry["data_offsets"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"{self.where}: the header's entry for {name!r} is damaged. Fetch the file again."
            ) from error
        if kind not in _DTYPES:
            raise ModelError(
                f"{self.where}: tensor {name!r} is stored as {kind}, expected one of {', '.join(_DTYPES)}. "
                "Quantised weights cannot be used; take the unquantised model."
            )
        dtype = np.dtype(_DTYPES[kind])
        if start < 0 or stop - start != math.prod(shape) * dtype.itemsize:
            raise ModelError(
                f"{self.where}: tensor {name!r} has shape {shape} but {stop - start} bytes. Fetch the file again."
            )
        values = np.frombuffer(self.read(self.data_start + start, self.data_start + stop), dtype).reshape(shape)
        if kind == "BF16":
            return np.asarray((values.astype("<u4") << np.uint32(16)).view("<f4"))
        return np.array(values, dtype.newbyteorder("="))


def _check_entry(name: str, entry: Any) -> None:
    """Raise ValueError where a header does not describe a tensor: ``{"dtype": …, "shape": […], "data_offsets": […, …]}``."""
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets]
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)
    if not isinstance(kind, str) or not whole or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name!r:.80} is described as {str(entry)[:200]}")


def open_local(path: Path) -> PartialSafetensors:
    """The header of a file on disk."""

    def read(start: int, stop: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        if len(data) != stop - start:
            raise ModelError(f"{path} ends at {start + len(data)} bytes, expected {stop}. Fetch it again.")
        return data

    try:
        return PartialSafetensors.open(str(path), read, path.stat().st_size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error


def shard_of_tensor(index: bytes, where: str) -> dict[str, str]:
    """Tensor → file name, from the index of a model whose weights are split over several files.

    Raises
    ------
    ModelError
        It is no such index, or names files outside its folder.
    """
    try:
        shards = dict(json.loads(index)["weight_map"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{where} is no index of a split model ({error}). Fetch it again.") from error
    outside = [
        shard
        for shard in shards.values()
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.isprintable()
    ]
    if outside:
        raise ModelError(f"{where} names {outside[0]!r}, which is not a file beside it. Do not use this model.")
    return shards
