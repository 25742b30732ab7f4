"""IsoCLIP as the verbs fit it: where no band was asked for and none is preset, the automatic one of the rows at hand."""

from __future__ import annotations

from collections.abc import Callable

from isomix._arrays import Floats
from isomix.projectors import Projectors
from isomix.spaces.gallery_sample import MIN_ROWS
from isomix.spaces.isoclip import IsoCLIP
from isomix.spaces.recognition import find_preset

__all__ = ["fit_isoclip"]


def fit_isoclip(
    projectors: Projectors,
    band: str | tuple[int, int],
    rows: Callable[[], Floats],
    *,
    backbone: str = "",
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
    asked, chosen = band != "preset", band
    if not asked:
        preset = find_preset(projectors, modality, backbone)
        chosen = "auto" if preset is None else "preset" if preset.by else preset.backbone
    space = IsoCLIP(projectors, chosen, modality=modality, compact=compact)
    if chosen != "auto":
        return space.fit()
    sample = rows()
    return space.fit(sample if asked or len(sample) >= MIN_ROWS else None)
