"""The same inputs give the same results: whatever the threads, blocks, order of rows, and process.

What is promised to the bit is compared to the bit; the rest as closely as float32 sums in another order allow.
"""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROBE = Path(__file__).with_name("probe.py")
_spec = importlib.util.spec_from_file_location("determinism_probe", PROBE)
assert _spec is not None and _spec.loader is not None
probe = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(probe)


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        if name.endswith("!"):
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6, err_msg=name)


def in_a_process(out: Path, **environment: str) -> dict[str, np.ndarray]:
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    subprocess.run([sys.executable, PROBE, out], env=os.environ | threads | environment, check=True)
    with np.load(out) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return in_a_process(tmp_path_factory.mktemp("probe") / "reference.npz", PYTHONHASHSEED="1")


def test_another_process_and_hash_seed_write_the_same_bytes(reference, tmp_path: Path) -> None:
    again = in_a_process(tmp_path / "again.npz", PYTHONHASHSEED="2", LC_ALL="C", TZ="Pacific/Auckland")
    for name, value in reference.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_more_threads(reference, tmp_path: Path) -> None:
    found = in_a_process(tmp_path / "threads.npz", OMP_NUM_THREADS="4", OPENBLAS_NUM_THREADS="4")
    for name, value in reference.items():
        if name.endswith(
            (".npy!", ".safetensors!", "embeddings!")
        ):  # bytes of sums, which threads add up in another order
            assert found[name].shape == value.shape
            continue
        assert_same({name: found[name]}, {name: value})


@pytest.mark.parametrize("sizes", [(1, 1), (7, 13), (100, 600), (4096, 4096)])
def test_blocks_of_a_search(sizes: tuple[int, int]) -> None:
    from isomix.neighbors import search

    rows = probe.inputs()[0][250:350]  # with ties
    for options in ({}, {"exclude_self": True}, {"normalize": False}):
        wanted = search(rows, rows, 8, **options)
        found = search(rows, rows, 8, query_block=sizes[0], gallery_block=sizes[1], **options)
        for mine, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_blocks_of_adapt(reference) -> None:
    small, whole = (np.load(io.BytesIO(reference[f"adapted{number}.npy!"].tobytes())) for number in range(2))
    np.testing.assert_allclose(small, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", [1, 2])
def test_order_of_rows(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(600)
    assert_same(probe.computed(order), probe.computed())


def test_order_in_which_a_folder_lists_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isomix.store.scan import scan

    for name in ("b/2.png", "a/1.png", "c.png", "a/10.png", "B.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    wanted = [file.path for file in scan(tmp_path).files]
    scandir, listdir = os.scandir, os.listdir

    class Backwards(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", lambda *place: Backwards(sorted(scandir(*place), key=lambda e: e.name)[::-1]))
    monkeypatch.setattr(os, "listdir", lambda *place: sorted(listdir(*place))[::-1])
    assert [file.path for file in scan(tmp_path).files] == wanted
