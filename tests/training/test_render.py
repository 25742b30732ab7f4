"""Rendering: fitted, centred, straight alpha, and the same whatever is interrupted or repeated."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.data.corpora import Drawing
from training.files import write_array

pytest.importorskip("resvg_py", reason="needs training/requirements.txt")
from training.data.render import fit, render, render_corpora


def svg(body: str, width: float, height: float, unit: str = "") -> str:
    size = f'width="{width}{unit}" height="{height}{unit}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{body}</svg>'


def filled(width: float, height: float, unit: str = "") -> str:
    return svg(f'<path d="M0 0h{width}v{height}H0z"/>', width, height, unit)


def box(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Rows and columns where something is drawn."""
    rows, columns = np.flatnonzero(picture[..., 3].any(1)), np.flatnonzero(picture[..., 3].any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@pytest.mark.parametrize("aspect", [None, True])
@pytest.mark.parametrize(("width", "height", "expected"), [(2, 1, (8, 24, 0, 32)), (1, 2, (0, 32, 8, 24))])
def test_the_longest_side_is_fitted_and_the_picture_centred(
    width: int, height: int, expected: tuple[int, ...], aspect: bool | None
) -> None:
    picture = render(Drawing("a", filled(width, height), width / height if aspect else None), 32)
    assert picture is not None
    assert box(picture) == expected


def test_sizes_in_millimetres_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text(filled(50.8, 25.4, "mm"))
    picture = render(Drawing("a", path), 16)
    assert picture is not None
    assert box(picture) == (4, 12, 0, 16)


def test_clip_art_is_cut_out_of_its_page(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text(svg('<path d="M64 128h16v16h-16z"/>', 128, 256))
    whole, cut = render(Drawing("a", path), 32), render(Drawing("a", path, trim=True), 32)
    assert whole is not None
    assert cut is not None
    assert (whole[..., 3] > 0).sum() < 32
    assert box(cut) == (0, 32, 0, 32)


def test_alpha_is_straight_and_colours_of_transparent_pixels_do_not_bleed() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0] = 255  # transparent red
    pixels[:, :30] = (0, 0, 255, 255)
    picture = fit(Image.fromarray(pixels, "RGBA"), 16)
    edge = picture[:, 7]
    assert (edge[:, 3] > 0).all()
    assert (edge[:, 3] < 255).all()
    assert (edge[:, :3] == (0, 0, 255)).all()
    assert not picture[picture[..., 3] == 0].any()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["L", "P", "RGB", "RGBA", "LA", "1"]))
def test_every_size_and_mode_fits(width: int, height: int, mode: str) -> None:
    picture = fit(Image.new("RGB", (width, height), (255, 255, 255)).convert(mode), 16)
    top, bottom, left, right = box(picture)
    assert max(bottom - top, right - left) == 16
    assert abs(top - (16 - bottom)) <= 1
    assert abs(left - (16 - right)) <= 1


def test_what_cannot_be_drawn_is_none(tmp_path: Path) -> None:
    png = tmp_path / "broken.png"
    png.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert render(Drawing("a", "<svg"), 16) is None
    assert render(Drawing("a", png), 16) is None
    assert render(Drawing("a", tmp_path / "absent.svg"), 16) is None


def test_a_corpus_is_drawn_once_and_again_when_its_drawings_change(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[corpora.sources.art]\npackage = "art"\nversion = "1"\nsha256 = ""\nlicense = "MIT"\nkind = "clip art"\n'
        'files = "art/*.*"\n[render]\nside = 16\nworkers = 1\n'
    )
    art, output = tmp_path / "corpora" / "art" / "art", tmp_path
    art.mkdir(parents=True)
    (art / "bar.svg").write_text(filled(2, 1))
    (art / "broken.svg").write_text("<svg")
    photograph = io.BytesIO()
    Image.new("RGB", (30, 30), (200, 10, 10)).save(photograph, "PNG")
    (art / "photo.png").write_bytes(photograph.getvalue())

    render_corpora(config, output)
    pictures = np.load(output / "pictures/art.npy")
    assert json.loads((output / "pictures/art.json").read_text()) == {
        "names": ["bar", "broken", "photo"],
        "failed": ["broken"],
    }
    assert pictures.shape == (3, 16, 16, 4)
    assert not pictures[1].any()
    assert (pictures[2] == (200, 10, 10, 255)).all()

    before = (output / "pictures/art.npy").stat().st_mtime_ns
    render_corpora(config, output)
    assert (output / "pictures/art.npy").stat().st_mtime_ns == before
    (art / "broken.svg").unlink()
    render_corpora(config, output)
    assert np.array_equal(np.load(output / "pictures/art.npy"), pictures[[0, 2]])
    config.write_text(config.read_text().replace("side = 16", "side = 8"))
    render_corpora(config, output)
    assert np.load(output / "pictures/art.npy").shape == (2, 8, 8, 4)


def test_an_interruption_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.npy"
    write_array(path, np.arange(3))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_array(path, np.arange(4))
    assert np.load(path).tolist() == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["file.npy"]
