"""Folding into real transformers models, and into modules with open_clip's attribute layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from isomix import IsoCLIP, Projectors, load_encoder
from isomix.errors import ModelError

VISION = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
PIXELS = {"image_size": 32, "patch_size": 8}
IDS = torch.tensor([[0, 5, 6, 98], [0, 7, 98, 98]])


@pytest.fixture
def clip():
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=CLIPTextConfig(**TEXT, eos_token_id=98).to_dict(),
        vision_config=CLIPVisionConfig(**VISION, **PIXELS).to_dict(),
        projection_dim=32,
    )
    return CLIPModel(config).eval()


def projectors_of(model):
    return Projectors(
        model.visual_projection.weight.detach().float().numpy().copy(),
        model.text_projection.weight.detach().float().numpy().copy(),
    )


def encode(model, modality):
    """Pre-projection features and embeddings, by the model's own parts and by its own forward pass."""
    with torch.no_grad():
        if modality == "image":
            pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
            features = model.vision_model(pixel_values=pixels).pooler_output
            embeddings = model(pixel_values=pixels, input_ids=IDS).image_embeds
        else:
            features = model.text_model(input_ids=IDS).pooler_output
            embeddings = model(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=IDS).text_embeds
    return features.numpy(), embeddings.numpy()


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_folded_transformers_model_returns_adapted_embeddings(clip, modality):
    iso = IsoCLIP(projectors_of(clip), band=(5, 4), modality=modality, compact=False).fit()
    features, plain = encode(clip, modality)
    other = "text" if modality == "image" else "image"
    _, untouched = encode(clip, other)
    before = {name: value.clone() for name, value in clip.state_dict().items()}

    iso.fold_into(clip)
    _, folded = encode(clip, modality)
    folded /= np.linalg.norm(folded, axis=1, keepdims=True)
    np.testing.assert_allclose(folded, iso.transform_features(features), atol=1e-5)
    np.testing.assert_allclose(folded, iso.transform(plain), atol=1e-5)
    assert np.abs(folded - plain).max() > 1e-2
    np.testing.assert_array_equal(encode(clip, other)[1], untouched)

    iso.unfold(clip)
    for name, value in clip.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_cosines_are_those_of_the_compact_space(clip):
    compact = IsoCLIP(projectors_of(clip), band=(5, 4)).fit()
    features, _ = encode(clip, "image")
    compact.fold_into(clip)
    _, folded = encode(clip, "image")
    Z = compact.transform_features(features)
    np.testing.assert_allclose(folded @ folded.T, Z @ Z.T, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_model_keeps_its_dtype_and_gets_its_bits_back(clip, dtype):
    iso = IsoCLIP(projectors_of(clip), band=(5, 4)).fit()
    clip.to(dtype)
    before = clip.visual_projection.weight.detach().clone()
    iso.fold_into(clip)
    assert clip.visual_projection.weight.dtype == dtype
    assert clip.visual_projection.weight.requires_grad
    np.testing.assert_allclose(
        clip.visual_projection.weight.detach().float().numpy(), iso.folded_projectors().image, atol=2e-3
    )
    iso.unfold(clip)
    assert torch.equal(clip.visual_projection.weight, before)


def test_a_folded_model_can_be_saved_loaded_and_unfolded(clip, tmp_path):
    pair = projectors_of(clip)
    before = clip.visual_projection.weight.detach().clone()
    IsoCLIP(pair, band=(5, 4)).fit().fold_into(clip)
    clip.save_pretrained(tmp_path)
    again = CLIPModel.from_pretrained(tmp_path)
    IsoCLIP(pair, band=(5, 4), compact=False).fit().unfold(again)
    assert torch.equal(again.visual_projection.weight, before)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_bias_of_zeros_counts_as_none(clip, modality):
    """PE-Core in open_clip: trained without a bias, published with one of zeros."""
    name = "visual_projection" if modality == "image" else "text_projection"
    weight = getattr(clip, name).weight.detach().clone()
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.zero_()
    setattr(clip, name, layer)
    iso = IsoCLIP(projectors_of(clip), band=(5, 4), modality=modality, compact=False).fit()
    features, _ = encode(clip, modality)
    iso.fold_into(clip)
    _, folded = encode(clip, modality)
    np.testing.assert_allclose(folded, iso.transform_features(features), atol=1e-5)
    iso.unfold(clip)
    assert torch.equal(layer.weight, weight)
    with torch.no_grad():
        layer.bias[0] = 1e-3
    with pytest.raises(ModelError, match=r"_projection has a bias.*Put space\.to_torch"):
        iso.fold_into(clip)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_towers_with_projection(modality):
    torch.manual_seed(0)
    image = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, **PIXELS, projection_dim=16)).eval()
    text = CLIPTextModelWithProjection(CLIPTextConfig(**TEXT, projection_dim=16)).eval()
    pair = Projectors(image.visual_projection.weight.detach().numpy(), text.text_projection.weight.detach().numpy())
    iso = IsoCLIP(pair, band=(2, 2), modality=modality).fit()
    tower, weight = (image, "visual_projection") if modality == "image" else (text, "text_projection")
    iso.fold_into(tower)
    expected = iso.folded_projectors().image if modality == "image" else iso.folded_projectors().text
    np.testing.assert_array_equal(getattr(tower, weight).weight.detach().numpy(), expected)


class OpenClipLayout(torch.nn.Module):
    """The attributes of open_clip's CLIP (``parameter``) and CustomTextCLIP (``own tower``), and their products."""

    def __init__(self, kind, d=6, d_image=9, d_text=6):
        super().__init__()
        self.visual = torch.nn.Module()
        self.visual.proj = torch.nn.Parameter(torch.randn(d_image, d))
        text = torch.nn.Module() if kind == "own tower" else self
        if kind == "linear":
            text.text_projection = torch.nn.Linear(d_text, d, bias=False)
        else:
            text.text_projection = torch.nn.Parameter(torch.randn(d_text, d))
        if kind == "own tower":
            self.text = text

    def project(self, modality, features):
        if modality == "image":
            return features @ self.visual.proj
        projection = (self.text if hasattr(self, "text") else self).text_projection
        return projection(features) if isinstance(projection, torch.nn.Linear) else features @ projection

    def weight(self, modality):
        d_in = 9 if modality == "image" else 6
        return self.project(modality, torch.eye(d_in)).detach().numpy().T.copy()


@pytest.mark.parametrize("kind", ["parameter", "linear", "own tower"])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_open_clip_layouts(kind, modality):
    torch.manual_seed(0)
    model = OpenClipLayout(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    iso = IsoCLIP(
        Projectors(model.weight("image"), model.weight("text")), band=(1, 1), modality=modality, compact=False
    ).fit()
    features = torch.randn(5, 9 if modality == "image" else 6)
    iso.fold_into(model)
    folded = torch.nn.functional.normalize(model.project(modality, features), dim=-1).detach().numpy()
    np.testing.assert_allclose(folded, iso.transform_features(features.numpy()), atol=1e-5)
    iso.unfold(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_isomix_encoder(rng):
    encoder = load_encoder("embedded")
    pictures = [rng.integers(0, 256, (40, 30, 3), dtype=np.uint8) for _ in range(3)]
    plain, fingerprint = encoder.encode_image(pictures), encoder.fingerprint
    iso = IsoCLIP(encoder.projectors, band=(4, 32), compact=False).fit()
    iso.fold_into(encoder)
    np.testing.assert_allclose(encoder.encode_image(pictures).embeddings, iso.transform(plain.embeddings), atol=1e-5)
    assert encoder.fingerprint != fingerprint
    assert len(encoder.fingerprint) == 64
    with pytest.raises(ModelError, match="folded with this space already"):
        iso.fold_into(encoder)
    IsoCLIP(iso.projectors, band=(4, 32)).fit().unfold(encoder)  # the same cut, told apart by nothing
    assert encoder.fingerprint == fingerprint
    np.testing.assert_array_equal(encoder.encode_image(pictures).embeddings, plain.embeddings)
    with pytest.raises(ModelError, match="nothing to undo"):
        iso.unfold(encoder)
    with pytest.raises(ModelError, match="not those of the space"):
        iso.fold_into(load_encoder("embedded:as-trained"))


def test_folding_twice_and_unfolding_what_is_not_folded(clip):
    pair = projectors_of(clip)
    iso = IsoCLIP(pair, band=(5, 4)).fit()
    with pytest.raises(ModelError, match=r"visual_projection\.weight is the model's own.*nothing to undo"):
        iso.unfold(clip)
    iso.fold_into(clip)
    with pytest.raises(ModelError, match="folded with this space already"):
        iso.fold_into(clip)
    another = IsoCLIP(pair, band=(1, 1)).fit()
    with pytest.raises(ModelError, match="folded with another space"):
        another.fold_into(clip)
    with pytest.raises(ModelError, match="neither this space nor its model"):
        another.unfold(clip)
    iso.unfold(clip)
    another.fold_into(clip)


def test_a_band_that_cuts_nothing_folds_and_unfolds(clip):
    before = clip.text_projection.weight.detach().clone()
    iso = IsoCLIP(projectors_of(clip), band=(0, 0), modality="text").fit()
    iso.fold_into(clip)
    iso.unfold(clip)
    assert torch.equal(clip.text_projection.weight, before)


def test_other_projectors_are_refused_with_the_reason(clip, rng):
    pair = projectors_of(clip)

    def refused(image, text, modality, match):
        iso = IsoCLIP(Projectors(image, text), band=(1, 1), modality=modality).fit()
        before = {name: value.clone() for name, value in clip.state_dict().items()}
        with pytest.raises(ModelError, match=match):
            iso.fold_into(clip)
        assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())

    refused(pair.image, np.ascontiguousarray(pair.text.T), "text", "its transpose")  # square: only the values tell
    refused(pair.image + rng.normal(size=pair.image.shape), pair.text, "image", "another model's")
    refused(pair.image[:, :40], pair.text, "image", r"of shape \(32, 40\)\. It belongs")
    refused(pair.image.astype(np.float16), pair.text, "image", "rounded copy")


def test_models_without_a_usable_projector(clip):
    iso = IsoCLIP(projectors_of(clip), band=(1, 1)).fit()
    with pytest.raises(ModelError, match="a Linear has no image projector"):
        iso.fold_into(torch.nn.Linear(3, 3))
    clip.visual_projection = torch.nn.Linear(48, 32)
    with pytest.raises(ModelError, match="visual_projection has a bias"):
        iso.fold_into(clip)
    biased = IsoCLIP(Projectors(iso.projectors.image, iso.projectors.text, image_bias=np.ones(32)), band=(1, 1)).fit()
    with pytest.raises(ModelError, match="head has a bias"):
        biased.fold_into(clip)
