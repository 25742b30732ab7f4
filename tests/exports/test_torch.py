"""The torch module of a space gives what ``transform`` gives."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from isomix import IsoCLIP, Projectors, TextPCA
from isomix.errors import InputError, ModelError, NotFittedError
from isomix.exports.torch_module import SpaceModule
from isomix.spaces import PCAWhitening


@pytest.fixture
def iso(rng):
    return IsoCLIP(Projectors(rng.normal(size=(12, 18)), rng.normal(size=(12, 10))), band=(2, 1)).fit()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equal_to_transform(iso, rng, dtype):
    E = rng.normal(size=(40, 12)).astype(dtype)
    module = iso.to_torch()
    given = torch.from_numpy(E)
    assert module(given).dtype == torch.float32
    np.testing.assert_allclose(module(given).numpy(), iso.transform(E), atol=1e-5)


def test_features_and_a_head_with_a_bias(rng):
    pair = [rng.normal(size=(12, 18)), rng.normal(size=(12, 10))]
    H = rng.normal(size=(7, 18)).astype(np.float32)
    for bias in (None, rng.normal(size=12)):
        iso = IsoCLIP(Projectors(*pair, image_bias=bias), band=(2, 1)).fit()
        np.testing.assert_allclose(iso.to_torch("features")(torch.from_numpy(H)), iso.transform_features(H), atol=1e-5)
    with pytest.raises(ModelError, match="bias"):
        iso.to_torch()


def test_an_offset_becomes_a_bias(rng):
    E = (rng.normal(size=(20, 6)) + rng.normal(size=6)).astype(np.float32)
    space = PCAWhitening(3).fit(E)
    np.testing.assert_allclose(space.to_torch()(torch.from_numpy(E)), space.transform(E), atol=1e-5)


def test_any_leading_shape_nothing_to_train_and_a_state_dict(iso, rng):
    module = iso.to_torch()
    E = torch.from_numpy(rng.normal(size=(2, 5, 12)).astype(np.float32))
    assert module(E).shape == (2, 5, iso.n_components_)
    assert not list(module.parameters())
    stored = io.BytesIO()
    torch.save(module.state_dict(), stored)
    again = SpaceModule(np.zeros((iso.n_components_, 12)))
    again.load_state_dict(torch.load(io.BytesIO(stored.getvalue()), weights_only=True))
    assert torch.equal(again(E), module(E))
    assert repr(module) == "SpaceModule(12 -> 7)"


def test_gradients_reach_the_input(iso, rng):
    E = torch.from_numpy(rng.normal(size=(3, 12)).astype(np.float32)).requires_grad_()
    iso.to_torch()(E)[:, 0].sum().backward()
    assert E.grad.abs().max() > 0


def test_export_keeps_a_dynamic_batch(iso, rng):
    module = iso.to_torch()
    E = torch.from_numpy(rng.normal(size=(4, 12)).astype(np.float32))
    program = torch.export.export(module, (E,), dynamic_shapes=({0: torch.export.Dim("n")},))
    larger = torch.from_numpy(rng.normal(size=(11, 12)).astype(np.float32))
    torch.testing.assert_close(program.module()(larger), module(larger))


def test_wrong_use(iso, rng):
    with pytest.raises(InputError, match="expected 'embeddings' or 'features'"):
        iso.to_torch("pixels")
    with pytest.raises(InputError, match="maps embeddings, not"):
        TextPCA(2).fit(rng.normal(size=(9, 5))).to_torch("features")
    with pytest.raises(NotFittedError):
        TextPCA(2).to_torch()
