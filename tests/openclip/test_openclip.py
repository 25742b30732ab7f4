"""Every family of open_clip with random weights equals open_clip's own forward pass.

The smallest published architecture of each family in its true widths, but two transformer layers an image tower, one a
text tower and 1,000 words a vocabulary: what isomix touches lies behind them. ResNet and FastViT are whole.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import isomix
from isomix.errors import InputError, ModelError, OfflineError
from isomix.projectors import Projectors

# architecture → (width of image features, whether its image head has a bias, activation of a residual head)
FAMILIES: dict[str, tuple[int, bool, str]] = {
    "ViT-S-32": (384, False, ""),
    "RN50": (2048, True, ""),
    "EVA02-B-16": (768, True, ""),
    "PE-Core-T-16-384": (192, False, ""),
    "ViT-B-16-SigLIP": (768, True, "gelu"),
    "ViT-B-16-SigLIP2": (768, True, "gelu"),
    "vit_medium_patch16_gap_256": (512, False, ""),
    "MobileCLIP-S1": (1024, True, ""),
    "coca_ViT-B-32": (512, False, ""),
}


SHALLOW = ("vit_", "eva02_")


class Case(NamedTuple):
    name: str
    folder: Path
    encoder: Any
    model: Any
    pixels: Any  # by open_clip's own transform
    result: Any  # of the encoder, for the same pictures


@pytest.fixture(scope="module", autouse=True)
def _shallow_towers(open_clip: Any) -> Iterator[None]:
    import timm

    original = timm.create_model

    def shallow(name: str, **settings: Any) -> Any:
        return original(name, **settings, **({"depth": 2} if name.startswith(SHALLOW) else {}))

    timm.create_model = shallow
    yield
    timm.create_model = original


def save_model(open_clip: Any, architecture: str, folder: Path, **changes: Any) -> Path:
    """Random weights and their configuration, as on a hub."""
    import torch
    from safetensors.torch import save_file

    config = open_clip.get_model_config(architecture) | changes
    config["text_cfg"] = {**config["text_cfg"], "layers": 1}
    if "timm_model_name" not in config["vision_cfg"] and architecture != "RN50":
        config["vision_cfg"] = {**config["vision_cfg"], "layers": 2}
    if "hf_tokenizer_name" in config["text_cfg"]:
        config["text_cfg"]["vocab_size"] = 1000
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] = {**config["multimodal_cfg"], "layers": 1}
    squash = "SigLIP" in architecture
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"} if squash else {}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    open_clip.factory._MODEL_CONFIGS[folder.name] = config
    torch.manual_seed(0)
    model = open_clip.create_model(folder.name)
    with torch.no_grad():  # fresh biases and norms are 0 and 1, which would hide half of the algebra
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        if architecture.startswith("PE-Core"):  # trained without a bias, published with one of zeros
            model.visual.trunk.head.bias.zero_()
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    import torch

    name = request.param
    folder = save_model(open_clip, name, tmp_path_factory.mktemp("models") / f"{name}-random")
    encoder = isomix.load_encoder(f"openclip:local-dir:{folder}", offline=True)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    settings = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    transform = open_clip.transform.image_transform_v2(settings, is_train=False)
    pixels = torch.stack([transform(picture) for picture in pictures()])
    yield Case(name, folder, encoder, model, pixels, encoder.encode_image(pictures(), batch_size=2))
    shutil.rmtree(folder)


def pictures(seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    shapes = [(400, 420), (523, 391), (390, 997)]  # odd differences: a crop that rounds otherwise is off by a pixel
    return [Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)) for shape in shapes]


def unit(tensor: Any) -> np.ndarray:
    import torch

    return torch.nn.functional.normalize(tensor, dim=1).numpy()


def tokens_of(case: Case) -> Any:
    import torch

    return torch.from_numpy(np.random.default_rng(1).integers(1, 999, (3, case.model.context_length)))


def test_image_side_equals_the_models_own(case: Case) -> None:
    import torch

    width, biased, activation = FAMILIES[case.name]
    for picture, expected in zip(pictures(), case.pixels, strict=True):
        np.testing.assert_array_equal(case.encoder.preprocess(picture), expected.numpy())
    with torch.inference_mode():
        expected = unit(case.model.encode_image(case.pixels, normalize=False))
    np.testing.assert_allclose(case.result.embeddings, expected, atol=1e-5)
    assert case.result.features.shape == (3, width)
    assert (case.encoder.projectors.image_bias is not None) == biased
    assert (case.encoder.image_head.activation if case.encoder.image_head else "") == activation


def test_text_side_equals_the_models_own(case: Case) -> None:
    import torch

    tokens = tokens_of(case)
    with torch.inference_mode():
        expected = unit(case.model.encode_text(tokens, normalize=False))
    features = case.encoder.forward_tokens(tokens)
    np.testing.assert_allclose(case.encoder.project_text(features), expected, atol=1e-5)


def test_features_are_what_enters_the_models_own_head(case: Case) -> None:
    """A hook on the untouched model sees the same features; a head stored as a bare matrix is left out instead."""
    import torch

    places = {
        "RN50": None,
        "EVA02-B-16": "visual.trunk.head",
        "PE-Core-T-16-384": "visual.trunk.head",
        "ViT-B-16-SigLIP": "visual.trunk.attn_pool.norm",
        "ViT-B-16-SigLIP2": "visual.trunk.attn_pool.norm",
        "vit_medium_patch16_gap_256": "visual.head.proj",
        "MobileCLIP-S1": "visual.trunk.head.fc",
    }
    features, pixels = case.result.features, case.pixels
    if case.name == "RN50":  # its head is inside the attention: undo it instead
        weight, bias = case.model.visual.attnpool.c_proj.weight, case.model.visual.attnpool.c_proj.bias
        with torch.inference_mode():
            expected = case.model.encode_image(pixels)
            np.testing.assert_allclose(features @ weight.numpy().T + bias.numpy(), expected.numpy(), atol=1e-4)
        return
    place = places.get(case.name)
    if place is None:
        with torch.inference_mode():
            projector, case.model.visual.proj = case.model.visual.proj, None
            seen = case.model.encode_image(pixels, normalize=False)
            case.model.visual.proj = projector
    else:
        caught: list[Any] = []
        handle = case.model.get_submodule(place).register_forward_pre_hook(
            lambda module, given: caught.append(given[0])
        )
        with torch.inference_mode():
            case.model.encode_image(pixels, normalize=False)
        handle.remove()
        seen = caught[0].reshape(3, -1)
    np.testing.assert_allclose(features, seen.numpy(), atol=1e-4)


def test_projectors_and_adapted_vectors_from_the_file_alone(case: Case) -> None:
    pair = Projectors.from_pretrained(f"openclip:local-dir:{case.folder}", offline=True)
    assert pair.fingerprint == case.encoder.projectors.fingerprint
    assert Projectors.from_pretrained(str(case.folder / "open_clip_model.safetensors")).fingerprint == pair.fingerprint
    assert pair.logit_scale == pytest.approx(float(case.model.logit_scale.detach().exp()))
    result = case.result
    if case.encoder.image_head is None:
        pair.check_embeddings(result.features, result.embeddings, tolerance=1e-6)
    else:
        assert pair.linearised_at == "origin"
        at_mean = case.encoder.linearise(result.features)
        assert 0 < at_mean.relative_error <= case.encoder.linearise(result.features, point="origin").relative_error
    space = isomix.IsoCLIP(pair, band=(20, 10)).fit()
    from_features = space.transform_features(result.features)
    if pair.image_bias is not None:
        with pytest.raises(ModelError, match="bias"):
            space.transform(result.embeddings)
        return
    np.testing.assert_allclose(space.transform(result.embeddings), from_features, atol=1e-5)


def adapted_by_hand(case: Case, space: isomix.IsoCLIP) -> np.ndarray:
    return np.asarray(space.transform_features(case.result.features))


UNFOLDABLE = {  # what is said of families whose image head is no matrix; all others must fold
    "RN50": "the image head has a bias and cannot be folded into one matrix. Put to_torch",
    "EVA02-B-16": "the image head has a bias and cannot be folded into one matrix. Put to_torch",
    "MobileCLIP-S1": "the image head has a bias and cannot be folded into one matrix. Put to_torch",
    "ViT-B-16-SigLIP": r"the image head is not linear \(its projector is a linearisation at the origin",
    "ViT-B-16-SigLIP2": r"the image head is not linear \(its projector is a linearisation at the origin",
}


def test_fold_and_unfold(case: Case) -> None:
    """Into open_clip's own model and into the encoder: adapted vectors from a plain forward pass, then the old bits."""
    import torch

    space = isomix.IsoCLIP(case.encoder.projectors, band=(20, 10), compact=False).fit()
    plain = isomix.Projectors(case.encoder.projectors.image, case.encoder.projectors.text)
    if case.name in UNFOLDABLE:
        for target in (case.model, case.encoder):
            with pytest.raises(ModelError, match=UNFOLDABLE[case.name]):
                space.fold_into(target)
        without_bias = isomix.IsoCLIP(plain, band=(20, 10)).fit()
        with pytest.raises(ModelError, match=r"(has a bias|is an MLP, not a matrix).*Put space\.to_torch"):
            without_bias.fold_into(case.model)
        return
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    space.fold_into(case.model)
    with torch.inference_mode():
        folded = unit(case.model.encode_image(case.pixels, normalize=False))
    np.testing.assert_allclose(folded, adapted_by_hand(case, space), atol=1e-5)
    space.unfold(case.model)
    assert all(torch.equal(value, before[name]) for name, value in case.model.state_dict().items())

    fingerprint = case.encoder.fingerprint
    space.fold_into(case.encoder)
    np.testing.assert_allclose(case.encoder.project_image(case.result.features), folded, atol=1e-5)
    space.unfold(case.encoder)
    assert case.encoder.fingerprint == fingerprint


def test_the_text_side_folds_where_it_has_no_bias(case: Case) -> None:
    import torch

    space = isomix.IsoCLIP(case.encoder.projectors, band=(20, 10), modality="text", compact=False).fit()
    tokens = tokens_of(case)
    if case.encoder.projectors.text_bias is not None:
        with pytest.raises(ModelError, match="the text head has a bias and cannot be folded"):
            space.fold_into(case.model)
        return
    space.fold_into(case.model)
    with torch.inference_mode():
        folded = unit(case.model.encode_text(tokens, normalize=False))
    space.unfold(case.model)
    expected = space.transform_features(case.encoder.forward_tokens(tokens))
    np.testing.assert_allclose(folded, expected, atol=1e-5)


def test_the_whole_image_encoder_as_a_module(case: Case) -> None:
    """Every family, heads with a bias and heads that are not linear included; the space may be of another kind, too."""
    import torch

    from isomix.exports.torch_module import ImageEncoder

    pair = case.encoder.projectors
    if case.encoder.image_head is not None:
        pair = case.encoder.linearise(case.result.features).apply_to(pair)
    space = isomix.IsoCLIP(pair, band=(20, 10)).fit()
    with torch.inference_mode():
        found = ImageEncoder(case.encoder, space)(case.pixels).numpy()
    np.testing.assert_allclose(found, adapted_by_hand(case, space), atol=1e-5)
    if case.encoder.projectors.image_bias is None:
        with torch.inference_mode():
            found = ImageEncoder(case.model, space)(case.pixels).numpy()
        np.testing.assert_allclose(found, adapted_by_hand(case, space), atol=1e-5)

    bank = np.random.default_rng(0).normal(size=(50, case.encoder.embedding_dim)).astype(np.float32)
    pca = isomix.TextPCA(9).fit(bank)
    expected = pca.transform(case.result.embeddings)
    targets = [case.model, case.encoder]
    if case.encoder.image_head is not None:
        with pytest.raises(ModelError, match="is not linear, and a TextPCA belongs behind it"):
            ImageEncoder(targets.pop(), pca)
    for target in targets:
        with torch.inference_mode():
            np.testing.assert_allclose(ImageEncoder(target, pca)(case.pixels).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("case", ["PE-Core-T-16-384", "ViT-B-16-SigLIP"], indirect=True)
def test_onnx_of_a_timm_tower(case: Case, tmp_path: Path) -> None:
    import onnxruntime

    from isomix.exports import export_image_encoder

    space = isomix.IsoCLIP(case.encoder.projectors, band=(20, 10)).fit()
    export_image_encoder(case.encoder, space, tmp_path / "image.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "image.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["adapted"], {"pixels": case.pixels.numpy()})
    np.testing.assert_allclose(found, adapted_by_hand(case, space), atol=1e-4)
    if case.encoder.image_head is not None:
        at_mean = case.encoder.linearise(case.result.features).apply_to(case.encoder.projectors)
        at_mean.text = at_mean.text + 1
        other = isomix.IsoCLIP(at_mean, band=(20, 10)).fit()
        with pytest.raises(ModelError, match="not those of the space"):
            export_image_encoder(case.encoder, other, tmp_path / "other.onnx")


@pytest.fixture(scope="module")
def vit(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(open_clip, "ViT-S-32", tmp_path_factory.mktemp("vit") / "ViT-S-32-random")


@pytest.fixture
def copy(vit: Path, tmp_path: Path) -> Path:
    return shutil.copytree(vit, tmp_path / "copy")


def test_fingerprints_tell_models_apart(copy: Path) -> None:
    encoder, again = (isomix.load_encoder(f"openclip:local-dir:{copy}") for _ in range(2))
    assert encoder.fingerprint == again.fingerprint
    assert json.loads(json.dumps(encoder.preprocessing)) == encoder.preprocessing
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True  # the same weights compute something else
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    assert isomix.load_encoder(f"openclip:local-dir:{copy}").fingerprint != encoder.fingerprint


def test_sentences_go_through_open_clips_tokenizer(open_clip: Any, vit: Path) -> None:
    import torch

    encoder = isomix.load_encoder(f"openclip:local-dir:{vit}")
    model = open_clip.create_model(f"local-dir:{vit}").eval()
    sentences = ["a cat", "A photo of a red cat.", "", "cat " * 100]
    with torch.inference_mode():
        expected = unit(model.encode_text(open_clip.get_tokenizer("ViT-S-32")(sentences)))
    np.testing.assert_allclose(encoder.encode_text(sentences).embeddings, expected, atol=1e-5)


def test_a_file_of_weights_by_its_architecture(open_clip: Any, vit: Path) -> None:
    weights = vit / "open_clip_model.safetensors"
    encoder = isomix.load_encoder(f"openclip:{vit.name}/{weights}", offline=True)
    by_folder = isomix.load_encoder(f"openclip:local-dir:{vit}")
    assert encoder.projectors.fingerprint == by_folder.projectors.fingerprint
    assert Projectors.from_pretrained(f"openclip:{vit.name}/{weights}").fingerprint == encoder.projectors.fingerprint


def test_quickgelu_of_a_tag_is_respected(open_clip: Any, vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ViT-B-32/openai was trained with QuickGELU, which the architecture of that name does not have."""
    import torch

    weights = str(vit / "open_clip_model.safetensors")
    tags = {"random": {"file": weights, "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, vit.name, tags)
    encoder = isomix.load_encoder(f"openclip:{vit.name}/random")
    quick = open_clip.create_model(vit.name, weights, force_quick_gelu=True).eval()
    plain = open_clip.create_model(vit.name, weights).eval()

    pixels = torch.from_numpy(np.stack([encoder.preprocess(picture) for picture in pictures()]))
    with torch.inference_mode():
        expected, other = unit(quick.encode_image(pixels)), unit(plain.encode_image(pixels))
    embeddings = encoder.encode_image(pictures()).embeddings
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert np.abs(embeddings - other).max() > 1e-4


def test_a_tower_that_does_something_after_the_features_is_refused(
    open_clip: Any, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = open_clip.CLIP.encode_image

    def squared(self: Any, image: Any, normalize: bool = False) -> Any:
        return original(self, image) ** 2

    monkeypatch.setattr(open_clip.CLIP, "encode_image", squared)
    with pytest.raises(ModelError, match="does something after its pre-projection features"):
        isomix.load_encoder(f"openclip:local-dir:{vit}")


def test_an_mlp_as_image_head_is_refused(open_clip: Any, tmp_path: Path) -> None:
    config = open_clip.get_model_config("vit_medium_patch16_gap_256")
    folder = save_model(
        open_clip,
        "vit_medium_patch16_gap_256",
        tmp_path / "mlp",
        vision_cfg={**config["vision_cfg"], "timm_proj": "mlp"},
    )
    for attempt in (isomix.load_encoder, Projectors.from_pretrained):
        with pytest.raises(ModelError, match="image head is an MLP"):
            attempt(f"openclip:local-dir:{folder}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("openclip:ViT-B-32", "names no weights.*datacomp_xl_s13b_b90k"),
        ("openclip:ViT-B-32/nonsense", "no weights 'nonsense' for it; its tags: openai"),
        ("openclip:ViT-Z-1/openai", "no such architecture"),
        ("openclip:local-dir:/no/such/folder", "cannot be loaded.*open_clip_config.json"),
    ],
)
def test_unusable_names(open_clip: Any, spec: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        isomix.load_encoder(spec)


@pytest.mark.parametrize("spec", ["openclip:ViT-B-32/datacomp_xl_s13b_b90k", "openclip:hf-hub:nobody/no-such-model"])
def test_offline_forbids_downloads(open_clip: Any, spec: str) -> None:
    import huggingface_hub

    with pytest.raises(OfflineError, match="Connections are forbidden"):
        isomix.load_encoder(spec, offline=True)
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False
    with pytest.raises(OfflineError, match="connections are forbidden"):
        Projectors.from_pretrained(spec, offline=True)


def test_a_tag_leads_to_the_projectors_and_the_preset_band(
    open_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    tensors = {"visual.proj": rng.normal(size=(768, 512)), "text_projection": rng.normal(size=(512, 512))}
    repository = tmp_path / "models--laion--CLIP-ViT-B-32-DataComp.XL-s13B-b90K"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    save_file(
        {name: tensor.astype(np.float32) for name, tensor in tensors.items()},
        repository / "snapshots" / "c0ffee" / "open_clip_model.safetensors",
    )
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    pair = Projectors.from_pretrained("openclip:ViT-B-32/datacomp_xl_s13b_b90k", offline=True)
    assert pair.image.shape == (512, 768)
    assert isomix.IsoCLIP(pair).fit().band_ == (50, 50)
    with pytest.raises(ModelError, match="no such weights on a hub"):
        Projectors.from_pretrained("openclip:ViT-B-32/nonsense", offline=True)


def test_a_torchvision_for_another_torch_is_named() -> None:
    """The real trap: this environment without the two schemas that the fixture registers."""
    program = "import isomix; isomix.load_encoder('openclip:ViT-B-32/openai', offline=True)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if "OfflineError" in done.stderr:
        pytest.skip("the torchvision here belongs to this torch")
    assert "MissingExtraError: open_clip cannot be imported: operator torchvision::nms does not exist" in done.stderr
    assert "Install both in one command" in done.stderr


def test_other_wrong_arguments(copy: Path) -> None:
    folder = copy
    with pytest.raises(InputError, match="open_clip always takes the newest"):
        isomix.load_encoder(f"openclip:local-dir:{folder}", revision="main")
    with pytest.raises(ModelError, match=r"device 'cuda:99' cannot be used"):
        isomix.load_encoder(f"openclip:local-dir:{folder}", device="cuda:99")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = {"resize_mode": "longest"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"'longest'.*does not do"):
        isomix.load_encoder(f"openclip:local-dir:{folder}")


def test_every_architecture_is_known_or_refused(open_clip: Any) -> None:
    """The layouts against the names of the tensors of all that open_clip can build (except texts of transformers)."""
    import torch

    from isomix.projectors.checkpoints import find_layout

    unknown = {"convnext_large_d", "convnext_large_d_320", "ViT-SO400M-16-SigLIP-i18n-256"}
    names = [name for name in open_clip.list_models() if not name.endswith("-random") and "-" in name]
    for name in names[::8] + sorted(unknown):
        if "hf_model_name" in open_clip.get_model_config(name)["text_cfg"]:
            continue
        with torch.device("meta"):
            weights = open_clip.create_model(name, device="meta").state_dict()
        if name in unknown:
            with pytest.raises(ModelError):
                find_layout(weights, name)
        else:
            find_layout(weights, name)
