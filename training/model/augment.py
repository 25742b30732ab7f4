"""Changes of the training pictures, for a whole batch at once: place, stroke, colours, background."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["AugmentConfig", "augment", "composite_on_white"]

LUMINANCE = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class AugmentConfig:
    """How far pictures are changed; section ``[train.augment]``. Probabilities are per picture.

    Attributes
    ----------
    rotation : float
        Largest angle in degrees. There are no flips: arrows and letters have a direction.
    scale : tuple of float
        Smallest and largest size, drawn log-uniformly.
    stretch : float
        Largest change of the aspect, as a factor 1 + stretch.
    shift : float
        Largest shift as a part of the side.
    stroke : float
        Probability that the lines of a monochrome picture get thicker or thinner.
    outline : float
        Probability that a picture is reduced to the outline of its shape.
    white : float
        Probability of a white background; else any colour.
    black : float
        Probability that a monochrome picture stays black; else any colour that differs from the background.
    grey, invert : float
        Probabilities, for coloured pictures.
    color : float
        Largest change of brightness, contrast, saturation and of each channel.
    """

    rotation: float = 12.0
    scale: tuple[float, float] = (0.7, 1.1)
    stretch: float = 0.15
    shift: float = 0.08
    stroke: float = 0.4
    outline: float = 0.1
    white: float = 0.5
    black: float = 0.5
    grey: float = 0.15
    invert: float = 0.05
    color: float = 0.3


def composite_on_white(pictures: Tensor) -> Tensor:
    """Premultiplied RGBA, shape (n, 4, side, side), uint8 → RGB in [0, 1] on white, shape (n, 3, side, side)."""
    values = pictures.float() / 255
    return (values[:, :3] + (1 - values[:, 3:])).clamp_(0, 1)


def augment(pictures: Tensor, monochrome: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Change every picture in its own way.

    Parameters
    ----------
    pictures : Tensor of uint8, shape (n, 4, side, side)
        RGBA with premultiplied alpha.
    monochrome : Tensor of bool, shape (n,)
        Pictures whose colour carries no meaning.
    config : AugmentConfig
    generator : torch.Generator
        Everything random comes from here.

    Returns
    -------
    Tensor of float32, shape (n, 3, side, side)
        RGB in [0, 1], on an opaque background.
    """
    values = pictures.float().div_(255)
    n, _, side, _ = values.shape
    grid = functional.affine_grid(_affine(n, config, generator), [n, 4, side, side], align_corners=False)
    values = functional.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    outlined = _chance(n, config.outline, generator)
    _change_strokes(values, monochrome, outlined, config, generator)
    matrix, background = _colors(n, monochrome | outlined, config, generator)
    # One affine map of (r, g, b, alpha) a picture holds every change of colour and the background.
    matrix[:, :, 3] -= background
    return torch.baddbmm(background[:, :, None], matrix, values.flatten(2)).clamp_(0, 1).view(n, 3, side, side)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape).uniform_(low, high, generator=generator)


def _chance(n: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) < probability


def _affine(n: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Inverse maps, shape (n, 2, 3), in the coordinates of :func:`torch.nn.functional.affine_grid`."""
    angle = _uniform((n,), -config.rotation, config.rotation, generator) * (math.pi / 180)
    low, high = (math.log(value) for value in config.scale)
    size = _uniform((n,), low, high, generator).exp()
    stretch = math.log1p(config.stretch)
    aspect = (_uniform((n,), -stretch, stretch, generator) / 2).exp()
    shift = _uniform((n, 2), -2 * config.shift, 2 * config.shift, generator)
    cosine, sine = angle.cos() / size, angle.sin() / size
    rows = [cosine * aspect, sine * aspect, shift[:, 0], -sine / aspect, cosine / aspect, shift[:, 1]]
    return torch.stack(rows, 1).view(n, 2, 3)


def _change_strokes(
    values: Tensor, monochrome: Tensor, outlined: Tensor, config: AugmentConfig, generator: torch.Generator
) -> None:
    """Thicken, thin or outline the alpha channel of some pictures, in place."""
    n, _, side, _ = values.shape
    drawn = _chance(n, config.stroke, generator)  # drawn for every picture: the numbers that follow stay the same
    strength = _uniform((n,), -0.8, 1.0, generator)
    width = _uniform((n,), 0.4, 1.0, generator)
    reach = max(1, side // 32)

    def dilated(alpha: Tensor) -> Tensor:
        return functional.max_pool2d(alpha, 2 * reach + 1, 1, reach)

    rows = torch.nonzero(drawn & monochrome & ~outlined)[:, 0]
    for sign in (1, -1):
        chosen = rows[strength[rows] * sign > 0]
        if len(chosen):
            alpha = values[chosen, 3:]
            target = sign * dilated(sign * alpha)
            values[chosen, 3:] = torch.lerp(alpha, target, strength[chosen].abs()[:, None, None, None])
    rows = torch.nonzero(outlined)[:, 0]
    if len(rows):
        alpha = values[rows, 3:]
        inner = -dilated(-alpha)
        values[rows, 3:] = alpha - inner * width[rows, None, None, None]


def _colors(n: int, monochrome: Tensor, config: AugmentConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Maps (n, 3, 4) of premultiplied (r, g, b, alpha) to colours, and backgrounds (n, 3)."""
    background = torch.rand((n, 3), generator=generator)
    background[_chance(n, config.white, generator)] = 1.0
    ink = torch.rand((n, 3), generator=generator)
    ink[_chance(n, config.black, generator)] = 0.0
    contrast = (ink - background) @ LUMINANCE
    close = contrast.abs() < 0.3
    dark = background @ LUMINANCE > 0.5
    ink[close] = torch.where(dark[close, None], ink[close] * 0.2, 1 - ink[close] * 0.2)

    grey = _chance(n, config.grey, generator)
    invert = _chance(n, config.invert, generator)
    gain = 1 + _uniform((n, 3, 1), -config.color / 2, config.color / 2, generator)
    gain = gain * (1 + _uniform((n, 1, 1), -config.color, config.color, generator))
    offset = _uniform((n, 1), -config.color / 2, config.color / 2, generator)
    saturation = 1 + _uniform((n,), -config.color, config.color, generator)
    saturation[grey] = 0.0
    saturation = saturation[:, None, None]
    mixing = saturation * torch.eye(3) + (1 - saturation) * LUMINANCE.expand(3, 3)
    matrix = torch.cat([gain * mixing, offset[:, :, None].expand(n, 3, 1)], 2)
    matrix[invert] = -matrix[invert]
    matrix[invert, :, 3] += 1.0
    matrix[monochrome] = torch.cat([torch.zeros(n, 3, 3), ink[:, :, None]], 2)[monochrome]
    return matrix, background
