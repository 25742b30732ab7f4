"""``isomix spectrum``: the singular spectrum of a model's projectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix.spaces.operator import InterModalOperator
    from isomix.spaces.spectrum import Shares, Spectrum

PLOT_ROWS = 12
DIRECTIONS_SHOWN = 8


def command(
    model: Annotated[str, typer.Argument(help=f"The model: {options.MODEL_NAMES}; or a .safetensors file.")],
    images: options.ImageSample = None,
    texts: options.TextSample = None,
    plot: options.Plot = None,
    as_json: options.AsJson = False,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Singular values of the operator between the modalities, beside random projectors."""
    from isomix.cli.common import check_output, log, out, print_json
    from isomix.projectors import Projectors
    from isomix.spaces.operator import InterModalOperator
    from isomix.spaces.spectrum import direction_shares, spectrum
    from isomix.store.formats import open_embeddings

    check_output(plot, overwrite=overwrite)
    operator = InterModalOperator(Projectors.from_pretrained(model, offline=offline))
    described = spectrum(operator)
    samples = {"image": images, "text": texts}
    read = {
        modality: open_embeddings(path, modality=modality).sample()
        for modality, path in samples.items()
        if path is not None
    }
    shares = {modality: direction_shares(operator, sample, modality) for modality, sample in read.items()}
    suggestion = suggest(operator, read.get("image"))
    if plot is not None:
        from isomix.plotting.plots import plot_spectrum

        plot_spectrum(described, plot, title=model)
        log.print(f"plot written to {plot}", markup=False)
    if as_json:
        listed = {modality: {k: v.tolist() for k, v in part._asdict().items()} for modality, part in shares.items()}
        print_json({"model": model, **described.to_dict(), "suggested": suggestion, "shares": listed})
        return
    for line in render(described, suggestion, shares, width=min(out.width, 100)):
        out.print(line, markup=False)


def suggest(operator: InterModalOperator, images: Any) -> dict[str, Any]:
    """The automatic band for images, and what speaks for it."""
    from isomix.spaces.band_selection import automatic_band

    choice = automatic_band(operator, images)
    return choice.band._asdict() | choice.to_dict()


def render(described: Spectrum, suggestion: dict[str, Any], shares: dict[str, Shares], width: int) -> list[str]:
    """The analysis as lines of text: numbers, then the spectrum on a logarithmic scale."""
    lines = [
        f"embedding width    {described.embedding_dim}",
        f"rank               {described.rank}",
        f"effective rank     {described.effective_rank:.1f}",
        f"condition          {described.condition:.3g}",
        f"top over median    {described.top_over_median:.3g}   (random projectors: {described.random_top_over_median:.3g})",
    ]
    for modality, band in described.preset.items():
        lines.append(f"preset for {modality:<8}{band}   ({band.words(described.rank)})")
    lines.append(f"suggested band     {suggestion['k_top']}/{suggestion['k_bottom']}   ({suggestion['why']})")
    if shares:
        lines += ["", *_share_table(described, shares)]
    return [*lines, "", *_terminal_plot(described, width)]


def _share_table(described: Spectrum, shares: dict[str, Shares]) -> list[str]:
    headings = "".join(f"{f'{modality} var.':>12}{f'{modality} common':>14}" for modality in shares)
    lines = [f"direction  singular value{headings}"]
    for j in range(min(DIRECTIONS_SHOWN, described.rank)):
        cells = "".join(f"{100 * part.variance[j]:>10.1f} %{100 * part.common[j]:>12.1f} %" for part in shares.values())
        lines.append(f"{j + 1:>9}{described.singular_values[j]:>16.3g}{cells}")
    return [*lines, "var.: share of the variance; common: of the energy, what all embeddings share"]


def _terminal_plot(described: Spectrum, width: int) -> list[str]:
    import numpy as np

    columns = max(20, width - 11)
    curves = [(described.random_singular_values, "."), (described.singular_values, "o")]
    logs = [np.log10(values / np.median(values)) for values, _ in curves]
    low, high = min(values.min() for values in logs), max(values.max() for values in logs)
    span = max(high - low, 1e-9)
    grid = [[" "] * columns for _ in range(PLOT_ROWS)]
    for values, (_, mark) in zip(logs, curves, strict=True):
        at = np.linspace(0, len(values) - 1, columns)
        heights = np.interp(at, np.arange(len(values)), values)
        for column, height in enumerate(heights):
            row = PLOT_ROWS - 1 - round((height - low) / span * (PLOT_ROWS - 1))
            grid[row][column] = mark
    ticks = [10 ** (high - span * row / (PLOT_ROWS - 1)) for row in range(PLOT_ROWS)]
    lines = [f"{tick:>8.3g} |{''.join(row)}" for tick, row in zip(ticks, grid, strict=True)]
    axis = f"{'1':<{columns - len(str(described.rank))}}{described.rank}"
    return [
        "singular value over the median (o this model, . random projectors)",
        *lines,
        " " * 9 + "+" + "-" * columns,
        " " * 10 + axis,
    ]
