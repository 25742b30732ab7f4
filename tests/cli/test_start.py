"""Starting is light: what a command does not need, it does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import isomix
from isomix.store import EmbeddingTable, embed

EVERYTHING = "numpy scipy sklearn pandas torch transformers lance pyarrow onnxruntime tokenizers PIL matplotlib faiss"
COMPUTES = EVERYTHING.split()

# Not pandas: Lance and scikit-learn import it themselves wherever it is installed.
NEVER_FOR_A_SENTENCE = [
    "scipy",
    "sklearn",
    "torch",
    "transformers",
    "matplotlib",
    "faiss",
    "PIL",
    "threadpoolctl",
    "lancedb",
]
NEVER_FOR_A_ROW = ["torch", "transformers", "matplotlib", "faiss", "onnxruntime", "tokenizers", "lancedb"]
IMPORT = "import sys, isomix; isomix.__version__"
COMMAND = """
import sys
from isomix.cli.app import main
try:
    main()
except SystemExit as stop:
    if stop.code:
        raise
"""
LOADED = "\nprint(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"


def loaded(program: str, *words: object) -> set[str]:
    """Packages that are in memory after a program."""
    words = tuple(map(str, words))
    done = subprocess.run([sys.executable, "-c", program + LOADED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.fixture(scope="module")
def table(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "t.lance"
    embed(pictures / "emoji" / "banana", path, isomix.load_encoder("embedded"))
    assert EmbeddingTable.open(path).count
    return path


def test_import_takes_nothing_with_it():
    assert not loaded(IMPORT) & {*COMPUTES, "typer", "rich"}


def test_help_computes_nothing():
    assert not loaded(COMMAND, "--help") & {*COMPUTES}


def test_a_sentence_needs_the_table_and_the_text_tower(table):
    found = loaded(COMMAND, "search", table, "a heart", "--json")
    assert {"numpy", "lance", "onnxruntime"} <= found
    assert not found & {*NEVER_FOR_A_SENTENCE}


def test_a_row_needs_no_tower(table):
    assert not loaded(COMMAND, "search", table, "row:0", "--json") & {*NEVER_FOR_A_ROW}
