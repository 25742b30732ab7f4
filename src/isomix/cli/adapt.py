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
        Path,
        typer.Argument(
            help="Table, clip-retrieval folder, .npy, .parquet, a folder of those, .npz, .safetensors, .fvecs, .index."
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
    smooth: options.Smooth = False,
    dtype: options.AsDtype = None,
    skip_bad: options.SkipBad = False,
    overwrite: options.Overwrite = False,
    offline: options.Offline = False,
    as_json: options.AsJson = False,
) -> None:
    """Adapt stored embeddings for image-to-image (or text-to-text) similarity.

    Nothing is encoded again: of the model, only the two projectors are read.
    """
    from isomix.cli.common import ExitCode, fail_usage, log, out, print_json
    from isomix.cli.progress import progress
    from isomix.store import AdaptReport, SmoothReport, adapt, adapt_column, smooth_column

    is_table = source.suffix == ".lance"
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
    column_of_vectors = None if output is None else column
    fitted: Space | None = None
    if smooth and (model, space, bank, band, text_only) == (None, None, None, "preset", False):
        fitted = _kept(source)
    if fitted is None and bank is not None:
        fitted = _space_of_bank(source if is_table else None, model, bank, offline)
    if fitted is None:
        fitted = _space(source, column_of_vectors, model, space, band, modality, text_only, not no_compact, offline)
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
    if as_json:
        print_json(report.to_dict())
    else:
        lines = smoothing_summary(report) if isinstance(report, SmoothReport) else summary(report)
        for line in lines:
            out.print(line, markup=False, soft_wrap=True)
    if isinstance(report, AdaptReport) and report.skipped_rows:
        raise typer.Exit(ExitCode.SKIPPED_FILES)


def _space(
    source: Path,
    column: str | None,
    model: str | None,
    saved: Path | None,
    band: str,
    modality: str,
    text_only: bool,
    compact: bool,
    offline: bool,
) -> Space:
    from isomix.cli.common import log
    from isomix.spaces import Projectors, load_space
    from isomix.spaces.defaults import fit_isoclip
    from isomix.store import EmbeddingTable, open_embeddings

    if saved is not None:
        return load_space(saved)
    name = EmbeddingTable.open(source).metadata.model if model is None else model
    # Without being asked to: where the image head is not one matrix, the text projector alone adapts stored embeddings.
    projectors = Projectors.from_pretrained(name, offline=offline, text_only=text_only or None)
    if projectors.image is None and not text_only:
        log.print(
            f"{name} has no image projector that is one matrix, so its text projector alone is used",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    space = fit_isoclip(
        projectors,
        band,
        lambda: open_embeddings(source, column=column, modality=str(modality)).sample(),
        modality=str(modality),
        compact=compact,
    )
    if space.preset_of_:
        log.print(f"preset band of {space.preset_of_}", markup=False, soft_wrap=True)
    if band == "preset" and space.band_evidence_ is not None:
        log.print(
            f"there is no preset band for {name}, so the automatic one holds, {space.band_}: "
            f"{space.band_evidence_['why']}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    return space


def _kept(table: Path) -> Space | None:
    """The space that the table was smoothed in before, if it is kept beside it."""
    from isomix.cli.common import log
    from isomix.store import EmbeddingTable
    from isomix.store.bank import kept_space

    kept = kept_space(EmbeddingTable.open(table))
    if kept is not None:
        log.print(
            f"smoothed in {kept.method} as before; name the --model for IsoCLIP",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    return kept


def _space_of_bank(table: Path | None, model: str | None, bank: Path, offline: bool) -> Space:
    """Nested Text PCA; the model, where it is known, encodes sentences and has its cliff cut."""
    from isomix.encoders.lazy import LazyEncoder
    from isomix.store import EmbeddingTable
    from isomix.store.bank import fit_bank, read_bank

    sentences = read_bank(bank)
    made = None if table is None else EmbeddingTable.open(table)
    name = made.metadata.model if model is None and made is not None else model
    lazy = LazyEncoder(name or "", offline=offline, made_by=None if made is None else made.made_by)
    return fit_bank(sentences, lambda: lazy.encoder, lazy.projectors if name else None)


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
