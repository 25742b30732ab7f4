"""The small model that comes with isomix: icons, emoji and clip art at 64 x 64 pixels, run by onnxruntime."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomix._extras import require
from isomix.encoders.base import Array, Encoder
from isomix.encoders.images import READING
from isomix.errors import InputError
from isomix.projectors import Projectors
from isomix.projectors.sources import EMBEDDED_PAIRS, read_projectors

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["EmbeddedEncoder", "load"]

_WEIGHTS = files("isomix.encoders") / "weights"
_SIDE = 64
_PREPROCESSING = {
    "reading": READING,
    "resize": {"longest_side": _SIDE, "resample": "bilinear, antialiased"},
    "pad": {"to": [_SIDE, _SIDE], "color": [255, 255, 255], "position": "center"},
    "rescale": "0 to 1",
    "normalize": "in the model",
}


def load(
    name: str = "",
    *,
    offline: bool = False,
    device: str | None = None,
    revision: str | None = None,
    threads: int | None = None,
) -> EmbeddedEncoder:
    """Load the embedded model; see :func:`isomix.load_encoder`.

    Parameters
    ----------
    name : {"", "as-trained"}
        Which projectors: trained until they no longer changed (the default), or as they came out of training with the
        towers.
    offline : bool
        Nothing is ever downloaded.
    device : {"cpu"}, optional
    revision : None
        The weights belong to the version of isomix.
    threads : int, optional
        Threads of one forward pass. Default: onnxruntime's, the physical cores.
    """
    if device not in (None, "cpu"):
        raise InputError(f"device: got {device!r}; the embedded model runs on 'cpu' only.")
    if revision is not None:
        raise InputError(
            f"revision: got {revision!r}; the embedded model has none, it belongs to the version of isomix."
        )
    return EmbeddedEncoder(name, threads=threads)


class EmbeddedEncoder(Encoder):
    """The two towers of the embedded model behind one of its pairs of projectors.

    It may be pickled and used after a fork: onnxruntime's sessions are opened at the first use in each process.

    Examples
    --------
    >>> import numpy as np
    >>> from isomix import load_encoder
    >>> encoder = load_encoder("embedded")
    >>> red, blue = (np.full((32, 32, 3), colour, np.uint8) for colour in ([220, 0, 0], [0, 0, 220]))
    >>> encoder.encode_image([red, blue]).embeddings.shape
    (2, 192)
    >>> encoder.encode_text(["a red square"]).features.shape
    (1, 192)
    """

    scheme = "embedded"

    def __init__(self, pair: str = "", *, threads: int | None = None, weights: Path | None = None) -> None:
        self.spec = f"embedded:{pair}" if pair else "embedded"
        self.preprocessing = _PREPROCESSING
        # The training recipe looks at other weights than the packaged ones: a folder with the same files.
        self._weights: Traversable = _WEIGHTS if weights is None else Path(weights)
        self.projectors: Projectors = read_projectors(
            self.spec if weights is None else str(self._weights / EMBEDDED_PAIRS[pair])
        )
        self.logit_scale = float(self.projectors.logit_scale or 1.0)
        self.fingerprint = _fingerprint(self._weights, EMBEDDED_PAIRS[pair])
        self._threads = threads
        self._opened: dict[tuple[int, str], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    def preprocess(self, image: Image.Image) -> Array:
        """One RGB picture, fitted into a white square, to pixels of shape (3, 64, 64) in [0, 1]."""
        pil = require("PIL.Image", "app", "Reading pictures")
        width, height = (max(1, round(side * _SIDE / max(image.size))) for side in image.size)
        fitted = image if image.size == (width, height) else image.resize((width, height), pil.Resampling.BILINEAR)
        if fitted.size != (_SIDE, _SIDE):
            square = pil.new("RGB", (_SIDE, _SIDE), (255, 255, 255))
            square.paste(fitted, ((_SIDE - width) // 2, (_SIDE - height) // 2))
            fitted = square
        return np.asarray(fitted, np.float32).transpose(2, 0, 1) / np.float32(255)

    def forward_pixels(self, pixels: Array) -> Array:
        """Pixels of shape (n, 3, 64, 64) to pre-projection image features of shape (n, 256)."""
        return np.asarray(self._open("image.onnx").run(["features"], {"pixels": pixels})[0])

    def forward_texts(self, texts: Sequence[str]) -> Array:
        """Sentences to pre-projection text features of shape (n, 192); what follows the 14th word piece is not read."""
        tokens = np.array(
            [encoding.ids for encoding in self._open("tokenizer.json").encode_batch(list(texts))], np.int64
        )
        return np.asarray(self._open("text.onnx").run(["features"], {"tokens": tokens})[0])

    def image_graph(self) -> bytes:
        """The image tower as an ONNX model, from ``pixels`` to ``features``."""
        return (self._weights / "image.onnx").read_bytes()

    def _open(self, name: str) -> Any:
        key = (os.getpid(), name)  # a session does not survive a fork
        if key not in self._opened:
            data = (self._weights / name).read_bytes()
            if name == "tokenizer.json":
                self._opened[key] = require("tokenizers", "app", "The embedded model").Tokenizer.from_buffer(data)
            else:
                ort = require("onnxruntime", "app", "The embedded model")
                options = ort.SessionOptions()
                options.intra_op_num_threads = self._threads or 0
                options.add_session_config_entry(
                    "session.intra_op.allow_spinning", "0"
                )  # the cores are for decoding too
                self._opened[key] = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return self._opened[key]


def _fingerprint(weights: Traversable, pair: str) -> str:
    digest = hashlib.sha256(json.dumps(_PREPROCESSING, sort_keys=True).encode())
    for name in ("image.onnx", "text.onnx", "tokenizer.json", pair):
        digest.update(hashlib.sha256((weights / name).read_bytes()).digest())
    return digest.hexdigest()
