"""Nested Text PCA: the mean of several Text PCA cosines, as one linear map."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from isomix import NestedTextPCA, Projectors, TextPCA, load_space
from isomix.errors import FileFormatError, InputError
from isomix.linalg import normalize_rows
from isomix.spaces.nested_text_pca import nested_weights

ZERO_ROWS = "its integer data has rows of zeros, which have no direction and are refused on purpose"


@parametrize_with_checks([NestedTextPCA()], expected_failed_checks=lambda _: {"check_estimators_dtypes": ZERO_ROWS})
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_weights_by_hand():
    # Energies 4, 5, 6; sizes 1 and 3: the first direction counts 1/4 + 1/6, the others 1/6.
    np.testing.assert_allclose(nested_weights(np.array([2.0, 1.0, 1.0]), [1, 3]) ** 2, [1, 0.4, 0.4])


def test_one_size_is_text_pca(rng):
    bank, E = rng.normal(size=(40, 8)), rng.normal(size=(5, 8))
    np.testing.assert_allclose(NestedTextPCA([3]).fit(bank).transform(E), TextPCA(3).fit(bank).transform(E), atol=1e-12)


def test_it_is_the_mean_of_cosines_where_the_norms_are_those_of_the_bank(rng):
    bank = rng.normal(size=(60, 12)) * np.linspace(3, 0.5, 12)
    sizes = (2, 5, 9)
    nested = NestedTextPCA(sizes).fit(bank)
    V, energy = TextPCA(9).fit(bank).operator_, np.cumsum(nested.singular_values_**2)

    def vectors(signs):  # of the energy of the bank along every direction
        return (signs * nested.singular_values_[:9]) @ V

    x, y = vectors(rng.choice([-1, 1], 9)), vectors(rng.choice([-1, 1], 9))
    for k in sizes:
        assert np.sum((V[:k] @ x) ** 2) == pytest.approx(energy[k - 1])
    expected = np.mean([float(np.dot(*normalize_rows(np.array([x, y]) @ V[:k].T))) for k in sizes])
    assert float(np.dot(*nested.transform(np.array([x, y])))) == pytest.approx(expected, abs=1e-12)


def test_default_sizes_follow_the_width_and_the_bank(rng):
    assert NestedTextPCA().fit(rng.normal(size=(80, 64))).sizes_ == (8, 16, 32)
    few = NestedTextPCA().fit(rng.normal(size=(13, 64)))
    assert (few.sizes_, few.n_components_, len(few.weights_)) == ((8, 12), 12, 12)
    assert NestedTextPCA().fit(rng.normal(size=(3, 2))).sizes_ == (1,)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [([], "expected numbers of directions"), ("auto", "expected numbers of directions"), (8, "expected numbers of directions"), ([0], "at least 1"), ([2.5], "integer"),
     ([4, 9], "only 8 directions")],
)  # fmt: skip
def test_sizes_that_cannot_be(sizes, message, rng):
    with pytest.raises(InputError, match=message):
        NestedTextPCA(sizes).fit(rng.normal(size=(40, 8)))


def test_bad_banks(rng):
    bank = rng.normal(size=(9, 8))
    bank[3, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        NestedTextPCA().fit(bank)
    with pytest.raises(InputError, match="only 0 directions"):
        NestedTextPCA().fit(np.tile(rng.normal(size=8), (5, 1)))
    with pytest.raises(InputError, match="2"):
        NestedTextPCA().fit(rng.normal(size=(1, 8)))


def test_behind_the_cliff_its_directions_are_those_of_text_pca(rng):
    left, right = (np.linalg.qr(rng.normal(size=(64, 64)))[0] for _ in range(2))
    S = np.r_[np.linspace(4, 3, 58), np.linspace(1.5, 0.1, 6)]
    pair = Projectors(text=(left * S) @ right.T, source="hf:a/b")
    bank = rng.normal(size=(300, 64)) * S @ left.T
    nested = NestedTextPCA(projectors=pair).fit(bank)
    assert (nested.cliff_, nested.sizes_) == (6, (8, 16, 32))
    whole = TextPCA(32, projectors=pair).fit(bank)
    np.testing.assert_allclose(nested.operator_, whole.operator_ * nested.weights_[:, None], atol=1e-12)


def test_projectors_without_a_cliff_leave_text_pca(rng):
    flat, bank = Projectors(text=rng.normal(size=(64, 64)), source="hf:a/b"), rng.normal(size=(300, 64))
    nested = NestedTextPCA(projectors=flat).fit(bank)
    assert (nested.cliff_, nested.sizes_) == (0, (32,))
    np.testing.assert_allclose(nested.operator_, TextPCA().fit(bank).operator_, atol=1e-12)
    assert NestedTextPCA([8, 32], projectors=flat).fit(bank).sizes_ == (8, 32)


@pytest.mark.parametrize("with_projectors", [False, True])
def test_save_and_load(tmp_path, rng, with_projectors):
    pair = Projectors(text=rng.normal(size=(16, 12)), source="hf:a/b") if with_projectors else None
    space = NestedTextPCA([2, 5], projectors=pair).fit(rng.normal(size=(40, 16)))
    space.save(tmp_path / "space.safetensors")
    again = load_space(tmp_path / "space.safetensors")
    assert isinstance(again, NestedTextPCA)
    E = rng.normal(size=(5, 16)).astype(np.float32)
    np.testing.assert_array_equal(again.transform(E), space.transform(E))
    np.testing.assert_array_equal(again.weights_, space.weights_)
    assert again.describe() == space.describe()
    assert json.loads(json.dumps(space.describe()))["parameters"]["sizes"] == [2, 5]


@pytest.mark.parametrize("sizes", [[], ["a"], [0]])
def test_a_file_with_other_sizes_is_refused(tmp_path, rng, sizes):
    space = NestedTextPCA([2, 5]).fit(rng.normal(size=(40, 16)))
    space.sizes_ = sizes
    space.save(tmp_path / "space.safetensors")
    with pytest.raises(FileFormatError, match="sizes"):
        load_space(tmp_path / "space.safetensors")


def test_it_goes_into_other_tools_as_every_space_does(rng):
    torch = pytest.importorskip("torch")
    space = NestedTextPCA().fit(rng.normal(size=(40, 16)))
    E = rng.normal(size=(5, 16)).astype(np.float32)
    np.testing.assert_allclose(space.to_torch()(torch.from_numpy(E)).numpy(), space.transform(E), atol=1e-6)
