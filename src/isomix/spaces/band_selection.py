"""Choosing a band of directions: a prior from the spectrum, confirmed by pictures, moved by labels or sentences.

1. The spectrum of a trained CLIP suggests a band (:func:`isomix.spaces.spectrum.prior_band`).
2. Pictures confirm it or not: along the directions behind the spectrum's cliff they have several times their share of the
   energy if the projectors are those of their own model, and about their share if not (:func:`cliff_energy`).
3. Labels, or sentences, score every band of a grid by mean average precision; the best replaces the prior, or the whole
   spectrum where there is no prior, if it is better by some standard errors.

Where the spectrum suggests no band, what stands out at its top is cut if embeddings do not speak against it, by the
*neighbour contrast*: by how many standard deviations of its similarities an embedding's nearest neighbours stand above the
average. A direction shared by all pictures lifts every similarity and adds nothing to it.

The rules are this project's; ``docs/bands.md`` has what each of them gives, and on which data its numbers were set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Doubles, Floats, as_matrix
from isomix.linalg import normalize_rows
from isomix.spaces.band_comparison import (
    MEAN_AVERAGE_PRECISION,
    NEIGHBOR_CONTRAST,
    WHOLE,
    Comparison,
    band_grid,
    by_contrast,
    by_labels,
    by_relevance,
    compare,
    decide,
)
from isomix.spaces.bands import Band
from isomix.spaces.gallery_sample import draw_sample, nearest_rows, same_sentence, subsample
from isomix.spaces.operator import FORMS, InterModalOperator
from isomix.spaces.spectrum import leading_outliers, prior_band

__all__ = ["Choice", "automatic_band", "cliff_energy"]

MAX_SOFT_QUERIES = 250
CLIFF_ENERGY = 2.0
"""Pictures of the projectors' own model have four times their share of energy in the cliff or more, others 1.3 at most."""
OVER_WHOLE = {"labels": 2.0, "sentences": 3.0, "embeddings": 2.0}
"""Standard errors by which a band has to beat the whole spectrum, by what the score is made from."""
OVER_PRIOR = {"labels": 1.0, "sentences": 2.0}
"""Standard errors by which a band has to beat the prior."""


class Choice(NamedTuple):
    """The chosen band and what speaks for it.

    Attributes
    ----------
    band : Band
    source : {"labels", "sentences", "embeddings", "spectrum"}
        What decided.
    prior : Band or None
        What the spectrum suggests, held or not.
    energy : float or None
        :func:`cliff_energy` of the embeddings; None without embeddings or prior.
    comparison : Comparison or None
        Where bands were scored.
    """

    band: Band
    source: str
    prior: Band | None = None
    energy: float | None = None
    comparison: Comparison | None = None

    @property
    def why(self) -> str:
        """What decided, in words."""
        if self.comparison is not None:
            found = self.comparison
            scale, unit = (100, "mAP") if found.criterion == MEAN_AVERAGE_PRECISION else (1, "neighbour contrast")
            by = {"labels": "by labels", "sentences": "by sentences"}.get(self.source, "without labels")
            measured = f"{scale * found.gain:+.2f} ± {scale * found.standard_error:.2f} {unit} {by}"
            reference = "the whole spectrum" if found.reference == WHOLE else str(found.reference)
            if found.best == found.reference:
                return f"no band is better than {reference} {by}"
            verb = "beats" if found.strong else "is not clearly better than"
            return f"{found.best} {verb} {reference}: {measured}"
        if self.prior is None:
            what = "a jump at the top of the spectrum" if self.band != WHOLE else "nothing stands out in the spectrum"
            return f"{what}; no embeddings were looked at" if self.source == "spectrum" else what
        suggested = f"the spectrum, flat with a cliff of {self.prior.k_bottom} directions, suggests {self.prior}"
        if self.energy is None:
            return f"{suggested}; no embeddings were looked at"
        verb = "confirm it" if self.band == self.prior else "do not"
        return (
            f"{suggested}, and the embeddings {verb}: {self.energy:.1f} times their share of energy in the cliff, "
            f"expected {CLIFF_ENERGY:g} or more"
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values, without the scores of all bands."""
        values: dict[str, Any] = {"band": str(self.band), "from": self.source, "why": self.why}
        if self.prior is not None:
            values["prior"] = str(self.prior)
        if self.energy is not None:
            values["cliff_energy"] = round(self.energy, 4)
        if self.comparison is not None:
            found = self.comparison
            values |= {"criterion": found.criterion, "compared": len(found.scores), "reference": str(found.reference)}
            values |= {"best": str(found.best), "strong": found.strong}
            values |= {name: round(float(getattr(found, name)), 6) for name in ("gain", "standard_error")}
        return values


def automatic_band(
    operator: InterModalOperator,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    modality: str = "image",
    bank: ArrayLike | None = None,
) -> Choice:
    """The band of ``IsoCLIP(projectors, band="auto").fit(X, y, bank=bank)``, for who has the operator already.

    Parameters
    ----------
    operator : InterModalOperator
    X : array_like, shape (n, d), optional
        Stored embeddings; pre-projection features, shape (n, d_in), for a head with a bias.
    y : array_like, shape (n,), optional
        Their labels.
    modality : {"image", "text"}
        The prior is for images only: the presets for texts cut 2 to 20 directions at the top.
    bank : array_like, shape (m, d), optional
        Embeddings of the other modality. Without labels, two rows are relevant to each other as far as they mean the same
        of these (:func:`same_sentence`); where no prior holds, if the same of them is nearest.

    Returns
    -------
    Choice

    Raises
    ------
    InputError
        Fewer than 50 rows, another width, NaN, or labels that do not fit.
    """
    outliers = Band(leading_outliers(operator.S), 0)
    prior = prior_band(operator.S) if modality == "image" else None
    if X is None:
        return Choice(prior or outliers, "spectrum", prior)
    if operator.form == FORMS[1]:
        modality = "image"  # one set of directions for both
    side, d = operator.side(modality), operator.projectors.embedding_dim
    array, sentences = np.asarray(X), None
    width, name = (d, "embeddings") if side.bias is None else (side.width, "pre-projection features")
    source = "embeddings" if y is None else "labels"
    if y is None and bank is not None:
        array = as_matrix(subsample(array), name, width=width, keep_half=True)
        sentences = normalize_rows(as_matrix(bank, "bank", width=d, width_of="the embeddings", nonzero_rows=True))
        affine = None if side.bias is None else operator.weight(modality)
        source, y = "sentences", nearest_rows(array, sentences, affine)
    sample = draw_sample(len(array), y)
    rows = as_matrix(array[sample.rows], name, width=width)
    C, F = operator.coordinates(rows, modality), operator.projected(modality)
    energy = None if prior is None else cliff_energy(C, F, prior.k_bottom)
    held = prior if energy is not None and energy >= CLIFF_ENERGY else None
    if sample.labels is None:
        # Contrast alone chose bands that cost a lot (docs/bands.md), so it may only refuse what the spectrum proposes.
        if prior is not None or outliers == WHOLE:
            return Choice(held or WHOLE, "embeddings", prior, energy)
        values = compare(C, F.T @ F, [WHOLE, outliers], sample.n_queries, by_contrast)
        compared = decide(values, WHOLE, OVER_WHOLE["embeddings"], NEIGHBOR_CONTRAST)
        return Choice(compared.band, "embeddings", prior, energy, compared)
    criterion, n_queries = by_labels(sample.labels), sample.n_queries
    if sentences is not None and held is not None:
        unit = normalize_rows(rows if side.bias is None else side.project(rows))
        n_queries = min(n_queries, MAX_SOFT_QUERIES)
        scale = operator.projectors.logit_scale or 100.0
        criterion = by_relevance(same_sentence(unit, sentences, n_queries, scale))
    values = compare(C, F.T @ F, band_grid(operator.rank, held), n_queries, criterion)
    compared = decide(values, held or WHOLE, OVER_WHOLE[source] if held is None else OVER_PRIOR[source])
    return Choice(compared.band, source, prior, energy, compared)


def cliff_energy(coordinates: Floats, projected: Doubles, k_bottom: int) -> float:
    """Mean energy of embeddings along each of the last ``k_bottom`` directions, over the mean along all.

    What the text projector cannot express, sentences leave empty and pictures fill: the gap between the modalities lies
    there. On OpenAI's ViT-B/32 it is 0.4 for sentences and 4.5 to 5.0 for pictures; 0.7 to 1.3 if the projector is turned at
    random, transposed or another model's (``studies/text_projector.py --only small``). So it answers yes or no: are these
    pictures of the model of these projectors?

    Parameters
    ----------
    coordinates : ndarray, shape (m, r)
        Of unit embeddings: an embedding is F c.
    projected : ndarray of float64, shape (d, r)
        F.
    k_bottom : int
        At least 1.
    """
    energy = np.einsum("dr,dr->r", projected, projected) * (np.asarray(coordinates, np.float64) ** 2).mean(axis=0)
    return float(energy[-k_bottom:].mean() / energy.mean())
