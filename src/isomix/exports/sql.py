"""An affine map as SQL for PostgreSQL with pgvector: a side table that the database itself keeps beside a column.

A row of the operator table is a row of A, so that ``A x`` is one inner product a row, which pgvector computes. Nothing of
the source is changed but for two triggers; everything else stands in a schema of its own, which the undo script drops.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from isomix._affine import AffineMap
from isomix.errors import InputError
from isomix.exports.sql_names import TableName, identifier, literal

__all__ = ["MAX_INDEXED", "Scripts", "sql_scripts"]

MAX_INDEXED = {"vector": 2000, "halfvec": 4000}
ROWS_AT_ONCE = 500
_PATH = """pg_catalog.set_config('search_path', coalesce((
    SELECT pg_catalog.quote_ident(n.nspname) || ', ' FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'), '') || 'pg_temp', true)"""
_SET_PATH = f"BEGIN\n  PERFORM {_PATH};\nEND"
"""Where pgvector's types and operators are, which is not always ``public``; until the end of the transaction."""


class Scripts(NamedTuple):
    """What installs the side table, and what takes it back."""

    install: str
    undo: str


def sql_scripts(
    mapped: AffineMap,
    record: Mapping[str, Any],
    table: TableName,
    column: str,
    *,
    key: str = "id",
    schema: str = "isomix",
    halfvec: bool = False,
    index: bool = True,
    fill: bool = True,
) -> Scripts:
    """Scripts that install a side table of adapted vectors in PostgreSQL, and take it back.

    ``schema.vectors (key, embedding)`` has one row for every vector of the column. A trigger keeps it so; what is there
    already is filled in at the end, in many small transactions, which can be stopped and called again. The map is computed in
    float32, by pgvector 0.7 or newer.

    Parameters
    ----------
    mapped : AffineMap
        From d to k numbers.
    record : mapping
        Description of the space, as JSON values, with ``fingerprint`` and ``source``; it is kept beside the vectors.
    table : TableName
    column : str
        Of type vector, halfvec, real[] or double precision[].
    key : str
        A column that is unique and never NULL.
    schema : str
        Made by the script; an error if it exists.
    halfvec : bool
        Keep the adapted vectors in half precision.
    index : bool
        Build an HNSW index for cosine.
    fill : bool
        Fill in what is there already. If not, ``CALL schema.fill()`` does it later.

    Raises
    ------
    InputError
        A name that PostgreSQL cannot have; too wide for an index.
    """
    kind = "halfvec" if halfvec else "vector"
    k, d = mapped.weight.shape
    if index and k > MAX_INDEXED[kind]:
        raise InputError(
            f"the adapted vectors have {k} numbers, and pgvector indexes at most {MAX_INDEXED['vector']} of a vector and "
            f"{MAX_INDEXED['halfvec']} of a halfvec. Leave the index out (--no-index)"
            + ("." if halfvec else ", or take --halfvec.")
        )
    identifier(schema + "_truncate", "schema")
    writer = _Writer(mapped, record, table, column, key, schema, f"{kind}({k})", d)
    parts = [writer.head(), writer.checks(), writer.tables(), writer.functions(), writer.triggers(), "COMMIT;"]
    if fill:
        parts.append(
            f"-- What is there already. Stopped, it goes on when it is called again.\nCALL {writer.own}.fill();"
        )
    if index:
        parts.append(
            f"BEGIN;\n{_do(_SET_PATH)}\nCREATE INDEX vectors_cosine ON {writer.own}.vectors USING hnsw "
            f"(embedding {kind}_cosine_ops);\nCOMMIT;"
        )
    return Scripts("\n\n".join(parts) + "\n", writer.undo())


class _Writer:
    """The parts of the scripts."""

    def __init__(
        self,
        mapped: AffineMap,
        record: Mapping[str, Any],
        table: TableName,
        column: str,
        key: str,
        schema: str,
        kind: str,
        width: int,
    ) -> None:
        self.mapped, self.record, self.table, self.kind, self.width = mapped, record, table, kind, width
        self.source, self.own, self.schema = str(table), identifier(schema, "schema"), schema
        self.column, self.key = identifier(column, "column"), identifier(key, "key")
        self.model = str(record.get("source", {}).get("model") or "a model without a name")
        self.raw_column, self.raw_key = column, key

    def head(self) -> str:
        """What this is, and the beginning of the transaction."""
        from isomix import __version__

        lines = [
            f"isomix {__version__}: vectors of a column, adapted inside PostgreSQL",
            f"column  {self.source}.{self.column}, {self.width} numbers; key {self.key}",
            f"space   {self.record['method']}, for {self.record['modality']}-{self.record['modality']} similarity, "
            f"{self.record['fingerprint'][:12]}",
            f"model   {self.model}",
            f"result  {self.own}.vectors (key, embedding {self.kind})",
            "The nearest of one row:",
            f"  SELECT v.key FROM {self.own}.vectors v, {self.own}.vectors q WHERE q.key = $1 AND v.key <> q.key",
            "  ORDER BY v.embedding <=> q.embedding LIMIT 10;",
        ]
        said = "\n".join(f"-- {_one_line(line)}" for line in lines)
        settings = "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;"
        return f"{said}\n\n{settings}\nBEGIN;\n{_do(_SET_PATH)}"

    def checks(self) -> str:
        """Refusals, before anything is made."""
        name = f"{self.table.schema}.{self.table.name}"
        of_model = f"The space maps {self.width} numbers, of {self.model}. Name the model that made the column."
        body = f"""DECLARE
  source regclass := to_regclass({literal(self.source)});
  col record;
  width integer;
  shortest double precision;
  longest double precision;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector'
      AND string_to_array(regexp_replace(extversion, '[^0-9.].*', ''), '.')::integer[] >= ARRAY[0, 7]) THEN
    {_raise("pgvector 0.7 or newer is not in this database", "CREATE EXTENSION vector; or ALTER EXTENSION vector UPDATE;")}
  END IF;
  IF source IS NULL OR (SELECT relkind NOT IN ('r', 'p') FROM pg_class WHERE oid = source) THEN
    {_raise(f"there is no table {name}", "Name it with its schema; a view cannot have the trigger.")}
  END IF;
  SELECT a.atttypid::regtype AS kind, a.atttypmod AS declared INTO col FROM pg_attribute a
    WHERE a.attrelid = source AND a.attname = {literal(self.raw_column)} AND a.attnum > 0 AND NOT a.attisdropped;
  IF col IS NULL OR col.kind::text NOT IN ('vector', 'halfvec', 'real[]', 'double precision[]') THEN
    {_raise(f"{name} has no column {self.raw_column} of vectors", "Expected vector, halfvec, real[] or double precision[].")}
  END IF;
  IF NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
      WHERE i.indrelid = source AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1
      AND i.indpred IS NULL AND a.attnotnull AND a.attname = {literal(self.raw_key)}) THEN
    {_raise(f"{name} has no column {self.raw_key} that is unique and NOT NULL", "Name such a column (--key), or make one.")}
  END IF;
  width := col.declared;
  IF width <= 0 OR col.kind::text LIKE '%]' THEN
    SELECT vector_dims(s.{self.column}::vector) INTO width FROM {self.source} s WHERE s.{self.column} IS NOT NULL LIMIT 1;
  END IF;
  IF width <> {self.width} THEN
    RAISE EXCEPTION USING MESSAGE = {literal(f"isomix: {name}.{self.raw_column} holds vectors of width ")} || width
      || {literal(f", expected {self.width}")}, HINT = {literal(of_model)};
  END IF;{self._unit_length(name)}
END"""
        return _do(body)

    def _unit_length(self, name: str) -> str:
        """Where the map has an offset, the length of a vector matters."""
        if self.mapped.bias is None:
            return ""
        what = f"{name}.{self.raw_column} does not hold vectors of unit length, which this space is for"
        return f"""
  SELECT min(vector_norm(s.e)), max(vector_norm(s.e)) INTO shortest, longest FROM (SELECT t.{self.column}::vector AS e
    FROM {self.source} t WHERE t.{self.column} IS NOT NULL LIMIT 1000) s;
  IF shortest < 0.99 OR longest > 1.01 THEN
    {_raise(what, "Take a space without an offset (isoclip), or store unit vectors.")}
  END IF;"""

    def tables(self) -> str:
        """The schema, the operator, the record and the side table."""
        own = self.own
        weight = np.asarray(self.mapped.weight, np.float32)
        bias = np.zeros(len(weight)) if self.mapped.bias is None else self.mapped.bias
        rows = [
            f"({number}, '[{','.join(f'{value:.9g}' for value in row)}]', {offset:.17g})"
            for number, (row, offset) in enumerate(zip(weight, bias, strict=True))
        ]
        inserts = [
            f"INSERT INTO {own}.operator VALUES\n{_lines(rows[start : start + ROWS_AT_ONCE])};"
            for start in range(0, len(rows), ROWS_AT_ONCE)
        ]
        kept = {
            "space": dict(self.record),
            "source": {"table": list(self.table), "column": self.raw_column, "key": self.raw_key},
            "dtype": "float16" if self.kind.startswith("halfvec") else "float32",
            "made_by": "isomix export sql",
        }
        text = json.dumps(kept, sort_keys=True, ensure_ascii=True)
        values = (self.record["fingerprint"], self.model, text)
        return f"""CREATE SCHEMA {own};

CREATE TABLE {own}.space (fingerprint text NOT NULL, model text NOT NULL, record jsonb NOT NULL,
  made timestamptz NOT NULL DEFAULT now());
INSERT INTO {own}.space VALUES ({", ".join(map(literal, values))});

CREATE TABLE {own}.operator (number integer PRIMARY KEY, weights vector({self.width}) NOT NULL,
  bias double precision NOT NULL);
ALTER TABLE {own}.operator ALTER COLUMN weights SET STORAGE MAIN;
{chr(10).join(inserts)}
ANALYZE {own}.operator;

CREATE TABLE {own}.vectors AS SELECT {self.key} AS key FROM {self.source} WITH NO DATA;
ALTER TABLE {own}.vectors ADD PRIMARY KEY (key), ADD COLUMN embedding {self.kind};
COMMENT ON TABLE {own}.vectors IS {literal(text)};"""

    def functions(self) -> str:
        """The map, what the trigger does, and what fills the table."""
        own = self.own
        wrong = f", expected {self.width}"
        hint = f"They are of another model than {self.model}. Undo the adapted vectors, and make them for that model."
        adapt = f"""DECLARE
  whole vector;
  mapped vector;
BEGIN
  IF vector_dims(embedding) <> {self.width} THEN
    RAISE EXCEPTION USING MESSAGE = 'isomix: a vector of width ' || vector_dims(embedding) || {literal(wrong)},
      HINT = {literal(hint)};
  END IF;
  whole := subvector(embedding, 1, {self.width}); -- read once from where long values are kept, not once a row of the operator
  SELECT array_agg((w.bias - (whole <#> w.weights))::real ORDER BY w.number)::vector INTO mapped FROM {own}.operator w;
  IF vector_norm(mapped) > 0 THEN
    RETURN l2_normalize(mapped);
  END IF;
  RETURN NULL; -- without a direction
END"""
        # A statement may give one row the key that another had, so that the trigger looks whether the old key is still there.
        follow = f"""BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    TRUNCATE {own}.vectors;
    RETURN NULL;
  END IF;
  IF TG_OP = 'UPDATE' THEN
    IF NEW.{self.key} IS NOT DISTINCT FROM OLD.{self.key} AND NEW.{self.column} IS NOT DISTINCT FROM OLD.{self.column} THEN
      RETURN NULL;
    END IF;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    DELETE FROM {own}.vectors v WHERE v.key = OLD.{self.key} AND NOT EXISTS (
      SELECT FROM {self.source} s WHERE s.{self.key} = OLD.{self.key} AND s.{self.column} IS NOT NULL);
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.{self.column} IS NOT NULL THEN
    INSERT INTO {own}.vectors (key, embedding) VALUES (NEW.{self.key}, {own}.adapt(NEW.{self.column}::vector))
      ON CONFLICT (key) DO UPDATE SET embedding = EXCLUDED.embedding;
  END IF;
  RETURN NULL;
END"""
        # Rows are locked while they are adapted, so that a change waits for a moment and finds its row in the side table.
        fill = f"""DECLARE
  reached {own}.vectors.key%TYPE;
  page {own}.vectors.key%TYPE;
BEGIN
  LOOP
    PERFORM {_PATH};
    WITH rows AS MATERIALIZED (
      SELECT s.{self.key} AS key, s.{self.column}::vector AS embedding FROM {self.source} s
      WHERE s.{self.column} IS NOT NULL AND (reached IS NULL OR s.{self.key} > reached)
      AND NOT EXISTS (SELECT FROM {own}.vectors v WHERE v.key = s.{self.key})
      ORDER BY s.{self.key} LIMIT at_once FOR SHARE OF s
    ), added AS (
      INSERT INTO {own}.vectors (key, embedding) SELECT r.key, {own}.adapt(r.embedding) FROM rows r
      ON CONFLICT (key) DO NOTHING
    )
    SELECT r.key INTO page FROM rows r ORDER BY r.key DESC LIMIT 1;
    EXIT WHEN NOT FOUND;
    reached := page;
    COMMIT;
  END LOOP;
END"""
        return "\n\n".join(
            (
                _create(f"FUNCTION {own}.adapt(embedding vector) RETURNS vector", "STABLE STRICT PARALLEL SAFE", adapt),
                _create(f"FUNCTION {own}.follow() RETURNS trigger", "SECURITY DEFINER", follow)
                + f"\nREVOKE ALL ON FUNCTION {own}.follow() FROM PUBLIC;",
                _create(f"PROCEDURE {own}.fill(at_once integer DEFAULT 1000)", "", fill, path=False),
            )
        )

    def triggers(self) -> str:
        """They name no column, so that the column's type can still be changed."""
        truncate = identifier(f"{self.schema}_truncate")
        return (
            f"CREATE TRIGGER {self.own} AFTER INSERT OR UPDATE OR DELETE ON {self.source}\n"
            f"  FOR EACH ROW EXECUTE FUNCTION {self.own}.follow();\n"
            f"CREATE TRIGGER {truncate} AFTER TRUNCATE ON {self.source}\n"
            f"  FOR EACH STATEMENT EXECUTE FUNCTION {self.own}.follow();"
        )

    def undo(self) -> str:
        """Drops what the script made; what others have made to depend on it stops the undo, and nothing is dropped."""
        return (
            f"BEGIN;\nDROP TRIGGER IF EXISTS {self.own} ON {self.source};\n"
            f"DROP TRIGGER IF EXISTS {identifier(f'{self.schema}_truncate')} ON {self.source};\n"
            f"DROP PROCEDURE {self.own}.fill(integer);\nDROP FUNCTION {self.own}.follow();\nDROP FUNCTION {self.own}.adapt;\n"
            f"DROP TABLE {self.own}.vectors, {self.own}.operator, {self.own}.space;\nDROP SCHEMA {self.own};\nCOMMIT;\n"
        )


def _raise(message: str, hint: str) -> str:
    return f"RAISE EXCEPTION USING MESSAGE = {literal(f'isomix: {message}')}, HINT = {literal(hint)};"


def _do(body: str) -> str:
    tag = _tag(body)
    return f"DO {tag}\n{body}\n{tag};"


def _create(what: str, how: str, body: str, *, path: bool = True) -> str:
    tag = _tag(body)
    settings = " ".join(filter(None, ("LANGUAGE plpgsql", how, "SET search_path FROM CURRENT" if path else "")))
    return f"CREATE {what} {settings} AS {tag}\n{body}\n{tag};"


def _tag(body: str) -> str:
    """A dollar quote that does not occur in what it quotes."""
    number = 0
    while f"$isomix{number or ''}$" in body:
        number += 1
    return f"$isomix{number or ''}$"


def _lines(rows: list[str]) -> str:
    return ",\n".join(rows)


def _one_line(text: str) -> str:
    """For a comment, which a line end would end."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
