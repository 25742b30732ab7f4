"""Evaluations become tables and figures, on the page and on the screen."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isomix.errors import InputError
from training.files import write_text
from training.report.gate import cells, failing, gate
from training.report.tables import tables

__all__ = ["fill", "read", "report"]

Run = dict[str, Any]
BEGIN, END = "<!-- begin {} -->", "<!-- end {} -->"


def report(names: Sequence[str], baseline: str, output: Path, page: Path | None, figures: Path | None) -> str:
    """All tables and the verdict of the gate, as Markdown.

    Parameters
    ----------
    names : sequence of str
        Evaluated runs; with none, the tables are about the baseline alone and there is no gate.
    baseline : str
    output : Path
        Holds ``evaluation``.
    page : Path or None
        Gets the tables between its markers.
    figures : Path or None
        Gets the figures of the first run, or of the baseline without one.
    """
    first, *runs = read(output / "evaluation", [baseline, *names])
    judged = cells(runs, first) if runs else []
    made = tables(runs, first) | {"gate": gate(judged) if runs else "Nothing to judge: only the baseline."}
    if figures is not None:
        from training.report.figures import draw_figures

        draw_figures([*runs, first][0], figures)
    if page is not None:
        write_text(page, fill(page.read_text(encoding="utf-8"), made))
    if runs:
        made["failing cells"] = failing(judged)  # for the screen: the list is long
    return "\n\n".join(f"### {name}\n\n{content}" for name, content in made.items()) + "\n"


def read(folder: Path, names: Sequence[str]) -> list[Run]:
    """Read evaluations and refuse those of different data.

    Raises
    ------
    InputError
    """
    runs = []
    for name in names:
        path = folder / f"{name}.json"
        if not path.is_file():
            raise InputError(f"{path} is not there. Run: python -m training evaluate {name}.")
        runs.append(json.loads(path.read_text(encoding="utf-8")))
    for key in ("index_sha256", "settings"):
        if any(run[key] != runs[0][key] for run in runs):
            raise InputError(
                f"{key} differs between the evaluations of {', '.join(names)}, so their figures cannot stand in one table. "
                "Evaluate them again on one data set with one configuration."
            )
    return runs


def fill(page: str, contents: dict[str, str]) -> str:
    """Put tables between their markers ``<!-- begin name -->`` and ``<!-- end name -->``.

    Raises
    ------
    InputError
        A marker is missing.

    Examples
    --------
    >>> fill("a <!-- begin t -->old<!-- end t --> b", {"t": "new"}).split()
    ['a', '<!--', 'begin', 't', '-->', 'new', '<!--', 'end', 't', '-->', 'b']
    """
    for name, content in contents.items():
        begin, end = BEGIN.format(name), END.format(name)
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(page):
            raise InputError(f"the page has no markers {begin} … {end} for the table {name!r}. Put them in.")
        page = pattern.sub(lambda found: f"{begin}\n{content.strip()}\n{end}", page)  # noqa: B023
    return page
