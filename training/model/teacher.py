"""The text teacher: sentence embeddings of every caption and noun, and the text tower's first lessons from them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from isomix.errors import InputError, ModelError
from training.config import load_section
from training.data.splits import load_rows
from training.files import write_array, write_text
from training.model.batches import generators
from training.model.text import tokenize
from training.model.tower import TextTower, normalized, uses_bfloat16

__all__ = ["DistillConfig", "Teacher", "TeacherConfig", "distill_text", "make_teacher", "nouns"]


@dataclass(frozen=True)
class TeacherConfig:
    """Section ``[teacher]``.

    Attributes
    ----------
    package : str
        Installed Python package that carries the model in its folder ``model``.
    sha256 : str
        Of ``model.safetensors``.
    max_tokens : int
        Longer texts are cut.
    batch : int
    """

    package: str
    sha256: str
    max_tokens: int = 32
    batch: int = 512


@dataclass(frozen=True)
class DistillConfig:
    """The text tower's training before it sees a picture; section ``[train.distill]``.

    Attributes
    ----------
    steps : int
        0: none, and no teacher is needed.
    batch : int
    learning_rate : float
    relational : float
        Weight of the divergence between student's and teacher's similarities within the batch.
    """

    steps: int = 0
    batch: int = 512
    learning_rate: float = 3e-3
    relational: float = 1.0


@dataclass(frozen=True)
class Teacher:
    """Texts and their unit-length embeddings, float16, shape (n, 384)."""

    texts: list[str]
    embeddings: NDArray[np.float16]

    @property
    def width(self) -> int:
        """Width of the embeddings."""
        return int(self.embeddings.shape[1])

    @classmethod
    def load(cls, folder: Path) -> Teacher:
        """Read what the stage ``teacher`` wrote."""
        if not (folder / "embeddings.npy").is_file():
            raise InputError(
                f"{folder} holds no teacher embeddings. Make them first: python -m training teacher; or set steps of "
                "[train.distill], teacher_text and teacher_image to 0."
            )
        texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
        return cls(texts, np.load(folder / "embeddings.npy"))

    def embeddings_of(self, texts: list[str]) -> NDArray[np.float16]:
        """The embeddings of some texts, in their order.

        Raises
        ------
        InputError
            One of them was not embedded: the data set is newer.
        """
        place = {text: row for row, text in enumerate(self.texts)}
        missing = [text for text in texts if text not in place]
        if missing:
            raise InputError(
                f"the teacher has no embedding of {len(missing)} captions, such as {missing[0]!r}: the data set has "
                "changed since. Run python -m training teacher again."
            )
        return self.embeddings[[place[text] for text in texts]]


def nouns(index: Path) -> list[str]:
    """The lemmas of WordNet's ``index.noun``, with spaces."""
    lines = index.read_text(encoding="utf-8").splitlines()
    return [line.split(" ", 1)[0].replace("_", " ") for line in lines if line and not line.startswith(" ")]


def make_teacher(config_path: Path, output: Path) -> None:
    """Embed all training captions and WordNet's nouns once; texts that are there already are kept."""
    config = load_section(TeacherConfig, "teacher", config_path)
    index = load_rows(output / "dataset", "train").index
    captions = {text for row in index["captions"].to_pylist() for text in row}
    texts = sorted(captions | set(nouns(output / "corpora" / "wordnet" / "dict" / "index.noun")))
    folder = output / "teacher"
    folder.mkdir(parents=True, exist_ok=True)
    known = Teacher.load(folder) if (folder / "embeddings.npy").is_file() else Teacher([], np.empty((0, 0), np.float16))
    place = {text: row for row, text in enumerate(known.texts)}
    new = [text for text in texts if text not in place]
    if not new and len(texts) == len(known.texts):
        return
    made = dict(zip(new, embed(new, config), strict=True)) if new else {}
    rows = np.stack([made[text] if text in made else known.embeddings[place[text]] for text in texts])
    write_text(folder / "texts.json", json.dumps(texts, ensure_ascii=False))
    write_array(folder / "embeddings.npy", rows)


def embed(texts: list[str], config: TeacherConfig) -> NDArray[np.float16]:
    """Mean-pooled unit-length sentence embeddings, shape (n, 384); short texts first, so that little is padding.

    Raises
    ------
    ModelError
        The package is not installed, or holds other weights.
    """
    from tokenizers import Tokenizer
    from transformers import AutoModel

    found = importlib.util.find_spec(config.package)
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"{config.package} is not installed; see training/requirements.txt.")
    folder = Path(found.submodule_search_locations[0]) / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != config.sha256:
        raise ModelError(f"{folder / 'model.safetensors'} has the SHA-256 {digest}, expected {config.sha256}.")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.max_tokens)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    half = uses_bfloat16("auto")
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    order = sorted(range(len(texts)), key=lambda row: len(ids[row]))
    result = np.empty((len(texts), model.config.hidden_size), np.float16)
    for start in range(0, len(order), config.batch):
        rows = order[start : start + config.batch]
        width = len(ids[rows[-1]])
        tokens = torch.tensor([ids[row] + [0] * (width - len(ids[row])) for row in rows])
        mask = (torch.arange(width) < torch.tensor([len(ids[row]) for row in rows])[:, None]).long()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            states = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        pooled = (states.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        result[rows] = normalized(pooled).numpy().astype(np.float16)
        sys.stderr.write(f"teacher: {start + len(rows)}/{len(texts)} texts\r")
    sys.stderr.write("\n")
    return result


def distill_text(tower: TextTower, head: nn.Module, teacher: Teacher, config: DistillConfig, seed: int) -> float:
    """Teach the text tower the teacher's space through a linear head: words get a meaning before they get a picture.

    The loss is the cosine distance, and the Kullback-Leibler divergence between both sides' similarities within the
    batch. Returns the last loss.
    """
    tokens = torch.from_numpy(tokenize(teacher.texts).astype(np.int64))
    targets = torch.from_numpy(teacher.embeddings)
    parameters = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    _, generator = generators(seed, 2**31)  # a step that the training itself does not reach
    tower.train()
    value = float("nan")
    for step in range(config.steps):
        rows = torch.randint(len(tokens), (config.batch,), generator=generator)
        target = targets[rows].float()
        student = normalized(head(tower(tokens[rows])))
        loss = (1 - (student * target).sum(1)).mean() + config.relational * _relational(student, target)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        value = loss.item()
        sys.stderr.write(f"text tower from the teacher: step {step + 1}/{config.steps}  loss {value:.3f}\r")
    sys.stderr.write("\n")
    return value


def _relational(student: Tensor, target: Tensor, temperature: float = 0.1) -> Tensor:
    own = functional.log_softmax(student @ student.T / temperature, 1)
    wanted = functional.log_softmax(target @ target.T / temperature, 1)
    return functional.kl_div(own, wanted, log_target=True, reduction="batchmean")
