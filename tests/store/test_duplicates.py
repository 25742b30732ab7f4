"""Duplicates of stored embeddings: against all pairs computed at once, with bytes, splits, two sources; and the command."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from isomix.cli import app as app_module
from isomix.errors import FingerprintMismatchError, InputError
from isomix.store import embed
from isomix.store.duplicates import find_duplicates

HELPERS = runpy.run_path(str(Path(__file__).with_name("store_helpers.py")))
TinyEncoder, make_pictures = HELPERS["TinyEncoder"], HELPERS["make_pictures"]


@pytest.fixture(scope="module")
def rows():
    """300 rows, the last 60 of them near copies of the first."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(240, 32))
    near = base[:60] + 0.05 * rng.normal(size=(60, 32))
    return np.concatenate([base, near]).astype(np.float32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("duplicates")
    make_pictures(folder / "p", [f"{i}.png" for i in range(6)])
    shutil.copy(folder / "p" / "2.png", folder / "p" / "=copy\n.png")
    lines = ["path,split", *(f"{i}.png,{'train' if i < 3 else 'test'}" for i in range(6)), '"=copy\n.png",test']
    (folder / "p" / "list.csv").write_text("\n".join(lines))
    embed(folder / "p" / "list.csv", folder / "t.lance", TinyEncoder())
    return folder


def cosines(a, b):
    unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a.astype(np.float64), b.astype(np.float64))]
    return unit[0] @ unit[1].T


def test_every_member_resembles_the_first_and_nothing_is_missed(rows, tmp_path):
    np.save(tmp_path / "e.npy", rows)
    report = find_duplicates(tmp_path / "e.npy", threshold=0.98)
    full = cosines(rows, rows)
    grouped = set()
    for group in report.groups:
        for member in group:
            assert member.cosine == pytest.approx(full[group[0].row, member.row], abs=2e-6)
            assert member.cosine >= 0.98
            grouped.add(member.row)
    np.fill_diagonal(full, 0)
    assert grouped == set(np.flatnonzero(full.max(axis=1) >= 0.98).tolist())
    assert report.rows == 300
    assert report.spare == len(grouped) - len(report.groups)


def test_pairs_between_splits_and_between_sources_are_all_pairs(rows, tmp_path):
    splits = ["train" if i < 270 else None if i < 275 else "test" for i in range(300)]
    pq.write_table(pa.table({"id": range(300), "e": list(rows), "split": splits}), tmp_path / "e.parquet")
    report = find_duplicates(tmp_path / "e.parquet", threshold=0.97)
    i, j = np.nonzero(np.triu(cosines(rows, rows), 1) >= 0.97)
    wanted = {
        (a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if {splits[a], splits[b]} == {"train", "test"}
    }
    assert {(leak.left, leak.right) for leak in report.leaks} == wanted
    assert all({leak.left_split, leak.right_split} == {"train", "test"} for leak in report.leaks)
    np.savez(tmp_path / "a.npz", e=rows[:200], ids=np.arange(200) * 10)
    np.save(tmp_path / "b.npy", rows[200:])
    between = find_duplicates(tmp_path / "a.npz", tmp_path / "b.npy", threshold=0.97)
    i, j = np.nonzero(cosines(rows[:200], rows[200:]) >= 0.97)
    assert {(leak.left, leak.right) for leak in between.leaks} == set(zip(i.tolist(), j.tolist(), strict=True))
    assert all(leak.left_name == str(10 * leak.left) for leak in between.leaks)
    assert (between.rows, between.other_rows, between.groups) == (200, 100, [])


def test_identical_files_are_told_from_near_ones(pictures):
    report = find_duplicates(pictures / "t.lance", threshold=0.999)
    (group,) = report.groups
    assert [member.name for member in group] == ["2.png", "=copy\n.png"]
    assert group[1].same_bytes
    (leak,) = report.leaks
    assert (leak.left_split, leak.right_split, leak.same_bytes) == ("train", "test", True)


def test_what_cannot_be_compared_is_refused(pictures, tmp_path):
    np.save(tmp_path / "narrow.npy", np.ones((3, 5), np.float32))
    with pytest.raises(InputError, match=r"width 16 and .* of width 5"):
        find_duplicates(pictures / "t.lance", tmp_path / "narrow.npy")
    embed(pictures / "p", tmp_path / "other.lance", TinyEncoder(seed=1))
    with pytest.raises(FingerprintMismatchError):
        find_duplicates(pictures / "t.lance", tmp_path / "other.lance")
    np.save(tmp_path / "nan.npy", np.full((3, 5), np.nan, np.float32))
    with pytest.raises(InputError, match=r"[Nn]a[Nn]|finite"):
        find_duplicates(tmp_path / "nan.npy")
    with pytest.raises(InputError, match="threshold"):
        find_duplicates(pictures / "t.lance", threshold=-1.0)
    np.save(tmp_path / "same.npy", np.ones((300, 5), np.float32))
    with pytest.raises(InputError, match="more than 1000 pairs"):
        find_duplicates(tmp_path / "same.npy", tmp_path / "same.npy", max_pairs=1000)
    assert len(find_duplicates(tmp_path / "same.npy").groups[0]) == 300


@pytest.fixture
def run():
    if not app_module.app.registered_commands:
        app_module._register()

    def run(*arguments):
        return CliRunner().invoke(app_module.app, ["duplicates", *map(str, arguments)])

    return run


def test_the_command_prints_and_writes_all_formats(pictures, tmp_path, run):
    table = pictures / "t.lance"
    printed = run(table, "--threshold", "0.999")
    assert printed.exit_code == 0
    assert "1 groups in 7 rows" in printed.output
    assert "=copy\\n.png" in printed.output  # a name never breaks a line
    assert "1 pairs between splits, 1 of them the same file" in printed.output
    assert json.loads(run(table, "--threshold", "0.999", "--json").output)["groups"][0][1]["same_bytes"] is True
    for name in ("d.csv", "d.json", "d.html"):
        assert run(table, "--threshold", "0.999", "-o", tmp_path / name).exit_code == 0
        assert run(table, "--threshold", "0.999", "-o", tmp_path / name).exit_code != 0
        assert run(table, "--threshold", "0.999", "-o", tmp_path / name, "--overwrite").exit_code == 0
    with (tmp_path / "d.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["kind"], line["row"], line["same_bytes"]) for line in lines] == [
        ("group", "2", "0"),
        ("group", "6", "1"),
        ("leak", "2", "1"),
        ("leak", "6", "1"),
    ]
    page = (tmp_path / "d.html").read_text(encoding="utf-8")
    assert page.count("<img") == 4
    assert "http" not in page
    assert "<script" not in page
    assert run(table, "-o", tmp_path / "d.txt").exit_code == 2
    assert run(table, "--threshold", "0.9999999", "-o", tmp_path / "none.html").exit_code == 0


def test_the_page_escapes_and_survives_missing_files(tmp_path, run):
    make_pictures(tmp_path / "p", ["<b>&.png"])
    shutil.copy(tmp_path / "p" / "<b>&.png", tmp_path / "p" / "gone.png")
    embed(tmp_path / "p", tmp_path / "t.lance", TinyEncoder())
    (tmp_path / "p" / "gone.png").unlink()
    assert run(tmp_path / "t.lance", "-o", tmp_path / "d.html").exit_code == 0
    page = (tmp_path / "d.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;.png" in page
    assert page.count("<img") == 1
