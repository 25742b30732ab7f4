"""What a file or folder is, as far as isomix is concerned."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from isomix.errors import FileFormatError, ImageError, InputError, IsomixError
from isomix.store.formats import SUPPORTED, open_embeddings
from isomix.store.ledger import LEDGER_ENDING, Ledger

__all__ = ["inspect_path"]


def inspect_path(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Find out what is at a path.

    Returns
    -------
    dict
        JSON values; ``what`` names it, the rest depends on it.

    Raises
    ------
    InputError
        Nothing is there, or nothing that isomix knows.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "vectors.npy"
    ...     np.save(path, np.ones((3, 4), np.float16))
    ...     found = inspect_path(path)
    >>> found["what"], found["rows"], found["width"], found["dtype"]
    ('embeddings', 3, 4, 'float16')
    """
    target = Path(path)
    if not target.exists():
        raise InputError(f"{target} does not exist.")
    if target.name.endswith(LEDGER_ENDING):
        return _ledger(target)
    if target.suffix == ".lance":
        return _table(target)
    if target.is_dir():
        return _folder(target)
    if target.suffix == ".safetensors":
        return _safetensors(target)
    try:
        return _embeddings(target)
    except InputError:
        return _picture(target)


def _table(path: Path) -> dict[str, Any]:
    from isomix.store.table import EmbeddingTable

    table = EmbeddingTable.open(path)
    labels = Counter(table.column("label"))
    labels.pop(None, None)
    errors = table.errors()
    return {
        "what": "table of adapted embeddings" if table.metadata.space else "embedding table",
        "images": table.count,
        "unreadable": len(errors),
        "reasons": dict(Counter(row["reason"] for row in errors).most_common()),
        "ledger": os.fspath(table.ledger.path) if errors else None,
        "failures": _failures(errors),
        "labels": len(labels),
        "model": table.metadata.model,
        "fingerprint": table.metadata.fingerprint,
        "embedding_dim": table.metadata.embedding_dim,
        "feature_dim": table.metadata.feature_dim,
        "preprocessing": table.metadata.preprocessing,
        "root": os.fspath(table.root),
        "columns": table.columns,
        "derived": {name: _short(space) for name, space in table.derived.items()},
        "space": _short(table.metadata.space) if table.metadata.space else None,
        "isomix_version": table.metadata.isomix_version,
    }


def _ledger(path: Path) -> dict[str, Any]:
    table = path.with_name(path.name.removesuffix(LEDGER_ENDING) + ".lance")
    failures = Ledger(table).rows()
    return {"what": "ledger of unreadable files", "table": os.fspath(table), "failures": _failures(failures)}


def _failures(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in rows}


def _short(space: Any) -> dict[str, Any]:
    names = ("method", "modality", "n_components", "band", "form", "parameters", "source", "fingerprint")
    of_smoothed = ("column", "rows", "mass")
    return {name: space[name] for name in (*names, *of_smoothed) if name in space}


def _folder(path: Path) -> dict[str, Any]:
    if (path / "config.json").is_file():
        return _model(path)
    try:
        return _embeddings(path)
    except InputError as error:
        from isomix.store.scan import scan

        try:
            found = scan(path)
        except InputError:
            raise InputError(f"{path}: neither pictures, nor a model, nor embeddings. {error}") from None
        size = sum(file.size or 0 for file in found.files)
        return {"what": "folder of pictures", "pictures": len(found.files), "bytes": size, "other_files": found.ignored}


def _embeddings(path: Path) -> dict[str, Any]:
    source = open_embeddings(path, modality=_clip_retrieval_modality(path))
    return {
        "what": "adapted embeddings" if source.record.get("space") else "embeddings",
        "layout": source.layout,
        "rows": source.rows,
        "width": source.width,
        "dtype": source.dtype.name,
        "column": source.column if source.layout in ("parquet", "parquet folder", "npz", "safetensors") else None,
        "other_columns": [*source.other_columns, *source.other_arrays],
        "modality": source.modality,
        "space": _short(source.record["space"]) if source.record.get("space") else None,
    }


def _clip_retrieval_modality(path: Path) -> str:
    return "text" if (path / "text_emb").is_dir() and not (path / "img_emb").is_dir() else "image"


def _safetensors(path: Path) -> dict[str, Any]:
    from isomix._documents import HEADER_KEY
    from isomix._safetensors import open_local

    stored = open_local(path)
    shapes = {name: list(entry.get("shape", [])) for name, entry in stored.entries.items()}
    if HEADER_KEY in stored.metadata:
        return _document(path, stored.metadata[HEADER_KEY], shapes)
    projectors = _projectors(path)
    if "problem" not in projectors:
        return {"what": "model weights", **projectors, "tensors": len(shapes)}
    try:
        return _embeddings(path)
    except IsomixError:
        return {
            "what": "safetensors file",
            "tensors": len(shapes),
            "shapes": dict(list(shapes.items())[:20]),
            **projectors,
        }


def _document(path: Path, text: str, shapes: dict[str, list[int]]) -> dict[str, Any]:
    try:
        header = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path}: its isomix header cannot be read ({error}). Save it again.") from error
    names = ("method", "parameters", "source", "format", "isomix_version")
    found = {"what": str(header.get("kind")), **{name: header.get(name) for name in names}, "shapes": shapes}
    return found | _classifier(path) if found["what"] == "classifier" else found


def _classifier(path: Path) -> dict[str, Any]:
    """What a classifier knows and has chosen; the text and the pictures of its classes compared, where both are there."""
    from isomix.fewshot import load_classifier, shrinkage_report

    classifier = load_classifier(path)
    found: dict[str, Any] = {
        "classes": dict(zip(classifier.classes_.tolist(), classifier.counts_.tolist(), strict=True)),
        "without_text": classifier.classes_[~classifier.has_text_].tolist(),
        "weights": classifier.weights_,
        "weight_tier": classifier.weight_tier_,
        "temperature": classifier.temperature_,
        "logit_scale": getattr(classifier, "logit_scale_", None),
    }
    try:
        return {**found, "shrinkage": shrinkage_report(classifier).to_dict()}
    except InputError as error:
        return {**found, "shrinkage": None, "why_no_shrinkage": str(error).removeprefix("shrinkage_report: ")}


def _projectors(path: Path) -> dict[str, Any]:
    from isomix.projectors import Projectors

    try:
        pair = Projectors.from_pretrained(os.fspath(path), offline=True)
        image = None if pair.image is None else list(pair.image.shape)
    except IsomixError as error:
        return {"problem": str(error)}
    return {
        "embedding_dim": pair.embedding_dim,
        "image_projector": image,
        "text_projector": list(pair.text.shape),
        **pair.parameters(),
        "fingerprint": pair.fingerprint,
    }


def _model(path: Path) -> dict[str, Any]:
    try:
        config = dict(json.loads((path / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path / 'config.json'} cannot be read ({error}). Fetch the model again.") from error
    family = {"model_type": config.get("model_type"), "architectures": config.get("architectures")}
    return {"what": "model folder", **family, **_projectors(path)}


def _picture(path: Path) -> dict[str, Any]:
    from isomix.encoders.images import read_image

    try:
        width, height = read_image(path, max_megapixels=1000).size
    except ImageError as error:
        raise InputError(
            f"{path}: no picture ({error}), and no embeddings. Embeddings are one of: {SUPPORTED}."
        ) from None
    return {"what": "picture", "width": width, "height": height, "bytes": path.stat().st_size}
