"""The singular spectrum of the inter-modal operator, described in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Doubles, Floats, as_matrix
from isomix.errors import BandError, ModelError
from isomix.linalg import ProductSVD, coordinate_map, normalize_rows, svd_of_product
from isomix.projectors import Projectors
from isomix.spaces.bands import Band, published_band

__all__ = [
    "Shares",
    "Spectrum",
    "affine_weights",
    "decompose",
    "direction_shares",
    "effective_rank",
    "leading_outliers",
    "random_projectors",
    "spectrum",
]


@dataclass(frozen=True)
class Spectrum:
    """Singular values of Psi = W_imageᵀ W_text, and what they say.

    Attributes
    ----------
    singular_values : ndarray of float64, shape (r,)
        Descending.
    rank : int
    embedding_dim : int
    condition : float
        Largest over smallest singular value.
    top_over_median : float
        Largest over median singular value; random projectors give a small number (see ``random_top_over_median``).
    effective_rank : float
        exp of the entropy of the normalised singular values (Roy & Vetterli, EUSIPCO 2007): r if all are equal.
    random_singular_values : ndarray of float64, shape (r',)
        The control: Gaussian projectors of the same shapes and Frobenius norms.
    random_top_over_median : float
    published : dict of str to Band
        Published band by modality; empty for an unknown backbone.
    """

    singular_values: Doubles
    rank: int
    embedding_dim: int
    condition: float
    top_over_median: float
    effective_rank: float
    random_singular_values: Doubles
    random_top_over_median: float
    published: dict[str, Band]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        values = asdict(self)
        values["singular_values"] = [float(s) for s in self.singular_values]
        values["random_singular_values"] = [float(s) for s in self.random_singular_values]
        values["published"] = {modality: band._asdict() for modality, band in self.published.items()}
        return values


def effective_rank(singular_values: Doubles) -> float:
    """exp(-sum p log p) with p the singular values divided by their sum.

    Examples
    --------
    >>> import numpy as np
    >>> effective_rank(np.ones(8))
    8.0
    """
    p = singular_values[singular_values > 0] / singular_values.sum()
    return float(np.exp(-(p * np.log(p)).sum()).round(12))


def leading_outliers(singular_values: Doubles, jump: float = 1.5) -> int:
    """Number of singular values that a jump separates from the rest: what the spectrum alone says about a band.

    The last index among the first eighth of the values at which S[i] / S[i + 1] is at least ``jump``. It finds a direction
    that all inputs share, and nothing finer: on models with a long fall and no jump (published bands of CLIP cut a
    quarter of the directions) it says 0. Give embeddings for a better choice.

    Examples
    --------
    >>> import numpy as np
    >>> leading_outliers(np.array([9.0, 4.0, 3.9, 3.8, 3.0, 2.0, 1.0, 0.9]))
    1
    """
    first = max(1, len(singular_values) // 8)
    head = singular_values[: first + 1]
    jumps = np.flatnonzero(head[:-1] >= jump * head[1:]) if len(head) > 1 else np.zeros(0, int)
    return int(jumps[-1]) + 1 if jumps.size else 0


def affine_weights(projectors: Projectors) -> tuple[Floats, Floats]:
    """Image and text projector as maps of the features; with a bias, [W b], of features with a 1 appended."""
    image, text = (
        weight if bias is None else np.column_stack([weight, bias.astype(weight.dtype)])
        for weight, bias in ((projectors.image, projectors.image_bias), (projectors.text, projectors.text_bias))
    )
    return image, text


def decompose(projectors: Projectors) -> ProductSVD:
    """Singular value decomposition of the inter-modal operator Psi = W_imageᵀ W_text, biases included.

    The one expensive step of everything that is said about a pair; what takes a ``decomposition`` does not repeat it.
    """
    return svd_of_product(*affine_weights(projectors))


def random_projectors(projectors: Projectors, seed: int = 0) -> Projectors:
    """Gaussian projectors of the same shapes and Frobenius norms: the control of every statement about a spectrum.

    A bias counts as one more column.
    """
    rng = np.random.default_rng(seed)
    pair = []
    for weight in affine_weights(projectors):
        noise = rng.standard_normal(weight.shape)
        pair.append(noise * (np.linalg.norm(weight) / np.linalg.norm(noise)))
    return Projectors(*pair)


def spectrum(projectors: Projectors, *, seed: int = 0, decomposition: ProductSVD | None = None) -> Spectrum:
    """Describe the spectrum of a pair of projectors beside that of random ones.

    Parameters
    ----------
    projectors : Projectors
    seed : int
        Of the random control.
    decomposition : ProductSVD, optional
        What :func:`decompose` gives for ``projectors``, where it is there already.

    Examples
    --------
    >>> import numpy as np
    >>> described = spectrum(Projectors(np.eye(4), np.eye(4)))
    >>> described.rank, described.condition
    (4, 1.0)
    """
    S = (decomposition or decompose(projectors)).S
    R = decompose(random_projectors(projectors, seed)).S
    published = {}
    for modality in ("image", "text"):
        try:
            published[modality] = published_band(projectors.source, modality)
        except BandError:
            continue
    return Spectrum(
        singular_values=S,
        rank=len(S),
        embedding_dim=projectors.embedding_dim,
        condition=float(S[0] / S[-1]),
        top_over_median=float(S[0] / np.median(S)),
        effective_rank=effective_rank(S),
        random_singular_values=R,
        random_top_over_median=float(R[0] / np.median(R)),
        published=published,
    )


class Shares(NamedTuple):
    """What a sample of embeddings has along each singular direction.

    Attributes
    ----------
    variance : ndarray of float64, shape (r,)
        Variance of the unit embeddings along each direction, divided by the sum over all directions.
    common : ndarray of float64, shape (r,)
        Squared mean along each direction, divided by the sum of squared means and variances: what all of them share.
    """

    variance: Doubles
    common: Doubles


def direction_shares(
    projectors: Projectors, embeddings: ArrayLike, modality: str = "image", *, decomposition: ProductSVD | None = None
) -> Shares:
    """Share of variance and of common energy of embeddings along the singular directions of one modality.

    Parameters
    ----------
    projectors : Projectors
        With a bias-free head for ``modality``.
    embeddings : array_like, shape (n, d)
    modality : {"image", "text"}
    decomposition : ProductSVD, optional
        As for :func:`spectrum`.

    Raises
    ------
    InputError, ModelError

    Notes
    -----
    A unit embedding is e = Σ_j c_j W u_j; along direction j it has the energy c_j² ‖W u_j‖². The W u_j are not orthogonal, so
    these shares weigh directions against one another and do not add up to the total energy of an embedding.
    """
    image = modality == "image"
    if reason := projectors.why_not_linear(modality):
        raise ModelError(
            f"{reason}, so embeddings do not determine their coordinates. Look at the spectrum without them."
        )
    weight = np.asarray(projectors.image if image else projectors.text, np.float64)
    U, _, V = decomposition or decompose(projectors)
    directions = U if image else V
    rows = as_matrix(embeddings, f"{modality} embeddings", width=projectors.embedding_dim, min_rows=2)
    coordinates = normalize_rows(np.asarray(rows, np.float64)) @ coordinate_map(weight, directions).T
    energy = np.einsum("dr,dr->r", weight @ directions, weight @ directions)
    variance, common = energy * coordinates.var(axis=0), energy * coordinates.mean(axis=0) ** 2
    return Shares(variance / variance.sum(), common / (variance.sum() + common.sum()))
