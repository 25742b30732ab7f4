"""Pictures in a notebook: hits, answers, paths and images, harmless and whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

import isomix
from isomix.errors import InputError


class Hit(NamedTuple):
    score: float
    number: int
    row: dict[str, Any]
    file: Path


class Answer(NamedTuple):
    query: Any
    space: str
    note: str
    hits: list[Hit]


class Query(NamedTuple):
    name: str
    file: Path | None


@pytest.fixture
def answer(tmp_path):
    files = []
    for number, colour in enumerate(("red", "teal", "gold")):
        files.append(tmp_path / f"{number}.png")
        Image.new("RGB", (300, 200), colour).save(files[-1])
    hits = [
        Hit(0.9 - i / 10, i, {"label": "<b>x</b>" if i else None, "path": f"{i}.png"}, f) for i, f in enumerate(files)
    ]
    return Answer(Query("q.png", files[0]), "isoclip", "150 / 50", hits)


def test_an_answer_is_a_line_with_its_query_and_its_space(answer):
    drawn = isomix.show(answer)._repr_html_()
    assert drawn.count("<img") == 4
    assert "isoclip (150 / 50)" in drawn
    assert "0.900" in drawn


def test_several_answers_are_several_lines_and_a_contact_sheet(answer):
    shown = isomix.show([answer, answer])
    assert shown._repr_html_().count("isoclip (150 / 50)") == 2
    assert shown.sheet().width > 400


def test_hits_paths_and_images_alone(answer):
    for found in (answer.hits, [hit.file for hit in answer.hits], [Image.new("RGB", (9, 9))] * 3):
        assert isomix.show(found)._repr_html_().count("<img") == 3
    assert isomix.show(answer.hits[0].file)._repr_html_().count("<img") == 1


def test_names_are_text_and_nothing_is_loaded_from_elsewhere(answer):
    drawn = isomix.show(answer.hits)._repr_html_()
    assert "<b>x</b>" not in drawn
    assert "&lt;b&gt;x" in drawn
    assert 'src="data:' in drawn
    assert "http" not in drawn
    assert "<script" not in drawn


def test_a_picture_that_is_gone_says_so(answer):
    answer.hits[1].file.unlink()
    assert "no such file" in isomix.show(answer.hits)._repr_html_()


def test_what_is_left_out_is_said(answer):
    assert "the first 2 of 3" in isomix.show(answer.hits, most=2)._repr_html_()


@pytest.mark.parametrize("found", [[], [3], [object()]])
def test_what_is_no_picture_is_refused(found):
    with pytest.raises(InputError, match="expected hits"):
        isomix.show(found)


def test_captions_are_one_a_picture():
    with pytest.raises(InputError, match="captions"):
        isomix.show([Image.new("RGB", (9, 9))], captions=["a", "b"])
    assert "blue" in repr(isomix.show([Image.new("RGB", (9, 9))], captions=["blue"]))
