"""Bands of singular directions: what one cuts, how one is written, and the presets by backbone.

Source of the presets: Magistri et al., *IsoCLIP*, CVPR 2026, arXiv 2603.19862, and its official code. The band of the
embedded model is this project's; how it was chosen stands in its model card.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, cast

from isomix.errors import BandError
from isomix.projectors.model_spec import parse_spec
from isomix.projectors.side import check_modality

__all__ = ["Band", "check_band", "has_preset", "parse_band", "preset_band", "preset_names"]


class Band(NamedTuple):
    """How many singular directions are cut off at either end; written ``"150/50"``.

    Attributes
    ----------
    k_top : int
        Directions with the largest singular values that are left out.
    k_bottom : int
        Directions with the smallest singular values that are left out.

    Examples
    --------
    >>> band = Band(150, 50)
    >>> str(band)
    '150/50'
    >>> band.words(512)
    'cuts the 150 largest and 50 smallest of 512 directions'
    """

    k_top: int
    k_bottom: int

    def __str__(self) -> str:
        return f"{self.k_top}/{self.k_bottom}"

    def kept(self, rank: int) -> slice:
        """Which of ``rank`` directions are left."""
        return slice(self.k_top, rank - self.k_bottom)

    def to_dict(self, rank: int) -> dict[str, int]:
        """What is cut, and of how many."""
        return {"k_top": self.k_top, "k_bottom": self.k_bottom, "of": rank}

    def words(self, rank: int) -> str:
        """The same in words."""
        return f"cuts the {self.k_top} largest and {self.k_bottom} smallest of {rank} directions"


_VIT_B32 = {"image": Band(150, 50), "text": Band(20, 100)}
_VIT_B16 = {"image": Band(200, 50), "text": Band(10, 50)}
_VIT_L14 = {"image": Band(250, 200), "text": Band(10, 300)}
_DATACOMP_B16 = {"image": Band(100, 100), "text": Band(2, 150)}
_DATACOMP_B32 = {"image": Band(50, 50)}
_PE_CORE_B16 = {"image": Band(300, 50)}
_SIGLIP2_B16 = {"image": Band(350, 50)}

_PRESETS: dict[str, dict[str, Band]] = {
    "openai/clip-vit-base-patch32": _VIT_B32,
    "openai/clip-vit-base-patch16": _VIT_B16,
    "openai/clip-vit-large-patch14": _VIT_L14,
    "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K": _DATACOMP_B16,
    "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": _DATACOMP_B32,
    "google/siglip2-base-patch16-224": _SIGLIP2_B16,
    "ViT-B-32/openai": _VIT_B32,
    "ViT-B-16/openai": _VIT_B16,
    "ViT-L-14/openai": _VIT_L14,
    "ViT-B-16/datacomp_xl_s13b_b90k": _DATACOMP_B16,
    "ViT-B-32/datacomp_xl_s13b_b90k": _DATACOMP_B32,
    "PE-Core-B-16/meta": _PE_CORE_B16,
    "ViT-B-16-SigLIP2/webli": _SIGLIP2_B16,
    "embedded": {"image": Band(0, 72)},
}


def preset_names(modality: str = "image") -> list[str]:
    """Names of the backbones with a preset band for ``modality``."""
    return sorted(name for name, bands in _PRESETS.items() if modality in bands)


def preset_band(backbone: str, modality: str = "image") -> Band:
    """Preset band of a backbone.

    Parameters
    ----------
    backbone : str
        A hub id, an open_clip ``name/pretrained`` pair, or ``"embedded"``; a leading ``hf:`` or ``openclip:`` and
        open_clip's ``-quickgelu`` do not matter, nor does case.
    modality : {"image", "text"}

    Raises
    ------
    BandError
        There is none.

    Examples
    --------
    >>> preset_band("hf:openai/clip-vit-base-patch32")
    Band(k_top=150, k_bottom=50)
    """
    check_modality(modality)
    key = parse_spec(backbone).backbone if backbone else ""
    for name, bands in _PRESETS.items():
        if name.casefold() == key and modality in bands:
            return bands[modality]
    what = f"the backbone {backbone!r}" if backbone else "projectors without a source"
    raise BandError(
        f"there is no preset band for {what} ({modality}). Give a band such as '150/50', 'auto', or one of these "
        f"names: {', '.join(preset_names(modality))}."
    )


def has_preset(backbone: str, modality: str = "image") -> bool:
    """Whether there is a preset band for a backbone of this name."""
    try:
        preset_band(backbone, modality)
    except BandError:
        return False
    return True


def parse_band(band: object) -> Band | str:
    """A band as it is given: counts as a :class:`Band`, and a word ("preset", "auto", a backbone's name) as it is.

    Raises
    ------
    BandError
        Neither a word nor two counts.

    Examples
    --------
    >>> parse_band("150/50"), parse_band((20, 100)), parse_band("auto")
    (Band(k_top=150, k_bottom=50), Band(k_top=20, k_bottom=100), 'auto')
    """
    if isinstance(band, str) and band:
        counts = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", band)
        return Band(int(counts[1]), int(counts[2])) if counts else band
    try:
        k_top, k_bottom = cast(Any, band)  # whatever it is, it has two parts or is refused
    except (TypeError, ValueError):
        raise BandError(
            f"band: got {band!r}, expected 'preset', 'auto', two counts such as '150/50' or (150, 50), or a backbone's "
            "name."
        ) from None
    return Band(_count("k_top", k_top), _count("k_bottom", k_bottom))


def _count(name: str, value: Any) -> int:
    try:
        whole = not isinstance(value, bool) and int(value) == value and value >= 0
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise BandError(f"band: got {name} = {value!r}, expected an integer of at least 0.")
    return int(value)


def check_band(band: Band, rank: int) -> Band:
    """Return the band, or say why it leaves nothing of ``rank`` singular directions.

    Raises
    ------
    BandError
    """
    if band.k_top + band.k_bottom >= rank:
        raise BandError(
            f"the band {band} (k_top={band.k_top}, k_bottom={band.k_bottom}) leaves no direction: the projectors' product "
            f"has rank {rank}. Cut at most {rank - 1} in all."
        )
    return band
