"""Rows of a table for which an SQL condition on its columns holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix.errors import InputError, TableError
from isomix.store.lance_file import LanceFile
from isomix.store.table import EmbeddingTable

__all__ = ["RowFilter", "ids_where"]


class RowFilter:
    """The rows that a search may find.

    Parameters
    ----------
    table : EmbeddingTable
    condition : str
        As in :func:`ids_where`.

    Attributes
    ----------
    numbers : ndarray of int64, shape (m,)
        Row numbers, in order.

    Raises
    ------
    InputError
        The condition cannot be read, or holds for no row.
    """

    def __init__(self, table: EmbeddingTable, condition: str) -> None:
        wanted = set(ids_where(table, condition))
        self.kept = np.fromiter((each in wanted for each in table.column("id")), bool, table.count)
        self.numbers = np.flatnonzero(self.kept)
        if not len(self.numbers):
            raise InputError(f"where: {condition!r} holds for none of the {table.count} rows of {table.path}.")

    def blocks(self, vectors: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Of vectors of all rows, block by block, those that are kept."""
        start = 0
        for block in vectors:
            yield block[self.kept[start : start + len(block)]]
            start += len(block)

    def in_table(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers in the table of rows found among those that are kept; -1 stays."""
        return np.where(found < 0, -1, self.numbers[np.maximum(found, 0)])


def ids_where(table: EmbeddingTable, condition: str) -> list[str]:
    """Ids of the rows for which an SQL condition on the columns that are no vectors holds, in the order of the table.

    Raises
    ------
    InputError
        The condition cannot be read, or names a column that is not there.
    """
    try:
        return [str(each) for each in LanceFile(table.path).where(condition, ["id"]).column("id").to_pylist()]
    except TableError as error:
        columns = ", ".join(field.name for field in table.schema if not hasattr(field.type, "list_size"))
        reason = str(error.__cause__ or error).splitlines()[0][:300]
        raise InputError(
            f"where: {condition!r} cannot be used ({reason}). Expected an SQL condition on {columns}, for example: "
            "label = 'cat' AND width > 500"
        ) from error
