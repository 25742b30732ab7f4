"""``isomix adapt`` of a database: into a table or collection beside the source, or into a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from isomix._arrays import Floats
    from isomix.spaces import Space
    from isomix.store import DatabaseReport

__all__ = ["adapt_in_database", "database_summary"]

SHOWN = 8


def adapt_in_database(
    url: str,
    output: str,
    fit: Callable[[Callable[[], Floats]], Space],
    *,
    table: str | None,
    column: str | None,
    key: str | None,
    dtype: str | None,
    skip_bad: bool,
    overwrite: bool,
    dry_run: bool,
    offline: bool,
    as_json: bool,
) -> None:
    """Do it, and print what was done; ``fit`` makes the space from rows of the source."""
    from isomix.cli.adapt import summary
    from isomix.cli.common import ExitCode, fail_usage, log, print_report
    from isomix.cli.progress import progress
    from isomix.store import adapt, adapt_database, open_database
    from isomix.store.formats import names_a_layout

    to_file = names_a_layout(Path(output))
    if to_file and dry_run:
        fail_usage("--dry-run is for a target in the database; a file is whole or not there.")
    try:
        with open_database(url, table=table, column=column, key=key) as source, progress("vectors") as update:
            space = fit(source.sample)
            if to_file:
                written = adapt(
                    source, output, space, dtype=dtype, skip_bad=skip_bad, overwrite=overwrite, progress=update
                )
                lines, document, skipped = summary(written), written.to_dict(), len(written.skipped_rows)
            else:
                report = adapt_database(
                    source,
                    output,
                    space,
                    dtype=dtype,
                    skip_bad=skip_bad,
                    overwrite=overwrite,
                    dry_run=dry_run,
                    offline=offline,
                    progress=update,
                )
                lines, document, skipped = database_summary(report), report.to_dict(), len(report.skipped)
    except KeyboardInterrupt:
        kept = "nothing was written" if to_file else "what is written stays, and the same command goes on from there"
        log.print(f"interrupted; {kept}", style="yellow")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    print_report(document, lines, as_json=as_json)
    if skipped:
        raise typer.Exit(ExitCode.SKIPPED_FILES)


def database_summary(report: DatabaseReport) -> list[str]:
    """What was adapted or would be, as lines of text."""
    if report.dry_run:
        lines = [f"would write {report.target}; nothing was written"]
    else:
        lines = [f"{report.target}: {report.added:,} vectors written  ({report.seconds:.1f} s)"]
    already = f", {report.there:,} of them there already" if report.there else ""
    lines += [
        f"  source  {report.source}: {report.rows:,} vectors{already}; it is only read",
        f"  width   {report.width_before} -> {report.width}, {report.dtype}",
        f"  space   {report.space['method']}, for {report.space['modality']}-{report.space['modality']} similarity, "
        f"{report.space['fingerprint'][:12]}",
        *(f"  {line}" for line in report.checks),
    ]
    if report.removed:
        lines.append(f"  {report.removed:,} rows went, because their source is gone")
    if report.left:
        lines.append(f"  {report.left:,} vectors came in meanwhile: the same command adds them")
    if report.skipped:
        named = ", ".join(report.skipped[:SHOWN]) + (" ..." if len(report.skipped) > SHOWN else "")
        lines.append(f"  {len(report.skipped):,} rows without a direction have no vector: {named}")
    return [*lines, f"  next    {report.hint}", f"  undo    {report.undo}"]
