"""A classifier in words, for ``isomix fit`` and ``isomix inspect``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from rich.cells import cell_len, set_cell_size

__all__ = ["classifier_lines", "counted", "folded", "names_of", "pictures_each"]

SHOWN_CLASSES = 10
LABEL_WIDTH = 28
LEGEND = (
    "How far the name and the mean picture of a class are from what it looks like (estimated, squared), and the weight of the "
    "picture that mixes the two best; first the classes whose name says least:"
)


def counted(n: float, what: str) -> str:
    """A number and its noun.

    Examples
    --------
    >>> counted(1, "picture"), counted(3, "class")
    ('1 picture', '3 classes')
    """
    plural = "" if n == 1 else "es" if what.endswith("s") else "s"
    return f"{n:,.10g} {what}{plural}"


def names_of(labels: Iterable[Any], shown: int = 5) -> str:
    """The first labels, and how many more there are."""
    names = [str(label) for label in labels]
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def pictures_each(counts: Iterable[float]) -> str:
    """How many pictures the classes have that have any."""
    some = [count for count in counts if count > 0]
    low, high = min(some), max(some)
    each = counted(low, "picture") if low == high else f"{low:g} to {high:g} pictures"
    return f"{counted(len(some), 'class')}, {each} each, {sum(some):g} in all"


def folded(line: str, width: int, indent: str = "  ") -> list[str]:
    """A line in pieces of a width, the later ones indented; words stay whole."""
    return textwrap.wrap(
        line, width, initial_indent="", subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def classifier_lines(found: Mapping[str, Any], width: int) -> list[str]:
    """What ``inspect_path`` found in a classifier."""
    classes, source = found["classes"], found["source"] or {}
    empty = [label for label, count in classes.items() if not count]
    templates = source.get("templates") or []
    told = {
        "fitted on": pictures_each(classes.values()),
        "by name alone": names_of(empty) if empty else None,
        "without text": names_of(found["without_text"]) if found["without_text"] else None,
        "weights": f"{found['weight_tier']}: "
        + ", ".join(f"{name} {value:.3g}" for name, value in found["weights"].items())
        if found["weights"]
        else "none to choose",
        "temperature": f"{found['temperature']:.3g}" + ("" if found["temperature"] != 1 else ", not calibrated"),
        "logit scale": None if found["logit_scale"] is None else f"{found['logit_scale']:.4g}",
        "model": " ".join(filter(None, (source.get("model"), str(source.get("fingerprint", ""))[:12]))) or None,
        "templates": "; ".join(templates) or None,
        "shots": source.get("shots"),
        "isomix": found["isomix_version"],
    }
    lines = []
    for name, value in told.items():
        if value:
            lines += folded(f"  {name:<13}  {value}", width, " " * 17)
    return [*lines, "", *_shrinkage_lines(found, width)]


def _shrinkage_lines(found: Mapping[str, Any], width: int) -> list[str]:
    from isomix.cli.common import visible

    report = found["shrinkage"]
    if report is None:
        return folded(f"names and pictures of the classes cannot be compared: {_why_not(found)}", width, "")
    rows = report["classes"]
    shown = rows[:SHOWN_CLASSES]
    labels = [visible(str(row["label"])) for row in shown]
    column = min(max(cell_len(name) for name in ("all", "class", *labels)), LABEL_WIDTH)

    def line(name: str, *cells: str) -> str:
        return "  " + set_cell_size(name, column) + "".join(f"{cell:>14}" for cell in cells)

    lines = [
        *folded(LEGEND, width, ""),
        line("class", "pictures", "name", "mean picture", "weight"),
    ]
    for label, row in zip(labels, shown, strict=True):
        errors = (f"{row[key]:.3f}" for key in ("text_bias_squared", "image_variance"))
        lines.append(line(label, f"{row['shots']:g}", *errors, f"{row['implied_weight']:.2f}"))
    if len(rows) > len(shown):
        lines.append(f"  and {counted(len(rows) - len(shown), 'class')} more, all of them with --json")
    chosen = report["chosen_weight"]
    end = "" if chosen is None else f" The classifier uses {chosen:.2f}, which serves its decisions, not this distance."
    return [*lines, *folded(f"One weight for all classes would be {report['pooled_weight']:.2f}.{end}", width, "")]


def _why_not(found: Mapping[str, Any]) -> str:
    if len(found["without_text"]) == len(found["classes"]):
        return "it was fitted on pictures alone."
    if max(found["classes"].values()) <= 1:
        return "with one picture a class it is unknown how much they differ."
    return str(found["why_no_shrinkage"])
