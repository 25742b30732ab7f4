"""The wrong model is found where the pictures can be read: a few are encoded again."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import isomix
from isomix.errors import FingerprintMismatchError
from isomix.store import adapt_database, open_database
from isomix.store.databases.pictures import SAME, Pictures, check_pictures

HELPERS = runpy.run_path(str(Path(__file__).with_name("stores_helpers.py")))
text = HELPERS["text"]


@pytest.fixture(scope="module")
def encoded(pictures):
    """Some of the bundled pictures, and their embeddings."""
    paths = sorted((pictures / "icons").glob("*/*.png"))[::15]
    return paths, isomix.load_encoder("embedded").encode_image(paths).embeddings


@pytest.fixture(scope="module")
def icons():
    return isomix.IsoCLIP(isomix.Projectors.from_pretrained("embedded")).fit()


def test_copies_of_another_size_and_compression_pass_and_other_models_do_not(encoded, icons, tmp_path):
    paths, E = encoded
    cosines = []
    for number, (path, vector) in enumerate(zip(paths, E, strict=True)):
        with Image.open(path) as picture:
            copy = picture.convert("RGB").resize((picture.width * 2, picture.height * 2))
        copy.save(tmp_path / f"{number}.jpg", quality=85)
        fresh = isomix.load_encoder("embedded").encode_image([tmp_path / f"{number}.jpg"]).embeddings[0]
        cosines.append(float(fresh @ vector))
    turned = E @ np.linalg.qr(np.random.default_rng(0).standard_normal((E.shape[1],) * 2))[0]
    wrong = (E * turned).sum(axis=1)
    print(f"copies {min(cosines):.3f} to {max(cosines):.3f}, another model {wrong.min():.3f} to {wrong.max():.3f}")
    assert np.median(cosines) > SAME > 0.5 > np.abs(wrong).max()


def test_the_right_model_passes_and_another_is_refused(encoded, icons):
    paths, E = encoded
    said = check_pictures("db", Pictures("path", paths[:8], E[:8]), icons)
    assert said.startswith("model: 8 pictures of 'path', encoded again, have a cosine of 1.000 to 1.000")
    with pytest.raises(FingerprintMismatchError, match="db does not hold vectors of embedded"):
        check_pictures("db", Pictures("path", paths[:8], E[8:16]), icons)


def test_projectors_that_are_not_those_of_the_model_are_refused(encoded, icons):
    paths, E = encoded
    pair = isomix.Projectors.from_pretrained("embedded")
    rng = np.random.default_rng(0)
    wrong = isomix.IsoCLIP(
        isomix.Projectors(rng.standard_normal(pair.image.shape), pair.text, source="embedded"), band=(3, 20)
    ).fit()
    with pytest.raises(FingerprintMismatchError, match="projectors of the space are not those of embedded"):
        check_pictures("db", Pictures("path", paths[:8], E[:8]), wrong)


@pytest.mark.parametrize(
    ("model", "broken", "words"),
    [
        ("hf:made/up", False, "cannot encode pictures here"),
        ("embedded", True, "none of 2 pictures of 'path' can be read"),
    ],
)
def test_what_could_not_be_checked_is_said(encoded, icons, tmp_path, model, broken, words):
    paths, E = encoded
    if broken:
        paths = [tmp_path / "a.png", tmp_path / "b.png"]
        for path in paths:
            path.write_bytes(b"no picture")
    pair = isomix.Projectors(icons.projectors.image, icons.projectors.text, source=model)
    space = isomix.IsoCLIP(pair, band=(3, 20)).fit()
    assert words in check_pictures("db", Pictures("path", list(paths[:2]), E[:2]), space, offline=True)


def test_paths_in_a_table_are_found(database, encoded, icons, cli):
    paths, E = encoded
    execute = database.connection.execute
    execute(f"CREATE TABLE photos (id int PRIMARY KEY, note text, file text, embedding vector({E.shape[1]}))")
    for row, path in enumerate(paths):
        execute("INSERT INTO photos VALUES (%s, 'n', %s, %s)", [row, str(path), text(E[row])])
    words = (
        "adapt",
        database.url,
        "--table",
        "photos",
        "--column",
        "embedding",
        "--model",
        "embedded",
        "-o",
        "iso",
        "--dry-run",
    )
    code, out, _ = cli(*words)
    assert code == 0 and "model: 8 pictures of 'file', encoded again, have a cosine of 1.000 to 1.000" in out
    execute("UPDATE photos SET embedding = (SELECT p.embedding FROM photos p WHERE p.id = (photos.id + 7) % 20)")
    code, out, err = cli(*words)
    assert code == 1 and "does not hold vectors of embedded" in err
    source = open_database(database.url, table="photos", column="embedding")
    with source, pytest.raises(FingerprintMismatchError):
        adapt_database(source, "iso", icons)
    assert database.connection.execute("SELECT to_regclass('iso')").fetchone() == (None,)


def test_paths_in_a_payload_are_found(encoded, icons, tmp_path):
    qdrant = pytest.importorskip(
        "qdrant_client", reason="no Qdrant client here: make test-stores", exc_type=ImportError
    )
    paths, E = encoded
    client = qdrant.QdrantClient(path=str(tmp_path / "q"))
    client.create_collection("photos", vectors_config=qdrant.models.VectorParams(size=E.shape[1], distance="Cosine"))
    points = [
        qdrant.models.PointStruct(id=row, vector=E[row].tolist(), payload={"url": path.as_uri()})
        for row, path in enumerate(paths)
    ]
    client.upsert("photos", points)
    client.close()
    with open_database(f"qdrant://{tmp_path}/q/collections/photos") as source:
        report = adapt_database(source, "iso", icons, dry_run=True)
    assert "8 pictures of 'url'" in report.checks[2]
