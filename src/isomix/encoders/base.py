"""The contract of every encoder: pictures and sentences in, pre-projection features and embeddings out."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import blocks, check_integer
from isomix.errors import InputError, ModelError
from isomix.linalg import normalize_rows
from isomix.projectors import Projectors

if TYPE_CHECKING:
    from PIL import Image

    from isomix.projectors.residual_head import Linearisation, Point, ResidualHead

__all__ = ["Array", "Embeddings", "Encoder", "ImageLike"]

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]"
Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Embeddings:
    """What an encoder returns, one row an input, in the order of the inputs.

    Attributes
    ----------
    features : ndarray of float32, shape (n, d_image) or (n, d_text)
        Pre-projection features. Rows of inputs that could not be read are NaN.
    embeddings : ndarray of float32, shape (n, d)
        Projected features with unit rows. Rows of inputs that could not be read are NaN.
    ok : ndarray of bool, shape (n,)
        Which inputs were readable.
    errors : dict of int to str
        The reason for every input that was not.
    logit_scale : float or None
        The inverse temperature of the model that made them; few-shot classifiers take it from their ``text=``.
    """

    features: Array
    embeddings: Array
    ok: NDArray[np.bool_]
    errors: Mapping[int, str] = field(default_factory=dict)
    logit_scale: float | None = None

    def __len__(self) -> int:
        return len(self.ok)


class Encoder(ABC):
    """A pair of towers behind one pair of projectors.

    A subclass sets the attributes, turns one picture into pixels, and runs its towers on batches.

    Attributes
    ----------
    spec : str
        The string that :func:`isomix.load_encoder` understands, e.g. ``"embedded"``.
    fingerprint : str
        Hexadecimal SHA-256 over weights and preprocessing: equal fingerprints, comparable embeddings.
    preprocessing : dict
        How a picture becomes pixels; JSON values only. Stored with every table.
    projectors : Projectors
    image_head : ResidualHead or None
        What makes image embeddings of the features where no matrix does (SigLIP); ``projectors`` then holds its
        linearisation at the origin, which the embeddings do not use.
    logit_scale : float
        The model's inverse temperature (100 for OpenAI CLIP).
    torch_model : torch.nn.Module or None
        The model of torch that runs the towers, if one does. What stands in ``image_head`` is taken off it, and off a
        model of open_clip both heads, so that it gives pre-projection features.
    tokenizer : callable or None
        What turns sentences into the token ids of ``torch_model``.
    """

    scheme: ClassVar[str]
    spec: str
    fingerprint: str
    preprocessing: dict[str, Any]
    projectors: Projectors
    image_head: ResidualHead | None = None
    logit_scale: float
    torch_model: Any = None
    tokenizer: Any = None

    @property
    def embedding_dim(self) -> int:
        """Width d of the embeddings."""
        return self.projectors.embedding_dim

    @property
    def image_feature_dim(self) -> int:
        """Width d_image of the pre-projection image features."""
        return self.projectors.side("image").width

    @property
    def text_feature_dim(self) -> int:
        """Width d_text of the pre-projection text features."""
        return self.projectors.side("text").width

    @abstractmethod
    def preprocess(self, image: Image.Image) -> Array:
        """One RGB picture to float32 pixels of shape (3, height, width); must be safe to call from several threads."""

    @abstractmethod
    def forward_pixels(self, pixels: Array) -> Array:
        """Pixels of shape (n, 3, height, width) to pre-projection image features of shape (n, d_image)."""

    @abstractmethod
    def forward_texts(self, texts: Sequence[str]) -> Array:
        """Sentences to pre-projection text features of shape (n, d_text)."""

    def project_image(self, features: Array) -> Array:
        """Pre-projection image features to unit-length embeddings: the model's own, whatever its head."""
        head = self.projectors.project_image if self.image_head is None else self.image_head
        return np.asarray(normalize_rows(head(features), "image embeddings"), np.float32)

    def linearise(self, features: Array | None = None, *, point: Point | None = None) -> Linearisation:
        """The image head as an affine map, for models whose head is not linear.

        Parameters
        ----------
        features : ndarray, shape (n, d_image), optional
            A sample of pre-projection image features, as ``encode_image`` gives them; a few hundred pictures or more.
        point : {"origin", "sample"}, optional
            Where the map is taken; default: where its error on the sample is smaller.

        Returns
        -------
        Linearisation
            ``IsoCLIP(encoder.linearise(features).apply_to(encoder.projectors))`` uses it.

        Raises
        ------
        ModelError
            The head is linear already.
        """
        if self.image_head is None:
            raise ModelError(f"the image head of {self.spec} is linear already: use encoder.projectors as they are.")
        return self.image_head.linearise(features, point=point)

    def project_text(self, features: Array) -> Array:
        """Pre-projection text features to unit-length embeddings."""
        return np.asarray(normalize_rows(self.projectors.project_text(features), "text embeddings"), np.float32)

    def encode_image(
        self,
        images: Sequence[ImageLike],
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        max_megapixels: float = 100.0,
        workers: int | None = None,
    ) -> Embeddings:
        """Read, preprocess and encode pictures; decoding runs in threads beside the encoder.

        Parameters
        ----------
        images : sequence of path, bytes, PIL image or uint8 array of shape (height, width, 3)
        batch_size : int
        show_progress_bar : bool, optional
            Default: only on a terminal.
        max_megapixels : float
            Larger pictures are refused before they are decoded.
        workers : int, optional
            Decoding threads. Default: the number of cores, at most 8.

        Returns
        -------
        Embeddings
            An unreadable picture is a row with ``ok`` false and a reason in ``errors``; no row is ever shifted.
        """
        from isomix.encoders.batching import iter_encoded, progress_bar
        from isomix.encoders.images import read_image

        _check_sequence(images)
        loaders = (partial(read_image, image, max_megapixels=max_megapixels) for image in images)
        features = np.full((len(images), self.image_feature_dim), np.nan, np.float32)
        embeddings = np.full((len(images), self.embedding_dim), np.nan, np.float32)
        ok = np.zeros(len(images), np.bool_)
        errors: dict[int, str] = {}
        with progress_bar("images", len(images), show_progress_bar) as advance:
            for batch in iter_encoded(self, loaders, batch_size=batch_size, workers=workers):
                rows = slice(batch.start, batch.start + len(batch))
                features[rows], embeddings[rows], ok[rows] = batch.features, batch.embeddings, batch.ok
                errors.update({batch.start + row: reason for row, reason in batch.errors.items()})
                advance(len(batch))
        return Embeddings(features, embeddings, ok, errors, self.logit_scale)

    def encode_text(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 256,
        show_progress_bar: bool | None = None,
    ) -> Embeddings:
        """Encode sentences.

        Parameters
        ----------
        texts : sequence of str
        batch_size : int
        show_progress_bar : bool, optional
            Default: only on a terminal.

        Raises
        ------
        InputError
            A single string was given, or something that is not a string.
        """
        from isomix.encoders.batching import progress_bar

        _check_texts(texts)
        batch_size = check_integer(batch_size, "batch_size", minimum=1)
        features = np.empty((len(texts), self.text_feature_dim), np.float32)
        embeddings = np.empty((len(texts), self.embedding_dim), np.float32)
        with progress_bar("texts", len(texts), show_progress_bar) as advance:
            for rows in blocks(len(texts), batch_size):
                features[rows] = self.forward_texts(list(texts[rows]))
                embeddings[rows] = self.project_text(features[rows])
                advance(rows.stop - rows.start)
        return Embeddings(features, embeddings, np.ones(len(texts), np.bool_), logit_scale=self.logit_scale)


def _check_sequence(images: Sequence[ImageLike]) -> None:
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return
    if isinstance(images, str | bytes | os.PathLike | np.ndarray) or not isinstance(images, Sequence):
        shape = f" of shape {images.shape}" if isinstance(images, np.ndarray) else ""
        raise InputError(
            f"images: got a {type(images).__name__}{shape}, expected a sequence of pictures. Wrap a single one in a list."
        )


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise InputError(f"texts: got the single string {texts!r}, expected a sequence of strings. Wrap it in a list.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"texts: item {i} is a {type(text).__name__}, expected strings. Convert it, or leave it out."
            )
