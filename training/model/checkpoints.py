"""The state of a training run in one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from isomix._files import writing
from isomix.errors import FileFormatError

__all__ = ["load_checkpoint", "read_metadata", "save_checkpoint", "save_tensors"]


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata, whole or not at all."""
    copies = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    header = {key: json.dumps(value, sort_keys=True) for key, value in metadata.items()}
    with writing(path) as part:
        part.write_bytes(save(copies, header))


def save_checkpoint(
    path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, metadata: dict[str, Any]
) -> None:
    """Write the modules under their names and the optimiser's moments; random numbers need no state here."""
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in state.items()}
    save_tensors(path, tensors, metadata)


def read_metadata(path: Path) -> dict[str, Any]:
    """The JSON metadata of a file that :func:`save_tensors` wrote."""
    with safe_open(path, "pt") as stored:
        return {key: json.loads(value) for key, value in (stored.metadata() or {}).items()}


def load_checkpoint(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None = None) -> None:
    """Put a checkpoint's values into modules and optimiser.

    Raises
    ------
    FileFormatError
        Tensors of a module are missing or have other shapes.
    """
    with safe_open(path, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    for name, module in modules.items():
        prefix = f"{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise FileFormatError(f"{path} does not fit the configured model: {error}") from error
    if optimizer is not None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                number, key = rest.split(".")
                if value.ndim:  # the fused kernel pairs moments and weights by their place in memory
                    value = torch.empty_like(parameters[int(number)]).copy_(value)
                states.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
