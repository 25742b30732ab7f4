"""The verbs fit and classify, on real pictures with the embedded model."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest

from isomix.fewshot import CLASSIFIERS, load_classifier

CONCEPTS = ("bell", "camera", "heart", "star")


@pytest.fixture(scope="module")
def shots(pictures, tmp_path_factory):
    """Four pictures of each of four concepts, and the rest to classify."""
    root = tmp_path_factory.mktemp("shots")
    for concept in CONCEPTS:
        for index, path in enumerate(sorted((pictures / "icons" / concept).iterdir())):
            folder = root / ("shots" if index < 4 else "queries") / concept
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)
    return root


@pytest.fixture(scope="module")
def model(shots, tmp_path_factory):
    """A classifier fitted on them, through the library."""
    from isomix import ProjectAndMix, load_encoder
    from isomix.encoders.prompts import encode_classes
    from isomix.store.labelled import read_shots

    encoder = load_encoder("embedded")
    read = read_shots(shots / "shots", encoder)
    classifier = ProjectAndMix(logit_scale=encoder.logit_scale, calibrate=True)
    classifier.fit(read.embeddings, read.labels, encode_classes(encoder, CONCEPTS))
    path = tmp_path_factory.mktemp("model") / "icons.safetensors"
    classifier.save(path, source={"model": encoder.spec, "fingerprint": encoder.fingerprint})
    return path


def test_fit_then_classify(cli, shots, tmp_path):
    fitted = cli("fit", shots / "shots", "-o", tmp_path / "m.safetensors")
    assert fitted.code == 0, fitted.err
    assert "project-and-mix: 4 classes, 4 pictures each, 16 in all" in fitted.out
    assert "cross-validated accuracy" in fitted.out
    assert max(map(len, fitted.out.splitlines())) <= 80
    result = cli("classify", tmp_path / "m.safetensors", shots / "queries")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert result.code == 0
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert np.mean([row["path"].split("/")[0] == row["label"] for row in rows]) > 0.5  # chance: 0.25
    assert all(0.25 <= float(row["probability"]) <= 1 for row in rows)


def test_the_file_gives_what_the_library_gives(cli, shots, tmp_path):
    from isomix import load_classifier, load_encoder
    from isomix.store.labelled import read_shots

    cli("fit", shots / "shots", "-o", tmp_path / "m.safetensors", "--folds", 0)
    lines = cli("classify", tmp_path / "m.safetensors", shots / "queries", "--json", "--probabilities").out.splitlines()
    printed = np.array([list(json.loads(line)["probabilities"].values()) for line in lines])
    read = read_shots(shots / "queries", load_encoder("embedded"))
    np.testing.assert_allclose(
        printed, load_classifier(tmp_path / "m.safetensors").predict_proba(read.embeddings), atol=2e-6
    )


def test_fit_json_and_names(cli, shots, tmp_path):
    (tmp_path / "names.csv").write_text("label,name\nbell,a ringing bell\n", encoding="utf-8")
    result = cli("fit", shots / "shots", "-o", tmp_path / "m.safetensors", "--names", tmp_path / "names.csv", "--json")
    summary = json.loads(result.out)
    assert summary["classes"] == dict.fromkeys(CONCEPTS, 4)
    assert summary["cross_validation"]["n"] == 16
    assert set(summary["weights"]) >= {"mixing_weight", "ensemble_weight"}


@pytest.mark.parametrize("method", sorted(CLASSIFIERS))
def test_every_method_is_calibrated(cli, shots, tmp_path, method):
    """Every method gives calibrated probabilities, says so, and prints what it chose."""
    fitted = cli("fit", shots / "shots", "-o", tmp_path / "m.safetensors", "--method", method)
    assert fitted.code == 0
    assert "probabilities: calibrated" in fitted.out
    classifier = load_classifier(tmp_path / "m.safetensors")
    assert classifier.calibrate and classifier.temperature_ != 1.0
    chosen = ", ".join(f"{name} {value:.3g}" for name, value in classifier.weights_.items())
    line = f"weights ({classifier.weight_tier_}): {chosen}" if chosen else "weights: none to choose"
    assert line in " ".join(fitted.out.split())
    assert cli("classify", tmp_path / "m.safetensors", shots / "queries" / "bell").code == 0


def test_where_weights_come_from_is_said(cli, shots, tmp_path):
    fitted = cli("fit", shots / "shots", "-o", tmp_path / "m.safetensors")
    assert "weights (leave-one-out): " in fitted.out


def test_one_shot_cannot_be_calibrated_and_it_is_said(cli, shots, tmp_path):
    for concept in CONCEPTS:
        (tmp_path / "one" / concept).mkdir(parents=True)
        shutil.copy(min((shots / "shots" / concept).iterdir()), tmp_path / "one" / concept)
    fitted = cli("fit", tmp_path / "one", "-o", tmp_path / "m.safetensors")
    assert fitted.code == 0
    assert "probabilities: not calibrated; at one picture a class none can be left out" in fitted.out
    assert "weights (prior): " in fitted.out
    summary = json.loads(cli("fit", tmp_path / "one", "-o", tmp_path / "m.safetensors", "--overwrite", "--json").out)
    assert (summary["calibrated"], summary["weight_tier"]) == (False, "prior")


def test_csv_of_shots_and_one_picture(cli, shots, tmp_path):
    listed = [(path, path.parent.name) for path in sorted((shots / "shots").glob("*/*"))]
    text = "path,label\n" + "".join(f"{path},{label}\n" for path, label in listed)
    (tmp_path / "shots.csv").write_text(text, encoding="utf-8")
    assert cli("fit", tmp_path / "shots.csv", "-o", tmp_path / "m.safetensors").code == 0
    result = cli("classify", tmp_path / "m.safetensors", listed[0][0])
    assert result.out.splitlines()[1].startswith(f"{listed[0][0].name},bell,")


def test_an_unreadable_picture_is_named_and_skipped(cli, model, shots, tmp_path):
    folder = tmp_path / "queries"
    shutil.copytree(shots / "queries" / "bell", folder)
    (folder / "broken.png").write_bytes(b"not a picture")
    result = cli("classify", model, folder, "-o", tmp_path / "out.csv")
    assert result.code == 3
    assert "skipped broken.png" in result.err
    assert "broken.png" not in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_reject_below_leaves_the_label_empty(cli, model, shots):
    everything = list(csv.DictReader(io.StringIO(cli("classify", model, shots / "queries").out)))
    threshold = float(np.median([float(row["probability"]) for row in everything]))
    rows = list(csv.DictReader(io.StringIO(cli("classify", model, shots / "queries", "--reject-below", threshold).out)))
    assert [row["label"] == "" for row in rows] == [float(row["probability"]) < threshold for row in rows]
    assert {row["label"] == "" for row in rows} == {True, False}


def test_nothing_is_overwritten(cli, model, shots):
    before = model.read_bytes()
    result = cli("fit", shots / "shots", "-o", model)
    assert (result.code, model.read_bytes()) == (2, before)
    assert "--overwrite" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--method", "magic"], 2, "project-and-mix"),
        (["--template", "a photo"], 1, "in the place of the class name"),
        (["--names", "nowhere.csv"], 2, "nowhere.csv"),
        (["--model", "hf:no/such-model", "--offline"], 1, "offline"),
    ],
)
def test_wrong_arguments(cli, shots, tmp_path, arguments, code, message):
    result = cli("fit", shots / "shots", "-o", tmp_path / "m.safetensors", *arguments)
    assert result.code == code
    assert message in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err
    assert not (tmp_path / "m.safetensors").exists()


def test_shots_without_labels(cli, shots, tmp_path):
    result = cli("fit", shots / "shots" / "bell", "-o", tmp_path / "m.safetensors")
    assert result.code == 1
    assert "without a label" in result.err


def test_classify_with_something_that_is_no_classifier(cli, shots, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"junk")
    result = cli("classify", tmp_path / "m.safetensors", shots / "queries")
    assert result.code == 1
    assert "not a safetensors file" in result.err


def test_classifier_of_another_encoder(cli, model, shots, tmp_path):
    from isomix import load_classifier

    load_classifier(model).save(tmp_path / "m.safetensors", source={"model": "embedded", "fingerprint": "0" * 64})
    result = cli("classify", tmp_path / "m.safetensors", shots / "queries")
    assert result.code == 1
    assert "make it again" in result.err
