"""What an actor of the cluster does: one unit of pictures to one file of rows that the table does not know yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from isomix import __version__
from isomix.errors import InputError
from isomix.store.ledger import Failure
from isomix.store.scan import SourceFile
from isomix.store.table import EmbeddingTable
from isomix.store.units import Work, encode_files, joined

if TYPE_CHECKING:
    from isomix.encoders.base import Encoder

__all__ = ["Unit", "UnitEncoder"]


class Unit(NamedTuple):
    """What came of one unit; the rows themselves stay on the disk.

    Attributes
    ----------
    ids : list of str
        Of the rows, in order.
    failures : list of Failure
    fragment : str
        What to append to the table; empty without rows.
    thumbnails : dict of str to bytes
        By content hash.
    """

    ids: list[str]
    failures: list[Failure]
    fragment: str
    thumbnails: dict[str, bytes]


class UnitEncoder:
    """Encodes units; one process of the cluster.

    Parameters
    ----------
    load : callable
        Gives the encoder.
    path : path-like
        The table, under the same path on every machine.
    work : Work
    version : str
        Of the isomix that started the run.
    """

    def __init__(self, load: Callable[[], Encoder], path: str | os.PathLike[str], work: Work, version: str) -> None:
        self._load, self._path, self._work, self._version = load, Path(path), work, version

    def start(self) -> int:
        """Load the model and open the table; the number of this process.

        Raises
        ------
        InputError
            This machine has another version of isomix.
        TableError
            It has no such table.
        FingerprintMismatchError
            It loads another model.
        """
        if __version__ != self._version:
            raise InputError(f"this machine has isomix {__version__}, and the run was started by {self._version}.")
        self._encoder = self._load()
        self._table = EmbeddingTable.open(self._path, self._encoder)
        return os.getpid()

    def encode(self, files: Sequence[SourceFile]) -> Unit:
        """Encode the files of a unit and write their rows."""
        features = self._table.metadata.feature_dim is not None
        columns, failures, thumbnails = joined(encode_files(files, self._encoder, self._work, features=features))
        fragment = self._table.write_fragment(columns) if columns["id"] else ""
        return Unit(columns["id"], failures, fragment, thumbnails)
