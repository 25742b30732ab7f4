"""What every verb shares: consoles, streams, exit codes, and text that is safe to show."""

from __future__ import annotations

import enum
import io
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console

__all__ = [
    "ExitCode",
    "advise_on_photographs",
    "check_output",
    "fail_usage",
    "log",
    "open_streams",
    "out",
    "print_json",
    "print_report",
    "report_failures",
    "to_json",
    "visible",
    "weights_line",
]

# Control characters, which a terminal obeys; marks that reverse what stands beside them; halves of surrogate pairs,
# which stand for bytes that are no UTF-8.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

SHOWN_FAILURES = 5
LOOKED_AT = 5
PHOTOGRAPHIC = "hf:openai/clip-vit-base-patch32"


class ExitCode(enum.IntEnum):
    """Exit codes of every verb."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SKIPPED_FILES = 3
    INTERRUPTED = 130


def visible(text: str, *, lines: bool = False) -> str:
    r"""Text of a stranger, such as a file name, as a terminal may show it: what it would obey is written out.

    Parameters
    ----------
    text : str
    lines : bool
        Keep line ends, for text that is ours and only quotes strangers.

    Examples
    --------
    >>> print(visible("\x1b[2Jcat\n.png"))
    \x1b[2Jcat\n.png
    """
    shown = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return shown if lines else shown.replace("\n", "\\n")


class _Console(Console):
    """A console whose strings are made visible; cells of tables and rich's own Text are not strings, and do it themselves."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(each, lines=True) if isinstance(each, str) else each for each in objects), **options)


out = _Console(soft_wrap=False, highlight=False)
log = _Console(stderr=True, highlight=False)


def open_streams() -> None:
    """Make standard output and error take any text.

    Files and pipes get UTF-8, whatever the locale, and file names that are no UTF-8 byte by byte; a terminal gets what
    its encoding has, and the rest as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON as it is written everywhere: letters of all languages as they are, what a terminal would obey as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json(value: Any) -> None:
    """One JSON document on stdout, with nothing around it."""
    sys.stdout.write(to_json(value, indent=2) + "\n")


def print_report(document: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """What a verb did, on stdout: as one JSON document, or as lines of text, which are not cut."""
    if as_json:
        print_json(document)
        return
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def fail_usage(message: str) -> NoReturn:
    """Stop with exit code 2: the call's words are off."""
    raise typer.BadParameter(message)


def advise_on_photographs(*sources: str) -> None:
    """Say it when nobody named a model, so that the embedded one would look at photographs."""
    from isomix.encoders.photographs import mostly_photographs
    from isomix.store.scan import first_pictures

    looked_at = [picture for source in sources for picture in first_pictures(source, LOOKED_AT)]
    if mostly_photographs(looked_at[:: max(1, len(looked_at) // LOOKED_AT)]):
        log.print(
            "note: these look like photographs, and the embedded model knows icons, emoji and clip art only. A model that "
            f"knows photographs: --model {PHOTOGRAPHIC} (pip install 'isomix[app,hf]')",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def check_output(path: Path | None, *, overwrite: bool) -> None:
    """Stop with exit code 2, before any work, when a file cannot be written or would replace another one."""
    from isomix._files import check_target
    from isomix.errors import InputError

    if path is not None:
        try:
            check_target(path, overwrite=overwrite)
        except InputError as error:
            fail_usage(str(error))


def report_failures(failures: Mapping[str, str], listed_by: str = "") -> bool:
    """Name the files that could not be read on stderr; True when there are any.

    All of them, unless the command ``listed_by`` lists them at any time.
    """
    shown = list(failures.items())[: SHOWN_FAILURES if listed_by else None]
    for path, reason in shown:
        log.print(f"skipped {visible(path)}: {reason}", style="yellow", markup=False, soft_wrap=True)
    if len(failures) > len(shown):
        log.print(
            f"skipped {len(failures) - len(shown)} more; all of them: {listed_by}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    return bool(failures)


def weights_line(tier: str, weights: Mapping[str, float]) -> str:
    """What a classifier chose, and by what."""
    if not weights:
        return "weights: none to choose"
    return f"weights ({tier}): " + ", ".join(f"{name} {value:.3g}" for name, value in weights.items())
