"""The figures of the explanation pages, drawn when the site is built, from the bundled pictures and the embedded model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from sphinx.application import Sphinx

import isomix
from isomix.demo.groups import bundled_groups
from isomix.encoders.images import read_image
from isomix.fewshot.shrinkage import shrink
from isomix.plotting import Row, Tile, contact_sheet
from isomix.spaces.spectrum import spectrum

matplotlib.use("Agg")
from matplotlib import pyplot as plt

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#8c959f"
STYLE = {
    "svg.hashsalt": "isomix",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


class Pictures(NamedTuple):
    """A bundled group, encoded."""

    paths: list[Path]
    labels: Any
    vectors: Any


@cache
def _encoder() -> Any:
    return isomix.load_encoder("embedded")


@cache
def _pictures(name: str) -> Pictures:
    group = next(group for group in bundled_groups() if group.name == name)
    paths = sorted(group.folder.glob("*/*.png"))
    return Pictures(paths, np.array([path.parent.name for path in paths]), _encoder().encode_image(paths).embeddings)


@cache
def _texts(name: str) -> dict[str, Any]:
    labels = sorted(set(_pictures(name).labels))
    vectors = _encoder().encode_text([label.replace("_", " ") for label in labels]).embeddings
    return dict(zip(labels, vectors, strict=True))


def _shots(labels: Any, count: int, seed: int) -> Any:
    """Mask of ``count`` rows of every class, drawn at random."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(labels == label), count, replace=False) for label in sorted(set(labels))]
    return np.isin(np.arange(len(labels)), np.concatenate(chosen))


def _save(target: Path) -> None:
    plt.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
    plt.close("all")


def home(target: Path) -> None:
    """A query, what plain cosine finds, what it finds in the smoothed space."""
    found = _pictures("icons")
    scores = found.vectors @ found.vectors.T
    np.fill_diagonal(scores, -np.inf)
    smoothed = isomix.Smoothing().fit(found.vectors).leave_one_out_scores(slice(None))  # as if the query were not there
    hits = [np.argsort(-each, axis=1)[:, :6] for each in (scores, smoothed)]
    right = [(found.labels[each] == found.labels[:, None]).sum(axis=1) for each in hits]
    row = int(np.argmax(right[1] - right[0]))
    lists = [each[row] for each in hits]
    label = found.labels[row]
    rows = [
        Row(
            Tile(found.paths[row], f"query: {label}") if not number else None,
            [
                Tile(found.paths[h], str(found.labels[h]), "right" if found.labels[h] == label else "wrong")
                for h in hits
            ],
            title,
        )
        for number, (title, hits) in enumerate(zip(("plain cosine", "smoothed"), lists, strict=True))
    ]
    contact_sheet(rows).save(target)


def cosines(target: Path) -> None:
    """Histograms of the three kinds of cosine."""
    found, texts = _pictures("icons"), _texts("icons")
    similarities = found.vectors @ found.vectors.T
    same = found.labels[:, None] == found.labels
    upper = np.triu(np.ones_like(same), 1)
    own = np.array([vector @ texts[label] for vector, label in zip(found.vectors, found.labels, strict=True)])
    bins = np.linspace(-0.4, 1, 57)
    for values, colour, label in (
        (similarities[~same & upper], GREY, "two pictures of different things"),
        (similarities[same & upper], BLUE, "two pictures of the same thing"),
        (own, ORANGE, "a picture and the name of what it shows"),
    ):
        plt.hist(values, bins, density=True, histtype="step", lw=2, color=colour, label=label)
    plt.gca().set(xlabel="cosine", ylabel="density", ylim=(0, 7.5))
    plt.legend(loc="upper left")
    _save(target)


def values(target: Path) -> None:
    """Singular values of the embedded model's operator beside those of random projectors."""
    described = spectrum(isomix.Projectors.from_pretrained("embedded"))
    plt.plot(described.singular_values, color=BLUE, lw=2, label="embedded model")
    plt.plot(described.random_singular_values, color=GREY, ls="--", label="random projectors of the same size")
    plt.axvspan(0, described.rank - described.preset["image"].k_bottom, color=BLUE, alpha=0.08, lw=0, label="kept")
    plt.gca().set(yscale="log", xlabel="singular direction", ylabel="singular value")
    plt.legend(loc="lower left")
    _save(target)


def directions(target: Path) -> None:
    """The pictures at both ends of a direction at the top, in the middle and at the bottom of the spectrum."""
    found = _pictures("icons")
    space = isomix.IsoCLIP(isomix.Projectors.from_pretrained("embedded"), band=(0, 0), compact=False).fit()
    features = _encoder().encode_image(found.paths, workers=1).features
    along = features @ space.directions_
    rows = []
    for number, where in ((0, "first"), (40, "41st"), (along.shape[1] - 1, "last")):
        order = np.argsort(along[:, number])
        tiles = [Tile(found.paths[row], str(found.labels[row])) for row in [*order[:4], *order[-4:]]]
        rows.append(Row(None, tiles, f"{where} direction: the four lowest, the four highest"))
    contact_sheet(rows).save(target)


def eigenvalues(target: Path) -> None:
    """A sample covariance stretches its eigenvalues; shrinkage pulls them back."""
    rng = np.random.default_rng(0)
    width, count = 40, 60
    true = np.geomspace(4, 0.4, width)
    X = rng.normal(size=(count, width)) * np.sqrt(true)
    X -= X.mean(axis=0)
    scatter = X.T @ X
    fourth = (np.einsum("ij,ij->i", X, X) ** 2).sum()
    shrunk = shrink("ledoit-wolf", np.trace(scatter), (scatter**2).sum(), fourth, count, width)
    measured = np.sort(np.linalg.eigvalsh(scatter))[::-1]
    plt.plot(true, color="black", lw=1, label="true")
    plt.plot(measured / count, color=ORANGE, lw=2, label=f"measured from {count} vectors")
    plt.plot(shrunk.slope * measured + shrunk.ridge, color=BLUE, lw=2, label="shrunk (Ledoit-Wolf)")
    plt.gca().set(yscale="log", xlabel="eigenvalue", ylabel="variance")
    plt.legend(loc="lower left")
    _save(target)


def mixing(target: Path) -> None:
    """Accuracy over the weight of the pictures, for three numbers of shots."""
    found, texts = _pictures("icons"), _texts("icons")
    weights = np.linspace(0, 1, 11)
    for count, colour in ((1, GREY), (2, BLUE), (4, GREEN)):
        lines = []
        for seed in range(5):
            shots = _shots(found.labels, count, seed)
            X, y, Q, truth = (*(found.vectors[shots], found.labels[shots]), found.vectors[~shots], found.labels[~shots])
            scores = [
                isomix.MixedPrototypes(a, logit_scale=100.0).fit(X, y, text=texts).score(Q, truth) for a in weights
            ]
            lines.append(scores)
        plt.plot(weights, 100 * np.mean(lines, axis=0), color=colour, lw=2, label=f"{count} a class")
    plt.gca().set(xlabel="weight of the pictures (0: the name alone, 1: the pictures alone)", ylabel="accuracy, %")
    plt.legend(loc="lower center")
    _save(target)


def left_out(target: Path) -> None:
    """The accuracy that shots left out promise, and the one on pictures that the fit has not seen."""
    found, texts = _pictures("icons"), _texts("icons")
    few = sorted(texts)[::2]  # half of the classes: every shot is refitted without itself, for every weight
    texts, known = {label: texts[label] for label in few}, np.isin(found.labels, few)
    vectors, labels = found.vectors[known], found.labels[known]
    weights = np.linspace(0, 1, 11)
    shots = _shots(labels, 2, 0)
    X, y, Q, truth = vectors[shots], labels[shots], vectors[~shots], labels[~shots]
    rows = {"shots, each judged by its own fit": [], "shots left out": [], "pictures not seen": []}
    for a in weights:
        classifier = isomix.MixedPrototypes(a, logit_scale=100.0)
        fitted = classifier.fit(X, y, text=texts)
        rows["shots, each judged by its own fit"].append(fitted.score(X, y))
        rows["pictures not seen"].append(fitted.score(Q, truth))
        right = []
        for row in range(len(y)):
            rest = np.arange(len(y)) != row
            refit = isomix.MixedPrototypes(a, logit_scale=100.0).fit(X[rest], y[rest], text=texts)
            right.append(refit.predict(X[[row]])[0] == y[row])
        rows["shots left out"].append(np.mean(right))
    for (label, line), colour in zip(rows.items(), (GREY, BLUE, GREEN), strict=True):
        plt.plot(weights, 100 * np.array(line), color=colour, lw=2, label=label)
    plt.gca().set(xlabel="weight of the pictures", ylabel="accuracy, %")
    plt.legend(loc="lower left")
    _save(target)


def gains(target: Path) -> None:
    """What each space gains over plain on the bundled pictures, for two questions."""
    projectors = isomix.Projectors.from_pretrained("embedded")
    iso = isomix.IsoCLIP(projectors).fit()
    rows: dict[str, list[float]] = {}
    for name in ("icons", "emoji"):
        found = _pictures(name)
        measure = {
            "IsoCLIP": (iso.transform(found.vectors), None),
            "smoothed": (found.vectors, isomix.Smoothing()),
        }
        plain = isomix.retrieval_metrics(found.vectors, found.labels)["mean_average_precision"]
        rows[f"{name}: the same kind of thing"] = [
            100 * (isomix.retrieval_metrics(V, found.labels, smoothing=S)["mean_average_precision"] - plain)
            for V, S in measure.values()
        ]
        turned = [read_image(path).convert("RGB").rotate(15, fillcolor="white") for path in found.paths]
        queries = _encoder().encode_image(turned).embeddings
        smoothing = isomix.Smoothing().fit(found.vectors)
        pairs = (
            (queries, found.vectors),
            (iso.transform(queries), iso.transform(found.vectors)),
            (smoothing.transform(queries), smoothing.gallery_),
        )
        base, *others = (_reciprocal_rank(Q, G) for Q, G in pairs)
        rows[f"{name}: the very picture, turned"] = [100 * (other - base) for other in others]
    places = np.arange(len(rows))
    for number, (label, colour) in enumerate((("IsoCLIP", BLUE), ("smoothed", ORANGE))):
        plt.barh(places + 0.38 * number, [row[number] for row in rows.values()], 0.36, color=colour, label=label)
    plt.yticks(places + 0.19, list(rows))
    plt.gca().invert_yaxis()
    plt.axvline(0, color="black", lw=0.8)
    plt.gca().set(xlabel="gain over plain, points of mean average precision")
    plt.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _save(target)


def _reciprocal_rank(queries: Any, gallery: Any) -> float:
    """Average precision where exactly one row is right: that of the same number."""
    scores = queries @ gallery.T
    return float(np.mean(1 / (scores >= np.diag(scores)[:, None]).sum(axis=1)))


DRAWINGS: dict[str, Callable[[Path], None]] = {
    "home.png": home,
    "cosines.svg": cosines,
    "spectrum.svg": values,
    "directions.png": directions,
    "eigenvalues.svg": eigenvalues,
    "mixing.svg": mixing,
    "left-out.svg": left_out,
    "gains.svg": gains,
}


def _draw(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "figures" / "drawn"
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE | {"figure.figsize": (7, 4)}):
        for name, draw in DRAWINGS.items():
            target = folder / name
            if not target.exists() or target.stat().st_mtime < Path(__file__).stat().st_mtime:
                draw(target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Draw before the pages are read."""
    app.connect("builder-inited", _draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
