"""Names of files, classes and columns as a stranger may choose them; terminals that are not UTF-8; names that are no text."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile

import pytest

from isomix.cli.common import to_json, visible
from isomix.store import EmbeddingTable

CLEAR = "\x1b[2J\x1b[31m"
HOSTILE = f"{CLEAR}\rok\x9b2J\u202e[bold]"
ISOMIX = [sys.executable, "-m", "isomix"]


@pytest.fixture(scope="module")
def photos(pictures, tmp_path_factory):
    """Two classes, one of a hostile name, with pictures and broken files of such names."""
    root = tmp_path_factory.mktemp("hostile") / "photos"
    for folder, concept in (("key", "key"), (HOSTILE, "heart")):
        (root / folder).mkdir(parents=True)
        for path in sorted((pictures / "icons" / concept).iterdir())[:4]:
            shutil.copy(path, root / folder / f"{HOSTILE}{path.name}")
        (root / folder / f"{HOSTILE}broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def table(photos):
    import isomix

    isomix.store.embed(photos, photos.parent / "t.lance", isomix.load_encoder("embedded"), labels="folders")
    return photos.parent / "t.lance"


@pytest.fixture(scope="module")
def model(photos, table):
    from isomix import NearestClassMean, load_encoder
    from isomix.store.labelled import read_shots

    encoder = load_encoder("embedded")
    read = read_shots(table, encoder)
    classifier = NearestClassMean(logit_scale=encoder.logit_scale).fit(read.embeddings, read.labels)
    path = photos.parent / "m.safetensors"
    classifier.save(path, source={"model": encoder.spec, "fingerprint": encoder.fingerprint})
    return path


def obeyed(text: str) -> set[str]:
    """Characters of a text that a terminal would obey, or that turn its direction."""
    return {c for c in text if (not c.isprintable() and c != "\n") or c in "\x9b\u202e"}


def test_visible_text_is_inert_and_says_what_it_was():
    assert visible(HOSTILE) == "\\x1b[2J\\x1b[31m\\rok\\x9b2J\\u202e[bold]"
    assert visible("äöü 猫 ☃\t") == "äöü 猫 ☃\t"
    assert visible("a\nb") == "a\\nb"
    assert visible("a\nb", lines=True) == "a\nb"


def test_json_is_inert_and_the_same():
    value = {HOSTILE: ["\udce9", "猫"]}
    assert not obeyed(to_json(value))
    assert json.loads(to_json(value)) == value
    assert "猫" in to_json(value)
    to_json(value).encode()  # no half of a surrogate pair is left


@pytest.mark.parametrize("words", ["embed", "fit", "inspect ledger", "search", "eval", "error"])
def test_hostile_names_do_not_reach_the_terminal(cli, photos, table, tmp_path, words):
    calls = {
        "embed": ("embed", photos, "-o", tmp_path / "t.lance"),
        "fit": ("fit", photos, "-o", tmp_path / "m.safetensors", "--folds", 2),
        "inspect ledger": ("inspect", table.with_name("t.errors.lance")),
        "search": ("search", table, photos / HOSTILE / f"{HOSTILE}broken.png", "row:1"),
        "eval": ("eval", "ncm", f"folder:{photos / HOSTILE}", "--runs", tmp_path / "runs"),
        "error": ("inspect", photos / f"{HOSTILE}nothing.npy"),
    }
    result = cli(*calls[words])
    assert not obeyed(result.out + result.err)
    assert "\\x1b[2J" in result.out + result.err, "the name is shown all the same"


def test_hostile_names_do_not_reach_the_terminal_in_json(cli, table, photos, model):
    for words in (
        ("search", table, "row:1", "--json"),
        ("inspect", table, "--json"),
        ("classify", model, photos, "--json", "--probabilities"),
    ):
        result = cli(*words)
        assert not obeyed(result.out + result.err)


def on_terminal(words: list[object], **environment: str) -> tuple[int, str, bytes]:
    """Exit code, standard error and standard output of a call whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [*ISOMIX, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=errors,
            env={**os.environ, "COLUMNS": "200", "TERM": "xterm", "NO_COLOR": "1", **environment},
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not block:
                break
            shown += block
        os.close(ours)
        code = child.wait(timeout=60)
        errors.seek(0)
        return code, errors.read().decode(errors="replace"), shown


def test_a_terminal_gets_csv_and_paths_in_visible_form(table, photos, model):
    for words in (["classify", model, photos], ["search", table, "row:1", "--paths"]):
        _, _, shown = on_terminal(words)
        assert b"\x1b" not in shown and b"\\x1b[2J" in shown


def test_a_pipe_gets_csv_and_paths_as_they_are(cli, table, photos, model):
    rows = list(csv.DictReader(io.StringIO(cli("classify", model, photos).out, newline="")))
    stored = EmbeddingTable.open(table)
    assert {row["path"] for row in rows} == set(stored.column("path"))
    assert {row["label"] for row in rows} <= {"key", HOSTILE}
    paths = cli("search", table, "row:1", "--paths", "-k", 3).out.split("\n")[:-1]
    assert len(paths) == 3 and all(os.path.exists(path) for path in paths)  # noqa: PTH110


def test_paths_that_end_in_nul(cli, pictures, tmp_path):
    (tmp_path / "p").mkdir()
    for i, path in enumerate(sorted((pictures / "icons" / "key").iterdir())[:4]):
        shutil.copy(path, tmp_path / "p" / f"line\nend {i}.png")
    listed = b"".join(os.fsencode(path) + b"\0" for path in sorted((tmp_path / "p").iterdir()))
    done = subprocess.run([*ISOMIX, "embed", "-", "-o", tmp_path / "t.lance"], input=listed, check=False)
    assert done.returncode == 0
    assert EmbeddingTable.open(tmp_path / "t.lance").count == 4
    for words in (["-0"], ["--paths", "--null"]):
        found = cli("search", tmp_path / "t.lance", "row:0", *words, "-k", 3).out
        assert found.endswith("\0")
        paths = found.split("\0")[:-1]
        assert len(paths) == 3 and all("\n" in path and os.path.exists(path) for path in paths)  # noqa: PTH110


@pytest.mark.parametrize("words", [["doctor"], ["spectrum", "embedded"], ["demo", "--help"]])
def test_a_terminal_that_is_not_utf8(words):
    code, err, shown = on_terminal(words, PYTHONIOENCODING="ascii")
    assert code == 0, err
    assert "Traceback" not in err and shown.isascii()


def test_search_on_a_terminal_that_is_not_utf8(pictures, tmp_path, cli):
    (tmp_path / "p").mkdir()
    for i, path in enumerate(sorted((pictures / "icons" / "key").iterdir())[:3]):
        shutil.copy(path, tmp_path / "p" / f"猫 {i}.png")
    cli("embed", tmp_path / "p", "-o", tmp_path / "t.lance")
    for words in ([], ["--paths"], ["--json"]):
        code, err, shown = on_terminal(["search", tmp_path / "t.lance", "row:0", *words], PYTHONIOENCODING="latin-1")
        assert code == 0, err
        assert b"\\u732b" in shown
    done = subprocess.run(
        [*ISOMIX, "search", tmp_path / "t.lance", "row:0", "--paths"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        check=False,
    )
    assert done.returncode == 0
    assert all(os.path.exists(path) for path in done.stdout.splitlines())  # noqa: PTH110 - bytes
