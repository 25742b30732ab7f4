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


def test_names_that_the_pictures_contradict_are_said(cli, shots, tmp_path):
    """Every name moved on by one class."""
    moved = zip(CONCEPTS, [*CONCEPTS[1:], CONCEPTS[0]], strict=True)
    lines = ["label,name", *(f"{label},{name}" for label, name in moved)]
    (tmp_path / "names.csv").write_text("\n".join(lines), encoding="utf-8")
    words = ("fit", shots / "shots", "-o", tmp_path / "m.safetensors", "--names", tmp_path / "names.csv", "--folds", 0)
    printed = " ".join(cli(*words).out.split())
    assert (
        f"texts of 4 of 4 classes are not trusted, their pictures look like other names: {', '.join(CONCEPTS)}"
        in printed
    )
    summary = json.loads(cli(*words, "--overwrite", "--json").out)
    assert summary["untrusted_texts"] == list(CONCEPTS) and summary["weights"]["mixing_weight"] == 1.0
    right = json.loads(cli(*words[:4], "--folds", 0, "--overwrite", "--json").out)
    assert right["untrusted_texts"] == []


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


@pytest.fixture
def with_empty(shots, tmp_path):
    """The shots, a folder without pictures, and one whose only picture is broken."""
    shutil.copytree(shots / "shots", tmp_path / "some")
    (tmp_path / "some" / "rain_coat").mkdir()
    (tmp_path / "some" / "moon").mkdir()
    (tmp_path / "some" / "moon" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "some" / ".hidden").mkdir()
    return tmp_path / "some"


def test_class_folders_without_pictures_are_said(cli, with_empty, tmp_path):
    fitted = cli("fit", with_empty, "-o", tmp_path / "m.safetensors")
    assert fitted.code == 3, "a picture was skipped"
    assert "warning: no picture of 'moon', 'rain_coat' can be read" in fitted.err
    assert "--zero-shot" in fitted.err
    assert load_classifier(tmp_path / "m.safetensors").classes_.tolist() == list(CONCEPTS)


def test_class_folders_without_pictures_become_classes_by_name(cli, with_empty, tmp_path):
    (tmp_path / "names.csv").write_text("label;name\nmoon;a crescent moon\nghost;a ghost\n", encoding="utf-8")
    words = ("fit", with_empty, "-o", tmp_path / "m.safetensors", "--names", tmp_path / "names.csv")
    refused = cli(*words)
    assert refused.code == 2 and "--zero-shot" in refused.err and "ghost" in refused.err
    fitted = cli(*words, "--zero-shot")
    assert fitted.code == 3
    assert "warning" not in fitted.err
    assert "4 classes, 4 pictures each" in fitted.out
    assert "known by name alone: ghost, moon, rain_coat" in fitted.out
    classifier = load_classifier(tmp_path / "m.safetensors")
    assert classifier.classes_.tolist() == sorted([*CONCEPTS, "ghost", "moon", "rain_coat"])
    assert cli("fit", with_empty, "-o", tmp_path / "n.safetensors", "--zero-shot", "--no-text").code == 2


def test_a_class_known_by_its_name_is_recognised(cli, with_empty, pictures, tmp_path):
    (with_empty / "key").mkdir()
    cli("fit", with_empty, "-o", tmp_path / "m.safetensors", "--zero-shot")
    lines = cli("classify", tmp_path / "m.safetensors", pictures / "icons" / "key", "--json").out.splitlines()
    assert np.mean([json.loads(line)["label"] == "key" for line in lines]) > 0.5  # chance: 1 in 7


def test_a_wrong_label_is_the_first_suspect(cli, shots, tmp_path):
    shutil.copytree(shots / "shots", tmp_path / "some")
    wrong = min((shots / "queries" / "heart").iterdir())
    shutil.copy(wrong, tmp_path / "some" / "star" / "mislaid.png")
    fitted = cli("fit", tmp_path / "some", "-o", tmp_path / "m.safetensors")
    lines = fitted.out.splitlines()
    at = lines.index("pictures that look most like another class; is the label right?")
    assert lines[at + 1] == "  star/mislaid.png: looks like heart"
    summary = json.loads(cli("fit", tmp_path / "some", "-o", tmp_path / "m.safetensors", "--overwrite", "--json").out)
    assert summary["cross_validation"]["suspects"][0] == {
        "path": "star/mislaid.png",
        "label": "star",
        "taken_for": "heart",
    }


def test_csv_of_shots_and_one_picture(cli, shots, tmp_path):
    listed = [(path, path.parent.name) for path in sorted((shots / "shots").glob("*/*"))]
    for comma in ",;":
        text = f"path{comma}label\n" + "".join(f"{path}{comma}{label}\n" for path, label in listed)
        (tmp_path / "shots.csv").write_text(text, encoding="utf-8")
        fitted = cli("fit", tmp_path / "shots.csv", "-o", tmp_path / "m.safetensors", "--overwrite")
        assert fitted.code == 0 and "16 in all" in fitted.out
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


def test_several_sources_are_classified_in_one_call(cli, model, shots, tmp_path):
    stars = sorted((shots / "queries" / "star").iterdir())
    cli("embed", stars[0], "-o", tmp_path / "one.lance")
    result = cli("classify", model, *stars[1:3], shots / "queries" / "bell", tmp_path / "one.lance", "--json")
    assert result.code == 0
    paths = [json.loads(line)["path"] for line in result.out.splitlines()]
    bells = sorted((shots / "queries" / "bell").iterdir())
    assert sorted(paths) == sorted(str(path.resolve()) for path in (*stars[:3], *bells))


def test_every_failure_is_named(cli, model, shots, tmp_path):
    shutil.copytree(shots / "queries" / "bell", tmp_path / "queries")
    for i in range(8):
        (tmp_path / "queries" / f"broken{i}.png").write_bytes(b"not a picture")
    result = cli("classify", model, tmp_path / "queries")
    assert all(f"skipped broken{i}.png" in result.err for i in range(8))


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


def subset(shots, folder, counts):
    """A folder of classes with so many pictures each."""
    for concept, count in counts.items():
        (folder / concept).mkdir(parents=True)
        for path in sorted((shots / "shots" / concept).iterdir())[:count]:
            shutil.copy(path, folder / concept)
    return folder


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_a_new_user_reads(cli, shots, tmp_path, count):
    """At 80 columns, in whole words, and in those of the command line."""
    folder = subset(shots, tmp_path / "some", dict.fromkeys(CONCEPTS, count))
    fitted = cli("fit", folder, "-o", tmp_path / "m.safetensors")
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    assert fitted.out.startswith(f"project-and-mix: 4 classes, {pictures} each, {4 * count} in all\n")
    assert "warning" not in fitted.err and "calibrate=" not in fitted.out
    assert max(map(len, fitted.out.splitlines())) <= 80
    assert all(line.rstrip() == line for line in fitted.out.splitlines())


def test_the_class_with_one_picture_is_named(cli, shots, tmp_path):
    folder = subset(shots, tmp_path / "some", dict.fromkeys(CONCEPTS, 2) | {"bell": 1})
    fitted = cli("fit", folder, "-o", tmp_path / "m.safetensors")
    assert "4 classes, 1 to 2 pictures each, 7 in all" in fitted.out
    assert "pictures or more of every class; there is one of bell" in " ".join(fitted.out.split())


def test_too_few_second_pictures_to_calibrate_on(cli, shots, tmp_path):
    folder = subset(shots, tmp_path / "some", dict.fromkeys(CONCEPTS, 1) | {"bell": 2})
    fitted = cli("fit", folder, "-o", tmp_path / "m.safetensors")
    assert "probabilities: not calibrated; too few classes have a second picture" in fitted.out


def test_a_typo_in_the_names(cli, shots, tmp_path):
    """Refused with the name that was meant; a class of its own with --zero-shot, said once."""
    (tmp_path / "names.csv").write_text("label,name\nbelll,a ringing bell\n", encoding="utf-8")
    words = ("fit", shots / "shots", "-o", tmp_path / "m.safetensors", "--names", tmp_path / "names.csv")
    refused = cli(*words)
    assert refused.code == 2 and "belll (near bell)" in " ".join(refused.err.replace("│", " ").split())
    fitted = cli(*words, "--zero-shot")
    said = " ".join(fitted.err.split())
    assert fitted.code == 0 and said.count("warning") == 1
    assert "no pictures of belll (near bell), which --zero-shot makes a class of its own" in said
    assert "text=" not in said and "IsomixWarning" not in said


def test_a_picture_in_two_classes_goes_by_its_paths(cli, shots, tmp_path):
    folder = subset(shots, tmp_path / "some", dict.fromkeys(CONCEPTS, 2))
    twin = min((folder / "bell").iterdir())
    others = [concept for concept in CONCEPTS if concept != "bell"]
    shutil.copy(twin, folder / others[-1] / "twin.png")
    fitted = cli("fit", folder, "-o", tmp_path / "m.safetensors")
    assert fitted.code == 1 and f"bell/{twin.name}" in fitted.err and f"{others[-1]}/twin.png" in fitted.err


def test_nothing_is_printed_before_a_source_that_is_not_there(cli, model, tmp_path):
    result = cli("classify", model, tmp_path / "nowhere")
    assert result.code == 1 and "does not exist" in result.err and result.out == ""


def test_inspect_compares_names_with_pictures(cli, shots, tmp_path):
    """The shrinkage report of a classifier, readable at 80 columns, and whole with --json."""
    from isomix.fewshot import load_classifier, shrinkage_report

    cli("fit", shots / "shots", "-o", tmp_path / "m.safetensors")
    shown = cli("inspect", tmp_path / "m.safetensors")
    assert shown.code == 0 and max(map(len, shown.out.splitlines()[1:])) <= 80
    assert "4 classes, 4 pictures each, 16 in all" in shown.out and "leave-one-out: ensemble_weight" in shown.out
    report = shrinkage_report(load_classifier(tmp_path / "m.safetensors"))
    rows = [line.split() for line in shown.out.splitlines() if line.split() and line.split()[0] in CONCEPTS]
    expected = {
        label: (f"{bias:.3f}", f"{report.image_variance / 4:.3f}", f"{weight:.2f}")
        for label, bias, weight in zip(report.classes, report.text_bias_squared, report.implied_weights, strict=True)
    }
    assert {row[0]: tuple(row[2:]) for row in rows} == expected
    assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)
    text = " ".join(shown.out.split())
    assert f"would be {report.pooled_weight:.2f}" in text and f"classifier uses {report.chosen_weight:.2f}" in text
    whole = json.loads(cli("inspect", tmp_path / "m.safetensors", "--json").out)
    assert whole["what"] == "classifier" and whole["classes"] == dict.fromkeys(CONCEPTS, 4.0)
    assert [row["label"] for row in whole["shrinkage"]["classes"]] == [row[0] for row in rows]
    assert whole["shrinkage"]["chosen_weight"] == report.chosen_weight


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [(1, (), "with one picture a class it is unknown how much they differ"), (3, ("--no-text",), "on pictures alone")],
)
def test_inspect_says_why_there_is_nothing_to_compare(cli, shots, tmp_path, count, words, said):
    folder = subset(shots, tmp_path / "some", dict.fromkeys(CONCEPTS, count))
    cli("fit", folder, "-o", tmp_path / "m.safetensors", *words)
    shown = cli("inspect", tmp_path / "m.safetensors")
    assert shown.code == 0 and said in " ".join(shown.out.split())
    whole = json.loads(cli("inspect", tmp_path / "m.safetensors", "--json").out)
    assert whole["shrinkage"] is None and whole["why_no_shrinkage"]


@pytest.fixture(scope="module")
def icons(pictures, tmp_path_factory):
    """Two icons of each of 52 concepts, the rest to classify, and what the library makes of the two."""
    from isomix import ProjectAndMix, load_encoder
    from isomix.encoders.prompts import encode_classes
    from isomix.store.labelled import read_shots

    root = tmp_path_factory.mktemp("icons")
    for path in sorted((pictures / "icons").glob("*/*.png")):
        folder = root / ("shots" if path.stem in ("ion", "vaadin") else "rest") / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    encoder = load_encoder("embedded")
    read = read_shots(root / "shots", encoder)
    classifier = ProjectAndMix(logit_scale=encoder.logit_scale, calibrate=True)
    classifier.fit(read.embeddings, read.labels, encode_classes(encoder, sorted(set(read.labels))))
    classifier.save(root / "icons.safetensors", source={"model": encoder.spec, "fingerprint": encoder.fingerprint})
    return root


def said_of_the_pool(err: str) -> str:
    """The one line about it, on stderr."""
    (line,) = [line for line in err.splitlines() if "pool" in line or "transductive" in line]
    return line


def test_transductive_says_how_far_it_trusts_the_pictures_and_is_no_worse(cli, icons):
    shares = {}
    for more in ((), ("--transductive",)):
        result = cli("classify", icons / "icons.safetensors", icons / "rest", *more)
        assert result.code == 0
        rows = list(csv.DictReader(io.StringIO(result.out)))
        assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
        shares[more] = np.mean([row["path"].split("/")[0] == row["label"] for row in rows])
    line = said_of_the_pool(result.err)
    assert line.startswith("--transductive: the pool is used with weight 0.")
    assert f"({len(rows)} pictures, " in line and "cohesive mass" in line and "gain on the shots" in line
    assert shares["--transductive",] >= shares[()]


@pytest.mark.parametrize("count", [1, 10])
def test_few_pictures_are_no_pool(cli, icons, tmp_path, count):
    paths = sorted((icons / "rest").glob("*/*.png"))[:: len(list((icons / "rest").glob("*/*.png"))) // count][:count]
    alone = cli("classify", icons / "icons.safetensors", *paths)
    together = cli("classify", icons / "icons.safetensors", *paths, "--transductive")
    assert together.out == alone.out and together.code == 0
    line = said_of_the_pool(together.err)
    assert "not used: more than 3 pictures a class are needed" in line and f"({count} pictures" in line


def test_no_picture_that_can_be_read_is_no_pool(cli, icons, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    result = cli("classify", icons / "icons.safetensors", tmp_path / "broken.png", "--transductive")
    assert result.code == 3
    assert result.out == "path,label,probability\n"
    assert "--transductive: no picture could be read" in result.err


def test_the_shots_themselves_are_no_pool(cli, icons):
    """A classifier in a file has no shots to know them by: they are two a class, which is too few."""
    for folder in ("shots", "shots/bell"):
        alone = cli("classify", icons / "icons.safetensors", icons / folder)
        together = cli("classify", icons / "icons.safetensors", icons / folder, "--transductive")
        assert together.out == alone.out
        assert "the pool is not used" in said_of_the_pool(together.err)


def test_strangers_do_no_harm(cli, icons, pictures):
    """Emoji among icons: by the library, twelve drawings a class are of other styles; here only the labels of icons count."""
    accuracy = {}
    for more in ((), ("--transductive",)):
        words = ("classify", icons / "icons.safetensors", icons / "rest", pictures / "emoji")
        rows = list(csv.DictReader(io.StringIO(cli(*words, *more).out)))
        labelled = [(row["path"].split("/")[-2], row["label"]) for row in rows if "/rest/" in row["path"]]
        accuracy[more] = np.mean([truth == label for truth, label in labelled])
    assert len(rows) > len(labelled) > 200
    assert accuracy["--transductive",] >= accuracy[()] - 0.003


def test_transductive_is_refused_where_there_is_no_text(cli, shots, tmp_path):
    assert cli("fit", shots / "shots", "-o", tmp_path / "m.safetensors", "--method", "lda").code == 0
    refused = cli("classify", tmp_path / "m.safetensors", shots / "queries", "--transductive")
    assert refused.code == 1 and refused.out == ""
    assert "LDA takes no unlabelled pictures; GDA, MixedPrototypes, ProjectAndMix" in " ".join(refused.err.split())
    assert cli("fit", shots / "shots", "-o", tmp_path / "n.safetensors", "--no-text").code == 0
    refused = cli("classify", tmp_path / "n.safetensors", shots / "queries", "--transductive")
    assert refused.code == 1 and "no text" in refused.err
