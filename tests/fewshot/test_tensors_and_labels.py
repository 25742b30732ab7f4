"""Tensors of torch are taken as they come; labels that no file or terminal can hold are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isomix import search
from isomix._arrays import as_matrix
from isomix.errors import InputError
from isomix.fewshot import ProjectAndMix
from isomix.linalg import normalize_rows
from isomix.spaces import TextPCA

torch = pytest.importorskip("torch")
NAMES = ["ant", "bee"]


@pytest.fixture(name="X")
def _rows(rng: np.random.Generator) -> np.ndarray:
    return normalize_rows(np.repeat(np.eye(8)[:2], 4, axis=0) + 0.3 * rng.normal(size=(8, 8))).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("gradient", [False, True])
def test_tensors_are_taken(X: np.ndarray, dtype: str, gradient: bool) -> None:
    tensor = torch.tensor(X).to(getattr(torch, dtype)).requires_grad_(gradient)
    plain = tensor.detach().float().numpy()
    np.testing.assert_array_equal(as_matrix(tensor, "rows"), plain)
    y, text = np.repeat(NAMES, 4), {"ant": tensor[0], "bee": tensor[4]}
    for text_given in (text, None, torch.stack([tensor[0], tensor[4]])):
        fitted = ProjectAndMix().fit(tensor, y, text_given)
        np.testing.assert_allclose(fitted.logits(tensor), fitted.logits(plain), atol=1e-4)
    space = TextPCA(2).fit(tensor)
    np.testing.assert_allclose(space.transform(tensor), space.transform(plain), atol=1e-6)
    np.testing.assert_array_equal(search(tensor, tensor, 2)[1], search(plain, plain, 2)[1])


def test_a_list_of_tensors_with_gradients_says_what_to_do(X: np.ndarray) -> None:
    rows = [torch.tensor(row).requires_grad_() for row in X]
    with pytest.raises(InputError, match=r"torch\.stack"):
        as_matrix(rows, "rows")


@pytest.mark.parametrize(
    ("label", "message"), [(b"ant", "is bytes.*Decode"), (None, "is None"), ("caf\udce9", "is not UTF-8")]
)
def test_labels_that_cannot_be(X: np.ndarray, label: Any, message: str) -> None:
    y, text = np.repeat(NAMES, 4).tolist(), dict(zip(NAMES, X[::4], strict=True))
    spoilt = [label, *y[1:]]
    fitted = ProjectAndMix().fit(X, y, text)
    calls: list[Any] = [
        lambda: ProjectAndMix().fit(X, spoilt, text),
        lambda: ProjectAndMix().fit(X, np.array(spoilt, object), text),
        lambda: ProjectAndMix().fit(X, y, text | {label: X[0]}),
        lambda: ProjectAndMix().fit(X, y, text, validation=(X, spoilt)),
        lambda: fitted.partial_fit(X, y, classes=[label]),
        lambda: fitted.partial_fit(X, spoilt),
    ]
    for call in calls:
        with pytest.raises(InputError, match=message):
            call()
