"""``run_tour``: embed, search, adapt and classify, with every figure measured on the spot."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from isomix import __version__
from isomix._arrays import check_integer
from isomix._files import writing
from isomix.demo.groups import Group, bundled_groups, own_group, pixel_vectors
from isomix.demo.measure import Accuracy, Retrieval, Vectors, measure_few_shot, measure_retrieval
from isomix.demo.sheet import ISOCLIP, PLAIN, TEXT_PCA, Pictures, neighbour_sheet
from isomix.encoders import Encoder, load_encoder
from isomix.encoders.prompts import check_templates, class_name, default_templates, nouns
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.plotting.plots import plot_accuracy, plot_spectrum
from isomix.spaces import IsoCLIP, NestedTextPCA
from isomix.spaces.defaults import fit_isoclip
from isomix.spaces.recognition import find_preset
from isomix.spaces.spectrum import spectrum
from isomix.store import EmbeddingTable, embed

__all__ = ["GroupResult", "Tour", "run_tour"]

SHOTS = (1, 2, 4)
PIXELS = "raw pixels (control)"
ZERO_SHOT = "zero-shot"
PACKAGES = ("numpy", "scipy", "scikit-learn", "pillow", "pylance", "onnxruntime", "torch", "transformers")


@dataclass
class GroupResult:
    """What was measured on one group of pictures; empty lists where ``Tour.skipped`` says why."""

    name: str
    note: str
    pictures: int
    classes: int
    retrieval: list[Retrieval] = field(default_factory=list)
    few_shot: list[Accuracy] = field(default_factory=list)


@dataclass
class Tour:
    """Everything the tour measured, and what is needed to run it again.

    Attributes
    ----------
    settings : dict
        The call, versions and fingerprints.
    groups : list of GroupResult
    skipped : list of str
        What could not be measured, and why.
    unreadable : int
        Files on the ledgers of the tables.
    files : dict of str to str
        What was written, by what it is.
    seconds : float
    """

    settings: dict[str, Any]
    groups: list[GroupResult] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unreadable: int = 0
    files: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def run_tour(
    model: str = "embedded",
    images: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] = "demo-output",
    *,
    band: str | tuple[int, int] = "preset",
    template: str | None = None,
    draws: int = 20,
    seed: int = 0,
    overwrite: bool = False,
    offline: bool = False,
    device: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Tour:
    """Embed pictures, measure retrieval and few-shot classification on them, and draw what was found.

    Parameters
    ----------
    model : str
        See :func:`isomix.load_encoder`.
    images : path-like, optional
        A folder whose subfolders are classes, and their names the text. Without subfolders nothing can be scored, and
        only neighbours are drawn. Default: the bundled icons and emoji.
    output : path-like
        Folder for tables, figures and ``results.json``; created if need be.
    band : str or pair of int
        Of IsoCLIP. Default: the preset band of the model; without one, the automatic band of the pictures' embeddings.
    template : str, optional
        Sentence around a class name, with ``{}``. Default: the name alone for the embedded model,
        ``"a photo of a {}."`` for others.
    draws : int
        Random draws of the shots.
    seed : int
        Same seed, same figures.
    overwrite : bool
        Replace an earlier tour in ``output``.
    offline : bool
        Never open a connection.
    device : str, optional
        Where the model runs.
    log : callable
        Called with a line for every step.

    Returns
    -------
    Tour

    Raises
    ------
    InputError
        A folder that cannot be used, results that are there already, or an ``output`` inside ``images``.
    """
    started = time.monotonic()
    check_integer(draws, "draws", minimum=2)
    groups = bundled_groups() if images is None else [own_group(images)]
    folder = Path(output)
    files = {
        **{f"table of {group.name}": folder / f"{group.name}.lance" for group in groups},
        "contact sheet": folder / "contact-sheet.png",
        "spectrum": folder / "spectrum.svg",
        "spectrum as a picture": folder / "spectrum.png",
        **{f"accuracy on {group.name}": folder / f"few-shot-{group.name}.png" for group in groups},
        "all figures": folder / "results.json",
    }
    _check_output(folder, list(files.values()), groups, overwrite)
    encoder = load_encoder(model, offline=offline, device=device)
    (template,) = check_templates([template or default_templates(encoder)[0]])
    tour = Tour(_settings(encoder, images, template, draws, seed))
    # Many small products: threads cost more than they give, many times as much on busy cores.
    with threadpool_limits(limits=1, user_api="blas"):
        waits = band == "auto" or (band == "preset" and find_preset(encoder.projectors) is None)
        iso = None if waits else IsoCLIP(encoder.projectors, band).fit()  # an impossible band is said at once
        log(f"text: {len(nouns())} nouns for Text PCA")
        bank = encoder.encode_text([template.replace("{}", noun) for noun in nouns()]).embeddings
        text_pca = NestedTextPCA(projectors=encoder.projectors).fit(bank)
        folder.mkdir(parents=True, exist_ok=True)
        tables = []
        for group in groups:
            log(f"{group.name}: embedding {group.folder.name}")
            table, failed = _embed(group, files[f"table of {group.name}"], encoder, overwrite)
            tour.unreadable += failed
            tables.append(table)
        if iso is None:
            iso = fit_isoclip(encoder.projectors, band, lambda: _rows(encoder, tables))
        tour.settings["band"] = {**iso.band_.to_dict(iso.rank_), "chosen_by": iso.band_source_}
        if iso.band_evidence_ is not None:
            tour.settings["band"]["why"] = iso.band_evidence_["why"]
        embedded = []
        for group, table in zip(groups, tables, strict=True):
            pictures = _pictures(group, table, iso, text_pca)
            embedded.append(pictures)
            log(f"{group.name}: measuring {len(pictures.paths)} pictures")
            tour.groups.append(_measure(pictures, encoder, template, draws, seed, tour))
        log("drawing")
        with writing(files["contact sheet"]) as temporary:
            neighbour_sheet(embedded, encoder.spec, seed).save(temporary)
        _draw_figures(tour, files, encoder, iso)
    tour.files = {name: os.fspath(path) for name, path in files.items()}
    tour.seconds = time.monotonic() - started
    text = json.dumps(tour.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    with writing(files["all figures"]) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return tour


def _check_output(folder: Path, targets: list[Path], groups: list[Group], overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output: {folder} is a file, expected a folder.")
    for group in groups:
        if folder.resolve().is_relative_to(group.folder):
            raise InputError(
                f"output: {folder} lies inside {group.folder}, so its figures would be taken for pictures. "
                "Name a folder elsewhere."
            )
    existing = [target.name for target in targets if target.exists()]
    if existing and not overwrite:
        raise InputError(
            f"output: {folder} holds an earlier tour ({', '.join(existing)}). "
            "Name another folder, or allow it to be overwritten."
        )


def _settings(encoder: Encoder, images: Any, template: str, draws: int, seed: int) -> dict[str, Any]:
    return {
        "model": encoder.spec,
        "fingerprint": encoder.fingerprint,
        "projectors": encoder.projectors.fingerprint,
        "images": None if images is None else os.fspath(images),
        "template": template,
        "shots": list(SHOTS),
        "draws": draws,
        "seed": seed,
        "isomix": __version__,
        "python": platform.python_version(),
        "packages": {package: found for package in PACKAGES if (found := _version(package))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _embed(group: Group, path: Path, encoder: Encoder, overwrite: bool) -> tuple[EmbeddingTable, int]:
    report = embed(group.folder, path, encoder, labels="folders", keep_features=True, overwrite=overwrite)
    table = EmbeddingTable.open(path, encoder)
    if table.count < 2:
        raise InputError(f"{group.folder} holds {table.count} readable picture(s), expected at least 2.")
    return table, report.failed + report.known_failures


def _rows(encoder: Encoder, tables: list[EmbeddingTable]) -> Vectors:
    """All pictures, as an automatic band looks at them."""
    column = "embedding" if encoder.projectors.image_bias is None else "feature"
    return np.concatenate([table.embeddings(column) for table in tables]).astype(np.float32)


def _pictures(group: Group, table: EmbeddingTable, iso: IsoCLIP, text_pca: NestedTextPCA) -> Pictures:
    rows = table.rows(columns=["path", "label"])
    stored = normalize_rows(table.embeddings().astype(np.float32))
    paths = [table.root / row["path"] for row in rows]
    spaces: dict[str, Vectors] = {PLAIN: stored, "pre-projection features": normalize_rows(table.embeddings("feature"))}
    # Stored embeddings are enough, unless the head is affine.
    affine = iso.operator_ is None
    name = f"{ISOCLIP} ({iso.band_.k_top}, {iso.band_.k_bottom})"
    spaces[name] = iso.transform_features(table.embeddings("feature")) if affine else iso.transform(stored)
    sizes = ", ".join(map(str, text_pca.sizes_))
    spaces[f"{TEXT_PCA} ({sizes})"] = text_pca.transform(stored)
    spaces[PIXELS] = pixel_vectors(paths)
    labels = [row["label"] for row in rows]
    named = np.array([class_name(label) for label in labels]) if all(labels) else None
    return Pictures(group, paths, named, spaces)


def _measure(pictures: Pictures, encoder: Encoder, template: str, draws: int, seed: int, tour: Tour) -> GroupResult:
    group, labels = pictures.group, pictures.labels
    result = GroupResult(group.name, group.note, len(pictures.paths), 0)
    if labels is None:
        tour.skipped.append(
            f"{group.name}: figures need classes, and some pictures lie directly in {group.folder}. Put every picture "
            "into a subfolder named after what it shows."
        )
        return result
    classes, counts = np.unique(labels, return_counts=True)
    result.classes = len(classes)
    if len(classes) < 2 or counts.max() < 2:
        tour.skipped.append(f"{group.name}: figures need two classes, and two pictures in one of them, at least.")
        return result
    result.retrieval = measure_retrieval(
        pictures.spaces, labels, smoothed={PLAIN: False, pictures.best_space: True}, seed=seed
    )
    shots = [k for k in SHOTS if k < counts.min()]
    for k in sorted(set(SHOTS) - set(shots)):
        tour.skipped.append(
            f"{group.name}: {k} shot(s) a class, because {str(classes[counts.argmin()])!r} has "
            f"{counts.min()} picture(s)."
        )
    if shots:
        text = encoder.encode_text([template.replace("{}", name) for name in classes]).embeddings
        also = {name: vectors for name, vectors in pictures.spaces.items() if name.startswith(ISOCLIP)}
        also["raw pixels"] = normalize_rows(pictures.spaces[PIXELS], "centred pixels")
        try:
            result.few_shot = measure_few_shot(
                pictures.spaces[PLAIN],
                labels,
                text,
                logit_scale=encoder.logit_scale,
                also=also,
                shots=shots,
                draws=draws,
                seed=seed,
            )
        except InputError as error:  # the same picture in two folders, for one
            tour.skipped.append(f"{group.name}: few-shot classification: {error}")
    return result


def _draw_figures(tour: Tour, files: dict[str, Path], encoder: Encoder, iso: IsoCLIP) -> None:
    """Draw the spectrum and the accuracies; an earlier figure with nothing to replace it goes, and leaves ``files``."""
    described = spectrum(encoder.projectors, seed=tour.settings["seed"])
    for name in ("spectrum", "spectrum as a picture"):
        title = f"{encoder.spec}: singular values of the inter-modal operator"
        plot_spectrum(described, files[name], title=title, band=iso.band_)
    for result in tour.groups:
        name = f"accuracy on {result.name}"
        if not result.few_shot:
            files.pop(name).unlink(missing_ok=True)
            continue
        by_method: dict[str, dict[int, tuple[float, float]]] = {}
        for row in result.few_shot:
            by_method.setdefault(row.method, {})[row.shots] = (row.mean, row.standard_deviation)
        title = f"{result.name}, {tour.settings['draws']} draws"
        plot_accuracy(by_method, files[name], title=title, constant=[ZERO_SHOT])
