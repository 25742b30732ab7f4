"""Preprocessing of the SigLIP 2 that keeps aspect ratios (NaFlex): a picture becomes a list of patches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomix._extras import require
from isomix.encoders.base import Array
from isomix.encoders.model_folder import read_config
from isomix.encoders.preprocessing import Preprocessing
from isomix.errors import ModelError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["NaflexPreprocessing", "grid_size", "split_packed"]

_TOLERANCE = 1e-5  # of the scale, as in the model's own processor


def grid_size(height: int, width: int, patch_size: int, max_patches: int) -> tuple[int, int]:
    """Rows and columns of the largest grid of patches with about a picture's aspect ratio.

    The scale is found by bisection, as the model's own processor does it, so that borderline pictures come out alike.

    Examples
    --------
    >>> grid_size(480, 640, 16, 256)
    (14, 18)
    """

    def patches(scale: float, side: int) -> int:
        return max(1, math.ceil(side * scale / patch_size))

    low, high = _TOLERANCE / 10, 100.0
    while high - low >= _TOLERANCE:
        scale = (low + high) / 2
        if patches(scale, height) * patches(scale, width) <= max_patches:
            low = scale
        else:
            high = scale
    return patches(low, height), patches(low, width)


@dataclass(frozen=True)
class NaflexPreprocessing:
    """Resize to whole patches, scale, normalise and cut into patches.

    Attributes
    ----------
    patch_size, max_patches : int
    resample : str
    values : Preprocessing
        Scale and normalisation.
    """

    patch_size: int
    max_patches: int
    resample: str
    values: Preprocessing

    @classmethod
    def from_folder(cls, folder: Path, given: Mapping[str, Any] | None = None) -> NaflexPreprocessing:
        """What the folder's ``preprocessor_config.json`` says, or the caller; nothing is guessed.

        Raises
        ------
        ModelError
        """
        config, where = read_config(folder, given)
        values = Preprocessing.from_config({**config, "do_resize": False, "do_center_crop": False, "size": None}, where)
        try:
            sizes = int(config["patch_size"]), int(config["max_num_patches"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{where}: {error} is missing or no number. Expected the preprocessor_config.json of a NaFlex model."
            ) from error
        return cls(*sizes, values.resample, values)

    def __call__(self, image: Image.Image) -> Array:
        """One RGB picture to float32 patches and their grid, packed in one array for :func:`split_packed`.

        Returns
        -------
        ndarray, shape (max_patches + 1, 3 * patch_size²)
            Patches in rows, zeros where there are fewer; the last row begins with the grid's rows and columns.
        """
        pil = require("PIL.Image", "app", "Reading pictures")
        rows, columns = grid_size(image.height, image.width, self.patch_size, self.max_patches)
        p = self.patch_size
        pixels = self.values(image.resize((columns * p, rows * p), pil.Resampling[self.resample.upper()]))
        patches = pixels.reshape(3, rows, p, columns, p).transpose(1, 3, 2, 4, 0).reshape(rows * columns, 3 * p * p)
        packed = np.zeros((self.max_patches + 1, 3 * p * p), np.float32)
        packed[: len(patches)] = patches
        packed[-1, :2] = rows, columns
        return packed

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of JSON values; equal dictionaries, equal patches."""
        grid = {"patch_size": self.patch_size, "max_patches": self.max_patches, "resample": self.resample}
        return self.values.to_dict() | grid


def split_packed(packed: Any) -> tuple[Any, Any, Any]:
    """Patches, their mask and their grids (n, 2), out of a tensor of packed pictures."""
    torch = require("torch", "hf", "An 'hf:' encoder")
    patches, shapes = packed[:, :-1], packed[:, -1, :2].long()
    counts = shapes.prod(dim=1, keepdim=True)
    mask = torch.arange(patches.shape[1], device=packed.device)[None] < counts
    return patches, mask.to(torch.int32), shapes
