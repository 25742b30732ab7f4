"""Search a table with pictures, sentences, its own rows or stored vectors, each in the space that fits it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import as_matrix, check_integer
from isomix.encoders.images import image_extensions
from isomix.encoders.lazy import LazyEncoder
from isomix.errors import InputError, ModalityError
from isomix.neighbors import search
from isomix.neighbors.kinship import QUERY_NEIGHBORS
from isomix.store.answers import Answer, Hit, Query, Vector
from isomix.store.arithmetic import parse_sums, read_terms
from isomix.store.bank import Bank
from isomix.store.filters import RowFilter
from isomix.store.formats.npy import load_npy
from isomix.store.scan import source_file
from isomix.store.search_spaces import SPACE_NAMES, TableSpaces
from isomix.store.smooth import SmoothedColumn, expand_in_table, smoothed_column, smoothed_gone
from isomix.store.table import EmbeddingTable, check_is_plain

if TYPE_CHECKING:
    from isomix.encoders.base import Encoder

__all__ = ["SPACE_NAMES", "Answer", "Hit", "Query", "TableSearch"]

WORDED = ("text", "sum")
"""Queries that are no pictures alone, which neither adapted spaces nor expansion are for."""
ROW_ID = re.compile(r"[0-9a-f]{32}")


class TableSearch:
    """Searches of one table.

    Parameters
    ----------
    table : EmbeddingTable
        With a model's own embeddings.
    model : str, optional
        Where to load the table's model from, when it is not where it was. Default: the model that the table names.
    band : str or pair of int
        Of the space ``isoclip``, as for :class:`isomix.IsoCLIP`; ``"auto"`` looks at the table's embeddings. Default: the
        preset band of the table's model, the automatic one where there is none.
    sentences : sequence of str, or ndarray of shape (n, d), optional
        Bank of the spaces ``text-pca`` and ``nested-text-pca``, or its embeddings. Default: everyday nouns in the model's own
        prompt, for a space that is asked for by name.
    offline : bool
        Never open a connection.
    device : str, optional
        Where the model runs.

    Raises
    ------
    TableError
        The table holds adapted vectors.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        *,
        model: str | None = None,
        band: str | tuple[int, int] = "preset",
        sentences: Bank | None = None,
        offline: bool = False,
        device: str | None = None,
    ) -> None:
        check_is_plain(table)
        self.table = table
        self.model = LazyEncoder(model or table.metadata.model, offline=offline, device=device, made_by=table.made_by)
        if band != "preset":  # a sentence is searched without what the spaces need
            from isomix.spaces.bands import parse_band

            band = parse_band(band)
        self.spaces = TableSpaces(table, self.model, band, sentences)

    @property
    def encoder(self) -> Encoder:
        """The table's model, loaded on first use; its fingerprint is checked."""
        return self.model.encoder

    def read(self, names: Sequence[str], *, max_megapixels: float = 100.0) -> tuple[list[Query], dict[str, str]]:
        """Find out what each query is, and embed it.

        Parameters
        ----------
        names : sequence of str
            ``row:<number>``, a row's id or its path as hits print it, an ``.npy`` file (one query a row), a picture, or a
            sentence. ``text:`` in front makes anything a sentence, ``image:`` a picture. ``"+"`` and ``"-"`` as names of their
            own make one query of those around them (:mod:`isomix.store.arithmetic`).
        max_megapixels : float
            Larger pictures are refused.

        Returns
        -------
        queries : list of Query
            In the order of ``names``; a sum has a place like any other, unless one of its pictures could not be read.
        failures : dict of str to str
            Pictures that could not be read, with the reason.

        Raises
        ------
        InputError
            A row, id or file that does not exist, vectors of another width, or an empty sentence.
        """
        sums = parse_sums(names)
        parsed = [[self._parse(term.name) for term in terms] for terms in sums]
        pictures = [query for terms in parsed for found in terms for query in found if isinstance(query, tuple)]
        encoded: dict[tuple[str, Path], Query] = {}
        failures: dict[str, str] = {}
        if pictures:
            paths = [path for _, path in pictures]
            encoding = self.encoder.encode_image(paths, show_progress_bar=False, max_megapixels=max_megapixels)
            failures = {pictures[i][0]: reason for i, reason in encoding.errors.items()}
            for i in np.flatnonzero(encoding.ok):
                name, path = pictures[i]
                encoded[name, path] = Query(name, "image", encoding.embeddings[i], path, self._row_of(path) or {})
        queries: list[Query] = []
        for terms, found in zip(sums, parsed, strict=True):
            read = [[encoded.get(query) if isinstance(query, tuple) else query for query in each] for each in found]
            queries += read_terms(terms, read)
        return queries, failures

    def _parse(self, name: str) -> list[Query | tuple[str, Path]]:
        """Queries of one name; a picture that must be encoded stays (name, path)."""
        scheme, colon, rest = name.partition(":")
        if not name.strip() or (colon and scheme == "text"):
            return [self._text(name, rest)]
        if colon and scheme == "image":
            return [self._picture(name, Path(rest))]
        if colon and scheme == "row" and not rest.strip().isdecimal() and not rest.startswith(" "):
            raise InputError(
                f"query: got {name!r}, expected row:<number> from row:0 to row:{self.table.count - 1}. If it is a sentence, "
                f"write {f'text:{name}'!r}."
            )
        if colon and scheme == "row" and rest.strip().isdecimal():
            (row,) = self.table.rows([int(rest)], columns=["id", "path", "label", "embedding"])
            return [self._from_row(name, row)]
        if ROW_ID.fullmatch(name):
            (row,) = self.table.rows(ids=[name], columns=["id", "path", "label", "embedding"])
            return [self._from_row(name, row)]
        path = Path(name)
        if path.suffix == ".npy":
            return list(self._vectors(name, path))
        if _is_file(path):
            return [self._picture(name, path)]
        stored = self.table.root / name  # a path as hits print it
        found = self._row_of(stored)
        if found is not None:
            return [self._picture(name, stored)] if _is_file(stored) else self._parse(found["id"])
        if path.suffix.lower() in image_extensions() or name.endswith(os.sep):
            raise InputError(
                f"{name} does not exist. Name a picture, or write 'text:{name}' if this is what you look for."
            )
        return [self._text(name, name)]

    def _text(self, name: str, sentence: str) -> Query:
        if not sentence.strip():
            raise InputError(f"query: got the sentence {sentence!r}, expected words.")
        (vector,) = self.encoder.encode_text([sentence], show_progress_bar=False).embeddings
        return Query(name, "text", vector)

    def _picture(self, name: str, path: Path) -> Query | tuple[str, Path]:
        row = self._row_of(path, unchanged=True)
        return (
            (name, path)
            if row is None
            else Query(name, "image", np.asarray(row.pop("embedding"), np.float32), path, row)
        )

    def _from_row(self, name: str, row: dict[str, Any]) -> Query:
        vector = np.asarray(row.pop("embedding"), np.float32)
        return Query(name, "row", vector, self.table.root / row["path"], row)

    def _vectors(self, name: str, path: Path) -> Iterator[Query]:
        array = load_npy(path)
        width = self.table.metadata.embedding_dim
        rows = as_matrix(
            array[None] if array.ndim == 1 else array,
            name,
            width=width,
            width_of="the table's model",
            nonzero_rows=True,
        )
        for number, row in enumerate(rows):
            yield Query(name if array.ndim == 1 else f"{name}[{number}]", "vector", row)

    def _row_of(self, path: Path, *, unchanged: bool = False) -> dict[str, Any] | None:
        """The row that a file has in the table, if it has one; with its embedding when the file is ``unchanged`` since."""
        root = self.table.root
        as_written = Path(os.path.abspath(path))  # noqa: PTH100 - a scan does not follow links either
        for absolute in dict.fromkeys((as_written, path.resolve())):
            relative = absolute.relative_to(root) if absolute.is_relative_to(root) else absolute
            file = source_file(root, os.fspath(relative), {})
            columns = ["id", "path", "label", *(["size", "mtime_ns", "embedding"] if unchanged else [])]
            try:
                (row,) = self.table.rows(ids=[file.id], columns=columns)
            except InputError:
                continue
            if not unchanged or (row.pop("size"), row.pop("mtime_ns")) == (file.size, file.mtime_ns):
                return row
        return None

    def search(
        self,
        queries: Sequence[Query],
        k: int = 10,
        *,
        space: str = "auto",
        with_self: bool = False,
        smooth: bool = True,
        expand: bool = False,
        where: str | None = None,
    ) -> list[Answer]:
        """Find the nearest rows of every query.

        Parameters
        ----------
        queries : sequence of Query
            From :meth:`read`.
        k : int
            Hits per query.
        space : {"auto", "plain", "isoclip", "text-pca", "nested-text-pca"}
            ``auto``: sentences in the plain space. Everything else in ``nested-text-pca`` where a bank of sentences was given, or
            in the space kept beside the table by ``adapt --smooth``; else in ``isoclip``, or in the plain space where the model
            has no preset band and the automatic one cuts nothing.
        with_self : bool
            Let a query that is in the table find itself.
        smooth : bool
            Search smoothed rows where the table has them for the space (:func:`isomix.store.smooth_column`): sentences the plain
            rows, averaged over neighbours of an adapted space.
        expand : bool
            Average each query, but no sentence and no sum, with the rows that it finds first, and search again.
        where : str, optional
            Find only rows for which an SQL condition on the table's columns holds, e.g. ``"label = 'cat' AND width > 500"``.

        Returns
        -------
        list of Answer
            In the order of the queries.

        Raises
        ------
        ModalityError
            A sentence in an adapted space.
        BandError
            ``isoclip``, and the band that was given is none.
        InputError
            ``expand`` without smoothed rows.
        """
        k = check_integer(k, "k", minimum=1)
        if space not in SPACE_NAMES:
            raise InputError(f"space: got {space!r}, expected one of {', '.join(SPACE_NAMES)}.")
        only = None if where is None else RowFilter(self.table, where)
        places = [(*self._place(query, space), query.kind in WORDED and query.kind) for query in queries]
        answers: dict[int, Answer] = {}
        for used in dict.fromkeys(places):
            name, note, worded = used
            mine = [i for i, place in enumerate(places) if place == used]
            column, said = self._smoothed(name, worded == "text") if smooth else (None, "")
            vectors = np.stack([queries[i].vector for i in mine])
            if expand and not worded:
                own = [queries[i].row.get("id") for i in mine]
                scores, rows = self._nearest_expanded(vectors, name, column, k + 1, own, only)
                said += f", query expanded by its {QUERY_NEIGHBORS} nearest"
            else:
                scores, rows = self._nearest(vectors, name, column, k + 1, only)
            note = "; ".join(each for each in (note, said) if each)
            for i, row_scores, row_numbers in zip(mine, scores, rows, strict=True):
                hits = self._hits(queries[i], row_scores, row_numbers, k, with_self)
                answers[i] = Answer(queries[i], name, note, hits)
        return [answers[i] for i in range(len(queries))]

    def _smoothed(self, space: str, is_text: bool) -> tuple[SmoothedColumn | None, str]:
        """The smoothed column that a query searches, if there is one, and what to say about it."""
        if space == "plain" and not is_text:
            return None, ""
        rows: Literal["plain", "adapted"] = "plain" if is_text else "adapted"
        column = smoothed_column(self.table, rows, None if is_text else self.spaces.fitted(space))
        if column is not None:
            return column, column.note
        return None, smoothed_gone(self.table, rows)

    def _place(self, query: Query, space: str) -> tuple[str, str]:
        """Space of a query, and what to say about it."""
        if query.kind == "text":
            if space not in ("auto", "plain"):
                raise ModalityError(
                    f"the sentence {query.name!r} cannot be compared with pictures in the space {space!r}, which holds image-image "
                    "similarity. Use the space 'plain', or name a picture ('image:…')."
                )
            return "plain", ""
        if query.kind == "sum":
            if space not in ("auto", "plain"):
                raise ModalityError(
                    f"{query.name}: sums of queries are searched in the space 'plain', not in {space!r}."
                )
            return "plain", "a sum, in the space of pictures and words"
        if space == "auto":
            return self.spaces.default()
        return space, self.spaces.note(space)

    def _nearest(
        self, vectors: Vector, space: str, smoothed: SmoothedColumn | None, k: int, only: RowFilter | None
    ) -> tuple[Vector, NDArray[np.int64]]:
        if space == "plain":
            return self._find(vectors, "embedding" if smoothed is None else smoothed.name, k, only)
        fitted = self.spaces.fitted(space)
        names = [name for name, of in self.table.derived.items() if of.get("fingerprint") == fitted.fingerprint]
        if smoothed is not None:
            names = [smoothed.name]
        if names:
            return self._find(fitted.transform(vectors), names[0], k, only)
        return self._find(fitted.transform(vectors), "embedding", k, only, fitted.transform)

    def _find(
        self,
        vectors: Vector,
        column: str,
        k: int,
        only: RowFilter | None,
        transform: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> tuple[Vector, NDArray[np.int64]]:
        """Scores and row numbers of the nearest rows in a column, mapped first where there is ``transform``."""
        rows = self.table.iter_embeddings(column)
        if only is not None:
            rows = only.blocks(rows)
        scores, found = search(vectors, rows if transform is None else map(transform, rows), k)
        return scores, found if only is None else only.in_table(found)

    def _nearest_expanded(
        self,
        vectors: Vector,
        space: str,
        smoothed: SmoothedColumn | None,
        k: int,
        own: list[str | None],
        only: RowFilter | None,
    ) -> tuple[Vector, NDArray[np.int64]]:
        if smoothed is None:
            raise InputError(
                f"expand: {self.table.path} has no smoothed rows for the space {space!r}. Make them with: "
                f"isomix adapt {self.table.path} --smooth"
            )
        expanded = expand_in_table(self.table, smoothed, self.spaces.fitted(space), vectors, own)
        return self._find(expanded, smoothed.name, k, only)

    def _hits(self, query: Query, scores: Vector, numbers: NDArray[np.int64], k: int, with_self: bool) -> list[Hit]:
        found = numbers[numbers >= 0]
        own = None if with_self else query.row.get("id")
        hits = [
            Hit(float(score), int(number), row, self.table.root / row["path"])
            for score, number, row in zip(scores, found, self.table.rows(found))
            if row["id"] != own
        ]
        return hits[:k]


def _is_file(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a sentence longer than a file name may be
        return False
