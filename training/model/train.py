"""The stage ``train``: begin a run or go on with it, with a log and one line of progress."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from isomix.errors import InputError
from training.config import load_section
from training.files import write_text
from training.model.batches import TrainingSet
from training.model.checkpoints import load_checkpoint
from training.model.recipe import TrainConfig
from training.model.run import Run
from training.model.teacher import Teacher, distill_text
from training.model.tower import Model

__all__ = ["load_model", "train"]


def train(config_path: Path, output: Path, *, name: str, seed: int, stop: int | None = None) -> None:
    """Train a model, or go on with it; checkpoint, log and at the end the model go into ``output/runs/name``.

    Parameters
    ----------
    config_path, output : Path
    name : str
        Of the run.
    seed : int
    stop : int, optional
        Stop after this many steps, with a checkpoint.

    Raises
    ------
    InputError
        No data set, no teacher, or a checkpoint of another run.
    """
    config = load_section(TrainConfig, "train", config_path)
    folder = output / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    data = TrainingSet.load(output / "dataset", output / "levels")
    wants_teacher = bool(config.distill.steps or config.teacher_text or config.teacher_image)
    teacher = Teacher.load(output / "teacher") if wants_teacher else None
    run = Run(data, config, folder, seed, teacher)
    run.resume()
    if run.step == 0 and teacher is not None and config.distill.steps:
        distill_text(run.model.text, run.heads["teacher_text"], teacher, config.distill, seed)
        run.average.load_state_dict(run.model.state_dict())
    run.describe()
    log = folder / "log.jsonl"
    _cut_log(log, run.step)
    last = min(stop or config.steps, config.steps)
    started, first = time.perf_counter(), run.step
    with log.open("a", encoding="utf-8") as lines:
        for record in run.records(last):
            lines.write(json.dumps(record) + "\n")
            if "look" in record:
                lines.flush()
            if run.step % config.checkpoint_every == 0 or run.step == last:
                lines.flush()
                run.save()
            _show(record, last, (time.perf_counter() - started) / (run.step - first))
    sys.stderr.write("\n")
    if run.step == config.steps:
        run.finish()


def load_model(run: Path, config: TrainConfig) -> Model:
    """The model that a finished run left, in eval mode.

    Raises
    ------
    InputError
        The run has not finished.
    """
    path = run / "model.safetensors"
    if not path.is_file():
        raise InputError(f"{path} does not exist: the run has not finished. Go on: python -m training train --name …")
    model = Model(config.tower)
    load_checkpoint(path, {"model": model})
    return model.eval()


def _cut_log(log: Path, step: int) -> None:
    """Forget what was logged after the checkpoint."""
    if log.is_file():
        before = [line for line in log.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] < step]
        write_text(log, "".join(line + "\n" for line in before))


def _show(record: dict[str, Any], last: int, seconds: float) -> None:
    """One line that overwrites itself; a look at the development concepts stays."""
    left = seconds * (last - record["step"] - 1)
    text = f"step {record['step'] + 1}/{last}  {record['side']} px  loss {record['loss']:.3f}"
    text += f"  {record['images_per_second']:.0f} images/s  {left / 60:.0f} min left"
    end = "\r"
    if record.get("look"):
        text += "  " + "  ".join(f"{key} {value:.1f}" for key, value in record["look"].items())
        end = "\n"
    sys.stderr.write(f"{text:<118}{end}")
