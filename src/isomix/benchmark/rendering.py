"""A table before it has a format, and its formats: markdown, CSV, HTML and LaTeX."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isomix.errors import InputError

__all__ = ["FORMATS", "Row", "Table", "render"]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    label : str
    cells : tuple of str
    best : tuple of bool
        Which cells hold the largest figure of their column.
    kind : {"ours", "published", "difference"}
    """

    label: str
    cells: tuple[str, ...]
    best: tuple[bool, ...]
    kind: str = "ours"


@dataclass(frozen=True)
class Table:
    """A table before it has a format.

    Attributes
    ----------
    title : str
    columns : tuple of str
        Without that of the methods.
    rows : tuple of Row
    note : str
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str


def render(tables: Sequence[Table], form: str) -> str:
    """Tables as text.

    Parameters
    ----------
    tables : sequence of Table
    form : {"markdown", "csv", "html", "latex"}

    Raises
    ------
    InputError
        Another format.
    """
    if form not in FORMATS:
        raise InputError(f"format: got {form!r}, expected one of {', '.join(FORMATS)}.")
    return FORMATS[form](tables)


def _markdown(tables: Sequence[Table]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    parts = []
    for table in tables:
        lines = [
            f"### {table.title}",
            "",
            line(("method", *table.columns)),
            line(("---", *["---:"] * len(table.columns))),
        ]
        for row in table.rows:
            cells = [f"**{cell}**" if best else cell for cell, best in zip(row.cells, row.best)]
            lines.append(line((row.label if row.kind == "ours" else f"*{row.kind}*", *cells)))
        parts.append("\n".join([*lines, "", table.note, ""]))
    return "\n".join(parts)


def _csv(tables: Sequence[Table]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("table", "method", "kind", "column", "value"))
    for table in tables:
        method = ""
        for row in table.rows:
            method = row.label if row.kind == "ours" else method
            writer.writerows((table.title, method, row.kind, c, v) for c, v in zip(table.columns, row.cells) if v)
    return stream.getvalue()


STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#1f2328;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.4rem 0}
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #d8dee4}
th:first-child,td:first-child{text-align:left}
thead th{border-bottom:2px solid #8c959f}.published td,.difference td{color:#59636e;border-bottom:0;font-size:.9em}
.best{font-weight:700}.note{color:#59636e;margin:.4rem 0 2.5rem}.scroll{overflow-x:auto}"""


def _html(tables: Sequence[Table]) -> str:
    parts = [f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>isomix eval</title><style>{STYLE}</style>']
    for table in tables:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in ("method", *table.columns))
        parts.append(f'<div class="scroll"><table><caption>{html.escape(table.title)}</caption>')
        parts.append(f"<thead><tr>{head}</tr></thead><tbody>")
        for row in table.rows:
            cells = "".join(
                f'<td class="best">{html.escape(cell)}</td>' if best else f"<td>{html.escape(cell)}</td>"
                for cell, best in zip(row.cells, row.best)
            )
            parts.append(f'<tr class="{row.kind}"><td>{html.escape(row.label)}</td>{cells}</tr>')
        parts.append(f'</tbody></table></div><p class="note">{html.escape(table.note)}</p>')
    return "\n".join([*parts, "</html>", ""])


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
LATEX |= {c: f"\\{c}" for c in "&%$#_{}"}


def _latex(tables: Sequence[Table]) -> str:
    def text(cell: str) -> str:
        return "".join(LATEX.get(character, character) for character in cell)

    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        parts += [
            "\\begin{table}\n\\centering",
            f"\\caption{{{text(table.title)}. {text(table.note)}}}",
            f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}\n\\toprule",
            " & ".join(map(text, ("method", *table.columns))) + r" \\" + "\n\\midrule",
        ]
        for row in table.rows:
            cells = [f"\\textbf{{{text(cell)}}}" if best else text(cell) for cell, best in zip(row.cells, row.best)]
            label = text(row.label) if row.kind == "ours" else f"\\quad\\textit{{{row.kind}}}"
            parts.append(" & ".join((label, *cells)) + r" \\")
        parts.append("\\bottomrule\n\\end{tabular}\n\\end{table}\n")
    return "\n".join(parts)


FORMATS = {"markdown": _markdown, "csv": _csv, "html": _html, "latex": _latex}
"""Format → function of the tables."""
