"""The file format of spaces and classifiers: one safetensors file, tensors plus a JSON header.

The header is the safetensors metadata entry ``isomix``: a JSON object with ``format`` (an integer, now 1), ``kind``
(``space``, ``classifier`` or ``projectors``), ``method`` (the registry name), ``parameters``, ``source`` (names and
fingerprints of what it was made from) and ``isomix_version``. The same content gives the same bytes. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from isomix._files import check_target, writing
from isomix.errors import FileFormatError

__all__ = ["FORMAT_VERSION", "Document", "expect_tensors", "load", "read_document", "write_document"]

T = TypeVar("T")

FORMAT_VERSION = 1
KINDS = ("space", "classifier", "projectors")
HEADER_KEY = "isomix"


@dataclass(frozen=True)
class Document:
    """What one file holds.

    Attributes
    ----------
    kind : {"space", "classifier", "projectors"}
    method : str
        Registry name of the class that reads it.
    parameters : dict
        Constructor arguments and scalars; JSON values only.
    tensors : dict of str to ndarray
    source : dict
        Names and fingerprints of what it was made from; JSON values only.
    """

    kind: str
    method: str
    parameters: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    source: dict[str, Any] = field(default_factory=dict)


def write_document(path: str | os.PathLike[str], document: Document, *, overwrite: bool = True) -> None:
    """Write ``document`` to ``path``, whole or not at all.

    Raises
    ------
    InputError
        The file exists and ``overwrite`` is false, or its folder does not exist.
    """
    from isomix import __version__

    target = check_target(path, overwrite=overwrite)
    header = {
        "format": FORMAT_VERSION,
        "kind": document.kind,
        "method": document.method,
        "parameters": document.parameters,
        "source": document.source,
        "isomix_version": __version__,
    }
    text = json.dumps(header, sort_keys=True, ensure_ascii=False, allow_nan=False)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in document.tensors.items()}
    with writing(target) as temporary:
        temporary.write_bytes(save(tensors, metadata={HEADER_KEY: text}))


def read_document(path: str | os.PathLike[str], kind: str) -> Document:
    """Read a file written by :func:`write_document`.

    Parameters
    ----------
    path : path-like
    kind : {"space", "classifier", "projectors"}
        What the caller can use; another kind is refused by name.

    Raises
    ------
    FileFormatError
        The file is missing, is not safetensors, was not written by isomix, is of another kind or of a newer format.
    """
    target = Path(path)
    if not target.is_file():
        what = "is a folder" if target.is_dir() else "does not exist"
        raise FileFormatError(f"{target} {what}; expected a safetensors file that isomix wrote ({kind}).")
    try:
        with safe_open(target, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise FileFormatError(
            f"{target} is not a safetensors file ({error}). Was it cut short, or is it a pickle?"
        ) from error
    if HEADER_KEY not in metadata:
        raise FileFormatError(
            f"{target} is a safetensors file without an isomix header: model weights, perhaps. "
            f"Expected a {kind} saved by isomix."
        )
    return _parse(target, metadata[HEADER_KEY], tensors, kind)


def load(
    path: str | os.PathLike[str], kind: str, registry: Mapping[str, Callable[[Document, str | os.PathLike[str]], T]]
) -> T:
    """Read a document and rebuild what it holds.

    Parameters
    ----------
    path : path-like
    kind : {"space", "classifier", "projectors"}
    registry : mapping of str to callable
        Method name → what rebuilds it, from the document and the path (for messages).

    Raises
    ------
    FileFormatError
        As in :func:`read_document`; or an unknown method, or contents that contradict each other.
    """
    document = read_document(path, kind)
    if document.method not in registry:
        raise FileFormatError(
            f"{os.fspath(path)}: unknown {kind} {document.method!r}; this isomix knows {', '.join(sorted(registry))}."
        )
    try:
        return registry[document.method](document, path)
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, MemoryError) as error:
        raise FileFormatError(f"{os.fspath(path)} cannot be used: {type(error).__name__}: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def _parse(target: Path, text: str, tensors: dict[str, NDArray[Any]], kind: str) -> Document:
    try:
        header = json.loads(text, parse_constant=_refuse)  # NaN and Infinity are no JSON
        # Halves of surrogate pairs are no text, and 1e999 is no number that could be saved again.
        json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{target}: the isomix header is not JSON ({error}).") from error
    if not isinstance(header, Mapping):
        raise FileFormatError(f"{target}: the isomix header is a {type(header).__name__}, expected an object.")
    version = header.get("format")
    if version != FORMAT_VERSION:
        raise FileFormatError(
            f"{target}: format version {version!r}, this isomix reads version {FORMAT_VERSION} "
            f"(the file was written by isomix {header.get('isomix_version', 'unknown')}). Install a matching isomix."
        )
    problems = []
    if header.get("kind") not in KINDS:
        problems.append(f"kind is {header.get('kind')!r}, expected one of {', '.join(KINDS)}")
    elif header["kind"] != kind:
        problems.append(f"it holds a {header['kind']}, expected a {kind}")
    if not isinstance(header.get("method"), str):
        problems.append(f"method is {header.get('method')!r}, expected a name")
    for key in ("parameters", "source"):
        if not isinstance(header.get(key), dict):
            problems.append(f"{key} is a {type(header.get(key)).__name__}, expected an object")
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            problems.append(f"tensor {name!r} holds NaN or infinite values")
    if problems:
        raise FileFormatError(f"{target} cannot be used: " + "; ".join(problems) + ".")
    return Document(header["kind"], header["method"], header["parameters"], tensors, header["source"])


def expect_tensors(
    document: Document, path: str | os.PathLike[str], shapes: Mapping[str, tuple[int | str, ...]]
) -> dict[str, int]:
    """Check that a document's tensors have the expected shapes, and report every problem at once.

    Parameters
    ----------
    document : Document
    path : path-like
        For the message.
    shapes : mapping of str to tuple
        Integers are exact sizes; a string names a size that must agree wherever it stands, e.g. ``("k", "d")``.

    Returns
    -------
    dict of str to int
        The size behind every name.

    Raises
    ------
    FileFormatError
    """
    problems: list[str] = []
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        tensor = document.tensors.get(name)
        if tensor is None:
            problems.append(f"tensor {name!r} is missing")
            continue
        if tensor.ndim != len(shape):
            problems.append(f"tensor {name!r} has shape {tensor.shape}, expected {len(shape)} dimensions")
            continue
        for expected, actual in zip(shape, tensor.shape, strict=True):
            wanted = sizes.setdefault(expected, actual) if isinstance(expected, str) else expected
            if wanted != actual:
                problems.append(f"tensor {name!r} has shape {tensor.shape}, expected {expected}={wanted}")
    if problems:
        raise FileFormatError(f"{os.fspath(path)} cannot be used: " + "; ".join(problems) + ".")
    return sizes
