"""A CLIP of true ViT-B/32 size with random weights: what isomix computes equals the model's own forward pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import isomix
from isomix.errors import MissingExtraError, ModelError, OfflineError
from isomix.projectors import Projectors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PREPROCESSING = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "CLIPImageProcessor",
}
SENTENCES = ["a photo of a cat", "red", "", "a photo of a red cat " * 30]


def save_model(folder: Path, *, tiny: bool) -> Path:
    """A CLIPModel with random weights, a small vocabulary and the usual preprocessing."""
    letters = sorted(set("a photo of a red cat") - {" "})
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    small = (
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2} if tiny else {}
    )
    text = {**small, "bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    dim = 32 if tiny else 512
    config = transformers.CLIPConfig(text_config=text, vision_config=small, projection_dim=dim)
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    transformers.CLIPTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


@pytest.fixture(scope="module")
def vit_b32(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = save_model(tmp_path_factory.mktemp("vit-b-32"), tiny=False)
    yield folder
    shutil.rmtree(folder)  # 600 MB


@pytest.fixture(scope="module")
def encoder(vit_b32: Path) -> Any:
    return isomix.load_encoder(f"hf:{vit_b32}", offline=True)


@pytest.fixture(scope="module")
def model(vit_b32: Path) -> Any:
    return transformers.CLIPModel.from_pretrained(vit_b32, local_files_only=True).eval()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_model(tmp_path / "tiny", tiny=True)


def noise(rng: np.random.Generator, *shapes: tuple[int, int]) -> list[Image.Image]:
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)) for height, width in shapes]


def projected(output: Any) -> Any:
    """What get_image_features returns: a tensor in transformers 4, an object with the projected feature in 5."""
    return getattr(output, "pooler_output", output)


def unit(tensor: Any) -> np.ndarray:
    return torch.nn.functional.normalize(tensor, dim=1).numpy()


def test_image_embeddings_equal_the_models_own(encoder: Any, model: Any, rng: np.random.Generator) -> None:
    pictures = noise(rng, (300, 260), (224, 224), (240, 500))
    pixels = torch.from_numpy(np.stack([encoder.preprocess(picture) for picture in pictures]))
    with torch.inference_mode():
        expected = unit(projected(model.get_image_features(pixel_values=pixels)))
        features = model.vision_model(pixel_values=pixels).pooler_output.numpy()
    result = encoder.encode_image(pictures, batch_size=2)
    np.testing.assert_allclose(result.embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(result.features, features, atol=1e-4)
    assert result.features.shape == (3, 768)


def test_text_embeddings_equal_the_models_own(encoder: Any, model: Any, vit_b32: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(vit_b32, local_files_only=True)
    tokens = tokenizer(SENTENCES, padding=True, truncation=True, max_length=77, return_tensors="pt")
    with torch.inference_mode():
        expected = unit(projected(model.get_text_features(**tokens)))
    np.testing.assert_allclose(encoder.encode_text(SENTENCES).embeddings, expected, atol=1e-5)


def test_projectors_from_the_file_alone_equal_the_models(encoder: Any, model: Any, vit_b32: Path) -> None:
    projectors = Projectors.from_pretrained(f"hf:{vit_b32}", offline=True)
    np.testing.assert_array_equal(projectors.image, model.visual_projection.weight.detach())
    np.testing.assert_array_equal(projectors.text, model.text_projection.weight.detach())
    assert projectors.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert projectors.fingerprint == encoder.projectors.fingerprint


def test_adapted_vectors_from_the_file_alone_equal_the_forward_pass(
    encoder: Any, model: Any, vit_b32: Path, rng: np.random.Generator
) -> None:
    space = isomix.IsoCLIP(Projectors.from_pretrained(str(vit_b32)), band=(150, 50)).fit()
    pictures = noise(rng, (224, 224), (224, 224), (224, 224))
    pixels = torch.from_numpy(np.stack([encoder.preprocess(picture) for picture in pictures]))
    with torch.inference_mode():
        stored = unit(projected(model.get_image_features(pixel_values=pixels)))
    from_features = space.transform_features(encoder.encode_image(pictures).features)
    np.testing.assert_allclose(space.transform(stored), from_features, atol=1e-5)


def test_a_forward_pass_catches_a_transposed_projector(encoder: Any, model: Any) -> None:
    result = encoder.encode_text(SENTENCES)
    encoder.projectors.check_embeddings(result.features, result.embeddings, modality="text", tolerance=1e-5)
    turned = Projectors(encoder.projectors.image, encoder.projectors.text.T)  # square: every shape check passes
    with pytest.raises(ModelError, match="transposed"):
        turned.check_embeddings(result.features, result.embeddings, modality="text")


def test_spec_fingerprint_and_record(tiny: Path) -> None:
    encoder = isomix.load_encoder(str(tiny))
    assert encoder.spec == f"hf:{tiny}"
    assert encoder.preprocessing["resize"] == 224
    assert json.loads(json.dumps(encoder.preprocessing)) == encoder.preprocessing
    assert isomix.load_encoder(f"hf:{tiny}").fingerprint == encoder.fingerprint
    other = isomix.load_encoder(f"hf:{tiny}", preprocessing={**PREPROCESSING, "resample": 2})
    assert other.fingerprint != encoder.fingerprint


def test_half_precision_and_split_weights_load_as_float32(tiny: Path, tmp_path: Path) -> None:
    model = transformers.CLIPModel.from_pretrained(tiny)
    split = tmp_path / "split"
    model.to(torch.bfloat16).save_pretrained(split, max_shard_size="50KB")
    assert len(list(split.glob("model-*.safetensors"))) > 1
    encoder = isomix.load_encoder(str(split), preprocessing=PREPROCESSING)
    projectors = Projectors.from_pretrained(str(split))
    assert projectors.image.dtype == np.float32
    np.testing.assert_array_equal(projectors.image, model.visual_projection.weight.detach().float())
    assert projectors.fingerprint == encoder.projectors.fingerprint


def test_without_tokenizer_pictures_are_still_encoded(tiny: Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (tiny / name).unlink()
    encoder = isomix.load_encoder(str(tiny))
    assert encoder.encode_image([np.zeros((9, 9, 3), np.uint8)]).ok.all()
    with pytest.raises(ModelError, match="no tokenizer"):
        encoder.encode_text(["a cat"])


def test_unusable_folders(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny / "config.json"
    original = config.read_text()
    weights = (tiny / "model.safetensors").read_bytes()

    with pytest.raises(ModelError, match=r"device 'cuda:99' cannot be used"):
        isomix.load_encoder(str(tiny), device="cuda:99")
    (tiny / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="does not say how pictures are preprocessed"):
        isomix.load_encoder(str(tiny))
    (tiny / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        isomix.load_encoder(str(tiny))
    (tiny / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))

    (tiny / "model.safetensors").write_bytes(weights[:-1000])
    with pytest.raises(ModelError, match="cannot be loaded as CLIPModel"):
        isomix.load_encoder(str(tiny))
    (tiny / "model.safetensors").write_bytes(weights)
    config.write_text(original.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ModelError, match="weights are missing"):
        isomix.load_encoder(str(tiny))
    config.write_text(original.replace('"model_type": "clip",\n', '"model_type": "align",\n', 1))
    with pytest.raises(ModelError, match=r"'align'.*knows clip, siglip"):
        isomix.load_encoder(str(tiny))
    config.unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        isomix.load_encoder(str(tiny))
    config.write_text(original)
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        isomix.load_encoder(str(tiny))
    with pytest.raises(ModelError, match="is a file"):
        isomix.load_encoder(str(config))


def test_hub_ids_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OfflineError, match="connections are forbidden"):
        isomix.load_encoder("hf:nobody/no-such-model", offline=True)
    with pytest.raises(ModelError, match="nor a hub id"):
        isomix.load_encoder("hf:./no/such/folder")


def test_a_broken_torchvision_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isomix.encoders import hf

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("Failed to import: operator torchvision::nms does not exist")

    with pytest.raises(MissingExtraError, match="pip uninstall torchvision"):
        hf._attribute(Broken(), "CLIPModel")


def test_loading_shows_no_progress_bar_and_leaves_the_setting(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging = transformers.utils.logging
    logging.enable_progress_bar()
    isomix.load_encoder(str(tiny))
    assert logging.is_progress_bar_enabled()
    assert "Loading" not in capfd.readouterr().err
    logging.disable_progress_bar()
