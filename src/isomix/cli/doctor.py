"""``isomix doctor``: what is wrong with this installation, and the cure."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import typer

from isomix._extras import keep_private
from isomix.cli import options

Status = Literal["ok", "missing", "broken"]
EXTRAS = {
    "app": ("lance", "pyarrow", "onnxruntime", "tokenizers", "PIL", "typer", "rich"),
    "hf": ("torch", "transformers"),
    "faiss": ("faiss",),
    "plot": ("matplotlib",),
    "heif": ("pillow_heif",),
    "postgresql": ("psycopg",),
    "qdrant": ("qdrant_client",),
}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "lance": "pylance",
    "pillow_heif": "pillow-heif",
    "qdrant_client": "qdrant-client",
    "sklearn": "scikit-learn",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``cure`` is empty when nothing is to be done."""

    what: str
    status: Status
    detail: str
    cure: str = ""


def command(as_json: options.AsJson = False) -> None:
    """Check this installation. Exit code 1 when something is broken; missing extras are not."""
    from rich.table import Table

    from isomix.cli.common import ExitCode, out, print_json, visible

    findings = list(examine())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("what", "status", "detail"):
            table.add_column(heading, overflow="fold")
        colours = {"ok": "green", "missing": "yellow", "broken": "red"}
        for finding in findings:
            detail = finding.detail + (f"\n→ {finding.cure}" if finding.cure else "")
            detail = visible(detail, lines=True).replace("[", "\\[")
            table.add_row(finding.what, f"[{colours[finding.status]}]{finding.status}[/]", detail)
        out.print(table)
    if any(finding.status == "broken" for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def examine() -> Iterator[Finding]:
    """Every finding, in the order of the report."""
    from isomix import __version__
    from isomix.projectors.model_spec import SHORT_NAMES

    yield Finding("isomix", "ok", f"{__version__}, Python {platform.python_version()}, {platform.machine()}")
    yield Finding("machine", "ok", f"{os.cpu_count()} cores, {_memory()}")
    for module in ("numpy", "scipy", "sklearn", "safetensors"):
        yield _package(module, "base")
    for extra, modules in EXTRAS.items():
        for module in modules:
            yield _package(module, extra)
    yield from _torchvision()
    yield Finding("short names", "ok", "\n".join(f"{short:<15}{full}" for short, full in SHORT_NAMES.items()))
    yield _attempt("embedded model", _encode_once, "Install it again: pip install --force-reinstall 'isomix[app]'")


def _package(module: str, extra: str) -> Finding:
    name = DISTRIBUTIONS.get(module, module)
    install = f"pip install 'isomix[{extra}]'" if extra != "base" else "pip install isomix"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing" if extra != "base" else "broken", f"not installed (extra {extra})", install)
    keep_private()
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever a broken package raises is the finding
        return Finding(name, "broken", f"{version}: {_one_line(error)}", f"pip install --force-reinstall {name}")
    return Finding(name, "ok", f"{version} (extra {extra})" if extra != "base" else version)


def _torchvision() -> Iterator[Finding]:
    """A torchvision built for another torch takes open_clip, timm and transformers' CLIP down with it."""
    try:
        version = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        cure = (
            "isomix does not need it: pip uninstall torchvision. If another package does, install the torchvision "
            "that was built for your torch."
        )
        yield Finding("torchvision", "broken", f"{version}: {_one_line(error)}", cure)
    else:
        yield Finding("torchvision", "ok", version)


def _attempt(what: str, action: Callable[[], str], cure: str) -> Finding:
    from isomix.errors import IsomixError, MissingExtraError

    try:
        return Finding(what, "ok", action())
    except MissingExtraError as error:
        return Finding(what, "missing", _one_line(error))
    except (IsomixError, OSError, RuntimeError, ValueError) as error:
        return Finding(what, "broken", _one_line(error), cure)


def _encode_once() -> str:
    import numpy as np

    from isomix.encoders import load_encoder

    encoder = load_encoder("embedded")
    encoded = encoder.encode_image([np.zeros((64, 64, 3), np.uint8)], show_progress_bar=False)
    encoder.encode_text(["a red bus"], show_progress_bar=False)
    return f"encodes pictures and text, {encoded.embeddings.shape[1]} numbers each"


def _memory() -> str:
    if not hasattr(os, "sysconf") or sys.platform == "darwin":
        return "memory unknown"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB memory"


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
