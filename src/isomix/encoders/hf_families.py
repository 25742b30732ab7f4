"""The architectures of transformers that can be encoders: how each gives pre-projection features.

``get_image_features`` is not used: transformers 4 and 5 return different things from it, and it gives no features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isomix.encoders.model_folder import read_json, read_preprocessing
from isomix.encoders.naflex import NaflexPreprocessing, split_packed
from isomix.encoders.preprocessing import Preprocessing
from isomix.encoders.torch_heads import activation_of, no_mlp
from isomix.errors import ModelError
from isomix.projectors import Projectors
from isomix.projectors.checkpoints import Residual, projectors_from, read_residual_head
from isomix.projectors.residual_head import ResidualHead

__all__ = ["FAMILIES", "Family", "siglip_head"]

_Reader = Callable[[Path, "Mapping[str, Any] | None"], "Preprocessing | NaflexPreprocessing"]


@dataclass(frozen=True)
class Family:
    """One architecture of transformers.

    Attributes
    ----------
    model_class : str
        Its class in transformers.
    image_features : callable
        (model without its residual head, pixels) → pre-projection features (n, d_image), as a tensor.
    text_features : callable
        (model, ids, mask) → pre-projection features (n, d_text), as a tensor.
    settings : tuple of str
        Entries of the two towers' configurations that change what the weights compute; part of the fingerprint.
    residual_head : bool
        The image tower ends in x + MLP(LayerNorm(x)) instead of a projector.
    pads_texts : bool
        Texts are filled up to the full length, which the model reads, and are in lower case unless the tokenizer's
        configuration forbids it: what SigLIP was trained on, though not every tokenizer of it does so by itself.
    preprocessing : callable
        (folder, given fields) → from a picture to pixels.
    """

    model_class: str
    image_features: Callable[[Any, Any], Any]
    text_features: Callable[[Any, Any, Any], Any]
    settings: tuple[str, ...]
    residual_head: bool = False
    pads_texts: bool = False
    preprocessing: _Reader = read_preprocessing

    def projectors(self, model: Any, source: str) -> Projectors:
        """The pair of a whole model; a residual head linearised at the origin."""
        weights = model.state_dict()
        return projectors_from(weights, lambda name: weights[name].cpu().numpy(), source, source)

    def texts(self, folder: Path) -> dict[str, Any]:
        """How texts are read, where it is not the tokenizer's business alone; JSON values."""
        if not self.pads_texts:
            return {}
        config = read_json(folder / "tokenizer_config.json") or {}
        return {"padding": "max_length", "lower_case": config.get("do_lower_case", True) is not False}


def siglip_head(model: Any) -> ResidualHead:
    """Take the residual part off a SigLIP's attention pooling, so that the tower gives the features before it.

    Raises
    ------
    ModelError
        The model has no such head, or one with another activation.
    """
    head = getattr(model.vision_model, "head", None)
    if head is None:
        raise ModelError(
            "this SigLIP has no pooling head (vision_use_head is false in its config.json), so there are no image "
            "embeddings. Take a complete model."
        )
    weights = head.state_dict()
    found = read_residual_head(
        Residual("layernorm", "mlp"),
        lambda name: weights[name].detach().cpu().numpy().copy(),
        epsilon=float(head.layernorm.eps),
        activation=activation_of(head.mlp.activation_fn),
    )
    head.mlp = no_mlp()
    return found


def _naflex_features(model: Any, packed: Any) -> Any:
    patches, mask, shapes = split_packed(packed)
    return model.vision_model(patches, mask, shapes).pooler_output  # transformers 4 has another name for the mask


def _last_token(model: Any, ids: Any, mask: Any) -> Any:
    return model.text_model(input_ids=ids).last_hidden_state[:, -1]  # no mask: it was trained without


def _read_naflex(folder: Path, given: Mapping[str, Any] | None) -> NaflexPreprocessing:
    return NaflexPreprocessing.from_folder(folder, given)


_SIGLIP_SETTINGS = ("hidden_act", "layer_norm_eps", "num_attention_heads", "patch_size", "image_size")

FAMILIES: Mapping[str, Family] = {
    "clip": Family(
        "CLIPModel",
        lambda model, pixels: model.vision_model(pixel_values=pixels).pooler_output,
        lambda model, ids, mask: model.text_model(input_ids=ids, attention_mask=mask).pooler_output,
        ("hidden_act", "layer_norm_eps", "num_attention_heads", "patch_size", "image_size", "eos_token_id"),
    ),
    "siglip": Family(  # SigLIP 2 of a fixed resolution too
        "SiglipModel",
        lambda model, pixels: model.vision_model(pixel_values=pixels).pooler_output,
        _last_token,
        _SIGLIP_SETTINGS,
        residual_head=True,
        pads_texts=True,
    ),
    "siglip2": Family(  # NaFlex: any aspect ratio
        "Siglip2Model",
        _naflex_features,
        _last_token,
        (*_SIGLIP_SETTINGS, "num_patches"),
        residual_head=True,
        pads_texts=True,
        preprocessing=_read_naflex,
    ),
}
"""``model_type`` of a ``config.json`` → family."""
