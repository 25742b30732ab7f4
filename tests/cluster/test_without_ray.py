"""What of the cluster needs no Ray: how work is cut and placed, what an actor checks, and what is said without the package."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from isomix.cluster.actor import UnitEncoder
from isomix.cluster.ray_engine import _cut, _places
from isomix.errors import ClusterError, FingerprintMismatchError, InputError
from isomix.store import EmbeddingTable, embed
from isomix.store.units import Work

STORE = runpy.run_path(str(Path(__file__).parents[1] / "store" / "store_helpers.py"))
WORK = Work(4, 1, 100.0, False, None)


@pytest.mark.parametrize(("files", "size", "batch"), [(100, 32, 8), (100, 33, 8), (5, 1, 8), (64, 8, 8), (1, 2048, 32)])
def test_units_are_whole_batches(files, size, batch):
    units = _cut(list(range(files)), size, batch)
    assert [file for unit in units for file in unit] == list(range(files))
    assert all(len(unit) % batch == 0 for unit in units[:-1])
    assert all(0 < len(unit) <= max(size, batch) for unit in units)


def cluster_of(*nodes: dict[str, float]) -> SimpleNamespace:
    gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    return SimpleNamespace(nodes=lambda: [gone, *({"Alive": True, "Resources": node} for node in nodes)])


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([{"CPU": 2}], (None, False, None), (1, 2, 0)),
        ([{"CPU": 2}], (None, False, 1), (2, 1, 0)),
        ([{"CPU": 64}, {"CPU": 16}], (None, False, None), (10, 8, 0)),
        ([{"CPU": 64, "GPU": 8}, {"CPU": 32, "GPU": 4}, {"CPU": 96}], (None, True, None), (12, 4, 1)),
        ([{"CPU": 4, "GPU": 8}], (None, True, None), (8, 1, 1)),
        ([{"CPU": 64, "GPU": 8}], (3, True, 2), (3, 2, 1)),
    ],
)
def test_actors_have_a_place(nodes, options, expected):
    count, given = _places(cluster_of(*nodes), *options)
    assert (count, given["num_cpus"], given["num_gpus"]) == expected


def test_a_cluster_without_a_gpu():
    with pytest.raises(ClusterError, match="the cluster has no GPU to offer"):
        _places(cluster_of({"CPU": 8}), None, True, None)


def test_what_an_actor_checks(tmp_path):
    from isomix import __version__

    STORE["make_pictures"](tmp_path / "photos", [f"{i}.png" for i in range(3)])
    tiny, path = STORE["TinyEncoder"], tmp_path / "t.lance"
    embed(tmp_path / "photos", path, tiny())
    UnitEncoder(tiny, path, WORK, __version__).start()
    with pytest.raises(InputError, match=r"has isomix .*, and the run was started by 0\.0\.0"):
        UnitEncoder(tiny, path, WORK, "0.0.0").start()
    with pytest.raises(FingerprintMismatchError):
        UnitEncoder(lambda: tiny(seed=1), path, WORK, __version__).start()


def test_options_of_a_cluster_without_one(cli, tmp_path):
    STORE["make_pictures"](tmp_path / "photos", ["a.png"])
    for words in (("--address", "auto"), ("--actors", "2")):
        result = cli("embed", tmp_path / "photos", "-o", tmp_path / "t.lance", *words)
        assert result.code == 1 and "add --engine ray" in result.err
    for text in ("x", "3", "3/", "/3", "1/2/3", "-1/3", "4/3", "0/3"):
        result = cli("embed", tmp_path / "photos", "-o", tmp_path / "t.lance", f"--shard={text}")
        assert result.code == 1 and "shard" in result.err, text
    assert not list(tmp_path.glob("*.lance"))


def test_the_command_makes_and_joins_shards(cli, tmp_path):
    STORE["make_pictures"](tmp_path / "photos", [f"{i:02d}.png" for i in range(70)])
    for i in (1, 2):
        result = cli("embed", tmp_path / "photos", "-o", tmp_path / "t.lance", "--shard", f"{i}/2")
        assert result.code == 0 and f"t.shard-{i}-of-2.lance: " in result.out.replace("\n", "")
    parts = sorted(tmp_path.glob("t.shard-*-of-2.lance"))
    assert cli("table", "merge", tmp_path / "t.lance", *parts).code == 0
    assert EmbeddingTable.open(tmp_path / "t.lance").column("path") == [f"{i:02d}.png" for i in range(70)]


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_is_asked_for_before_a_table_is_made(cli, tmp_path):
    STORE["make_pictures"](tmp_path / "photos", ["a.png"])
    result = cli("embed", tmp_path / "photos", "-o", tmp_path / "t.lance", "--engine", "ray")
    assert result.code == 1 and "pip install 'isomix[ray]'" in result.err.replace("\n", " ")
    assert not (tmp_path / "t.lance").exists()
