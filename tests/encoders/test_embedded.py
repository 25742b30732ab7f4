"""The embedded model end to end: real, trained weights, no download."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import isomix
from isomix.encoders.embedded import EmbeddedEncoder
from isomix.errors import InputError, ModelError
from isomix.projectors import Projectors


@pytest.fixture(scope="module")
def encoder() -> EmbeddedEncoder:
    return isomix.load_encoder("embedded")


def drawings(count: int) -> list[Image.Image]:
    """Simple shapes in several colours, positions and sizes."""
    rng = np.random.default_rng(1)
    pictures = []
    for number in range(count):
        picture = Image.new("RGB", tuple(int(n) for n in rng.integers(20, 200, 2)), "white")
        draw = ImageDraw.Draw(picture)
        corners = np.sort(rng.random((2, 2)) * np.array(picture.size), axis=0).ravel().tolist()
        colour = tuple(int(n) for n in rng.integers(0, 200, 3))
        (draw.ellipse if number % 2 else draw.rectangle)(corners, fill=colour)
        pictures.append(picture)
    return pictures


def test_shapes_and_unit_rows(encoder: EmbeddedEncoder) -> None:
    images = encoder.encode_image(drawings(5))
    texts = encoder.encode_text(["a red circle", "", "word " * 100])
    assert (images.features.shape, images.embeddings.shape) == ((5, 256), (5, 192))
    assert (texts.features.shape, texts.embeddings.shape) == ((3, 192), (3, 192))
    assert (encoder.image_feature_dim, encoder.text_feature_dim, encoder.embedding_dim) == (256, 192, 192)
    for result in (images, texts):
        assert result.features.dtype == result.embeddings.dtype == np.float32
        assert result.ok.all() and not result.errors
        np.testing.assert_allclose(np.linalg.norm(result.embeddings, axis=1), 1.0, atol=1e-6)
    assert encoder.logit_scale == pytest.approx(24.5, abs=0.1)


def test_the_same_input_gives_the_same_bytes(encoder: EmbeddedEncoder) -> None:
    again = isomix.load_encoder("embedded")
    pictures = drawings(6)
    first, second = encoder.encode_image(pictures), again.encode_image(pictures)
    assert first.embeddings.tobytes() == second.embeddings.tobytes()
    assert encoder.fingerprint == again.fingerprint
    assert len(encoder.fingerprint) == 64


def test_batch_size_and_workers_do_not_matter(encoder: EmbeddedEncoder) -> None:
    pictures, sentences = drawings(11), [f"picture number {n}" for n in range(11)]
    whole = encoder.encode_image(pictures, batch_size=32)
    for batch_size, workers in ((1, 1), (4, 3), (11, 2)):
        parts = encoder.encode_image(pictures, batch_size=batch_size, workers=workers)
        np.testing.assert_allclose(parts.embeddings, whole.embeddings, atol=1e-5)
        texts = encoder.encode_text(sentences, batch_size=batch_size)
        np.testing.assert_allclose(texts.embeddings, encoder.encode_text(sentences).embeddings, atol=1e-5)


def test_texts_find_the_shapes_they_name(encoder: EmbeddedEncoder) -> None:
    """Eight shapes drawn here: random weights would put one of eight in its place."""
    star = [(48 + r * np.sin(k * np.pi / 5), 48 - r * np.cos(k * np.pi / 5)) for k, r in enumerate([40, 16] * 5)]
    shapes = {
        "circle": lambda draw: draw.ellipse((12, 12, 84, 84), "black"),
        "square": lambda draw: draw.rectangle((14, 14, 82, 82), "black"),
        "star": lambda draw: draw.polygon(star, "black"),
        "plus": lambda draw: [draw.rectangle(box, "black") for box in ((40, 12, 56, 84), (12, 40, 84, 56))],
        "arrow right": lambda draw: draw.polygon(
            [(10, 42), (56, 42), (56, 22), (88, 48), (56, 74), (56, 54), (10, 54)], "black"
        ),
        "triangle": lambda draw: draw.polygon([(48, 12), (88, 84), (8, 84)], "black"),
        "check": lambda draw: draw.line([(12, 50), (38, 76), (84, 22)], "black", width=12),
        "minus": lambda draw: draw.rectangle((12, 42, 84, 54), "black"),
    }
    pictures = []
    for shape in shapes.values():
        pictures.append(Image.new("RGB", (96, 96), "white"))
        shape(ImageDraw.Draw(pictures[-1]))
    similarity = encoder.encode_image(pictures).embeddings @ encoder.encode_text(list(shapes)).embeddings.T
    assert (similarity.argmax(1) == np.arange(8)).sum() >= 7


def test_pictures_are_fitted_into_a_white_square(encoder: EmbeddedEncoder) -> None:
    pixels = encoder.preprocess(Image.new("RGB", (200, 100)))
    assert pixels.shape == (3, 64, 64) and pixels.dtype == np.float32
    assert (pixels[:, 16:48] == 0).all() and (pixels[:, :16] == 1).all() and (pixels[:, 48:] == 1).all()
    for size in ((30_000, 1), (1, 30_000), (1, 1)):
        assert encoder.preprocess(Image.new("RGB", size)).shape == (3, 64, 64)


def test_both_pairs_share_the_towers(encoder: EmbeddedEncoder) -> None:
    other = isomix.load_encoder("embedded:as-trained")
    one, two = encoder.encode_image(drawings(2)), other.encode_image(drawings(2))
    np.testing.assert_array_equal(one.features, two.features)
    assert np.abs(one.embeddings - two.embeddings).max() > 0.05
    assert encoder.fingerprint != other.fingerprint
    assert Projectors.from_pretrained("embedded").fingerprint == encoder.projectors.fingerprint
    assert Projectors.from_pretrained("embedded:as-trained").fingerprint == other.projectors.fingerprint


def test_a_pickled_encoder_opens_its_sessions_again(encoder: EmbeddedEncoder) -> None:
    expected = encoder.encode_text(["a cat"])
    copy = pickle.dumps(encoder)
    assert len(copy) < 1_000_000
    restored = pickle.loads(copy)
    assert restored.encode_text(["a cat"]).embeddings.tobytes() == expected.embeddings.tobytes()
    assert restored.fingerprint == encoder.fingerprint


def test_preprocessing_is_json(encoder: EmbeddedEncoder) -> None:
    assert json.loads(json.dumps(encoder.preprocessing)) == encoder.preprocessing


def test_wrong_options() -> None:
    with pytest.raises(ModelError, match="'embedded:as-trained'"):
        isomix.load_encoder("embedded:large")
    with pytest.raises(InputError, match="'cpu' only"):
        isomix.load_encoder("embedded", device="cuda")
    with pytest.raises(InputError, match="version of isomix"):
        isomix.load_encoder("embedded", revision="main")


def test_the_card_credits_every_corpus() -> None:
    card = (Path(isomix.__file__).parent / "encoders/weights/MODEL_CARD.md").read_text(encoding="utf-8")
    for source in ("twemoji", "emojione", "game-icons", "noto", "fluent-emoji", "openclipart", "solar", "streamline"):
        assert source in card
    for licence in ("CC-BY-4.0", "CC-BY-3.0", "Apache-2.0", "MIT"):
        assert licence in card
