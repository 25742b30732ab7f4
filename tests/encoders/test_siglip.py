"""SigLIP and SigLIP 2 with random weights: features, head and texts equal the model's own forward pass.

The towers have the true widths of B/16 (768, MLP 3072, 224 pixels, 64 tokens) but two layers instead of twelve and a
small vocabulary: what isomix touches lies behind the layers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import isomix
from isomix.encoders.naflex import grid_size
from isomix.errors import InputError, ModelError
from isomix.projectors import Projectors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PREPROCESSING = {  # as published: no word of a crop
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"height": 224, "width": 224},
}
NAFLEX = {
    **{name: value for name, value in PREPROCESSING.items() if name != "size"},
    "image_processor_type": "Siglip2ImageProcessor",
    "resample": 2,
    "patch_size": 16,
    "max_num_patches": 64,
}
SENTENCES = ["a cat", "a photo of a red cat", "", "red cat " * 60]


def save_tokenizer(folder: Path, *, lowers: bool = True) -> None:
    """The Gemma tokenizer of SigLIP 2 with a small vocabulary; its plain form does not lower-case."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"acdefhoprtC", "at", "cat", "Cat"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("a", "t"), ("c", "at"), ("C", "at")]
    words = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", "▁")
    words.normalizer = normalizers.Sequence([normalizers.Lowercase(), spaces]) if lowers else spaces
    words.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    words.save(str(folder / "tokenizer.json"))
    kind = "Siglip2Tokenizer" if lowers and hasattr(transformers, "Siglip2Tokenizer") else "GemmaTokenizer"
    names = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk", "mask")}
    settings = {"tokenizer_class": kind, "add_bos_token": False, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def save_model(folder: Path, kind: str = "siglip", **vision: Any) -> Path:
    layers = {"num_hidden_layers": 2}
    text = {**layers, "vocab_size": 64, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    config_class, model_class = (
        (transformers.SiglipConfig, transformers.SiglipModel)
        if kind == "siglip"
        else (transformers.Siglip2Config, transformers.Siglip2Model)
    )
    torch.manual_seed(0)
    model = model_class(config_class(text_config=text, vision_config={**layers, **vision}))
    with torch.no_grad():  # fresh biases and norms are 0 and 1, which would hide half of the algebra
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        model.logit_scale.fill_(np.log(120.0))
    model.save_pretrained(folder)
    save_tokenizer(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING if kind == "siglip" else NAFLEX))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = save_model(tmp_path_factory.mktemp("siglip"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return isomix.load_encoder(f"hf:{folder}", offline=True)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return transformers.SiglipModel.from_pretrained(folder, local_files_only=True).eval()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shapes = [(224, 224), (300, 260), (100, 500), (37, 41)]
    return [Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)) for shape in shapes]


def unit(output: Any) -> np.ndarray:
    tensor = getattr(output, "pooler_output", output)  # transformers 5 wraps it, 4 does not
    return torch.nn.functional.normalize(tensor, dim=1).numpy()


def pooled(head: Any, states: Any) -> Any:
    """The attention of the pooling head alone: the pre-projection feature."""
    probe = head.probe.repeat(len(states), 1, 1)
    return head.attention(probe, states, states)[0][:, 0]


def test_image_embeddings_and_features_equal_the_models_own(encoder: Any, model: Any, pictures: Any) -> None:
    pixels = torch.from_numpy(np.stack([encoder.preprocess(picture) for picture in pictures]))
    with torch.inference_mode():
        expected = unit(model.get_image_features(pixel_values=pixels))
        features = pooled(model.vision_model.head, model.vision_model(pixel_values=pixels).last_hidden_state).numpy()
    result = encoder.encode_image(pictures, batch_size=3)
    np.testing.assert_allclose(result.embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(result.features, features, atol=1e-4)
    own = encoder.image_head(result.features)
    assert np.abs(own - result.features).max() > 0.01  # the head does something, so the equality means something


def test_pictures_are_squeezed_into_a_square_without_a_crop(encoder: Any, pictures: Any) -> None:
    try:
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil as Processor
    except ImportError:  # transformers 4
        from transformers.models.siglip.image_processing_siglip import SiglipImageProcessor as Processor
    own = {name: value for name, value in PREPROCESSING.items() if name != "image_processor_type"}
    expected = Processor(**own)(pictures, return_tensors="np")["pixel_values"]
    for picture, pixels in zip(pictures, expected, strict=True):
        np.testing.assert_allclose(encoder.preprocess(picture), pixels, atol=2e-6)
    assert encoder.preprocessing["crop"] is None


def test_text_embeddings_equal_the_models_own(encoder: Any, model: Any, folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.padding_side = "right"
    tokens = tokenizer(SENTENCES, padding="max_length", truncation=True, max_length=64, return_tensors="pt")
    assert tokens["input_ids"].shape == (4, 64)
    with torch.inference_mode():
        expected = unit(model.get_text_features(input_ids=tokens["input_ids"]))
    np.testing.assert_allclose(encoder.encode_text(SENTENCES).embeddings, expected, atol=1e-5)


def test_a_sentence_does_not_depend_on_its_neighbours_or_its_case(encoder: Any) -> None:
    together = encoder.encode_text(SENTENCES).embeddings
    for sentence, row in zip(SENTENCES, together, strict=True):
        np.testing.assert_allclose(encoder.encode_text([sentence]).embeddings[0], row, atol=1e-6)
        np.testing.assert_allclose(encoder.encode_text([sentence.upper()]).embeddings[0], row, atol=1e-6)


def test_a_tokenizer_that_keeps_capitals_is_given_none(folder: Path, encoder: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    save_tokenizer(copy, lowers=False)
    plain = transformers.AutoTokenizer.from_pretrained(copy, local_files_only=True)
    assert plain("Cat")["input_ids"] != plain("cat")["input_ids"]
    other = isomix.load_encoder(str(copy))
    np.testing.assert_array_equal(other.encode_text(["A Cat"]).embeddings, other.encode_text(["a cat"]).embeddings)
    assert encoder.preprocessing["texts"] == {"padding": "max_length", "lower_case": True}

    config = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**config, "do_lower_case": False}))
    cased = isomix.load_encoder(str(copy))
    assert cased.preprocessing["texts"]["lower_case"] is False
    assert cased.fingerprint != other.fingerprint
    assert np.abs(cased.encode_text(["A Cat"]).embeddings - cased.encode_text(["a cat"]).embeddings).max() > 1e-4


def test_the_tokenizer_of_the_first_siglip(folder: Path, model: Any, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    copy = shutil.copytree(folder, tmp_path / "copy")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (copy / file).unlink()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a red cat", "the cat and the hat"] * 20),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=40,
        hard_vocab_limit=False,
        bos_id=-1,
        minloglevel=3,
    )
    tokenizer = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"))
    tokenizer.save_pretrained(copy)
    assert (copy / "spiece.model").is_file()
    encoder = isomix.load_encoder(str(copy))
    sentences = ["A photo of a Red Cat!", "a photo of a red cat", "the hat " * 60]
    ids = tokenizer(sentences, padding="max_length", truncation=True, max_length=64, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = unit(model.get_text_features(input_ids=ids))
    embeddings = encoder.encode_text(sentences).embeddings
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_array_equal(embeddings[0], embeddings[1])  # it drops punctuation, too


def test_projectors_from_the_file_alone_are_the_linearisation_at_the_origin(
    encoder: Any, model: Any, folder: Path, tmp_path: Path
) -> None:
    pair = Projectors.from_pretrained(f"hf:{folder}", offline=True)
    linear = encoder.linearise()
    assert linear.point == pair.linearised_at == "origin"
    assert linear.relative_error is None
    np.testing.assert_allclose(pair.image, linear.weight, atol=1e-6)
    np.testing.assert_allclose(pair.image_bias, linear.bias, atol=1e-6)
    np.testing.assert_array_equal(pair.text, model.text_model.head.weight.detach())
    np.testing.assert_array_equal(pair.text_bias, model.text_model.head.bias.detach())
    assert pair.logit_scale == pytest.approx(120, rel=1e-5)
    assert pair.fingerprint == encoder.projectors.fingerprint
    assert "linearised at the origin" in repr(pair)
    pair.save(tmp_path / "pair.safetensors")
    assert Projectors.load(tmp_path / "pair.safetensors").linearised_at == "origin"


def test_a_sample_gives_the_better_map_and_a_space(encoder: Any, pictures: Any) -> None:
    result = encoder.encode_image(pictures)
    at_mean = encoder.linearise(result.features)
    at_origin = encoder.linearise(result.features, point="origin")
    assert at_mean.point == "sample"
    assert at_mean.relative_error < at_origin.relative_error
    pair = at_mean.apply_to(encoder.projectors)
    pair.check_embeddings(result.features, result.embeddings)
    space = isomix.IsoCLIP(pair, band=(100, 50)).fit()
    assert space.transform_features(result.features).shape == (4, space.rank_ - 150)
    with pytest.raises(ModelError, match=r"bias.*transform_features"):
        space.transform(result.embeddings)


def test_bad_samples_are_refused(encoder: Any) -> None:
    with np.errstate(over="ignore"):
        half = np.full((3, 768), 1e6, np.float32).astype(np.float16)
    with pytest.raises(InputError, match="half-precision overflow"):
        encoder.linearise(half)
    with pytest.raises(InputError, match="width 5, expected 768"):
        encoder.linearise(np.ones((3, 5), np.float32))
    with pytest.raises(InputError, match="needs a sample"):
        encoder.linearise(point="sample")
    with pytest.raises(InputError, match="expected 'origin' or 'sample'"):
        encoder.linearise(point="middle")


def test_naflex_equals_the_models_own(tmp_path: Path, pictures: Any) -> None:
    folder = save_model(tmp_path / "naflex", "siglip2")
    encoder = isomix.load_encoder(str(folder))
    model = transformers.Siglip2Model.from_pretrained(folder, local_files_only=True).eval()
    try:
        from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil as Processor
    except ImportError:  # transformers 4
        from transformers.models.siglip2.image_processing_siglip2 import Siglip2ImageProcessor as Processor
    own = {name: value for name, value in NAFLEX.items() if name != "image_processor_type"}
    inputs = Processor(**own)(pictures, return_tensors="pt")
    with torch.inference_mode():
        expected = unit(model.get_image_features(**inputs))
    np.testing.assert_allclose(encoder.encode_image(pictures).embeddings, expected, atol=1e-5)
    with torch.inference_mode():
        ids = encoder.tokenizer(["a cat"], padding="max_length", padding_side="right", max_length=64)["input_ids"]
        expected = unit(model.get_text_features(input_ids=torch.tensor(ids)))
    np.testing.assert_allclose(encoder.encode_text(["a cat"]).embeddings, expected, atol=1e-5)
    assert json.loads(json.dumps(encoder.preprocessing)) == encoder.preprocessing
    (folder / "preprocessor_config.json").write_text(json.dumps({**NAFLEX, "max_num_patches": None}))
    with pytest.raises(ModelError, match="NaFlex"):
        isomix.load_encoder(str(folder))


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (16, 16), (480, 640), (3000, 2001)])
def test_a_grid_never_has_too_many_patches(shape: tuple[int, int]) -> None:
    rows, columns = grid_size(*shape, 16, 64)
    assert 1 <= rows * columns <= 64


def test_a_model_without_pooling_head(tmp_path: Path) -> None:
    tiny = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "vision_use_head": False}
    with pytest.raises(ModelError, match="no pair of projectors"):
        isomix.load_encoder(str(save_model(tmp_path / "headless", **tiny)))


def test_a_tokenizer_that_cannot_be_loaded_is_named(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"cannot be loaded.*sentencepiece"):
        isomix.load_encoder(str(copy)).encode_text(["a cat"])
