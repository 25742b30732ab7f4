"""The projectors: the last linear maps of the two towers of a CLIP-like model.

The text projector alone is enough for stored embeddings; the image projector may be left out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Floats, as_matrix
from isomix._documents import Document, expect_tensors, load, write_document
from isomix.errors import InputError, ModelError
from isomix.projectors.side import Side, check_modality

__all__ = ["Projectors"]


class Projectors:
    """Image and text projector of one model, both stored out x in.

    Parameters
    ----------
    image : array_like, shape (d, d_image), or None
        W_image: an image embedding is W_image h / ‖W_image h‖ for the pre-projection feature h. None where it is unknown,
        or where the image head is no matrix.
    text : array_like, shape (d, d_text)
        W_text, likewise.
    image_bias, text_bias : array_like, shape (d,), optional
        For heads that are affine.
    logit_scale : float, optional
        The model's inverse temperature.
    source : str, optional
        Where they came from, e.g. ``"hf:openai/clip-vit-base-patch32"``; preset bands are looked up by it.
    linearised_at : {"", "origin", "sample"}
        The model's image head is not linear, and ``image`` with ``image_bias`` is its linearisation there; empty for a
        head that is.

    Raises
    ------
    InputError
        Wrong dtype, dimensions or values, or two projectors with different output widths (a transposed one, usually).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> projectors = Projectors(rng.normal(size=(4, 6)), rng.normal(size=(4, 5)))
    >>> projectors
    Projectors(image 6 -> 4, text 5 -> 4)
    >>> projectors.text_only()
    Projectors(text 5 -> 4)
    >>> projectors.project_image(np.ones((2, 6))).shape
    (2, 4)
    """

    image: Floats | None
    text: Floats
    image_bias: Floats | None
    text_bias: Floats | None
    logit_scale: float | None
    source: str
    linearised_at: str

    def __init__(
        self,
        image: ArrayLike | None = None,
        text: ArrayLike | None = None,
        *,
        image_bias: ArrayLike | None = None,
        text_bias: ArrayLike | None = None,
        logit_scale: float | None = None,
        source: str = "",
        linearised_at: str = "",
    ) -> None:
        if text is None:
            raise InputError(
                "text projector: got none. Give its matrix, out x in; the image projector may be left out."
            )
        if image is None and (image_bias is not None or linearised_at):
            raise InputError("image_bias, linearised_at: there is no image projector that they could belong to.")
        self.text = _weights(text, "text projector")
        self.image = None if image is None else _weights(image, "image projector")
        if self.image is not None and self.image.shape[0] != self.text.shape[0]:
            hint = " Take both from one model."
            sizes = set(self.image.shape) & set(self.text.shape)
            if sizes:
                hint = f" Both have a side of {max(sizes)}: one of them is probably transposed (expected out x in)."
            raise InputError(
                f"image projector {self.image.shape} and text projector {self.text.shape} must have the same number "
                f"of rows, the width of the shared embedding.{hint}"
            )
        self.image_bias = self._bias(image_bias, "image_bias")
        self.text_bias = self._bias(text_bias, "text_bias")
        self.logit_scale = None if logit_scale is None else float(logit_scale)
        if self.logit_scale is not None and not 0.0 < self.logit_scale < np.inf:
            raise InputError(f"logit_scale: got {logit_scale!r}, expected a positive number.")
        self.source = str(source)
        self.linearised_at = str(linearised_at)

    def _bias(self, bias: ArrayLike | None, name: str) -> Floats | None:
        if bias is None:
            return None
        row = np.asarray(bias)[None]
        return _weights(row, name, width=self.embedding_dim, width_of="the projectors' output")[0]

    @property
    def embedding_dim(self) -> int:
        """Width d of the shared embedding space."""
        return int(self.text.shape[0])

    def side(self, modality: str) -> Side:
        """The projector of one modality, with its bias.

        Raises
        ------
        InputError
            Another modality.
        ModelError
            There is no image projector.
        """
        check_modality(modality)
        if modality == "image" and self.image is None:
            raise ModelError(
                "there is no image projector here, only the text projector: stored embeddings can be adapted with it, "
                "pre-projection image features cannot. Read both with Projectors.from_pretrained(...)."
            )
        return Side(modality, getattr(self, modality), getattr(self, f"{modality}_bias"))

    def replace(self, **changes: Any) -> Self:
        """The same with some of the constructor's arguments changed.

        Examples
        --------
        >>> import numpy as np
        >>> Projectors(np.eye(2), np.eye(2)).replace(source="mine")
        Projectors(image 2 -> 2, text 2 -> 2, source='mine')
        """
        names = ("image", "text", "image_bias", "text_bias", "logit_scale", "source", "linearised_at")
        return type(self)(**{name: getattr(self, name) for name in names} | changes)

    def text_only(self) -> Self:
        """The text projector alone."""
        return self.replace(image=None, image_bias=None, linearised_at="")

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over the projectors' float32 values: equal projectors, equal spaces."""
        digest = hashlib.sha256()
        for name, array in sorted(self.tensors().items()):
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def why_not_linear(self, modality: str) -> str:
        """What keeps a head from being one matrix, as the beginning of a message; empty where nothing does."""
        if (modality == "image" and self.image is None) or self.side(modality).bias is None:
            return ""
        if modality == "image" and self.linearised_at:
            where = f"its projector is a linearisation at the {self.linearised_at}, with a bias"
            return f"the image head is not linear ({where})"
        return f"the {modality} head has a bias"

    def project_image(self, features: ArrayLike) -> Floats:
        """Image embeddings before normalisation: ``features @ W_image.T + b``, shape (n, d)."""
        return self.side("image").project(features)

    def project_text(self, features: ArrayLike) -> Floats:
        """Text embeddings before normalisation: ``features @ W_text.T + b``, shape (n, d)."""
        return self.side("text").project(features)

    def tensors(self) -> dict[str, Floats]:
        """The arrays under the names they have in a file."""
        tensors = {"text_projector": self.text}
        if self.image is not None:
            tensors["image_projector"] = self.image
        if self.image_bias is not None:
            tensors["image_bias"] = self.image_bias
        if self.text_bias is not None:
            tensors["text_bias"] = self.text_bias
        return tensors

    def parameters(self) -> dict[str, Any]:
        """What a file holds beside the arrays, as JSON values; what is as usual is left out."""
        parameters: dict[str, Any] = {"logit_scale": self.logit_scale}
        parameters |= {"linearised_at": self.linearised_at} if self.linearised_at else {}
        return parameters | ({"text_only": True} if self.image is None else {})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write both projectors to one safetensors file."""
        write_document(
            path, Document("projectors", "projectors", self.parameters(), self.tensors(), {"model": self.source})
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Projectors:
        """Read a file written by :meth:`save`.

        Raises
        ------
        FileFormatError
        """
        return load(path, "projectors", {"projectors": cls._from_document})

    @classmethod
    def _from_document(cls, document: Document, path: str | os.PathLike[str]) -> Projectors:
        expect_tensors(document, path, cls.tensor_shapes(document.tensors, document.parameters))
        return cls.from_tensors(document.tensors, document.parameters, document.source.get("model", ""))

    @staticmethod
    def tensor_shapes(tensors: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, tuple[int | str, ...]]:
        """Shapes that the projectors among ``tensors`` must have, for :func:`isomix._documents.expect_tensors`."""
        shapes: dict[str, tuple[int | str, ...]] = {"text_projector": ("d", "d_text")}
        if not parameters.get("text_only", False):
            shapes = {"image_projector": ("d", "d_image")} | shapes
        return shapes | {name: ("d",) for name in ("image_bias", "text_bias") if name in tensors}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats], parameters: Mapping[str, Any], source: str) -> Projectors:
        """Rebuild a pair from what :meth:`tensors` and :meth:`parameters` gave; the latter may be among others."""
        return cls(
            tensors.get("image_projector"),
            tensors["text_projector"],
            image_bias=tensors.get("image_bias"),
            text_bias=tensors.get("text_bias"),
            logit_scale=parameters.get("logit_scale"),
            source=source,
            linearised_at=parameters.get("linearised_at", ""),
        )

    @classmethod
    def from_pretrained(
        cls, model: str, *, offline: bool = False, revision: str | None = None, text_only: bool | None = False
    ) -> Projectors:
        """Read the projectors of a model, and nothing else of it.

        Parameters
        ----------
        model : str
            ``"embedded"``, a short name such as ``"clip-b32"``, ``"hf:<folder or hub id>"``, ``"openclip:<architecture>/<tag>"``, ``"openclip:hf-hub:<hub
            id>"``, ``"openclip:local-dir:<folder>"``, or the path of a safetensors file or model folder. A SigLIP has
            no image projector; it is read as its linearisation at the origin.
        offline : bool
            Never open a connection.
        revision : str, optional
            Branch, tag or commit on the hub.
        text_only : bool or None
            Read the text projector alone, a megabyte or so. None: where the image head is not one matrix (SigLIP, heads
            with a bias, MLPs, towers that isomix does not know).

        Raises
        ------
        ModelError
            No such model, or none of the known layouts of projector tensors is in it.
        OfflineError
            It would have to be downloaded.
        """
        from isomix.projectors.sources import read_projectors

        return read_projectors(model, offline=offline, revision=revision, text_only=text_only)

    def check_embeddings(
        self, features: ArrayLike, embeddings: ArrayLike, *, modality: str = "image", tolerance: float = 1e-2
    ) -> None:
        """Check the orientation against a forward pass: the model's embeddings must come out of its features.

        Parameters
        ----------
        features : array_like, shape (n, d_image) or (n, d_text)
        embeddings : array_like, shape (n, d)
            What the model returned for the same inputs; normalised or not.
        modality : {"image", "text"}
        tolerance : float
            Largest accepted difference of cosine from 1.

        Raises
        ------
        ModelError
            They differ: a square projector is transposed, or features were taken at another layer.
        """
        own = np.asarray(self.side(modality).project(features), np.float64)
        given = np.asarray(embeddings, np.float64)
        cosine = (own * given).sum(1) / (np.linalg.norm(own, axis=1) * np.linalg.norm(given, axis=1))
        worst = float(1.0 - cosine.min()) if cosine.size else 0.0
        if not worst <= tolerance:
            raise ModelError(
                f"the {modality} projector does not reproduce the model's embeddings (cosine off by up to {worst:.3g}): "
                "a square projector is probably transposed (expected out x in), or the features were taken elsewhere."
            )

    def check_text_embeddings(self, embeddings: ArrayLike) -> float:
        """Check the text projector against a bank of the model's text embeddings.

        Text embeddings spread along the left singular vectors of their own projector as its singular values fall; along
        those of a transposed matrix or of another model's they do not. An image projector given as text is found unless
        its singular vectors are those of the text projector, as in the embedded model (0.99).

        Parameters
        ----------
        embeddings : array_like, shape (n, d)
            Of twenty different sentences or more.

        Returns
        -------
        float
            Correlation of the logarithms of spread and singular value. 0.92 for OpenAI's ViT-B/32 and its embeddings of
            the ImageNet class names, -0.01 for the transposed matrix (``tests/projectors/test_text_only.py``).

        Raises
        ------
        InputError
            Another width, NaN, zero rows, or fewer than twenty of them.
        ModelError
            The correlation is below 0.4, or all singular values are alike, so that nothing can be told.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> W = rng.normal(size=(32, 32)) * np.geomspace(1, 0.01, 32)
        >>> sentences = rng.normal(size=(50, 32)) @ W.T
        >>> Projectors(text=W).check_text_embeddings(sentences) > 0.9
        True
        """
        d, (rows, columns) = self.embedding_dim, self.text.shape
        transposed = f" A text projector of {rows} x {columns} is probably transposed (expected out x in)."
        array = np.asarray(embeddings)
        if array.ndim == 2 and array.shape[1] == columns != rows:
            raise InputError(f"text embeddings: got width {columns}, expected {d}.{transposed}")
        T = np.asarray(as_matrix(array, "text embeddings", width=d, nonzero_rows=True, min_rows=20), np.float64)
        left, S, _ = np.linalg.svd(np.asarray(self.side("text").affine, np.float64), full_matrices=False)
        known = 1e-6 * S[0] < S
        T /= np.linalg.norm(T, axis=1, keepdims=True)
        spread = (T @ left[:, known]).std(axis=0)
        if np.log(S[known]).std() < 0.05 or not (spread > 0).all():
            raise ModelError(
                "the singular values of the text projector are all alike, or the sentences are: their embeddings cannot "
                "tell whether it is the right one. Compare a forward pass with check_embeddings(modality='text')."
            )
        correlation = float(np.corrcoef(np.log(spread), np.log(S[known]))[0, 1])
        if correlation < 0.4:
            raise ModelError(
                f"the text embeddings do not spread as this text projector says (log correlation {correlation:.2f}, "
                "expected 0.4 or more): it is transposed, the image projector, or another model's. Give the model's own, "
                "out x in."
            )
        return correlation

    def __repr__(self) -> str:
        d = self.embedding_dim
        image = "" if self.image is None else f"image {self.image.shape[1]} -> {d}, "
        biased = [name for name in ("image", "text") if getattr(self, f"{name}_bias") is not None]
        notes = f", with {' and '.join(biased)} bias" if biased else ""
        notes += f", linearised at the {self.linearised_at}" if self.linearised_at else ""
        source = f", source={self.source!r}" if self.source else ""
        return f"Projectors({image}text {self.text.shape[1]} -> {d}{notes}{source})"


def _weights(values: ArrayLike, name: str, **expected: Any) -> Floats:
    # Copies: a model's own weights may be folded, trained or cast later, and a pair must not change with them.
    array = np.asarray(values)
    if array.dtype.kind == "f" and not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise InputError(
            f"{name}: it holds NaN or infinite values; weights that overflowed in half precision, usually. Take the "
            "model's weights in float32 or bfloat16."
        )
    return as_matrix(array, name, min_rows=1, **expected).copy()
