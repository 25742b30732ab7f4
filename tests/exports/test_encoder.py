"""Folding, ONNX and inversion through the 'hf:' encoder, from a model folder as a user has it."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

from isomix import IsoCLIP, load_encoder
from isomix.exports import export_image_encoder
from isomix.inversion import TextualInversion, VisualInversion

LAYERS = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
VOCABULARY = ["a", "photo", "of", "cat", "[UNK]", "[START]", "[END]"]


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    text = CLIPTextConfig(hidden_size=32, vocab_size=7, eos_token_id=6, max_position_embeddings=12, **LAYERS)
    vision = CLIPVisionConfig(hidden_size=48, image_size=32, patch_size=8, **LAYERS)
    folder = tmp_path / "model"
    CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    ).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[START] $A [END]", special_tokens=[("[START]", 5), ("[END]", 6)]
    )
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[END]").save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "size": {"shortest_edge": 32},
                "crop_size": {"height": 32, "width": 32},
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
            }
        )
    )
    return load_encoder(str(folder))


@pytest.fixture
def pictures(rng):
    return [rng.integers(0, 256, (40, 36, 3), dtype=np.uint8) for _ in range(3)]


def test_fold_and_unfold(encoder, pictures):
    plain, fingerprint = encoder.encode_image(pictures).embeddings, encoder.fingerprint
    iso = IsoCLIP(encoder.projectors, band=(3, 2), compact=False).fit()
    iso.fold_into(encoder)
    np.testing.assert_allclose(encoder.encode_image(pictures).embeddings, iso.transform(plain), atol=1e-5)
    iso.unfold(encoder)
    np.testing.assert_array_equal(encoder.encode_image(pictures).embeddings, plain)
    assert encoder.fingerprint == fingerprint


def test_onnx_of_the_whole_image_encoder(encoder, pictures, tmp_path):
    iso = IsoCLIP(encoder.projectors, band=(3, 2)).fit()
    export_image_encoder(encoder, iso, tmp_path / "image.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "image.onnx", providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(1).normal(size=(2, 3, 32, 32)).astype(np.float32)
    expected = iso.transform_features(encoder.forward_pixels(pixels))
    np.testing.assert_allclose(session.run(["adapted"], {"pixels": pixels})[0], expected, atol=1e-5)
    stored = session.get_modelmeta().custom_metadata_map
    assert json.loads(stored["isomix.preprocessing"]) == encoder.preprocessing
    assert stored["isomix.model"] == encoder.fingerprint


def test_inversion_uses_the_encoders_tokenizer(encoder, pictures):
    embedded = encoder.encode_image(pictures).embeddings
    inversion = TextualInversion(encoder, n_steps=40)
    cat = encoder.torch_model.text_model.embeddings.token_embedding.weight[VOCABULARY.index("cat")].detach()
    with torch.no_grad():
        sentence = torch.nn.functional.normalize(inversion.embed(cat[None, None]), dim=-1)
    np.testing.assert_allclose(sentence.numpy(), encoder.encode_text(["a photo of cat"]).embeddings, atol=1e-5)
    textual = inversion.invert(embedded)
    assert (textual.cosine[:, -1] > textual.cosine[:, 0]).all()
    visual = VisualInversion(encoder, n_steps=40).invert(encoder.encode_text(["a cat", "photo of a photo"]).embeddings)
    assert (visual.cosine[:, -1] > visual.cosine[:, 0]).all()
    np.testing.assert_array_equal(encoder.encode_image(pictures).embeddings, embedded)
