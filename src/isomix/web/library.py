"""Everything of isomix that the studio computes with, behind a handful of names: what is renamed there is followed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix.encoders import Encoder, load_encoder
from isomix.encoders.prompts import default_templates, encode_classes, nouns
from isomix.errors import BandError, FingerprintMismatchError, InputError
from isomix.fewshot import ProjectAndMix
from isomix.fewshot.held_out import leave_one_out
from isomix.linalg import coordinate_map, normalize_rows, principal_directions
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, published_band
from isomix.spaces.band_selection import automatic_band
from isomix.spaces.spectrum import affine_weights, decompose, random_projectors
from isomix.store import EmbeddingTable

__all__ = [
    "BandEvidence",
    "Directions",
    "adapt_rows",
    "band_evidence",
    "classifier_source",
    "fit_classifier",
    "isoclip_directions",
    "left_out",
    "load_table_encoder",
    "load_table_projectors",
    "preset_of",
    "save_band",
    "sentences_of_nouns",
    "text_directions",
]

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]


class Directions(NamedTuple):
    """Directions that a band cuts: coordinates c = C x, inner products G (None: orthonormal), what stands on the curve.

    Attributes
    ----------
    coordinates : ndarray, shape (r, d)
        Of stored embeddings; of features with a 1 appended where ``of_features``.
    gram : ndarray, shape (r, r), or None
    values : ndarray, shape (r,)
        Singular values, descending.
    control : ndarray or None
        The same of random projectors.
    of_features : bool
    """

    coordinates: Doubles
    gram: Doubles | None
    values: Doubles
    control: Doubles | None
    of_features: bool


def load_table_encoder(table: EmbeddingTable, model: str | None = None) -> Encoder:
    """The table's model, without opening a connection; its fingerprint is checked."""
    encoder = load_encoder(model or table.metadata.model, offline=True)
    table.check_encoder(encoder)
    return encoder


def load_table_projectors(table: EmbeddingTable, model: str | None = None) -> Projectors:
    """The projectors of the table's model, without opening a connection."""
    name = model or table.metadata.model
    projectors = Projectors.from_pretrained(name, offline=True)
    if projectors.fingerprint != table.metadata.projectors:
        raise FingerprintMismatchError(
            f"the table was made with projectors {table.metadata.projectors[:12]} of {table.metadata.model!r}, and {name!r} now "
            f"has projectors {projectors.fingerprint[:12]}. Name the table's own model with --model."
        )
    return projectors


def isoclip_directions(projectors: Projectors) -> Directions:
    """Singular directions of the inter-modal operator, for image embeddings."""
    decomposition = decompose(projectors)
    weight = np.asarray(affine_weights(projectors)[0], np.float64)
    U = decomposition.U
    biased = projectors.image_bias is not None
    projected = weight @ U
    coordinates = U.T if biased else coordinate_map(weight, U)
    control = decompose(random_projectors(projectors)).S
    return Directions(np.asarray(coordinates), projected.T @ projected, decomposition.S, control, biased)


def sentences_of_nouns(encoder: Encoder) -> Singles:
    """Text embeddings of everyday nouns in the model's own prompt: a bank where there is none."""
    template = default_templates(encoder)[0]
    sentences = [template.format(noun) for noun in nouns()]
    return np.asarray(encoder.encode_text(sentences, show_progress_bar=False).embeddings)


def text_directions(bank: Singles) -> Directions:
    """Principal directions of a bank of sentences; orthonormal."""
    directions, values, _ = principal_directions(normalize_rows(bank), center=True)
    return Directions(directions, None, values, None, False)


def preset_of(model: str) -> tuple[int, int] | None:
    """The preset band of a model for images, or None."""
    try:
        band = published_band(model)
    except BandError:
        return None
    return band.k_top, band.k_bottom


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
    return IsoCLIP(projectors, k_top=k_top, k_bottom=k_bottom).fit()


class BandEvidence(NamedTuple):
    """What the band selection found.

    Attributes
    ----------
    source : {"labels", "sentences", "embeddings", "spectrum"}
    criterion : str
    band, best : (int, int)
        The choice, and the best of the grid.
    scores : list of (k_top, k_bottom, score)
    gain, standard_error : float
        Of ``best`` over the whole spectrum.
    strong : bool
    """

    source: str
    criterion: str
    band: tuple[int, int]
    best: tuple[int, int]
    scores: list[tuple[int, int, float]]
    gain: float
    standard_error: float
    strong: bool


def band_evidence(
    projectors: Projectors, rows: NDArray[Any], labels: Sequence[str] | None, bank: Singles | None
) -> BandEvidence | None:
    """Scores of bands on a sample: by labels, else by the nearest sentence, else by the neighbours' contrast."""
    source, choice, band = automatic_band(
        projectors, decompose(projectors), rows, None if labels is None else np.asarray(labels), "image", bank
    )
    if choice is None:
        return None
    scores = [(b.k_top, b.k_bottom, float(score)) for b, score in choice.scores.items() if np.isfinite(score)]
    return BandEvidence(
        source,
        choice.criterion,
        (band.k_top, band.k_bottom),
        (choice.best.k_top, choice.best.k_bottom),
        scores,
        float(choice.gain),
        float(choice.standard_error),
        bool(choice.strong),
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
    return ProjectAndMix(logit_scale=scale, calibrate=len(labels) > len(set(labels))).fit(
        rows, np.asarray(labels), text
    )


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
    guesses = classifier.classes_[classifier._held_out_logits(held_out).argmax(axis=1)]
    return kept[held_out.rows], [str(guess) for guess in guesses]
