"""Optional packages: imported where they are used, with an error that names the extra."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

from isomix.errors import MissingExtraError

__all__ = ["first_line", "keep_private", "require", "require_open_clip"]

PRIVATE = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime: read when it is imported; later it has made a device id already
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, sentence-transformers
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",  # where else Ray would report that its statistics are off
    "DO_NOT_TRACK": "1",
}
"""What keeps the packages that isomix imports from reporting its use; a value that the user has set stays."""


def keep_private() -> None:
    """Switch off the telemetry of optional packages; they read the environment when they are imported."""
    for name, value in PRIVATE.items():
        os.environ.setdefault(name, value)


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, or say which extra brings it.

    Parameters
    ----------
    module : str
        Dotted module name, e.g. ``"onnxruntime"``.
    extra : str
        The extra of isomix that installs it, e.g. ``"app"``.
    purpose : str
        What needs it; the subject of the error message.

    Raises
    ------
    MissingExtraError
        The module, or something it imports, is not installed.
    """
    keep_private()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs the package {module.partition('.')[0]!r}, which cannot be imported ({error}). "
            f"Install it with: pip install 'isomix[{extra}]'"
        ) from error


def require_open_clip(purpose: str) -> Any:
    """The package open_clip.

    Raises
    ------
    MissingExtraError
        It is not installed, or the torchvision beside it does not belong to this torch.
    """
    try:
        return require("open_clip", "openclip", purpose)
    except (MissingExtraError, RuntimeError, AttributeError) as error:
        if "torchvision" not in str(error):
            raise
        raise MissingExtraError(
            f"open_clip cannot be imported: {first_line(error)}. The torchvision that is installed was built for "
            "another torch (PyPI's needs CUDA, even beside a torch for the CPU), or there is none. Install both in one "
            "command and from one place, for example: pip install --force-reinstall torch torchvision --index-url "
            "https://download.pytorch.org/whl/cpu. An 'hf:' encoder needs no torchvision."
        ) from error


def first_line(error: BaseException) -> str:
    """The start of an error's message, short enough to stand within another."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
