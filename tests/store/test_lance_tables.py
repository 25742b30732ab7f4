"""Lance tables of others, LanceDB's among them: read by naming the column, never written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isomix import TextPCA
from isomix.errors import InputError, TableError
from isomix.store import adapt, adapt_column, open_embeddings

lance = pytest.importorskip("lance")
ROWS, WIDTH = 7, 8


@pytest.fixture
def rows(rng):
    return rng.standard_normal((ROWS, WIDTH)).astype(np.float32)


@pytest.fixture
def space(rng):
    return TextPCA(5).fit(rng.standard_normal((40, WIDTH)))


def write(path, **columns):
    lance.write_dataset(pa.table(columns), path)
    return path


def vectors(rows, kind="float32", missing=()):
    mask = pa.array([row in missing for row in range(len(rows))])
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(kind).ravel()), rows.shape[1], mask=mask)


def test_columns_are_carried_over_and_vectors_take_the_place_of_theirs(tmp_path, rows, space):
    path = write(
        tmp_path / "shop.lance", sku=pa.array(list("abcdefg")), vector=vectors(rows), price=pa.array(range(ROWS))
    )
    before = sorted(file.name for file in path.rglob("*"))
    report = adapt(path, tmp_path / "better.parquet", space)
    assert (report.layout, report.rows, report.dropped_columns) == ("lance", ROWS, [])
    found = pq.read_table(tmp_path / "better.parquet")
    assert set(found.column_names) == {"sku", "vector", "price"} and found["sku"].to_pylist() == list("abcdefg")
    assert np.abs(np.array(found["vector"].to_pylist()) - space.transform(rows)).max() < 1e-6
    assert sorted(file.name for file in path.rglob("*")) == before


def test_one_column_of_several_is_named(tmp_path, rows):
    path = write(tmp_path / "two.lance", a=vectors(rows), b=vectors(rows[:, :3], "float16"))
    with pytest.raises(InputError, match="Columns of float lists: a, b"):
        open_embeddings(path)
    with pytest.raises(InputError, match="no column 'c'"):
        open_embeddings(path, column="c")
    source = open_embeddings(path, column="b")
    assert (source.rows, source.width, source.dtype) == (ROWS, 3, np.float16)


def test_missing_vectors(tmp_path, rows, space):
    path = write(tmp_path / "gaps.lance", vector=vectors(rows, missing={2}))
    with pytest.raises(InputError, match="rows without a direction"):
        adapt(path, tmp_path / "x.npy", space)
    assert adapt(path, tmp_path / "x.npy", space, skip_bad=True).skipped_rows == [2]


def test_lists_of_any_length_are_refused(tmp_path):
    path = write(tmp_path / "ragged.lance", vector=pa.array([[1.0, 2.0], [3.0]]))
    with pytest.raises(InputError, match="may have any length"):
        open_embeddings(path)


def test_nothing_is_added_to_a_table_of_others(tmp_path, rows, space, cli):
    path = write(tmp_path / "shop.lance", vector=vectors(rows))
    with pytest.raises(TableError, match="not one of isomix"):
        adapt_column(path, "iso", space)
    code, _, err = cli("adapt", path, "-o", tmp_path / "x.npy")
    assert code == 2 and "does not say whose embeddings" in err
