"""Columns of adapted and of smoothed vectors that a table holds, as spaces to rank in.

Which rows a query searches is what ``isomix search`` says (:mod:`isomix.store.smooth`): a picture searches rows that were averaged
over their neighbours with its own adapted vector, which was not, and words search the smoothed plain rows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from isomix.encoders.lazy import LazyEncoder
from isomix.errors import InputError
from isomix.neighbors.kinship import QUERY_NEIGHBORS
from isomix.spaces import Space
from isomix.store.smooth import SmoothedColumn, expand_in_table, smoothed_column, smoothed_columns, smoothed_gone
from isomix.store.table import SMOOTHED
from isomix.web import library
from isomix.web.collection import Collection
from isomix.web.sides import Column, Query, Singles
from isomix.web.text import printable, without_paths

__all__ = ["column_side", "column_spaces", "name_of", "smoothed_words"]


EXPANDED = "+expanded"
"""After the name of a smoothed column: queries are averaged with the rows that they find first, and searched again."""


def name_of(space: str) -> str:
    """The column of ``column:<name>``; empty for spaces that are none."""
    return space.removeprefix("column:").removesuffix(EXPANDED) if space.startswith("column:") else ""


def column_spaces(rows: Collection) -> list[dict[str, Any]]:
    """What the pages list: adapted columns, smoothed ones, and those that went because pictures changed."""
    table = rows.table
    found = []
    for name, described in table.derived.items():
        if described.get("method") == SMOOTHED:
            continue
        made = described.get("parameters", {})
        cut = {key: made[key] for key in ("k_top", "k_bottom") if key in made}
        title = f"{printable(str(described.get('method', name)))} of the table"
        found.append({"name": f"column:{name}", "title": title, "column": name, **cut, "reason": ""})
    for column in smoothed_columns(table, "adapted"):
        title = f"{printable(str(column.space.get('method')))}, smoothed"
        about = {"name": f"column:{column.name}", "column": column.name, "reason": ""}
        nearest = f"query expanded by its {QUERY_NEIGHBORS} nearest"
        found.append({**about, "title": title, "note": column.note})
        found.append(
            {
                **about,
                "name": f"{about['name']}{EXPANDED}",
                "title": f"{title}, expanded",
                "note": f"{column.note}, {nearest}",
            }
        )
    gone = smoothed_gone(table, "adapted")
    if gone and smoothed_column(table, "adapted") is None:
        found.append({"name": "column:smoothed", "title": "smoothed", "reason": without_paths(gone)})
    return found


def smoothed_words(rows: Collection) -> tuple[SmoothedColumn | None, str]:
    """The smoothed plain rows that words search, and what to say where there are none any more."""
    column = smoothed_column(rows.table, "plain")
    return column, "" if column else without_paths(smoothed_gone(rows.table, "plain"))


def column_side(rows: Collection, space: str, model: LazyEncoder) -> Column:
    """A column to rank in, with what stands for its rows and for other pictures as queries."""
    table, name = rows.table, name_of(space)
    described = table.derived.get(name)
    if described is None:
        raise InputError(f"the table has no column of adapted vectors called {printable(name)!r}.")
    words, _ = smoothed_words(rows)
    if words is not None and name == words.name:
        return Column(rows.column_vectors(name), rows.vectors, lambda queries: np.stack([q.vector for q in queries]))
    smoothed = next((column for column in smoothed_columns(table, "adapted") if column.name == name), None)
    if described.get("method") == SMOOTHED and (smoothed is None or smoothed.column not in table.derived):
        raise InputError(f"the column {printable(name)!r} has lost the adapted vectors that it was made from.")

    @cache
    def fitted() -> Space:
        return library.space_of_column(table, described if smoothed is None else smoothed.space, model)

    def adapt(queries: list[Query]) -> Singles:
        return np.asarray(fitted().transform(np.stack([query.vector for query in queries])))

    def expand(queries: list[Query]) -> Singles:
        if smoothed is None:
            raise InputError("a query is expanded in smoothed rows only. Make them with: isomix adapt TABLE --smooth")
        own = [rows.ids[query.row] if query.row >= 0 else None for query in queries]
        return expand_in_table(table, smoothed, fitted(), np.stack([query.vector for query in queries]), own)

    ranked = rows.column_vectors(name)
    if space.endswith(EXPANDED):
        return Column(ranked, None, expand)
    return Column(ranked, ranked if smoothed is None else rows.column_vectors(smoothed.column), adapt)
