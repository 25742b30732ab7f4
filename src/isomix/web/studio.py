"""One open table: its rows, its spaces, its model, its side file, and the queries and selections of the session."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isomix.encoders import Encoder
from isomix.errors import InputError, IsomixError, ModalityError
from isomix.projectors import Projectors
from isomix.store import EmbeddingTable
from isomix.store.side_file import SideFile
from isomix.store.table import check_is_plain
from isomix.store.thumbnails import Thumbnails
from isomix.web import library
from isomix.web.collection import Collection
from isomix.web.columns import column_side, column_spaces, name_of, smoothed_words
from isomix.web.jobs import Jobs, Working
from isomix.web.sides import Band, Plain, Query, Side
from isomix.web.text import printable, without_paths

__all__ = ["Studio"]

KEPT_UPLOADS = 32
KEPT_SELECTIONS = 64
MANY_ROWS = 64
LOOKED_AT_EVERY = 2.0
FIRST_PAGE_WAITS = 1.5
"""Seconds for the projectors; a model that takes longer is drawn without its adapted side at first."""


class Studio:
    """What the pages look at.

    Parameters
    ----------
    table : path-like
    model : str, optional
        Where the table's model is now, if it is not where it was.
    read_only : bool
        Keep nothing: no labels, votes, verdicts, thumbnails.
    roots : sequence of path-like
        Folders that pictures may be read from, beside the table's own.

    Raises
    ------
    TableError, InputError
        No table, one without rows, or one of adapted vectors.
    """

    def __init__(
        self,
        table: str | os.PathLike[str],
        *,
        model: str | None = None,
        read_only: bool = False,
        roots: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        self.path = Path(table)
        self.model = model
        self.read_only = read_only
        self._roots = tuple(Path(root) for root in roots)
        self.side_file = SideFile(self.path, read_only=read_only)
        self.thumbnails = Thumbnails(self.path, read_only=read_only)
        self.jobs = Jobs()
        self.slow = Jobs(2)
        self._models = Jobs()
        self._lock = threading.RLock()
        self._queries: OrderedDict[str, Query] = OrderedDict()
        self.uploads: OrderedDict[str, bytes] = OrderedDict()
        self._selections: OrderedDict[str, list[int]] = OrderedDict()
        self._looked = (0.0, "")
        self.fitted: tuple[Any, Any] | None = None
        self.fitting = threading.Lock()
        self._load()

    def _load(self) -> None:
        self.rows = Collection.read(self.path, self._roots)
        check_is_plain(self.rows.table)
        self.plain = Plain(self.rows.vectors)
        self._sides: dict[str, Side] = {}
        self._model = library.table_model(self.rows.table, self.model)
        self._models.start("encoder", lambda: self._model.encoder)

    def reload(self) -> None:
        """Read the table anew; queries by row and selections are forgotten, for numbers may have changed."""
        with self._lock:
            self.jobs.forget()
            self.slow.forget()
            self._models.forget()
            self._queries = OrderedDict((k, q) for k, q in self._queries.items() if q.kind == "upload")
            self._selections.clear()
            self._load()
            self._looked = (0.0, "")

    def close(self) -> None:
        """Stop what is being computed."""
        self.jobs.close()
        self.slow.close()
        self._models.close()

    # ------------------------------------------------------------------ the table and the model

    @property
    def change(self) -> str:
        """``"changed"`` or ``"gone"`` when the table on the disk is no longer the one in memory; looked at now and then."""
        with self._lock:
            when, found = self._looked
            if time.monotonic() - when > LOOKED_AT_EVERY:
                try:
                    newest = EmbeddingTable.open(self.path).version
                    found = "" if newest == self.rows.table.version else "changed"
                except IsomixError:
                    found = "gone"
                self._looked = (time.monotonic(), found)
            return found

    def describe(self, rows: Iterable[int]) -> list[dict[str, Any]]:
        """What the pages show of rows; of those whose file is not there, whether a thumbnail is."""
        mine = self.side_file.labels
        found = [self.rows.describe(int(row), mine) for row in rows]
        astray = {row["row"]: self.rows.hashes[row["row"]] for row in found if row["problem"]}
        if astray:
            small = self.thumbnails.get(astray.values())
            for row in found:
                row["thumbnail"] = astray.get(row["row"], "") in small
        return found

    def encoder(self, *, wait: float = 0.05) -> Encoder:
        """The table's model; :class:`Working` while it is loaded."""
        return self._models.result("encoder", lambda: None, "loading the model", wait=wait)

    def encoder_at_hand(self) -> Encoder | None:
        """The table's model, if it is loaded."""
        try:
            return self.encoder(wait=0.0)
        except Exception:  # noqa: BLE001 - whatever keeps it away, it is not at hand
            return None

    def encoder_problem(self) -> str:
        """Why the model is not at hand; empty if it is, or may be soon."""
        future = self._models.start("encoder", lambda: None)
        error = future.exception() if future.done() else None
        return "" if error is None else without_paths(str(error))

    def projectors(self) -> Projectors:
        """The projectors of the table's model, read without it."""
        return self.jobs.result(
            "projectors",
            lambda: library.table_model(self.rows.table, self.model).projectors,
            "reading the projectors",
            wait=FIRST_PAGE_WAITS,
        )

    # ------------------------------------------------------------------ spaces

    def spaces(self) -> list[dict[str, Any]]:
        """The adapted spaces, the best to begin with first; those that cannot be used say why."""
        found = [self._isoclip_space()]
        found += column_spaces(self.rows)
        found.append(self._text_space())
        return sorted(found, key=lambda space: bool(space["reason"]))

    def _isoclip_space(self) -> dict[str, Any]:
        space: dict[str, Any] = {"name": "isoclip", "title": "isoclip", "reason": ""}
        try:
            directions = self.directions("isoclip")
        except Working as working:
            return {**space, "reason": working.what, "working": True}
        except IsomixError as error:
            return {**space, "reason": without_paths(str(error))}
        preset = library.preset_of(self.rows.table, self.projectors())
        return {
            **space,
            "directions": len(directions.values),
            "preset": preset,
            "band": preset or (0, 0),
            "live": self.rows.vectors.size,
        }

    def _text_space(self) -> dict[str, Any]:
        space: dict[str, Any] = {"name": "text-pca", "title": "text PCA", "reason": self.encoder_problem()}
        if space["reason"]:
            return space
        try:
            directions, kept = self._text_directions()
        except Working as working:
            return {**space, "reason": working.what, "working": True}
        except IsomixError as error:
            return {**space, "reason": without_paths(str(error))}
        count = len(directions.values)
        return {**space, "directions": count, "preset": None, "band": (0, count - kept)}

    def _text_directions(self) -> tuple[library.Directions, int]:
        encoder = self.encoder()
        return self.jobs.result(
            "text-pca",
            lambda: library.text_directions(self.bank(encoder), encoder.projectors),
            "encoding everyday nouns",
        )

    def directions(self, name: str) -> library.Directions:
        """Directions that a band of a space cuts."""
        if name == "isoclip":
            projectors = self.projectors()
            return self.jobs.result(
                "isoclip",
                lambda: library.isoclip_directions(projectors),
                "decomposing the projectors",
                wait=FIRST_PAGE_WAITS,
            )
        if name == "text-pca":
            return self._text_directions()[0]
        raise InputError(
            f"space: got {printable(name)!r}, expected one of {', '.join(s['name'] for s in self.spaces())}."
        )

    def bank(self, encoder: Encoder) -> Any:
        """Everyday nouns as text embeddings."""
        with self._lock:
            if not hasattr(self, "_bank"):
                self._bank = library.sentences_of_nouns(encoder)
            return self._bank

    def side(self, name: str) -> Side:
        """An adapted space to rank in; :class:`Working` while it is made ready."""
        if name_of(name):
            return self.jobs.result(
                name, lambda: column_side(self.rows, name, self._model), "reading the adapted column", wait=0.5
            )
        directions = self.directions(name)
        what = f"measuring {len(self.rows):,} pictures along {len(directions.values)} directions, once"

        def make() -> Band:
            band = Band(directions, self.rows.vectors, self.plain)
            band.prepare()
            return band

        return self.jobs.result(("side", name), make, what)

    def check_band(self, name: str, band: tuple[int, int]) -> None:
        """Refuse a space that is not there, and a band that leaves no direction of it."""
        if column := name_of(name):
            if column not in self.rows.table.derived:
                raise InputError(f"the table has no column of adapted vectors called {printable(column)!r}.")
            return
        directions = len(self.directions(name).values)
        if sum(band) >= directions:
            raise InputError(f"band: {band[0]} and {band[1]} leave none of {directions} directions.")

    def adapted_vectors(self, name: str, band: tuple[int, int] | None) -> Any:
        """All rows adapted, shape (n, k), unit rows."""
        if column := name_of(name):
            return self.rows.column_vectors(column)
        directions = self.directions(name)
        top, bottom = band or (0, 0)
        return library.adapt_rows(directions, self.rows.vectors, top, bottom)

    # ------------------------------------------------------------------ queries and selections

    def query(self, key: str) -> Query:
        """A query by its key: ``row:<number>``, ``upload:<id>`` or ``text:<words>``."""
        kind, _, rest = key.partition(":")
        with self._lock:
            if key in self._queries:
                self._queries.move_to_end(key)
                return self._queries[key]
        if kind == "row":
            row = self.check_row(rest)
            return Query(key, "row", printable(self.rows.paths[row]), self.rows.vectors[row], row=row)
        if kind == "rows":
            rows = [self.check_row(part) for part in rest.split(",")[:MANY_ROWS]]
            mean = self.rows.vectors[rows].mean(axis=0)
            return Query(key, "rows", f"the mean of {len(rows)} pictures", mean)
        if kind == "upload":
            raise InputError("this picture is not here any more. Drop it again.")
        if kind == "text" and rest.strip():
            (vector,) = self.encoder().encode_text([rest.strip()[:500]], show_progress_bar=False).embeddings
            return self.remember(Query(key, "text", rest.strip(), np.asarray(vector, np.float32)))
        raise InputError("query: expected row:<number>, upload:<id> or text:<words>.")

    def remember(self, query: Query) -> Query:
        """Keep a query that took a model, the last 32 of them."""
        with self._lock:
            self._queries[query.key] = query
            while len(self._queries) > KEPT_UPLOADS:
                gone, _ = self._queries.popitem(last=False)
                self.uploads.pop(gone, None)
        return query

    def check_row(self, row: Any) -> int:
        """A row number of the table."""
        text = str(row)
        if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) >= len(self.rows):
            raise InputError(f"row: got {printable(text[:20])!r}, expected a number from 0 to {len(self.rows) - 1}.")
        return int(text)

    def place(self, query: Query, space: str) -> str:
        """The space beside the plain one that a query is ranked in: for words the smoothed plain rows, where the table has them.

        Raises
        ------
        ModalityError
            Words, and no such rows; or a picture in rows that are smoothed for words.
        """
        smoothed, gone = smoothed_words(self.rows)
        if query.kind == "text":
            if smoothed is not None:
                return f"column:{smoothed.name}"
            raise ModalityError(
                "Words are compared with pictures in the plain space only: an adapted space holds similarity between pictures."
                + (f" Here they are {gone}." if gone else "")
            )
        if smoothed is not None and space == f"column:{smoothed.name}":
            raise ModalityError("The smoothed plain rows are for words. Take a smoothed adapted space for pictures.")
        return space

    def keep_selection(self, rows: Sequence[int]) -> str:
        """Keep a selection that is too long for an address; returns its name."""
        checked = sorted({self.check_row(row) for row in rows})
        name = hashlib.sha256(",".join(map(str, checked)).encode()).hexdigest()[:16]
        with self._lock:
            self._selections[name] = checked
            while len(self._selections) > KEPT_SELECTIONS:
                self._selections.popitem(last=False)
        return name

    def selection(self, name: str) -> list[int]:
        """A kept selection."""
        with self._lock:
            if name not in self._selections:
                raise InputError("this selection is not here any more. Select again.")
            return self._selections[name]
