"""The tour's tables for a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from isomix.demo.tour import GroupResult, Tour

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["render"]


def render(tour: Tour) -> Iterator[RenderableType]:
    """Headings, tables and notes, in the order to print them; good at 80 columns."""
    for group in tour.groups:
        classes = f" in {group.classes} classes" if group.classes else ""
        yield f"[bold]{group.name}[/]: {group.pictures} pictures{classes}; {_plain(group.note)}"
    if any(group.retrieval for group in tour.groups):
        yield "\n[bold]Retrieval[/]: each picture searches all others of its group; relevant is the same class."
        yield _retrieval(tour.groups)
        yield (
            "[dim]In percent. Gain: mAP over plain, with its 95 % bootstrap interval over classes."
            f"{_band_note(tour)} Text PCA: directions of everyday nouns. Smoothed: "
            "every picture of the gallery averaged with its nearest, never with the query; expanded: the query, too. These two use "
            "the whole gallery, without labels; the others look at one picture at a time.[/]"
        )
    if any(group.few_shot for group in tour.groups):
        yield "\n[bold]Few-shot classification[/]: a few pictures of each class and its name; all others are classified."
        yield _few_shot(tour)
        yield (
            f"[dim]Accuracy in percent, mean ± standard deviation of {tour.settings['draws']} draws. Weights come from "
            "the shots alone (leave-one-out; at one shot a rule). LDA needs two shots.[/]"
        )
    for reason in tour.skipped:
        yield f"[yellow]skipped[/] {_plain(reason)}"
    if tour.unreadable:
        yield f"[yellow]{tour.unreadable} file(s) could not be read[/]; the reasons are in the ledger beside the table."
    yield "\n[bold]Written[/]"
    for what, path in tour.files.items():
        yield f"  {what:<24}{_plain(path)}"
    if tour.settings["images"] is None:
        table = next(path for what, path in tour.files.items() if what.startswith("table of"))
        yield f"\n[bold]Next[/]: isomix search {_plain(shlex.quote(table))} 'a heart'"


def _retrieval(groups: list[GroupResult]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("mAP", "gain", "interval", "recall@1"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        if not group.retrieval:
            continue
        _heading(table, group, columns=5)
        best = max(row.mean_average_precision for row in group.retrieval)
        for number, row in enumerate(group.retrieval):
            low, high = row.gain_interval
            gain = ("", "") if number == 0 else (f"{100 * row.gain:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}")
            mean = _emphasised(f"{100 * row.mean_average_precision:.1f}", row.mean_average_precision == best)
            table.add_row(f"  {row.method}", mean, *gain, f"{100 * row.recall_at_1:.1f}")
    return table


def _few_shot(tour: Tour) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shots = sorted({row.shots for group in tour.groups for row in group.few_shot})
    table.add_column("")
    for k in shots:
        table.add_column(f"{k} shot{'s' if k > 1 else ''}", justify="right", no_wrap=True)
    for group in tour.groups:
        if not group.few_shot:
            continue
        _heading(table, group, columns=1 + len(shots))
        found = {(row.method, row.shots): row for row in group.few_shot}
        best = {
            k: max(row.mean for row in group.few_shot if row.shots == k) for k in {row.shots for row in group.few_shot}
        }
        for method in dict.fromkeys(row.method for row in group.few_shot):
            cells = []
            for k in shots:
                row = found.get((method, k))
                text = f"{100 * row.mean:.1f} ± {100 * row.standard_deviation:.1f}" if row else "-"
                cells.append(_emphasised(text, row is not None and row.mean == best[k]))
            table.add_row(f"  {method}", *cells)
    return table


def _heading(table: Table, group: GroupResult, columns: int) -> None:
    if table.row_count:
        table.add_row(*[""] * columns)
    table.add_row(group.name, *[""] * (columns - 1))


def _band_note(tour: Tour) -> str:
    band = tour.settings["band"]
    origin = {"preset": "preset, chosen on other data", "given": "given"}.get(band["chosen_by"], "")
    origin = origin or f"no preset, so the automatic band ({_plain(band['why'])})"
    name = f"IsoCLIP ({band['k_top']}, {band['k_bottom']})"
    return f" {name}: singular directions cut at the top and bottom of {band['of']}; {origin}."


def _emphasised(text: str, best: bool) -> str:
    return f"[bold]{text}[/]" if best else text


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
