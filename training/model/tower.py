"""The towers of the embedded model and their linear projectors, in plain torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "Convolution",
    "ImageTower",
    "Model",
    "ResidualBlock",
    "TextBlock",
    "TextTower",
    "TowerConfig",
    "normalized",
    "uses_bfloat16",
]

PIXEL_MEAN, PIXEL_SCALE = 0.5, 0.35
PADDING, FIRST_SPECIAL = 0, 8190  # token ids that carry no word


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of the model; section ``[train.tower]``.

    Attributes
    ----------
    image_widths : tuple of int
        Channels of the stages; the first one's input is downsampled by 4, every further stage by 2 more.
        The last one is the number of pre-projection image features.
    image_depths : tuple of int
        Residual blocks of each stage.
    stem_width : int
    vocabulary : int
        Word pieces of the tokenizer.
    text_width : int
        Pre-projection text features.
    text_hidden, text_blocks : int
        Hidden units and number of the residual blocks behind the mean of the token embeddings.
    embedding : int
        Width of the shared space.
    projector_init : float
        Standard deviation of the projectors' first values; 0: the reciprocal root of their input's width.
    """

    image_widths: tuple[int, ...] = (64, 128, 256)
    image_depths: tuple[int, ...] = (1, 2, 2)
    stem_width: int = 32
    vocabulary: int = 8192
    text_width: int = 192
    text_hidden: int = 384
    text_blocks: int = 1
    embedding: int = 192
    projector_init: float = 0.0


class Convolution(nn.Module):
    """A convolution that keeps or divides the side of its maps, and batch norm."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (n, inputs, h, w) → (n, outputs, h / stride, w / stride)."""
        return self.norm(self.conv(maps))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; the shortcut of a smaller map averages before it projects."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = Convolution(inputs, outputs, 3, stride)
        self.second = Convolution(outputs, outputs, 3)
        self.stride = stride
        self.shortcut = None if stride == 1 and inputs == outputs else Convolution(inputs, outputs, 1)
        nn.init.zeros_(self.second.norm.weight)  # every block starts as its shortcut

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (n, inputs, h, w) → (n, outputs, h / stride, w / stride)."""
        inner = self.second(torch.relu_(self.first(maps)))
        if self.stride > 1:
            maps = functional.avg_pool2d(maps, self.stride)
        return torch.relu_(inner + (maps if self.shortcut is None else self.shortcut(maps)))


class ImageTower(nn.Module):
    """Pixels in [0, 1], shape (n, 3, side, side) → pre-projection features, shape (n, ``image_widths[-1]``)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.image_widths[0]
        self.stem = nn.ModuleList(
            [Convolution(3, config.stem_width, 3, 2), Convolution(config.stem_width, width, 3, 2)]
        )
        self.blocks = nn.ModuleList()
        for stage, (outputs, depth) in enumerate(zip(config.image_widths, config.image_depths, strict=True)):
            for block in range(depth):
                self.blocks.append(ResidualBlock(width, outputs, 2 if stage and not block else 1))
                width = outputs
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        """One feature vector a picture; any side that is a multiple of 16 will do."""
        maps = (pixels - PIXEL_MEAN) / PIXEL_SCALE
        for convolution in self.stem:
            maps = torch.relu_(convolution(maps))
        for block in self.blocks:
            maps = block(maps)
        return self.norm(maps.float().mean((2, 3)))


class TextBlock(nn.Module):
    """A residual perceptron of one hidden layer, behind a layer norm."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        """(n, width) → (n, width)."""
        return features + self.second(functional.gelu(self.first(self.norm(features))))


class TextTower(nn.Module):
    """Tokens (n, 16) int64 → pre-projection features (n, ``text_width``): the mean word piece, then residual blocks."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.text_width
        self.embedding = nn.Embedding(config.vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.2)
        self.scale = 5.0
        self.blocks = nn.ModuleList(TextBlock(width, config.text_hidden) for _ in range(config.text_blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """One feature vector a text; padding, start and end are not read."""
        words = ((tokens != PADDING) & (tokens < FIRST_SPECIAL)).to(self.embedding.weight.dtype)
        total = (self.embedding(tokens) * words[..., None]).sum(1)
        features = total * (self.scale / words.sum(1, keepdim=True).clamp(min=1.0))
        for block in self.blocks:
            features = block(features)
        return self.norm(features)


class Model(nn.Module):
    """Both towers, the projectors (out x in, no bias) and the logarithm of the inverse temperature."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.image = ImageTower(config)
        self.text = TextTower(config)
        self.image_projector = nn.Linear(config.image_widths[-1], config.embedding, bias=False)
        self.text_projector = nn.Linear(config.text_width, config.embedding, bias=False)
        for projector in (self.image_projector, self.text_projector):
            nn.init.normal_(projector.weight, std=config.projector_init or projector.in_features**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def inverse_temperature(self) -> Tensor:
        """Factor of the cosines, at most 100 as in CLIP."""
        return self.logit_scale.exp().clamp(max=100.0)


def normalized(rows: Tensor) -> Tensor:
    """Rows of length 1, in float32 whatever came in."""
    return functional.normalize(rows.float(), dim=-1)


def uses_bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16: "auto" does where the processor has instructions for it."""
    if precision == "auto":
        abilities = torch.cpu.get_capabilities()
        return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
    return precision == "bfloat16"
