"""IsoCLIP: the algebra of the paper, its consequences, and its errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline

import isomix
from isomix.errors import BandError, FileFormatError, InputError, ModalityError, ModelError, NotFittedError
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, load_space
from isomix.spaces.bands import Band, preset_band
from isomix.store.inspect import inspect_path


@st.composite
def cases(draw):
    """A pair of projectors with d_in above, at and below d, a legal band and a modality."""
    d = draw(st.integers(3, 14))
    d_image, d_text = draw(st.integers(3, 20)), draw(st.integers(3, 20))
    rank = min(d, d_image, d_text)
    k_top = draw(st.integers(0, rank - 1))
    k_bottom = draw(st.integers(0, rank - 1 - k_top))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pair = Projectors(well_conditioned(rng, d, d_image), well_conditioned(rng, d, d_text))
    modality = draw(st.sampled_from(["image", "text"]))
    features = rng.normal(size=(6, d_image if modality == "image" else d_text))
    return pair, k_top, k_bottom, modality, features


def well_conditioned(rng, rows, columns):
    """A random matrix of full rank with singular values between 1 and 10."""
    U, S, Vt = np.linalg.svd(rng.normal(size=(rows, columns)), full_matrices=False)
    return (U * np.linspace(10, 1, len(S))) @ Vt


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def direct(pair, k_top, k_bottom, modality, features):
    """W' h of the paper from the SVD of the whole operator, normalised."""
    U, _, Vt = np.linalg.svd(pair.image.T @ pair.text)
    rank = min(pair.image.shape + pair.text.shape)
    basis = U[:, :rank] if modality == "image" else Vt[:rank].T
    kept = basis[:, k_top : rank - k_bottom]
    weight = pair.image if modality == "image" else pair.text
    return unit(features @ (weight @ kept @ kept.T).T)


def stored(pair, modality, features):
    return pair.project_image(features) if modality == "image" else pair.project_text(features)


@given(cases())
def test_retrofit_of_stored_embeddings_equals_direct_projection(case):
    pair, k_top, k_bottom, modality, features = case
    iso = IsoCLIP(pair, band=(k_top, k_bottom), modality=modality, compact=False).fit()
    expected = direct(*case)
    np.testing.assert_allclose(iso.transform(stored(pair, modality, features)), expected, atol=1e-12)
    np.testing.assert_allclose(iso.transform(unit(stored(pair, modality, features))), expected, atol=1e-12)
    np.testing.assert_allclose(iso.transform_features(features), expected, atol=1e-12)


@given(cases())
def test_compact_has_the_cosines_of_full(case):
    pair, k_top, k_bottom, modality, features = case
    embeddings = stored(pair, modality, features)
    full = IsoCLIP(pair, band=(k_top, k_bottom), modality=modality, compact=False).fit()
    compact = IsoCLIP(pair, band=(k_top, k_bottom), modality=modality).fit()
    Z, C = full.transform(embeddings), compact.transform(embeddings)
    assert C.shape[1] == compact.n_components_ == compact.rank_ - k_top - k_bottom
    np.testing.assert_allclose(C @ C.T, Z @ Z.T, atol=1e-12)
    np.testing.assert_allclose(compact.transform_features(features), C, atol=1e-12)


@given(cases())
def test_empty_cut_is_the_identity_exactly_when_the_ranks_allow(case):
    pair, _, _, modality, features = case
    iso = IsoCLIP(pair, band=(0, 0), modality=modality, compact=False).fit()
    own = pair.image if modality == "image" else pair.text
    embeddings = unit(stored(pair, modality, features))
    if iso.rank_ == np.linalg.matrix_rank(own):
        np.testing.assert_allclose(iso.transform(embeddings), embeddings, atol=1e-12)
    else:
        assert np.abs(iso.transform(embeddings) - embeddings).max() > 1e-9


@given(cases())
def test_folded_projector_gives_the_adapted_vectors(case):
    pair, k_top, k_bottom, modality, features = case
    iso = IsoCLIP(pair, band=(k_top, k_bottom), modality=modality, compact=False).fit()
    folded = iso.folded_projectors()
    embeddings = unit(stored(folded, modality, features))
    np.testing.assert_allclose(embeddings, iso.transform_features(features), atol=1e-12)
    other = "text" if modality == "image" else "image"
    np.testing.assert_array_equal(getattr(folded, other), getattr(pair, other))


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_save_and_load_give_the_same_bytes_and_vectors(tmp_path, rng, compact, modality):
    pair = Projectors(
        rng.normal(size=(8, 12)).astype(np.float32),
        rng.normal(size=(8, 6)).astype(np.float32),
        logit_scale=20.0,
        source="x",
    )
    iso = IsoCLIP(pair, band=(1, 2), modality=modality, compact=compact).fit()
    iso.save(tmp_path / "a.safetensors")
    iso.save(tmp_path / "b.safetensors")
    again = load_space(tmp_path / "a.safetensors")
    again.save(tmp_path / "c.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()
    E = rng.normal(size=(5, 8))
    np.testing.assert_array_equal(again.transform(E), iso.transform(E))
    assert again.fingerprint == iso.fingerprint
    assert again.describe() == iso.describe()
    np.testing.assert_array_equal(again.folded_projectors().image, iso.folded_projectors().image)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 5e-3), (np.float32, 1e-5), (np.float64, 1e-12)])
def test_precision_in_gives_precision_out(rng, dtype, tolerance):
    pair = Projectors(well_conditioned(rng, 32, 48), well_conditioned(rng, 32, 24))
    iso = IsoCLIP(pair, band=(3, 4), compact=False).fit()
    features = rng.normal(size=(50, 48))
    Z = iso.transform(unit(pair.project_image(features)).astype(dtype))
    assert Z.dtype == (np.float64 if dtype == np.float64 else np.float32)
    reference = iso.transform_features(features)
    assert 1 - (Z * reference).sum(1).min() < tolerance


def test_rows_do_not_depend_on_the_block_they_are_in(rng):
    pair = Projectors(rng.normal(size=(8, 8)), rng.normal(size=(8, 8)))
    iso = IsoCLIP(pair, band=(1, 1)).fit()
    E = rng.normal(size=(20000, 8))
    np.testing.assert_allclose(
        iso.transform(E)[[0, 8191, 8192, 19999]], iso.transform(E[[0, 8191, 8192, 19999]]), atol=1e-14
    )


def test_extreme_scales_are_not_an_error(rng):
    pair = Projectors(rng.normal(size=(6, 6)), rng.normal(size=(6, 6)))
    iso = IsoCLIP(pair, band=(1, 1)).fit()
    E = rng.normal(size=(4, 6)).astype(np.float32)
    for scale in (np.float32(1e-30), np.float32(1e30)):
        np.testing.assert_allclose(iso.transform(E * scale), iso.transform(E), atol=1e-5)


def test_text_projector_of_lower_rank(rng):
    pair = Projectors(rng.normal(size=(10, 14)), rng.normal(size=(10, 4)))
    iso = IsoCLIP(pair, band=(0, 0)).fit()
    assert iso.rank_ == 4
    assert iso.n_components_ == 4


def test_a_space_remembers_where_its_head_was_linearised(tmp_path, rng):
    pair = Projectors(
        rng.normal(size=(6, 9)), rng.normal(size=(6, 5)), image_bias=rng.normal(size=6), linearised_at="sample"
    )
    for modality in ("image", "text"):
        space = IsoCLIP(pair, band=(1, 1), modality=modality).fit()
        space.save(tmp_path / "s.safetensors")
        again = load_space(tmp_path / "s.safetensors")
        assert again.projectors.linearised_at == "sample"
        assert inspect_path(tmp_path / "s.safetensors")["parameters"]["linearised_at"] == "sample"
        if modality == "text":
            assert again.folded_projectors().linearised_at == "sample"
            continue
        for fail in (lambda: again.transform(np.ones((1, 6))), again.folded_projectors):  # noqa: B023
            with pytest.raises(ModelError, match=r"not linear \(its projector is a linearisation at the sample"):
                fail()


def test_files_without_that_entry_still_load(tmp_path, rng):
    pair = Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 5)), image_bias=rng.normal(size=6))
    space = IsoCLIP(pair, band=(1, 1)).fit()
    assert "linearised_at" not in space.describe()["parameters"]
    space.save(tmp_path / "s.safetensors")
    again = load_space(tmp_path / "s.safetensors")
    assert again.projectors.linearised_at == ""
    with pytest.raises(ModelError, match="the image head has a bias"):
        again.transform(np.ones((1, 6)))


def test_biased_head_needs_features(rng):
    pair = Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 5)), image_bias=rng.normal(size=6))
    iso = IsoCLIP(pair, band=(1, 1), compact=False).fit()
    features = rng.normal(size=(4, 9))
    W = np.column_stack([pair.image, pair.image_bias])
    U = np.linalg.svd(W.T @ pair.text)[0][:, 1 : iso.rank_ - 1]
    expected = unit(np.column_stack([features, np.ones(4)]) @ (W @ U @ U.T).T)
    np.testing.assert_allclose(iso.transform_features(features), expected, atol=1e-12)
    with pytest.raises(ModelError, match="has a bias"):
        iso.transform(rng.normal(size=(2, 6)))
    text = IsoCLIP(pair, band=(1, 1), modality="text").fit()
    sentences = rng.normal(size=(4, 5))
    np.testing.assert_allclose(
        text.transform(pair.project_text(sentences)), text.transform_features(sentences), atol=1e-12
    )


def test_works_as_a_pipeline_step_and_clones(rng):
    pair = Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 6)))
    iso = IsoCLIP(pair, band=(1, 1))
    X, y = rng.normal(size=(30, 6)), np.repeat([0, 1, 2], 10)
    pipeline = make_pipeline(iso, NearestCentroid()).fit(X, y)
    assert pipeline.predict(X).shape == (30,)
    assert clone(iso).get_params()["band"] == (1, 1)
    with pytest.raises(NotFittedError, match="not fitted"):
        clone(iso).transform(X)


def test_preset_bands():
    assert preset_band("hf:openai/clip-vit-base-patch32") == (150, 50)
    assert preset_band("openclip:ViT-B-32-quickgelu/openai", "text") == (20, 100)
    assert preset_band("openclip:ViT-B-16/datacomp_xl_s13b_b90k") == (100, 100)
    assert preset_band("openclip:hf-hub:laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K") == (50, 50)
    with pytest.raises(BandError, match="no preset band for the backbone 'hf:someone/else'"):
        preset_band("hf:someone/else")
    with pytest.raises(BandError, match="text"):
        preset_band("PE-Core-B-16/meta", "text")


def test_preset_uses_the_source_or_a_name(rng):
    image, text = rng.normal(size=(512, 768)).astype(np.float32), rng.normal(size=(512, 512)).astype(np.float32)
    named = IsoCLIP(Projectors(image, text, source="hf:openai/clip-vit-base-patch32")).fit()
    assert (named.rank_, named.n_components_, named.band_) == (512, 312, (150, 50))
    assert named.band_source_ == "preset"
    assert named.describe()["band"] == {"k_top": 150, "k_bottom": 50, "of": 512}
    by_name = IsoCLIP(Projectors(image, text), "ViT-B-32/openai").fit()
    assert by_name.fingerprint == IsoCLIP(Projectors(image, text), band=(150, 50)).fit().fingerprint
    with pytest.raises(BandError, match="projectors without a source"):
        IsoCLIP(Projectors(image, text)).fit()


@pytest.mark.parametrize("band", ["1/2", " 1 / 2 ", (1, 2), [1, 2], np.array([1, 2]), Band(1, 2)])
def test_spellings_of_a_band(rng, band):
    iso = IsoCLIP(Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 6))), band).fit()
    assert (iso.band_, iso.band_source_, str(iso.band_)) == ((1, 2), "given", "1/2")


@pytest.mark.parametrize("band", [(6, 0), (3, 3), "0/6", (100, 0)])
def test_band_that_leaves_nothing(rng, band):
    pair = Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 6)))
    with pytest.raises(BandError, match=r"leaves no direction.*rank 6.*at most 5"):
        IsoCLIP(pair, band).fit()


@pytest.mark.parametrize("band", [(-1, 0), (1.5, 0), (True, 0), (0, float("nan")), ("1", 2)])
def test_band_that_is_no_count(rng, band):
    pair = Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 6)))
    with pytest.raises(BandError, match="expected an integer of at least 0"):
        IsoCLIP(pair, band).fit()


@pytest.mark.parametrize("band", [None, 1, "", (1,), (1, 2, 3)])
def test_what_is_no_band(rng, band):
    pair = Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 6)))
    with pytest.raises(BandError, match="two counts such as '150/50'"):
        IsoCLIP(pair, band).fit()


@pytest.fixture
def iso(rng):
    return IsoCLIP(Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 6))), band=(1, 1)).fit()


def test_bad_embeddings(iso, rng):
    E = rng.normal(size=(4, 6))
    with pytest.raises(InputError, match="5 features"):
        iso.transform(E[:, :5])
    with pytest.raises(InputError, match="1D array"):
        iso.transform(E[0])
    with pytest.raises(InputError, match="embeddings"):
        iso.transform(E.astype(str))
    broken = E.copy()
    broken[2, 3] = np.nan
    with pytest.raises(InputError, match="row 2"):
        iso.transform(broken)
    broken[2] = 0
    with pytest.raises(InputError, match="row 2 is all zeros"):
        iso.transform(broken)
    broken[2] = np.inf
    with pytest.raises(InputError, match="row 2"):
        iso.transform(broken)
    with pytest.raises(InputError, match=r"expected 9 \(the image projector's input\)"):
        iso.transform_features(E)


def test_the_other_modality_is_refused(iso):
    iso.check_modality("image")
    with pytest.raises(ModalityError, match="plain embeddings on both sides"):
        iso.check_modality("text")


def test_wrong_arguments(rng):
    pair = Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 6)))
    with pytest.raises(InputError, match="expected 'image' or 'text'"):
        IsoCLIP(pair, band=(1, 1), modality="sound").fit()
    with pytest.raises(InputError, match=r"expected isomix\.Projectors"):
        IsoCLIP(np.eye(3), band=(1, 1)).fit()


def test_loading_something_else(tmp_path, iso):
    path = tmp_path / "iso.safetensors"
    with pytest.raises(FileFormatError, match="does not exist"):
        load_space(path)
    with pytest.raises(FileFormatError, match="is a folder"):
        load_space(tmp_path)
    path.write_bytes(b"\x80\x04pickled")
    with pytest.raises(FileFormatError, match="not a safetensors file"):
        load_space(path)
    iso.projectors.save(path)
    with pytest.raises(FileFormatError, match="holds a projectors, expected a space"):
        load_space(path)
    iso.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="not a safetensors file"):
        load_space(path)
    path.write_bytes(whole.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(FileFormatError, match="format version 9"):
        load_space(path)
    path.write_bytes(whole.replace(b'\\"k_top\\": 1', b'\\"k_top\\": 0'))
    with pytest.raises(FileFormatError, match="directions"):
        load_space(path)


def test_public_names_are_importable():
    assert isomix.IsoCLIP is IsoCLIP
    assert set(isomix.__all__) <= set(dir(isomix))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = isomix.nonsense
