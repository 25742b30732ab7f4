"""A local copy of a published checkpoint takes the preset of the one it is a copy of, and it is said."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from isomix import IsoCLIP, Projectors
from isomix.errors import BandError, IsomixWarning
from isomix.spaces import load_space, recognition
from isomix.spaces.defaults import fit_isoclip
from isomix.spaces.recognition import find_preset, text_mark

B32, B16 = "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16"


def copy_of(folder: Path, image: np.ndarray, text: np.ndarray, name: str | None = None) -> Projectors:
    """A folder as transformers writes it, and its projectors."""
    folder.mkdir(parents=True)
    config = {"model_type": "clip"} | ({} if name is None else {"_name_or_path": name})
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"visual_projection.weight": image, "text_projection.weight": np.ascontiguousarray(text)}
    save_file(tensors, folder / "model.safetensors")
    return Projectors.from_pretrained(str(folder))


@pytest.fixture
def clip_b16(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices of its shape."""
    return rng.normal(size=(512, 768)).astype(np.float32), rng.normal(size=(512, 512)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_a_copy_of_vit_b32_is_known_by_its_text_projector(
    shared_data: Path, tmp_path: Path, rng: np.random.Generator, dtype: type
) -> None:
    text = np.load(shared_data / "projectors" / "openai_vitb32_text.npz")["text"].astype(dtype)
    image = rng.normal(size=(512, 768)).astype(np.float32)
    for name in (None, "a name that means nothing", B16):
        copied = copy_of(tmp_path / f"{name}", image, text, name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            iso = IsoCLIP(copied).fit()
        assert (iso.band_, iso.band_source_) == ((150, 50), "preset")
        assert iso.preset_of_ == f"{B32}, by its text projector"
        assert fit_isoclip(copied.text_only(), "preset", pytest.fail).band_ == (150, 50)
    copied.save(tmp_path / "pair.safetensors")
    assert find_preset(Projectors.load(tmp_path / "pair.safetensors").replace(source="")).backbone == B32
    iso.save(tmp_path / "iso.safetensors")
    assert load_space(tmp_path / "iso.safetensors").preset_of_ == iso.preset_of_


def test_one_number_more_is_another_text_projector(shared_data: Path) -> None:
    text = np.load(shared_data / "projectors" / "openai_vitb32_text.npz")["text"].astype(np.float32)
    assert find_preset(Projectors(text=text)) is not None
    text[3, 4] *= 1.02
    assert find_preset(Projectors(text=text)) is None
    assert find_preset(Projectors(text=text.T)) is None


def test_the_mark_does_not_depend_on_how_it_is_stored(rng: np.random.Generator) -> None:
    text = rng.normal(size=(6, 5)).astype(np.float16)
    marks = {text_mark(Projectors(text=text.astype(dtype))) for dtype in (np.float16, np.float32, np.float64)}
    assert marks == {text_mark(Projectors(text=text.astype(ml_dtypes.bfloat16).astype(np.float32)))}
    assert text_mark(Projectors(text=text.reshape(5, 6))) not in marks


@pytest.mark.parametrize("written", [B16, "/home/somebody/clip-vit-base-patch16", "clip-vit-base-patch16/"])
def test_by_the_name_in_its_configuration_and_it_is_said(
    tmp_path: Path, clip_b16: tuple[np.ndarray, np.ndarray], written: str
) -> None:
    copied = copy_of(tmp_path / "model", *clip_b16, written)
    with pytest.warns(IsomixWarning, match=f"preset band of {B16}, by the name in config.json"):
        iso = IsoCLIP(copied).fit()
    assert (iso.band_, iso.preset_of_) == ((200, 50), f"{B16}, by the name in config.json")


def test_by_its_place_in_the_cache_of_the_hub(tmp_path: Path, clip_b16: tuple[np.ndarray, np.ndarray]) -> None:
    folder = tmp_path / "models--laion--CLIP-ViT-B-16-DataComp.XL-s13B-b90K" / "snapshots" / "0123"
    found = find_preset(copy_of(folder, *clip_b16))
    assert (found.band, found.by) == ((100, 100), "the name of its folder in the hub's cache")


def test_a_name_alone_is_not_enough(tmp_path: Path, rng: np.random.Generator) -> None:
    """Another shape; a name whose text projector is known and is another one; no name; no JSON."""
    image, text = rng.normal(size=(64, 96)).astype(np.float32), rng.normal(size=(64, 80)).astype(np.float32)
    assert find_preset(copy_of(tmp_path / "shape", image, text, B16)) is None
    image, text = rng.normal(size=(512, 768)).astype(np.float32), rng.normal(size=(512, 512)).astype(np.float32)
    finetuned = copy_of(tmp_path / "finetuned", image, text, B32)
    assert find_preset(finetuned) is None
    with pytest.raises(BandError, match="no preset band"):
        IsoCLIP(finetuned).fit()
    nameless = copy_of(tmp_path / "nameless", image, text)
    assert find_preset(nameless) is None
    (tmp_path / "nameless" / "config.json").write_text("[" * 100_000)
    assert find_preset(nameless) is None


def test_marks_and_shapes_are_of_backbones_with_a_preset() -> None:
    for name in (*recognition.TEXT_MARKS.values(), *recognition.SHAPES):
        assert recognition.has_preset(name)
