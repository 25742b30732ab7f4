"""The folder of a model in the layout of transformers: found or downloaded, and what its files say."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isomix._extras import first_line, require
from isomix.encoders.preprocessing import Preprocessing
from isomix.errors import ModelError, OfflineError
from isomix.projectors.hub import check_hub_id, is_offline

__all__ = [
    "file_hash",
    "find_folder",
    "read_config",
    "read_json",
    "read_preprocessing",
    "tokenizer_file",
    "weight_files",
]

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")
_TOKENIZER = (*_VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json", "merges.txt")
_DOWNLOADED = ["config.json", "preprocessor_config.json", "processor_config.json", *_WEIGHTS, *_TOKENIZER]


def find_folder(name: str, *, offline: bool, revision: str | None) -> Path:
    """The model's folder on this machine, downloaded into the hub's cache if need be."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{name} is a file. An encoder needs the model's folder (config, weights, preprocessing).")
    check_hub_id(name)
    hub = require("huggingface_hub", "hf", "An 'hf:' encoder")
    errors = require("huggingface_hub.errors", "hf", "An 'hf:' encoder")
    local_only = is_offline(offline)
    try:
        return Path(
            hub.snapshot_download(name, revision=revision, allow_patterns=_DOWNLOADED, local_files_only=local_only)
        )
    except errors.LocalEntryNotFoundError as error:
        if local_only:
            raise OfflineError(
                f"'hf:{name}' is not on this machine, and connections are forbidden. Run once without offline, or "
                "download the model's folder elsewhere and name the folder instead."
            ) from error
        raise ModelError(
            f"'hf:{name}' is not on this machine, and the hub cannot be reached. Check the connection and "
            "HF_ENDPOINT, or download the model's folder elsewhere and name the folder instead."
        ) from error
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"'hf:{name}' cannot be downloaded: {first_line(error)}. Check the id and the connection; a private or "
            "gated model needs HF_TOKEN."
        ) from error


def read_config(folder: Path, given: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], str]:
    """What the folder says about preprocessing, or what the caller says instead, and where it is said."""
    if given is not None:
        return given, "preprocessing"
    path = folder / "preprocessor_config.json"
    config = read_json(path)
    if config is None:
        path = folder / "processor_config.json"
        config = (read_json(path) or {}).get("image_processor")
    if config is None:
        raise ModelError(
            f"{folder} does not say how pictures are preprocessed (preprocessor_config.json). A guess would give "
            f"wrong embeddings "
            "silently: copy the file there, or give its fields as preprocessing={'size': 224, …}."
        )
    return config, str(path)


def read_preprocessing(folder: Path, given: Mapping[str, Any] | None) -> Preprocessing:
    """From pictures to pixels as :func:`read_config` says; nothing is guessed."""
    return Preprocessing.from_config(*read_config(folder, given))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the weights: one, or the parts of a split model; none if there are only others."""
    whole = folder / "model.safetensors"
    if whole.is_file():
        return [whole]
    return sorted(folder.glob("model-*-of-*.safetensors"))


def tokenizer_file(folder: Path) -> Path | None:
    """The file that holds the vocabulary, or None."""
    return next((folder / name for name in _VOCABULARIES if (folder / name).is_file()), None)


def file_hash(path: Path) -> str:
    """SHA-256 of a file; in the hub's cache, large files already carry it as their name."""
    target = path.resolve()
    if target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name):
        return target.name
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """A file's JSON object; None where there is no such file, or no object in it."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON ({error}). Fetch it again.") from error
    return content if isinstance(content, dict) else None
