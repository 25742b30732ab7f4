"""The verb search, and the class behind it, on bundled pictures with the embedded model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import isomix
from isomix.errors import BandError, FileFormatError, FingerprintMismatchError, InputError, ModalityError, TableError
from isomix.spaces import bands, recognition
from isomix.store import EmbeddingTable, adapt, adapt_column, embed
from isomix.store.search import TableSearch

CONCEPTS = ("alien", "banana", "cactus", "helicopter", "penguin")


@pytest.fixture(scope="module")
def photos(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "photos"
    for concept in CONCEPTS:
        shutil.copytree(pictures / "emoji" / concept, folder / concept)
    return folder


@pytest.fixture(scope="module")
def table(photos):
    path = photos.parent / "photos.lance"
    embed(photos, path, isomix.load_encoder("embedded"), labels="folders")
    return path


@pytest.fixture(scope="module")
def searcher(table):
    return TableSearch(EmbeddingTable.open(table))


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_row_is_searched_in_the_adapted_space_without_itself(searcher, table):
    stored = EmbeddingTable.open(table)
    iso = isomix.IsoCLIP(isomix.Projectors.from_pretrained("embedded")).fit()
    Z = unit(iso.transform(stored.embeddings()))
    cosines = Z @ Z[7]
    expected = np.argsort(-cosines)
    queries, failures = searcher.read(["row:7"])
    (answer,) = searcher.search(queries, 4)
    assert (failures, answer.space, answer.query.kind) == ({}, "isoclip", "row")
    assert answer.note == "cuts the 0 largest and 72 smallest of 192 directions, preset"
    assert [hit.number for hit in answer.hits] == [i for i in expected if i != 7][:4]
    np.testing.assert_allclose([hit.score for hit in answer.hits], cosines[[h.number for h in answer.hits]], atol=1e-3)
    (with_self,) = searcher.search(queries, 4, with_self=True)
    assert with_self.hits[0].number == 7
    assert with_self.hits[0].score == pytest.approx(1.0, abs=1e-6)


def test_a_sentence_is_searched_in_the_plain_space(searcher, table):
    sentence = "banana"
    text = isomix.load_encoder("embedded").encode_text([sentence]).embeddings
    cosines = unit(EmbeddingTable.open(table).embeddings()) @ unit(text)[0]
    (answer,) = searcher.search(searcher.read([sentence])[0], 3)
    assert (answer.space, answer.note, answer.query.kind) == ("plain", "", "text")
    assert [hit.number for hit in answer.hits] == np.argsort(-cosines)[:3].tolist()


@pytest.mark.parametrize("space", ["isoclip", "text-pca"])
def test_a_sentence_in_an_adapted_space_is_refused(searcher, space):
    with pytest.raises(ModalityError, match="image-image"):
        searcher.search(searcher.read(["a banana"])[0], space=space)


def test_one_picture_asked_for_in_four_ways_finds_the_same(searcher, table, photos, tmp_path):
    stored = EmbeddingTable.open(table)
    row = stored.rows([3])[0]
    elsewhere = tmp_path / "copy.png"
    shutil.copyfile(photos / row["path"], elsewhere)
    np.save(tmp_path / "vector.npy", stored.embeddings()[3])
    names = ["row:3", row["id"], str(photos / row["path"]), str(elsewhere), str(tmp_path / "vector.npy")]
    queries, _ = searcher.read(names)
    assert [query.kind for query in queries] == ["row", "row", "image", "image", "vector"]
    answers = searcher.search(queries, 5, with_self=True)
    for answer in answers[1:]:
        assert [hit.number for hit in answer.hits] == [hit.number for hit in answers[0].hits]
        np.testing.assert_allclose(
            [hit.score for hit in answer.hits], [hit.score for hit in answers[0].hits], atol=2e-3
        )
    without = searcher.search(queries, 5)
    # A copy and a bare vector are not in the table, so the picture itself is a hit of theirs.
    assert [answer.hits[0].number == 3 for answer in without] == [False, False, False, True, True]
    assert all(len(answer.hits) == 5 for answer in without)


def test_a_file_of_the_table_needs_no_model_until_it_changes(table, photos):
    path = photos / "alien" / "noto.png"
    fresh = TableSearch(EmbeddingTable.open(table), model="hf:/nowhere")
    assert fresh.read([str(path)])[0][0].row["label"] == "alien"
    before = path.read_bytes(), path.stat()
    try:
        Image.open(photos / "banana" / "noto.png").save(path)
        changed = TableSearch(EmbeddingTable.open(table))
        (query,), _ = changed.read([str(path)])
        (answer,) = changed.search([query], 5, space="plain")
        assert answer.hits[0].row["path"] == "banana/noto.png"
        assert answer.hits[0].score > 0.99
    finally:
        path.write_bytes(before[0])


def test_several_vectors_in_one_file(searcher, table, tmp_path):
    np.save(tmp_path / "vectors.npy", EmbeddingTable.open(table).embeddings()[[2, 9]])
    queries, _ = searcher.read([str(tmp_path / "vectors.npy")])
    assert [query.name for query in queries] == [f"{tmp_path}/vectors.npy[0]", f"{tmp_path}/vectors.npy[1]"]
    answers = searcher.search(queries, 1, space="plain")
    assert [answer.hits[0].number for answer in answers] == [2, 9]


def test_text_pca_and_its_bank(table):
    stored = EmbeddingTable.open(table)
    names = ["a cat", "a dog", "a house", "a tree", "the sea"]
    searcher = TableSearch(stored, sentences=names)
    (answer,) = searcher.search(searcher.read(["row:0"])[0], 3, space="text-pca")
    pca = isomix.TextPCA().fit(searcher.encoder.encode_text(names).embeddings)
    Z = unit(pca.transform(stored.embeddings()))
    assert [hit.number for hit in answer.hits] == [i for i in np.argsort(-(Z @ Z[0])) if i][:3]
    assert answer.note == f"Text PCA, {pca.n_components_} directions"


def test_a_bank_makes_nested_text_pca_the_space_of_pictures_and_says_so(table, tmp_path):
    stored = EmbeddingTable.open(table)
    names = ["a cat", "a dog", "a house", "a tree", "the sea"]
    searcher = TableSearch(stored, sentences=names)
    picture, sentence = searcher.search(searcher.read(["row:0", "a banana"])[0], 3)
    texts = searcher.encoder.encode_text(names).embeddings
    Z = unit(isomix.NestedTextPCA(projectors=searcher.encoder.projectors).fit(texts).transform(stored.embeddings()))
    assert [hit.number for hit in picture.hits] == [i for i in np.argsort(-(Z @ Z[0])) if i][:3]
    assert (picture.space, picture.note) == ("nested-text-pca", "Nested Text PCA, 4 directions")
    assert (sentence.space, sentence.note) == ("plain", "")
    (asked,) = searcher.search(searcher.read(["row:0"])[0], 3, space="isoclip")
    assert asked.space == "isoclip"
    for bank in (texts, "nouns"):
        (found,) = TableSearch(stored, sentences=bank).search(searcher.read(["row:0"])[0], 3)
        assert found.space == "nested-text-pca"
        if bank is texts:
            assert [hit.number for hit in found.hits] == [hit.number for hit in picture.hits]


def test_a_derived_column_is_used(table, tmp_path):
    copy = shutil.copytree(table, tmp_path / "copy.lance")
    plain = TableSearch(EmbeddingTable.open(copy))
    expected = plain.search(plain.read(["row:1"])[0], 6)[0]
    adapt_column(copy, "isoclip", plain.spaces.isoclip)
    # Reversed on purpose, so that reading the column shows.
    stored = EmbeddingTable.open(copy)
    description = stored.derived["isoclip"]
    stored.add_column(
        "isoclip",
        lambda blocks: (-plain.spaces.isoclip.transform(b) for b in blocks),
        plain.spaces.isoclip.n_components_,
        description,
    )
    adapted = TableSearch(EmbeddingTable.open(copy))
    worst = adapted.search(adapted.read(["row:1"])[0], 6)[0]
    assert worst.hits[-1].score < 0 < expected.hits[0].score


def test_bands(table, searcher):
    stored = EmbeddingTable.open(table)
    given = TableSearch(stored, band=(1, 2))
    (answer,) = given.search(given.read(["row:0"])[0], 1)
    assert answer.note == "cuts the 1 largest and 2 smallest of 192 directions, given"
    with pytest.raises(BandError, match="two counts"):
        TableSearch(stored, band=(1,))
    trained = TableSearch(stored, model="embedded:as-trained")
    with pytest.raises(FingerprintMismatchError):
        trained.search(trained.read(["row:0"])[0], 1)
    with pytest.raises(FingerprintMismatchError):
        trained.read(["a sentence"])


def test_a_model_without_a_preset_band_takes_the_automatic_one(photos, tmp_path, monkeypatch):
    embed(photos / "alien", tmp_path / "t.lance", isomix.load_encoder("embedded:as-trained"))
    stored = EmbeddingTable.open(tmp_path / "t.lance")
    searcher = TableSearch(stored)
    queries, _ = searcher.read(["row:0"])
    (answer,) = searcher.search(queries, 1)
    assert answer.space == "plain"
    assert answer.note == "there is no preset band for this model, and the automatic one cuts nothing"
    (asked,) = searcher.search(queries, 1, space="isoclip")
    assert (
        asked.note == "cuts the 0 largest and 0 smallest of 192 directions, no preset, so automatic, from the spectrum"
    )

    # The same table, if its model had the spectrum of a trained CLIP, and if its projectors were out of reach.
    pair = searcher.model.projectors
    U, S, Vt = np.linalg.svd(pair.text.astype(float), full_matrices=False)
    S = np.r_[np.linspace(4, 3, 176), np.linspace(1.5, 0.1, 16)]
    clip = TableSearch(stored)
    clip.model.__dict__["projectors"] = pair.replace(text=(U * S) @ Vt).text_only()
    (answer,) = clip.search(queries, 1)
    assert (answer.space, clip.spaces.isoclip.band_) == ("isoclip", (56, 16))
    assert answer.note.startswith("cuts the 56 largest and 16 smallest of 192 directions, no preset, so automatic")
    # A copy of a checkpoint that has a preset is searched in its band, and the answer says why.
    monkeypatch.setitem(recognition.TEXT_MARKS, recognition.text_mark(pair), "openai/clip-vit-base-patch16")
    monkeypatch.setitem(bands._PRESETS, "openai/clip-vit-base-patch16", {"image": bands.Band(20, 5)})
    (answer,) = TableSearch(stored).search(queries, 1)
    assert (answer.space, answer.note) == (
        "isoclip",
        "cuts the 20 largest and 5 smallest of 192 directions, preset of openai/clip-vit-base-patch16, by its text projector",
    )
    gone = TableSearch(stored)
    gone.model.spec = "hf:/nowhere/at-all"
    (answer,) = gone.search(queries, 1)
    assert (answer.space, answer.hits[0].number) == ("plain", asked.hits[0].number)
    assert "projectors cannot be read" in answer.note


def test_unusable_queries(searcher, tmp_path):
    np.save(tmp_path / "narrow.npy", np.ones((2, 3)))
    (tmp_path / "text.npy").write_text("no array")
    for name, message in [
        ("no-such.jpg", "does not exist"),
        ("row:1000", "row numbers"),
        ("0" * 32, "no row with the id"),
        ("", "expected words"),
        (str(tmp_path / "narrow.npy"), "got width 3, expected 192"),
        (str(tmp_path / "text.npy"), "not a .npy file that can be read"),
        (str(tmp_path / "none.npy"), "not a .npy file that can be read"),
    ]:
        with pytest.raises((InputError, FileFormatError), match=message):
            searcher.read([name])
    with pytest.raises(InputError, match="space: got 'iso'"):
        searcher.search([], space="iso")
    assert searcher.search([]) == []
    assert searcher.read(["text:no-such.jpg", "row: the boat", "x" * 5000])[0][0].kind == "text"


def test_a_table_of_adapted_vectors_is_refused(table, searcher, tmp_path):
    adapt(table, tmp_path / "adapted.lance", searcher.spaces.isoclip)
    with pytest.raises(TableError, match="Use the table they were made from"):
        TableSearch(EmbeddingTable.open(tmp_path / "adapted.lance"))


# --- the command


def test_the_printed_table_fits_80_columns(cli, table):
    result = cli("search", table, "row:7", "a banana", "-k", 3)
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    assert "isoclip space (cuts the 0 largest and 72 smallest of 192 directions, preset)" in result.out
    assert "plain space" in result.out
    assert sum(".png" in line for line in result.out.splitlines()) == 6
    assert result.err == ""


def test_json_and_paths_say_the_same(cli, table, photos):
    printed = json.loads(cli("search", table, "row:7", "--json", "-k", 3).out)
    (result,) = printed["results"]
    assert (result["query"], result["kind"], result["space"]) == ("row:7", "row", "isoclip")
    assert [hit["rank"] for hit in result["hits"]] == [1, 2, 3]
    assert result["hits"][0]["file"] == str(photos / result["hits"][0]["path"])
    bare = cli("search", table, "row:7", "--paths", "-k", 3)
    assert bare.out.splitlines() == [hit["file"] for hit in result["hits"]]
    assert "isoclip space" in bare.err


def test_unreadable_pictures_are_named_and_the_others_searched(cli, table, photos):
    broken = photos.parent / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n cut")
    result = cli("search", table, broken, "row:0", "--json")
    assert result.code == 3
    assert list(json.loads(result.out)["failed"]) == [str(broken)]
    assert "broken.png" in result.err
    assert cli("search", table, broken).code == 1
    assert cli("search", table, f"image:{photos / 'nothing'}").code == 1


def test_contact_sheet(cli, table, tmp_path):
    sheet = tmp_path / "sheet.png"
    call = ("search", table, "row:7", "a banana " * 9, "-k", 4, "--contact-sheet", sheet)
    assert cli(*call).code == 0
    with Image.open(sheet) as image:
        assert image.width > 5 * 112
        assert len(image.getcolors(1 << 20)) > 100
    assert cli(*call).code == 2
    assert cli(*call, "--overwrite").code == 0
    failed = cli(*call[:-1], tmp_path / "nowhere" / "sheet.png")
    assert failed.code == 2
    assert "cannot be written" in failed.err
    assert cli(*call[:-1], tmp_path / "sheet.xyz").code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_bank_of_sentences(cli, table, tmp_path):
    bank = tmp_path / "bank.txt"
    bank.write_text("a cat\n\na dog\na house\n", encoding="utf-8")
    result = cli("search", table, "row:0", "--space", "text-pca", "--bank", bank)
    assert result.code == 0
    assert "text-pca space (Text PCA, 2 directions)" in result.out
    assert cli("search", table, "row:0", "--space", "text-pca", "--bank", tmp_path / "none.txt").code == 1
    assert "nested-text-pca space" in cli("search", table, "row:0", "--bank", bank).out
    one = tmp_path / "one.txt"
    one.write_text("a cat\n", encoding="utf-8")
    refused = cli("search", table, "row:0", "--bank", one)
    assert refused.code == 1
    assert "1 sentence(s)" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a banana", "--space", "isoclip"], 1, "image-image"),
        (["row:0", "--space", "iso"], 2, "iso"),
        (["row:0", "--json", "--paths"], 2, "Choose one"),
        (["row:0", "-k", "0"], 2, "-k"),
        (["row:-1"], 1, "expected row:<number> from row:0 to row:24"),
        (["row:one"], 1, "'text:row:one'"),
        (["row:0", "--band", "nobody/knows"], 1, "no preset band"),
        (["row:0", "--band", "100/100"], 1, "leaves no direction"),
        (["nothing.jpg"], 1, "does not exist"),
        ([], 2, "QUERY"),
    ],
)
def test_wrong_usage(cli, table, arguments, code, message):
    result = cli("search", table, *arguments)
    assert result.code == code
    assert message in " ".join(result.err.replace("│", " ").split())
    assert result.out == ""
    assert "Traceback" not in result.err


def test_no_table(cli, tmp_path):
    result = cli("search", tmp_path / "none.lance", "a cat")
    assert result.code == 1
    assert "isomix embed" in result.err


def test_paths_are_taken_back_as_hits_print_them(cli, table, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no such file is
    first = json.loads(cli("search", table, "row:3", "--json").out)["results"][0]["hits"][0]
    again = json.loads(cli("search", table, first["path"], "--json").out)["results"][0]
    assert again["kind"] == "image"
    assert again["hits"] == json.loads(cli("search", table, f"row:{first['row']}", "--json").out)["results"][0]["hits"]
    (line,) = cli("search", table, "row:3", "--paths", "-k", 1).out.splitlines()
    assert json.loads(cli("search", table, line, "--json").out)["results"][0]["hits"] == again["hits"]


def test_a_path_of_the_table_is_known_when_its_file_is_gone(cli, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "p")
    cli("embed", tmp_path / "p", "-o", tmp_path / "t.lance")
    expected = json.loads(cli("search", tmp_path / "t.lance", "alien/noto.png", "--json").out)["results"][0]["hits"]
    (tmp_path / "p" / "alien" / "noto.png").unlink()
    found = json.loads(cli("search", tmp_path / "t.lance", "alien/noto.png", "--json").out)["results"][0]
    assert (found["kind"], found["hits"]) == ("row", expected)
