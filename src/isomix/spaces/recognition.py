"""Whose preset a model takes: that of its name, or of the published checkpoint that it is a copy of."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isomix.errors import IsomixWarning
from isomix.projectors import Projectors
from isomix.projectors.model_spec import parse_spec
from isomix.spaces.bands import Band, has_preset, preset_band

__all__ = ["Preset", "find_preset", "text_mark"]

TEXT_MARKS = {"76593aa18e9856de": "openai/clip-vit-base-patch32"}
"""Marks of text projectors (:func:`text_mark`) -> backbone."""
SHAPES = {
    "openai/clip-vit-base-patch16": (512, 768, 512),
    "openai/clip-vit-large-patch14": (768, 1024, 768),
    "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K": (512, 768, 512),
    "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": (512, 768, 512),
    "google/siglip2-base-patch16-224": (768, 768, 768),
}
"""Backbones without a mark -> (d, d_image, d_text)."""
_CACHED = re.compile(r"models--([^/\\]+)--([^/\\]+)")
_CONFIG_BYTES = 1 << 20
_BY_MARK = "its text projector"


class Preset(NamedTuple):
    """A preset band.

    Attributes
    ----------
    backbone : str
        Whose it is.
    band : Band
    by : str
        What the model was recognised by; empty where it bears the name.
    """

    backbone: str
    band: Band
    by: str

    def recognised(self, source: str) -> str:
        """What a copy was recognised as, and by what, with a warning if that is a guess; empty for one that bears the name."""
        if not self.by:
            return ""
        if self.by != _BY_MARK:
            warnings.warn(
                f"{source} takes the preset band of {self.backbone}, by {self.by}. If it was trained further, give a band.",
                IsomixWarning,
                stacklevel=4,
            )
        return f"{self.backbone}, by {self.by}"


def find_preset(projectors: Projectors, modality: str = "image", backbone: str = "") -> Preset | None:
    """The preset of a model, or None.

    Looked for in this order: by its name; by the mark of its text projector, which any copy has, and which a finetuned
    model that shares the projector has too; by the name that a local copy bears in its ``config.json`` or in the hub's
    cache, if the projectors have the shape. A finetuned model may bear the name of the one that it was made from, so the
    last is a guess.

    Parameters
    ----------
    projectors : Projectors
    modality : {"image", "text"}
    backbone : str
        The name. Default: what the projectors say.
    """
    name, by = backbone or projectors.source, ""
    if not has_preset(name, modality):
        name, by = _recognise(projectors)
    return Preset(name, preset_band(name, modality), by) if has_preset(name, modality) else None


def text_mark(projectors: Projectors) -> str:
    """A short hash of the text projector in bfloat16, so that float32, float16 and bfloat16 copies have the same.

    True of weights that float16 holds exactly, as it does those of OpenAI.
    """
    bits = np.ascontiguousarray(projectors.text, "<f4").view("<u4")
    half = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")  # to the nearest, ties to even
    return hashlib.blake2b(half.tobytes(), digest_size=8, person=str(half.shape).encode()).hexdigest()


def _recognise(projectors: Projectors) -> tuple[str, str]:
    marked = TEXT_MARKS.get(text_mark(projectors))
    if marked is not None:
        return marked, _BY_MARK
    path = parse_spec(projectors.source).path if projectors.source else None
    d, d_text = projectors.text.shape
    for written, by in () if path is None else _names(path):
        for name, (width, image, text) in SHAPES.items():
            same = projectors.image is None or projectors.image.shape[1] == image
            if _is(written, name) and (width, text) == (d, d_text) and same:
                return name, by
    return "", ""


def _names(path: Path) -> list[tuple[str, str]]:
    """Names that a local copy bears, and where."""
    config = (path if path.is_dir() else path.parent) / "config.json"
    names = [
        (f"{organisation}/{model}", "the name of its folder in the hub's cache")
        for organisation, model in _CACHED.findall(str(path.absolute()))
    ]
    try:
        with config.open("rb") as stream:
            content = json.loads(stream.read(_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):  # no name then; whoever needs the rest of the file says what is wrong
        content = None
    written = content.get("_name_or_path") if isinstance(content, dict) else None
    return [*names, (written, "the name in config.json")] if isinstance(written, str) and written else names


def _is(written: str, name: str) -> bool:
    """Whether a name or path is that of a backbone; a path counts by its last part."""
    last = written.replace("\\", "/").rstrip("/").casefold()
    return last == name.casefold() or last.rsplit("/", 1)[-1] == name.casefold().rsplit("/", 1)[-1]
