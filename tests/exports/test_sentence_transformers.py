"""A sentence-transformers pipeline that ends in a space gives adapted vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

from isomix import IsoCLIP, Projectors
from isomix.spaces import PCAWhitening

SENTENCES = ["a red bus", "two cats", "a bus on a red road", "cats"]


@pytest.fixture
def words(rng):
    """A true pipeline of one trained-nothing module: the mean of word vectors, 16 wide."""
    vocabulary = {word: i for i, word in enumerate(sorted({w for s in SENTENCES for w in s.split()} | {"[UNK]"}))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return StaticEmbedding(tokenizer, embedding_weights=rng.normal(size=(len(vocabulary), 16)).astype(np.float32))


@pytest.fixture
def iso(rng):
    return IsoCLIP(Projectors(rng.normal(size=(16, 20)), rng.normal(size=(16, 16))), band=(2, 2), modality="text").fit()


def test_the_pipeline_gives_adapted_vectors_and_survives_saving(words, iso, tmp_path):
    plain = SentenceTransformer(modules=[words], device="cpu").encode(SENTENCES)
    pipeline = SentenceTransformer(modules=[words, *iso.to_sentence_transformers()], device="cpu")
    expected = iso.transform(plain)
    np.testing.assert_allclose(pipeline.encode(SENTENCES), expected, atol=1e-5)
    pipeline.save(str(tmp_path))
    again = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(again.encode(SENTENCES), expected, atol=1e-5)
    assert again.get_embedding_dimension() == iso.n_components_


def test_an_offset_becomes_a_bias(rng):
    E = (rng.normal(size=(20, 6)) + rng.normal(size=6)).astype(np.float32)
    space = PCAWhitening(3).fit(E)
    dense, normalize = space.to_sentence_transformers()
    result = normalize(dense({"sentence_embedding": torch.from_numpy(E)}))["sentence_embedding"]
    np.testing.assert_allclose(result.numpy(), space.transform(E), atol=1e-5)
