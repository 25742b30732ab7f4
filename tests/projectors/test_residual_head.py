"""The affine stand-in for SigLIP's head: its derivative, its orientation and its error, against the real head."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isomix
from isomix.errors import InputError, ModelError
from isomix.projectors import Projectors
from isomix.projectors.residual_head import ACTIVATIONS, ResidualHead, name_activation


def make_head(seed: int = 0, d: int = 12, m: int = 40, **changes: Any) -> ResidualHead:
    rng = np.random.default_rng(seed)
    head = ResidualHead(
        gamma=rng.normal(1, 0.3, d),
        beta=rng.normal(0, 0.3, d),
        first=rng.normal(size=(m, d)) / np.sqrt(d),
        first_bias=rng.normal(0, 0.3, m),
        second=rng.normal(size=(d, m)) / np.sqrt(m),
        second_bias=rng.normal(0, 0.3, d),
    )
    return dataclasses.replace(head, **changes)


def difference_quotients(function: Any, point: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Columns of the derivative, out x in, by central differences."""
    steps = step * np.eye(len(point))
    return ((function(point + steps) - function(point - steps)) / (2 * step)).T


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(ACTIVATIONS)), st.floats(0.05, 20))
def test_the_jacobian_is_that_of_finite_differences(seed: int, activation: str, size: float) -> None:
    head = make_head(seed, activation=activation)
    point = size * np.random.default_rng(seed).normal(size=12)
    jacobian = head.jacobian(point)
    expected = difference_quotients(head, point, step=1e-5 * size)
    np.testing.assert_allclose(jacobian, expected, atol=1e-6 * max(1, 1 / size))
    assert np.abs(jacobian.T - expected).max() > 1e-2  # square: only the values tell a transposed one


def test_the_head_and_its_jacobian_are_those_of_the_real_model() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from isomix.encoders.hf_families import siglip_head

    torch.manual_seed(0)
    small = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 2, "num_hidden_layers": 1}
    text = {**small, "vocab_size": 9, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=small)).double().eval()
    module = model.vision_model.head
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    layernorm, mlp = module.layernorm, module.mlp

    def real(x: Any) -> Any:
        return x + mlp(layernorm(x))

    head = siglip_head(model)
    assert head.activation == "gelu_tanh"
    points = torch.randn(5, 48, dtype=torch.float64)
    np.testing.assert_allclose(head(points.numpy()), real(points).detach().numpy(), atol=1e-12)
    for point in points:
        expected = torch.autograd.functional.jacobian(real, point).numpy()
        np.testing.assert_allclose(head.jacobian(point.numpy()), expected, atol=1e-12)
        assert np.abs(head.jacobian(point.numpy()).T - expected).max() > 1e-2
        quotients = difference_quotients(lambda x: real(torch.from_numpy(x)).detach().numpy(), point.numpy())
        np.testing.assert_allclose(head.jacobian(point.numpy()), quotients, atol=1e-7)
    hidden = torch.randn(2, 7, 48, dtype=torch.float64)
    feature = module.attention(module.probe.repeat(2, 1, 1), hidden, hidden)[0][:, 0]
    assert torch.equal(module(hidden), feature)  # the head is off: the tower gives the pre-projection feature


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_origin_is_the_papers(activation: str) -> None:
    # What the paper linearises: no centring or scaling in the norm, and the activation's tangent at zero. With beta
    # and b1 zero that is the derivative of such a head at the origin.
    head = make_head(beta=np.zeros(12), first_bias=np.zeros(40), activation=activation)
    function = ACTIVATIONS[activation][0]

    def without_normalisation(x: np.ndarray) -> np.ndarray:
        return x + function((x * head.gamma) @ head.first.T) @ head.second.T + head.second_bias

    linear = head.linearise()
    expected = difference_quotients(without_normalisation, np.zeros(12))
    np.testing.assert_allclose(linear.weight, expected, atol=1e-9)
    assert np.abs(linear.weight.T - expected).max() > 1e-2
    np.testing.assert_allclose(linear.bias, head.second_bias)

    head = make_head(activation=activation)
    x = np.random.default_rng(1).normal(size=12)
    by_hand = x + head.second @ (0.5 * (head.first @ (head.gamma * x + head.beta) + head.first_bias)) + head.second_bias
    linear = head.linearise()
    np.testing.assert_allclose(linear.weight @ x + linear.bias, by_hand, atol=1e-12)


def test_the_map_at_the_mean_touches_the_head_there() -> None:
    head = make_head()
    sample = np.random.default_rng(1).normal(size=12) + 0.1 * np.random.default_rng(2).normal(size=(200, 12))
    linear = head.linearise(sample)
    mean = sample.mean(axis=0)
    assert linear.point == "sample"
    np.testing.assert_allclose(linear.weight @ mean + linear.bias, head(mean[None])[0], atol=1e-12)
    outputs = head(sample)
    error = np.linalg.norm(sample @ linear.weight.T + linear.bias - outputs) / np.linalg.norm(outputs)
    assert linear.relative_error == pytest.approx(error)
    assert error < 0.03
    turned = np.linalg.norm(sample @ linear.weight + linear.bias - outputs) / np.linalg.norm(outputs)
    assert turned > 5 * error


def test_the_better_of_the_two_is_taken() -> None:
    # A sample of two clusters on either side of the origin, unit variance in each row: its mean is near the origin,
    # where the norm's derivative is steep and useless; the paper's map leaves the norm out and fits better.
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 12))
    rows = (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)
    sample = np.concatenate([rows, -rows])
    head = make_head()
    chosen = head.linearise(sample)
    assert chosen.point == "origin"
    assert chosen.relative_error < head.linearise(sample, point="sample").relative_error
    assert chosen.relative_error == head.linearise(sample, point="origin").relative_error


def test_single_precision_and_many_rows() -> None:
    head = make_head()
    features = np.random.default_rng(1).normal(size=(10_000, 12))
    result = head(features.astype(np.float32))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, head(features), atol=1e-5)
    assert head(features.astype(np.float16)).dtype == np.float32


def test_a_pair_with_the_map_works_in_a_space() -> None:
    head = make_head()
    rng = np.random.default_rng(1)
    sample = 3 * rng.normal(size=12) + 0.1 * rng.normal(size=(100, 12))
    pair = head.linearise(sample).apply_to(Projectors(np.eye(12), rng.normal(size=(12, 9)), source="hf:a/b"))
    assert (pair.source, pair.linearised_at) == ("hf:a/b", "sample")
    pair.check_embeddings(sample, head(sample), tolerance=1e-3)
    turned = Projectors(pair.image.T, pair.text, image_bias=pair.image_bias)
    with pytest.raises(ModelError, match="transposed"):
        turned.check_embeddings(sample, head(sample), tolerance=1e-3)
    space = isomix.IsoCLIP(pair, band=(1, 1)).fit()
    with pytest.raises(ModelError, match="bias"):
        space.transform(head(sample))


def test_activations_are_told_by_their_values() -> None:
    torch = pytest.importorskip("torch")
    functions = {
        "gelu": torch.nn.GELU(),
        "gelu_tanh": torch.nn.GELU(approximate="tanh"),
    }
    for name, function in functions.items():
        assert name_activation(lambda x, f=function: f(torch.from_numpy(x)).numpy()) == name
    with pytest.raises(ModelError, match=r"activation.*none that isomix knows"):
        name_activation(lambda x: np.maximum(x, 0))


def test_what_does_not_fit_together() -> None:
    head = make_head()
    with pytest.raises(ModelError, match=r"first \(12, 40\).*second \(40, 12\).*out x in"):
        dataclasses.replace(head, first=head.first.T, second=head.second.T)
    with pytest.raises(InputError, match="expected one of gelu, gelu_tanh"):
        make_head(activation="relu")
    with pytest.raises(InputError, match="expected 12 finite numbers"):
        head.jacobian(np.full(12, np.nan))


def test_a_linear_head_has_nothing_to_linearise() -> None:
    with pytest.raises(ModelError, match="linear already"):
        isomix.load_encoder("embedded").linearise()
