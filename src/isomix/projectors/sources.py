"""Where a model's projectors are read from: the package, a file, a folder, the hub's cache or the hub itself."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from isomix._documents import HEADER_KEY
from isomix._safetensors import open_local, shard_of_tensor
from isomix.errors import InputError, ModelError
from isomix.projectors.checkpoints import projectors_from
from isomix.projectors.hub import INDEX_FILE, OPEN_CLIP_FILE, WEIGHTS_FILE, cached_file, read_from_hub
from isomix.projectors.projectors import Projectors

__all__ = ["EMBEDDED_PAIRS", "read_projectors", "split_spec"]

EMBEDDED_PAIRS = {"": "converged.safetensors", "as-trained": "as-trained.safetensors"}
"""What may stand after ``embedded:`` → packaged file of projectors; the towers are the same."""


def split_spec(spec: str) -> tuple[str, str]:
    """Scheme and name of a model's spec; an existing folder or file needs no scheme and has ``"hf"``.

    Raises
    ------
    InputError
        Not a string, or one that names nothing.

    Examples
    --------
    >>> split_spec("hf:openai/clip-vit-base-patch32")
    ('hf', 'openai/clip-vit-base-patch32')
    >>> split_spec("embedded")
    ('embedded', '')
    """
    if not isinstance(spec, str) or spec in ("", "hf:", "openclip:"):
        raise InputError(
            f"model: got {spec!r}, expected a string such as 'embedded' or 'hf:openai/clip-vit-base-patch32'."
        )
    scheme, _, name = spec.partition(":")
    if scheme in ("embedded", "hf", "openclip"):
        return scheme, name
    return ("hf", spec) if Path(spec).expanduser().exists() else (scheme, name)


def read_projectors(model: str, *, offline: bool = False, revision: str | None = None) -> Projectors:
    """Read the projectors of a model, and nothing else of it; see :meth:`isomix.Projectors.from_pretrained`."""
    scheme, name = split_spec(model)
    if scheme == "embedded":
        return _read_embedded(name)
    if scheme == "openclip":
        return _read_open_clip(name, offline=offline, revision=revision)
    if scheme != "hf":
        raise ModelError(
            f"{model!r} is neither a file or folder that exists, nor 'embedded', 'hf:<folder or hub id>' or "
            "'openclip:…'. For a hub id, write 'hf:' in front."
        )
    path = Path(name).expanduser()
    source = f"hf:{name}"
    if path.is_file():
        return _read_file(path, source)
    if path.is_dir():
        return _read_folder(path, source)
    return _read_hub(name, "", source, offline=offline, revision=revision)


def _read_hub(name: str, filename: str, source: str, *, offline: bool, revision: str | None) -> Projectors:
    for known in (filename,) if filename else (WEIGHTS_FILE, INDEX_FILE, OPEN_CLIP_FILE):
        cached = cached_file(name, known, revision)
        if cached is not None:
            return _read_file(cached, source) if filename else _read_folder(cached.parent, source)
    return read_from_hub(name, source=source, filename=filename, offline=offline, revision=revision)


def _read_open_clip(name: str, *, offline: bool, revision: str | None) -> Projectors:
    source = f"openclip:{name}"
    schema, _, place = name.partition(":")
    if schema == "local-dir":
        folder = Path(place).expanduser()
        if not folder.is_dir():
            raise ModelError(f"{source!r}: there is no folder {place!r}. Check the path.")
        return _read_folder(folder, source)
    if schema == "hf-hub":
        return _read_hub(place, "", source, offline=offline, revision=revision)
    architecture, _, weights = name.partition("/")
    if not weights:
        raise ModelError(
            f"{source!r} names no weights. Write 'openclip:<architecture>/<pretrained tag or file>', "
            "'openclip:hf-hub:<hub id>' or 'openclip:local-dir:<folder>'."
        )
    if Path(weights).is_file():
        return _read_file(Path(weights), source)
    # Only open_clip knows where the weights of its tags lie.
    from isomix.encoders.openclip import import_open_clip

    open_clip = import_open_clip()
    place = (open_clip.get_pretrained_cfg(architecture, weights) or {}).get("hf_hub", "")
    if not place:
        raise ModelError(
            f"{source!r}: open_clip has no such weights on a hub. Expected '<architecture>/<pretrained tag>' as in "
            "open_clip.list_pretrained()."
        )
    repository, _, filename = place.rpartition("/")
    filename = f"{Path(filename).stem}.safetensors" if filename else OPEN_CLIP_FILE
    return _read_hub(repository, filename, source, offline=offline, revision=revision)


def _read_embedded(name: str) -> Projectors:
    if name not in EMBEDDED_PAIRS:
        known = ", ".join(f"'embedded:{pair}'" if pair else "'embedded'" for pair in EMBEDDED_PAIRS)
        raise ModelError(f"'embedded:{name}' is unknown. There are {known}.")
    with as_file(files("isomix") / "encoders" / "weights" / EMBEDDED_PAIRS[name]) as path:
        return _read_file(path, f"embedded:{name}" if name else "embedded")


def _read_file(path: Path, source: str) -> Projectors:
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise ModelError(
            f"{path} is a pickle, which can run any code when it is opened; isomix reads safetensors only. "
            "Convert it, or take the model's .safetensors file."
        )
    stored = open_local(path)
    if HEADER_KEY in stored.metadata:
        return Projectors.load(path)
    return projectors_from(stored.entries, stored.tensor, str(path), source)


def _read_folder(folder: Path, source: str) -> Projectors:
    index = folder / INDEX_FILE
    if (folder / WEIGHTS_FILE).is_file():
        return _read_file(folder / WEIGHTS_FILE, source)
    if index.is_file():
        shards = shard_of_tensor(index.read_bytes(), str(index))
        return projectors_from(shards, lambda name: open_local(folder / shards[name]).tensor(name), str(folder), source)
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(found) == 1:
        return _read_file(folder / found[0], source)
    pickles = " (only a pickle, which isomix does not open)" if (folder / "pytorch_model.bin").exists() else ""
    several = f": {', '.join(found)}; name one of them" if found else ""
    raise ModelError(
        f"{folder} has no {WEIGHTS_FILE}{pickles}{several}. Download the model with its safetensors weights."
    )
