from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from isomix.cli.demo import command
from isomix.demo import Tour, run_tour
from isomix.demo.groups import bundled_groups, pixel_vectors
from isomix.demo.measure import measure_few_shot, measure_retrieval
from isomix.demo.report import render
from isomix.encoders.prompts import nouns
from isomix.errors import BandError, InputError

METHODS = [
    "plain",
    "plain, smoothed",
    "pre-projection features",
    "IsoCLIP (0, 72)",
    "Text PCA (96)",
    "Text PCA (96), smoothed",
    "Text PCA (96), smoothed, expanded",
    "raw pixels (control)",
]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Tour:
    return run_tour(output=tmp_path_factory.mktemp("demo") / "out", draws=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of one's own, with a name of two words and a file that is no picture."""
    root = tmp_path_factory.mktemp("pictures")
    for concept in ("heart", "coffee_cup", "key"):
        shutil.copytree(bundled_groups()[0].folder / concept, root / concept)
    (root / "key" / "broken.png").write_bytes(b"no picture")
    return root


def printed(tour: Tour) -> str:
    console = Console(width=80, file=io.StringIO())
    for part in render(tour):
        console.print(part)
    return console.file.getvalue()


def test_bundled_pictures_are_small_and_every_folder_has_several_styles() -> None:
    groups = bundled_groups()
    files = [path for group in groups for path in group.folder.rglob("*.png")]
    assert 200 <= len(files) <= 1000
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for group in groups:
        for concept in group.folder.iterdir():
            styles = list(concept.iterdir())
            assert len(styles) >= 5, concept
            for path in styles:
                with Image.open(path) as picture:
                    assert picture.size == (96, 96)


def test_every_style_is_credited() -> None:
    root = bundled_groups()[0].folder.parent
    text = (root / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for style in {path.name for path in root.rglob("*.png")}:
        assert f"`{style}`" in text


def test_nouns_are_many_and_distinct() -> None:
    assert len(nouns()) == len(set(nouns())) > 769, "Text PCA keeps d/2 components, up to d = 1536"


def test_pixels_are_centred() -> None:
    files = sorted((bundled_groups()[0].folder / "key").iterdir())
    vectors = pixel_vectors(files)
    assert vectors.shape == (len(files), 768)
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-4)


def test_bundled_tour_measures_every_method(bundled: Tour) -> None:
    assert bundled.skipped == []
    assert [group.name for group in bundled.groups] == ["icons", "emoji"]
    for group in bundled.groups:
        assert [row.method for row in group.retrieval] == METHODS
        by_method = {row.method: row for row in group.retrieval}
        assert by_method["plain"].gain == 0
        # The model must beat the control by far, or something is broken; which space is best, the tour shall tell.
        for method in METHODS[:-1]:
            assert (
                by_method[method].mean_average_precision
                > by_method["raw pixels (control)"].mean_average_precision + 0.1
            )
        assert {row.shots for row in group.few_shot} == {1, 2, 4}
        assert ("LDA", 1) not in {(row.method, row.shots) for row in group.few_shot}
        assert all(len(row.draws) == 2 for row in group.few_shot)


def test_bundled_tour_writes_what_it_says(bundled: Tour) -> None:
    for path in bundled.files.values():
        assert Path(path).exists()
    written = json.loads(Path(bundled.files["all figures"]).read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(bundled.to_dict()))
    assert written["settings"]["band"] == {"k_top": 0, "k_bottom": 72, "of": 192, "chosen_by": "preset"}
    with Image.open(bundled.files["contact sheet"]) as sheet:
        assert sheet.width > 800


def test_printed_tables_fit_80_columns(bundled: Tour) -> None:
    text = printed(bundled)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for row in bundled.groups[0].retrieval:
        assert f"{100 * row.mean_average_precision:.1f}" in text
    assert "not trained on" in text.replace("\n", "")


def test_own_pictures_folders_are_classes(folder: Path, tmp_path: Path) -> None:
    tour = run_tour(images=folder, output=tmp_path / "out", draws=2)
    (group,) = tour.groups
    assert (group.classes, tour.unreadable) == (3, 1)
    assert group.pictures == sum(1 for _ in folder.rglob("*.png")) - 1
    assert "could not be read" in printed(tour)
    again = run_tour(images=folder, output=tmp_path / "again", draws=2)
    assert [g.retrieval for g in again.groups] == [g.retrieval for g in tour.groups]
    assert [g.few_shot for g in again.groups] == [g.few_shot for g in tour.groups]
    sheets = [Path(t.files["contact sheet"]).read_bytes() for t in (tour, again)]
    assert sheets[0] == sheets[1]


def test_flat_folder_draws_neighbours_and_says_what_is_skipped(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(folder / "heart", flat)
    tour = run_tour(images=flat, output=tmp_path / "out")
    assert tour.groups[0].retrieval == []
    assert "subfolder" in tour.skipped[0]
    assert Path(tour.files["contact sheet"]).exists()
    assert "accuracy on images" not in tour.files
    assert "skipped" in printed(tour)


def test_without_a_preset_band_isoclip_takes_the_automatic_one(folder: Path, tmp_path: Path) -> None:
    tour = run_tour("embedded:as-trained", folder, tmp_path / "out", draws=2)
    band = tour.settings["band"]
    assert (band["k_top"], band["k_bottom"], band["chosen_by"]) == (0, 0, "spectrum")
    assert "IsoCLIP (0, 0)" in [row.method for row in tour.groups[0].retrieval]
    assert "no preset, so the automatic band (nothing stands out in the spectrum" in " ".join(printed(tour).split())
    given = run_tour("embedded:as-trained", folder, tmp_path / "given", draws=2, band=(0, 0))
    by_method = {row.method: row for row in given.groups[0].retrieval}
    assert by_method["IsoCLIP (0, 0)"].mean_average_precision == pytest.approx(
        by_method["plain"].mean_average_precision, abs=1e-6
    )
    with pytest.raises(BandError):
        run_tour("embedded", folder, tmp_path / "bad", band=(500, 0))


def test_scarce_classes_limit_the_shots(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "few"
    shutil.copytree(folder, root)
    for path in sorted((root / "heart").iterdir())[2:]:
        path.unlink()
    tour = run_tour(images=root, output=tmp_path / "out", draws=2)
    assert {row.shots for row in tour.groups[0].few_shot} == {1}
    assert [reason for reason in tour.skipped if "'heart' has 2 picture(s)" in reason]


def test_the_same_picture_in_two_classes_is_said(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "twice"
    shutil.copytree(folder, root)
    for path in (root / "heart").glob("*.png"):
        shutil.copy(path, root / "key" / path.name)
    tour = run_tour(images=root, output=tmp_path / "out", draws=2)
    assert tour.groups[0].retrieval
    assert any("few-shot classification" in reason for reason in tour.skipped)


def test_earlier_tours_are_kept_unless_told(folder: Path, tmp_path: Path) -> None:
    run_tour(images=folder, output=tmp_path / "out", draws=2)
    with pytest.raises(InputError, match="earlier tour"):
        run_tour(images=folder, output=tmp_path / "out", draws=2)
    flat = tmp_path / "flat"
    shutil.copytree(folder / "heart", flat)
    run_tour(images=flat, output=tmp_path / "out", draws=2, overwrite=True)
    assert not (tmp_path / "out" / "few-shot-images.png").exists(), "a figure of the tour before"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "nowhere"}, "not a folder"),
        ({"template": "a photo"}, "in the place of the class name"),
        ({"draws": 1}, "at least 2"),
    ],
)
def test_bad_calls(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_tour(output=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_output_inside_the_pictures_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="lies inside"):
        run_tour(images=folder, output=folder / "demo-output")
    with pytest.raises(InputError, match="is a file"):
        run_tour(images=folder, output=folder / "key" / "broken.png")


def test_gain_interval_covers_a_known_difference() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([f"c{i}" for i in range(20)], 6)
    centres = np.repeat(rng.normal(size=(20, 16)), 6, axis=0)
    noise = rng.normal(size=centres.shape)
    worse, better = measure_retrieval({"noisy": centres + 2 * noise, "clean": centres + 0.3 * noise}, labels)
    assert (worse.gain, worse.gain_interval) == (0.0, (0.0, 0.0))
    low, high = better.gain_interval
    assert 0 < low < better.gain < high
    assert better.gain == pytest.approx(better.mean_average_precision - worse.mean_average_precision)


def test_few_shot_accuracy_is_that_of_unseen_pictures() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 20)
    embeddings = rng.normal(size=(40, 8))
    embeddings[:, 0] += np.where(labels == "a", 30, -30)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    text = np.eye(2, 8) * [[1], [0.5]] + [[0.8] + [0] * 7, [-0.8] + [0] * 7]
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    rows = measure_few_shot(embeddings, labels, text, logit_scale=20, also={}, shots=(2,), draws=3)
    assert {row.method: row.mean for row in rows}["nearest class mean"] == 1.0
    shuffled = measure_few_shot(
        embeddings, rng.permutation(labels), text, logit_scale=20, also={}, shots=(2,), draws=10
    )
    assert 0.3 < {row.method: row.mean for row in shuffled}["nearest class mean"] < 0.7


def test_command_line(folder: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    call = ["--images", str(folder), "--output", str(tmp_path / "out"), "--draws", "2", "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 3, "a file was skipped"
    assert json.loads(result.stdout)["groups"][0]["classes"] == 3
