"""The text projector alone: what it holds, what it refuses, and whether it belongs to a bank of text embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from isomix.errors import InputError, ModelError
from isomix.projectors import Projectors


def test_save_load_and_what_is_not_there(tmp_path, rng):
    W = rng.normal(size=(4, 5)).astype(np.float32)
    alone = Projectors(text=W, text_bias=np.ones(4, np.float32), logit_scale=20.0, source="hf:a/b")
    alone.save(tmp_path / "p.safetensors")
    again = Projectors.load(tmp_path / "p.safetensors")
    assert again.image is None
    assert (again.fingerprint, again.source, repr(again)) == (alone.fingerprint, "hf:a/b", repr(alone))
    assert alone.embedding_dim == 4
    assert alone.why_not_linear("image") == ""
    assert repr(Projectors(text=W)) == "Projectors(text 5 -> 4)"
    with pytest.raises(ModelError, match="only the text projector"):
        alone.project_image(rng.normal(size=(2, 6)))


def test_the_text_side_of_a_pair(rng):
    image, text = rng.normal(size=(4, 6)), rng.normal(size=(4, 5))
    pair = Projectors(image, text, image_bias=np.ones(4), linearised_at="origin", source="hf:a/b")
    assert pair.text_only().fingerprint == Projectors(text=text).fingerprint != pair.fingerprint
    assert (pair.text_only().source, pair.text_only().linearised_at) == ("hf:a/b", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "text projector: got none"),
        ({"image": np.eye(3)}, "text projector: got none"),
        ({"text": np.eye(3), "image_bias": np.ones(3)}, "no image projector that they could belong to"),
        ({"text": np.eye(3), "text_bias": np.ones(4)}, "got width 4, expected 3"),
        ({"text": np.ones(3)}, "two dimensions"),
    ],
)
def test_what_makes_no_projectors(arguments, message):
    with pytest.raises(InputError, match=message):
        Projectors(**arguments)


@pytest.fixture
def falling(rng):
    """A projector (16, 24) whose singular values fall, and embeddings of its sentences."""
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (16, 24))
    W = U * np.geomspace(1, 0.02, 16) @ V[:, :16].T
    return W, rng.normal(size=(60, 24)) @ W.T


def test_the_right_matrix_passes_and_others_do_not(falling, rng):
    W, T = falling
    assert Projectors(text=W).check_text_embeddings(T) > 0.9
    turned = np.linalg.qr(rng.normal(size=(16, 16)))[0] @ W
    with pytest.raises(ModelError, match="transposed, the image projector, or another model's"):
        Projectors(text=turned).check_text_embeddings(T)
    with pytest.raises(InputError, match=r"got width 16, expected 24.*24 x 16 is probably transposed"):
        Projectors(text=W.T).check_text_embeddings(T)
    with pytest.raises(InputError, match="got width 15, expected 16"):
        Projectors(text=W).check_text_embeddings(T[:, 1:])
    with pytest.raises(InputError, match="at least 20"):
        Projectors(text=W).check_text_embeddings(T[:19])
    with pytest.raises(ModelError, match="all alike"):
        Projectors(text=np.eye(16)).check_text_embeddings(T)
    with pytest.raises(ModelError, match="or the sentences are"):
        Projectors(text=W).check_text_embeddings(np.tile(T[:1], (30, 1)))


def test_real_text_embeddings_tell_the_projector_of_their_model(shared_data):
    """OpenAI ViT-B/32: the embeddings of the ImageNet class names."""
    W = np.load(shared_data / "projectors" / "openai_vitb32_text.npz")["text"]
    T = np.load(shared_data / "vitb32_imagenet_fewshot.npz")["text"]
    other = np.load(shared_data / "projectors" / "chinese_clip_vitb16_finetuned.npz")
    assert Projectors(text=W).check_text_embeddings(T) == pytest.approx(0.92, abs=0.01)
    assert Projectors(text=W).check_text_embeddings(T[::50]) > 0.8
    for wrong in (W.T, other["text"], other["image"]):
        with pytest.raises(ModelError, match="do not spread as this text projector says"):
            Projectors(text=wrong).check_text_embeddings(T)


def test_the_embedded_model_passes():
    from isomix import load_encoder
    from isomix.encoders.prompts import nouns

    encoder = load_encoder("embedded")
    T = encoder.encode_text(nouns()[:200], show_progress_bar=False).embeddings
    assert encoder.projectors.check_text_embeddings(T) > 0.9
    with pytest.raises(ModelError):
        encoder.projectors.replace(text=encoder.projectors.text.T).check_text_embeddings(T)
