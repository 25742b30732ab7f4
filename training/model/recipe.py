"""The settings of a training run: sizes, rates, weights of the losses, and the resolutions it goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from training.model.augment import AugmentConfig
from training.model.teacher import DistillConfig
from training.model.tower import TowerConfig

__all__ = ["Leg", "TrainConfig"]


@dataclass(frozen=True)
class Leg:
    """A part of the run at one resolution.

    Attributes
    ----------
    side : int
        Pixels.
    samples : int
    restart : float
        Begin a new cosine of the learning rates here, at this part of their peak; 0: go on with the one before.
    """

    side: int
    samples: int
    restart: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """How to train; section ``[train]``.

    Attributes
    ----------
    legs : tuple of Leg
        Sides in pixels and numbers of pictures, in this order.
    batch : int
        Pictures of a batch.
    per_concept : int
        1: no concept twice in a batch. 2: two pictures of each concept, for the loss between pictures.
    concept_power : float
        A concept is drawn in proportion to this power of its number of pictures.
    kind_weights : dict of float
        How many times as often pictures of a kind are drawn; a kind that is not named, once.
    label : float
        Probability that a picture's caption is its label.
    learning_rate, text_learning_rate, warmup, final_rate
        AdamW's peak rates, steps up to them, and the part of them at the end of the cosine.
    weight_decay, projector_weight_decay : float
        Not applied to norms, embeddings and the temperature.
    average : float
        Decay of the running average of the weights.
    image_loss : float
        Weight of the contrastive loss between two pictures of a concept (its head is thrown away); 0: none.
    teacher_text, teacher_image : float
        Weights of the losses towards the teacher's embedding of the caption, for either tower; 0: none.
    precision : {"auto", "float32", "bfloat16"}
        Of the image tower's arithmetic; "auto" takes bfloat16 where the processor has instructions for it.
    threads : int
        Of torch; sums come in another order with another number, so it belongs to the run.
    """

    legs: tuple[Leg, ...]
    batch: int = 512
    per_concept: int = 1
    concept_power: float = 0.5
    kind_weights: dict[str, float] = field(default_factory=dict)
    label: float = 0.5
    learning_rate: float = 2e-3
    text_learning_rate: float = 5e-4
    warmup: int = 100
    final_rate: float = 0.01
    weight_decay: float = 0.05
    projector_weight_decay: float = 0.05
    average: float = 0.998
    image_loss: float = 0.0
    teacher_text: float = 0.0
    teacher_image: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = 2
    checkpoint_every: int = 200
    look_every: int = 200
    tower: TowerConfig = field(default_factory=TowerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(leg.samples // self.batch for leg in self.legs)

    def side(self, step: int) -> int:
        """Resolution of a step."""
        for leg in self.legs:
            step -= leg.samples // self.batch
            if step < 0:
                return leg.side
        return self.legs[-1].side

    def rate(self, step: int) -> float:
        """Factor of the learning rates: linear warm-up, then a cosine; again from every leg that restarts."""
        peak, first, last = 1.0, 0, 0
        for leg in self.legs:
            if leg.restart and last:
                if step < last:
                    break
                peak, first = leg.restart, last
            last += leg.samples // self.batch
        step, steps = step - first, last - first
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, steps - self.warmup)
        return peak * (self.final_rate + (1 - self.final_rate) * (1 + math.cos(math.pi * progress)) / 2)
