from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from isomix.errors import InputError
from isomix.plotting import plots
from isomix.plotting.plots import plot_accuracy, plot_spectrum
from isomix.projectors import Projectors
from isomix.spaces.bands import Band
from isomix.spaces.spectrum import Spectrum, spectrum

ACCURACY = {"zero-shot": {1: (0.5, 0.0), 4: (0.5, 0.0)}, "nearest class mean": {1: (0.4, 0.02), 4: (0.6, 0.01)}}


@pytest.fixture
def described() -> Spectrum:
    rng = np.random.default_rng(0)
    return spectrum(Projectors(rng.normal(size=(12, 20)), rng.normal(size=(12, 16))))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is written, to look at what was drawn."""
    written: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (written.append(self), save(self, *a, **k))[1])
    return written


@pytest.mark.parametrize("ending", plots.FORMATS)
def test_same_input_same_bytes(described: Spectrum, tmp_path: Path, ending: str) -> None:
    paths = [tmp_path / f"{number}{ending}" for number in range(2)]
    for path in paths:
        plot_spectrum(described, path, title="a model")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_spectrum_draws_the_model_the_control_and_the_band(
    described: Spectrum, tmp_path: Path, figures: list[Figure]
) -> None:
    plot_spectrum(described, tmp_path / "s.svg", band=Band(2, 3))
    (axes,) = figures[0].axes
    by_label = {line.get_label(): line.get_ydata() for line in axes.lines}
    for label, values in (
        ("this model", described.singular_values),
        ("random projectors", described.random_singular_values),
    ):
        np.testing.assert_allclose(by_label[label], values / np.median(values))
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "kept by IsoCLIP: 3 to 9" in labels
    assert axes.get_yscale() == "log"


def test_spectrum_without_a_preset_band_marks_none(described: Spectrum, tmp_path: Path, figures: list[Figure]) -> None:
    plot_spectrum(described, tmp_path / "s.png")
    assert len(figures[0].axes[0].get_legend().get_texts()) == 2
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.width > 500


def test_accuracy_draws_percent_over_shots(tmp_path: Path, figures: list[Figure]) -> None:
    plot_accuracy(ACCURACY, tmp_path / "a.png", constant=["zero-shot"])
    (axes,) = figures[0].axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "4"]
    (bars,) = axes.containers
    np.testing.assert_allclose(bars.lines[0].get_ydata(), [40, 60])
    assert bars.get_label() == "nearest class mean"


def test_a_figure_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"the old one")

    def fail(figure: Figure, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(KeyboardInterrupt):
        plot_accuracy(ACCURACY, tmp_path / "a.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the old one"]


@pytest.mark.parametrize("name", ["plot.gif", "plot"])
def test_unknown_endings_are_refused(described: Spectrum, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected one of"):
        plot_spectrum(described, tmp_path / name)


def test_missing_folder_and_empty_figures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        plot_accuracy(ACCURACY, tmp_path / "nowhere" / "a.svg")
    with pytest.raises(InputError, match="no figures"):
        plot_accuracy({"lda": {}}, tmp_path / "a.svg")
