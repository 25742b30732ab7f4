"""Projectors trained out: new ones, from small values, on the frozen features of augmented training pictures."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.config import load_section
from training.model.augment import AugmentConfig, augment, composite_on_white
from training.model.batches import Sampler, TrainingSet, generators
from training.model.checkpoints import read_metadata, save_tensors
from training.model.look import encode_pictures
from training.model.recipe import TrainConfig
from training.model.run import contrastive_loss
from training.model.tower import Model, normalized, uses_bfloat16
from training.model.train import load_model

__all__ = ["ProjectConfig", "encode_texts", "fit_projectors", "project"]

FEATURE_STREAM, PROJECTOR_STREAM = 2**32, 2**33  # steps of the random numbers, beyond those of training


@dataclass(frozen=True)
class ProjectConfig:
    """Section ``[project]``.

    Attributes
    ----------
    views : int
        Augmented views of every training picture; 0: each picture once, as it is, on white.
    side : int
        Their resolution, and the one that the exported graph brings its pictures of 64 pixels to.
    steps, batch, learning_rate, weight_decay
        Of AdamW with a cosine; the decay holds for the projectors.
    init : float
        Standard deviation of the first values.
    """

    views: int = 2
    side: int = 64
    steps: int = 700
    batch: int = 2048
    learning_rate: float = 2e-3
    weight_decay: float = 0.2
    init: float = 0.002


def project(config_path: Path, output: Path, *, name: str, seed: int) -> None:
    """Encode augmented views of the training pictures once, train new projectors on them, write ``converged``."""
    config = load_section(ProjectConfig, "project", config_path)
    settings = load_section(TrainConfig, "train", config_path)
    torch.set_num_threads(settings.threads)
    folder = output / "runs" / name
    model = load_model(folder, settings)
    data = TrainingSet.load(output / "dataset", output / "levels")
    features = _stored_features(folder, model, data, config, settings, seed)
    texts = encode_texts(model, torch.from_numpy(data.captions.tokens.astype(np.int64)))
    sampler = Sampler(data, power=settings.concept_power, label=settings.label, kind_weights=settings.kind_weights)
    tensors = fit_projectors(sampler, features, texts, settings.tower.embedding, config, seed)
    save_tensors(folder / "converged.safetensors", tensors, {})


def _stored_features(
    folder: Path, model: Model, data: TrainingSet, config: ProjectConfig, settings: TrainConfig, seed: int
) -> Tensor:
    """Features (views, pictures, d_image), float16; read from the run's folder if they are of this very model."""
    path = folder / "features.safetensors"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    key = [digest, config.views, config.side, seed, len(data.concept), repr(settings.augment)]
    if path.is_file() and read_metadata(path)["key"] == key:
        return load_file(path)["features"]
    half = uses_bfloat16(settings.precision)
    views = [
        _encode_view(model, data, config.side, settings.augment if config.views else None, seed, view, half=half)
        for view in range(max(1, config.views))
    ]
    features = torch.stack(views)
    save_tensors(path, {"features": features}, {"key": key})
    return features


def _encode_view(
    model: Model, data: TrainingSet, side: int, config: AugmentConfig | None, seed: int, view: int, *, half: bool
) -> Tensor:
    level, parts, size = data.level(side), [], 512
    for start in range(0, len(data.concept), size):
        rows = slice(start, start + size)
        _, generator = generators(seed, FEATURE_STREAM + view * len(data.concept) + start)
        pictures, monochrome = torch.from_numpy(np.array(level[rows])), torch.from_numpy(data.monochrome[rows])
        pixels = augment(pictures, monochrome, config, generator) if config else composite_on_white(pictures)
        parts.append(encode_pictures(model, pixels, half=half).half())
        sys.stderr.write(f"view {view + 1}: {start + len(pictures)}/{len(data.concept)} pictures\r")
    sys.stderr.write("\n")
    return torch.cat(parts)


def encode_texts(model: Model, tokens: Tensor) -> Tensor:
    """Pre-projection text features, shape (n, d_text)."""
    with torch.inference_mode():
        return torch.cat([model.text(part) for part in torch.split(tokens, 8192)])


def fit_projectors(
    sampler: Sampler, features: Tensor, texts: Tensor, width: int, config: ProjectConfig, seed: int
) -> dict[str, Tensor]:
    """Train a pair of projectors with InfoNCE on frozen features.

    Parameters
    ----------
    sampler : Sampler
    features : Tensor, shape (views, n_pictures, d_image)
    texts : Tensor, shape (n_texts, d_text)
    width : int
        d, that of the shared space.
    config : ProjectConfig
    seed : int

    Returns
    -------
    dict of Tensor
        ``image_projector`` (d, d_image), ``text_projector`` (d, d_text), out x in; ``logit_scale`` (1,), the inverse
        temperature.
    """
    rng, generator = generators(seed, PROJECTOR_STREAM)

    def projector(inputs: int) -> nn.Parameter:
        return nn.Parameter(torch.randn((width, inputs), generator=generator) * config.init)

    image, text = projector(features.shape[-1]), projector(texts.shape[-1])
    scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    groups = [
        {"params": [image, text], "weight_decay": config.weight_decay},
        {"params": [scale], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for step in range(config.steps):
        batch = sampler.draw(config.batch, rng)
        view = torch.from_numpy(rng.integers(len(features), size=config.batch))
        images = normalized(features[view, torch.from_numpy(batch.pictures)].float() @ image.T)
        words = normalized(texts[torch.from_numpy(batch.texts).long()] @ text.T)
        loss = contrastive_loss(images, words, scale.exp().clamp(max=100.0), torch.from_numpy(batch.concepts))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        sys.stderr.write(f"projectors: step {step + 1}/{config.steps}  loss {loss.item():.3f}\r")
    sys.stderr.write("\n")
    return {
        "image_projector": image.detach(),
        "text_projector": text.detach(),
        "logit_scale": scale.detach().exp().clamp(max=100.0).reshape(1),
    }
