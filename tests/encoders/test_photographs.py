"""Photographs are told from what the embedded model knows: icons, emoji, clip art."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image, ImageDraw, ImageFilter

from isomix.encoders.photographs import is_photograph, mostly_photographs
from isomix.errors import ImageError

PHOTOGRAPHS = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_photographs(path: Path, tmp_path: Path) -> None:
    assert is_photograph(path)
    picture = Image.open(path)
    picture.convert("L").save(tmp_path / "grey.png")
    picture.resize((150, 100)).save(tmp_path / "small.png")
    assert not is_photograph(tmp_path / "grey.png")
    assert not is_photograph(tmp_path / "small.png")


def test_bundled_pictures_are_none_enlarged_or_not(pictures: Path, tmp_path: Path) -> None:
    for path in sorted(pictures.rglob("*.png"))[::40]:
        assert not is_photograph(path)
        Image.open(path).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
        assert not is_photograph(tmp_path / "large.png")


def test_clip_art_saved_as_jpeg_is_none(tmp_path: Path) -> None:
    picture = Image.new("RGB", (400, 400), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((50, 50, 300, 350), "orange", "black", 6)
    draw.rectangle((200, 100, 380, 240), "teal")
    picture.filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "art.jpg", quality=85)
    assert not is_photograph(tmp_path / "art.jpg")


def test_the_majority_of_what_can_be_read_decides(pictures: Path, tmp_path: Path) -> None:
    icons = sorted(pictures.rglob("*.png"))[:2]
    (tmp_path / "broken.png").write_bytes(b"x")
    assert mostly_photographs([*PHOTOGRAPHS, icons[0], tmp_path / "broken.png"])
    assert not mostly_photographs([PHOTOGRAPHS[0], icons[0]])
    assert not mostly_photographs([tmp_path / "broken.png"])
    assert not mostly_photographs([])
    with pytest.raises(ImageError):
        is_photograph(tmp_path / "broken.png")


def test_noise_is_no_reason_to_fail(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (1, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "line.png")
    assert not is_photograph(tmp_path / "line.png")
