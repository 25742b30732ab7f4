"""Parts of pages that are written from the code when the site is built, so that they cannot be out of date.

A page holds a line such as ``<!-- from the code: command line -->``, which is replaced by Markdown.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import typer
from sphinx.application import Sphinx

import isomix.errors
from isomix.cli import app as command_line
from isomix.cli.common import ExitCode

MARK = re.compile(r"<!-- from the code: ([a-z ]+) -->")


def commands() -> str:
    """A section a verb: what it does, its usage, its arguments and options."""
    if not command_line.app.registered_commands:
        command_line._register()
    group: Any = typer.main.get_command(command_line.app)
    return "\n".join(_command(group.commands[verb], f"isomix {verb}", 2) for verb in command_line.VERBS)


def _command(command: Any, name: str, level: int) -> str:
    lines = [f"{'#' * level} {name}", "", _prose(command.help or ""), ""]
    if hasattr(command, "commands"):
        lines += [_command(inner, f"{name} {verb}", level + 1) for verb, inner in command.commands.items()]
        return "\n".join(lines)
    context = command.make_context(name, [], resilient_parsing=True)
    lines += ["```text", " ".join([name, *command.collect_usage_pieces(context)]), "```", ""]
    for parameter in command.get_params(context):
        names, text = parameter.get_help_record(context)
        if "--help" not in parameter.opts:
            lines += [f"`{names}`", f": {_prose(text)}", ""]
    return "\n".join(lines)


def _prose(text: str) -> str:
    """Help text as Markdown: examples stay as they are, angle brackets and stars are no markup."""
    text = inspect.cleandoc(text).replace("\b\n", "")
    for mark in ("<", "*", "_", "|", "[", "]", "$"):
        text = text.replace(mark, "\\" + mark)
    return text


def exit_codes() -> str:
    """The exit codes of the command line."""
    rows = [f"| {code.value} | {code.name.lower().replace('_', ' ')} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "| --- | --- |", *rows])


def errors() -> str:
    """A section an exception, those that derive from it behind their base."""
    tree = []

    def walk(cls: type, depth: int) -> None:
        tree.append(("  " * depth) + f"- [{cls.__name__}](#{cls.__name__.lower()})")
        for inner in sorted((c for c in known if cls in c.__bases__), key=lambda c: c.__name__):
            walk(inner, depth + 1)

    known = [getattr(isomix.errors, name) for name in isomix.errors.__all__]
    walk(isomix.errors.IsomixError, 0)
    sections = []
    for cls in known:
        others = [base for base in cls.__bases__ if base.__module__ != "isomix.errors"]
        also = " and ".join(f"`{base.__name__}`" for base in others if base is not Exception)
        sections += [f"## {cls.__name__}", "", inspect.cleandoc(cls.__doc__ or ""), ""]
        if also:
            sections += [f"Can also be caught as {also}.", ""]
    return "\n".join([*tree, "", *sections])


PARTS: dict[str, Callable[[], str]] = {"command line": commands, "exit codes": exit_codes, "errors": errors}


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda mark: PARTS[mark[1]](), source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the replacement."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
