"""Where a model's projectors are read from: the package, a file, a folder, the hub's cache or the hub itself."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from isomix._arrays import Floats
from isomix._documents import HEADER_KEY
from isomix._extras import require_open_clip
from isomix._safetensors import open_local, shard_of_tensor
from isomix.errors import ModelError
from isomix.projectors.checkpoints import projectors_from
from isomix.projectors.hub import INDEX_FILE, OPEN_CLIP_FILE, WEIGHTS_FILE, cached_file, read_from_hub
from isomix.projectors.model_spec import ModelSpec, parse_spec, unknown_model
from isomix.projectors.projectors import Projectors

__all__ = ["EMBEDDED_PAIRS", "read_projectors"]

EMBEDDED_PAIRS = {"": "converged.safetensors", "as-trained": "as-trained.safetensors"}
"""What may stand after ``embedded:`` → packaged file of projectors; the towers are the same."""


def read_projectors(
    model: str, *, offline: bool = False, revision: str | None = None, text_only: bool | None = False
) -> Projectors:
    """Read the projectors of a model, and nothing else of it; see :meth:`isomix.Projectors.from_pretrained`."""
    spec = parse_spec(model)
    if spec.scheme == "embedded":
        return _read_embedded(spec, text_only)
    if spec.scheme == "openclip":
        return _read_open_clip(spec, text_only, offline=offline, revision=revision)
    if spec.scheme != "hf":
        raise unknown_model(model)
    path, source = spec.path, str(spec)
    if path is None:
        return _read_hub(spec.name, "", source, text_only, offline=offline, revision=revision)
    return _read_folder(path, source, text_only) if path.is_dir() else _read_file(path, source, text_only)


def _read_hub(
    name: str, filename: str, source: str, text_only: bool | None, *, offline: bool, revision: str | None
) -> Projectors:
    for known in (filename,) if filename else (WEIGHTS_FILE, INDEX_FILE, OPEN_CLIP_FILE):
        cached = cached_file(name, known, revision)
        if cached is not None:
            if filename:
                return _read_file(cached, source, text_only)
            return _read_folder(cached.parent, source, text_only)
    return read_from_hub(
        name, source=source, filename=filename, offline=offline, revision=revision, text_only=text_only
    )


def _read_open_clip(spec: ModelSpec, text_only: bool | None, *, offline: bool, revision: str | None) -> Projectors:
    source = str(spec)
    schema, place, weights = spec.open_clip()
    if schema == "local-dir":
        folder = Path(place).expanduser()
        if not folder.is_dir():
            raise ModelError(f"{source!r}: there is no folder {place!r}. Check the path.")
        return _read_folder(folder, source, text_only)
    if weights is None:
        return _read_hub(place, "", source, text_only, offline=offline, revision=revision)
    if Path(weights).is_file():
        return _read_file(Path(weights), source, text_only)
    open_clip = require_open_clip("A pretrained tag of open_clip")  # only it knows where the weights of its tags lie
    hub = (open_clip.get_pretrained_cfg(place, weights) or {}).get("hf_hub", "")
    if not hub:
        raise ModelError(
            f"{source!r}: open_clip has no such weights on a hub. Expected '<architecture>/<pretrained tag>' as in "
            "open_clip.list_pretrained()."
        )
    repository, _, filename = hub.rpartition("/")
    filename = f"{Path(filename).stem}.safetensors" if filename else OPEN_CLIP_FILE
    return _read_hub(repository, filename, source, text_only, offline=offline, revision=revision)


def _read_embedded(spec: ModelSpec, text_only: bool | None) -> Projectors:
    if spec.name not in EMBEDDED_PAIRS:
        known = ", ".join(f"'embedded:{pair}'" if pair else "'embedded'" for pair in EMBEDDED_PAIRS)
        raise ModelError(f"{str(spec)!r} is unknown. There are {known}.")
    with as_file(files("isomix") / "encoders" / "weights" / EMBEDDED_PAIRS[spec.name]) as path:
        return _read_file(path, str(spec), text_only)


def _read_file(path: Path, source: str, text_only: bool | None) -> Projectors:
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise ModelError(
            f"{path} is a pickle, which can run any code when it is opened; isomix reads safetensors only. "
            "Convert it, or take the model's .safetensors file."
        )
    stored = open_local(path)
    if HEADER_KEY in stored.metadata:
        pair = Projectors.load(path)
        return pair.text_only() if text_only or (text_only is None and pair.image_bias is not None) else pair
    return projectors_from(stored.entries, stored.tensor, str(path), source, text_only=text_only)


def _read_folder(folder: Path, source: str, text_only: bool | None) -> Projectors:
    index = folder / INDEX_FILE
    if (folder / WEIGHTS_FILE).is_file():
        return _read_file(folder / WEIGHTS_FILE, source, text_only)
    if index.is_file():
        shards = shard_of_tensor(index.read_bytes(), str(index))

        def read(name: str) -> Floats:
            return open_local(folder / shards[name]).tensor(name)

        return projectors_from(shards, read, str(folder), source, text_only=text_only)
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(found) == 1:
        return _read_file(folder / found[0], source, text_only)
    pickles = " (only a pickle, which isomix does not open)" if (folder / "pytorch_model.bin").exists() else ""
    several = f": {', '.join(found)}; name one of them" if found else ""
    raise ModelError(
        f"{folder} has no {WEIGHTS_FILE}{pickles}{several}. Download the model with its safetensors weights."
    )
