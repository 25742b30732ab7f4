"""Published bands of singular directions, by backbone.

Source: Magistri et al., *IsoCLIP*, CVPR 2026, arXiv 2603.19862, and its official code. The band of the embedded model is
this project's; how it was chosen stands in its model card.
"""

from __future__ import annotations

from typing import NamedTuple

from isomix.errors import BandError, InputError

__all__ = ["Band", "check_band", "published_band", "published_names"]


class Band(NamedTuple):
    """How many singular directions are cut off at either end.

    Attributes
    ----------
    k_top : int
        Directions with the largest singular values that are left out.
    k_bottom : int
        Directions with the smallest singular values that are left out.
    """

    k_top: int
    k_bottom: int


_VIT_B32 = {"image": Band(150, 50), "text": Band(20, 100)}
_VIT_B16 = {"image": Band(200, 50), "text": Band(10, 50)}
_VIT_L14 = {"image": Band(250, 200), "text": Band(10, 300)}
_DATACOMP_B16 = {"image": Band(100, 100), "text": Band(2, 150)}
_DATACOMP_B32 = {"image": Band(50, 50)}
_PE_CORE_B16 = {"image": Band(300, 50)}
_SIGLIP2_B16 = {"image": Band(350, 50)}

_PUBLISHED: dict[str, dict[str, Band]] = {
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
_SCHEMES = ("hf:", "openclip:", "hf-hub:")


def published_names(modality: str = "image") -> list[str]:
    """Names of the backbones with a published band for ``modality``."""
    return sorted(name for name, bands in _PUBLISHED.items() if modality in bands)


def published_band(backbone: str, modality: str = "image") -> Band:
    """Published band of a backbone.

    Parameters
    ----------
    backbone : str
        A hub id, an open_clip ``name/pretrained`` pair, or ``"embedded"``; a leading ``hf:`` or ``openclip:`` and
        open_clip's ``-quickgelu`` do not matter, nor does case.
    modality : {"image", "text"}

    Raises
    ------
    BandError
        None is published.

    Examples
    --------
    >>> published_band("hf:openai/clip-vit-base-patch32")
    Band(k_top=150, k_bottom=50)
    """
    if modality not in ("image", "text"):
        raise InputError(f"modality: got {modality!r}, expected 'image' or 'text'.")
    key = backbone.casefold()
    for scheme in _SCHEMES:
        key = key.removeprefix(scheme)
    key = key.replace("-quickgelu/", "/")
    for name, bands in _PUBLISHED.items():
        if name.casefold() == key and modality in bands:
            return bands[modality]
    what = f"the backbone {backbone!r}" if backbone else "projectors without a source"
    raise BandError(
        f"no band is published for {what} ({modality}). Give k_top and k_bottom, or one of these names as band: "
        f"{', '.join(published_names(modality))}."
    )


def check_band(k_top: int, k_bottom: int, rank: int) -> Band:
    """Return the band, or say why it leaves nothing of ``rank`` singular directions.

    Raises
    ------
    BandError
    """
    for name, value in (("k_top", k_top), ("k_bottom", k_bottom)):
        if isinstance(value, bool) or int(value) != value or value < 0:
            raise BandError(f"{name}: got {value!r}, expected an integer of at least 0.")
    if k_top + k_bottom >= rank:
        raise BandError(
            f"k_top={k_top} and k_bottom={k_bottom} leave no direction: the projectors' product has rank {rank}. "
            f"Choose k_top + k_bottom of at most {rank - 1}."
        )
    return Band(int(k_top), int(k_bottom))
