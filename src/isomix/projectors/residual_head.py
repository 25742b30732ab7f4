"""Image heads that are not linear, and the affine map that stands in for one.

SigLIP and SigLIP 2 have no image projector: their attention pooling ends in ``x + MLP(LayerNorm(x))``. Here x is the
pre-projection feature, and the head's affine approximation W x + b takes the projector's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Doubles, Floats, as_matrix, blocks
from isomix.errors import InputError, ModelError
from isomix.projectors.projectors import Projectors

__all__ = ["ACTIVATIONS", "Linearisation", "ResidualHead", "name_activation"]

Point = Literal["origin", "sample"]

_ROWS = 4096
_TANH_SCALE = np.sqrt(2 / np.pi).item()
_CUBIC = 0.044715


def _gelu(x: Floats) -> Floats:
    import scipy.special

    return np.asarray(0.5 * x * (1 + scipy.special.erf(x * np.sqrt(0.5).item())))


def _gelu_slope(x: Doubles) -> Doubles:
    import scipy.special

    density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    return np.asarray(0.5 * (1 + scipy.special.erf(x * np.sqrt(0.5))) + x * density)


def _gelu_tanh(x: Floats) -> Floats:
    return np.asarray(0.5 * x * (1 + np.tanh(_TANH_SCALE * (x + _CUBIC * x**3))))


def _gelu_tanh_slope(x: Doubles) -> Doubles:
    tanh = np.tanh(_TANH_SCALE * (x + _CUBIC * x**3))
    return np.asarray(0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * _TANH_SCALE * (1 + 3 * _CUBIC * x**2))


ACTIVATIONS = {"gelu": (_gelu, _gelu_slope), "gelu_tanh": (_gelu_tanh, _gelu_tanh_slope)}
"""Name → function and derivative; ``gelu_tanh`` is the approximation by a hyperbolic tangent. Their slope at 0 is ½."""


def name_activation(function: Callable[[Floats], ArrayLike]) -> str:
    """The name of an activation, told by its values.

    Frameworks have several classes for the same function, so their names say little.

    Raises
    ------
    ModelError
        It is neither form of GELU.

    Examples
    --------
    >>> import scipy.special
    >>> name_activation(lambda x: x * scipy.special.ndtr(x))
    'gelu'
    """
    points = np.linspace(-4, 4, 33, dtype=np.float32)
    values = np.asarray(function(points), np.float64)
    for name, (known, _) in ACTIVATIONS.items():
        if values.shape == points.shape and np.abs(values - known(points.astype(np.float64))).max() < 1e-5:
            return name
    raise ModelError(
        f"the activation inside the image head is none that isomix knows ({', '.join(ACTIVATIONS)}), so the head "
        "cannot be linearised. Use the model's embeddings as they are, with TextPCA or Whitening."
    )


@dataclass(frozen=True, eq=False)
class ResidualHead:
    """The image head ``x + W2 g(W1 LayerNorm(x) + b1) + b2`` of SigLIP and SigLIP 2.

    Parameters
    ----------
    gamma, beta : ndarray, shape (d,)
        Weight and bias of the layer norm.
    first : ndarray, shape (m, d)
        W1, out x in.
    first_bias : ndarray, shape (m,)
    second : ndarray, shape (d, m)
        W2, out x in.
    second_bias : ndarray, shape (d,)
    epsilon : float
        Of the layer norm.
    activation : {"gelu_tanh", "gelu"}
        g.

    Raises
    ------
    ModelError
        The shapes do not fit together; a transposed W1 or W2, usually.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> head = ResidualHead(
    ...     np.ones(4), np.zeros(4), rng.normal(size=(16, 4)), np.zeros(16), rng.normal(size=(4, 16)), np.zeros(4)
    ... )
    >>> features = [3, -3, 1, 0] + 0.1 * rng.normal(size=(100, 4))
    >>> linear = head.linearise(features)
    >>> linear.point, linear.relative_error < head.linearise(features, point="origin").relative_error
    ('sample', True)
    """

    gamma: Floats
    beta: Floats
    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats
    epsilon: float = 1e-6
    activation: str = "gelu_tanh"

    def __post_init__(self) -> None:
        d, m = self.gamma.shape[0], self.first_bias.shape[0]
        expected = {"gamma": (d,), "beta": (d,), "first": (m, d), "first_bias": (m,), "second": (d, m)}
        expected |= {"second_bias": (d,)}
        wrong = [
            f"{name} {getattr(self, name).shape}" for name in expected if getattr(self, name).shape != expected[name]
        ]
        if wrong:
            raise ModelError(
                f"the image head's tensors do not fit together: {', '.join(wrong)}, with d = {d} and m = {m}. Expected "
                "W1 (m, d) and W2 (d, m): out x in, as torch stores them."
            )
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation: got {self.activation!r}, expected one of {', '.join(ACTIVATIONS)}.")

    @property
    def dim(self) -> int:
        """Width d, of the features and of the embeddings alike."""
        return int(self.gamma.shape[0])

    def __call__(self, features: ArrayLike) -> Floats:
        """The head itself: pre-projection features to embeddings before normalisation, both of shape (n, d)."""
        H = as_matrix(features, "image features", width=self.dim, width_of="the image head")
        function = ACTIVATIONS[self.activation][0]
        gamma, beta, first, first_bias, second, second_bias = (
            np.asarray(array, H.dtype)
            for array in (self.gamma, self.beta, self.first, self.first_bias, self.second, self.second_bias)
        )
        result = np.empty_like(H)
        for rows in blocks(len(H), _ROWS):
            normal = self._normalise(H[rows]) * gamma + beta
            result[rows] = H[rows] + function(normal @ first.T + first_bias) @ second.T + second_bias
        return result

    def _normalise(self, H: Floats) -> Floats:
        centred = H - H.mean(axis=1, keepdims=True)
        return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + self.epsilon))

    def jacobian(self, feature: ArrayLike) -> Doubles:
        """The exact derivative at one feature, shape (d, d): out x in, in double precision."""
        x = np.asarray(feature, np.float64)
        if x.shape != (self.dim,) or not np.isfinite(x).all():
            raise InputError(f"feature: got shape {x.shape}, expected {self.dim} finite numbers.")
        gamma, first, second = (np.asarray(array, np.float64) for array in (self.gamma, self.first, self.second))
        centred = x - x.mean()
        sigma = np.sqrt((centred**2).mean() + self.epsilon)
        normal = centred / sigma
        slope = ACTIVATIONS[self.activation][1](first @ (gamma * normal + self.beta) + self.first_bias)
        through = (second * slope) @ (first * gamma)
        # From the right by the derivative of the normalisation, (I - 11ᵀ/d - n nᵀ/d) / sigma.
        through -= through.mean(axis=1, keepdims=True) + np.outer(through @ normal, normal) / self.dim
        return np.eye(self.dim) + through / sigma

    def linearise(self, features: ArrayLike | None = None, *, point: Point | None = None) -> Linearisation:
        """The head as an affine map of the features.

        Parameters
        ----------
        features : array_like, shape (n, d), optional
            A sample of pre-projection image features, a few hundred or more.
        point : {"origin", "sample"}, optional
            Where the map is taken. Default: where its error on the sample is smaller; the origin without a sample.

        Returns
        -------
        Linearisation

        Raises
        ------
        InputError
            NaN or infinite features (a half-precision overflow, usually), another width, or ``point="sample"`` without
            a sample.

        Notes
        -----
        ``"origin"`` is the form of Magistri et al. (*IsoCLIP*, CVPR 2026, arXiv 2603.19862): LayerNorm(x) is replaced
        by gamma x + beta, without centring or scaling, and GELU(z) by its tangent at z = 0, which is z/2 (the slope is
        ½ for both forms of GELU). So W = I + ½ W2 W1 diag(gamma) and b = ½ W2 (W1 beta + b1) + b2.

        ``"sample"`` is this project's: the first-order expansion of the unchanged head at the mean m of the sample, W =
        J(m) and b = head(m) - J(m) m.
        """
        if point not in (None, "origin", "sample"):
            raise InputError(f"point: got {point!r}, expected 'origin' or 'sample'.")
        if features is None:
            if point == "sample":
                raise InputError("point='sample' needs a sample of pre-projection image features.")
            return Linearisation(*self._at_origin(), "origin", None)
        sample = np.asarray(as_matrix(features, "image features", width=self.dim, min_rows=1), np.float64)
        outputs = self(sample)
        maps = {"origin": self._at_origin(), "sample": self._at_mean(sample)}
        found = [
            Linearisation(W, b, name, _relative_error(sample @ W.T + b, outputs))  # type: ignore[arg-type]
            for name, (W, b) in maps.items()
            if point in (None, name)
        ]
        return min(found, key=lambda linear: linear.relative_error or 0.0)

    def _at_origin(self) -> tuple[Doubles, Doubles]:
        gamma, first, second = (np.asarray(array, np.float64) for array in (self.gamma, self.first, self.second))
        weight = np.eye(self.dim) + 0.5 * second @ (first * gamma)
        return weight, 0.5 * second @ (first @ self.beta + self.first_bias) + self.second_bias

    def _at_mean(self, sample: Doubles) -> tuple[Doubles, Doubles]:
        mean = sample.mean(axis=0)
        jacobian = self.jacobian(mean)
        return jacobian, np.asarray(self(mean[None])[0] - jacobian @ mean, np.float64)


@dataclass(frozen=True, eq=False)
class Linearisation:
    """An affine map W x + b in the place of an image head.

    Attributes
    ----------
    weight : ndarray of float64, shape (d, d)
        W, out x in.
    bias : ndarray of float64, shape (d,)
    point : {"origin", "sample"}
        Where it was taken.
    relative_error : float or None
        ‖W x + b - head(x)‖ over ‖head(x)‖, Frobenius norms over the sample; None without a sample.
    """

    weight: Doubles
    bias: Doubles
    point: Point
    relative_error: float | None

    def apply_to(self, projectors: Projectors) -> Projectors:
        """The pair with this map as its image side, in float32; the text side stays."""
        return projectors.replace(
            image=self.weight.astype(np.float32), image_bias=self.bias.astype(np.float32), linearised_at=self.point
        )


def _relative_error(approximate: Doubles, exact: Floats) -> float:
    return float(np.linalg.norm(approximate - exact) / np.linalg.norm(exact))
