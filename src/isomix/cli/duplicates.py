"""``isomix duplicates``: near-duplicates, and leaks between splits or two tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix.store.duplicates import DuplicateReport

SHOWN_GROUPS, SHOWN_MEMBERS = 10, 6
PAGE_GROUPS = 500


def command(
    source: Annotated[Path, typer.Argument(help="Table, or stored embeddings of any layout.")],
    other: Annotated[
        Path | None, typer.Argument(help="Compare with these instead: what of one stands in the other.")
    ] = None,
    threshold: options.NearCosine = 0.97,
    column: options.Vectors = None,
    output: options.ReportOutput = None,
    as_json: options.AsJson = False,
    overwrite: options.Overwrite = False,
) -> None:
    """List near-duplicate pictures; nothing is ever deleted.

    Within one table: groups, each around the picture that most others resemble, and pairs that stand in different splits.
    """
    from isomix.cli.common import check_output, fail_usage, log, print_report
    from isomix.store.duplicates import find_duplicates

    check_output(output, overwrite=overwrite)
    if output is not None and output.suffix not in (".csv", ".json", ".html"):
        fail_usage(f"{output}: expected a name that ends in .csv, .json or .html.")
    report = find_duplicates(source, other, column=column, threshold=threshold)
    if output is not None:
        _write(report, output)
    print_report(report.to_dict(), summary(report), as_json=as_json)
    if output is not None and not as_json:
        log.print(f"written: {output}", markup=False, soft_wrap=True)


def summary(report: DuplicateReport) -> list[str]:
    """What was found, as lines of text: the counts, and the largest groups and closest leaks."""
    from isomix.cli.common import visible

    near = f"a cosine of {report.threshold:g} or more"
    if report.other:
        lines = [
            f"{len(report.leaks):,} pairs of {report.source} ({report.rows:,} rows) and {report.other} "
            f"({report.other_rows:,} rows) with {near}, {_same(report)}"
        ]
    else:
        lines = [
            f"{report.source}: {len(report.groups):,} groups in {report.rows:,} rows with {near}; {report.spare:,} rows beyond "
            "the first of each"
        ]
    for number, group in enumerate(report.groups[:SHOWN_GROUPS], 1):
        lines.append(f"  group {number}, {len(group)} rows")
        for place, member in enumerate(group[:SHOWN_MEMBERS]):
            how = "" if place == 0 else f"  {'same file' if member.same_bytes else format(member.cosine, '.4f')}"
            lines.append(f"    {visible(member.name)}{how}")
        if len(group) > SHOWN_MEMBERS:
            lines.append(f"    and {len(group) - SHOWN_MEMBERS:,} more")
    lines += _more("groups", len(report.groups))
    if report.leaks and not report.other:
        lines.append(f"  {len(report.leaks):,} pairs between splits, {_same(report)}")
    for leak in report.leaks[:SHOWN_GROUPS]:
        how = "same file" if leak.same_bytes else format(leak.cosine, ".4f")
        sides = [
            visible(f"{name}{f' ({split})' if split else ''}")
            for name, split in ((leak.left_name, leak.left_split), (leak.right_name, leak.right_split))
        ]
        lines.append(f"    {sides[0]}  {sides[1]}  {how}")
    return lines + _more("pairs", len(report.leaks))


def _same(report: DuplicateReport) -> str:
    same = sum(leak.same_bytes for leak in report.leaks)
    return f"{same:,} of them the same file byte for byte"


def _more(what: str, count: int) -> list[str]:
    left = count - SHOWN_GROUPS
    return [f"  and {left:,} more {what}; all of them: --json, or -o with .csv or .html"] if left > 0 else []


def _write(report: DuplicateReport, path: Path) -> None:
    from isomix._files import writing

    with writing(path) as temporary:
        if path.suffix == ".json":
            temporary.write_text(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        elif path.suffix == ".csv":
            temporary.write_text(_csv(report), encoding="utf-8", newline="")
        else:
            temporary.write_text(page(report), encoding="utf-8")


def _csv(report: DuplicateReport) -> str:
    """Groups, a member a line, or the pairs of two sources; pairs between splits of one are two lines of a group."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "group", "row", "name", "split", "cosine", "same_bytes"])
    for number, group in enumerate(report.groups, 1):
        for member in group:
            writer.writerow(
                ["group", number, member.row, member.name, member.split or "", member.cosine, int(member.same_bytes)]
            )
    for number, leak in enumerate(report.leaks, 1):
        sides: tuple[tuple[Any, ...], ...] = (
            (leak.left, leak.left_name, leak.left_split),
            (leak.right, leak.right_name, leak.right_split),
        )
        for row, name, split in sides:
            writer.writerow(["leak", number, row, name, split or "", leak.cosine, int(leak.same_bytes)])
    return text.getvalue()


def page(report: DuplicateReport) -> str:
    """One page of HTML with the pictures inside: groups, then leaks; how many more there are is said."""
    from isomix.plotting.notebook import html_page, show

    root, other = Path(report.root), Path(report.other_root or report.root)
    lines: dict[str, list[tuple[Path, str]]] = {}
    for number, group in enumerate(report.groups[:PAGE_GROUPS], 1):
        captions = [
            f"{member.name}\n{'' if place == 0 else 'same file' if member.same_bytes else f'{member.cosine:.4f}'}"
            for place, member in enumerate(group)
        ]
        lines[f"group {number} · {len(group)} pictures"] = list(
            zip([root / member.name for member in group], captions, strict=True)
        )
    for number, leak in enumerate(report.leaks[:PAGE_GROUPS], 1):
        how = "same file" if leak.same_bytes else f"{leak.cosine:.4f}"
        captions = [f"{name}\n{split or ''}" for name, split in zip(*_sides(leak), strict=True)]
        lines[f"pair {number} · {how}"] = list(
            zip((root / leak.left_name, other / leak.right_name), captions, strict=True)
        )
    head = summary(report)[0]
    hidden = max(0, len(report.groups) - PAGE_GROUPS) + max(0, len(report.leaks) - PAGE_GROUPS)
    note = f"{head}. {f'{hidden:,} more are not on this page; --json and .csv have them.' if hidden else ''}"
    return html_page("Near-duplicates", note, show(lines) if lines else None)


def _sides(leak: Any) -> tuple[tuple[str, str], tuple[str | None, str | None]]:
    return (leak.left_name, leak.right_name), (leak.left_split, leak.right_split)
