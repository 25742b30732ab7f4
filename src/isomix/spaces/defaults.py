"""IsoCLIP as the verbs fit it: where no band was asked for and none is preset, the automatic one of the rows at hand."""

from __future__ import annotations

from collections.abc import Callable

from isomix._arrays import Floats
from isomix.errors import BandError
from isomix.projectors import Projectors
from isomix.spaces.bands import preset_band
from isomix.spaces.gallery_sample import MIN_ROWS
from isomix.spaces.isoclip import IsoCLIP

__all__ = ["default_band", "fit_isoclip"]


def default_band(backbone: str, modality: str = "image") -> str:
    """What is taken where no band was asked for: "preset" if the backbone has one, else "auto".

    Examples
    --------
    >>> default_band("hf:openai/clip-vit-base-patch32"), default_band("hf:someone/else")
    ('preset', 'auto')
    """
    try:
        preset_band(backbone, modality)
    except BandError:
        return "auto"
    return "preset"


def fit_isoclip(
    projectors: Projectors,
    band: str | tuple[int, int],
    rows: Callable[[], Floats],
    *,
    backbone: str | None = None,
    modality: str = "image",
    compact: bool = True,
) -> IsoCLIP:
    """Fit the space of stored rows.

    Parameters
    ----------
    projectors : Projectors
    band : str or pair of int
        As for :class:`IsoCLIP`; "preset" means the automatic band where there is no preset.
    rows : callable
        Gives stored embeddings, (n, d), or features, (n, d_in), for a head with a bias; called for an automatic band only.
        Fewer than 50 are too few to choose by: if nobody asked for a choice, the spectrum alone has to do.
    backbone : str, optional
        Whose preset. Default: what the projectors say.
    modality : {"image", "text"}
    compact : bool

    Raises
    ------
    BandError, InputError
    """
    backbone = projectors.source if backbone is None else backbone
    asked, chosen = band != "preset", default_band(backbone, modality) if band == "preset" else band
    space = IsoCLIP(projectors, backbone if chosen == "preset" else chosen, modality=modality, compact=compact)
    if chosen != "auto":
        return space.fit()
    sample = rows()
    return space.fit(sample if asked or len(sample) >= MIN_ROWS else None)
