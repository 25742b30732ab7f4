"""Models of open_clip: ViT, ResNet, EVA-02, PE-Core, SigLIP and the other towers that end in one known head.

The head is taken off the model, which then gives pre-projection features; :mod:`isomix.projectors.checkpoints` says where
it is. Before that, a forward pass of the whole model proves that features and head together give its own embeddings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomix._extras import first_line, require, require_open_clip
from isomix.encoders.base import Array, Encoder
from isomix.encoders.preprocessing import Preprocessing
from isomix.encoders.torch_heads import activation_of, move_to, take_off_heads
from isomix.errors import InputError, ModelError, OfflineError
from isomix.projectors.checkpoints import Residual, find_layout, projectors_from, read_residual_head
from isomix.projectors.hub import is_offline
from isomix.projectors.model_spec import ModelSpec

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["OpenClipEncoder", "load"]

_NEEDS = "An 'openclip:' encoder"
_TOLERANCE = 1e-4  # of the proof: cosines in float32 agree to 1e-6, a wrong head is off by far more


def load(
    name: str, *, offline: bool = False, device: str | None = None, revision: str | None = None
) -> OpenClipEncoder:
    """Load a model of open_clip; see :func:`isomix.load_encoder`.

    Parameters
    ----------
    name : str
        ``"<architecture>/<pretrained tag, or file of weights>"``, ``"hf-hub:<hub id>"`` or ``"local-dir:<folder>"``.
    offline : bool
        Read folders and the hub's cache only.
    device : str, optional
        For torch: ``"cpu"`` (the default), ``"cuda"``, ``"mps"``, …
    revision : None
        open_clip knows none; download the folder and use ``local-dir:``.

    Raises
    ------
    ModelError
        Not found, or its head, preprocessing or activation is none that isomix knows.
    OfflineError
        It would have to be downloaded.
    MissingExtraError
        open_clip cannot be imported.
    """
    if revision is not None:
        raise InputError(
            f"revision: got {revision!r}, but open_clip always takes the newest. Download the folder of that revision "
            "and name it as 'openclip:local-dir:<folder>'."
        )
    open_clip = require_open_clip(_NEEDS)
    schema, place, weights = ModelSpec("openclip", name).open_clip()
    architecture = f"{schema}:{place}" if schema else place
    with _offline(is_offline(offline)):
        model, config = _create(open_clip, name, architecture, weights, is_offline(offline))

    def get_tokenizer() -> Any:
        with _offline(is_offline(offline)):
            return open_clip.get_tokenizer(architecture)

    return OpenClipEncoder(f"openclip:{name}", model, config, get_tokenizer, device or "cpu")


class OpenClipEncoder(Encoder):
    """A model of open_clip behind the interface of every encoder; float32, in inference mode.

    Parameters
    ----------
    spec : str
    model : torch.nn.Module
        A CLIP of open_clip with its ``visual.preprocess_cfg``. Its heads are taken off.
    config : mapping
        What open_clip built it from; part of the fingerprint.
    get_tokenizer : callable
        Gives open_clip's tokenizer for it; called when the first text is encoded.
    device : str
    """

    scheme = "openclip"

    def __init__(
        self, spec: str, model: Any, config: Mapping[str, Any], get_tokenizer: Callable[[], Any], device: str
    ) -> None:
        self.spec = spec
        self.device = "cpu"  # until the proof is done
        self._preprocess = _preprocessing(model.visual.preprocess_cfg, spec)
        self.preprocessing = self._preprocess.to_dict()
        weights = model.state_dict()

        def read(tensor: str) -> Any:
            return weights[tensor].detach().cpu().numpy()

        layout = find_layout(weights, spec)
        self.projectors = projectors_from(weights, read, spec, spec)
        self.logit_scale = float(self.projectors.logit_scale or 1.0)
        self.fingerprint = _fingerprint(weights, config, self.preprocessing)
        if isinstance(layout.image, Residual):
            self.image_head = read_residual_head(
                layout.image,
                read,
                epsilon=float(model.get_submodule(layout.image.norm).eps),
                activation=activation_of(model.get_submodule(layout.image.mlp).act),
            )
        self._get_tokenizer = get_tokenizer
        self.torch_model = model.float().eval()
        whole = self._probe()
        take_off_heads(self.torch_model, layout)
        self._prove(whole)
        self.torch_model, self.device = move_to(device, self.torch_model), device

    def preprocess(self, image: Image.Image) -> Array:
        """One RGB picture to pixels of shape (3, height, width), bit for bit those of open_clip's own transform."""
        return self._preprocess(image)

    def forward_pixels(self, pixels: Array) -> Array:
        """Pixels of shape (n, 3, height, width) to pre-projection image features of shape (n, d_image)."""
        torch = require("torch", "openclip", _NEEDS)
        with torch.inference_mode():
            features = self.torch_model.encode_image(torch.from_numpy(pixels).to(self.device), normalize=False)
        return np.asarray(features.float().cpu().numpy())

    def forward_texts(self, texts: Sequence[str]) -> Array:
        """Sentences to pre-projection text features of shape (n, d_text); what the model cannot read is cut off."""
        return self.forward_tokens(self.tokenizer(list(texts)))

    def forward_tokens(self, tokens: Any) -> Array:
        """A tensor of token ids, shape (n, context length), to pre-projection text features."""
        torch = require("torch", "openclip", _NEEDS)
        with torch.inference_mode():
            features = self.torch_model.encode_text(tokens.to(self.device), normalize=False)
        return np.asarray(features.float().cpu().numpy())

    @cached_property
    def tokenizer(self) -> Any:
        """open_clip's tokenizer, loaded when it is first asked for.

        Raises
        ------
        ModelError
            It cannot be loaded.
        """
        try:
            return self._get_tokenizer()
        except Exception as error:
            raise ModelError(
                f"the tokenizer of {self.spec} cannot be loaded: {first_line(error)}. Pictures can be encoded without. "
                "Some are those of transformers: pip install 'isomix[hf]', and its files must lie on this machine or "
                "be downloaded."
            ) from error

    def _probe(self) -> tuple[Array, Array]:
        """What the model, as it is, gives for two pictures of noise and two rows of tokens."""
        torch = require("torch", "openclip", _NEEDS)
        noise = np.random.default_rng(0)
        size = getattr(self.torch_model.visual, "image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        pixels = noise.normal(size=(2, 3, height, width)).astype(np.float32)
        text = getattr(self.torch_model, "text", self.torch_model)
        length, words = int(text.context_length), int(text.vocab_size)
        tokens = torch.from_numpy(noise.integers(1, words, (2, length)))
        return self.forward_pixels(pixels), self.forward_tokens(tokens)

    def _prove(self, whole: tuple[Array, Array]) -> None:
        """The heads that were taken off must make of the features what the whole model gave."""
        features = self._probe()
        for modality, project, own, feature in zip(
            ("image", "text"), (self.project_image, self.project_text), whole, features, strict=True
        ):
            projected = project(feature)
            cosine = (projected * own).sum(axis=1) / np.linalg.norm(own, axis=1)
            if not cosine.min() > 1 - _TOLERANCE:
                raise ModelError(
                    f"the {modality} tower of {self.spec} does something after its pre-projection features that isomix "
                    f"does not know: the projector gives other embeddings than the model (cosine {cosine.min():.4f}). "
                    "Use another model, or its embeddings as they are, with TextPCA or Whitening."
                )


def _create(
    open_clip: Any, name: str, architecture: str, weights: str | None, offline: bool
) -> tuple[Any, dict[str, Any]]:
    tag: dict[str, Any] = {}
    if weights is not None:
        known = open_clip.list_pretrained_tags_by_model(architecture)
        tag = open_clip.get_pretrained_cfg(architecture, weights) or {}
        if architecture not in open_clip.list_models() or not (tag or Path(weights).is_file()):
            what = f"no weights {weights!r} for it; its tags: {', '.join(known)}" if known else "no such architecture"
            raise ModelError(
                f"'openclip:{name}': open_clip knows {what}. Expected '<architecture>/<pretrained tag or file>' as in "
                "open_clip.list_pretrained()."
            )
    try:
        config = dict(open_clip.get_model_config(architecture))
        # Many tags were trained with QuickGELU under an architecture without it; open_clip warns and computes garbage.
        quick = bool(tag.get("quick_gelu") or config.get("quick_gelu"))
        model = open_clip.create_model(architecture, weights, force_quick_gelu=quick, require_pretrained=True)
    except Exception as error:
        kind = OfflineError if offline and not name.startswith("local-dir:") else ModelError
        hint = "Connections are forbidden: run once without offline. " if kind is OfflineError else ""
        raise kind(
            f"'openclip:{name}' cannot be loaded: {first_line(error)}. {hint}A folder needs open_clip_config.json and "
            "open_clip_model.safetensors; for anything else check spelling and connection."
        ) from error
    return model, config | {"quick_gelu": quick}


@contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """Forbid the hub's client to open connections meanwhile; open_clip has no argument for it."""
    constants: Any = require("huggingface_hub.constants", "openclip", _NEEDS)
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _preprocessing(config: Mapping[str, Any], where: str) -> Preprocessing:
    size, mode = config["size"], config.get("resize_mode") or "shortest"
    height, width = (size, size) if isinstance(size, int) else size
    if mode not in ("shortest", "squash") or (mode == "shortest" and height != width):
        raise ModelError(
            f"{where} resizes pictures by {mode!r} to {height} x {width}, which isomix does not do. Expected 'squash', "
            "or 'shortest' to a square."
        )
    squash = mode == "squash"
    return Preprocessing(
        resize=(height, width) if squash else height,
        resample="bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
        crop=None if squash else (height, width),
        scale=1 / 255,
        mean=tuple(map(float, config["mean"])),
        std=tuple(map(float, config["std"])),
        crop_rounding="even",
    )


def _fingerprint(weights: Mapping[str, Any], config: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> str:
    settings = json.dumps([config, preprocessing], sort_keys=True, default=str)
    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).data)
    return digest.hexdigest()
