"""ONNX graphs run by onnxruntime give what ``transform`` gives."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from isomix import IsoCLIP, Projectors, TextPCA, load_encoder
from isomix.encoders.embedded import EmbeddedEncoder
from isomix.errors import InputError, ModelError
from isomix.exports import export_image_encoder
from isomix.projectors.sources import EMBEDDED_PAIRS
from isomix.spaces import PCAWhitening, PreProjection

VISION = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def iso(rng):
    return IsoCLIP(Projectors(rng.normal(size=(12, 18)), rng.normal(size=(12, 10))), band=(2, 1)).fit()


@pytest.fixture
def clip():
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=9
        ).to_dict(),
        vision_config=CLIPVisionConfig(**VISION, image_size=32, patch_size=8).to_dict(),
        projection_dim=24,
    )
    return CLIPModel(config)  # in training mode, as somebody may have left it


def space_of(model, **options):
    pair = Projectors(
        model.visual_projection.weight.detach().float().numpy(), model.text_projection.weight.detach().float().numpy()
    )
    return IsoCLIP(pair, band=(3, 4), **options).fit()


def run(path, **inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["adapted"], inputs)[0]


@pytest.mark.parametrize("rows", [1, 33])
def test_the_head_alone(iso, rng, tmp_path, rows):
    E, H = (rng.normal(size=(rows, width)).astype(np.float32) for width in (12, 18))
    iso.to_onnx(tmp_path / "head.onnx")
    np.testing.assert_allclose(run(tmp_path / "head.onnx", embeddings=E), iso.transform(E), atol=1e-5)
    iso.to_onnx(tmp_path / "head.onnx", source="features")
    np.testing.assert_allclose(run(tmp_path / "head.onnx", features=H), iso.transform_features(H), atol=1e-5)


def test_biases(rng, tmp_path):
    biased = IsoCLIP(
        Projectors(rng.normal(size=(12, 18)), rng.normal(size=(12, 10)), image_bias=rng.normal(size=12)),
        band=(2, 1),
    ).fit()
    H = rng.normal(size=(5, 18)).astype(np.float32)
    biased.to_onnx(tmp_path / "head.onnx", source="features")
    np.testing.assert_allclose(run(tmp_path / "head.onnx", features=H), biased.transform_features(H), atol=1e-5)
    E = (rng.normal(size=(20, 6)) + rng.normal(size=6)).astype(np.float32)
    shifted = PCAWhitening(3).fit(E)
    shifted.to_onnx(tmp_path / "head.onnx")
    np.testing.assert_allclose(run(tmp_path / "head.onnx", embeddings=E), shifted.transform(E), atol=1e-5)


def test_the_same_space_gives_the_same_bytes(iso, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        iso.to_onnx(tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    properties = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map
    assert properties["isomix.space"] == iso.fingerprint


@pytest.mark.parametrize("pair", ["embedded", "embedded:as-trained"])
def test_the_embedded_encoder_with_any_space(rng, tmp_path, pair):
    encoder = load_encoder(pair)
    pixels = rng.random((3, 3, 64, 64), dtype=np.float32)
    features = encoder.forward_pixels(pixels)
    iso = IsoCLIP(encoder.projectors, band=(4, 32)).fit()
    export_image_encoder(encoder, iso, tmp_path / "image.onnx")
    np.testing.assert_allclose(run(tmp_path / "image.onnx", pixels=pixels), iso.transform_features(features), atol=1e-5)
    properties = onnxruntime.InferenceSession(tmp_path / "image.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(properties["isomix.preprocessing"]) == encoder.preprocessing
    assert properties["isomix.model"] == encoder.fingerprint

    shifted = PCAWhitening(8).fit(0.1 * rng.normal(size=(40, 192)) + 0.1 * rng.normal(size=192))
    export_image_encoder(encoder, shifted, tmp_path / "image.onnx")
    expected = shifted.transform(encoder.project_image(features))
    np.testing.assert_allclose(run(tmp_path / "image.onnx", pixels=pixels), expected, atol=1e-5)


def test_an_encoder_with_weights_of_its_own(rng, tmp_path):
    """Not the tower that is in the package, whose graph has the same shape."""
    packaged = files("isomix.encoders") / "weights"
    for name in ("text.onnx", "tokenizer.json", EMBEDDED_PAIRS[""]):
        (tmp_path / name).write_bytes((packaged / name).read_bytes())
    tower = onnx.load_model_from_string((packaged / "image.onnx").read_bytes())
    for weight in tower.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype.kind == "f" and values.ndim > 1:
            weight.CopyFrom(onnx.numpy_helper.from_array(values * values.dtype.type(0.5), weight.name))
    onnx.save_model(tower, tmp_path / "image.onnx")
    encoder = EmbeddedEncoder(weights=tmp_path)
    iso = IsoCLIP(encoder.projectors, band=(4, 32)).fit()
    export_image_encoder(encoder, iso, tmp_path / "exported.onnx")
    pixels = rng.random((3, 3, 64, 64), dtype=np.float32)
    expected = iso.transform_features(encoder.forward_pixels(pixels))
    np.testing.assert_allclose(run(tmp_path / "exported.onnx", pixels=pixels), expected, atol=1e-5)
    of_the_package = iso.transform_features(load_encoder("embedded").forward_pixels(pixels))
    assert np.abs(expected - of_the_package).max() > 1e-2


def test_a_transformers_model(clip, rng, tmp_path, capfd):
    iso = space_of(clip)
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    export_image_encoder(clip, iso, tmp_path / "image.onnx")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "torchvision" not in captured.err
    assert clip.training
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())
    for rows in (1, 5):
        pixels = rng.normal(size=(rows, 3, 32, 32)).astype(np.float32)
        with torch.no_grad():
            features = clip.vision_model(pixel_values=torch.from_numpy(pixels)).pooler_output.numpy()
        adapted = run(tmp_path / "image.onnx", pixels=pixels)
        np.testing.assert_allclose(adapted, iso.transform_features(features), atol=1e-5)


def test_a_model_with_the_attributes_of_open_clip(rng, tmp_path):
    class Visual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.image_size = (8, 8)
            self.proj = torch.nn.Parameter(torch.randn(192, 12))

        def forward(self, pixels):
            return pixels.flatten(1).tanh() @ self.proj

    torch.manual_seed(0)
    model = torch.nn.Module()
    model.visual, model.text_projection = Visual(), torch.nn.Parameter(torch.randn(10, 12))
    pair = Projectors(model.visual.proj.detach().numpy().T, model.text_projection.detach().numpy().T)
    iso = IsoCLIP(pair, band=(2, 2)).fit()
    export_image_encoder(model, iso, tmp_path / "image.onnx")
    pixels = rng.normal(size=(4, 3, 8, 8)).astype(np.float32)
    expected = iso.transform(model.visual(torch.from_numpy(pixels)).detach().numpy())
    np.testing.assert_allclose(run(tmp_path / "image.onnx", pixels=pixels), expected, atol=1e-5)


def test_a_space_of_the_text_projector_alone(clip, rng, tmp_path):
    embedded, pixels = load_encoder("embedded"), rng.random((3, 3, 64, 64), dtype=np.float32)
    alone = IsoCLIP(embedded.projectors.text_only(), band=(4, 32)).fit()
    export_image_encoder(embedded, alone, tmp_path / "image.onnx")
    expected = alone.transform(embedded.project_image(embedded.forward_pixels(pixels)))
    np.testing.assert_allclose(run(tmp_path / "image.onnx", pixels=pixels), expected, atol=1e-5)

    alone = IsoCLIP(space_of(clip).projectors.text_only(), band=(3, 4)).fit()
    export_image_encoder(clip, alone, tmp_path / "image.onnx")
    pixels = rng.normal(size=(2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        features = clip.eval().vision_model(pixel_values=torch.from_numpy(pixels)).pooler_output
        expected = alone.transform(clip.visual_projection(features).numpy())
    np.testing.assert_allclose(run(tmp_path / "image.onnx", pixels=pixels), expected, atol=1e-5)
    for other in (embedded, clip):
        with pytest.raises(ModelError, match=r"text projector of this .* is not that of the space"):
            export_image_encoder(
                other, IsoCLIP(Projectors(text=rng.normal(size=(24, 24))), (1, 1)).fit(), tmp_path / "x"
            )


def test_what_does_not_belong_together_is_refused(clip, iso, rng, tmp_path):
    path = tmp_path / "image.onnx"
    with pytest.raises(ModelError, match="another model"):
        export_image_encoder(clip, iso, path)
    with pytest.raises(ModelError, match="not those of the space"):
        export_image_encoder(load_encoder("embedded"), iso, path)
    with pytest.raises(InputError, match="text embeddings"):
        export_image_encoder(clip, space_of(clip, modality="text"), path)
    other_width = TextPCA(2).fit(rng.normal(size=(9, 5)))
    with pytest.raises(InputError, match="width 5, but the model's have 24"):
        export_image_encoder(clip, other_width, path)
    with pytest.raises(InputError, match="width 5, but the model's have 192"):
        export_image_encoder(load_encoder("embedded"), other_width, path)
    with pytest.raises(InputError, match="pre-projection features need no space"):
        export_image_encoder(clip, PreProjection().fit(rng.normal(size=(9, 24))), path)
    with pytest.raises(ModelError, match="a Linear has no image tower"):
        export_image_encoder(torch.nn.Linear(2, 2), other_width, path)
    with pytest.raises(InputError, match="not a folder"):
        iso.to_onnx(tmp_path / "nowhere" / "head.onnx")
    assert not path.exists()


def test_a_model_too_large_for_one_file(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("isomix.exports.onnx_graph._LARGEST", 2**17)
    with pytest.raises(ModelError, match="less than 2 GiB"):
        export_image_encoder(clip, space_of(clip), tmp_path / "image.onnx")
