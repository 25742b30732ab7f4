"""CLIP, SigLIP and SigLIP 2 of transformers, from a folder or the hub, weights as safetensors only.

What distinguishes them is in :mod:`isomix.encoders.hf_families`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomix._extras import first_line, require
from isomix.encoders.base import Array, Encoder
from isomix.encoders.hf_families import FAMILIES, Family, siglip_head
from isomix.encoders.model_folder import (
    file_hash,
    find_folder,
    read_json,
    tokenizer_file,
    weight_files,
)
from isomix.encoders.naflex import NaflexPreprocessing
from isomix.encoders.preprocessing import Preprocessing
from isomix.encoders.torch_heads import move_to
from isomix.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FAMILIES", "HfEncoder", "load"]


def load(
    name: str,
    *,
    offline: bool = False,
    device: str | None = None,
    revision: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> HfEncoder:
    """Load a model of transformers; see :func:`isomix.load_encoder`.

    Parameters
    ----------
    name : str
        Folder, or hub id.
    offline : bool
        Read folders and the hub's cache only.
    device : str, optional
        For torch: ``"cpu"`` (the default), ``"cuda"``, ``"mps"``, …
    revision : str, optional
        Branch, tag or commit on the hub.
    preprocessing : mapping, optional
        Fields of a ``preprocessor_config.json``, for a folder that has none.

    Raises
    ------
    ModelError
        Not found, another architecture, incomplete weights, weights only as a pickle, or no preprocessing.
    OfflineError
        It would have to be downloaded.
    MissingExtraError
        torch or transformers cannot be imported.
    """
    transformers = require("transformers", "hf", "An 'hf:' encoder")
    require("torch", "hf", "An 'hf:' encoder")
    folder = find_folder(name, offline=offline, revision=revision)
    family = _family(folder)
    pixels = family.preprocessing(folder, preprocessing)
    model = _load_model(transformers, family, folder)
    return HfEncoder(f"hf:{name}", family, folder, model, pixels, device or "cpu")


class HfEncoder(Encoder):
    """A model of transformers behind the interface of every encoder; float32, in inference mode.

    Parameters
    ----------
    spec : str
    family : Family
    folder : Path
        Of the model: weights for the fingerprint, and the tokenizer.
    model : transformers.PreTrainedModel
        Its residual head, if it has one, is taken off.
    preprocessing : Preprocessing or NaflexPreprocessing
    device : str
    """

    scheme = "hf"

    def __init__(
        self,
        spec: str,
        family: Family,
        folder: Path,
        model: Any,
        preprocessing: Preprocessing | NaflexPreprocessing,
        device: str,
    ) -> None:
        self.spec = spec
        self.device = device
        self._texts = family.texts(folder)
        self.preprocessing = preprocessing.to_dict() | ({"texts": self._texts} if self._texts else {})
        self.projectors = family.projectors(model, spec)
        self.image_head = siglip_head(model) if family.residual_head else None
        self.logit_scale = float(self.projectors.logit_scale or 1.0)
        self.fingerprint = _fingerprint(folder, model.config, family, self.preprocessing)
        self._preprocess = preprocessing
        self._family = family
        self._folder = folder
        self.torch_model = move_to(device, model)

    def preprocess(self, image: Image.Image) -> Array:
        """One RGB picture to pixels of shape (3, height, width); packed patches for a SigLIP 2 of any aspect ratio."""
        return self._preprocess(image)

    def forward_pixels(self, pixels: Array) -> Array:
        """What ``preprocess`` gave, n of them, to pre-projection image features of shape (n, d_image)."""
        torch = require("torch", "hf", "An 'hf:' encoder")
        with torch.inference_mode():
            features = self._family.image_features(self.torch_model, torch.from_numpy(pixels).to(self.device))
        return np.asarray(features.float().cpu().numpy())

    def forward_texts(self, texts: Sequence[str]) -> Array:
        """Sentences to pre-projection text features of shape (n, d_text); what the model cannot read is cut off."""
        torch = require("torch", "hf", "An 'hf:' encoder")
        longest = self.torch_model.config.text_config.max_position_embeddings
        sentences = [text.lower() if self._texts.get("lower_case") else text for text in texts]
        padding = {"padding": "max_length", "padding_side": "right"} if self._texts else {"padding": True}
        tokens = self.tokenizer(
            sentences,
            **padding,
            truncation=True,
            max_length=longest,
            return_attention_mask=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            ids, mask = tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
            features = self._family.text_features(self.torch_model, ids, mask)
        return np.asarray(features.float().cpu().numpy())

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers, loaded when it is first asked for.

        Raises
        ------
        ModelError
            The folder has none, or it cannot be loaded.
        """
        if tokenizer_file(self._folder) is None:
            raise ModelError(
                f"{self._folder} has no tokenizer (tokenizer.json, vocab.json or spiece.model), so texts cannot be "
                "encoded; pictures can. Copy the tokenizer files of the model there."
            )
        tokenizer = _attribute(require("transformers", "hf", "An 'hf:' encoder"), "AutoTokenizer")
        try:
            return tokenizer.from_pretrained(self._folder, local_files_only=True)
        except Exception as error:
            raise ModelError(
                f"the tokenizer in {self._folder} cannot be loaded: {first_line(error)}. That of the first SigLIP "
                "needs two packages more: pip install sentencepiece protobuf. Otherwise fetch its files again."
            ) from error


def _family(folder: Path) -> Family:
    config = read_json(folder / "config.json")
    if config is None:
        raise ModelError(
            f"{folder} has no config.json and is no model folder of transformers. Name the folder that has one."
        )
    model_type = str(config.get("model_type"))
    if model_type not in FAMILIES:
        raise ModelError(
            f"{folder} holds a model of type {model_type!r}; the 'hf:' encoder knows {', '.join(FAMILIES)}. "
            "Models of open_clip go by 'openclip:…'."
        )
    return FAMILIES[model_type]


def _load_model(transformers: Any, family: Family, folder: Path) -> Any:
    if not weight_files(folder):
        pickled = (
            " but a pickle, which can run any code when it is opened" if (folder / "pytorch_model.bin").exists() else ""
        )
        raise ModelError(
            f"{folder} has no safetensors weights (model.safetensors){pickled}. Download the model with its "
            f"safetensors weights."
        )
    model_class = _attribute(transformers, family.model_class)
    with _no_progress_bar(transformers):
        try:
            model, info = model_class.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        except Exception as error:
            raise ModelError(
                f"{folder} cannot be loaded as {family.model_class}: {first_line(error)}. Is it complete? Fetch it "
                f"again."
            ) from error
    missing = sorted(str(name) for name in info["missing_keys"] if "position_ids" not in str(name))
    if missing or info["mismatched_keys"]:
        names = ", ".join(missing[:3] or sorted(str(key) for key in info["mismatched_keys"])[:3])
        raise ModelError(
            f"{folder}: weights are missing or of another shape than config.json says ({names}). Fetch the model again."
        )
    return model.float().eval()


@contextmanager
def _no_progress_bar(transformers: Any) -> Iterator[None]:
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _attribute(transformers: Any, name: str) -> Any:
    try:
        return getattr(transformers, name)
    except (ImportError, RuntimeError, AttributeError) as error:
        raise MissingExtraError(
            f"transformers cannot provide {name} ({first_line(error)}). If torchvision is named there: the one that "
            "is installed does not belong to this torch, and isomix needs none; remove it with: pip uninstall "
            "torchvision. Otherwise: pip install -U 'isomix[hf]'"
        ) from error


def _fingerprint(folder: Path, config: Any, family: Family, preprocessing: dict[str, Any]) -> str:
    towers = (config.vision_config, config.text_config)
    settings = [[getattr(tower, name, None) for name in family.settings] for tower in towers]
    digest = hashlib.sha256(json.dumps([family.model_class, settings, preprocessing], sort_keys=True).encode())
    tokenizer = tokenizer_file(folder)
    for path in [*weight_files(folder), *([tokenizer] if tokenizer else [])]:
        digest.update(bytes.fromhex(file_hash(path)))
    return digest.hexdigest()
