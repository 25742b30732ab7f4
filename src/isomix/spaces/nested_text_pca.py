"""Nested Text PCA: cosines averaged over Text PCA spaces of several sizes, in one linear map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, check_integer
from isomix._documents import Document, expect_tensors
from isomix.errors import FileFormatError, InputError
from isomix.projectors import Projectors
from isomix.spaces.text_bank import TextBankSpace

__all__ = ["NestedTextPCA", "nested_weights"]

SHARES = (8, 4, 2)
"""The width is divided by these: 64, 128 and 256 of 512."""


def nested_weights(singular_values: Doubles, sizes: Sequence[int]) -> Doubles:
    """Weights of the principal directions, shape (max(sizes),), descending.

    w_j² = Σ 1 / (s_1² + … + s_k²) over the sizes k ≥ j, scaled so that w_1 = 1.

    Examples
    --------
    >>> import numpy as np
    >>> nested_weights(np.array([2.0, 1.0, 1.0]), [1, 3]).round(3)
    array([1.   , 0.632, 0.632])
    """
    energy = np.cumsum(np.square(np.asarray(singular_values, np.float64)))
    squares = np.zeros(max(sizes))
    for k in sizes:
        squares[:k] += 1.0 / energy[k - 1]
    return np.asarray(np.sqrt(squares / squares[0]))


class NestedTextPCA(TextBankSpace):
    """Text PCA without a choice of its size: its first directions count more, the later ones less.

    Parameters
    ----------
    sizes : sequence of int, optional
        Sizes of the Text PCA spaces over which cosines are averaged. Default: an eighth, a quarter and half the width of the
        embeddings, or as many directions as the bank has where those are fewer.
    projectors : Projectors, optional
        As for :class:`TextPCA`: the directions behind the cliff of a trained CLIP are cut first. If they show no cliff, the
        model is of another kind, and the default is half the width alone, which is Text PCA.

    Attributes
    ----------
    operator_ : ndarray of float64, shape (n_components_, d)
        Orthogonal rows; row j has the length ``weights_[j]``.
    weights_ : ndarray of float64, shape (n_components_,)
    sizes_ : tuple of int
        Ascending.
    singular_values_ : ndarray of float64, shape (r,)
        Of the centred bank, descending.
    n_components_ : int
        The largest size.
    cliff_ : int

    Raises
    ------
    InputError
        On ``fit``: fewer than two sentences, no sizes, or one that the bank has not enough directions for.
    ModelError
        As for :class:`TextPCA`.

    Notes
    -----
    With V_k the first k principal directions of the bank, the mean over the sizes k of the cosines of V_k x and V_k y is

        mean_k ⟨V_k x, V_k y⟩ / (‖V_k x‖ ‖V_k y‖).

    The norms differ between sizes much more than between pictures. Here ‖V_k x‖² is taken to be in proportion to the bank's own
    s_1² + … + s_k², which makes it one cosine after a linear map, V x with its j-th number times w_j:

        w_j² = Σ_{k ≥ j} 1 / (s_1² + … + s_k²).

    So it costs nothing at search time and can be exported. ``docs/gallery.md`` has what it gains over one size, and how
    little the approximation changes. This project's; Text PCA itself: Herzog & Wang, CVPR 2026, arXiv 2603.16100.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> sentences, pictures = rng.normal(size=(50, 16)), rng.normal(size=(3, 16))
    >>> space = NestedTextPCA().fit(sentences)
    >>> space.sizes_, space.transform(pictures).shape
    ((2, 4, 8), (3, 8))
    """

    method = "nested-text-pca"

    def __init__(self, sizes: Sequence[int] | None = None, *, projectors: Projectors | None = None) -> None:
        self.sizes = sizes
        self.projectors = projectors

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn directions and weights from text embeddings.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Text embeddings; their rows are normalised first.
        y : ignored

        Returns
        -------
        NestedTextPCA
            This object.
        """
        bank, directions = self._directions(X)
        if self.sizes is None:
            # Without a cliff the first directions say less: 1.0 mAP on the embedded model (studies/bank.py).
            shares = SHARES if self.projectors is None or self.cliff_ else SHARES[-1:]
            sizes = [min(max(self.n_features_in_ // share, 1), len(directions)) for share in shares]
        else:
            sizes = _sizes(self.sizes)
        kept = self._keep(max(sizes), bank, directions)
        self.sizes_ = tuple(sorted(set(sizes)))
        self.weights_ = nested_weights(self.singular_values_, self.sizes_)
        self.operator_ = kept * self.weights_[:, None]
        return self

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"sizes": list(self.sizes_)}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return super()._tensors() | {"weights": self.weights_}

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        space = cls()._read(document, path)
        expect_tensors(document, path, {"weights": (space.n_components_,)})
        sizes = document.parameters.get("sizes")
        try:
            space.sizes = space.sizes_ = tuple(_sizes(sizes))
        except InputError as error:
            raise FileFormatError(f"{os.fspath(path)} cannot be used: {error}") from error
        space.weights_ = document.tensors["weights"]
        return space


def _sizes(given: object) -> list[int]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence | np.ndarray) or not len(given):
        raise InputError(f"sizes: got {given!r}, expected numbers of directions such as (64, 128, 256).")
    return [check_integer(each, "sizes", minimum=1) for each in given]
