"""``isomix adapt``: stored embeddings to adapted ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix.spaces import Space
    from isomix.store import AdaptReport, SmoothReport


def command(
    source: Annotated[
        str,
        typer.Argument(
            help="Table, clip-retrieval folder, .npy, .parquet, a folder of those, .npz, .safetensors, .fvecs, .index; "
            "postgresql://user@host/database; http://host:6333/collections/NAME of Qdrant."
        ),
    ],
    output: options.TargetOutput = None,
    model: options.ModelOfTable = None,
    space: options.SavedSpace = None,
    bank: options.Sentences = None,
    band: options.Band = "preset",
    modality: options.ForModality = options.Modality.IMAGE,
    text_only: options.TextOnly = False,
    no_compact: options.NoCompact = False,
    column: options.Column = None,
    table: options.DbTable = None,
    key: options.DbKey = None,
    dry_run: options.DryRun = False,
    smooth: options.Smooth = False,
    dtype: options.AsDtype = None,
    skip_bad: options.SkipBad = False,
    overwrite: options.Overwrite = False,
    offline: options.Offline = False,
    as_json: options.AsJson = False,
) -> None:
    """Adapt stored embeddings for image-to-image (or text-to-text) similarity.

    Nothing is encoded again: of the model, only the two projectors are read. In a database, -o names a new table or
    collection beside the source, or a file.
    """
    from isomix.cli.adapt_database import adapt_in_database
    from isomix.cli.common import ExitCode, fail_usage, log, print_report
    from isomix.cli.progress import progress
    from isomix.cli.spaces import fit_space, kept_by_table, space_of_bank
    from isomix.store import (
        AdaptReport,
        EmbeddingTable,
        SmoothReport,
        adapt,
        adapt_column,
        open_embeddings,
        smooth_column,
    )
    from isomix.store.databases import is_database
    from isomix.store.formats.lance_tables import is_of_others

    in_database = is_database(source)
    is_table = Path(source).suffix == ".lance" and not in_database
    if smooth and (output is not None or not is_table):
        fail_usage("--smooth adds columns to a table: name one (TABLE.lance), and leave -o out.")
    if output is None and not (is_table and (column or smooth)):
        fail_usage("name the target with -o, or, for a table, the new column with --column.")
    if space is not None and (model, band, text_only) != (None, "preset", False):
        fail_usage("--space says everything: leave out --model, --band and --text-only, or leave out --space.")
    if bank is not None and (space, band, text_only, no_compact, str(modality)) != (
        None,
        "preset",
        False,
        False,
        "image",
    ):
        fail_usage(
            "--bank is for pictures, and says which space: leave out --space, --band, --modality, --text-only, --no-compact."
        )
    stored_bank = bank is not None and bank.suffix in (".npz", ".npy")
    if model is None and space is None and not is_table and not stored_bank:
        fail_usage(
            "say whose embeddings these are with --model, e.g. hf:openai/clip-vit-base-patch32, or give a --space."
        )
    if in_database:
        adapt_in_database(
            source,
            str(output),
            lambda rows: (
                fit_space(rows, str(model), space, band, modality, text_only, not no_compact, offline)
                if bank is None
                else space_of_bank(None, model, bank, offline)
            ),
            table=table,
            column=column,
            key=key,
            dtype=dtype,
            skip_bad=skip_bad,
            overwrite=overwrite,
            dry_run=dry_run,
            offline=offline,
            as_json=as_json,
        )
        return
    if (table, key, dry_run) != (None, None, False):
        fail_usage("--table, --key and --dry-run are for databases: name one as postgresql://user@host/database.")
    of_others = is_table and is_of_others(Path(source))
    if of_others and model is None and space is None and not stored_bank:
        fail_usage(f"{source} does not say whose embeddings it holds: name the model with --model, or give a --space.")
    named = None if output is None else column
    fitted: Space | None = None
    if smooth and (model, space, bank, band, text_only) == (None, None, None, "preset", False):
        fitted = kept_by_table(Path(source))
    if fitted is None and bank is not None:
        fitted = space_of_bank(Path(source) if is_table and not of_others else None, model, bank, offline)
    if fitted is None:
        fitted = fit_space(
            lambda: open_embeddings(source, column=named, modality=str(modality)).sample(),
            EmbeddingTable.open(source).metadata.model if model is None and space is None else str(model),
            space,
            band,
            modality,
            text_only,
            not no_compact,
            offline,
        )
    try:
        with progress("vectors") as update:
            report: AdaptReport | SmoothReport
            if smooth:
                report = smooth_column(source, column or fitted.method.replace("-", "_"), fitted, progress=update)
            elif output is None:
                report = adapt_column(source, str(column), fitted, progress=update)
            else:
                report = adapt(
                    source,
                    output,
                    fitted,
                    column=column,
                    dtype=dtype,
                    skip_bad=skip_bad,
                    overwrite=overwrite,
                    progress=update,
                )
    except KeyboardInterrupt:
        log.print("interrupted; nothing was written", style="yellow")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    lines = smoothing_summary(report) if isinstance(report, SmoothReport) else summary(report)
    print_report(report.to_dict(), lines, as_json=as_json)
    if isinstance(report, AdaptReport) and report.skipped_rows:
        raise typer.Exit(ExitCode.SKIPPED_FILES)


def smoothing_summary(report: SmoothReport) -> list[str]:
    """What was smoothed, as lines of text."""
    lines = [
        f"{report.table}: {report.rows:,} vectors adapted and smoothed  ({report.seconds:.1f} s)",
        f"  columns    {report.column}, {report.smoothed} (for pictures), {report.smoothed_plain} (for sentences)",
        f"  space      {report.space['method']}, {report.width} numbers",
        f"  smoothing  {report.k} neighbours, joint weight {report.strength:.2f} (the picture itself: 1)",
    ]
    if report.strength < 0.1:
        lines.append("  these pictures hardly form groups, so little or nothing is smoothed")
    if report.space["method"] != "isoclip":
        lines.append("  isomix search compares pictures in this space from now on")
    lines.append("  a run of isomix embed that changes rows drops these columns; this command makes them again")
    return lines


def summary(report: AdaptReport) -> list[str]:
    """What was adapted, as lines of text."""
    from isomix.spaces.bands import Band

    parameters = report.space["parameters"]
    if "band" in report.space:
        how = Band(report.space["band"]["k_top"], report.space["band"]["k_bottom"]).words(report.space["band"]["of"])
        how += "" if report.space["form"] == "exact" else f", from the {report.space['form']}"
    else:
        sizes = parameters.get("sizes") or [report.width]
        how = f"{', '.join(map(str, sizes))} components"
        if report.space.get("cliff"):
            how += f", {report.space['cliff']} directions behind the cliff cut"
    shorter = 100 * (1 - report.width / report.width_before)
    lines = [
        f"{report.target}: {report.rows:,} vectors  ({report.seconds:.1f} s)",
        f"  width   {report.width_before} -> {report.width}"
        + (f"  ({shorter:.0f} % shorter)" if shorter >= 0.5 else ""),
        f"  space   {report.space['method']}, {how}, for {report.space['modality']}-{report.space['modality']} "
        "similarity",
    ]
    if report.skipped_rows:
        lines.append(
            f"  {len(report.skipped_rows):,} rows without a direction are NaN; their numbers stand in the record"
        )
    if report.dropped_columns:
        lines.append(f"  not kept, for this layout has no place for them: {', '.join(report.dropped_columns)}")
    return lines
