"""A fitted space as a faiss transform, and an index that applies it to whatever is added or searched."""

from __future__ import annotations

from typing import Any

import numpy as np

from isomix._affine import AffineMap
from isomix._extras import require
from isomix.errors import InputError

__all__ = ["to_faiss", "wrap_faiss_index"]


def to_faiss(mapped: AffineMap) -> tuple[Any, Any]:
    """See :meth:`isomix.spaces.Space.to_faiss`."""
    faiss = require("faiss", "faiss", "to_faiss")
    weight, bias = mapped.weight, mapped.bias
    transform = faiss.LinearTransform(weight.shape[1], weight.shape[0], bias is not None)
    faiss.copy_array_to_vector(np.ascontiguousarray(weight, np.float32).ravel(), transform.A)
    if bias is not None:
        faiss.copy_array_to_vector(np.ascontiguousarray(bias, np.float32), transform.b)
    transform.is_trained = True
    return transform, faiss.NormalizationTransform(transform.d_out, 2.0)


def wrap_faiss_index(mapped: AffineMap, index: Any) -> Any:
    """See :meth:`isomix.spaces.Space.wrap_faiss_index`."""
    faiss = require("faiss", "faiss", "wrap_faiss_index")
    transform, normalization = to_faiss(mapped)
    if not isinstance(index, faiss.Index) or index.d != transform.d_out:
        given = f"width {index.d}" if isinstance(index, faiss.Index) else type(index).__name__
        raise InputError(
            f"index: got {given}, expected a faiss index of width {transform.d_out}, the adapted vectors' "
            f"(the stored ones have {transform.d_in}). For example: faiss.IndexFlatIP({transform.d_out})."
        )
    if index.ntotal:
        raise InputError(
            f"index: it holds {index.ntotal} vectors already, which are not adapted. Wrap an empty one, then add."
        )
    wrapped = faiss.IndexPreTransform(index)
    wrapped.prepend_transform(normalization)
    wrapped.prepend_transform(transform)
    return wrapped
