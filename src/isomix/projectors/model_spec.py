"""How a model is named: ``embedded``, ``hf:<hub id or folder>``, ``openclip:<architecture>/<tag>``, or a path.

Everything that takes a model's name apart does it here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from isomix.errors import InputError, ModelError

__all__ = ["SCHEMES", "ModelSpec", "OpenClipName", "parse_spec"]

SCHEMES = ("embedded", "hf", "openclip")
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
    """Take a model's name apart; an existing folder or file needs no scheme and has ``"hf"``.

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
    """
    if not isinstance(spec, str) or spec in ("", "hf:", "openclip:"):
        raise InputError(
            f"model: got {spec!r}, expected a string such as 'embedded' or 'hf:openai/clip-vit-base-patch32'."
        )
    scheme, _, name = spec.partition(":")
    if scheme in SCHEMES:
        return ModelSpec(scheme, name)
    return ModelSpec("hf", spec) if Path(spec).expanduser().exists() else ModelSpec(scheme, name)
