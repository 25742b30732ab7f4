"""``isomix inspect``: what a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from isomix.cli import options


def command(
    path: Annotated[
        Path, typer.Argument(help="Table, space, classifier, model, embeddings, picture, or a folder of such.")
    ],
    as_json: options.AsJson = False,
) -> None:
    """Say what a file or folder is, and what made it.

    Of a classifier also what the names and the pictures of its classes are worth as estimates of what a class looks like.
    """
    from isomix.cli.classifier_report import classifier_lines
    from isomix.cli.common import out, print_json, visible
    from isomix.store.inspect import inspect_path

    found = inspect_path(path)
    if as_json:
        print_json({"path": str(path), **found})
        return
    if found["what"] == "classifier":
        for line in (f"{path}: classifier, {found['method']}", *classifier_lines(found, out.width)):
            out.print(line, markup=False, soft_wrap=True)
        return
    out.print(f"{path}: {found.pop('what')}", markup=False, soft_wrap=True)
    failures = found.pop("failures", {})
    for line in _lines(found, "  "):
        out.print(line, markup=False, soft_wrap=True)
    if "ledger" not in found:  # of a table its ledger names them
        for name, reason in failures.items():
            out.print(f"  {visible(name)}: {reason}", markup=False, soft_wrap=True)


def _lines(values: dict[str, Any], indent: str) -> list[str]:
    """Names and values in two columns; what is not there is left out."""
    shown = {name: value for name, value in values.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    lines = []
    for name, value in shown.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<{width}}  {_text(name, value)}")
    return lines


def _text(name: str, value: Any) -> str:
    if isinstance(value, list):
        is_shape = all(isinstance(item, int) for item in value)
        return " x ".join(map(str, value)) if is_shape else ", ".join(map(str, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)[:12] if name in ("fingerprint", "projectors") else str(value)
