"""``isomix adapt`` of a Qdrant collection, in the client's local mode: ids and payloads stay, nothing is overwritten."""

from __future__ import annotations

import gc
import json
import runpy
import uuid
from pathlib import Path

import numpy as np
import pytest

from isomix import IsoCLIP
from isomix.errors import InputError, TableError
from isomix.store import adapt, adapt_database, open_database

HELPERS = runpy.run_path(str(Path(__file__).with_name("stores_helpers.py")))
WIDTH, unit = HELPERS["WIDTH"], HELPERS["unit"]

qdrant = pytest.importorskip("qdrant_client", reason="no Qdrant client here: make test-stores", exc_type=ImportError)
models = qdrant.models

pytestmark = pytest.mark.filterwarnings("ignore:Local mode is not recommended")
IDS = [*range(0, 300, 3), *(str(uuid.UUID(int=number * 7**30)) for number in range(1, 51))]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A storage folder with the collection ``photos``."""
    path = tmp_path / "qdrant storage"
    with local(path) as client:
        client.create_collection("photos", vectors_config=models.VectorParams(size=WIDTH, distance="Cosine"))
        E = unit(len(IDS))
        points = [
            models.PointStruct(id=each, vector=E[row].tolist(), payload={"row": row, "tag": "ä\n"})
            for row, each in enumerate(IDS)
        ]
        client.upsert("photos", points)
    return path


class local:  # noqa: N801 - used as a function
    """A client that is closed at the end: local mode is for one process at a time."""

    def __init__(self, path):
        self.client = qdrant.QdrantClient(path=str(path))

    def __enter__(self):
        return self.client

    def __exit__(self, *_):
        self.client.close()


def url(folder, name="photos"):
    return f"qdrant://{str(folder).replace(' ', '%20')}/collections/{name}"


def run(folder, space, target="iso", column=None, **options):
    with open_database(url(folder), column=column) as source:
        return adapt_database(source, target, space, **options)


def points(folder, name, **wanted):
    with local(folder) as client:
        return {each.id: each for each in client.scroll(name, limit=10_000, with_vectors=True, **wanted)[0]}


def test_ids_and_payloads_stay_and_vectors_are_those_of_numpy(folder, space):
    before = points(folder, "photos")
    report = run(folder, space, rows_per_block=32)
    assert (report.rows, report.added, report.there, report.left) == (150, 150, 0, 0)
    found = points(folder, "iso")
    assert found.keys() == before.keys() == set(IDS)
    assert all(found[each].payload == before[each].payload for each in IDS)
    expected = space.transform(np.array([before[each].vector for each in IDS], np.float32))
    worst = np.abs(np.array([found[each].vector for each in IDS]) - expected).max()
    print(f"largest difference from numpy: {worst:.2g}")
    assert worst < 1e-6
    assert points(folder, "photos") == before
    with local(folder) as client:
        exec(report.hint, {"client": client, "models": models})
        assert client.get_aliases().aliases[0].collection_name == "iso"
        exec(report.undo, {"client": client})
        assert not client.collection_exists("iso")


def test_a_second_run_adds_what_is_new_and_drops_what_is_gone(folder, space):
    run(folder, space)
    with local(folder) as client:
        client.delete("photos", models.PointIdsList(points=[0, 3, 6]))
        client.delete("iso", models.PointIdsList(points=[9]))  # as if it had been stopped before
        client.upsert("photos", [models.PointStruct(id=1, vector=unit(1, seed=4)[0].tolist(), payload={})])
    report = run(folder, space, rows_per_block=16)
    assert (report.rows, report.added, report.removed, report.left) == (148, 2, 3, 0)
    assert points(folder, "iso").keys() == points(folder, "photos").keys()


def test_a_named_vector_among_others(folder, space):
    E = unit(20)
    with local(folder) as client:
        sizes = {
            "clip": models.VectorParams(size=WIDTH, distance="Cosine"),
            "other": models.VectorParams(size=3, distance="Dot"),
        }
        client.create_collection("two", vectors_config=sizes)
        client.upsert(
            "two",
            [
                models.PointStruct(id=row, vector={"other": [1, 2, 3]} if row == 7 else {"clip": E[row].tolist()})
                for row in range(20)
            ],
        )
    with pytest.raises(InputError, match="which vector\\? Its vectors: clip, other"):
        open_database(url(folder, "two"))
    with open_database(url(folder, "two"), column="clip") as source:
        assert adapt_database(source, "iso", space).added == 19
    found = points(folder, "iso")
    assert len(found) == 20 and not found[7].vector
    assert np.abs(np.array(found[3].vector["clip"]) - space.transform(E[3:4])[0]).max() < 1e-6


def test_a_file_as_the_target(folder, space, tmp_path):
    import pyarrow.parquet as pq

    with open_database(url(folder)) as source:
        adapt(source, tmp_path / "x.parquet", space)
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["id"].to_pylist() == [str(each) for each in IDS]
    assert json.loads(table["payload"][2].as_py()) == {"row": 2, "tag": "ä\n"}


def test_the_words_of_the_command_line(folder, space_file, cli):
    words = ("adapt", url(folder), "-o", "iso", "--space", space_file)
    code, out, _ = cli(*words, "--dry-run")
    assert code == 0 and "would write iso; nothing was written" in out and "client.delete_collection('iso')" in out
    with local(folder) as client:
        assert not client.collection_exists("iso")
    assert cli(*words, "--json")[0] == 0
    assert len(points(folder, "iso")) == 150
    assert cli(*words, "--table", "photos")[0] == 1


def test_nothing_is_overwritten(folder, space):
    with local(folder) as client:
        client.create_collection("mine", vectors_config=models.VectorParams(size=22, distance="Cosine"))
    for options in ({}, {"overwrite": True}):
        with pytest.raises(InputError, match="isomix did not make it"):
            run(folder, space, "mine", **options)
        with pytest.raises(InputError, match="is the source itself"):
            run(folder, space, "photos", **options)
    run(folder, space)
    other = IsoCLIP(space.projectors, band=(4, 6)).fit()
    with pytest.raises(InputError, match="holds vectors of another space"):
        run(folder, other)
    assert run(folder, other, overwrite=True).added == 150
    with pytest.raises(InputError, match="adapted already"), open_database(url(folder, "iso")) as source:
        adapt_database(source, "twice", other)


def test_a_server_that_keeps_no_metadata_is_refused(folder, space, monkeypatch):
    create = qdrant.QdrantClient.create_collection
    monkeypatch.setattr(
        qdrant.QdrantClient, "create_collection", lambda *words, metadata=None, **others: create(*words, **others)
    )
    with pytest.raises(InputError, match=r"Expected Qdrant 1\.16 or newer"):
        run(folder, space)
    with local(folder) as client:
        assert not client.collection_exists("iso")


def test_points_without_a_direction(folder, space):
    with local(folder) as client:
        client.upsert("photos", [models.PointStruct(id=1, vector=[0.0] * WIDTH, payload={"zero": True})])
    with pytest.raises(InputError, match=r"without a direction .*, at 1; "):
        run(folder, space)
    assert run(folder, space, skip_bad=True).skipped == ["1"]
    found = points(folder, "iso")
    assert found[1].payload == {"zero": True} and not found[1].vector


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("http://localhost:1/collections/photos", TableError, "Is the server there"),
        ("http://localhost:6333/photos", InputError, "not one of a Qdrant collection"),
        ("http://me:hunter2@localhost:6333/collections/photos", InputError, "a key stands in the environment"),
        ("http://localhost:x/collections/photos", InputError, "the port is not a number"),
        ("qdrant:///nowhere/collections/photos", InputError, "is not a folder of Qdrant's local mode"),
        ("{folder}/collections/nothing", InputError, "has no collection 'nothing'. Collections: photos"),
    ],
)
def test_refused_in_plain_words(folder, address, error, words):
    with pytest.raises(error, match=words) as raised:
        open_database(address.replace("{folder}", url(folder).rpartition("/collections")[0]))
    assert "hunter2" not in str(raised.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the refused client's own open file
def test_another_process_has_the_folder(folder):
    with local(folder), pytest.raises(TableError, match="already accessed by another instance"):
        open_database(url(folder))
    gc.collect()
