"""Run files, published figures, tables and figures."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from isomix.benchmark.figures import draw
from isomix.benchmark.protocols import Outcome
from isomix.benchmark.reference import _published, backbone_name, reference, reference_mean
from isomix.benchmark.rendering import FORMATS, render
from isomix.benchmark.runs import RunFolder, read_runs
from isomix.benchmark.tables import lay_out
from isomix.errors import FileFormatError, InputError, IsomixWarning
from isomix.plotting.plots import plot_bands, plot_latency
from isomix.spaces.bands import Band

B32 = "hf:openai/clip-vit-base-patch32"
ABOUT = {"model": "openai/clip-vit-base-patch32", "pretrained": "hf", "backbone": B32}


def run(
    folder: RunFolder, figure: float = 0.5, details: dict[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    settings = {"dataset": "caltech101", "task": "image_retrieval", "method": "plain", **settings}
    name = "mean_average_precision" if "retrieval" in settings["task"] else "accuracy"
    return folder.run(settings, lambda: Outcome({name: figure}, details or {}), ABOUT)[0]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs", command=["isomix", "eval"])


def test_a_run_is_made_once(folder: RunFolder) -> None:
    settings = {"dataset": "d", "task": "ncm", "method": "plain", "data_fingerprint": "a"}
    calls: list[int] = []

    def measure() -> Outcome:
        calls.append(1)
        return Outcome({"accuracy": 0.25, "intervals": {"accuracy": (0.2, 0.3)}}, {})

    first, made = folder.run(settings, measure, ABOUT)
    again, made_again = folder.run(settings, measure, ABOUT)
    assert (made, made_again, len(calls)) == (True, False, 1)
    assert first == again
    folder.run({**settings, "data_fingerprint": "b"}, measure, ABOUT)
    RunFolder(folder.folder, overwrite=True).run(settings, measure, ABOUT)
    assert len(calls) == 3
    assert len(read_runs(folder.folder)) == 2


def test_a_run_file_says_how_to_repeat_it(folder: RunFolder) -> None:
    run(folder, seed=1)
    (path,) = folder.folder.glob("*.json")
    record = json.loads(path.read_text())
    # The shape of CLIP_benchmark, and what it lacks.
    assert {"dataset", "model", "pretrained", "task", "metrics", "language"} <= set(record)
    assert record["command"] == ["isomix", "eval"]
    assert {"python", "numpy", "isomix"} <= set(record["versions"])
    assert record["machine"]["cores"] >= 1 and record["machine"]["processor"]
    assert record["settings"]["seed"] == 1


def test_a_failed_measurement_leaves_nothing(folder: RunFolder) -> None:
    with pytest.raises(ZeroDivisionError):
        folder.run({"dataset": "d", "task": "ncm", "method": "m"}, lambda: Outcome({"accuracy": 1 / 0}, {}), ABOUT)
    with pytest.raises(ValueError, match="JSON"):
        folder.run({"dataset": "d", "task": "ncm", "method": "m"}, lambda: Outcome({"accuracy": np.nan}, {}), ABOUT)
    assert not list(folder.folder.glob("*.json"))


def test_files_that_are_no_runs(folder: RunFolder) -> None:
    with pytest.raises(InputError, match="holds no runs"):
        read_runs(folder.folder)
    run(folder)
    features = folder.folder / "features" / "x.lance" / "_versions"
    features.mkdir(parents=True)
    (features / "hint.json").write_text("{}")
    assert len(read_runs(folder.folder)) == 1
    for text in ("{", "{}", "[]"):
        (folder.folder / "other.json").write_text(text)
        with pytest.raises(FileFormatError, match=r"other\.json is not a run"):
            read_runs(folder.folder)


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("ncm", {"settings": []}, r"settings is '\[\]', expected an object"),
        ("ncm", {"tier": {}, "dataset": None}, "dataset is 'None', expected text"),
        ("ncm", {"time": 5}, "time is '5', expected text"),
        ("ncm", {"task": "sorting"}, "task is 'sorting', expected one of image_retrieval"),
        ("ncm", {"task": ["ncm"]}, "task is"),
        ("ncm", {"backbone": 7}, "backbone is '7', expected text or null"),
        ("ncm", {"metrics": {}}, r"metrics\.accuracy is 'None', expected a number"),
        ("ncm", {"metrics": {"accuracy": float("nan")}}, r"metrics\.accuracy is 'nan'"),
        ("ncm", {"metrics": {"accuracy": 10**400}}, r"metrics\.accuracy is '1000"),
        ("ncm", {"metrics": {"accuracy": 0.5, "intervals": {"accuracy": [1]}}}, r"intervals\.accuracy is '\[1\]'"),
        ("ncm", {"details": {"latency": 3}}, r"details\.latency is '3'"),
        ("ncm", {"details": {"weights": [1]}}, r"details\.weights is"),
        ("ncm", {"settings": {"data_fingerprint": []}}, r"settings\.data_fingerprint is"),
        ("fewshot", {"tier": {}}, r"tier is '\{\}', expected one of"),
        ("fewshot", {"tier": ["none"]}, "tier is"),
        ("fewshot", {"settings": {"tier": {}}, "shots": "four"}, "shots is 'four', expected a whole number"),
        ("fewshot", {"seed": True}, "seed is 'True', expected a whole number"),
    ],
)
def test_runs_with_values_of_another_kind(folder: RunFolder, task: str, changes: dict[str, Any], message: str) -> None:
    few = {"shots": 4, "seed": 1, "tier": "leave-one-out"} if task == "fewshot" else {}
    run(folder, task=task, **few)
    (path,) = folder.folder.glob("*.json")
    assert len(read_runs(folder.folder)) == 1
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FileFormatError, match=message):
        read_runs(folder.folder)


# ---------------------------------------------------------------------- published figures


def test_published_means_follow_from_the_published_figures() -> None:
    """A slip in copying the table would show here."""
    published = _published()
    for row in published["retrieval"]["rows"]:
        agrees = np.mean(list(row["values"].values())) == pytest.approx(row["mean"], abs=0.11)
        assert agrees != ("note" in row), f"{row['method']}, {row['backbone']}: a figure or the note is wrong"
        assert len(row["values"]) == 13
    gda = published["fewshot"]["rows"][0]["values"]
    for k, mean in (("1", 62.19), ("2", 66.20), ("4", 69.77), ("8", 73.31), ("16", 76.05)):
        assert np.mean([by_shots[k] for by_shots in gda.values()]) == pytest.approx(mean, abs=0.02)
    zero = published["zeroshot"]["rows"][0]["values"]
    assert np.mean(list(zero.values())) == pytest.approx(58.89, abs=0.01)


def test_published_figures_are_found_for_exactly_their_model_and_tier() -> None:
    assert reference("image_retrieval", "openclip:ViT-B-32-quickgelu/openai", "oti", "dtd") == 31.9
    assert reference("image_retrieval", "embedded", "oti", "dtd") is None
    assert reference("image_retrieval", B32, "isoclip:150/50", "dtd") is None
    assert reference("fewshot", "openclip:RN50/openai", "gda", "eurosat", shots=16, tier="validation") == 86.12
    assert reference("fewshot", B32, "gda", "eurosat", shots=16, tier="validation") is None
    assert backbone_name(None) is None
    coop = _published()["means"]["sets"]["coop"]
    assert reference_mean("fewshot", B32, "gda", coop, shots=16, tier="validation") == 78.06
    assert reference_mean("fewshot", B32, "gda", coop, shots=16, tier="leave-one-out") is None
    assert reference_mean("fewshot", B32, "gda", coop[1:], shots=16, tier="validation") is None


# ---------------------------------------------------------------------- tables


@pytest.fixture
def records(folder: RunFolder) -> list[dict[str, Any]]:
    latency = {"median_ms": 7.0, "ratio_to_plain": 1.0, "measured": "encode and map"}
    run(folder, 0.7711, {"latency": latency})
    run(folder, 0.82, {"latency": latency | {"ratio_to_plain": 1.5}}, method="isoclip")
    run(folder, 0.25, method="plain", dataset="cub2011")
    run(folder, 0.70, method="isoclip:4/32")
    run(folder, 0.71, method="isoclip:4/0")
    for seed, accuracy in ((1, 0.5), (2, 0.6), (3, 0.7)):
        for tier in ("leave-one-out", "validation"):
            for shots in (1, 4):
                run(
                    folder,
                    accuracy,
                    task="fewshot",
                    method="gda",
                    shots=shots,
                    seed=seed,
                    tier=tier,
                    dataset="arrays:a/b.npz",
                )
    return read_runs(folder.folder)


def test_ours_stands_beside_the_published_figure(records: list[dict[str, Any]]) -> None:
    laid_out = lay_out(records, against="paper")
    retrieval = next(t for t in laid_out if t.title.startswith("Image-to-image"))
    assert retrieval.columns == ("caltech101", "cub2011", "mean", "ms a query")
    rows = {
        (row.label if row.kind == "ours" else previous, row.kind): row for previous, row in _with_owner(retrieval.rows)
    }
    assert rows["plain", "ours"].cells == ("77.1", "25.0", "51.1", "7 (1.00 x plain)")
    assert rows["plain", "published"].cells == ("77.1", "22.9", "50.0", "")
    assert rows["plain", "difference"].cells == ("+0.0", "+2.1", "+1.1", "")
    assert rows["isoclip", "ours"].cells == ("82.0", "", "", "7 (1.50 x plain)")
    assert rows["isoclip", "difference"].cells[:2] == ("+1.2", "")
    assert ("isoclip:4/32", "published") not in rows, "nobody published that band"
    assert "Magistri" in retrieval.note and "cores" in retrieval.note


def _with_owner(rows):
    owner = ""
    for row in rows:
        owner = row.label if row.kind == "ours" else owner
        yield owner, row


def test_runs_of_earlier_versions_are_read_with_the_present_names_of_tiers_and_not_made_again(
    folder: RunFolder,
) -> None:
    earlier = {"none": "leave-one-out", "few": "few-validation", "full": "validation"}
    for tier in earlier:
        run(folder, task="fewshot", method="gda", shots=1, seed=1, tier=tier)
    names = sorted(path.name for path in folder.folder.glob("*.json"))
    assert sorted(record["tier"] for record in read_runs(folder.folder)) == sorted(earlier.values())
    for tier in earlier.values():
        assert run(folder, 0.9, task="fewshot", method="gda", shots=1, seed=1, tier=tier)["metrics"]["accuracy"] == 0.5
    again = RunFolder(folder.folder, overwrite=True)
    assert (
        run(again, 0.9, task="fewshot", method="gda", shots=1, seed=1, tier="validation")["metrics"]["accuracy"] == 0.9
    )
    assert sorted(path.name for path in folder.folder.glob("*.json")) == names


def test_methods_that_use_the_gallery_are_named_below_the_table(folder: RunFolder) -> None:
    run(folder, 0.7, method="plain")
    assert "gallery" not in lay_out(read_runs(folder.folder))[0].note
    run(folder, 0.8, method="plain+smoothing")
    run(folder, 0.9, method="isoclip:auto")
    (table,) = lay_out(read_runs(folder.folder))
    assert [row.label for row in table.rows] == ["plain", "plain+smoothing", "isoclip:auto"]
    assert "Uses the whole gallery, without labels: plain+smoothing, isoclip:auto; the others look at" in table.note


def test_methods_that_use_unlabelled_pictures_are_named_below_every_table_they_are_in(folder: RunFolder) -> None:
    few = {"task": "fewshot", "shots": 1, "seed": 1, "tier": "leave-one-out"}
    for dataset in ("dtd", "eurosat"):
        run(folder, 0.7, dataset=dataset, method="project-and-mix", **few)
    assert not any("unlabelled" in table.note for table in lay_out(read_runs(folder.folder)))
    for dataset in ("dtd", "eurosat"):
        run(folder, 0.8, dataset=dataset, method="project-and-mix+pool", **few)
    tables = lay_out(read_runs(folder.folder))
    assert len(tables) == 3  # two sets and their mean
    for table in tables:
        assert [row.label for row in table.rows] == ["project-and-mix", "project-and-mix+pool"]
        assert "Uses unlabelled pictures, those of the test split: project-and-mix+pool; the others" in table.note


def test_tiers_are_never_in_one_table(records: list[dict[str, Any]]) -> None:
    titles = [table.title for table in lay_out(records) if table.title.startswith("Few-shot")]
    assert titles == [
        f"Few-shot classification, arrays b.npz, {B32}, tier {tier}" for tier in ("leave-one-out", "validation")
    ]
    (table,) = (t for t in lay_out(records) if t.title == titles[1])
    assert table.rows[0].cells == ("60.0 ± 10.0", "60.0 ± 10.0")
    assert "seeds 1, 2, 3" in table.note


def test_a_mean_over_sets_is_of_methods_that_ran_on_all(folder: RunFolder) -> None:
    for dataset, method in (("dtd", "gda"), ("dtd", "lda"), ("eurosat", "gda")):
        run(
            folder,
            0.5 if dataset == "dtd" else 0.7,
            task="fewshot",
            dataset=dataset,
            method=method,
            shots=1,
            seed=1,
            tier="leave-one-out",
        )
    mean = next(t for t in lay_out(read_runs(folder.folder)) if "mean of 2 sets" in t.title)
    assert {row.label: row.cells for row in mean.rows} == {"lda": ("",), "gda": ("60.0",)}


def test_a_seed_that_is_missing_leaves_the_cell_empty(folder: RunFolder) -> None:
    for seed, method in ((1, "gda"), (2, "gda"), (1, "lda")):
        run(folder, task="fewshot", method=method, shots=1, seed=seed, tier="leave-one-out")
    (table,) = lay_out(read_runs(folder.folder))
    assert {row.label: row.cells for row in table.rows} == {"lda": ("",), "gda": ("50.0 ± 0.0",)}


def test_two_runs_for_one_cell_are_refused(folder: RunFolder) -> None:
    run(folder, templates=["a"])
    run(folder, templates=["b"])
    with pytest.raises(InputError, match="two runs for caltech101, plain, caltech101: they differ in templates"):
        lay_out(read_runs(folder.folder))
    records = read_runs(folder.folder)[:1]
    with pytest.raises(InputError, match="they differ in nothing"):
        lay_out([*records, *records])


def test_runs_on_data_that_have_changed_are_left_out(folder: RunFolder) -> None:
    """Those of other methods too, which nobody has measured again: a table never compares figures of two states."""
    for method, value, fingerprint in (
        ("plain", 0.5, "before"),
        ("isoclip", 0.6, "before"),
        ("plain", 0.7, "after"),
        ("text-pca", 0.8, "after"),
    ):
        run(folder, value, method=method, data_fingerprint=fingerprint)
        time.sleep(0.002)  # the clock of a run counts milliseconds
    run(folder, 0.9, method="plain", dataset="cub2011", data_fingerprint="before")
    with pytest.warns(IsomixWarning, match="caltech101 has changed since 2 of its runs were made"):
        (table,) = lay_out(read_runs(folder.folder))
    assert {row.label: row.cells[:2] for row in table.rows} == {"plain": ("70.0", "90.0"), "text-pca": ("80.0", "")}


def test_every_format_holds_every_figure(records: list[dict[str, Any]]) -> None:
    laid_out = lay_out(records, against="paper")
    texts = {form: render(laid_out, form) for form in FORMATS}
    for text in texts.values():
        assert "77.1" in text and "+1.2" in text
    read = list(csv.DictReader(io.StringIO(texts["csv"])))
    cell = [
        r["value"] for r in read if (r["method"], r["kind"], r["column"]) == ("isoclip", "difference", "caltech101")
    ]
    assert cell == ["+1.2"]
    assert texts["markdown"].count("| **82.0** |") == 1, "the best of a column is bold"
    rows = [line for line in texts["latex"].splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {2, 4}
    assert "60.0 $\\pm$ 10.0" in texts["latex"]
    open_tags: list[str] = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Parser().feed(texts["html"].replace("<!doctype html>", ""))
    assert not open_tags
    with pytest.raises(InputError, match="format: got 'word'"):
        render(laid_out, "word")
    with pytest.raises(InputError, match="against: got 'friends'"):
        lay_out(records, against="friends")


def test_figures_are_drawn_for_what_there_is(records: list[dict[str, Any]], tmp_path: Path) -> None:
    written = draw(records, tmp_path / "figures")
    kinds = sorted(path.stem.rsplit("-", 1)[1] for path in written)
    assert kinds == ["bands", "latency", "shots", "shots"]
    assert all(path.read_text().startswith("<?xml") for path in written)
    before = [path.read_bytes() for path in written]
    draw(records, tmp_path / "figures")
    assert before == [path.read_bytes() for path in written]
    assert draw(records[:0], tmp_path / "none") == []


def test_the_heat_map_marks_the_best_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
    plot_bands({Band(0, 0): 0.5, Band(4, 0): 0.6, Band(4, 8): 0.55}, tmp_path / "b.png")
    axes = drawn[0].axes[0]
    np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), [[50, 60], [np.nan, 55]])
    assert (np.mean(axes.lines[0].get_xdata()[:4]), np.mean(axes.lines[0].get_ydata()[:4])) == (1, 0)
    assert [text.get_text() for text in axes.texts if text.get_weight() == "bold"] == ["60.0"]
    with pytest.raises(InputError, match="at least two"):
        plot_bands({Band(0, 0): 0.5}, tmp_path / "b.png")
    with pytest.raises(InputError, match="at least one"):
        plot_latency({}, tmp_path / "l.png")
