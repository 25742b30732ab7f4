"""Exported weights: the graphs compute what the towers compute, and the embedded encoder loads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from isomix.encoders.embedded import EmbeddedEncoder
from isomix.errors import ModelError
from training.model.export import Graph, image_graph, largest_difference, resizing, write_weights
from training.model.tower import Model, TowerConfig, normalized


@pytest.fixture(scope="module")
def model() -> Model:
    """A model as it comes out of training: the statistics of its batch norms are not the first ones."""
    torch.manual_seed(0)
    model = Model(TowerConfig(text_blocks=2)).train()
    for block in model.image.blocks:
        torch.nn.init.normal_(block.second.norm.weight)
    with torch.no_grad():
        for _ in range(5):
            model.image(torch.rand(16, 3, 32, 32))
    return model.eval()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    pair = {"image_projector": torch.randn(192, 256), "text_projector": torch.randn(192, 192)}
    write_weights(model, pair | {"logit_scale": torch.tensor([20.0])}, folder)
    return folder


def test_graphs_compute_what_the_towers_compute(model, weights):
    pixels = torch.rand(9, 3, 64, 64)
    assert largest_difference(weights / "image.onnx", pixels, model.image, pixels) < 1e-5
    tokens = torch.randint(1, 8190, (9, 16))
    tokens[:, 0], tokens[3, 4], tokens[4, 2:] = 8190, 8191, 0
    tokens[5] = 0  # nothing at all
    assert largest_difference(weights / "text.onnx", tokens, model.text, tokens) < 1e-5


def test_graph_at_a_smaller_side(model, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    small = np.asarray(picture.resize((48, 48), Image.Resampling.BILINEAR), np.float32)
    resize = resizing(64, 48)
    assert np.abs((resize @ torch.from_numpy(np.array(picture, np.float32)) @ resize.T).numpy() - small).max() < 1.01
    (tmp_path / "image.onnx").write_bytes(image_graph(model.image, 48).SerializeToString())
    pixels = torch.rand(5, 3, 64, 64)
    own = torch.nn.functional.interpolate(pixels, size=(48, 48), mode="bilinear", antialias=True)
    assert largest_difference(tmp_path / "image.onnx", pixels, model.image, own) < 1e-5


def test_the_encoder_loads_both_pairs(model, weights):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    made = EmbeddedEncoder("as-trained", weights=weights, threads=1)
    with torch.inference_mode():
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None]
        own = normalized(model.image_projector(model.image(pixels.float() / 255))).numpy()
    assert np.allclose(made.encode_image([picture]).embeddings, own, atol=2e-3)
    assert made.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    converged = EmbeddedEncoder(weights=weights, threads=1)
    assert converged.logit_scale == 20
    assert converged.encode_text(["a red bus"]).embeddings.shape == (1, 192)
    assert len({made.fingerprint, converged.fingerprint, EmbeddedEncoder().fingerprint}) == 3


def test_same_model_same_bytes(model, weights, tmp_path):
    pair = {name: torch.zeros(1) for name in ("image_projector", "text_projector", "logit_scale")}
    write_weights(model, pair, tmp_path)
    for name in ("image.onnx", "text.onnx", "as-trained.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (weights / name).read_bytes()
    assert sum(path.stat().st_size for path in weights.iterdir()) < 25e6


def test_a_weight_that_does_not_fit_is_refused():
    with pytest.raises(ModelError, match="does not fit into float16"):
        Graph().weight(torch.tensor([1e6]))
