"""Smoothed columns of a table: what they hold, who searches them, and that they are never stale."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import isomix
from isomix import Smoothing
from isomix.errors import InputError, TableError
from isomix.store import EmbeddingTable, adapt_column, embed, smooth_column
from isomix.store.search import TableSearch
from isomix.store.smooth import expand_in_table, smoothed_column

CONCEPTS = ("alien", "banana", "cactus", "helicopter", "penguin", "sailboat")


@pytest.fixture
def photos(pictures, tmp_path):
    for concept in CONCEPTS:
        shutil.copytree(pictures / "emoji" / concept, tmp_path / "photos" / concept)
    return tmp_path / "photos"


@pytest.fixture
def table(photos):
    path = photos.parent / "t.lance"
    embed(photos, path, isomix.load_encoder("embedded"), labels="folders")
    return path


@pytest.fixture
def space():
    return isomix.IsoCLIP(isomix.Projectors.from_pretrained("embedded")).fit()


@pytest.fixture
def smoothed(table, space):
    smooth_column(table, "isoclip", space)
    return table


def test_columns_hold_what_the_library_computes(table, space):
    report = smooth_column(table, "isoclip", space)
    stored = EmbeddingTable.open(table)
    adapted = stored.embeddings("isoclip")
    fitted = Smoothing().fit(adapted)
    assert (report.rows, report.mass, report.strength) == (30, fitted.mass_, fitted.strength_)
    assert fitted.strength_ > 0.05
    np.testing.assert_array_equal(stored.embeddings("isoclip_smoothed"), fitted.gallery_)
    np.testing.assert_allclose(
        stored.embeddings("isoclip_smoothed_plain"), fitted.average(stored.embeddings()), atol=1e-3
    )
    assert set(stored.derived) == {"isoclip", "isoclip_smoothed", "isoclip_smoothed_plain"}
    np.testing.assert_allclose(adapted, space.transform(stored.embeddings()), atol=1e-3)


def test_pictures_and_sentences_search_the_smoothed_rows_and_say_so(smoothed, space):
    stored = EmbeddingTable.open(smoothed)
    searcher = TableSearch(stored)
    queries, _ = searcher.read(["row:0", "a banana"])
    picture, sentence = searcher.search(queries, 5)
    strength = stored.derived["isoclip_smoothed"]["parameters"]["strength"]
    assert picture.note.endswith(f"; smoothed over neighbours in isoclip, strength {strength:.2f}")
    assert sentence.note == f"plain rows smoothed over neighbours in isoclip, strength {strength:.2f}"
    assert (picture.space, sentence.space) == ("isoclip", "plain")
    scores = stored.embeddings("isoclip_smoothed_plain").astype(float) @ queries[1].vector
    assert [hit.number for hit in sentence.hits] == np.argsort(-scores)[:5].tolist()
    own = space.transform(queries[0].vector[None])[0]
    scores = stored.embeddings("isoclip_smoothed").astype(float) @ own
    assert [hit.number for hit in picture.hits] == [i for i in np.argsort(-scores) if i != 0][:5]
    without = searcher.search(queries, 5, smooth=False)
    assert all("smoothed" not in answer.note for answer in without)
    assert without[1].hits[0].score == pytest.approx(
        float((stored.embeddings().astype(float) @ queries[1].vector).max()), abs=1e-3
    )


def test_expansion_is_that_of_the_library_without_the_query_itself(smoothed, space):
    stored = EmbeddingTable.open(smoothed)
    column = smoothed_column(stored, "adapted", space)
    vectors = stored.embeddings().astype(np.float32)
    fitted = Smoothing().fit(stored.embeddings("isoclip"))
    stranger = np.random.default_rng(0).normal(size=(2, 192)).astype(np.float32)
    found = expand_in_table(stored, column, space, stranger, [None, None])
    np.testing.assert_allclose(found, fitted.transform(space.transform(stranger)), atol=2e-3)
    ids = stored.column("id")
    (alone,) = expand_in_table(stored, column, space, vectors[:1], [ids[0]])
    scores = stored.embeddings("isoclip_smoothed").astype(float) @ space.transform(vectors[:1])[0]
    others = [i for i in np.argsort(-scores) if i != 0][:5]
    assert np.linalg.matrix_rank(np.vstack([alone, space.transform(vectors[[0, *others]])]), tol=1e-3) == 6
    searcher = TableSearch(stored)
    queries, _ = searcher.read(["row:0", "a banana"])
    picture, sentence = searcher.search(queries, 3, expand=True)
    assert picture.note.endswith(", query expanded by its 5 nearest")
    assert "expanded" not in sentence.note
    assert [hit.row["label"] for hit in picture.hits] == [queries[0].row["label"]] * 3


@pytest.mark.parametrize("change", ["a picture comes", "a picture goes", "a picture changes"])
def test_they_go_when_rows_change_and_a_search_says_so(smoothed, photos, space, change):
    encoder = isomix.load_encoder("embedded")
    first = photos / "alien" / "noto.png"
    if change == "a picture comes":
        shutil.copy(photos / "banana" / "noto.png", photos / "alien" / "new.png")
    elif change == "a picture goes":
        first.unlink()
    else:
        shutil.copy(photos / "banana" / "noto.png", first)
    report = embed(photos, smoothed, encoder, labels="folders")
    assert {"isoclip_smoothed", "isoclip_smoothed_plain"} <= set(report.dropped_columns)
    stored = EmbeddingTable.open(smoothed)
    assert not {"isoclip_smoothed", "isoclip_smoothed_plain"} & set(stored.columns)
    searcher = TableSearch(stored)
    queries, _ = searcher.read(["row:0", "a banana"])
    for answer in searcher.search(queries, 2):
        assert "not smoothed: pictures changed since; isomix adapt" in answer.note
    with pytest.raises(InputError, match="--smooth"):
        searcher.search(queries, 2, expand=True)
    smooth_column(smoothed, "isoclip", space)
    searcher = TableSearch(EmbeddingTable.open(smoothed))
    assert all("strength" in answer.note for answer in searcher.search(queries, 2))


def test_nothing_changes_when_nothing_changes(smoothed, photos):
    report = embed(photos, smoothed, isomix.load_encoder("embedded"), labels="folders")
    assert report.dropped_columns == []
    assert "isoclip_smoothed" in EmbeddingTable.open(smoothed).columns


def test_another_band_does_not_search_the_rows_of_this_one(smoothed):
    searcher = TableSearch(EmbeddingTable.open(smoothed), band=(1, 30))
    (answer,) = searcher.search(searcher.read(["row:0"])[0], 2)
    assert "smoothed" not in answer.note
    adapt_column(smoothed, "isoclip", searcher.spaces.isoclip)
    (answer,) = TableSearch(EmbeddingTable.open(smoothed)).search(searcher.read(["row:0"])[0], 2)
    assert "strength" in answer.note  # still of the space it was smoothed in


def test_metadata_that_cannot_be_used(smoothed):
    stored = EmbeddingTable.open(smoothed)
    stored.metadata.derived["isoclip_smoothed_plain"]["parameters"].pop("alpha")
    with pytest.raises(TableError, match="--smooth"):
        smoothed_column(stored, "plain")


def test_a_table_of_one_picture(photos, tmp_path, space):
    for path in list(photos.rglob("*.png"))[1:]:
        path.unlink()
    embed(photos, tmp_path / "one.lance", isomix.load_encoder("embedded"))
    with pytest.raises(InputError, match="minimum of 2"):
        smooth_column(tmp_path / "one.lance", "isoclip", space)


# ---------------------------------------------------------------------- the space that is kept


@pytest.fixture
def nested(table):
    encoder = isomix.load_encoder("embedded")
    texts = encoder.encode_text([*CONCEPTS, "a tree", "a house", "the sea", "a dog"]).embeddings
    return isomix.NestedTextPCA(projectors=encoder.projectors).fit(texts)


def test_the_space_of_a_smoothed_table_is_kept_and_searched_until_another_one_is(table, nested, space):
    smooth_column(table, "nested_text_pca", nested)
    kept = table.with_name("t.space.safetensors")
    assert isomix.load_space(kept).fingerprint == nested.fingerprint
    searcher = TableSearch(EmbeddingTable.open(table), model="hf:/nowhere")  # no model is needed
    (answer,) = searcher.search(searcher.read(["row:3"])[0], 4, expand=True)
    assert answer.space == "nested-text-pca"
    assert "kept in t.space.safetensors" in answer.note and "smoothed over neighbours in nested-text-pca" in answer.note
    smoothing = Smoothing().fit(EmbeddingTable.open(table).embeddings("nested_text_pca"))
    scores = (
        smoothing.gallery_.astype(np.float32)
        @ searcher.spaces.kept.transform(EmbeddingTable.open(table).embeddings()[3:4])[0]
    )
    (plain_query,) = searcher.search(searcher.read(["row:3"])[0], 4)
    assert [hit.number for hit in plain_query.hits] == [i for i in np.argsort(-scores) if i != 3][:4]
    chosen = TableSearch(EmbeddingTable.open(table), band="150/10")
    assert chosen.search(chosen.read(["row:3"])[0], 1)[0].space == "isoclip"  # a band was asked for
    smooth_column(table, "isoclip", space)
    assert not kept.exists()
    again = TableSearch(EmbeddingTable.open(table))
    assert again.search(again.read(["row:3"])[0], 1)[0].space == "isoclip"


def test_a_kept_space_that_does_not_fit_is_an_error_and_a_new_table_has_none(table, nested, photos):
    kept = table.with_name("t.space.safetensors")
    rng = np.random.default_rng(0)
    isomix.NestedTextPCA().fit(rng.normal(size=(20, 7))).save(kept)
    searcher = TableSearch(EmbeddingTable.open(table))
    with pytest.raises(TableError, match="width 7"):
        searcher.search(searcher.read(["row:3"])[0])
    kept.write_bytes(b"nothing")
    with pytest.raises(TableError, match=r"t\.space\.safetensors.*Remove it"):
        TableSearch(EmbeddingTable.open(table)).search(searcher.read(["row:3"])[0])
    other = isomix.Projectors(text=rng.normal(size=(nested.n_features_in_, 200)), source="hf:some/other")
    isomix.NestedTextPCA(projectors=other).fit(rng.normal(size=(20, nested.n_features_in_))).save(kept)
    with pytest.raises(TableError, match="some/other"):
        TableSearch(EmbeddingTable.open(table)).search(searcher.read(["row:3"])[0])
    embed(photos, table, isomix.load_encoder("embedded"), labels="folders", overwrite=True)
    assert not kept.exists()
