"""``isomix table``: rows that go or come, and versions of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix.store.changes import ChangeReport

app = typer.Typer(no_args_is_help=True, help="Change a table of pictures, look at its versions, go back to one.")

Table = Annotated[Path, typer.Argument(help="A table that `isomix embed` made.")]
Name = Annotated[str, typer.Argument(help="Letters, digits, '.', '_' and '-'.")]


@app.command("versions")
def versions_command(table: Table, as_json: options.AsJson = False) -> None:
    """List the versions that one can go back to.

    Those without a name go an hour after they were replaced, when the table is written next.
    """
    from isomix.cli.common import out, print_json
    from isomix.store.history import versions

    found = versions(table)
    if as_json:
        print_json([{**each._asdict(), "time": each.time.isoformat()} for each in found])
        return
    for each in found:
        names = f"  {', '.join(each.names)}" if each.names else ""
        out.print(f"{each.number:>6}  {each.time:%Y-%m-%d %H:%M:%S}  {each.rows:>11,} rows{names}", markup=False)


@app.command("keep")
def keep_command(
    table: Table,
    name: Name,
    version: options.VersionNumber = None,
    drop: options.DropName = False,
) -> None:
    """Give a version a name, and keep it."""
    from isomix.cli.common import fail_usage, out
    from isomix.store.history import drop_name, keep_version

    if drop:
        if version is not None:
            fail_usage("--drop takes a name away; leave --version out.")
        drop_name(table, name)
        out.print(f"{table}: {name} is no longer a version", markup=False, soft_wrap=True)
        return
    number = keep_version(table, name, version)
    out.print(f"{table}: version {number} is kept as {name}", markup=False, soft_wrap=True)


@app.command("restore")
def restore_command(
    table: Table, version: Annotated[str, typer.Argument(help="Number or name; see: isomix table versions")]
) -> None:
    """Go back to a version; the one of now stays among the versions."""
    from isomix.cli.common import out
    from isomix.store.history import restore_version

    found = restore_version(table, version)
    out.print(
        f"{table}: {found.count:,} rows, as in version {version} (now version {found.version})",
        markup=False,
        soft_wrap=True,
    )


@app.command("delete")
def delete_command(
    table: Table,
    rows: Annotated[list[str] | None, typer.Argument(help="Ids, or paths as a search prints them.")] = None,
    where: options.Where = None,
    as_json: options.AsJson = False,
) -> None:
    """Remove rows; the pictures themselves are never touched."""
    from isomix.cli.common import fail_usage
    from isomix.store.changes import delete_rows

    if bool(rows) == (where is not None):
        fail_usage("name the rows to remove, or say which with --where, and not both.")
    report = delete_rows(table, rows or (), where=where)
    _print(report, as_json)


@app.command("merge")
def merge_command(
    table: Table,
    others: Annotated[
        list[Path], typer.Argument(metavar="OTHER...", help="Other tables of the same model; they are only read.")
    ],
    as_json: options.AsJson = False,
) -> None:
    """Add the rows of other tables, in their order; a picture that has a row already keeps it.

    The table is made where there is none, e.g. of the parts that embed --shard wrote.
    Later runs of embed on the table's folder need --keep-vanished, or they remove rows that are not in it.
    """
    from isomix.store.changes import merge_tables

    _print(merge_tables(table, *others), as_json)


@app.command("compact")
def compact_command(table: Table) -> None:
    """Bring a table into few files, and drop versions without a name."""
    from isomix.cli.common import out
    from isomix.store.history import compact

    before, after = compact(table)
    out.print(f"{table}: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now", markup=False, soft_wrap=True)


def _print(report: ChangeReport, as_json: bool) -> None:
    from isomix.cli.common import print_report

    parts = [
        f"{count:,} {what}"
        for count, what in (
            (report.added, "added"),
            (report.removed, "removed"),
            (report.skipped, "there already"),
        )
        if count
    ]
    lines = [f"{report.table}: {report.rows:,} rows ({', '.join(parts) or 'nothing changed'})"]
    if report.dropped_columns:
        lines.append(
            f"  dropped   {', '.join(report.dropped_columns)}: they stood for other rows; isomix adapt {report.table} makes them "
            "again"
        )
    if report.added or report.removed:
        lines.append(
            f"  go back   isomix table restore {report.table} {report.version}  (for an hour, or as long as it is kept"
        )
        lines.append(f"            by a name: isomix table keep {report.table} NAME --version {report.version})")
    print_report(report.to_dict(), lines, as_json=as_json)
