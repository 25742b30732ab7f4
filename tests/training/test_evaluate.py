"""The evaluation of the embedded model: tasks, figures, gate and report, on a small data set made here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isomix.encoders.embedded import EmbeddedEncoder
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.metrics import scores_metrics
from isomix.spaces import IsoCLIP
from isomix.spaces.bands import Band
from training.__main__ import main
from training.config import CONFIG
from training.data.index import Index
from training.data.pixels import on_white, raw_pixels
from training.report.encodings import Encodings
from training.report.episodes import accuracies, draws, effects, mean_and_halfwidth
from training.report.evaluate import weights_folder
from training.report.gate import Cell, failing, failures, gate
from training.report.page import fill, read
from training.report.retrieval import Grid, mean_interval, task_precisions
from training.report.tasks import (
    PERHAPS_SEEN,
    TRANSFER,
    Limits,
    Task,
    classes,
    picture_tasks,
    text_tasks,
    texts_to_images,
)

STYLES = ("twemoji", "noto", "fxemoji")
LIMITS = Limits(60, 20, 6, STYLES, 0)
NOUNS = ("apple", "boat", "cat", "drum", "egg", "fox", "gate", "hat", "ink", "jug", "kite", "lamp")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the format of the recipe: every concept is a pattern, every source another colour and noise."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[object]] = {
        name: []
        for name in ("source", "name", "concept", "captions", "kind", "topic", "split", "seen_by_first_weights")
    }
    pictures = []

    def add(source: str, concept: str, kind: str, topic: str, split: str, seen: str = "no") -> None:
        pattern = np.random.default_rng(list(concept.encode())).random((8, 8))
        alpha = np.kron(pattern + 0.15 * rng.random((8, 8)) > 0.55, np.ones((8, 8))) * 255
        color = np.random.default_rng(list(source.encode())).integers(0, 200, 3)
        pictures.append(np.dstack([*(np.full((64, 64), c) for c in color), alpha]).astype(np.uint8))
        captions = [concept, f"thing called {concept}", f"{concept[::-1]} word"]
        values = (source, f"{concept}-{source}", concept, captions, kind, topic, split, seen)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)

    for i, noun in enumerate(NOUNS):
        held_out = i % 2 == 1
        for style in STYLES:
            add(style, noun, "emoji", f"group-{i // 4}", "held-out concept" if held_out else "train")
        for unseen in ("openmoji", "emojione-v1"):
            add(unseen, noun, "emoji", f"group-{i // 4}", "held-out style")
        for number in range(22 if i in (1, 3, 5) else 3):
            add(f"set-{number}", f"{noun} icon", "icon", "", "held-out concept" if held_out else "train")
    for number in range(12):
        add("openclipart", f"clip {number}", "clip art", f"topic-{number % 3}", "held-out clip art")
        add("stamps", f"stamp {number}", "stamp", f"animals-{number % 2}", "transfer")
    folder = tmp_path_factory.mktemp("output")
    (folder / "dataset").mkdir()
    np.save(folder / "dataset" / "pictures.npy", np.stack(pictures))
    pyarrow.parquet.write_table(pa.table(columns), folder / "dataset" / "index.parquet")
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings, made small."""
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(
        "[evaluate]\nseed = 0\nmax_pictures = 60\nmax_concepts = 20\nmax_captions = 6\nbank = 60\ngrid_queries = 20\nshots = [1, 2]\n"
        'known_styles = ["twemoji", "noto", "fxemoji"]\ndraws = 2\nmax_classes = 5\nqueries_per_class = 4\n'
        "n_resamples = 20\n"
    )
    return path


@pytest.fixture(scope="module")
def index(output: Path) -> Index:
    return Index.read(output / "dataset")


@settings(deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_average_precisions_are_those_of_the_metrics(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 40))
    Z = normalize_rows(rng.integers(1, 3, (n, 3)).astype(np.float32) if ties else rng.normal(size=(n, 3)))
    labels, groups = rng.integers(0, 3, n), rng.integers(0, 6, n)
    task = Task.make("t", np.arange(n), labels, groups, labels)
    if task is None:
        return
    scores = Z[task.queries] @ Z[task.gallery].T
    excluded = task.groups[task.queries][:, None] == task.groups[task.gallery]
    scores[excluded] = -2.0  # below every cosine: takes no part
    relevant = (task.labels[task.queries][:, None] == task.labels[task.gallery]) & ~excluded
    expected = scores_metrics(scores, relevant, return_per_query=True)["per_query"]["mean_average_precision"]
    np.testing.assert_allclose(task_precisions(Z, task), expected, rtol=1e-12)


def test_queries_without_a_relevant_picture_are_dropped() -> None:
    task = Task.make("t", np.arange(5), ["a", "a", "b", "b", "c"], [0, 1, 2, 2, 3], range(5))
    assert task is not None
    assert task.queries.tolist() == [0, 1]  # the two b share a source, c stands alone
    assert Task.make("t", np.arange(2), ["a", "b"], [0, 1], [0, 1]) is None


def test_only_the_task_that_chooses_the_band_sees_training_concepts(index: Index) -> None:
    choosing, tasks = picture_tasks(index, LIMITS)
    assert set(index.split[choosing.items]) == {"train"}
    assert len(tasks) == 8
    held_out = set(index.concept[index.split == "held-out concept"])
    for task in tasks:
        rows = np.asarray(task.items)
        assert "train" not in index.split[rows[task.queries]]
        if not task.name.startswith("unseen style"):
            assert "train" not in index.split[rows]
        else:  # known concepts in a style that is not known
            assert held_out.isdisjoint(index.concept[rows[task.queries]])
            assert set(index.source[rows[task.gallery]]) == set(STYLES)
    rarer = next(task for task in tasks if "rarer" in task.name)
    assert set(index.seen[np.asarray(rarer.items)]) == {"no"}


def test_what_the_first_weights_may_have_seen_is_no_query_of_the_tasks_that_say_so(index: Index) -> None:
    seen = index.seen.astype(object)
    dropped = [
        np.flatnonzero((index.source == source) & (index.split == split))[0]
        for source, split in (("openmoji", "held-out style"), ("stamps", "transfer"), ("noto", "held-out concept"))
    ]
    seen[dropped] = "perhaps"
    judged = dataclasses.replace(index, seen=seen.astype(str))
    for task in (*picture_tasks(judged, LIMITS)[1], *texts_to_images(judged, LIMITS), *classes(judged, LIMITS, 3, 9)):
        rows = np.asarray(task.items)[task.queries] if isinstance(task, Task) else task.rows
        assert task.name in PERHAPS_SEEN or set(judged.seen[rows]) == {"no"}


def test_a_thinned_task_has_fewer_queries_and_the_same_gallery(index: Index) -> None:
    task = picture_tasks(index, LIMITS)[0]
    thin = task.thinned(5)
    assert len(thin.queries) == 5
    assert set(thin.queries) < set(task.queries)
    assert thin.gallery is task.gallery
    assert task.thinned(10_000) is task


def test_subgroups_do_not_count_the_same_concept(index: Index) -> None:
    task = next(task for task in picture_tasks(index, LIMITS)[1] if "subgroups" in task.name)
    concepts = index.concept[np.asarray(task.items)]
    assert len(set(zip(task.groups.tolist(), concepts.tolist()))) == len(set(concepts.tolist()))


def test_captions_of_a_concept_share_no_word_with_its_name(index: Index) -> None:
    choosing, tasks = text_tasks(index, LIMITS)
    assert choosing is not None
    assert tasks
    for task in (choosing, *tasks):
        assert not any(str(item).startswith("thing called") for item in task.items)
    searches = {task.name: task for task in texts_to_images(index, LIMITS)}
    stamps = searches["stamps, by their line"]
    assert [stamps.captions[label] for label in stamps.row_labels] == [index.captions[row][0] for row in stamps.rows]


def test_transparency_is_composited_on_white() -> None:
    Image = pytest.importorskip("PIL.Image")
    rgba = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 4), np.uint8)
    for mine, picture in zip(on_white(rgba), rgba):
        white = Image.new("RGBA", (64, 64), (255, 255, 255, 255))
        white.alpha_composite(Image.fromarray(picture, "RGBA"))
        assert np.abs(mine.astype(int) - np.asarray(white.convert("RGB")).astype(int)).max() <= 1
    assert np.allclose(np.linalg.norm(raw_pixels(rgba), axis=1), 1)


def test_features_are_those_of_the_encoder_and_are_kept(output: Path, tmp_path: Path) -> None:
    pictures = np.load(output / "dataset" / "pictures.npy")
    encodings = Encodings(None, pictures, tmp_path)
    rows = np.array([3, 1, 3])
    expected = EmbeddedEncoder().encode_image(list(on_white(pictures[rows])), show_progress_bar=False).features
    np.testing.assert_allclose(encodings.image_features(rows), expected, atol=1e-5)
    kept = list(tmp_path.iterdir())
    encodings.image_features(rows)
    assert list(tmp_path.iterdir()) == kept
    assert len(kept) == 1


@pytest.mark.parametrize("modality", ["image", "text"])
def test_the_grid_is_isoclip_and_begins_with_the_plain_embedding(index: Index, modality: str) -> None:
    projectors = EmbeddedEncoder().projectors
    task = picture_tasks(index, LIMITS)[0]
    weight = projectors.image if modality == "image" else projectors.text
    features = np.random.default_rng(0).normal(size=(len(task.items), weight.shape[1])).astype(np.float32)
    precisions = Grid(projectors, features, modality).precisions(task)
    plain = normalize_rows(features @ weight.T)
    np.testing.assert_allclose(precisions[Band(0, 0)], task_precisions(plain, task), atol=1e-3)
    band = Band(4, 24)
    assert band in precisions
    iso = IsoCLIP(projectors, band=(4, 24), modality=modality).fit()
    np.testing.assert_allclose(precisions[band], task_precisions(iso.transform(plain), task), atol=1e-3)


def test_intervals_draw_whole_concepts() -> None:
    values = np.repeat(np.random.default_rng(0).random(10), 20)
    together = mean_interval(values, np.repeat(np.arange(10), 20), 500, 0)
    alone = mean_interval(values, np.arange(200), 500, 0)
    assert together["mean"] == alone["mean"] == pytest.approx(values.mean())
    assert np.ptp(together["interval"]) > 2 * np.ptp(alone["interval"])


def test_shots_are_nested_and_never_queries() -> None:
    labels = np.repeat(np.arange(3), 12)
    (support, queries), (other, _) = draws(labels, (1, 4), 2, 6, seed=0)
    assert support.shape == (3, 4)
    assert (labels[support] == np.arange(3)[:, None]).all()
    assert not set(support.ravel()) & set(queries)
    assert np.bincount(labels[queries]).tolist() == [6, 6, 6]
    assert not np.array_equal(support, other)


def test_effects_are_paired_differences() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 12)
    E = normalize_rows(np.eye(8)[labels] + 0.5 * rng.normal(size=(36, 8)))
    found = accuracies(E, labels, np.eye(8)[:3], (1, 4), draws(labels, (1, 4), 3, 6, 0))
    mean, half = effects(found)["mixing pictures and text, against text alone"][4]
    difference = np.subtract(found["mixed-prototypes"][4], found["zero-shot"][4])
    assert mean == pytest.approx(difference.mean())
    assert half >= 0
    assert mean_and_halfwidth([0.5]) == (0.5, 0.0)


def test_the_gate_wants_every_run_ahead_of_both() -> None:
    judged = [
        Cell("converged, a, plain, mAP", "drawings", (5.0, 6.0), 4.0, 3.0),
        Cell("converged, b, text to image, recall@5", "perhaps seen", (5.0, 3.9), 4.0, None),
        Cell("converged, c, plain, mAP", "perhaps seen", (5.0, 6.0), 4.0, 5.5),
    ]
    assert failures(judged) == judged[1:]
    verdicts = gate(judged).splitlines()
    assert verdicts[0] == "**PASS** on drawings that the first weights have not seen: 1 of 1 cells."
    assert verdicts[2] == "**FAIL** on drawings that the first weights were probably trained on: 0 of 2 cells."
    assert verdicts[-3:] == [
        "| converged, mAP | drawings | 1 of 1 |",
        "| converged, recall | perhaps seen | 0 of 1 |",
        "| converged, mAP | perhaps seen | 0 of 1 |",
    ]
    assert (
        "| converged, b, text to image, recall@5 | 5.0 / 3.9 | 4.0 |  | perhaps seen |" in failing(judged).splitlines()
    )


def test_every_task_that_the_first_weights_perhaps_saw_exists(index: Index) -> None:
    names = {task.name for task in [*picture_tasks(index, LIMITS)[1], *texts_to_images(index, LIMITS)]}
    names |= {part.name for part in classes(index, LIMITS, 3, 5)}
    assert names > PERHAPS_SEEN | TRANSFER


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(InputError, match="begin images"):
        fill("nothing here", {"images": "a table"})


def test_unknown_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no image\.onnx"):
        weights_folder("seed-0", tmp_path)
    assert weights_folder("packaged", tmp_path) == ("packaged", None)


def test_the_whole_evaluation_and_its_report(
    output: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.report.evaluate.TIMED_CALLS", 1)
    packaged = Path(EmbeddedEncoder.__init__.__code__.co_filename).with_name("weights")
    common = ["--config", str(config), "--output", str(output)]
    assert main(["evaluate", *common, "packaged", f"again={packaged}"]) == 0
    first, again = read(output / "evaluation", ["packaged", "again"])
    assert first["pairs"] == again["pairs"]
    assert first["raw"] == again["raw"]
    assert set(first["pairs"]) == {"converged", "as-trained"}
    found = first["pairs"]["converged"]
    assert {len(found["images"]), len(found["text_to_image"])} == {8, 6}
    maps = found["images"]["stamps by topic"]["map"]  # 12 queries: all of them compare the bands
    assert maps["oracle"]["mean"] >= max(maps["plain"]["mean"], maps["isoclip"]["mean"])
    assert first["speed"]["bytes"] > 1e6

    page = output / "page.md"
    page.write_text("".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in PLACES))
    figures = output / "figures"
    capsys.readouterr()
    assert main(["report", *common, "again", "--page", str(page), "--figures", str(figures)]) == 0
    printed = capsys.readouterr().out
    assert "**FAIL**" in printed  # the same weights are not ahead of themselves
    assert page.read_text().count("| --- |") >= len(PLACES) - 1
    assert {path.suffix for path in figures.iterdir()} == {".svg"}
    assert (figures / "embedded-spectrum.svg").is_file()

    other = output / "evaluation" / "other.json"
    other.write_text(json.dumps(again | {"index_sha256": "of other data"}))
    assert main(["report", *common, "other"]) == 1
    assert "index_sha256 differs" in capsys.readouterr().err


PLACES = ("images", "isoclip", "texts", "text-to-image", "few-shot", "effects", "spectrum", "speed", "gate")


def test_the_settings_of_the_recipe_can_be_read() -> None:
    from training.config import load_section
    from training.report.evaluate import Settings

    settings = load_section(Settings, "evaluate", CONFIG)
    assert dataclasses.asdict(settings.limits)["seed"] == settings.seed
    assert max(settings.shots) == 16
