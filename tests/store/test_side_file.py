"""Labels, votes and verdicts beside a table: appended to, shared by processes, whole after a kill."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from isomix.errors import FileFormatError, InputError, TableError
from isomix.store.side_file import SideFile, Vote, check_label


@pytest.fixture
def table(tmp_path):
    return tmp_path / "photos.lance"


def test_what_was_said_is_there_after_opening_again(table):
    first = SideFile(table)
    first.add_class("dog")
    first.label(["a", "b"], "cat")
    first.label(["b"], None)
    first.vote(Vote("row:a", "isoclip", "adapted"))
    first.vote(Vote("row:a", "isoclip", "plain"))
    first.judge("b", "a", "same")
    again = SideFile(table)
    assert again.classes == ["dog", "cat"]
    assert again.labels == {"a": "cat"}
    assert again.votes == [Vote("row:a", "isoclip", "plain")]
    assert again.verdicts == {("a", "b"): "same"}
    assert again.revision == first.revision == 6


def test_classes_are_renamed_merged_and_removed_with_their_labels(table):
    side = SideFile(table)
    side.label(["a"], "cat")
    side.label(["b"], "kitten")
    side.rename_class("kitten", "cat")
    assert (side.classes, side.labels) == (["cat"], {"a": "cat", "b": "cat"})
    side.remove_class("cat")
    assert (side.classes, side.labels) == ([], {})


def test_two_that_write_at_once_lose_nothing(table):
    sides = [SideFile(table) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: sides[i % 4].label([f"id{i}"], f"label {i % 3}"), range(200)))
    assert all(len(side.labels) == 200 for side in sides)


def test_a_line_that_was_cut_off_costs_only_itself(table):
    side = SideFile(table)
    side.label(["a"], "cat")
    with side.path.open("ab") as stream:
        stream.write(b'{"kind": "label", "ids": ["b"], "la')
    after = SideFile(table)
    assert after.labels == {"a": "cat"}
    after.label(["c"], "dog")
    assert SideFile(table).labels == {"a": "cat", "c": "dog"}


def test_lines_of_a_stranger_are_left_out(table):
    side = SideFile(table)
    side.label(["a"], "cat")
    with side.path.open("ab") as stream:
        stream.write(b'[1, 2]\n{"kind": "label"}\n{"kind": "unheard of"}\nnonsense\n')
    assert SideFile(table).labels == {"a": "cat"}


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "label", "ids": ["b"], "label": ["dog"]},
        {"kind": "label", "ids": ["b", 3], "label": "dog"},
        {"kind": "label", "ids": "bc", "label": "dog"},
        {"kind": "class", "name": 7, "present": True},
        {"kind": "rename", "old": "cat", "new": None},
        {"kind": "vote", "query": "q", "space": {}, "choice": "same"},
        {"kind": "vote", "query": "q", "space": "s", "choice": "best"},
        {"kind": "verdict", "left": 1, "right": "b", "verdict": "same"},
        {"kind": "verdict", "left": "a", "right": "b", "verdict": []},
        {"kind": ["label"]},
    ],
)
def test_lines_with_values_of_another_kind_are_left_out_whole(table, line):
    side = SideFile(table)
    side.label(["a"], "cat")
    with side.path.open("a") as stream:
        stream.write(json.dumps(line) + "\n" + "[" * 100_000 + "\n")
    side = SideFile(table)
    assert (side.labels, side.classes, side.votes, side.verdicts) == ({"a": "cat"}, ["cat"], [], {})
    assert side.revision == 1


def test_a_deleted_file_is_an_empty_one(table):
    side = SideFile(table)
    side.label(["a"], "cat")
    side.path.unlink()
    assert side.labels == {}
    side.label(["b"], "dog")
    assert json.loads(side.path.read_text().splitlines()[0]) == {"isomix": "studio", "format": 1}


def test_read_only_writes_nothing(table):
    side = SideFile(table, read_only=True)
    with pytest.raises(InputError, match="read-only"):
        side.label(["a"], "cat")
    assert not side.path.exists()


@pytest.mark.parametrize("content", [b"no json\n", b'{"format": 99}\n', b"[" * 100_000 + b"\n"])
def test_another_file_under_that_name_is_refused(table, content):
    side = SideFile(table)
    side.path.write_bytes(content)
    with pytest.raises(FileFormatError):
        _ = side.labels


@pytest.mark.parametrize("label", ["", "   ", "a\nb", "a\x1b[31m", "x" * 121, "\u202eevil", "\ud800"])
def test_labels_that_cannot_be_shown_are_refused(label):
    with pytest.raises(InputError, match="printable"):
        check_label(label)


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", "=1+1", "Käse & Brot", "__proto__", "日本"])
def test_labels_that_only_look_odd_are_kept(table, label):
    side = SideFile(table)
    side.label(["a"], f" {label} ")
    assert SideFile(table).labels == {"a": label}


def test_unknown_choices_and_verdicts_are_refused(table):
    side = SideFile(table)
    with pytest.raises(InputError, match="choice"):
        side.vote(Vote("row:a", "isoclip", "both"))
    with pytest.raises(InputError, match="verdict"):
        side.judge("a", "b", "perhaps")


def test_a_full_disk_loses_no_label_without_a_word(table, monkeypatch):
    """The system writes what has room and says how much; the rest must not count as kept."""
    side = SideFile(table)
    side.label(["a"], "cat")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))
        with pytest.raises(TableError, match=r"(?i)could not be written \(no space left"):
            side.label(["b"], "dog")
    side.label(["c"], "fox")
    assert SideFile(table).labels == {"a": "cat", "c": "fox"}
