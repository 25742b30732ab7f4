"""open_clip that is missing, or beside a torchvision for another torch: the error names cause and cure."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import isomix
from isomix.errors import MissingExtraError
from isomix.projectors import Projectors

SPEC = "openclip:ViT-B-32/datacomp_xl_s13b_b90k"


@pytest.mark.parametrize("use", [isomix.load_encoder, Projectors.from_pretrained])
def test_a_missing_open_clip_names_its_extra(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'isomix\[openclip\]'"):
        use(SPEC)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        AttributeError("partially initialized module 'torchvision' has no attribute 'extension'"),
        MissingExtraError("cannot be imported (No module named 'torchvision')"),
    ],
)
def test_a_torchvision_for_another_torch_names_the_cure(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: str) -> None:
        raise error

    monkeypatch.setattr("isomix._extras.require", fails)
    with pytest.raises(MissingExtraError, match=r"torchvision.*Install both in one command.*'hf:' encoder needs no"):
        isomix.load_encoder(SPEC)


def test_other_failures_of_the_import_are_not_disguised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: str) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("isomix._extras.require", fails)
    with pytest.raises(RuntimeError, match="something else"):
        isomix.load_encoder(SPEC)
