"""Qdrant: a collection read by scrolling, and a new collection with the same ids and payloads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix.errors import FileFormatError, InputError
from isomix.store.databases.base import Database, Target
from isomix.store.databases.pictures import Pictures, readable
from isomix.store.databases.qdrant_connection import Client
from isomix.store.formats.base import Block
from isomix.store.schema import arrow

__all__ = ["QdrantCollection", "QdrantTarget"]

IDS_AT_ONCE = 4096
RECORD = "isomix"
"""Under which the record stands in a collection's metadata."""


class QdrantCollection(Database):
    """A collection, or one named vector of it.

    Parameters
    ----------
    url : str
        ``http(s)://host:6333/collections/NAME``, or ``qdrant:///folder/collections/NAME`` for local mode.
    column : str, optional
        Which named vector. Default: the only one.

    Raises
    ------
    InputError
        No such collection, or no such vector.
    TableError
        The server cannot be reached, or refuses.
    MissingExtraError
    """

    layout = "qdrant"

    def __init__(self, url: str, column: str | None = None) -> None:
        self.client = Client(url)
        self.collection = self.client.collection
        self.label = f"{self.client.place}/collections/{self.collection}"
        self.path, self.column = Path(self.collection), "embedding"
        try:
            self._look(column)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection."""
        self.client.raw.close()

    def _look(self, column: str | None) -> None:
        """Find the vector and the record, count the points."""
        with self.client.errors(self.label):
            if not self.client.raw.collection_exists(self.collection):
                names = sorted(each.name for each in self.client.raw.get_collections().collections)
                raise InputError(
                    f"{self.client.place} has no collection {self.collection!r}. Collections: {', '.join(names) or 'none'}."
                )
            info = self.client.raw.get_collection(self.collection)
            self.rows = int(self.client.raw.count(self.collection, exact=True).count)
        vectors = info.config.params.vectors
        self.vector, self.config = self._choose(vectors, column)
        self.width = int(self.config.size)
        if self.config.multivector_config is not None:
            raise InputError(
                f"{self.label} holds several vectors a point, and a space maps one. Name a vector of one (--column)."
            )
        self.dtype = np.dtype(np.float16 if _datatype(self.config) == "float16" else np.float32)
        self.record = dict((getattr(info.config, "metadata", None) or {}).get(RECORD, {}))
        self.indexed = sorted(info.payload_schema or {})
        pa = arrow()
        self.other_fields = [pa.field("id", pa.string()), pa.field("payload", pa.string())]
        self.address = {"collection": self.collection, "vector": self.vector}

    def _choose(self, vectors: Any, column: str | None) -> tuple[str, Any]:
        if not isinstance(vectors, dict):
            if vectors is None or column:
                raise InputError(
                    f"{self.label} has no vector {column!r}: "
                    + (
                        "it has none that are dense."
                        if vectors is None
                        else "its vector has no name. Leave out --column."
                    )
                )
            return "", vectors
        listed = ", ".join(sorted(vectors)) or "none"
        if column is None and len(vectors) == 1:
            column = next(iter(vectors))
        if column not in vectors:
            raise InputError(f"{self.label}: which vector? Its vectors: {listed}. Name one (--column).")
        return str(column), vectors[column]

    def scroll(self, rows: int, *, vectors: bool) -> Iterator[list[Any]]:
        """Points in the order of their ids, with payload and vector or without both."""
        chosen: Any = ([self.vector] if self.vector else True) if vectors else False
        return self.client.scroll(self.collection, rows, with_payload=vectors, with_vectors=chosen)

    def block(self, points: Sequence[Any], start: int) -> tuple[Block, list[Any]]:
        """Points with a vector as a block, and those without one."""
        with_vector, without, found = [], [], []
        for point in points:
            value = point.vector
            value = value.get(self.vector) if isinstance(value, dict) else value
            if not value:
                without.append(point)
                continue
            if len(value) != self.width:
                raise FileFormatError(
                    f"{self.label}: the vector at {point.id} has width {len(value)}, expected {self.width}."
                )
            with_vector.append(point)
            found.append(value)
        array = np.asarray(found, np.float32).reshape(len(found), self.width)
        return Block("0", start, array.astype(self.dtype), with_vector), without

    def _blocks(self, rows: int) -> Iterator[Block]:
        """All points with a vector; ids as text and payloads as JSON."""
        pa = arrow()
        start = 0
        for points in self.scroll(rows, vectors=True):
            block, _ = self.block(points, start)
            ids = pa.array(self.names(block), pa.string())
            payloads = pa.array(
                [json.dumps(point.payload or {}, ensure_ascii=False) for point in block.columns], pa.string()
            )
            yield block._replace(columns=pa.record_batch([ids, payloads], names=["id", "payload"]))
            start += len(block.vectors)

    def names(self, block: Block) -> Sequence[str]:
        """Ids as text."""
        return [str(point.id) for point in block.columns]

    def target(self, name: str, width: int, dtype: np.dtype[Any]) -> QdrantTarget:
        """A new collection on the same server."""
        return QdrantTarget(self, name, width, dtype)

    def pictures(self, rows: int) -> Pictures | None:
        """From fields of the payload, in the first thousand points."""
        points = next(self.scroll(1000, vectors=True), [])
        block, _ = self.block(points, 0)
        pairs = zip((point.payload or {} for point in block.columns), block.vectors, strict=True)
        return readable(pairs, rows)


class QdrantTarget(Target):
    """A collection with the ids and payloads of the source; its metadata say what made it."""

    def __init__(self, source: QdrantCollection, name: str, width: int, dtype: np.dtype[Any]) -> None:
        if name == source.collection:
            raise InputError(
                f"{name} is the source itself. Name another collection: the plain embeddings stay what they are."
            )
        if not name or "/" in name:
            raise InputError(f"target: got {name!r}, expected the name of a new collection.")
        self.source, self.name, self.width, self.dtype = source, name, width, dtype
        self._client, self._models = source.client.raw, source.client.models
        self._errors = source.client.errors

    def record(self) -> Mapping[str, Any] | None:
        """From the collection's metadata."""
        with self._errors(self.name):
            if not self._client.collection_exists(self.name):
                return None
            info = self._client.get_collection(self.name)
        record = (getattr(info.config, "metadata", None) or {}).get(RECORD)
        if not isinstance(record, dict):
            raise InputError(
                f"the collection {self.name} exists, and isomix did not make it. Name another; it is left as it is."
            )
        return record

    def create(self, record: Mapping[str, Any]) -> None:
        """With the source's way of keeping vectors, and cosine."""
        models = self._models
        vector = models.VectorParams(
            size=self.width,
            distance=models.Distance.COSINE,
            on_disk=self.source.config.on_disk,
            datatype=models.Datatype.FLOAT16 if self.dtype == np.float16 else None,
        )
        with self._errors(f"the collection {self.name} cannot be made"):
            vectors = {self.source.vector: vector} if self.source.vector else vector
            self._client.create_collection(self.name, vectors_config=vectors, metadata={RECORD: dict(record)})
        try:
            self.record()
        except InputError:
            self.drop()
            raise InputError(
                f"{self.source.client.place} does not keep the metadata of a collection, by which a run knows its own. "
                "Expected Qdrant 1.16 or newer; or name a file as the target (-o better.parquet)."
            ) from None

    def drop(self) -> None:
        """Remove the collection."""
        with self._errors(f"the collection {self.name} cannot be removed"):
            self._client.delete_collection(self.name)

    def count(self) -> int:
        """Points in it."""
        with self._errors(self.name):
            return int(self._client.count(self.name, exact=True).count)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nothing: points are written under the ids of their source, so that two runs write the same."""
        yield

    def missing(self, rows: int) -> Iterator[Block]:
        """Points of the source whose ids are not here; vectors and payloads are read of these alone."""
        start = 0
        empty = self.count() == 0
        for points in self.source.scroll(rows, vectors=empty):
            if not empty:
                points = self._read(self._absent(points))
            block, without = self.source.block(points, start)
            if without:
                self._upsert(without, None)
            start += len(block.vectors)
            if len(block.vectors):
                yield block

    def _absent(self, points: Sequence[Any]) -> list[Any]:
        ids = [point.id for point in points]
        with self._errors(self.name):
            here = self._client.retrieve(self.name, ids, with_payload=False, with_vectors=False)
        known = {point.id for point in here}
        return [each for each in ids if each not in known]

    def _read(self, ids: Sequence[Any]) -> list[Any]:
        if not ids:
            return []
        chosen: Any = [self.source.vector] if self.source.vector else True
        with self._errors(self.source.label):
            return list(
                self._client.retrieve(self.source.collection, list(ids), with_payload=True, with_vectors=chosen)
            )

    def write(self, block: Block, vectors: NDArray[Any], bad: Sequence[int]) -> None:
        """One upsert, finished before the next begins."""
        without = set(bad)
        good = [row for row in range(len(vectors)) if row not in without]
        self._upsert([block.columns[row] for row in good], vectors[good])
        self._upsert([block.columns[row] for row in bad], None)

    def _upsert(self, points: Sequence[Any], vectors: NDArray[Any] | None) -> None:
        if not points:
            return
        values = [{}] * len(points) if vectors is None else vectors.astype(np.float32).tolist()
        if self.source.vector and vectors is not None:
            values = [{self.source.vector: value} for value in values]
        made = [
            self._models.PointStruct(id=point.id, vector=value, payload=point.payload)
            for point, value in zip(points, values, strict=True)
        ]
        with self._errors(f"the collection {self.name} cannot be written"):
            self._client.upsert(self.name, made, wait=True)

    def finish(self) -> tuple[int, int]:
        """Points whose source is gone; and how many came in meanwhile."""
        removed = 0
        for points in self.source.client.scroll(self.name, IDS_AT_ONCE, with_payload=False, with_vectors=False):
            ids = [point.id for point in points]
            with self._errors(self.source.label):
                here = self._client.retrieve(self.source.collection, ids, with_payload=False, with_vectors=False)
            gone = [each for each in ids if each not in {point.id for point in here}]
            if gone:
                with self._errors(self.name):
                    self._client.delete(self.name, self._models.PointIdsList(points=gone), wait=True)
            removed += len(gone)
        with self._errors(self.source.label):
            total = int(self._client.count(self.source.collection, exact=True).count)
        return removed, max(0, total - self.count())

    def undo(self) -> str:
        """One request."""
        return f"client.delete_collection({self.name!r})"

    def hint(self) -> str:
        """How a program that asks for an alias gets the new collection, and what the new one lacks."""
        fields = f" Payload indexes to make again: {', '.join(self.source.indexed)}." if self.source.indexed else ""
        return (
            "client.update_collection_aliases([models.CreateAliasOperation(create_alias=models.CreateAlias("
            f"collection_name={self.name!r}, alias_name='NAME'))])  # then ask for NAME.{fields}"
        )


def _datatype(config: Any) -> str:
    return str(getattr(config.datatype, "value", config.datatype) or "float32")
