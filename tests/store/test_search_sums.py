"""Sums of queries and searches among some rows, against the same done by hand."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import isomix
from isomix.errors import InputError, ModalityError
from isomix.store import EmbeddingTable, embed, smooth_column
from isomix.store.search import TableSearch

CONCEPTS = ("alien", "banana", "cactus")


@pytest.fixture(scope="module")
def table(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sums") / "photos"
    for concept in CONCEPTS:
        shutil.copytree(pictures / "emoji" / concept, folder / concept)
    embed(folder, folder.parent / "t.lance", isomix.load_encoder("embedded"), labels="folders")
    return folder.parent / "t.lance"


@pytest.fixture(scope="module")
def searcher(table):
    return TableSearch(EmbeddingTable.open(table))


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_a_sum_is_the_sum_of_unit_embeddings(searcher, table):
    stored = EmbeddingTable.open(table).embeddings()
    words = isomix.load_encoder("embedded").encode_text(["a cactus", "an alien"]).embeddings
    total = unit(stored[0]) + unit(words[0]) - unit(words[1])
    cosines = unit(stored) @ unit(total)
    queries, failures = searcher.read(["row:0", "+", "a cactus", "-", "an alien", "banana"])
    assert failures == {}
    assert [query.kind for query in queries] == ["sum", "text"]
    assert queries[0].name == "row:0 + a cactus - an alien"
    answer, banana = searcher.search(queries, 4)
    assert answer.space == "plain"
    assert [hit.number for hit in answer.hits] == [i for i in np.argsort(-cosines) if i != 0][:4]
    np.testing.assert_allclose([hit.score for hit in answer.hits], cosines[[h.number for h in answer.hits]], atol=1e-3)
    assert banana.hits[0].row["label"] == "banana"


def test_sums_that_mean_nothing_are_refused(searcher, table, tmp_path):
    for names in (["+", "a"], ["a", "+"], ["a", "+", "-", "b"], ["-"]):
        with pytest.raises(InputError, match="query"):
            searcher.read(names)
    with pytest.raises(InputError, match="cancel out"):
        searcher.read(["row:1", "-", "row:1"])
    np.save(tmp_path / "v.npy", EmbeddingTable.open(table).embeddings()[:3])
    with pytest.raises(InputError, match="several vectors"):
        searcher.read([str(tmp_path / "v.npy"), "+", "a"])
    with pytest.raises(ModalityError, match="sums"):
        searcher.search(searcher.read(["row:1", "+", "a"])[0], space="isoclip")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    queries, failures = searcher.read([str(tmp_path / "bad.png"), "+", "a", "banana"])
    assert [query.name for query in queries] == ["banana"]
    assert len(failures) == 1


@pytest.mark.parametrize("space", ["plain", "isoclip"])
def test_a_search_among_some_rows_is_the_whole_search_without_the_others(searcher, table, space):
    labels = EmbeddingTable.open(table).column("label")
    queries, _ = searcher.read(["row:2"])
    (everything,) = searcher.search(queries, 100, space=space)
    (some,) = searcher.search(queries, 100, space=space, where="label != 'banana'")
    wanted = [(hit.number, hit.score) for hit in everything.hits if labels[hit.number] != "banana"]
    assert [hit.number for hit in some.hits] == [number for number, _ in wanted]
    np.testing.assert_allclose([hit.score for hit in some.hits], [score for _, score in wanted], atol=1e-6)
    (few,) = searcher.search(queries, 100, space=space, where="label = 'cactus' AND path LIKE '%n%'")
    assert all(hit.row["label"] == "cactus" and "n" in hit.row["path"] for hit in few.hits)
    with pytest.raises(InputError, match="holds for none"):
        searcher.search(queries, where="label = 'cat'")
    with pytest.raises(InputError, match="SQL condition"):
        searcher.search(queries, where="no_such = 1")


def test_smoothed_and_expanded_searches_keep_to_the_rows(table, tmp_path):
    shutil.copytree(table, tmp_path / "t.lance")
    space = isomix.IsoCLIP(isomix.Projectors.from_pretrained("embedded")).fit()
    smooth_column(tmp_path / "t.lance", "isoclip", space)
    searcher = TableSearch(EmbeddingTable.open(tmp_path / "t.lance"))
    queries, _ = searcher.read(["row:2", "banana", "row:1", "+", "banana"])
    answers = searcher.search(queries, 100, expand=True, where="label != 'alien'")
    assert all(hit.row["label"] != "alien" for answer in answers for hit in answer.hits)
    assert "expanded" in answers[0].note
    assert ["expanded" in answer.note for answer in answers] == [True, False, False]


def test_the_command_takes_both(cli, table):
    found = cli("search", table, "row:0", "+", "a cactus", "--where", "label = 'cactus'", "-k", 2)
    assert found.code == 0, found.err
    assert "row:0 + a cactus" in found.out
    assert cli("search", table, "row:0", "-").code == 1
