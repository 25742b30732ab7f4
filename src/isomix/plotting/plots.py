"""Figures: the spectrum beside random projectors, accuracy over shots, mAP over bands, and quality against latency."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomix._extras import require
from isomix._files import writing
from isomix.errors import InputError
from isomix.spaces.bands import Band
from isomix.spaces.spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plot_accuracy", "plot_bands", "plot_latency", "plot_spectrum", "save_figure"]

FORMATS = (".svg", ".png", ".pdf")
INK, GREY, BLUE = "#1f2328", "#8c959f", "#0969da"
# Distinct for colour-blind eyes (after Okabe and Ito), and told apart by their markers as well.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1f2328", "#8c959f")
MARKERS = "osD^vPX"  # one fewer than colours, so that a pair comes again only after 56 series


def plot_spectrum(
    described: Spectrum, path: str | os.PathLike[str], *, title: str = "", band: Band | None = None
) -> None:
    """Draw singular values over their median, on a logarithmic scale, beside those of random projectors.

    Parameters
    ----------
    described : Spectrum
        See :func:`isomix.spaces.spectrum.spectrum`.
    path : path-like
        Ends in .svg, .png or .pdf. The same input gives the same bytes.
    title : str
    band : Band, optional
        Directions to mark as kept. Default: the preset band for images, if there is one.

    Raises
    ------
    InputError
        Another ending.
    MissingExtraError
        matplotlib is not installed.
    """
    figure, axes = new_figure(title)
    values, control = described.singular_values, described.random_singular_values
    axes.plot(
        np.arange(1, len(control) + 1), control / np.median(control), color=GREY, ls="--", label="random projectors"
    )
    axes.plot(np.arange(1, len(values) + 1), values / np.median(values), color=BLUE, lw=2, label="this model")
    band = band or described.preset.get("image")
    if band is not None:
        first, last = band.k_top + 0.5, described.rank - band.k_bottom + 0.5
        kept = f"kept by IsoCLIP: {band.k_top + 1} to {described.rank - band.k_bottom}"
        axes.axvspan(first, last, color=BLUE, alpha=0.08, lw=0, label=kept)
    axes.set(yscale="log", xlim=(1, max(len(values), len(control))))
    axes.set(xlabel="singular direction", ylabel="singular value / median")
    axes.legend(frameon=False)
    save_figure(figure, path)


def plot_accuracy(
    accuracy: Mapping[str, Mapping[int, tuple[float, float]]],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    constant: Sequence[str] = (),
) -> None:
    """Draw accuracy over shots, a line a method, with one standard deviation.

    Parameters
    ----------
    accuracy : mapping of method to mapping of shots to (mean, standard deviation)
        Fractions in [0, 1].
    path : path-like
        Ends in .svg, .png or .pdf. The same input gives the same bytes.
    title : str
    constant : sequence of str
        Methods that use no shots; dashed lines without error bars.

    Raises
    ------
    InputError
        Nothing to draw, or another ending.
    MissingExtraError
        matplotlib is not installed.
    """
    if not any(accuracy.values()):
        raise InputError("accuracy: got no figures, expected at least one method with one number of shots.")
    figure, axes = new_figure(title)
    all_shots = sorted({shots for by_shots in accuracy.values() for shots in by_shots})
    for number, (method, by_shots) in enumerate(accuracy.items()):
        shots = sorted(by_shots)
        mean, deviation = 100 * np.array([by_shots[k] for k in shots], np.float64).T
        style: dict[str, Any] = {"color": SERIES[number % len(SERIES)], "label": method, "lw": 1.5}
        if method in constant:
            axes.plot(shots, mean, ls="--", **style)
        else:
            axes.errorbar(shots, mean, deviation, marker=MARKERS[number % len(MARKERS)], ms=5, capsize=2, **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(all_shots, [str(k) for k in all_shots])
    axes.minorticks_off()
    axes.set(xlabel="shots a class", ylabel="accuracy, %")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)


def plot_bands(scores: Mapping[Band, float], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw a heat map of mean average precision over bands, the best one marked.

    Parameters
    ----------
    scores : mapping of Band to float
        Fractions in [0, 1]; bands of the grid that are missing stay empty.
    path : path-like
        Ends in .svg, .png or .pdf. The same input gives the same bytes.
    title : str

    Raises
    ------
    InputError
        Fewer than two bands, or another ending.
    MissingExtraError
        matplotlib is not installed.
    """
    if len(scores) < 2:
        raise InputError(f"scores: got {len(scores)} band(s), expected at least two to compare.")
    tops, bottoms = (sorted({band[side] for band in scores}) for side in (0, 1))
    grid = np.full((len(bottoms), len(tops)), np.nan)
    for (top, bottom), score in scores.items():
        grid[bottoms.index(bottom), tops.index(top)] = 100 * score
    figure, axes = new_figure(title)
    axes.grid(False)
    image = axes.imshow(grid, origin="lower", aspect="auto", cmap="viridis")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    best = np.unravel_index(np.nanargmax(grid), grid.shape)
    if grid.size <= 120:
        for row, column in np.argwhere(np.isfinite(grid)):
            weight = "bold" if (row, column) == best else "normal"
            ink = INK if grid[row, column] > middle else "white"
            axes.text(
                column, row, f"{grid[row, column]:.1f}", ha="center", va="center", color=ink, fontsize=8, weight=weight
            )
    left, right, low, high = best[1] - 0.5, best[1] + 0.5, best[0] - 0.5, best[0] + 0.5
    axes.plot([left, right, right, left, left], [low, low, high, high, low], color=SERIES[1], lw=2.5, clip_on=False)
    axes.set_xticks(range(len(tops)), [str(top) for top in tops])
    axes.set_yticks(range(len(bottoms)), [str(bottom) for bottom in bottoms])
    axes.set(xlabel="k_top, directions cut at the top", ylabel="k_bottom, cut at the bottom")
    figure.colorbar(image, ax=axes, label="mAP, %")
    save_figure(figure, path)


def plot_latency(points: Mapping[str, tuple[float, float]], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw quality against time: mean average precision over the time of a query, a point a method.

    Parameters
    ----------
    points : mapping of method to (time as a ratio to plain, mean average precision in [0, 1])
    path : path-like
        Ends in .svg, .png or .pdf. The same input gives the same bytes.
    title : str

    Raises
    ------
    InputError
        No point, or another ending.
    MissingExtraError
        matplotlib is not installed.
    """
    if not points:
        raise InputError("points: got none, expected at least one method that was timed.")
    figure, axes = new_figure(title)
    for number, (method, (ratio, precision)) in enumerate(points.items()):
        color, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        axes.plot(ratio, 100 * precision, ls="", marker=marker, ms=8, color=color, label=method)
    axes.set_xscale("log", base=2)
    # Never narrower: a busy machine's noise must not look like a difference.
    ratios = [ratio for ratio, _ in points.values()]
    axes.set(xlim=(min(0.5, *ratios) / 1.2, max(4.0, *ratios) * 1.2), xlabel="time of a query / plain", ylabel="mAP, %")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)


def new_figure(title: str) -> tuple[Figure, Axes]:
    """An empty figure in the style of these plots; needs matplotlib."""
    # Without pyplot: no global state, no window, no backend to choose.
    figure: Figure = require("matplotlib.figure", "plot", "A plot").Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=GREY, alpha=0.25, lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    return figure, axes


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as SVG, PNG or PDF by the ending of ``path``, whole or not at all; the same figure, the same bytes.

    Raises
    ------
    InputError
        Another ending, or no such folder.
    OutputError
        No room.
    """
    matplotlib = require("matplotlib", "plot", "A plot")
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"{target}: got the ending {ending or 'none'!r}, expected one of {', '.join(FORMATS)}.")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is not a folder, so {target.name} cannot be written there. Create it first.")
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}[ending]
    with matplotlib.rc_context({"svg.hashsalt": "isomix"}), writing(target) as temporary:
        figure.savefig(temporary, dpi=150, metadata=metadata)
