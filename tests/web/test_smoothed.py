"""Smoothed columns in the studio: what a query finds there is what ``isomix search`` finds, and the page says how it was made."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from isomix.spaces import IsoCLIP
from isomix.store import EmbeddingTable, adapt_column
from isomix.store.search import TableSearch
from isomix.store.smooth import smooth_column

BAND = (10, 20)
SMOOTHED, EXPANDED, WORDS = (
    "column:isoclip_smoothed",
    "column:isoclip_smoothed+expanded",
    "column:isoclip_smoothed_plain",
)


@pytest.fixture
def smoothed(folder, encoder):
    smooth_column(folder / "icons.lance", "isoclip", IsoCLIP(encoder.projectors, band=BAND).fit())
    return folder


def found_by(searcher: TableSearch, name: str, k: int, **options) -> tuple[list[int], list[float], str]:
    (answer,) = searcher.search(searcher.read([name])[0], k, **options)
    return [hit.number for hit in answer.hits], [hit.score for hit in answer.hits], answer.note


@pytest.mark.parametrize(("space", "expand"), [(SMOOTHED, False), (EXPANDED, True)])
def test_a_row_finds_what_the_command_line_finds(smoothed, serve_here, ask, space, expand):
    served = serve_here(smoothed / "icons.lance")
    searcher = TableSearch(EmbeddingTable.open(smoothed / "icons.lance"), band=BAND, offline=True)
    for row in (3, 20, 41):
        rows, scores, note = found_by(searcher, f"row:{row}", 14, space="isoclip", expand=expand)
        body = {"query": f"row:{row}", "space": space, "k": 12}
        side = ask(served.client, "/api/search", json=body).json()["adapted"]
        score_of = dict(zip(rows, scores, strict=True))  # the table keeps half precision: near ties may change places
        np.testing.assert_allclose(
            [hit["cosine"] for hit in side["hits"]], [score_of[hit["row"]] for hit in side["hits"]], atol=5e-4
        )
        assert side["note"]
        assert note.endswith(side["note"])


def test_a_picture_from_outside_is_adapted_and_not_smoothed(smoothed, serve_here, ask):
    served = serve_here(smoothed / "icons.lance")
    path = sorted((smoothed / "pictures").rglob("*.png"))[9]
    other = smoothed / "other.png"
    shutil.copy(path, other)
    searcher = TableSearch(EmbeddingTable.open(smoothed / "icons.lance"), band=BAND, offline=True)
    sent = served.client.post("/api/uploads", content=other.read_bytes(), headers={"content-type": "image/png"}).json()
    for space, expand in ((SMOOTHED, False), (EXPANDED, True)):
        rows, _, _ = found_by(searcher, str(other), 10, space="isoclip", expand=expand)
        side = ask(served.client, "/api/search", json={**sent, "space": space, "k": 10}).json()["adapted"]
        assert [hit["row"] for hit in side["hits"]] == rows


def test_words_search_the_smoothed_plain_rows_and_the_page_says_so(smoothed, serve_here, ask):
    served = serve_here(smoothed / "icons.lance")
    searcher = TableSearch(EmbeddingTable.open(smoothed / "icons.lance"), offline=True)
    for space in ("isoclip", SMOOTHED):
        found = ask(served.client, "/api/search", json={"query": "text:a bell", "space": space, "k": 12}).json()
        rows, _, note = found_by(searcher, "text:a bell", 12)
        assert [hit["row"] for hit in found["adapted"]["hits"]] == rows
        assert found["adapted"]["title"] == "plain, smoothed"
        assert found["adapted"]["note"] == note
        plain, _, _ = found_by(searcher, "text:a bell", 12, smooth=False)
        assert [hit["row"] for hit in found["plain"]["hits"]] == plain
    vote = {"query": "text:a bell", "space": WORDS, "choice": "adapted"}
    assert served.client.post("/api/votes", json=vote).json()["adapted"] == 1


def test_spaces_are_named_and_rows_smoothed_for_words_are_none_for_pictures(smoothed, serve_here, ask):
    served = serve_here(smoothed / "icons.lance")
    spaces = {space["name"]: space for space in ask(served.client, "/api/table").json()["spaces"]}
    assert spaces[SMOOTHED]["title"] == "isoclip, smoothed"
    assert spaces[EXPANDED]["title"] == "isoclip, smoothed, expanded"
    assert spaces["column:isoclip"]["title"] == "isoclip of the table"
    assert WORDS not in spaces
    refused = ask(served.client, "/api/search", json={"query": "row:3", "space": WORDS}).json()
    assert refused["adapted"] is None
    assert "for words" in refused["reason"]
    ranked = {"queries": ["row:1", "row:5"], "space": SMOOTHED, "k": 4}
    assert len(ask(served.client, "/api/rerank", json=ranked).json()["queries"]) == 2
    assert ask(served.client, f"/api/layout?method=pca&space={SMOOTHED}").json()["adapted"]
    assert "isoclip, smoothed" in ask(served.client, f"/api/export/report?space={SMOOTHED}").text


def test_when_pictures_changed_the_pages_say_how_to_smooth_again(smoothed, serve_here, ask):
    path = smoothed / "icons.lance"
    table = EmbeddingTable.open(path)
    table.delete([table.column("id")[0]])
    served = serve_here(path)
    spaces = {space["name"]: space for space in ask(served.client, "/api/table").json()["spaces"]}
    assert SMOOTHED not in spaces
    assert "isomix adapt" in spaces["column:smoothed"]["reason"]
    assert str(path) not in spaces["column:smoothed"]["reason"]
    found = ask(served.client, "/api/search", json={"query": "text:a bell"}).json()
    assert found["adapted"] is None
    assert "smooths them again" in found["reason"]


def test_a_table_that_goes_leaves_the_smoothed_rows_in_memory(smoothed, serve_here, ask):
    served = serve_here(smoothed / "icons.lance")
    ask(served.client, "/api/search", json={"query": "row:3", "space": SMOOTHED})
    ask(served.client, "/api/search", json={"query": "row:3", "space": EXPANDED})
    shutil.rmtree(smoothed / "icons.lance")
    assert ask(served.client, "/api/search", json={"query": "row:4", "space": SMOOTHED}).json()["adapted"]["hits"]
    expanded = ask(served.client, "/api/search", json={"query": "row:5", "space": EXPANDED})
    assert expanded.status_code == 200
    assert str(smoothed)[1:] not in expanded.text
    assert expanded.json()["adapted"] or "could not be read" in expanded.json()["reason"]


def test_a_column_of_a_space_that_the_model_does_not_give_again_takes_rows_alone(folder, encoder, serve_here, ask):
    adapt_column(folder / "icons.lance", "better", IsoCLIP(encoder.projectors, band=BAND).fit())
    served = serve_here(folder / "icons.lance")
    described = served.studio.rows.table.derived["better"]
    described["fingerprint"] = "0" * 64
    found = ask(served.client, "/api/search", json={"query": "row:3", "space": "column:better"}).json()
    assert found["adapted"]["hits"]
    outside = ask(served.client, "/api/search", json={"query": "rows:1,2", "space": "column:better"}).json()
    assert "does not give again" in outside["reason"]


def test_without_the_model_rows_search_smoothed_columns_and_other_pictures_say_why_not(
    smoothed, serve_here, ask, monkeypatch
):
    from isomix.errors import OfflineError
    from isomix.web import library

    def absent(*_):
        raise OfflineError("the model would have to be downloaded, and that was forbidden")

    monkeypatch.setattr(library.LazyEncoder, "encoder", property(absent))
    monkeypatch.setattr(library.LazyEncoder, "projectors", property(absent))
    served = serve_here(smoothed / "icons.lance")
    assert ask(served.client, "/api/search", json={"query": "row:3", "space": SMOOTHED}).json()["adapted"]["hits"]
    for query, space in (("rows:1,2", SMOOTHED), ("row:3", EXPANDED)):
        found = ask(served.client, "/api/search", json={"query": query, "space": space}).json()
        assert found["adapted"] is None
        assert "downloaded" in found["reason"]
