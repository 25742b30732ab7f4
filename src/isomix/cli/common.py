"""What every verb shares: consoles, exit codes, errors without tracebacks."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console

__all__ = ["ExitCode", "check_output", "fail_usage", "log", "out", "print_json", "report_failures", "weights_line"]

out = Console(soft_wrap=False, highlight=False)
log = Console(stderr=True, highlight=False)


class ExitCode(enum.IntEnum):
    """Exit codes of every verb."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SKIPPED_FILES = 3
    INTERRUPTED = 130


def print_json(value: Any) -> None:
    """One JSON document on stdout, with nothing around it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def fail_usage(message: str) -> NoReturn:
    """Stop with exit code 2: the call's words are off."""
    raise typer.BadParameter(message)


def check_output(path: Path | None, *, overwrite: bool) -> None:
    """Stop with exit code 2, before any work, when a file cannot be written or would replace another one."""
    from isomix._files import check_target
    from isomix.errors import InputError

    if path is not None:
        try:
            check_target(path, overwrite=overwrite)
        except InputError as error:
            fail_usage(str(error))


def report_failures(failures: Mapping[str, str], shown: int = 5) -> bool:
    """Name the files that could not be read on stderr; True when there are any."""
    for path, reason in list(failures.items())[:shown]:
        log.print(f"skipped {path}: {reason}", style="yellow", markup=False, soft_wrap=True)
    if len(failures) > shown:
        log.print(f"skipped {len(failures) - shown} more", style="yellow")
    return bool(failures)


def weights_line(tier: str, weights: Mapping[str, float]) -> str:
    """What a classifier chose, and by what."""
    if not weights:
        return "weights: none to choose"
    return f"weights ({tier}): " + ", ".join(f"{name} {value:.3g}" for name, value in weights.items())
