"""``isomix embed``: pictures to a table of embeddings."""

from __future__ import annotations

import os
import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix.store import EmbedReport


def command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folder, picture, text file with one path a line, .csv or .tsv with a column 'path', or - for a list, as of "
            "find or find -print0.",
        ),
    ],
    output: options.TableOutput,
    model: options.ModelOrEmbedded = None,
    batch_size: options.BatchSize = 32,
    workers: options.Workers = None,
    max_megapixels: options.MaxMegapixels = 100.0,
    labels: options.LabelsFrom = None,
    root: options.ListRoot = None,
    keep_features: options.KeepFeatures = False,
    keep_vanished: options.KeepVanished = False,
    retry: options.Retry = False,
    overwrite: options.Overwrite = False,
    no_thumbnails: options.NoThumbnails = False,
    engine: options.OnEngine = options.EngineName.LOCAL,
    address: options.Address = None,
    actors: options.Actors = None,
    shard: options.Shard = None,
    device: options.Device = None,
    offline: options.Offline = False,
    as_json: options.AsJson = False,
) -> None:
    """Embed pictures into a table.

    Started again, it goes on where it was stopped, or brings the table up to date: new, changed and vanished files.
    Files that cannot be read are listed in a second table beside it, and the exit code is 3.
    """
    from isomix.cli.common import ExitCode, advise_on_photographs, log, print_report, report_failures
    from isomix.cli.progress import progress
    from isomix.encoders import load_encoder
    from isomix.errors import InputError
    from isomix.store import EmbeddingTable, embed

    part = None if shard is None else parsed_shard(shard)
    if engine is options.EngineName.LOCAL and (address is not None or actors is not None):
        raise InputError("--address and --actors are of a Ray cluster: add --engine ray, or leave them out.")
    if model is None:
        advise_on_photographs(*sources)
    load = partial(load_encoder, model or "embedded", offline=offline, device=device)
    encoder = load()
    on_ray = None
    if engine is options.EngineName.RAY:
        from isomix.cluster import RayEngine

        on_ray = RayEngine(load, address, actors, gpu=device is not None and device.startswith("cuda"))
    try:
        with progress("pictures") as update:
            report = embed(
                sources,
                output,
                encoder,
                batch_size=batch_size,
                workers=workers,
                max_megapixels=max_megapixels,
                labels=labels,
                root=root,
                keep_features=keep_features,
                keep_vanished=keep_vanished,
                retry=retry,
                overwrite=overwrite,
                thumbnails=not no_thumbnails,
                shard=part,
                engine=on_ray,
                progress=update,
            )
    except KeyboardInterrupt:
        again = " (without --overwrite)" if overwrite else ""
        log.print(
            f"interrupted; the same command{again} goes on from here", style="yellow", markup=False, soft_wrap=True
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    table = EmbeddingTable.open(report.table)
    failures = {row["path"]: row["reason"] for row in table.errors()}
    report_failures(failures, listed_by=f"isomix inspect {shlex.quote(os.fspath(table.ledger.path))}")
    report_failures(dict.fromkeys(report.closed_folders, "this folder cannot be opened"))
    print_report({**report.to_dict(), "failures": failures}, summary(report), as_json=as_json)
    if not report.complete:
        raise typer.Exit(ExitCode.SKIPPED_FILES)


def parsed_shard(text: str) -> tuple[int, int]:
    """``"3/8"`` as numbers.

    Raises
    ------
    InputError
    """
    from isomix.errors import InputError

    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise InputError(f"--shard: got {text!r}, expected I/N, e.g. 3/8 for the third of eight parts.")
    return int(number), int(of)


def summary(report: EmbedReport) -> list[str]:
    """What a run did, as lines of text."""
    encoded = report.added + report.changed
    speed = f", {encoded / report.seconds:,.0f} a second" if encoded and report.seconds else ""
    counts = {
        "new": report.added,
        "changed": report.changed,
        "only date or label changed": report.touched,
        "moved, row kept under the new path": report.moved,
        "unchanged": report.unchanged,
        "vanished, row removed": report.removed - report.removed_present,
        "no longer in the source, row removed": report.removed_present,
        "vanished or no longer in the source, row kept": report.vanished_kept,
        "unreadable": report.failed,
        "unreadable before; --retry tries again": report.known_failures,
        "listed more than once": len(report.duplicates),
        "not pictures, by their names": report.ignored,
    }
    lines = [f"{report.table}: {report.rows:,} pictures  ({report.seconds:.1f} s{speed})"]
    lines += [f"  {count:>9,}  {what}" for what, count in counts.items() if count]
    if report.removed_present:
        lines.append("  files of removed rows are still there; --keep-vanished keeps such rows")
    if report.thumbnail_bytes:
        lines.append(f"  {report.thumbnail_bytes / 1e6:>7,.1f} MB  of thumbnails, for isomix serve")
    smoothed = {name for name in report.dropped_columns if name.removesuffix("_plain").endswith("_smoothed")}
    for column in report.dropped_columns:
        again = f"--smooth --column {column.removesuffix('_plain').removesuffix('_smoothed')}"
        lines.append(
            f"  the {'smoothed' if column in smoothed else 'adapted'} column {column!r} was dropped; make it again: "
            f"isomix adapt {report.table} {again if column in smoothed else f'--column {column}'}"
        )
    return lines
