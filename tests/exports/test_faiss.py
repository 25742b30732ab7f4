"""faiss with a space inside gives the vectors of ``transform`` and the neighbours of ``search``."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from isomix import IsoCLIP, Projectors, search
from isomix.errors import InputError
from isomix.spaces import PCAWhitening


@pytest.fixture
def iso(rng):
    return IsoCLIP(Projectors(rng.normal(size=(16, 20)), rng.normal(size=(16, 16))), band=(2, 2)).fit()


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_transform_is_the_map_before_normalisation(iso, rng):
    E = rng.normal(size=(30, 16)).astype(np.float32)
    linear, normalization = iso.to_faiss()
    mapped = linear.apply(E)
    np.testing.assert_allclose(normalization.apply(mapped), iso.transform(E), atol=1e-5)
    np.testing.assert_allclose(unit(mapped), iso.transform(E), atol=1e-5)
    np.testing.assert_allclose(mapped, E @ iso.operator_.T, atol=1e-4)


def test_an_offset_becomes_a_bias(rng):
    E = (rng.normal(size=(20, 6)) + rng.normal(size=6)).astype(np.float32)
    space = PCAWhitening(3).fit(E)
    np.testing.assert_allclose(unit(space.to_faiss()[0].apply(E)), space.transform(E), atol=1e-5)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_wrapped_index_finds_what_search_finds(iso, rng, tmp_path, kind):
    gallery, queries = (rng.normal(size=(n, 16)).astype(np.float32) for n in (300, 20))
    k = iso.n_components_
    inner = faiss.IndexFlatIP(k)
    if kind == "ivf":
        _quantizer, inner = inner, faiss.IndexIVFFlat(inner, k, 4, faiss.METRIC_INNER_PRODUCT)
        inner.nprobe = 4
    index = iso.wrap_faiss_index(inner)
    assert index.d == 16
    index.train(gallery)
    index.add(gallery)
    expected_scores, expected_rows = search(iso.transform(queries), iso.transform(gallery), k=5)
    faiss.write_index(index, str(tmp_path / "adapted.faiss"))
    for each in (index, faiss.read_index(str(tmp_path / "adapted.faiss"))):
        scores, rows = each.search(queries, 5)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_the_wrapped_index_keeps_its_parts_alive(iso, rng):
    index = iso.wrap_faiss_index(faiss.IndexFlatIP(iso.n_components_))  # nobody else holds the inner index
    E = rng.normal(size=(50, 16)).astype(np.float32)
    index.add(E)
    np.testing.assert_array_equal(index.search(E, 1)[1].ravel(), np.arange(50))


def test_unfit_indexes_are_refused(iso, rng):
    with pytest.raises(InputError, match="got width 16, expected a faiss index of width 12"):
        iso.wrap_faiss_index(faiss.IndexFlatIP(16))
    with pytest.raises(InputError, match="got list"):
        iso.wrap_faiss_index([])
    full = faiss.IndexFlatIP(12)
    full.add(rng.normal(size=(3, 12)).astype(np.float32))
    with pytest.raises(InputError, match="3 vectors already"):
        iso.wrap_faiss_index(full)
