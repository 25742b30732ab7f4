"""Modality inversion on a small random CLIP: its passes are the model's own, and its optimisation works."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from isomix import load_encoder
from isomix.errors import InputError, ModelError
from isomix.inversion import TextualInversion, VisualInversion

START, END, WORDS = 97, 98, {"a": 5, "photo": 6, "of": 7, "cat": 8, "big": 9, "": None}
LAYERS = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def tokenizer(sentence):
    return {"input_ids": [START, *(WORDS[word] for word in sentence.split()), END]}


def make_clip(eos_token_id=END):
    torch.manual_seed(0)
    text = CLIPTextConfig(
        hidden_size=32, vocab_size=99, eos_token_id=eos_token_id, max_position_embeddings=12, **LAYERS
    )
    vision = CLIPVisionConfig(hidden_size=48, image_size=32, patch_size=8, **LAYERS)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)).eval()


@pytest.fixture(scope="module")
def clip():
    return make_clip()


@pytest.fixture
def targets(rng):
    return rng.normal(size=(6, 24)).astype(np.float32)


@pytest.mark.parametrize("eos_token_id", [END, 2])  # 2: older configurations, where the end is the largest id
@pytest.mark.parametrize("template", ["a photo of {}", "a {} photo", "{}"])
def test_word_vectors_give_the_models_own_text_embedding(template, eos_token_id):
    model = make_clip(eos_token_id)
    inversion = TextualInversion(model, tokenizer, template=template, n_tokens=2)
    words = model.text_model.embeddings.token_embedding.weight[[WORDS["big"], WORDS["cat"]]]
    ids = torch.tensor([tokenizer(template.replace("{}", "big cat"))["input_ids"]])
    padded = torch.nn.functional.pad(ids, (0, 12 - ids.shape[1]), value=END if eos_token_id == END else 0)
    with torch.no_grad():
        found = inversion.embed(words[None].repeat(3, 1, 1))
        for sentence in (ids, padded):
            expected = model(input_ids=sentence, pixel_values=torch.zeros(1, 3, 32, 32)).text_embeds
            unit = torch.nn.functional.normalize(found, dim=-1)
            torch.testing.assert_close(unit, expected.expand(3, -1), atol=1e-5, rtol=0)


def test_patch_vectors_give_the_models_own_image_embedding(clip):
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        patches = clip.vision_model.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        found = torch.nn.functional.normalize(VisualInversion(clip, n_tokens=16).embed(patches), dim=-1)
        expected = clip(input_ids=torch.tensor([[START, END]]), pixel_values=pixels).image_embeds
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_few_pseudo_patches_share_the_picture_in_reading_order(clip):
    tokens = torch.randn(1, 3, 48, generator=torch.Generator().manual_seed(0))
    order = [0] * 6 + [1] * 5 + [2] * 5  # 16 patches among 3
    with torch.no_grad():
        few = VisualInversion(clip, n_tokens=3).embed(tokens)
        all_of_them = VisualInversion(clip, n_tokens=16).embed(tokens[:, order])
    torch.testing.assert_close(few, all_of_them)


def inversions(clip, **options):
    return [TextualInversion(clip, tokenizer, n_steps=40, **options), VisualInversion(clip, n_steps=40, **options)]


@pytest.mark.parametrize("which", [0, 1], ids=["textual", "visual"])
def test_the_similarity_to_the_target_rises(clip, targets, which):
    result = inversions(clip)[which].invert(targets)
    assert result.embeddings.dtype == result.tokens.dtype == np.float32
    assert result.cosine.shape == (6, 41)
    assert (result.cosine[:, -1] > result.cosine[:, 0] + 0.1).all()
    unit = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(result.embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((result.embeddings * unit).sum(1), result.cosine[:, -1], atol=1e-6)
    with torch.no_grad():
        again = torch.nn.functional.normalize(inversions(clip)[which].embed(torch.from_numpy(result.tokens)), dim=-1)
    np.testing.assert_allclose(again.numpy(), result.embeddings, atol=1e-5)


@pytest.mark.parametrize("which", [0, 1], ids=["textual", "visual"])
def test_one_step_is_adamw_by_hand(clip, targets, which):
    inversion = inversions(clip)[which]
    inversion.n_steps = 1
    start = torch.randn(1, inversion._width(), generator=torch.Generator().manual_seed(0)) * 0.02
    tokens = start.expand(6, -1, -1).clone().requires_grad_()
    unit = torch.nn.functional.normalize(torch.from_numpy(targets), dim=-1)
    loss = (1 - torch.nn.functional.cosine_similarity(inversion.embed(tokens), unit)).sum()
    (gradient,) = torch.autograd.grad(loss, tokens)
    expected = tokens * (1 - 2e-2 * 0.01) - 2e-2 * gradient / (gradient.abs() + 1e-8)
    result = inversion.invert(targets)
    np.testing.assert_allclose(result.tokens, expected.detach().numpy(), atol=1e-4)
    np.testing.assert_allclose(result.cosine[:, 0].sum(), 6 - loss.item(), atol=1e-5)


@pytest.mark.parametrize("which", [0, 1], ids=["textual", "visual"])
def test_same_seed_same_bytes_and_no_row_depends_on_the_others(clip, targets, which):
    whole = inversions(clip)[which].transform(targets)
    np.testing.assert_array_equal(inversions(clip)[which].transform(targets), whole)
    assert np.abs(inversions(clip, seed=1)[which].transform(targets) - whole).max() > 1e-3
    alone = inversions(clip)[which].transform(targets[4:5])
    np.testing.assert_allclose(alone @ whole[4], 1, atol=1e-3)
    reversed_and_cut = inversions(clip, batch_size=4)[which].transform(targets[::-1])[::-1]
    np.testing.assert_allclose((reversed_and_cut * whole).sum(1), 1, atol=1e-3)


def test_the_model_is_left_as_it_was(targets):
    model = make_clip().train()
    model.text_model.final_layer_norm.eval()
    model.logit_scale.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with torch.inference_mode():
        TextualInversion(model, tokenizer, n_steps=2).transform(targets)
    VisualInversion(model, n_steps=2).transform(targets)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["logit_scale"]
    assert all(p.grad is None for p in model.parameters())
    assert not model.text_model.embeddings.token_embedding._forward_hooks


def test_the_hook_goes_even_when_the_pass_fails(clip):
    inversion = TextualInversion(clip, tokenizer)
    with pytest.raises(RuntimeError):
        inversion.embed(torch.zeros(1, 1, 31))
    assert not clip.text_model.embeddings.token_embedding._forward_hooks


def test_half_precision_model(targets):
    result = TextualInversion(make_clip().bfloat16(), tokenizer, n_steps=30).invert(targets.astype(np.float16))
    assert (result.cosine[:, -1] > result.cosine[:, 0]).all()


def test_no_queries(clip):
    assert TextualInversion(clip, tokenizer, n_steps=2).transform(np.empty((0, 24), np.float32)).shape == (0, 24)


def test_wrong_use(clip, targets):
    with pytest.raises(ModelError, match="no text_model and no text_projection"):
        TextualInversion(load_encoder("embedded"), tokenizer)
    with pytest.raises(ModelError, match="no vision_model"):
        VisualInversion(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="tokenizer: got none"):
        TextualInversion(clip)
    with pytest.raises(InputError, match="exactly one"):
        TextualInversion(clip, tokenizer, template="a photo")
    with pytest.raises(InputError, match="at most 12"):
        TextualInversion(clip, tokenizer, n_tokens=8)
    with pytest.raises(InputError, match="only 16 patches"):
        VisualInversion(clip, n_tokens=17)
    with pytest.raises(InputError, match="n_steps"):
        VisualInversion(clip, n_steps=0)
    with pytest.raises(InputError, match="expected 24"):
        VisualInversion(clip).transform(targets[:, :20])
    with pytest.raises(InputError, match="all zeros"):
        VisualInversion(clip).transform(0 * targets)
