"""From an RGB picture to the pixels of a vision tower, as its configuration says; Pillow and numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from isomix._extras import require
from isomix.encoders.base import Array
from isomix.encoders.images import READING
from isomix.errors import ModelError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Preprocessing"]

_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers
_USED = {
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std"),
}


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, scale and normalise, in this order.

    Attributes
    ----------
    resize : int or (int, int) or None
        Length of the shortest edge, the aspect ratio kept; or (height, width); or None to leave the size.
    resample : str
        Pillow's name of the filter, lower case; always antialiased.
    crop : (int, int) or None
        Height and width of the part in the middle; black is added where the picture is smaller.
    scale : float
        Factor on the values 0 to 255.
    mean, std : tuple of float
        A channel each; the result is (value * scale - mean) / std.
    crop_rounding : {"down", "even"}
        Where the crop begins when an odd number of pixels is left over: transformers rounds half a pixel down,
        torchvision (open_clip) to the even number.

    Examples
    --------
    >>> from PIL import Image
    >>> config = {"size": 224, "crop_size": 224, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    >>> preprocessing = Preprocessing.from_config(config)
    >>> preprocessing(Image.new("RGB", (640, 480), "white")).shape
    (3, 224, 224)
    """

    resize: int | tuple[int, int] | None
    resample: str
    crop: tuple[int, int] | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_rounding: str = "down"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str = "preprocessing") -> Preprocessing:
        """Read the fields of a ``preprocessor_config.json`` of transformers.

        Parameters
        ----------
        config : mapping
        where : str
            For messages.

        Raises
        ------
        ModelError
            A field is missing or has no known meaning. Nothing is guessed: wrong preprocessing gives wrong embeddings
            silently.
        """
        try:
            size = config["size"] if config.get("do_resize", True) else None
            crops = config.get("do_center_crop", not _is_siglip(config))
            crop = _height_width(config["crop_size"]) if crops else None
            normalize = config.get("do_normalize", True)
            return cls(
                resize=_edge_or_both(size),
                resample=_FILTERS[int(config.get("resample", 3))],
                crop=crop,
                scale=float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0,
                mean=_channels(config["image_mean"]) if normalize else (0.0, 0.0, 0.0),
                std=_channels(config["image_std"]) if normalize else (1.0, 1.0, 1.0),
            )
        except KeyError as error:
            raise ModelError(
                f"{where}: {error} is missing or unknown. Expected the fields of a preprocessor_config.json of "
                f"transformers: {', '.join(sorted(_USED))}."
            ) from error
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"{where} cannot be understood: {error}. Take the file from the model's own folder."
            ) from error

    def __call__(self, image: Image.Image) -> Array:
        """One RGB picture to pixels of float32, shape (3, height, width)."""
        shown = np.asarray(_crop(self._resized(image), self.crop, self.crop_rounding))
        # Each of the 256 values once, in the order of operations of torchvision: the same bits.
        values = np.arange(256, dtype=np.float32) / np.float32(1 / self.scale)
        tables = [(values - np.float32(m)) / np.float32(s) for m, s in zip(self.mean, self.std, strict=True)]
        return np.stack([table[shown[..., channel]] for channel, table in enumerate(tables)])

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of JSON values, reading included; equal dictionaries, equal pixels."""
        fields = asdict(self)
        return {"reading": READING, **{name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}}

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.resize is None:
            return image
        pil = require("PIL.Image", "app", "Reading pictures")
        resample = pil.Resampling[self.resample.upper()]
        if not isinstance(self.resize, int):
            return image.resize((self.resize[1], self.resize[0]), resample)
        short, long = sorted(image.size)
        length = max(1, int(self.resize * long / short))
        size = (self.resize, length) if image.width <= image.height else (length, self.resize)
        if self.crop is None or length <= 16 * max(self.crop):
            return image.resize(size, resample)
        # A picture like a thread would grow beyond all memory; only the part that the crop keeps is computed.
        kept = 2 * max(self.crop)
        kept += (length - kept) % 4  # the same middle, whichever way the crop rounds
        share = image.size[0 if image.width > image.height else 1] / length
        first, last = (length - kept) / 2 * share, (length + kept) / 2 * share
        if image.width > image.height:
            return image.resize((kept, self.resize), resample, box=(first, 0, last, image.height))
        return image.resize((self.resize, kept), resample, box=(0, first, image.width, last))


def _crop(image: Image.Image, crop: tuple[int, int] | None, rounding: str) -> Image.Image:
    if crop is None or (image.height, image.width) == crop:
        return image
    height, width = crop
    spare = (image.width - width, image.height - height)
    left, top = (round(pixels / 2) if rounding == "even" else pixels // 2 for pixels in spare)
    return image.crop((left, top, left + width, top + height))  # black outside the picture


def _is_siglip(config: Mapping[str, Any]) -> bool:
    """Whether the processor is one whose files say nothing of a crop because it never does it."""
    return str(config.get("image_processor_type") or config.get("feature_extractor_type") or "").startswith("Siglip")


def _edge_or_both(size: Any) -> int | tuple[int, int] | None:
    if size is None or isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    return _height_width(size)


def _height_width(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def _channels(values: Any) -> tuple[float, ...]:
    if len(values) != 3:
        raise ValueError(f"{values!r} must have one number for each of three channels")
    return tuple(float(value) for value in values)
