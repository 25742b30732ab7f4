"""The optimisation that both inversions share: input vectors of a frozen tower, moved until its output fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.functional import normalize

from isomix._arrays import as_matrix, blocks, check_integer
from isomix.encoders.base import Encoder
from isomix.encoders.batching import progress_bar
from isomix.errors import ModelError
from isomix.linalg import normalize_rows

__all__ = ["Inversion", "ModalityInversion", "replaced_output"]

INITIAL_STD = 0.02


@dataclass(frozen=True)
class Inversion:
    """What an inversion found.

    Attributes
    ----------
    embeddings : ndarray of float32, shape (n, d)
        The queries in the other modality, unit rows.
    tokens : ndarray of float32, shape (n, n_tokens, width)
        The input vectors that give them.
    cosine : ndarray of float32, shape (n, n_steps + 1)
        Similarity to the given embedding before each step and after the last.
    """

    embeddings: NDArray[np.float32]
    tokens: NDArray[np.float32]
    cosine: NDArray[np.float32]


@dataclass(eq=False)
class ModalityInversion(ABC):
    """Optimise input vectors of a frozen tower until its embedding matches a given one of the other modality.

    Common part of :class:`TextualInversion` and :class:`VisualInversion`, which say where the vectors go.

    Parameters
    ----------
    model : transformers CLIPModel or isomix Encoder
        Plain, not folded. Its weights are never changed. The attribute is the CLIPModel.
    n_tokens : int
        Vectors to optimise for each query.
    n_steps : int
    learning_rate, weight_decay : float
        Of AdamW, with its other settings at their defaults.
    batch_size : int
        Queries optimised side by side; it changes the time and the memory, not the result.
    seed : int
        Of the start, drawn from N(0, 0.02²) once and used for every query, so that no query's result depends on the
        others or on its place among them.
    """

    model: Any = field(repr=False)
    _: KW_ONLY
    n_tokens: int = 1
    n_steps: int
    learning_rate: float = 2e-2
    weight_decay: float = 0.01
    batch_size: int = 64
    seed: int = 0

    _tower: ClassVar[str]
    _projection: ClassVar[str]

    def __post_init__(self) -> None:
        given = type(self.model).__name__
        if isinstance(self.model, Encoder):
            self.model = self.model.torch_model
        needs = (self._tower, self._projection)
        missing = [name for name in needs if not isinstance(getattr(self.model, name, None), torch.nn.Module)]
        if missing:
            raise ModelError(
                f"model: a {given} has no {' and no '.join(missing)}. Modality inversion needs "
                "gradients through a CLIP of transformers: pass a CLIPModel, or an encoder loaded as 'hf:…'."
            )
        for name in ("n_tokens", "n_steps", "batch_size"):
            check_integer(getattr(self, name), name, minimum=1)

    @abstractmethod
    def _inputs(self) -> torch.nn.Module:
        """The layer of the tower whose output the optimised vectors replace."""

    @abstractmethod
    def _width(self) -> int:
        """Width of one input vector."""

    @abstractmethod
    def _place(self, tokens: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The layer's output with the optimised vectors, (n, n_tokens, width), in their places."""

    @abstractmethod
    def _around(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """What goes into the tower beside the optimised vectors, for n queries."""

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Input vectors of shape (n, n_tokens, width) to the tower's embeddings of shape (n, d), not normalised."""
        with replaced_output(self._inputs(), lambda output: self._place(tokens, output)):
            pooled = getattr(self.model, self._tower)(**self._around(tokens)).pooler_output
        return getattr(self.model, self._projection)(pooled)

    def transform(self, X: ArrayLike, *, show_progress_bar: bool | None = None) -> NDArray[np.float32]:
        """The embeddings of :meth:`invert` alone: (n, d) of one modality to (n, d) of the other, unit rows."""
        return self.invert(X, show_progress_bar=show_progress_bar).embeddings

    def invert(self, X: ArrayLike, *, show_progress_bar: bool | None = None) -> Inversion:
        """Carry embeddings into the other modality.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Embeddings of the model, of the modality that is to be left; normalised or not.
        show_progress_bar : bool, optional
            Default: only on a terminal. It counts steps of batches.

        Raises
        ------
        InputError
            Wrong width or dtype, NaN, zero rows.
        """
        width = int(getattr(self.model, self._projection).weight.shape[0])
        targets = normalize_rows(as_matrix(X, "embeddings", width=width, width_of="the model's", nonzero_rows=True))
        batches = list(blocks(len(targets), self.batch_size))
        generator = torch.Generator().manual_seed(self.seed)
        start = torch.randn(self.n_tokens, self._width(), generator=generator) * INITIAL_STD
        result = Inversion(
            np.empty((len(targets), targets.shape[1]), np.float32),
            np.empty((len(targets), *start.shape), np.float32),
            np.empty((len(targets), self.n_steps + 1), np.float32),
        )
        device = next(self.model.parameters()).device
        with _frozen(self.model), progress_bar("steps", len(batches) * self.n_steps, show_progress_bar) as advance:
            for rows in batches:
                wanted = torch.from_numpy(np.asarray(targets[rows], np.float32)).to(device)
                found = self._optimize(wanted, start.to(device), advance)
                result.embeddings[rows], result.tokens[rows], result.cosine[rows] = (
                    part.cpu().numpy() for part in found
                )
        return result

    def _optimize(
        self, targets: torch.Tensor, start: torch.Tensor, advance: Callable[[int], None]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        tokens = start.expand(len(targets), -1, -1).clone().requires_grad_()
        optimizer = torch.optim.AdamW([tokens], lr=self.learning_rate, weight_decay=self.weight_decay)
        history = []
        for _ in range(self.n_steps):
            cosine = (normalize(self.embed(tokens).float(), dim=-1) * targets).sum(-1)
            history.append(cosine.detach())
            # A sum, not a mean: each row's gradient, and so its AdamW step, is its own whatever the batch.
            (tokens.grad,) = torch.autograd.grad((1 - cosine).sum(), tokens)
            optimizer.step()
            advance(1)
        with torch.no_grad():
            embeddings = normalize(self.embed(tokens).float(), dim=-1)
            history.append((embeddings * targets).sum(-1))
        return embeddings, tokens.detach(), torch.stack(history, dim=1)


@contextmanager
def _frozen(model: torch.nn.Module) -> Iterator[None]:
    """No gradients for the weights and no dropout, for a while; gradients for inputs, whatever the caller has set."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = [module for module in model.modules() if module.training]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        model.eval()
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True


@contextmanager
def replaced_output(module: torch.nn.Module, replace: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Put ``replace(output)`` in the place of a module's output, for a while.

    Everything around it is the model's own forward pass, so nothing of it has to be written again or kept in step.
    """
    handle = module.register_forward_hook(lambda module, inputs, output: replace(output))
    try:
        yield
    finally:
        handle.remove()
