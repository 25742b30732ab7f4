"""The contract of every space: a linear map of stored embeddings, followed by normalisation."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from isomix._affine import AffineMap
from isomix._arrays import Doubles, Floats
from isomix._documents import Document, load, write_document
from isomix._estimators import check_fitted, check_rows
from isomix._extras import require
from isomix.errors import InputError

if TYPE_CHECKING:
    from isomix.exports.torch_module import SpaceModule

__all__ = ["SPACES", "Space", "load_space"]

SPACES: dict[str, type[Space]] = {}
SOURCES = ("embeddings", "features")


class Space(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """A linear map of embeddings, z = A (e - m) / ‖A (e - m)‖.

    Subclasses set ``operator_``, ``offset_`` and ``n_components_`` in ``fit`` and register themselves by ``method``.

    Attributes
    ----------
    operator_ : ndarray of float64, shape (k, d)
        A.
    offset_ : ndarray of float64, shape (d,), or None
        m, or None for zero.
    n_components_ : int
        Width k of the result.
    n_features_in_ : int
        Width d of the embeddings.
    """

    method: ClassVar[str]
    modality: str = "image"
    operator_: Doubles | None
    offset_: Doubles | None
    n_components_: int
    n_features_in_: int

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "method" in vars(cls):  # not a base of several
            SPACES[cls.method] = cls

    def transform(self, X: ArrayLike) -> Floats:
        """Map stored embeddings.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Embeddings, normalised or not; float16, float32 or float64. Read block by block, so a memory-mapped
            array is never copied whole.

        Returns
        -------
        ndarray, shape (n, k)
            Unit rows; float64 if float64 came in, else float32.

        Raises
        ------
        InputError
            Wrong width or dtype, NaN, or a row that the map sends to zero.
        NotFittedError
        """
        array = check_rows(self, X, "embeddings")
        return self.affine_map()(array)

    def affine_map(self, source: str = "embeddings") -> AffineMap:
        """The map itself, for streams of blocks and for other tools.

        Parameters
        ----------
        source : {"embeddings", "features"}
            What goes in: what ``transform`` takes, or what ``transform_features`` takes.

        Raises
        ------
        InputError
            Another source, or a space that has no map of features.
        ModelError
            A head with a bias has no map of stored embeddings.
        NotFittedError

        Examples
        --------
        >>> import numpy as np
        >>> from isomix import TextPCA
        >>> mapped = TextPCA(2).fit(np.random.default_rng(0).normal(size=(9, 4))).affine_map()
        >>> mapped.weight.shape, mapped.bias
        ((2, 4), None)
        """
        check_fitted(self)
        if source not in SOURCES:
            raise InputError(f"source: got {source!r}, expected 'embeddings' or 'features'.")
        if source == "features":
            return self._feature_map()
        operator = self._operator()
        return AffineMap(operator, None if self.offset_ is None else -(operator @ self.offset_))

    def _feature_map(self) -> AffineMap:
        raise InputError(
            f"source: a {type(self).__name__} maps embeddings, not pre-projection features. Use source='embeddings'."
        )

    def _operator(self) -> Doubles:
        if self.operator_ is None:
            raise InputError(f"this {type(self).__name__} has no map for stored embeddings.")
        return self.operator_

    @property
    def _n_features_out(self) -> int:
        """For scikit-learn's ``get_feature_names_out`` (isoclip0, isoclip1, ...) and ``set_output``."""
        return self.n_components_

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over the fitted map: equal fingerprints, equal vectors."""
        check_fitted(self)
        digest = hashlib.sha256(self.method.encode())
        for name, tensor in sorted(self._tensors().items()):
            digest.update(f"{name}{tensor.shape}".encode())
            digest.update(np.ascontiguousarray(tensor, "<f8").tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What was fitted, as JSON values: method, modality, widths, parameters, fingerprint."""
        check_fitted(self)
        return {
            "method": self.method,
            "modality": self.modality,
            "n_features_in": int(self.n_features_in_),
            "n_components": int(self.n_components_),
            "parameters": self._parameters(),
            "source": self._source(),
            "fingerprint": self.fingerprint,
        }

    def to_torch(self, source: str = "embeddings") -> SpaceModule:
        """The map as a torch module: vectors of shape (..., d) to unit vectors of shape (..., k).

        Parameters
        ----------
        source : {"embeddings", "features"}
            What goes in: what ``transform`` takes, or, where there is one, what ``transform_features`` takes.

        Returns
        -------
        torch.nn.Module
            float32 buffers, nothing to train; see :class:`isomix.exports.torch_module.SpaceModule`.

        Raises
        ------
        InputError, ModelError, MissingExtraError, NotFittedError
        """
        require("torch", "hf", "to_torch")
        from isomix.exports.torch_module import SpaceModule

        mapped = self.affine_map(source)
        return SpaceModule(mapped.weight, mapped.bias)

    def to_faiss(self) -> tuple[Any, Any]:
        """Both steps of the map for faiss: a ``LinearTransform``, d to k, and the ``NormalizationTransform`` after it.

        Without the second, inner products are no cosines. ``wrap_faiss_index`` puts both in front of an index; by hand, call
        ``index.prepend_transform`` of a ``faiss.IndexPreTransform`` with the second, then with the first.

        Raises
        ------
        ModelError, MissingExtraError, NotFittedError
        """
        from isomix.exports.faiss_transform import to_faiss

        return to_faiss(self.affine_map())

    def wrap_faiss_index(self, index: Any) -> Any:
        """A faiss index that takes stored embeddings and adapts and normalises whatever is added to it or searched.

        Parameters
        ----------
        index : faiss.Index
            Empty, of width k, e.g. ``faiss.IndexFlatIP(space.n_components_)``. Inner product gives cosines.

        Returns
        -------
        faiss.IndexPreTransform
            Of width d. ``faiss.write_index`` stores the map with it.

        Raises
        ------
        InputError
            Not an index, of another width, or with vectors in it.
        ModelError, MissingExtraError, NotFittedError

        Examples
        --------
        >>> import faiss, numpy as np
        >>> from isomix import TextPCA
        >>> E = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
        >>> space = TextPCA(2).fit(E)
        >>> index = space.wrap_faiss_index(faiss.IndexFlatIP(2))
        >>> index.add(E)
        >>> scores, rows = index.search(E[:3], 1)
        >>> rows.ravel().tolist()
        [0, 1, 2]
        """
        from isomix.exports.faiss_transform import wrap_faiss_index

        return wrap_faiss_index(self.affine_map(), index)

    def to_sentence_transformers(self) -> list[Any]:
        """The map as the last two modules of a sentence-transformers pipeline, a ``Dense`` and a ``Normalize``.

        Use it as ``SentenceTransformer(modules=[*clip, *space.to_sentence_transformers()])``. That pipeline is for
        inputs of the space's modality alone; for text-to-image search keep the plain one.

        Raises
        ------
        ModelError, MissingExtraError, NotFittedError
        """
        require("torch", "sentence-transformers", "to_sentence_transformers")
        from isomix.exports.torch_module import to_sentence_transformers

        return to_sentence_transformers(self.affine_map())

    def to_onnx(self, path: str | os.PathLike[str], source: str = "embeddings") -> None:
        """Write this map as an ONNX graph from ``source``, (n, d), to ``adapted``, (n, k), unit rows, both float32.

        Parameters
        ----------
        path : path
            An existing file is replaced.
        source : {"embeddings", "features"}
            As in ``to_torch``; also the name of the graph's input.

        Raises
        ------
        InputError, ModelError, MissingExtraError, NotFittedError
        """
        from isomix.exports.onnx_graph import to_onnx

        to_onnx(self, path, source)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted space to one safetensors file."""
        check_fitted(self)
        write_document(path, Document("space", self.method, self._parameters(), self._tensors(), self._source()))

    @abstractmethod
    def _parameters(self) -> dict[str, Any]:
        """Constructor arguments and fitted scalars, as JSON values."""

    @abstractmethod
    def _tensors(self) -> dict[str, NDArray[Any]]:
        """Fitted arrays."""

    def _source(self) -> dict[str, Any]:
        return {}

    @classmethod
    @abstractmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Self:
        """Rebuild a fitted space; raise :class:`FileFormatError` with every problem found."""


def load_space(path: str | os.PathLike[str]) -> Space:
    """Read a space written by ``save``.

    Raises
    ------
    FileFormatError
        Not such a file, of an unknown version or method, or with inconsistent shapes.
    """
    return load(path, "space", {method: space._from_document for method, space in SPACES.items()})
