"""``isomix convert``: stored embeddings into another layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix.store import ConvertReport


def command(
    source: Annotated[
        Path,
        typer.Argument(
            help="Table, clip-retrieval folder, .npy, .parquet, a folder of those, .npz, .safetensors, .fvecs, .index."
        ),
    ],
    target: Annotated[Path, typer.Argument(help="Its ending names the layout; none: a folder.")],
    column: options.Vectors = None,
    modality: options.ForModality = options.Modality.IMAGE,
    dtype: options.AsDtype = None,
    model: options.ModelForTable = None,
    root: options.ListRoot = None,
    overwrite: options.Overwrite = False,
    offline: options.Offline = False,
    as_json: options.AsJson = False,
) -> None:
    """Write stored embeddings in another layout: the same vectors, order and columns.

    Columns go into the target, or beside it (TARGET.rows.parquet) where it holds none.
    """
    from isomix.cli.common import ExitCode, log, print_report
    from isomix.cli.progress import progress
    from isomix.store import convert

    try:
        with progress("vectors") as update:
            report = convert(
                source,
                target,
                column=column,
                modality=str(modality),
                dtype=dtype,
                model=model,
                root=root,
                offline=offline,
                overwrite=overwrite,
                progress=update,
            )
    except KeyboardInterrupt:
        log.print("interrupted; nothing was written", style="yellow")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    print_report(report.to_dict(), summary(report), as_json=as_json)


def summary(report: ConvertReport) -> list[str]:
    """What was converted, as lines of text."""
    lines = [
        f"{report.target}: {report.rows:,} vectors of {report.width} {report.dtype}  ({report.seconds:.1f} s)",
        f"  from     {report.source} ({report.layout})",
    ]
    if report.columns:
        lines.append(f"  columns  {', '.join(report.columns)}")
    if report.beside:
        lines.append(f"           in {report.beside}, beside the vectors")
    if report.lost:
        lines.append(f"  not kept {', '.join(report.lost)}: this layout has no place for them")
    return lines
