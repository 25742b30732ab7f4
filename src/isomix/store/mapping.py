"""A space applied to stored vectors: what may be mapped by it, and blocks of rows in several threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix.errors import InputError, ModalityError
from isomix.store.formats.base import Block, Source
from isomix.store.formats.tables import TableSource
from isomix.store.half import to_half, to_single

if TYPE_CHECKING:
    from isomix.spaces import Space

__all__ = ["BlockMapper", "Mapped", "check_compatible"]


class Mapped(NamedTuple):
    """Vectors in the space, and the rows among them that have no direction, by their numbers in the whole source."""

    vectors: NDArray[Any]
    skipped: list[int]


def check_compatible(source: Source, space: Space) -> None:
    """Refuse vectors that a space cannot map, or that are known to be of another model.

    Raises
    ------
    InputError
        Adapted already, no rows, or of another width.
    ModalityError
    FingerprintMismatchError
    """
    made_by = source.record.get("space")
    if made_by:
        raise InputError(
            f"{source.path} holds vectors that were adapted already, with {made_by.get('method')!r}. "
            "Adapt the plain embeddings that they were made from."
        )
    if source.rows == 0:
        raise InputError(f"{source.path} holds no rows. Expected at least one.")
    if source.width != space.n_features_in_:
        raise InputError(
            f"{source.path} holds vectors of width {source.width}, and the space maps width {space.n_features_in_}. "
            "It was made for another model: name the one that made the vectors."
        )
    if source.modality not in (None, space.modality):
        raise ModalityError(
            f"{source.path} holds {source.modality} embeddings, and the space is for "
            f"{space.modality}-{space.modality} similarity. "
            "Text-to-image search uses plain embeddings on both sides."
        )
    if isinstance(source, TableSource):
        made_for = space.describe()["source"]
        if "text_projector" in made_for:  # alone, it has no fingerprint to compare
            source.table.made_by.check_name(made_for["model"])
        source.table.made_by.check(str(made_for.get("model")), projectors=made_for.get("projectors", ""))


class BlockMapper:
    """A space applied to blocks, in several threads at once.

    Conversions from and to half precision are this package's own, and each thread keeps the arrays it works in: fresh
    memory for every block would cost as much as the conversions.
    """

    def __init__(self, space: Space, dtype: np.dtype[Any], skip_bad: bool = False) -> None:
        self.space, self.dtype, self.skip_bad = space, dtype, skip_bad
        self._single = space.affine_map()
        self._own = threading.local()

    def __call__(self, block: Block) -> Mapped:
        """Adapt one block; rows without a direction raise, by their numbers in the whole source, or become NaN."""
        if not len(block.vectors):
            return Mapped(np.empty((0, self.space.n_components_), self.dtype), [])
        try:
            return Mapped(self._transform(block.vectors), [])
        except InputError:
            good = self._have_direction(block.vectors)
            bad = [int(row) for row in np.flatnonzero(~good) + block.start]
            if not bad:
                raise
            if not self.skip_bad:
                shown = ", ".join(map(str, bad[:8])) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
                raise InputError(
                    f"rows without a direction (NaN, infinite, all zeros, or zero in the space): {shown}; there may be "
                    "more further on. They usually stand for pictures that could not be read. Repair them, or skip them "
                    "(--skip-bad): they become NaN, and no row moves."
                ) from None
        vectors = np.full((len(block.vectors), self.space.n_components_), np.nan, self.dtype)
        if good.any():
            vectors[good] = self._transform(np.ascontiguousarray(block.vectors[good]))
        return Mapped(vectors, bad)

    def _have_direction(self, vectors: NDArray[Any]) -> NDArray[np.bool_]:
        """Which rows of a block can be mapped; of what is finite and not zero, the space may still send some to zero."""
        good = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
        try:
            self._transform(np.ascontiguousarray(vectors[good]))
        except InputError:
            good[good] = [self._has_direction(row) for row in vectors[good]]
        return good

    def _has_direction(self, row: NDArray[Any]) -> bool:
        try:
            self._transform(row[None])
        except InputError:
            return False
        return True

    def _transform(self, vectors: NDArray[Any]) -> NDArray[Any]:
        if vectors.dtype == np.float64:
            return self.space.transform(vectors).astype(self.dtype)
        shape = (len(vectors), self.space.n_components_)
        if vectors.dtype == np.float16:
            vectors = to_single(vectors, self._array("single", vectors.shape))
        if self.dtype == np.float32:
            return self._single(vectors, out=np.empty(shape, np.float32))
        return to_half(self._single(vectors, out=self._array("mapped", shape)))

    def _array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """An array of this thread that is used again for every block."""
        held: NDArray[np.float32] | None = getattr(self._own, name, None)
        if held is None or len(held) < shape[0]:
            held = np.empty(shape, np.float32)
            setattr(self._own, name, held)
        return held[: shape[0]]
