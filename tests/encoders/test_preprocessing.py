"""Preprocessing by Pillow and numpy alone equals that of transformers, and is never guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from isomix.encoders.preprocessing import Preprocessing
from isomix.errors import ModelError

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


def noise(rng: np.random.Generator, *shapes: tuple[int, int]) -> list[Image.Image]:
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)) for height, width in shapes]


def test_preprocessing_equals_that_of_transformers(rng: np.random.Generator) -> None:
    clip = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = clip.CLIPImageProcessorPil(**{k: v for k, v in PREPROCESSING.items() if k != "image_processor_type"})
    own = Preprocessing.from_config(PREPROCESSING)
    for picture in noise(rng, (300, 411), (411, 300), (224, 224), (100, 150), (225, 1000)):
        expected = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0])
        np.testing.assert_allclose(own(picture), expected, atol=2e-6)


def test_preprocessing_of_a_picture_like_a_thread(rng: np.random.Generator) -> None:
    wide = Image.fromarray(rng.integers(0, 256, (40, 2000, 3), np.uint8)).resize((2000, 3), Image.Resampling.BICUBIC)
    for picture in (wide, wide.transpose(Image.Transpose.ROTATE_90)):
        own = Preprocessing(32, "bicubic", (32, 32), 1.0, (0.0,) * 3, (1.0,) * 3)
        length = int(32 * 2000 / 3)
        size = (length, 32) if picture.width > picture.height else (32, length)
        whole = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = (whole.width - 32) // 2, (whole.height - 32) // 2
        expected = np.asarray(whole.crop((left, top, left + 32, top + 32)), np.float32).transpose(2, 0, 1)
        assert np.abs(own(picture) - expected).max() <= 1
    usual = Preprocessing.from_config(PREPROCESSING)
    assert usual(Image.new("RGB", (30_000, 1))).shape == (3, 224, 224)
    assert usual(Image.new("RGB", (1, 30_000))).shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "'size' is missing"),
        ({**PREPROCESSING, "size": {"width": 3}}, "'height' is missing"),
        ({**PREPROCESSING, "resample": 9}, "9 is missing or unknown"),
        ({**PREPROCESSING, "image_mean": [0.5]}, "three channels"),
        ({**PREPROCESSING, "image_std": None}, "cannot be understood"),
        ({**PREPROCESSING, "size": {"shortest_edge": float("inf")}}, "cannot be understood"),
    ],
)
def test_preprocessing_is_never_guessed(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Preprocessing.from_config(config)


def test_older_forms_of_the_preprocessing_are_understood() -> None:
    old = {**PREPROCESSING, "size": 224, "crop_size": 224}
    assert Preprocessing.from_config(old) == Preprocessing.from_config(PREPROCESSING)
    both = Preprocessing.from_config({**PREPROCESSING, "size": {"height": 20, "width": 30}, "do_center_crop": False})
    assert both(Image.new("RGB", (64, 64))).shape == (3, 20, 30)
