"""IsoCLIP from the text projector alone, or with the image projector's Gram matrix: the algebra, and real embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isomix.errors import BandError, FileFormatError, InputError, ModelError
from isomix.linalg import normalize_rows
from isomix.metrics import retrieval_metrics
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, RandomDirections, load_space
from isomix.spaces.controls import turned_projectors


@st.composite
def cases(draw):
    """d, widths of both towers that are at least d, a band, and a generator."""
    d = draw(st.integers(3, 14))
    widths = draw(st.integers(d, 20)), draw(st.integers(d, 20))
    k_top = draw(st.integers(0, d - 1))
    band = (k_top, draw(st.integers(0, d - 1 - k_top)))
    return d, *widths, band, np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def well_conditioned(rng, rows, columns):
    U, S, Vt = np.linalg.svd(rng.normal(size=(rows, columns)), full_matrices=False)
    return (U * np.geomspace(4, 1, len(S))) @ Vt


def cosines(space, E):
    Z = space.transform(E)
    return Z @ Z.T


@given(cases(), st.sampled_from(["image", "text"]), st.booleans())
def test_orthonormal_image_rows_and_no_image_projector_give_the_same_cosines(case, modality, compact):
    d, d_image, d_text, band, rng = case
    image = np.linalg.qr(rng.normal(size=(d_image, d)))[0].T
    text, E = well_conditioned(rng, d, d_text), rng.normal(size=(7, d))
    options = {"band": band, "modality": modality, "compact": compact}
    exact = IsoCLIP(Projectors(image, text), **options).fit()
    alone = IsoCLIP(Projectors(image=None, text=text), **options).fit()
    np.testing.assert_allclose(cosines(alone, E), cosines(exact, E), atol=1e-12)
    assert (exact.form_, alone.form_) == ("exact", "text projector alone")


@given(cases(), st.sampled_from(["image", "text"]), st.booleans(), st.booleans())
def test_the_gram_matrix_stands_in_for_the_image_projector(case, modality, compact, with_image):
    d, d_image, d_text, band, rng = case
    image, text = well_conditioned(rng, d, d_image), well_conditioned(rng, d, d_text)
    E, options = rng.normal(size=(7, d)), {"band": band, "modality": modality, "compact": compact}
    exact = IsoCLIP(Projectors(image, text), **options).fit()
    given_pair = Projectors(image if with_image else None, text)
    by_gram = IsoCLIP(given_pair, image_gram=image @ image.T, **options).fit()
    np.testing.assert_allclose(cosines(by_gram, E), cosines(exact, E), atol=1e-10)
    assert by_gram.form_ == "image gram"
    if with_image or modality == "text":
        H = rng.normal(size=(5, d_image if modality == "image" else d_text))
        Z = by_gram.transform_features(H)
        np.testing.assert_allclose(Z @ Z.T, cosines(by_gram, given_pair.side(modality).project(H)), atol=1e-10)


@given(cases())
def test_the_formula_as_it_is_written(case):
    """M = G W_t V_k S_k^-2 V_kᵀ W_tᵀ with V, S² the eigen-decomposition of W_tᵀ G W_t."""
    d, d_image, d_text, band, rng = case
    image, W = well_conditioned(rng, d, d_image), well_conditioned(rng, d, d_text)
    G, E = image @ image.T, rng.normal(size=(7, d))
    values, vectors = np.linalg.eigh(W.T @ G @ W)
    kept = slice(band[0], d - band[1])
    S2, V = values[::-1][:d][kept], vectors[:, ::-1][:, :d][:, kept]
    M = G @ W @ V / S2 @ V.T @ W.T
    full = IsoCLIP(Projectors(text=W), band, image_gram=G, compact=False).fit()
    np.testing.assert_allclose(full.transform(E), normalize_rows(E @ M.T), atol=1e-9)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("text_bias", [False, True])
def test_the_operator_is_the_middle_left_singular_vectors(rng, modality, text_bias):
    W, b = rng.normal(size=(8, 10)), rng.normal(size=8) if text_bias else None
    iso = IsoCLIP(Projectors(text=W, text_bias=b), (2, 1), modality=modality).fit()
    L = np.linalg.svd(W if b is None else np.column_stack([W, b]))[0][:, 2:7]
    assert iso.operator_.shape == (5, 8)
    np.testing.assert_allclose(iso.operator_ @ iso.operator_.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(iso.operator_.T @ iso.operator_, L @ L.T, atol=1e-12)


def test_text_features_are_mapped_and_image_features_are_not(rng):
    pair = Projectors(text=rng.normal(size=(8, 10)), text_bias=rng.normal(size=8))
    H = rng.normal(size=(4, 10))
    text = IsoCLIP(pair, (2, 1), modality="text").fit()
    np.testing.assert_allclose(text.transform_features(H), text.transform(pair.project_text(H)), atol=1e-12)
    image = IsoCLIP(pair, (2, 1)).fit()
    for use in (lambda: image.transform_features(H), lambda: image.affine_map("features")):
        with pytest.raises(ModelError, match="only the text projector"):
            use()
    with pytest.raises(ModelError, match="made from the text projector alone"):
        image.folded_projectors()


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("form", ["text projector alone", "image gram"])
@pytest.mark.parametrize("bias", [False, True])
def test_save_and_load(tmp_path, rng, modality, form, bias):
    image, text = rng.normal(size=(8, 9)), rng.normal(size=(8, 10))
    pair = Projectors(text=text, text_bias=rng.normal(size=8) if bias else None, source="hf:a/b")
    gram = image @ image.T if form == "image gram" else None
    iso = IsoCLIP(pair, (2, 1), modality=modality, image_gram=gram).fit()
    described = iso.describe()
    assert (described["form"], described["band"]) == (form, {"k_top": 2, "k_bottom": 1, "of": 8})
    assert described["source"] == {"model": "hf:a/b", "text_projector": pair.fingerprint}
    iso.save(tmp_path / "a.safetensors")
    again = load_space(tmp_path / "a.safetensors")
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert again.describe() == described
    E = rng.normal(size=(5, 8))
    if modality == "text" and form == "image gram" and bias:
        H = rng.normal(size=(5, 10))
        np.testing.assert_array_equal(again.transform_features(H), iso.transform_features(H))
    else:
        np.testing.assert_array_equal(again.transform(E), iso.transform(E))
    whole = (tmp_path / "a.safetensors").read_bytes()
    changed = whole.replace(form.encode(), b"x" * len(form))
    (tmp_path / "a.safetensors").write_bytes(changed)
    with pytest.raises(FileFormatError, match="form"):
        load_space(tmp_path / "a.safetensors")


def test_presets_are_those_of_the_source(rng):
    pair = Projectors(text=rng.normal(size=(512, 512)), source="hf:openai/clip-vit-base-patch32")
    assert IsoCLIP(pair).fit().band_ == (150, 50)
    assert IsoCLIP(pair, modality="text").fit().band_ == (20, 100)


def test_an_automatic_band_needs_embeddings_only(rng):
    pair, E = Projectors(text=rng.normal(size=(24, 30)), text_bias=rng.normal(size=24)), rng.normal(size=(300, 24))
    for modality in ("image", "text"):
        for bank in (None, rng.normal(size=(40, 24))):
            space = IsoCLIP(pair, "auto", modality=modality).fit(E, bank=bank)
            assert space.transform(E).shape == (300, space.n_components_)


@pytest.mark.parametrize(
    ("gram", "message"),
    [
        (np.eye(7), "got width 7, expected 8"),
        (np.ones((3, 8)), r"expected a symmetric matrix \(8, 8\)"),
        (np.arange(64.0).reshape(8, 8), "expected a symmetric matrix"),
        (np.diag([1.0] * 7 + [-1.0]), "not positive definite"),
        (np.full((8, 8), np.nan), "NaN"),
    ],
)
def test_a_gram_matrix_that_is_none(rng, gram, message):
    with pytest.raises(InputError, match=message):
        IsoCLIP(Projectors(text=rng.normal(size=(8, 10))), (1, 1), image_gram=gram).fit()


def test_a_band_wider_than_the_rank(rng):
    low_rank = rng.normal(size=(8, 3)) @ rng.normal(size=(3, 10))
    assert IsoCLIP(Projectors(text=low_rank), (1, 1)).fit().n_components_ == 1
    with pytest.raises(BandError, match="rank 3"):
        IsoCLIP(Projectors(text=low_rank), (2, 1)).fit()


def test_embeddings_of_another_width_are_refused(rng):
    iso = IsoCLIP(Projectors(text=rng.normal(size=(10, 8))), (1, 1)).fit()  # transposed
    with pytest.raises(InputError, match="8 features"):
        iso.transform(rng.normal(size=(3, 8)))


# ---------------------------------------------------------------------------------------------------------- controls


def test_a_turned_text_projector_keeps_its_spectrum_and_its_features(rng):
    pair = Projectors(rng.normal(size=(8, 9)), rng.normal(size=(8, 10)), text_bias=rng.normal(size=8))
    turned = turned_projectors(pair, seed=3)
    np.testing.assert_array_equal(turned.image, pair.image)
    affine, original = turned.side("text").affine, pair.side("text").affine
    np.testing.assert_allclose(affine.T @ affine, original.T @ original, atol=1e-12)
    assert np.abs(affine - original).max() > 0.1
    assert turned_projectors(pair, seed=3).fingerprint == turned.fingerprint
    assert turned_projectors(pair.text_only(), seed=3).image is None


def test_random_directions(tmp_path, rng):
    E = rng.normal(size=(9, 8))
    space = RandomDirections(3, seed=1).fit(E)
    space.save(tmp_path / "r.safetensors")
    np.testing.assert_array_equal(load_space(tmp_path / "r.safetensors").transform(E), space.transform(E))
    assert np.abs(space.operator_ - RandomDirections(3, seed=2).fit(E).operator_).max() > 0.1
    with pytest.raises(InputError, match="at most 8"):
        RandomDirections(9).fit(E)


# --------------------------------------------------------------------------------------- OpenAI ViT-B/32, real vectors


@pytest.fixture(scope="module")
def real(shared_data):
    W = np.load(shared_data / "projectors" / "openai_vitb32_text.npz")["text"]
    return Projectors(text=W, source="hf:openai/clip-vit-base-patch32")


def test_the_preset_band_of_the_text_projector_gains_on_caltech101(shared_data, real):
    data = np.load(shared_data / "vitb32_caltech101.npz")
    E, y = normalize_rows(data["test"].astype(np.float32)), data["test_labels"]

    def precision(Z):
        return 100 * retrieval_metrics(Z, y)["mean_average_precision"]

    assert precision(E) == pytest.approx(77.7, abs=0.06)
    assert precision(IsoCLIP(real).fit().transform(E)) == pytest.approx(81.6, abs=0.06)
    controls = IsoCLIP(turned_projectors(real)).fit(), RandomDirections(312).fit(E)
    transposed = IsoCLIP(real.replace(text=real.text.T)).fit()
    for control in (*controls, transposed):
        assert precision(control.transform(E)) < 77.7


def test_text_to_image_loses_in_the_band_so_the_two_spaces_stay_apart(shared_data, real):
    """Zero-shot ImageNet: sentences find their pictures in the plain space."""
    data = np.load(shared_data / "vitb32_imagenet_fewshot.npz")
    E, y = normalize_rows(data["images_4"].astype(np.float32)), data["labels_4"]
    T = normalize_rows(data["text"].astype(np.float32))
    iso = IsoCLIP(real).fit()

    def accuracy(pictures, sentences):
        return 100 * ((pictures @ sentences.T).argmax(axis=1) == y).mean()

    assert accuracy(E, T) == pytest.approx(61.1, abs=0.1)
    assert accuracy(iso.transform(E), iso.transform(T)) == pytest.approx(55.6, abs=0.1)
