"""Training: batches, loss, the loop's memory of where it was, and what it learns on a small data set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isomix.errors import InputError
from training.model.batches import Sampler, TrainingSet, generators
from training.model.look import cross_style_map, look
from training.model.project import ProjectConfig, encode_texts, fit_projectors
from training.model.recipe import Leg, TrainConfig
from training.model.run import Run, contrastive_loss
from training.model.teacher import DistillConfig, Teacher, distill_text, nouns
from training.model.text import Captions, tokenize
from training.model.tower import Model, TextTower, TowerConfig, normalized
from training.model.train import load_model, train

TOWER = TowerConfig((8, 16, 32), (1, 1, 1), stem_width=8, text_width=32, text_hidden=32, embedding=24)
CONFIG = TrainConfig((Leg(32, 10**6),), batch=32, warmup=5, precision="float32", threads=1, tower=TOWER)
TOML = """
[train]
legs = [{ side = 32, samples = 128 }, { side = 64, samples = 64 }]
batch = 32
warmup = 2
threads = 1
checkpoint_every = 100
look_every = 3
[train.tower]
image_widths = [8, 16, 32]
image_depths = [1, 1, 1]
stem_width = 8
text_width = 32
text_hidden = 32
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(small_output: Path) -> TrainingSet:
    return TrainingSet.load(small_output / "dataset", small_output / "levels", development=0.1)


@pytest.fixture
def output(small_output: Path, tmp_path: Path) -> Path:
    """An output folder of its own on the same data set."""
    (tmp_path / "dataset").symlink_to(small_output / "dataset")
    (tmp_path / "config.toml").write_text(TOML, encoding="utf-8")
    return tmp_path


def losses(output: Path, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (output / "runs" / name / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def test_only_training_pictures_are_there(data):
    assert len(data.concept) == 180
    assert data.level(32).shape == (180, 4, 32, 32)
    assert "held out" not in data.captions.texts


def test_development_concepts_are_never_drawn(data):
    assert len(data.development) > 3
    assert len(data.train) + len(data.development) == 180
    assert not set(data.concept[data.train]) & set(data.concept[data.development])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), per_concept=st.sampled_from([1, 2]), power=st.floats(0, 1))
def test_batches(data, seed, per_concept, power):
    sampler = Sampler(data, power=power, label=0.5, per_concept=per_concept)
    batch = sampler.draw(32, generators(seed, 3)[0])
    _, counts = np.unique(batch.concepts, return_counts=True)
    assert set(counts) == {per_concept}
    assert len(np.unique(batch.pictures)) == 32
    assert np.isin(batch.pictures, data.train).all()
    assert (data.concept[batch.pictures] == batch.concepts).all()
    for picture, text in zip(batch.pictures, batch.texts):
        assert text in data.captions.ids[data.captions.starts[picture] : data.captions.starts[picture + 1]]


def test_a_batch_larger_than_the_concepts_is_refused(data):
    with pytest.raises(InputError, match="smaller batches"):
        Sampler(data, power=0, label=1).draw(128, np.random.default_rng(0))


def test_power_prefers_concepts_with_many_pictures(data):
    uneven = dataclasses.replace(data, train=np.concatenate([data.train[:10], np.repeat(data.train[10:12], 50)]))
    drawn = [Sampler(uneven, power=p, label=1).draw(2, generators(0, 0)[0]).concepts for p in (0.0, 8.0)]
    assert set(drawn[1]) == set(data.concept[data.train[10:12]])
    assert set(drawn[0]) != set(drawn[1])


def test_kinds_are_drawn_as_often_as_weighted(data):
    kind = np.where(data.concept % 2 == 0, "emoji", "icon")
    sampler = Sampler(
        dataclasses.replace(data, kind=kind), power=1.0, label=1.0, kind_weights={"emoji": 3.0, "clip art": 9.0}
    )
    drawn = [sampler.draw(1, generators(0, step)[0]).concepts[0] % 2 for step in range(2000)]
    emoji = np.isin(data.concept[data.train] % 2, 0).sum()
    icons = len(data.train) - emoji
    assert np.mean(np.array(drawn) == 0) == pytest.approx(3 * emoji / (3 * emoji + icons), abs=0.04)


def test_captions_draw_the_label_as_often_as_asked(data):
    rows = np.repeat(data.train[:1], 4000)
    texts = data.captions.draw(rows, 0.25, np.random.default_rng(0))
    assert np.mean(texts == data.captions.labels(rows)) == pytest.approx(0.25, abs=0.03)
    assert len(np.unique(texts)) == 2


def test_captions_need_a_label():
    with pytest.raises(InputError, match="no caption"):
        Captions.of([["a"], []])


def test_contrastive_loss_leaves_out_rows_of_the_same_concept():
    rows = normalized(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    others = normalized(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)))
    concept = torch.tensor([0, 1, 1, 2, 3, 4])
    expected = []
    for left, right in ((rows, others), (others, rows)):
        for i in range(6):
            negatives = [j for j in range(6) if j == i or concept[j] != concept[i]]
            cosines = 7 * (right[negatives] @ left[i])
            expected.append(torch.logsumexp(cosines, 0) - 7 * (left[i] @ right[i]))
    assert contrastive_loss(rows, others, 7.0, concept).item() == pytest.approx(torch.stack(expected).mean().item())


def test_legs_and_rates():
    config = TrainConfig((Leg(32, 320), Leg(64, 160)), batch=32, warmup=5)
    assert config.steps == 15
    assert [config.side(step) for step in (0, 9, 10, 14, 99)] == [32, 32, 64, 64, 64]
    assert config.rate(0) == pytest.approx(0.2)
    assert config.rate(4) == config.rate(5) == 1
    assert config.rate(15) == pytest.approx(config.final_rate)


def test_a_leg_may_begin_a_cosine_of_its_own():
    first = TrainConfig((Leg(32, 320), Leg(64, 160)), batch=32, warmup=5)
    both = dataclasses.replace(first, legs=(*first.legs, Leg(32, 640, restart=0.5), Leg(64, 64)))
    assert [both.rate(step) for step in range(15)] == [first.rate(step) for step in range(15)]
    assert both.rate(15) == pytest.approx(0.1)
    assert both.rate(19) == both.rate(20) == 0.5
    assert both.rate(both.steps) == pytest.approx(0.5 * both.final_rate)
    assert both.side(both.steps - 1) == 64


def test_same_seed_same_losses_and_an_interruption_changes_nothing(output):
    config = output / "config.toml"
    train(config, output, name="whole", seed=5)
    train(config, output, name="broken", seed=5, stop=3)
    with (output / "runs" / "broken" / "log.jsonl").open("a") as log:  # steps after the checkpoint are forgotten
        log.write('{"step": 3, "loss": 99.0}\n')
    train(config, output, name="broken", seed=5)
    train(config, output, name="other", seed=6)
    other = (output / "runs" / "other" / "model.safetensors").read_bytes()
    assert len(losses(output, "whole")) == 6
    assert losses(output, "whole") == losses(output, "broken")
    assert losses(output, "whole") != losses(output, "other")
    train(config, output, name="other", seed=6)  # finished already: nothing changes
    models = [(output / "runs" / name / "model.safetensors").read_bytes() for name in ("whole", "broken", "other")]
    assert models[0] == models[1] != models[2] == other
    assert json.loads((output / "runs" / "other" / "run.json").read_text())["exported"] in ("average", "last")


def test_a_checkpoint_of_another_run_is_refused(output):
    config = output / "config.toml"
    train(config, output, name="run", seed=5, stop=1)
    with pytest.raises(InputError, match="another configuration, seed"):
        train(config, output, name="run", seed=6)
    with pytest.raises(InputError, match="has not finished"):
        load_model(output / "runs" / "run", TrainConfig((Leg(32, 64),)))


def test_a_missing_teacher_is_named(output):
    with (output / "config.toml").open("a") as config:
        config.write("[train.distill]\nsteps = 1\n")
    with pytest.raises(InputError, match="python -m training teacher"):
        train(output / "config.toml", output, name="run", seed=0)


@pytest.mark.parametrize("extra", [{}, {"per_concept": 2, "image_loss": 1.0}])
def test_it_learns(data, extra):
    run = Run(data, dataclasses.replace(CONFIG, batch=48, learning_rate=4e-3, **extra), Path(), 0, None)
    records = list(run.records(60))
    assert np.mean([r["contrastive"] for r in records[-5:]]) < records[0]["contrastive"] - 1
    assert set(look(run.average, data, 32, half=False)) == {"map", "feature_map", "text_map"}
    assert ("image" in records[0]) == bool(extra)


def test_calibration_replaces_the_statistics_by_those_of_the_averaged_weights(data):
    run = Run(data, dataclasses.replace(CONFIG, average=0.9), Path(), 0, None)
    for _ in range(3):
        run.advance()
    means = []
    norm = run.average.image.stem[0].norm
    hook = norm.register_forward_hook(lambda _, inputs, __: means.append(inputs[0].mean((0, 2, 3))))
    weight, before = norm.weight.clone(), norm.running_mean.clone()
    run.calibrate(batches=4)
    hook.remove()
    assert torch.allclose(norm.running_mean, torch.stack(means).mean(0), atol=1e-6)
    assert not torch.allclose(norm.running_mean, before, atol=1e-6)
    assert torch.equal(norm.weight, weight)
    assert not run.average.training


def teacher_of(texts: list[str]) -> Teacher:
    """A teacher whose embedding is a random linear map of the bag of word pieces."""
    weights = np.random.default_rng(0).normal(size=(8192, 16))
    bags = np.stack([weights[row[(row > 0) & (row < 8190)]].sum(0) for row in tokenize(texts)])
    return Teacher(texts, (bags / np.linalg.norm(bags, axis=1, keepdims=True)).astype(np.float16))


def test_the_teacher_is_learnt_and_used(data):
    teacher = teacher_of(data.captions.texts)
    tower, head = TextTower(TOWER), torch.nn.Linear(32, 16)
    config = DistillConfig(steps=60, batch=64)
    first = distill_text(tower, head, teacher, dataclasses.replace(config, steps=1), 0)
    assert distill_text(tower, head, teacher, config, 0) < 0.5 * first
    run = Run(data, dataclasses.replace(CONFIG, teacher_text=1.0, teacher_image=1.0), Path(), 0, teacher)
    record = run.advance()
    terms = [record[name] for name in ("contrastive", "teacher_text", "teacher_image")]
    assert record["loss"] == pytest.approx(sum(terms), rel=1e-5)


def test_a_caption_the_teacher_has_not_seen():
    with pytest.raises(InputError, match="no embedding of 1 captions, such as 'zebra'"):
        teacher_of(["cat", "dog"]).embeddings_of(["dog", "zebra"])


def test_nouns(tmp_path):
    (tmp_path / "index.noun").write_text("  1 a licence\nhot_dog n 1 1 @ 1 0 07697100\ncat n 1\n", encoding="utf-8")
    assert nouns(tmp_path / "index.noun") == ["hot dog", "cat"]


def test_cross_style_map_ignores_the_own_source():
    angles = np.array([0.0, 0.1, 0.2, 0.3])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    # query 0 sees 2, 3 and ranks its match 3 second; 1 sees 2, 3 and has its match first; 2 and 3 likewise see 0, 1
    value = cross_style_map(embeddings, np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]))
    assert value == pytest.approx(100 * (0.5 + 1 + 1 + 0.5) / 4)


def test_projectors_fit_frozen_features(data):
    torch.manual_seed(0)
    model = Model(TOWER).eval()
    texts = encode_texts(model, torch.from_numpy(data.captions.tokens.astype(np.int64)))
    labels = data.captions.labels(np.arange(len(data.concept)))
    features = (texts[torch.from_numpy(labels).long()] @ torch.randn(32, 20))[None].half()  # a picture knows its label
    config = ProjectConfig(views=1, steps=80, batch=48, learning_rate=2e-2)
    tensors = fit_projectors(Sampler(data, power=0.5, label=1.0), features, texts, 24, config, 0)
    assert tensors["image_projector"].shape == (24, 20)
    assert tensors["text_projector"].shape == (24, 32)
    images = normalized(features[0].float() @ tensors["image_projector"].T)
    words = normalized(texts[torch.from_numpy(labels).long()] @ tensors["text_projector"].T)
    best = (images @ words.T).argmax(1).numpy()
    assert np.mean(labels[best] == labels) > 0.9
    again = fit_projectors(Sampler(data, power=0.5, label=1.0), features, texts, 24, config, 0)
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
