"""Whether stored vectors are of the model that is named: the wrong projector makes vectors that look right and find nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from isomix._extras import first_line
from isomix.errors import FingerprintMismatchError, InputError, IsomixError

if TYPE_CHECKING:
    from isomix.spaces import Space

__all__ = ["Pictures", "check_lengths", "check_pictures", "readable"]

SAME = 0.9
"""Cosine of a picture's stored and new vector. A copy of another size or compression stays above, other models' vectors are
near 0 (``tests/stores/test_pictures.py``)."""
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")


class Pictures(NamedTuple):
    """Stored vectors and the pictures that they are of.

    Attributes
    ----------
    column : str
        Where the paths stand.
    paths : list of pathlib.Path
    vectors : ndarray, shape (n, d)
    """

    column: str
    paths: list[Path]
    vectors: NDArray[Any]


def readable(rows: Iterable[tuple[Mapping[str, Any], NDArray[Any]]], limit: int) -> Pictures | None:
    """The first columns or payload fields that name files of this machine which look like pictures."""
    found: dict[str, tuple[list[Path], list[NDArray[Any]]]] = {}
    for values, vector in rows:
        for name, value in values.items():
            path = value if isinstance(value, str) else ""
            path = unquote(path.removeprefix("file://")) if path.startswith("file://") else path
            if (
                path.lower().endswith(ENDINGS)
                and "\0" not in path
                and Path(path).is_absolute()
                and Path(path).is_file()
            ):
                paths, vectors = found.setdefault(name, ([], []))
                paths.append(Path(path))
                vectors.append(vector)
                if len(paths) == limit:
                    return Pictures(name, paths, np.asarray(vectors, np.float32))
    if not found:
        return None
    name = max(found, key=lambda each: len(found[each][0]))
    return Pictures(name, found[name][0], np.asarray(found[name][1], np.float32))


def check_lengths(vectors: NDArray[Any], space: Space) -> str:
    """Say whether the vectors are of unit length.

    Raises
    ------
    InputError
        They are not, and the space has an offset, which is for unit vectors.
    """
    lengths = np.linalg.norm(np.asarray(vectors, np.float64), axis=1)
    if not len(lengths):
        return "length: not checked, there is no vector with a direction among the first"
    low, high = float(lengths.min()), float(lengths.max())
    if low >= 0.99 and high <= 1.01:
        return f"length: 1, of {len(lengths):,} looked at"
    if space.affine_map().bias is not None:
        raise InputError(
            f"the vectors have lengths from {low:.3g} to {high:.3g}, and this space, {space.method}, has an offset that is "
            "for unit vectors. Take one without (isoclip), or store unit vectors."
        )
    return f"length: {low:.3g} to {high:.3g}, of {len(lengths):,} looked at; cosines do not depend on it"


def check_pictures(label: str, pictures: Pictures | None, space: Space, *, offline: bool = False) -> str:
    """Encode a few pictures again, and compare with what is stored.

    Returns
    -------
    str
        What was found, or why nothing could be checked.

    Raises
    ------
    FingerprintMismatchError
        The vectors are not those of the space's model.
    """
    model = str(space.describe()["source"].get("model") or "")
    if space.modality != "image":
        return "model: not checked, because vectors of texts have no pictures to encode again"
    if not model:
        return "model: not checked, because the space does not say of which model it is"
    if pictures is None or not pictures.paths:
        return (
            "model: not checked, because no column has paths of pictures that can be read here; is it really " + model
        )
    try:
        from isomix.encoders.registry import load_encoder

        encoder = load_encoder(model, offline=offline)
        fresh = encoder.encode_image(pictures.paths, show_progress_bar=False)
    except IsomixError as error:
        return f"model: not checked, because it cannot encode pictures here ({first_line(error)})"
    if not fresh.ok.any():
        return f"model: not checked, because none of {len(fresh.ok)} pictures of {pictures.column!r} can be read"
    stored = pictures.vectors[fresh.ok].astype(np.float64)
    cosines = (fresh.embeddings[fresh.ok] * stored).sum(axis=1) / np.linalg.norm(stored, axis=1)
    said = (
        f"{len(cosines)} pictures of {pictures.column!r}, encoded again, have a cosine of {cosines.min():.3f} to "
        f"{cosines.max():.3f} with what is stored"
    )
    if np.median(cosines) < SAME:
        raise FingerprintMismatchError(
            f"{label} does not hold vectors of {model}: {said}. Name the model that made them."
        )
    projectors = getattr(space, "projectors", None)
    if projectors is not None and projectors.image is not None and encoder.image_head is None:
        try:
            projectors.check_embeddings(fresh.features[fresh.ok], stored, tolerance=1 - SAME)
        except IsomixError as error:
            raise FingerprintMismatchError(
                f"the projectors of the space are not those of {model}, whose vectors {label} holds: {first_line(error)}. "
                "Fit the space again from that model."
            ) from None
    return f"model: {said}"
