"""Ray against a run without it: the same rows in the same order with the same bytes, whatever dies on the way."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from isomix.cluster import RayEngine
from isomix.encoders import load_encoder
from isomix.errors import ClusterError, TableError
from isomix.store import EmbeddingTable, adapt_column, embed
from isomix.store.thumbnails import Thumbnails

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves its log files open
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore:lance is not fork-safe"),  # Ray's processes are started by fork and exec
]

KILLS = 10


def content(path: Path) -> list[Any]:
    """All that a table and its ledger hold, but times."""
    table = EmbeddingTable.open(path)
    names = [name for name in ("embedding", "feature") if name in table.columns]
    ledger = [{name: value for name, value in row.items() if name != "time"} for row in table.errors()]
    return [
        table.rows(),
        [table.embeddings(name).tobytes() for name in names],
        sorted(ledger, key=lambda row: row["id"]),
    ]


def assert_each_once(path: Path) -> None:
    ids = EmbeddingTable.open(path).column("id")
    assert len(ids) == len(set(ids))


@pytest.fixture
def photos(tmp_path, helpers):
    """Pictures, of which some are broken: one within a batch, a whole batch, a whole unit."""
    folder = tmp_path / "photos"
    helpers.make_pictures(folder, [f"{'ab'[i % 2]}/{i:03d}.png" for i in range(90)])
    for path in [*sorted(folder.rglob("*.png"))[32:40], *sorted(folder.rglob("*.png"))[12:16], folder / "a/000.png"]:
        path.write_bytes(b"no picture")
    return folder


@pytest.fixture
def alone(photos, tmp_path, helpers):
    """What a run without a cluster makes of them."""
    embed(photos, tmp_path / "alone.lance", helpers.Mortal(), batch_size=helpers.BATCH)
    return content(tmp_path / "alone.lance")


def run(photos: Path, table: Path, helpers: Any, load: Any, **options: Any) -> Any:
    engine = RayEngine(load, actors=2, unit=helpers.UNIT)
    return embed(photos, table, helpers.Mortal(), batch_size=helpers.BATCH, workers=1, engine=engine, **options)


def test_the_same_bytes_as_without_it(cluster, ray, tmp_path, pictures, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    load = partial(load_encoder, "embedded")
    photos = tmp_path / "photos"
    shutil.copytree(pictures / "icons", photos)
    sorted(photos.rglob("*.*"))[40].write_bytes(b"no picture")
    options = {"labels": "folders", "keep_features": True}
    shown = []
    here = embed(photos, tmp_path / "alone.lance", load(), **options)
    there = embed(
        photos, tmp_path / "ray.lance", load(), **options, engine=RayEngine(load), progress=lambda *n: shown.append(n)
    )
    assert content(tmp_path / "ray.lance") == content(tmp_path / "alone.lance")
    assert (there.added, there.failed, there.rows) == (here.added, here.failed, here.rows)
    assert there.failed == 1 and there.rows > 300
    assert shown[0] == (0, there.rows + 1, 0) and shown[-1] == (there.rows + 1, there.rows + 1, 1)
    small, other = Thumbnails(tmp_path / "alone.lance"), Thumbnails(tmp_path / "ray.lance")
    hashes = EmbeddingTable.open(tmp_path / "ray.lance").column("content_hash")
    assert small.get(hashes) == other.get(hashes) and len(other) == len(small) > 300
    again = embed(photos, tmp_path / "ray.lance", load(), **options, engine=RayEngine(load))
    assert (again.added, again.unchanged, again.known_failures) == (0, there.rows, 1)


def test_a_table_that_goes_on(cluster, photos, tmp_path, helpers, monkeypatch):
    """New, changed, vanished and mended files of a table that had an adapted column: its columns have other numbers now."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    tables = tmp_path / "alone.lance", tmp_path / "ray.lance"
    from isomix.spaces import IsoCLIP

    encoder = helpers.Mortal()
    for path in tables:
        embed(photos, path, encoder, batch_size=helpers.BATCH)
        adapt_column(path, "better", IsoCLIP(encoder.projectors, band=(1, 1)).fit())
    helpers.make_pictures(photos, ["a/000.png", "a/004.png", "c/1.png", "c/2.png"], seed=1)
    (photos / "b/001.png").unlink()
    here = embed(photos, tables[0], encoder, batch_size=helpers.BATCH)
    there = run(photos, tables[1], helpers, helpers.Mortal)
    assert (there.added, there.changed, there.removed) == (here.added, here.changed, here.removed) == (3, 1, 1)
    assert there.dropped_columns == here.dropped_columns == ["better"]
    assert content(tables[1]) == content(tables[0])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_an_actor_killed(cluster, photos, alone, tmp_path, helpers, monkeypatch, batch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    marker = tmp_path / "killed"
    run(photos, tmp_path / "ray.lance", helpers, partial(helpers.Mortal, marker=str(marker), batch=batch))
    assert marker.exists()
    assert content(tmp_path / "ray.lance") == alone


def test_a_picture_that_kills_every_actor(cluster, photos, tmp_path, helpers, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    from PIL import Image

    Image.new("RGB", (9, 9), "white").save(photos / "b/051.png")
    load, table = partial(helpers.Mortal, marker=str(tmp_path / "killed")), tmp_path / "ray.lance"
    with pytest.raises(ClusterError, match=r"4 actors died over the 8 pictures from b/0\d\d\.png to b/0\d\d\.png"):
        run(photos, table, helpers, load)
    before = EmbeddingTable.open(table).count
    assert 0 < before < 77
    helpers.make_pictures(photos, ["b/051.png"], seed=5)
    run(photos, table, helpers, load)
    embed(photos, tmp_path / "alone.lance", helpers.Mortal(), batch_size=helpers.BATCH)
    assert content(table) == content(tmp_path / "alone.lance")


def test_a_machine_lost(cluster, photos, alone, tmp_path, helpers, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    node = cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
    lost = []

    def progress(done: int, total: int, failed: int) -> None:
        if done >= 16 and not lost:
            lost.append(done)
            cluster.remove_node(node, allow_graceful=False)

    engine = RayEngine(partial(helpers.Mortal, 0.05), actors=4, unit=helpers.UNIT)
    table = tmp_path / "ray.lance"
    embed(photos, table, helpers.Mortal(), batch_size=helpers.BATCH, workers=1, engine=engine, progress=progress)
    assert lost and lost[0] < 90
    assert content(table) == alone


def test_the_driver_killed_at_random_moments(cluster, photos, alone, tmp_path, helpers):
    """The cluster lives on, and the actors of the dead with it for a while; every run goes on from what is there."""
    arguments = [sys.executable, helpers.__file__, cluster.address, photos]
    rng = random.Random(0)
    table = tmp_path / "ray.lance"
    grown, killed = [], 0
    for kill in range(KILLS):
        commits = len(list(table.glob("_versions/*.manifest"))) + rng.randrange(1, 4)
        process = subprocess.Popen([*arguments, table, "0.2"])
        while process.poll() is None and len(list(table.glob("_versions/*.manifest"))) < commits:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))  # anywhere from one commit to the next but one
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        assert_each_once(table)
        grown.append(EmbeddingTable.open(table).count)
        if grown[-1] == len(alone[0]) and kill < KILLS - 1:  # all is there: the next ones start anew
            shutil.rmtree(table)
    assert killed >= KILLS - 2 and len(set(grown)) > 3, (killed, grown)
    subprocess.run([*arguments, table, "0.0"], check=True, timeout=120)
    assert content(table) == alone


def test_ctrl_c(ray, photos, alone, tmp_path, helpers):
    """On a cluster of its own, which ends with the run."""
    table = tmp_path / "ray.lance"
    process = subprocess.Popen(
        [sys.executable, helpers.__file__, "local", photos, table, "0.2"], stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 90
    while time.monotonic() < end and len(list(table.glob("_versions/*.manifest"))) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert 0 < EmbeddingTable.open(table).count < 77
    subprocess.run([sys.executable, helpers.__file__, "local", photos, table, "0.0"], check=True, timeout=90)
    assert content(table) == alone


def test_one_driver_a_table(cluster, photos, tmp_path, helpers, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    table = tmp_path / "ray.lance"
    refused = []

    def progress(done: int, total: int, failed: int) -> None:
        if not refused:
            with pytest.raises(TableError, match="being written by another process"):
                run(photos, table, helpers, helpers.Mortal)
            refused.append(done)

    run(photos, table, helpers, helpers.Mortal, progress=progress)
    assert refused
    assert_each_once(table)


def test_an_actor_says_what_is_wrong(cluster, photos, tmp_path, helpers, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    other = partial(load_encoder, "embedded")
    with pytest.raises(ClusterError, match=r"a machine of the cluster says: .* All of them need the same isomix"):
        run(photos, tmp_path / "ray.lance", helpers, other)
    assert EmbeddingTable.open(tmp_path / "ray.lance").count == 0


def test_no_cluster_at_an_address(ray, photos, tmp_path, helpers):
    engine = RayEngine(helpers.Mortal, "127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        embed(photos, tmp_path / "ray.lance", helpers.Mortal(), engine=engine)


def test_the_command(cluster, cli, photos, tmp_path, helpers, monkeypatch):
    for name, more in (("alone", ()), ("ray", ("--engine", "ray", "--address", cluster.address, "--actors", 1))):
        result = cli("embed", photos, "-o", tmp_path / f"{name}.lance", *more)
        assert (result.code, "77  new" in result.out) == (3, True), result
    assert content(tmp_path / "ray.lance") == content(tmp_path / "alone.lance")
