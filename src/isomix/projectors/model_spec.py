"""How a model is named: ``embedded``, a short name, ``hf:<hub id or folder>``, ``openclip:<architecture>/<tag>``, or a path.

Everything that takes a model's name apart does it here.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from isomix.errors import InputError, ModelError

__all__ = ["SCHEMES", "SHORT_NAMES", "ModelSpec", "OpenClipName", "full_name", "parse_spec", "unknown_model"]

SCHEMES = ("embedded", "hf", "openclip")
SHORT_NAMES = {
    "clip-b32": "hf:openai/clip-vit-base-patch32",
    "clip-b16": "hf:openai/clip-vit-base-patch16",
    "clip-l14": "hf:openai/clip-vit-large-patch14",
    "clip-l14-336": "hf:openai/clip-vit-large-patch14-336",
    "datacomp-b32": "hf:laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    "datacomp-b16": "hf:laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    "siglip-b16": "hf:google/siglip-base-patch16-224",
    "siglip-so400m": "hf:google/siglip-so400m-patch14-384",
    "siglip2-b16": "hf:google/siglip2-base-patch16-224",
    "siglip2-so400m": "hf:google/siglip2-so400m-patch14-384",
}
"""The usual models; what is stored names them in full. A folder of such a name is ``./clip-b32``."""
_OPEN_CLIP_SCHEMAS = ("hf-hub", "local-dir")


class ModelSpec(NamedTuple):
    """A model's name, taken apart.

    Attributes
    ----------
    scheme : str
        One of ``SCHEMES``, or whatever else stood in front of the colon.
    name : str
        What follows: the pair of an embedded model, a hub id, a path, open_clip's own name.
    """

    scheme: str
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}" if self.name else self.scheme

    @property
    def path(self) -> Path | None:
        """The file or folder that an ``hf:`` name is, or None for a hub id."""
        path = Path(self.name).expanduser()
        return path if self.scheme == "hf" and path.exists() else None

    @property
    def backbone(self) -> str:
        """The same for every spelling of one backbone: no scheme, no case, no ``-quickgelu`` of open_clip.

        Examples
        --------
        >>> ModelSpec("openclip", "ViT-B-32-quickgelu/openai").backbone
        'vit-b-32/openai'
        """
        name = self.name if self.scheme in ("hf", "openclip") else str(self)
        return name.casefold().removeprefix("hf-hub:").replace("-quickgelu/", "/")

    def open_clip(self) -> OpenClipName:
        """What open_clip's own name says.

        Raises
        ------
        ModelError
            It names an architecture without weights.
        """
        schema, _, place = self.name.partition(":")
        if schema in _OPEN_CLIP_SCHEMAS:
            return OpenClipName(schema, place, None)
        architecture, _, weights = self.name.partition("/")
        if not weights:
            raise ModelError(
                f"'openclip:{self.name}' names no weights. Write 'openclip:<architecture>/<pretrained tag or file>', for "
                "example 'openclip:ViT-B-32/datacomp_xl_s13b_b90k', 'openclip:hf-hub:<hub id>' or "
                "'openclip:local-dir:<folder>'."
            )
        return OpenClipName("", architecture, weights)


class OpenClipName(NamedTuple):
    """A model as open_clip names it.

    Attributes
    ----------
    schema : {"", "hf-hub", "local-dir"}
    place : str
        Architecture, hub id or folder.
    weights : str or None
        Tag or file of weights, for an architecture.
    """

    schema: str
    place: str
    weights: str | None


def parse_spec(spec: str) -> ModelSpec:
    """Take a model's name apart; a short name is its full one, an existing folder or file needs no scheme and has ``"hf"``.

    Raises
    ------
    InputError
        Not a string, or one that names nothing.

    Examples
    --------
    >>> parse_spec("hf:openai/clip-vit-base-patch32")
    ModelSpec(scheme='hf', name='openai/clip-vit-base-patch32')
    >>> parse_spec("embedded")
    ModelSpec(scheme='embedded', name='')
    >>> str(parse_spec("clip-l14"))
    'hf:openai/clip-vit-large-patch14'
    """
    if not isinstance(spec, str) or spec in ("", "hf:", "openclip:"):
        raise InputError(
            f"model: got {spec!r}, expected a string such as 'embedded' or 'hf:openai/clip-vit-base-patch32'."
        )
    scheme, _, name = full_name(spec).partition(":")
    if scheme in SCHEMES:
        return ModelSpec(scheme, name)
    return ModelSpec("hf", spec) if Path(spec).expanduser().exists() else ModelSpec(scheme, name)


def full_name(spec: str) -> str:
    """A short name in full; anything else as it is."""
    return SHORT_NAMES.get(spec, spec)


def unknown_model(spec: str) -> ModelError:
    """The error about a name that is none, with the nearest one that is.

    Examples
    --------
    >>> print(unknown_model("clip-b23"))
    'clip-b23' is no model: no folder or file of that name exists. Did you mean 'clip-b32'? There are 'embedded', short names (clip-b32, clip-b16, clip-l14, clip-l14-336, datacomp-b32, datacomp-b16, siglip-b16, siglip-so400m, siglip2-b16, siglip2-so400m), 'hf:<hub id or folder>' and 'openclip:<name>/<tag>'.
    """
    near = get_close_matches(spec.casefold(), ["embedded", *SHORT_NAMES], n=1)
    hub_id = spec.count("/") == 1 and not spec.startswith((".", "/", "~"))
    nearest = near[0] if near else f"hf:{spec}" if hub_id else ""
    return ModelError(
        f"{spec!r} is no model: no folder or file of that name exists."
        + (f" Did you mean {nearest!r}?" if nearest else "")
        + f" There are 'embedded', short names ({', '.join(SHORT_NAMES)}), 'hf:<hub id or folder>' and "
        "'openclip:<name>/<tag>'."
    )
