"""The pair of projectors: shapes, orientation, persistence."""

from __future__ import annotations

import numpy as np
import pytest

from isomix.errors import FileFormatError, InputError, ModelError
from isomix.projectors import Projectors


def test_different_widths_name_the_transposed_one(rng):
    with pytest.raises(InputError, match="transposed"):
        Projectors(rng.normal(size=(768, 512)), rng.normal(size=(512, 512)))
    with pytest.raises(InputError, match=r"same number of rows.*Take both from one model"):
        Projectors(rng.normal(size=(5, 7)), rng.normal(size=(6, 8)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3), int), "dtype int64"),
        (np.zeros(3), "two dimensions"),
        (np.full((2, 3), np.nan), "NaN.*float32 or bfloat16"),
        (np.zeros((0, 3)), "at least 1"),
    ],
)
def test_bad_projectors(array, message, rng):
    with pytest.raises(InputError, match=message):
        Projectors(array, rng.normal(size=(2, 3)))


def test_a_transposed_square_projector_is_caught_by_a_forward_pass(rng):
    W, text = rng.normal(size=(8, 8)), rng.normal(size=(8, 8))
    features = rng.normal(size=(3, 8))
    embeddings = features @ W.T
    Projectors(W, text).check_embeddings(features, embeddings)
    with pytest.raises(ModelError, match="transposed"):
        Projectors(W.T, text).check_embeddings(features, embeddings)
    Projectors(text, W).check_embeddings(features, embeddings, modality="text")


def test_save_and_load(tmp_path, rng):
    pair = Projectors(
        rng.normal(size=(4, 6)),
        rng.normal(size=(4, 5)),
        text_bias=rng.normal(size=4),
        logit_scale=14.2857,
        source="hf:a/b",
    )
    pair.save(tmp_path / "p.safetensors")
    again = Projectors.load(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(again.image, pair.image)
    np.testing.assert_array_equal(again.text_bias, pair.text_bias)
    assert again.image_bias is None
    assert (again.logit_scale, again.source, again.fingerprint) == (pair.logit_scale, pair.source, pair.fingerprint)
    assert repr(again) == "Projectors(image 6 -> 4, text 5 -> 4 with text bias, source='hf:a/b')".replace(
        " with", ", with"
    )


def test_load_lists_every_problem(tmp_path):
    from isomix._documents import Document, write_document

    tensors = {"image_projector": np.zeros((4, 6)), "image_bias": np.zeros(3)}
    write_document(tmp_path / "p.safetensors", Document("projectors", "projectors", {}, tensors))
    with pytest.raises(FileFormatError, match=r"text_projector.*missing.*image_bias.*expected d=4"):
        Projectors.load(tmp_path / "p.safetensors")


def test_fingerprint_sees_every_weight(rng):
    image, text = rng.normal(size=(4, 6)), rng.normal(size=(4, 5))
    changed = image.copy()
    changed[0, 0] += 1e-3
    assert Projectors(image, text).fingerprint == Projectors(image.copy(), text).fingerprint
    assert Projectors(image, text).fingerprint != Projectors(changed, text).fingerprint
