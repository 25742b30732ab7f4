"""Names and messages that may come from strangers, made fit to be shown, written to CSV, or sent."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["csv_cell", "file_stem", "printable", "without_paths"]

# Anchored where a path can begin, so that "150/50" and "and/or" stay; Lance names files without the leading slash.
_ABSOLUTE = re.compile(
    r"""(?<![\w.…/\\])(?:[A-Za-z]:[\\/]|\\\\|/|(?:[\w.-]+/){2})(?:[^\s'"<>|:;,()]*[\\/])*([^\s'"<>|:;,()\\/]*)"""
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def printable(text: str | None) -> str:
    r"""A name with every character that does not print (control, bidi override, lone surrogate) as a replacement character.

    Examples
    --------
    >>> printable("a\x1b[31mb") == "a\N{REPLACEMENT CHARACTER}[31mb"
    True
    """
    return "".join(
        c if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else "\N{REPLACEMENT CHARACTER}"
        for c in text or ""
    )


def csv_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: an apostrophe before what begins like one.

    Examples
    --------
    >>> csv_cell("=1+1")
    "'=1+1"
    """
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def file_stem(name: str) -> str:
    """A name for a file that is sent: letters, digits, dot, hyphen and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "isomix"


def without_paths(message: str) -> str:
    """A message in which absolute paths are cut down to their last part.

    Examples
    --------
    >>> without_paths("/home/ada/photos.lance could not be read: no such file")
    '…/photos.lance could not be read: no such file'
    >>> without_paths("not found: home/ada/photos.lance/data/1.lance")
    'not found: …/1.lance'
    >>> without_paths("hf:openai/clip-vit-base-patch32 with the band 150/50")
    'hf:openai/clip-vit-base-patch32 with the band 150/50'
    """
    return _ABSOLUTE.sub(lambda found: f"…/{found[1]}" if len(found[0]) > 1 else found[0], message)
