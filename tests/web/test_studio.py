"""What the pages ask: search, bands, map, classes, duplicates, report, and tables that change under them."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest

import isomix
from isomix.spaces import IsoCLIP
from isomix.store import EmbeddingTable, adapt_column, embed


def test_both_sides_are_what_a_search_in_each_space_finds(served, ask, encoder):
    rows = EmbeddingTable.open(served.studio.path).embeddings().astype(np.float32)
    found = ask(served.client, "/api/search", json={"query": "row:7", "band": [20, 30], "k": 10}).json()
    adapted = IsoCLIP(encoder.projectors, band=(20, 30)).fit().transform(rows)
    for side, vectors in (("plain", rows), ("adapted", adapted)):
        scores, numbers = isomix.search(vectors[7:8], vectors, 11)
        keep = numbers[0] != 7
        assert [hit["row"] for hit in found[side]["hits"]] == numbers[0][keep][:10].tolist()
        np.testing.assert_allclose([hit["cosine"] for hit in found[side]["hits"]], scores[0][keep][:10], atol=1e-4)
    order = [
        hit["row"]
        for hit in ask(served.client, "/api/search", json={"query": "row:7", "k": 71}).json()["plain"]["hits"]
    ]
    for hit in found["adapted"]["hits"]:
        assert hit["was"] == order.index(hit["row"]) + 1
    assert found["adapted"]["band"] == [20, 30]


def test_words_stay_in_the_plain_space_and_the_page_is_told_why(served, ask):
    found = ask(served.client, "/api/search", json={"query": "text:star"}).json()
    assert found["adapted"] is None
    assert "plain space" in found["reason"]
    assert len(found["plain"]["hits"]) == 24


def test_a_picture_from_outside_finds_itself(served, ask, folder):
    path = sorted((folder / "pictures").rglob("*.png"))[4]
    query = served.client.post("/api/uploads", content=path.read_bytes(), headers={"content-type": "image/png"}).json()[
        "query"
    ]
    found = ask(served.client, "/api/search", json={"query": query, "k": 3}).json()
    hits = {row["row"]: row["path"] for row in found["known"]}
    assert hits[found["plain"]["hits"][0]["row"]] == str(path.relative_to(folder / "pictures"))
    assert found["plain"]["hits"][0]["cosine"] > 0.999
    assert found["adapted"]["hits"][0]["row"] == found["plain"]["hits"][0]["row"]
    assert served.client.post("/api/search", json={"query": "upload:unknown"}).status_code == 422


def test_several_pictures_are_one_query(served, ask):
    found = ask(served.client, "/api/search", json={"query": "rows:1,12,23", "k": 5}).json()
    vectors = served.studio.rows.vectors
    _, rows = isomix.search(vectors[[1, 12, 23]].mean(axis=0, keepdims=True), vectors, 5)
    assert [hit["row"] for hit in found["plain"]["hits"]] == rows[0].tolist()
    assert len(found["adapted"]["hits"]) == 5


def test_nine_queries_rank_on_blocks_while_the_band_moves_and_exactly_when_it_rests(served, ask):
    body = {"queries": [f"row:{i}" for i in range(9)], "space": "isoclip", "band": [21, 35], "k": 4}
    moving = ask(served.client, "/api/rerank", json=body).json()
    resting = ask(served.client, "/api/rerank", json={**body, "exact": True}).json()
    assert (moving["band"], resting["band"]) == ([16, 32], [21, 35])
    assert [len(query["hits"]) for query in resting["queries"]] == [4] * 9
    one = ask(served.client, "/api/search", json={"query": "row:4", "band": [21, 35], "k": 4}).json()
    assert [h["row"] for h in resting["queries"][4]["hits"]] == [h["row"] for h in one["adapted"]["hits"]]


def test_a_table_too_large_to_rank_whole_ranks_candidates_and_says_so(served, ask, monkeypatch):
    monkeypatch.setattr("isomix.web.sides.LIVE_ELEMENTS", 100)
    monkeypatch.setattr("isomix.web.sides.CANDIDATES", 20)
    found = ask(served.client, "/api/search", json={"query": "row:7", "band": [20, 30], "k": 24}).json()
    assert found["adapted"]["candidates"] == 20
    assert len(found["adapted"]["hits"]) == 20
    assert found["plain"]["hits"][23]["now"] is None
    assert ask(served.client, "/api/rerank", json={"queries": ["row:7"], "band": [20, 30]}).json()["candidates"] == 20


def test_the_spectrum_and_what_speaks_for_a_band(served, ask):
    curve = ask(served.client, "/api/spectrum").json()
    assert curve["values"] == sorted(curve["values"], reverse=True)
    assert len(curve["values"]) == curve["directions"] == 192
    assert curve["preset"] == [0, 72]
    found = ask(served.client, "/api/bands").json()
    assert found["by"] == "labels"
    assert found["map"]
    assert [0, 0] in [score[:2] for score in found["scores"]]
    assert "mAP by labels" in found["words"] or "No gain" in found["words"]
    text = ask(served.client, "/api/spectrum?space=text-pca").json()
    assert text["control"] is None


def test_a_table_without_labels_is_judged_by_the_nearest_sentence(made, tmp_path, encoder, serve_here, ask):
    embed(made / "pictures", tmp_path / "plain.lance", encoder, thumbnails=False)
    table = serve_here(tmp_path / "plain.lance")
    assert ask(table.client, "/api/table").json()["labels"] == []
    assert ask(table.client, "/api/bands").json()["by"] == "the nearest sentence"


def test_a_handful_of_pictures_is_served_too(made, tmp_path, encoder, serve_here, ask):
    source = tmp_path / "few"
    source.mkdir()
    for path in sorted((made / "pictures").rglob("*.png"))[5:8]:
        shutil.copy(path, source / path.name.replace("<", ""))
    embed(source, tmp_path / "few.lance", encoder)
    table = serve_here(tmp_path / "few.lance")
    found = ask(table.client, "/api/search", json={"query": "row:0"}).json()
    assert len(found["plain"]["hits"]) == len(found["adapted"]["hits"]) == 2
    assert not ask(table.client, "/api/bands").json()["available"]
    assert ask(table.client, "/api/layout").json()["method"] == "pca"
    assert ask(table.client, "/api/duplicates").status_code == 200
    assert len(ask(table.client, "/api/label-next").json()["rows"]) == 3


def test_a_column_of_adapted_vectors_is_a_space_of_its_own(folder, encoder, serve_here, ask):
    table = EmbeddingTable.open(folder / "icons.lance")
    space = IsoCLIP(encoder.projectors, band=(10, 20)).fit()
    adapt_column(table.path, "better", space)
    served = serve_here(folder / "icons.lance")
    spaces = {s["name"]: s for s in ask(served.client, "/api/table").json()["spaces"]}
    assert spaces["column:better"]["k_top"] == 10
    found = ask(served.client, "/api/search", json={"query": "row:3", "space": "column:better"}).json()
    live = ask(served.client, "/api/search", json={"query": "row:3", "space": "isoclip", "band": [10, 20]}).json()
    assert [h["row"] for h in found["adapted"]["hits"]][:8] == [h["row"] for h in live["adapted"]["hits"]][:8]
    several = {"query": "rows:1,2", "k": 8}
    found = ask(served.client, "/api/search", json={**several, "space": "column:better"}).json()
    live = ask(served.client, "/api/search", json={**several, "space": "isoclip", "band": [10, 20]}).json()
    assert [h["row"] for h in found["adapted"]["hits"]] == [h["row"] for h in live["adapted"]["hits"]]


def test_without_the_model_words_are_off_with_the_reason_and_the_rest_goes_on(folder, serve_here, ask, monkeypatch):
    from isomix.errors import OfflineError
    from isomix.web import library

    def absent(*_):
        raise OfflineError("the model would have to be downloaded, and that was forbidden")

    monkeypatch.setattr(library.LazyEncoder, "encoder", property(absent))
    monkeypatch.setattr(library.LazyEncoder, "projectors", property(absent))
    served = serve_here(folder / "icons.lance")
    found = ask(served.client, "/api/table").json()
    assert "downloaded" in found["words"]["reason"]
    assert all(space["reason"] for space in found["spaces"])
    search = ask(served.client, "/api/search", json={"query": "row:3"}).json()
    assert len(search["plain"]["hits"]) == 24
    assert search["adapted"] is None
    assert "downloaded" in search["reason"]
    assert served.client.post("/api/search", json={"query": "text:star"}).status_code == 409
    assert ask(served.client, "/api/layout").json()["adapted"] is False
    for row in range(6):
        served.client.post("/api/labels", json={"rows": [row * 6 + 8], "label": "ab"[row % 2]})
    assert served.client.get("/api/classes").json()["chosen"]["text"] is False


def test_a_model_that_takes_long_does_not_hold_up_the_pages(folder, serve_here, ask, monkeypatch):
    monkeypatch.setattr("isomix.web.studio.FIRST_PAGE_WAITS", 0.0)
    served = serve_here(folder / "icons.lance")
    first = served.client.get("/api/table")
    assert first.status_code == 200
    (isoclip,) = [space for space in first.json()["spaces"] if space["name"] == "isoclip"]
    assert isoclip["working"]
    assert isoclip["reason"]
    assert ask(served.client, "/api/bands").status_code == 200
    assert ask(served.client, "/api/search", json={"query": "row:3"}).json()["adapted"]["hits"]
    assert "working" not in served.client.get("/api/table").json()["spaces"][0]


def test_the_map_places_every_row_in_both_spaces(served, ask):
    found = ask(served.client, "/api/layout?k_top=10&k_bottom=20&method=pca").json()
    numbers = np.frombuffer(served.client.get("/api/layout.bin?k_top=10&k_bottom=20&method=pca").content, "<f4")
    assert found["adapted"]
    assert numbers.shape == (4 * 67,)
    assert numbers.min() >= 0
    assert numbers.max() <= 1
    codes = served.client.get("/api/codes").json()
    assert len(codes["codes"]) == 67
    assert "<b>odd</b>" in codes["names"]


def test_labels_make_a_classifier_that_is_judged_without_each_picture(served, ask):
    rows = served.studio.rows
    concepts = sorted({label for label in rows.labels if label and "<" not in label})[:3]
    for concept in concepts:
        members = [i for i, label in enumerate(rows.labels) if label == concept][:5]
        served.client.post("/api/labels", json={"rows": members, "label": concept})
    found = ask(served.client, "/api/classes").json()
    assert [entry["name"] for entry in found["classes"]] == concepts
    accuracy = found["accuracy"]
    assert accuracy["n"] >= 12
    assert 0 <= accuracy["low"] <= accuracy["share"] <= accuracy["high"] <= 1
    assert found["chosen"]["method"] == "project-and-mix"
    assert set(found["chosen"]["weights"])
    suggested = ask(served.client, "/api/label-next?k=5").json()
    assert suggested["rule"] == "doubtful"
    assert all(row["guess"] in concepts for row in suggested["rows"])
    table = list(csv.DictReader(io.StringIO(served.client.get("/api/export/predictions").text)))
    assert len(table) == 67
    assert {row["label"] for row in table} <= set(concepts)


def test_the_exported_classifier_predicts_what_the_studio_does(served, tmp_path):
    for row in range(12):
        served.client.post("/api/labels", json={"rows": [row * 5], "label": "ab"[row % 2]})
    path = tmp_path / "classes.safetensors"
    path.write_bytes(served.client.get("/api/export/classifier").content)
    classifier = isomix.load_classifier(path)
    rows = csv.DictReader(io.StringIO(served.client.get("/api/export/predictions").text))
    assert [row["label"] for row in rows] == classifier.predict(served.studio.rows.vectors).tolist()
    assert classifier.source_["fingerprint"] == served.studio.rows.table.metadata.fingerprint


def test_the_python_snippet_runs(served, folder, monkeypatch, capsys):
    for row in range(8):
        served.client.post("/api/labels", json={"rows": [row * 5], "label": "ab"[row % 2]})
    (folder / "icons-labels.csv").write_bytes(served.client.get("/api/export/labels").content)
    monkeypatch.chdir(folder)
    exec(compile(served.client.get("/api/export/snippet").json()["code"], "snippet", "exec"), {})
    assert "'a'" in capsys.readouterr().out


def test_labels_reach_the_table_only_when_they_are_exported(served, folder):
    served.client.post("/api/labels", json={"rows": [2], "label": "mine"})
    assert EmbeddingTable.open(folder / "icons.lance").column("label")[2] != "mine"
    assert served.client.post("/api/export/table-labels", json={}).json() == {"written": 1}
    assert EmbeddingTable.open(folder / "icons.lance").column("label")[2] == "mine"
    assert served.client.get("/api/table").json()["change"] == ""


def test_duplicates_identical_and_near_with_leaks_and_verdicts(served, ask):
    rows = served.studio.rows
    copy, near = rows.paths.index("copy.png"), rows.paths.index("near.png")
    found = ask(served.client, "/api/duplicates?threshold=0.95").json()
    (group,) = found["identical"]
    assert copy in group
    assert any(near in group for group in found["groups"])
    assert found["pairs"] >= 1
    assert all(pair["score"] >= 0.95 for pair in found["above"])
    assert all(pair["score"] < 0.95 for pair in found["below"])
    splits = rows.splits
    assert all(splits[leak["left"]] != splits[leak["right"]] for leak in found["leaks"])
    everywhere = "/api/duplicates?threshold=-1"
    for pair in ask(served.client, everywhere).json()["above"]:
        body = {"left": pair["right"], "right": pair["left"], "verdict": "different"}
        assert served.client.post("/api/verdicts", json=body).status_code == 200
    judged = ask(served.client, everywhere).json()
    assert judged["verdicts"] == 6
    assert {pair["verdict"] for pair in judged["above"]} == {"different"}
    served.client.post("/api/verdicts", json={**body, "verdict": None})
    assert ask(served.client, everywhere).json()["verdicts"] == 5
    listed = list(csv.DictReader(io.StringIO(served.client.get("/api/export/duplicates?threshold=0.95").text)))
    assert {row["kind"] for row in listed} >= {"identical"}
    assert json.loads(served.client.get("/api/export/duplicates?threshold=0.95&kind=json").text)["groups"]
    assert "data:image/webp" in served.client.get("/api/export/duplicates?threshold=0.95&kind=html").text


def test_votes_count_once_a_query_and_make_a_test_after_twenty(served):
    for row in range(21):
        answer = served.client.post(
            "/api/votes", json={"query": f"row:{row}", "space": "isoclip", "choice": "adapted"}
        ).json()
        assert (answer["p"] is None) == (row < 19)
    again = served.client.post("/api/votes", json={"query": "row:0", "space": "isoclip", "choice": "plain"}).json()
    assert (again["adapted"], again["plain"], again["total"]) == (20, 1, 21)
    assert again["p"] < 0.001
    assert served.client.get("/api/votes?space=text-pca").json()["total"] == 0


def test_names_and_labels_of_strangers_come_out_harmless(served, ask):
    rows = ask(served.client, "/api/rows?rows=0-66").json()["rows"]
    text = json.dumps(rows, ensure_ascii=False)
    assert "\x1b" not in text
    assert "\\u001b" not in json.dumps(rows)
    assert "\u202e" not in text
    served.client.post("/api/labels", json={"rows": [0, 1], "label": "=cmd|' /C calc'!A0"})
    served.client.post("/api/labels", json={"rows": [2, 3], "label": "<script>alert(1)</script>"})
    exported = served.client.get("/api/export/selection?rows=0-66&kind=csv").text
    for line in csv.reader(io.StringIO(exported)):
        assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "\t")) for cell in line)
    report = ask(served.client, "/api/export/report?k_bottom=72").text
    assert "<script" not in report
    assert "<img src=x" not in report
    assert "&lt;script&gt;" in report
    name = served.client.get("/api/export/labels").headers["content-disposition"]
    assert name == 'attachment; filename="icons-labels.csv"'


def test_a_selection_too_long_for_an_address_is_kept_and_exported_whole(served):
    rows = list(range(0, 67, 2))
    name = served.client.post("/api/selections", json={"rows": rows}).json()["selection"]
    exported = csv.DictReader(io.StringIO(served.client.get(f"/api/export/selection?rows=s:{name}").text))
    assert [int(row["row"]) for row in exported] == rows
    assert served.client.get("/api/export/selection?rows=s:0123456789abcdef").status_code == 422


def test_pictures_have_addresses_of_their_content_and_moved_ones_a_placeholder(served, folder):
    rows = served.studio.rows
    row = rows.paths.index("near.png")
    about = served.client.get(f"/api/rows?rows={row}").json()["rows"][0]
    fresh = served.client.get(f"/api/picture/{row}?size=256&v={about['version']}")
    assert "immutable" in fresh.headers["cache-control"]
    assert served.client.get(f"/api/picture/{row}?v=stale").headers["cache-control"] == "no-store"
    other = rows.paths.index("copy.png")
    (folder / "pictures" / "copy.png").unlink()
    about = served.client.get(f"/api/rows?rows={other}").json()["rows"][0]
    assert (about["problem"], about["thumbnail"], about["path"]) == ("missing", True, "copy.png")
    (folder / "icons.thumbnails.sqlite").unlink()
    assert served.client.get(f"/api/rows?rows={other}").json()["rows"][0]["thumbnail"] is False
    gone = served.client.get(f"/api/picture/{other}?size=1024")
    assert gone.headers["content-type"].startswith("image/svg")
    assert served.client.get(f"/api/sheet?rows={row},{other},9").headers["content-type"] == "image/webp"
    assert len(served.studio.thumbnails) > 0, "what was missing is made and kept"


def test_a_table_that_changes_is_noticed_and_read_again(served, folder, encoder):
    from PIL import Image

    assert served.client.get("/api/table").json()["change"] == ""
    Image.new("RGB", (30, 30), "teal").save(folder / "pictures" / "added.png")
    listing = folder / "list.txt"
    listing.write_text(
        "\n".join(str(p.relative_to(folder / "pictures")) for p in sorted((folder / "pictures").rglob("*.png")))
    )
    embed(listing, folder / "icons.lance", encoder, root=folder / "pictures")
    served.studio._looked = (0.0, "")
    assert served.client.get("/api/table").json()["change"] == "changed"
    assert served.client.post("/api/search", json={"query": "row:3"}).status_code in (200, 202)
    assert served.client.post("/api/reload", json={}).json() == {"rows": 68}
    assert served.client.get("/api/table").json()["change"] == ""


def test_a_table_that_vanishes_is_served_from_memory(served, folder, ask):
    shutil.rmtree(folder / "icons.lance")
    served.studio._looked = (0.0, "")
    assert served.client.get("/api/table").json()["change"] == "gone"
    assert len(ask(served.client, "/api/search", json={"query": "row:3"}).json()["plain"]["hits"]) == 24
    assert served.client.post("/api/labels", json={"rows": [1], "label": "still"}).status_code == 200


def test_two_servers_on_one_table_see_each_others_labels(folder, serve_here):
    one, two = serve_here(folder / "icons.lance"), serve_here(folder / "icons.lance")
    one.client.post("/api/labels", json={"rows": [4], "label": "seen"})
    assert two.client.get("/api/rows?rows=4").json()["rows"][0]["mine"] == "seen"
    assert two.client.get("/api/table").json()["revision"] == one.client.get("/api/table").json()["revision"]


@pytest.mark.parametrize("space", ["unheard", "column:none", "column:embedding", "../x", "isoclip\x00"])
def test_spaces_that_are_not_there_are_refused_with_their_names(served, ask, space):
    answer = ask(served.client, "/api/search", json={"query": "row:0", "space": space}).json()
    assert answer["adapted"] is None
    assert answer["reason"]


def test_the_api_describes_itself_behind_the_token_and_loads_nothing(served):
    described = served.client.get("/api/openapi.json").json()
    assert "/api/search" in described["paths"]
    assert served.client.get("/docs").status_code == 404
    assert served.client.get("/redoc").status_code == 404
    assert served.stranger.get("/api/openapi.json").status_code == 401


def test_a_pair_judged_different_no_longer_joins_a_group(served):
    from isomix.web.routes import duplicates as page

    near = page.NearPairs(np.array([0, 1, 5]), np.array([1, 2, 6]), np.array([0.99, 0.98, 0.97]), 0.9)
    assert page._groups(served.studio, near, 3) == [[0, 1, 2], [5, 6]]
    served.studio.side_file.judge(served.studio.rows.ids[2], served.studio.rows.ids[1], "different")
    assert page._groups(served.studio, near, 3) == [[0, 1], [5, 6]]
    assert page._groups(served.studio, near, 0) == []


def test_text_pca_is_the_space_of_the_command_line(served, ask):
    from isomix.store.search import TableSearch

    searcher = TableSearch(EmbeddingTable.open(served.studio.path), offline=True)
    (answer,) = searcher.search(searcher.read(["row:9"])[0], 10, space="text-pca")
    ask(served.client, "/api/spectrum?space=text-pca")
    found = ask(served.client, "/api/search", json={"query": "row:9", "space": "text-pca", "k": 10}).json()
    assert [hit["row"] for hit in found["adapted"]["hits"]] == [hit.number for hit in answer.hits]
    np.testing.assert_allclose(
        [h["cosine"] for h in found["adapted"]["hits"]], [h.score for h in answer.hits], atol=1e-4
    )
