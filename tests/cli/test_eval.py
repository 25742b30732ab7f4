"""Whole runs of every protocol from the command line: bundled pictures with the embedded model, and real embeddings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from isomix.benchmark.backbone import Backbone
from isomix.benchmark.banks import Bank
from isomix.benchmark.datasets import DATASETS, Captions, Pictures
from isomix.benchmark.encoding import encode_captions, encode_pictures
from isomix.benchmark.harness import Harness
from isomix.benchmark.protocols import fit_on, retrieval, sides
from isomix.benchmark.runs import RunFolder
from isomix.benchmark.samples import Samples, Vectors
from isomix.encoders import load_encoder
from isomix.metrics import scores_metrics
from isomix.store import EmbeddingTable, embed


@pytest.fixture
def photos(pictures: Path, tmp_path: Path) -> Path:
    """Four classes of the bundled pictures."""
    for name in sorted(folder.name for folder in (pictures / "icons").iterdir())[:4]:
        shutil.copytree(pictures / "icons" / name, tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_every_protocol_on_the_bundled_pictures(cli, pictures: Path, tmp_path: Path) -> None:
    data, runs = f"folder:{pictures / 'icons'}", tmp_path / "runs"
    found = json.loads(cli("eval", "retrieval", data, "--runs", runs, "--latency", 3, "--json").out)
    by_method = {record["method"]: record for record in found}
    assert list(by_method) == ["plain", "pre-projection", "text-pca", "isoclip"]
    plain, iso = (by_method[name]["metrics"]["mean_average_precision"] for name in ("plain", "isoclip"))
    assert iso == pytest.approx(plain, abs=0.005), "the preset of the embedded model leaves out what costs nothing"
    assert plain > 0.75
    assert by_method["isoclip"]["details"]["latency"]["measured"] == "encode and map"
    assert by_method["isoclip"]["details"]["fitted"]["parameters"]["k_bottom"] == 72
    assert cli("eval", "ncm", data, "--runs", runs).code == 0
    assert cli("eval", "zeroshot", data, "--runs", runs).code == 0
    few = (
        "eval",
        "fewshot",
        data,
        "--runs",
        runs,
        "--shots",
        1,
        "--shots",
        4,
        "--seed",
        1,
        "--method",
        "project-and-mix",
    )
    first = json.loads(cli(*few, "--json").out)
    assert [record["shots"] for record in first] == [1, 4]
    assert first[1]["metrics"]["accuracy"] >= first[0]["metrics"]["accuracy"] > 0.5
    assert first[0]["notes"]["templates"] == ["{}"], "the embedded model reads bare names"
    again = cli(*few)
    assert again.out.count("measured before") == 2
    tables = cli("eval", "tables", runs, "--format", "html", "--figures", tmp_path / "figures")
    assert tables.code == 0 and tables.out.count("<table>") == 4
    assert len(list((tmp_path / "figures").glob("*.svg"))) == 2


def test_every_protocol_on_real_embeddings(cli, shared_data: Path, tmp_path: Path) -> None:
    """ViT-B/32 on Caltech101: val as the gallery, as in the measurement that the Text PCA figures come from."""
    with (
        np.load(shared_data / "vitb32_caltech101.npz") as stored,
        np.load(shared_data / "vitb32_imagenet_fewshot.npz") as imagenet,
    ):
        arrays = {part: stored[part] for part in ("test", "test_labels", "val", "val_labels")}
        np.savez(tmp_path / "bank.npz", text=imagenet["text"])
        np.savez(
            tmp_path / "pairs.npz",
            query=arrays["test"],
            query_labels=arrays["test_labels"],
            gallery=arrays["val"],
            gallery_labels=arrays["val_labels"],
        )
        np.savez(
            tmp_path / "shots.npz", train=stored["train_16shots"], train_labels=stored["train_16shots_labels"], **arrays
        )
    runs = tmp_path / "runs"
    pairs = (
        "eval",
        "retrieval",
        f"arrays:{tmp_path / 'pairs.npz'}",
        "--runs",
        runs,
        "--text-bank",
        tmp_path / "bank.npz",
    )
    found = cli(*pairs, "--method", "plain", "--method", "text-pca", "--json")
    plain, text_pca = (record["metrics"]["mean_average_precision"] for record in json.loads(found.out))
    assert plain == pytest.approx(0.789, abs=0.003)
    assert text_pca == pytest.approx(0.845, abs=0.003)
    shots = f"arrays:{tmp_path / 'shots.npz'}"
    (ncm,) = json.loads(cli("eval", "ncm", shots, "--runs", runs, "--method", "plain", "--json").out)
    assert ncm["metrics"]["accuracy"] > 0.85
    few = ("eval", "fewshot", shots, "--runs", runs, "--shots", 4, "--seed", 1, "--method", "nearest-class-mean")
    (one,) = json.loads(cli(*few, "--json").out)
    assert 0.8 < one["metrics"]["accuracy"] < ncm["metrics"]["accuracy"]
    refused = cli("eval", "zeroshot", shots, "--runs", runs)
    assert refused.code == 1 and "name the model with --model" in refused.err


def test_a_table_is_a_data_set(cli, photos: Path, tmp_path: Path) -> None:
    embed(photos, tmp_path / "t.lance", load_encoder("embedded"), labels="folders", keep_features=True)
    found = json.loads(
        cli("eval", "retrieval", f"table:{tmp_path / 't.lance'}", "--runs", tmp_path / "runs", "--json").out
    )
    direct = json.loads(cli("eval", "retrieval", f"folder:{photos}", "--runs", tmp_path / "runs", "--json").out)
    for one, other in zip(found, direct, strict=True):
        assert one["metrics"]["mean_average_precision"] == pytest.approx(
            other["metrics"]["mean_average_precision"], abs=2e-3
        )
    wrong = cli(
        "eval", "retrieval", f"table:{tmp_path / 't.lance'}", "--runs", tmp_path / "r", "--model", "embedded:as-trained"
    )
    assert wrong.code == 1 and "name the model that made it" in wrong.err


def test_pictures_are_encoded_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(RunFolder(tmp_path / "runs"))
    encoder = harness._backbone("embedded", "").encoder
    counted: list[int] = []
    forward = encoder.forward_pixels
    monkeypatch.setattr(encoder, "forward_pixels", lambda pixels: (counted.append(len(pixels)), forward(pixels))[1])
    files = sorted(photos.rglob("*.png"))
    n = len(files)
    list(harness.retrieval(f"folder:{photos}", ["plain"]))
    assert sum(counted) == n
    list(harness.ncm(f"folder:{photos}", ["plain"]))
    assert sum(counted) == n
    files[0].write_bytes(files[-1].read_bytes())
    with pytest.warns(UserWarning, match="equal an earlier one"):
        (result,) = harness.retrieval(f"folder:{photos}", ["plain"])
    assert sum(counted) == n + 1
    assert result.measured, "other pictures, another run"


def test_few_shot_encodes_what_it_looks_at(pictures: Path, tmp_path: Path) -> None:
    classes = sorted((pictures / "icons").iterdir())[:3]
    for split, style in (("train", slice(0, 4)), ("test", slice(4, 6))):
        for folder in classes:
            for picture in sorted(folder.iterdir())[style]:
                target = tmp_path / "d" / split / folder.name / picture.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(picture, target)
    spec = f"folder:{tmp_path / 'd'}"
    harness = Harness(RunFolder(tmp_path / "runs"))
    asked = {"shots": [1], "seeds": [1], "tiers": ["leave-one-out"]}
    (part,) = harness.few_shot(spec, ["project-and-mix"], **asked)
    (table,) = (tmp_path / "runs" / "features").glob("*.lance")
    assert len(EmbeddingTable.open(table)) == 3 + 6, "one shot of three classes, and the test split"
    list(harness.retrieval(spec, ["plain"]))
    assert len(EmbeddingTable.open(table)) == 12 + 6
    (same,) = harness.few_shot(spec, ["project-and-mix"], **asked)
    assert not same.measured and same.record == part.record


def test_an_unreadable_picture_stops_or_is_said(cli, photos: Path, tmp_path: Path) -> None:
    broken = photos / sorted(f.name for f in photos.iterdir())[0] / "broken.png"
    broken.write_bytes(b"no picture")
    stopped = cli("eval", "retrieval", f"folder:{photos}", "--runs", tmp_path / "runs", "--method", "plain")
    assert stopped.code == 1 and "1 of" in stopped.err and "broken.png" in stopped.err
    skipped = cli(
        "eval",
        "retrieval",
        f"folder:{photos}",
        "--runs",
        tmp_path / "runs",
        "--method",
        "plain",
        "--skip-unreadable",
        "--json",
    )
    (record,) = json.loads(skipped.out)
    assert record["settings"]["unreadable"] == [f"{broken.parent.name}/broken.png"]


def test_what_cannot_be_measured_is_skipped_with_its_reason(cli, photos: Path, tmp_path: Path) -> None:
    call = ("eval", "retrieval", f"folder:{photos}", "--runs", tmp_path / "runs", "--method", "plain")
    some = cli(*call, "--method", "oti")
    assert some.code == 3 and "Modality inversion needs" in some.err and "plain" in some.out
    unknown = cli(*call, "--method", "magic")
    assert unknown.code == 1 and "expected one of plain" in unknown.err
    few = cli(
        "eval",
        "fewshot",
        f"folder:{photos}",
        "--runs",
        tmp_path / "runs",
        "--shots",
        1,
        "--seed",
        1,
        "--tier",
        "validation",
    )
    assert few.code == 1 and "none" not in few.out


def test_datasets_are_listed_with_their_status(cli, tmp_path: Path) -> None:
    (tmp_path / "dtd").mkdir()
    listed = {row["name"]: row for row in json.loads(cli("eval", "datasets", "--root", tmp_path, "--json").out)}
    assert set(listed) == set(DATASETS)
    assert (listed["dtd"]["status"], listed["coco"]["status"]) == ("incomplete", "not here")
    assert "split_zhou_DescribableTextures.json" in listed["dtd"]["problem"]
    shown = cli("eval", "datasets", "--root", tmp_path)
    assert shown.code == 0 and "incomplete" in shown.out and "arrays:PATH.npz" in shown.out


def test_tables_of_nothing(cli, tmp_path: Path) -> None:
    empty = cli("eval", "tables", tmp_path)
    assert empty.code == 1 and "holds no runs" in empty.err


# ---------------------------------------------------------------------- parts that need a model


def test_captions_are_searched_by_the_first_of_each_image() -> None:
    sentences = ("a key", "the old key", "a heart", "a red heart", "one heart")
    samples = encode_captions(Captions("toy", sentences, np.array([0, 0, 1, 1, 1])), Backbone("embedded"))
    assert samples.splits.tolist() == ["query", "gallery", "query", "gallery", "gallery"]
    assert samples.modality == "text"
    fitted = fit_on(samples, sides(samples).gallery, "plain", None, lambda: Bank("none", np.eye(2)))
    assert retrieval(samples, fitted).metrics["n_queries"] == 2


def test_text_to_text_retrieval_from_the_command_line(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = Captions("toy", ("a key", "the old key", "a heart", "a red heart"), np.array([0, 0, 1, 1]))
    monkeypatch.setitem(DATASETS, "toy", SimpleNamespace(load=lambda root: captions))
    found = cli(
        "eval", "retrieval", "toy", "--runs", tmp_path, "--method", "plain", "--method", "isoclip:2/20", "--json"
    )
    records = json.loads(found.out)
    assert [record["task"] for record in records] == ["text_retrieval"] * 2
    assert records[1]["details"]["fitted"]["parameters"]["modality"] == "text"
    assert cli("eval", "ncm", "toy", "--runs", tmp_path).code == 1


@pytest.fixture
def landmarks(tmp_path: Path, rng: np.random.Generator) -> Callable[[tuple[int, ...]], Pictures]:
    """One query, a part of its picture, and two database pictures, one of which is that part."""
    root = tmp_path / "jpg"
    root.mkdir()
    pixels = rng.integers(0, 255, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "q.png")
    Image.fromarray(pixels[10:60, 20:90]).save(root / "part.png")
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(root / "other.png")
    truth = ({"easy": np.array([0]), "hard": np.array([0]), "junk": np.array([], int)},)

    def make(box: tuple[int, ...]) -> Pictures:
        return Pictures(
            "marks",
            root,
            ("q.png", "part.png", "other.png"),
            np.full(3, -1),
            np.array(["query", "gallery", "gallery"]),
            (),
            (),
            "query",
            "gallery",
            {0: box},
            truth,
        )

    return make


def test_landmark_queries_are_cut_to_their_box(landmarks, tmp_path: Path) -> None:
    backbone = Backbone("embedded")
    for _ in range(2):  # encoded, then read
        samples = encode_pictures(landmarks((20, 10, 90, 60)), backbone, tmp_path / "cache")
        E = samples.vectors.embeddings
        np.testing.assert_allclose(E[0] @ E[1], 1.0, atol=1e-5)
    moved = encode_pictures(landmarks((0, 0, 30, 30)), backbone, tmp_path / "cache").vectors.embeddings
    assert moved[0] @ moved[1] < 0.999, "another box is encoded again"


def test_inversion_turns_the_queries(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTI on a CLIP of random weights, all against all: every query becomes a text, and never finds itself."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from isomix.inversion import TextualInversion

    # The paper's 150 steps are the business of the tests of inversion.
    monkeypatch.setitem(TextualInversion.__init__.__kwdefaults__, "n_steps", 5)
    torch.manual_seed(0)
    layers = {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    text = transformers.CLIPTextConfig(vocab_size=20, eos_token_id=19, max_position_embeddings=8, **layers)
    vision = transformers.CLIPVisionConfig(image_size=32, patch_size=16, **layers)
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    encoder = load_encoder("embedded")
    encoder.torch_model = transformers.CLIPModel(config).eval()
    encoder.tokenizer = lambda part: {"input_ids": [18, *range(3, 3 + len(part.split())), 19]}
    backbone = Backbone("embedded")
    backbone.__dict__["encoder"] = encoder
    E = rng.normal(size=(12, 8)).astype(np.float32)
    splits = np.full(12, "")
    samples = Samples("toy", Vectors(E, None), np.arange(12) % 3, splits, ("a", "b", "c"))
    fitted = fit_on(samples, np.arange(12), "oti", backbone, lambda: Bank("none", np.eye(2)))
    queries = fitted.queries(samples.vectors)
    wanted = scores_metrics(queries @ fitted.gallery(samples.vectors).T - 9 * np.eye(12), _others(samples.labels))
    found = retrieval(samples, fitted).metrics
    assert found["mean_average_precision"] == pytest.approx(wanted["mean_average_precision"], abs=1e-6)
    assert fitted.description["n_steps"] == 5


def _others(labels: np.ndarray) -> np.ndarray:
    return (labels[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
