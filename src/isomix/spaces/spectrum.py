"""The singular spectrum of the inter-modal operator, described in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Doubles, as_matrix
from isomix.errors import ModelError
from isomix.projectors import Projectors
from isomix.projectors.side import MODALITIES
from isomix.spaces.bands import Band
from isomix.spaces.controls import random_projectors
from isomix.spaces.operator import InterModalOperator
from isomix.spaces.recognition import find_preset

__all__ = [
    "Shares",
    "Spectrum",
    "cliff",
    "direction_shares",
    "effective_rank",
    "leading_outliers",
    "prior_band",
    "spectrum",
]

PRIOR_TOP = 150 / 512
"""Share of the directions that the prior cuts at the top: the preset of OpenAI's ViT-B/32."""
FALL = 0.04
"""The cliff starts where a singular value is this share below the line through the middle of the spectrum."""
FLAT = 1.75
"""S[r/4] / S[3r/4] of a trained CLIP is at most this."""


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
    preset : dict of str to Band
        Preset band by modality; empty for an unknown backbone.
    """

    singular_values: Doubles
    rank: int
    embedding_dim: int
    condition: float
    top_over_median: float
    effective_rank: float
    random_singular_values: Doubles
    random_top_over_median: float
    preset: dict[str, Band]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        values = asdict(self)
        values["singular_values"] = [float(s) for s in self.singular_values]
        values["random_singular_values"] = [float(s) for s in self.random_singular_values]
        values["preset"] = {modality: band.to_dict(self.rank) for modality, band in self.preset.items()}
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
    that all inputs share, and nothing finer: on models with a long fall and no jump (preset bands of CLIP cut a
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


def cliff(singular_values: Doubles) -> int:
    """Number of singular values at the end of the spectrum that lie below its cliff: k_bottom from the spectrum alone.

    A straight line is fitted to the middle half of the values and continued to the end; the cliff begins behind the last
    value that is at most 4 % below it. 50 on OpenAI's ViT-B/32 text projector, 0 on power laws and on the embedded model
    (``docs/bands.md``).

    Parameters
    ----------
    singular_values : ndarray of float64, shape (r,)
        Descending.

    Examples
    --------
    >>> import numpy as np
    >>> cliff(np.r_[np.linspace(4, 3, 90), np.linspace(2, 0, 10)]), cliff(np.linspace(4, 3, 90))
    (10, 0)
    """
    S, rank = singular_values, len(singular_values)
    if rank < 8:
        return 0
    index = np.arange(rank)
    middle = slice(rank // 4, 3 * rank // 4)
    slope, start = np.polyfit(index[middle], S[middle], 1)
    standing = np.flatnonzero((1 - FALL) * (slope * index + start) <= S)
    return rank - 1 - int(standing[-1])


def prior_band(singular_values: Doubles) -> Band | None:
    """The band for images that a spectrum like that of a trained CLIP suggests, before any embedding is seen.

    Such a spectrum has a flat middle that ends in a cliff: S[r/4] ≤ 1.75 S[3r/4] (1.2 to 1.4 for three trained projectors,
    2.2 and more for random matrices), and a :func:`cliff` of r/64 values at least. Then 150/512 of the directions are cut at
    the top and the cliff at the bottom, which for OpenAI's ViT-B/32 is the preset, 150/50. None for any other spectrum.

    Parameters
    ----------
    singular_values : ndarray of float64, shape (r,)
        Descending.

    Examples
    --------
    >>> import numpy as np
    >>> prior_band(np.r_[np.linspace(4, 3, 116), np.linspace(2, 0, 12)])
    Band(k_top=38, k_bottom=12)
    >>> prior_band(np.linspace(2, 0.01, 64)) is None
    True
    """
    S, rank = singular_values, len(singular_values)
    bottom = cliff(S)
    if rank < 32 or bottom < rank / 64 or S[rank // 4] > FLAT * S[3 * rank // 4]:
        return None
    return Band(min(round(PRIOR_TOP * rank), rank - bottom - rank // 16), bottom)


def spectrum(pair: Projectors | InterModalOperator, *, seed: int = 0) -> Spectrum:
    """Describe the spectrum of a pair of projectors beside that of random ones.

    Parameters
    ----------
    pair : Projectors or InterModalOperator
        The latter where it is there already.
    seed : int
        Of the random control.

    Examples
    --------
    >>> import numpy as np
    >>> described = spectrum(Projectors(np.eye(4), np.eye(4)))
    >>> described.rank, described.condition
    (4, 1.0)
    """
    operator = InterModalOperator.of(pair)
    S = operator.S
    R = InterModalOperator(random_projectors(operator.projectors, seed)).S
    found = {modality: find_preset(operator.projectors, modality) for modality in MODALITIES}
    return Spectrum(
        singular_values=S,
        rank=len(S),
        embedding_dim=operator.projectors.embedding_dim,
        condition=float(S[0] / S[-1]),
        top_over_median=float(S[0] / np.median(S)),
        effective_rank=effective_rank(S),
        random_singular_values=R,
        random_top_over_median=float(R[0] / np.median(R)),
        preset={modality: preset.band for modality, preset in found.items() if preset is not None},
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


def direction_shares(pair: Projectors | InterModalOperator, embeddings: ArrayLike, modality: str = "image") -> Shares:
    """Share of variance and of common energy of embeddings along the singular directions of one modality.

    Parameters
    ----------
    pair : Projectors or InterModalOperator
        With a bias-free head for ``modality``.
    embeddings : array_like, shape (n, d)
    modality : {"image", "text"}

    Raises
    ------
    InputError, ModelError

    Notes
    -----
    A unit embedding is e = Σ_j c_j W u_j; along direction j it has the energy c_j² ‖W u_j‖². The W u_j are not orthogonal, so
    these shares weigh directions against one another and do not add up to the total energy of an embedding.
    """
    operator = InterModalOperator.of(pair)
    if reason := operator.projectors.why_not_linear(modality):
        raise ModelError(
            f"{reason}, so embeddings do not determine their coordinates. Look at the spectrum without them."
        )
    width = operator.projectors.embedding_dim
    rows = as_matrix(embeddings, f"{modality} embeddings", width=width, min_rows=2)
    coordinates = operator.coordinates(np.asarray(rows, np.float64), modality)
    projected = operator.projected(modality)
    energy = np.einsum("dr,dr->r", projected, projected)
    variance, common = energy * coordinates.var(axis=0), energy * coordinates.mean(axis=0) ** 2
    return Shares(variance / variance.sum(), common / (variance.sum() + common.sum()))
