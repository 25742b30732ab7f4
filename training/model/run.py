"""One training run: contrastive learning of pictures and captions, step by step, resumable to the bit."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isomix.errors import InputError
from training.files import write_text
from training.model.augment import augment
from training.model.batches import Batch, Sampler, TrainingSet, generators
from training.model.checkpoints import load_checkpoint, read_metadata, save_checkpoint, save_tensors
from training.model.look import look
from training.model.recipe import TrainConfig
from training.model.teacher import Teacher
from training.model.tower import Model, normalized, uses_bfloat16

__all__ = ["Run", "contrastive_loss"]


def contrastive_loss(left: Tensor, right: Tensor, scale: Tensor | float, concept: Tensor) -> Tensor:
    """Symmetric InfoNCE of matching unit rows (n, d); other rows of the same concept are no negatives."""
    logits = scale * left @ right.T
    same = concept[:, None] == concept[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, float("-inf"))
    target = torch.arange(len(left))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


class Run:
    """One training run in its folder."""

    def __init__(
        self, data: TrainingSet, config: TrainConfig, folder: Path, seed: int, teacher: Teacher | None
    ) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(seed)
        self.data, self.config, self.folder, self.seed = data, config, folder, seed
        self.half = uses_bfloat16(config.precision)
        self.model = Model(config.tower)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.heads = nn.ModuleDict({"image": nn.Linear(config.tower.image_widths[-1], config.tower.embedding)})
        self.targets: Tensor | None = None
        if teacher is not None:
            self.heads["teacher_text"] = nn.Linear(config.tower.text_width, teacher.width)
            self.heads["teacher_image"] = nn.Linear(config.tower.image_widths[-1], teacher.width)
            self.targets = torch.from_numpy(teacher.embeddings_of(data.captions.texts))
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.sampler = Sampler(
            data,
            power=config.concept_power,
            label=config.label,
            per_concept=config.per_concept,
            kind_weights=config.kind_weights,
        )
        self.optimizer = torch.optim.AdamW(self._groups(), betas=(0.9, 0.98), fused=True)
        self.step = 0

    def _groups(self) -> list[dict[str, Any]]:
        config = self.config
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in (*self.model.named_parameters(), *self.heads.named_parameters()):
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            if name == "text.embedding.weight":
                decay = 0.0
            elif name.endswith("projector.weight"):
                decay = config.projector_weight_decay
            rate = config.text_learning_rate if name.startswith("text.") else config.learning_rate
            groups.setdefault((rate, decay), []).append(parameter)
        return [
            {"params": parameters, "lr": rate, "weight_decay": decay, "peak": rate}
            for (rate, decay), parameters in groups.items()
        ]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds."""
        return {"model": self.model, "heads": self.heads, "average": self.average}

    def losses(self, batch: Batch, pixels: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the loss of one batch; their sum is minimised."""
        config, model = self.config, self.model
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            features = model.image(pixels.contiguous(memory_format=torch.channels_last))
        features = features.float()
        text_features = model.text(torch.from_numpy(self.data.captions.tokens[batch.texts].astype(np.int64)))
        images = normalized(model.image_projector(features))
        texts = normalized(model.text_projector(text_features))
        concept = torch.from_numpy(batch.concepts)
        terms = {"contrastive": contrastive_loss(images, texts, model.inverse_temperature(), concept)}
        if config.image_loss:
            views = normalized(self.heads["image"](features))
            terms["image"] = config.image_loss * contrastive_loss(views[::2], views[1::2], 10.0, concept[::2])
        if self.targets is not None:
            target = self.targets[torch.from_numpy(batch.texts).long()].float()
            if config.teacher_text:
                student = normalized(self.heads["teacher_text"](text_features))
                terms["teacher_text"] = config.teacher_text * (1 - (student * target).sum(1)).mean()
            if config.teacher_image:
                student = normalized(self.heads["teacher_image"](features))
                terms["teacher_image"] = config.teacher_image * contrastive_loss(student, target, 20.0, concept)
        return terms

    def draw(self, step: int) -> tuple[Batch, Tensor]:
        """The batch of a step and its augmented pictures; a function of seed and step alone."""
        rng, generator = generators(self.seed, step)
        batch = self.sampler.draw(self.config.batch, rng)
        pictures = torch.from_numpy(self.data.level(self.config.side(step))[batch.pictures])
        monochrome = torch.from_numpy(self.data.monochrome[batch.pictures])
        return batch, augment(pictures, monochrome, self.config.augment, generator)

    def advance(self) -> dict[str, float]:
        """One optimiser step."""
        config = self.config
        batch, pixels = self.draw(self.step)
        self.model.train()
        terms = self.losses(batch, pixels)
        loss = torch.stack(list(terms.values())).sum()
        rate = config.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["peak"]
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))  # the first steps are soon forgotten
        own = list(self.model.state_dict().values())
        averaged = list(self.average.state_dict().values())
        floats = [i for i, value in enumerate(own) if value.is_floating_point()]
        torch._foreach_lerp_([averaged[i] for i in floats], [own[i] for i in floats], 1 - decay)

    @torch.no_grad()
    def calibrate(self, batches: int = 20) -> None:
        """Give the averaged weights batch-norm statistics of their own, at the last resolution.

        The averages of the statistics belong to the weights and resolutions on the way.
        """
        norms = [module for module in self.average.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
        self.average.train()
        for number in range(batches):
            _, pixels = self.draw(self.config.steps + number)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                self.average.image(pixels.contiguous(memory_format=torch.channels_last))
        self.average.eval()

    def finish(self) -> None:
        """Write the model: the averaged or the last weights, whichever retrieve better on the development concepts."""
        self.calibrate()
        side = self.config.side(self.step)
        looks = {"average": look(self.average, self.data, side, half=self.half)}
        looks["last"] = look(self.model, self.data, side, half=self.half)
        better = looks["last"].get("map", 0.0) > looks["average"].get("map", 0.0)
        module = self.model if better else self.average
        tensors = {f"model.{key}": value for key, value in module.state_dict().items()}
        save_tensors(self.folder / "model.safetensors", tensors, {"run": self.description()})
        self.describe(looks=looks, exported="last" if better else "average")

    def describe(self, **more: Any) -> None:
        """Write ``run.json``: what the run depends on, and how it ended."""
        text = json.dumps(self.description() | more, indent=1)
        write_text(self.folder / "run.json", text + "\n")

    def save(self) -> None:
        """Write the checkpoint."""
        path = self.folder / "checkpoint.safetensors"
        save_checkpoint(path, self.modules, self.optimizer, {"step": self.step, "run": self.description()})

    def description(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        return {
            "seed": self.seed,
            "config": json.loads(json.dumps(dataclasses.asdict(self.config))),
            "bfloat16": self.half,
            "pictures": len(self.data.concept),
        }

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one.

        Raises
        ------
        InputError
            The checkpoint is of a run with another configuration, seed or data set.
        """
        path = self.folder / "checkpoint.safetensors"
        if not path.is_file():
            return
        metadata = read_metadata(path)
        if metadata["run"] != self.description():
            raise InputError(
                f"{path} is of a run with another configuration, seed, processor or data set. "
                "Give this run another --name, or delete the folder."
            )
        load_checkpoint(path, self.modules, self.optimizer)
        self.step = metadata["step"]

    def records(self, stop: int) -> Iterator[dict[str, Any]]:
        """Train up to step ``stop``; one record a step."""
        while self.step < stop:
            step, started = self.step, time.perf_counter()
            record: dict[str, Any] = {"step": step, "side": self.config.side(step), **self.advance()}
            record["images_per_second"] = round(self.config.batch / (time.perf_counter() - started), 1)
            if self.step % self.config.look_every == 0 or self.step == self.config.steps:
                record["look"] = look(self.average, self.data, record["side"], half=self.half)
            yield record
