"""The one thing that every space is: an affine map, followed by normalisation.

It stands below ``spaces``, which fit it, and below ``exports``, which carry it into other tools.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles, Floats, as_matrix, blocks, working_dtype
from isomix.errors import InputError
from isomix.linalg import normalize_rows

__all__ = ["AffineMap"]

BLOCK_ROWS = 8192


@dataclass(frozen=True, eq=False)
class AffineMap:
    """z = (A x + b) / ‖A x + b‖.

    Attributes
    ----------
    weight : ndarray of float64, shape (k, d)
        A.
    bias : ndarray of float64, shape (k,), or None
        b, or None for zero.

    Examples
    --------
    >>> import numpy as np
    >>> AffineMap(np.diag([3.0, 4.0]))(np.ones((1, 2)))
    array([[0.6, 0.8]])
    """

    weight: Doubles
    bias: Doubles | None = None
    _cast: dict[np.dtype[Any], tuple[Floats, Floats | None]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, rows: NDArray[Any], *, out: Floats | None = None, name: str = "embeddings") -> Floats:
        """Map rows block by block; the product itself finds NaN, infinite and zero rows, so that good ones are read once.

        Parameters
        ----------
        rows : ndarray, shape (n, d)
            float16, float32 or float64.
        out : ndarray, shape (n, k), optional
            float32 or float64, in whose precision it is computed. Default: fresh memory, float64 if that came in, else
            float32.
        name : str
            What the rows are called in errors.

        Raises
        ------
        InputError
            NaN, or a row that the map sends to zero.
        """
        if out is None:
            out = np.empty((len(rows), len(self.weight)), working_dtype(rows.dtype))
        transposed, bias = self._in(out.dtype)
        for part in blocks(len(rows), BLOCK_ROWS):
            block = out[part]
            with np.errstate(invalid="ignore", over="ignore"):  # looked at below
                np.matmul(rows[part].astype(out.dtype, copy=False), transposed, out=block)
                if bias is not None:
                    block += bias
                squares = np.einsum("ij,ij->i", block, block)
            tiny = np.finfo(out.dtype).tiny * 1e8
            if np.isfinite(squares).all() and (squares > tiny).all():
                block /= np.sqrt(squares)[:, None]
            else:
                block[:] = self._careful(rows[part], name, part.start)
        return out

    def _in(self, dtype: np.dtype[Any]) -> tuple[Floats, Floats | None]:
        """Aᵀ and b, made ready once for each dtype."""
        if dtype not in self._cast:
            bias = None if self.bias is None else self.bias.astype(dtype)
            self._cast[dtype] = np.ascontiguousarray(self.weight.T, dtype), bias
        return self._cast[dtype]

    def _careful(self, block: NDArray[Any], name: str, start: int) -> Floats:
        """Float64 version for a block with values that are extreme or wrong; raises for the latter."""
        with np.errstate(all="ignore"):
            bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            raise InputError(
                f"{name}: NaN or infinite values in row {int(np.flatnonzero(bad)[0]) + start} "
                f"(and {int(bad.sum()) - 1} more in its block). Drop such rows, or encode them again."
            )
        values = as_matrix(block.astype(np.float64), name)
        largest = np.abs(values).max(axis=1, keepdims=True)
        if self.bias is None and not largest.all():
            row = int(np.flatnonzero(largest == 0)[0]) + start
            raise InputError(f"{name}: row {row} is all zeros and has no direction. Drop such rows.")
        scale = np.where(largest > 0, largest, 1.0)
        mapped = (values / scale) @ self.weight.T
        if self.bias is not None:
            mapped += self.bias / scale
        return normalize_rows(mapped, f"{name} after the map (rows counted from {start})")
