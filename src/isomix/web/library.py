"""Everything of isomix that the studio computes with, behind a handful of names: what is renamed there is followed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix.encoders import Encoder
from isomix.encoders.lazy import LazyEncoder
from isomix.encoders.prompts import default_templates, encode_classes, nouns
from isomix.errors import InputError
from isomix.fewshot import ProjectAndMix
from isomix.fewshot.held_out import leave_one_out
from isomix.linalg import normalize_rows
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, Space, TextPCA
from isomix.spaces.band_comparison import MEAN_AVERAGE_PRECISION
from isomix.spaces.band_selection import automatic_band
from isomix.spaces.controls import random_projectors
from isomix.spaces.operator import InterModalOperator
from isomix.spaces.recognition import find_preset
from isomix.store import EmbeddingTable
from isomix.store.search_spaces import SPACE_NAMES, TableSpaces

__all__ = [
    "BandEvidence",
    "Directions",
    "adapt_rows",
    "band_evidence",
    "classifier_source",
    "fit_classifier",
    "for_embeddings",
    "isoclip_directions",
    "left_out",
    "preset_of",
    "save_band",
    "sentences_of_nouns",
    "space_of_column",
    "table_model",
    "text_directions",
]

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]


class Directions(NamedTuple):
    """Directions that a band cuts: coordinates c = C e, inner products G (None: orthonormal), what stands on the curve.

    Attributes
    ----------
    coordinates : ndarray, shape (r, d)
    gram : ndarray, shape (r, r), or None
    values : ndarray, shape (r,)
        Singular values, descending.
    control : ndarray or None
        The same of random projectors.
    """

    coordinates: Doubles
    gram: Doubles | None
    values: Doubles
    control: Doubles | None


def table_model(table: EmbeddingTable, model: str | None = None) -> LazyEncoder:
    """The table's model, which never opens a connection; another one is refused when it is read."""
    return LazyEncoder(model or table.metadata.model, offline=True, made_by=table.made_by)


def for_embeddings(projectors: Projectors) -> Projectors:
    """The pair that is used for stored embeddings: the text projector alone where the image head has a bias."""
    return projectors if projectors.image_bias is None else projectors.text_only()


def space_of_column(table: EmbeddingTable, described: Mapping[str, Any], model: LazyEncoder) -> Space:
    """The space that a column of adapted vectors was made in, fitted anew; refused if that gives another map."""
    made = described.get("parameters", {})
    band = (made["k_top"], made["k_bottom"]) if {"k_top", "k_bottom"} <= set(made) else "preset"
    method = str(described.get("method"))
    space = TableSpaces(table, model, band, None).fitted(method) if method in SPACE_NAMES else None
    if space is None or space.fingerprint != described.get("fingerprint"):
        raise InputError(
            f"the table's adapted vectors were made in a space ({method}) that the model at hand does not give again."
        )
    return space


def isoclip_directions(projectors: Projectors) -> Directions:
    """Singular directions of the inter-modal operator, for image embeddings."""
    pair = for_embeddings(projectors)
    operator = InterModalOperator(pair)
    projected = operator.projected("image")
    control = InterModalOperator(random_projectors(pair)).S
    return Directions(operator.coordinate_map("image"), projected.T @ projected, operator.S, control)


def sentences_of_nouns(encoder: Encoder) -> Singles:
    """Text embeddings of everyday nouns in the model's own prompt: a bank where there is none."""
    template = default_templates(encoder)[0]
    sentences = [template.format(noun) for noun in nouns()]
    return np.asarray(encoder.encode_text(sentences, show_progress_bar=False).embeddings)


def text_directions(bank: Singles, projectors: Projectors) -> tuple[Directions, int]:
    """Principal directions of a bank of sentences, orthonormal, and how many of them are kept by default."""
    kept = TextPCA(projectors=projectors).fit(bank)
    every = TextPCA(len(kept.singular_values_), projectors=projectors).fit(bank)
    return Directions(np.asarray(every.operator_), None, every.singular_values_, None), kept.n_components_


def preset_of(table: EmbeddingTable, projectors: Projectors) -> tuple[int, int] | None:
    """The preset band for images of the table's model, which may be a copy of a published one; or None."""
    preset = find_preset(projectors, backbone=table.metadata.model)
    return None if preset is None else (preset.band.k_top, preset.band.k_bottom)


def adapt_rows(directions: Directions, rows: Singles, k_top: int, k_bottom: int) -> Singles:
    """Unit rows whose cosines are those of the band; (n, k)."""
    band = slice(k_top, len(directions.coordinates) - k_bottom)
    C = directions.coordinates[band]
    if directions.gram is not None:
        values, vectors = np.linalg.eigh(directions.gram[band, band])
        C = (vectors * np.sqrt(np.maximum(values, 0.0))).T @ C
    mapped = rows @ C.T.astype(np.float32)
    return np.asarray(mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12))


def save_band(projectors: Projectors, k_top: int, k_bottom: int) -> IsoCLIP:
    """The fitted space of a band."""
    return IsoCLIP(for_embeddings(projectors), band=(k_top, k_bottom)).fit()


class BandEvidence(NamedTuple):
    """What the band selection found.

    Attributes
    ----------
    source : {"labels", "sentences", "embeddings", "spectrum"}
        What decided.
    why : str
        The same in words.
    band : (int, int)
        The choice.
    mean_average_precision : bool
        Whether bands were scored by it; then there is a grid of scores.
    best, reference : (int, int) or None
        The best of the grid, and the band that it has to beat.
    scores : list of (k_top, k_bottom, score)
    gain, standard_error : float
        Of ``best`` over ``reference``.
    strong : bool
        Whether that stands out.
    """

    source: str
    why: str
    band: tuple[int, int]
    mean_average_precision: bool = False
    best: tuple[int, int] | None = None
    reference: tuple[int, int] | None = None
    scores: tuple[tuple[int, int, float], ...] = ()
    gain: float = 0.0
    standard_error: float = 0.0
    strong: bool = False


def band_evidence(
    projectors: Projectors, rows: NDArray[Any], labels: Sequence[str] | None, bank: Singles | None
) -> BandEvidence:
    """The automatic band, and scores of bands on a sample: by labels, else by sentences, else by what stands out."""
    operator = InterModalOperator(for_embeddings(projectors))
    known = None if labels is None else np.asarray(labels)
    choice = automatic_band(operator, rows, known, "image", bank)
    band, found = (choice.band.k_top, choice.band.k_bottom), choice.comparison
    if found is None:
        return BandEvidence(choice.source, choice.why, band)
    scores = tuple((b.k_top, b.k_bottom, float(score)) for b, score in found.scores.items() if np.isfinite(score))
    return BandEvidence(
        choice.source,
        choice.why,
        band,
        found.criterion == MEAN_AVERAGE_PRECISION,
        (found.best.k_top, found.best.k_bottom),
        (found.reference.k_top, found.reference.k_bottom),
        scores,
        float(found.gain),
        float(found.standard_error),
        bool(found.strong),
    )


def fit_classifier(
    rows: ArrayLike, labels: Sequence[str], encoder: Encoder | None, names: Sequence[str]
) -> ProjectAndMix:
    """Project and Mix on labelled rows; class names are the text where the model is at hand."""
    if len(names) < 2:
        raise InputError(f"got {len(names)} class(es), expected at least two with pictures.")
    text: Mapping[str, Any] | None = None
    if encoder is not None:
        text = encode_classes(encoder, sorted(names))
    scale = 100.0 if encoder is None else encoder.logit_scale
    calibrate = len(labels) > len(set(labels)) + 1  # else nothing can be left out
    return ProjectAndMix(logit_scale=scale, calibrate=calibrate).fit(rows, np.asarray(labels), text)


def classifier_source(table: EmbeddingTable, encoder: Encoder | None, shots: int) -> dict[str, Any]:
    """What a saved classifier was made from, as `isomix fit` records it."""
    return {
        "model": table.metadata.model,
        "fingerprint": table.metadata.fingerprint,
        "templates": [] if encoder is None else list(default_templates(encoder)),
        "shots": f"{shots} rows of {table.path.name}",
    }


def left_out(
    classifier: ProjectAndMix, rows: Singles, labels: Sequence[str]
) -> tuple[NDArray[np.intp], list[str]] | None:
    """Row positions that can be left out, and what the classifier without each of them says; exact, in closed form.

    The weights are those chosen on all shots. None where every class has one shot.
    """
    unit = normalize_rows(np.asarray(rows, np.float32))
    unique, first = np.unique(unit, axis=0, return_index=True)
    kept = np.sort(first) if len(unique) < len(unit) else np.arange(len(unit))
    numbers = np.searchsorted(classifier.classes_, np.asarray(labels)[kept])
    held_out = leave_one_out(unit[kept], numbers, np.ones(len(kept)), classifier.moments_)
    if held_out is None:
        return None
    guesses = classifier.classes_[classifier._sum.held_out(held_out)(classifier._values).argmax(axis=1)]
    return kept[held_out.rows], [str(guess) for guess in guesses]
