"""The spectrum, and what speaks for which band."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Response

from isomix.errors import InputError
from isomix.web import library
from isomix.web.jobs import Working
from isomix.web.routes.common import StudioOf, attachment, sends
from isomix.web.studio import Studio
from isomix.web.text import file_stem

router = APIRouter()
FEWEST_ROWS = 50


@router.get("/api/spectrum")
def spectrum(studio: StudioOf, space: Literal["isoclip", "text-pca"] = "isoclip") -> dict[str, Any]:
    """Singular values beside those of random projectors, over the median."""
    directions = studio.directions(space)
    values, control = directions.values, directions.control
    return {
        "space": space,
        "values": _over_median(values),
        "control": None if control is None else _over_median(control),
        "directions": len(values),
        "preset": library.preset_of(studio.rows.table, studio.projectors()) if space == "isoclip" else None,
    }


def _over_median(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values / np.median(values)]


@router.get("/api/bands")
def bands(studio: StudioOf) -> dict[str, Any]:
    """Scores of a grid of bands on a sample of the table, and what they say in words."""
    return evidence(studio)


def evidence(studio: Studio) -> dict[str, Any]:
    """What :func:`bands` answers; :class:`Working` while it is computed."""
    if len(studio.rows) < FEWEST_ROWS:
        return {
            "available": False,
            "words": f"A band is chosen from {FEWEST_ROWS} pictures or more; this table has {len(studio.rows)}.",
        }
    rows, projectors = studio.rows.vectors, studio.projectors()
    labels, bank, by = _judges(studio)

    def choose() -> library.BandEvidence:
        return library.band_evidence(projectors, rows, labels, bank)

    found = studio.slow.result(("bands", by), choose, f"scoring bands by {by}", wait=0.2)
    answer = {**found._asdict(), "available": True, "by": by, "words": in_words(found, by)}
    answer["map"] = found.mean_average_precision
    return answer


def _judges(studio: Studio) -> tuple[list[str] | None, Any, str]:
    """Labels, or a bank of sentences, or neither."""
    mine = studio.side_file.labels
    own = [mine.get(i) or label for i, label in zip(studio.rows.ids, studio.rows.labels, strict=True)]
    known = [label for label in own if label is not None]
    if len(known) == len(own) and len(set(known)) > 1 and max(Counter(known).values()) > 1:
        return known, None, "labels"
    try:
        return None, studio.bank(studio.encoder()), "the nearest sentence"
    except Working:
        raise
    except Exception:  # noqa: BLE001 - without the model there are no sentences
        return None, None, "how far neighbours stand out"


def in_words(found: library.BandEvidence, by: str) -> str:
    """The evidence as a sentence, also when there is no gain."""
    if found.best is None or found.reference is None:
        return f"{found.why[:1].upper()}{found.why[1:]}."
    scale, what = (100, f"mAP by {by}") if found.mean_average_precision else (1, "neighbour contrast")
    over = _called(found.reference)
    if found.best == found.reference:
        return f"No gain: of all bands, {over} has the best {what}."
    gain, error = scale * found.gain, scale * found.standard_error
    interval = f"95 % interval {gain - 1.96 * error:+.1f} to {gain + 1.96 * error:+.1f}"
    cut = f"the {found.best[0]} largest and {found.best[1]} smallest"
    if not found.strong:
        return (
            f"No gain that stands out: cutting {cut} is best on this sample, {gain:+.1f} {what} over {over} ({interval}). "
            f"The automatic choice is {_called(found.band)}."
        )
    return f"Cutting {cut} directions gains {gain:+.1f} {what} over {over} ({interval})."


def _called(band: tuple[int, int]) -> str:
    return "the whole spectrum" if band == (0, 0) else f"the band {band[0]} / {band[1]}"


@router.get("/api/export/space", response_class=Response, responses=sends("application/octet-stream"))
def export_space(studio: StudioOf, k_top: int, k_bottom: int) -> Response:
    """The space of a band as a file that isomix.load_space reads."""
    import tempfile
    from pathlib import Path

    if k_top < 0 or k_bottom < 0:
        raise InputError("band: expected two numbers of at least 0.")
    space = library.save_band(studio.projectors(), k_top, k_bottom)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.safetensors"
        space.save(path)
        content = path.read_bytes()
    return attachment(
        content, f"{file_stem(studio.path.stem)}-isoclip-{k_top}-{k_bottom}.safetensors", "application/octet-stream"
    )
