"""Classifiers that learn from pictures without labels: how they take a pool. The term is in ``pool``, the trust in ``pool_trust``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, Floats, Indices
from isomix._estimators import check_fitted
from isomix.errors import InputError
from isomix.fewshot.inputs import read_validation
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.pool import PoolRows
from isomix.fewshot.pool_trust import Pool, pool_of
from isomix.fewshot.sums import Predictor
from isomix.fewshot.weights import Values

__all__ = ["TakesPool"]


class TakesPool(ABC):
    """What :class:`~isomix.fewshot.base.FewShotClassifier` does with a pool, where ``takes_pool`` allows it.

    Attributes
    ----------
    pool_ : Pool or None
        What was taken from unlabelled pictures, and why; None without any.
    """

    takes_pool: ClassVar[bool] = False
    pool_: Pool | None
    space: Any
    logit_scale_: float
    _live: NDArray[np.bool_]
    classes_: NDArray[Any]
    moments_: ClassMoments
    means_: Doubles
    texts_: Doubles
    has_text_: NDArray[np.bool_]
    temperature_: float
    n_features_in_: int
    _values: Values
    _predictor: Predictor

    @abstractmethod
    def _use(self, values: Values) -> None:
        """Predict with these values, and with the pool."""

    def use_pool(self, unlabelled: ArrayLike, shots: tuple[ArrayLike, ArrayLike] | None = None) -> Self:
        """Learn from unlabelled pictures, in the place of those of an earlier call; also after loading.

        Adds one term to the logits (:mod:`isomix.fewshot.pool`), linear in the picture, at a weight lambda that the pool has to earn
        (:mod:`isomix.fewshot.pool_trust`). At lambda 0 (``pool_.weight``), and with a pool of no rows, everything is as without.

        Parameters
        ----------
        unlabelled : array_like, shape (m, d)
            Image embeddings; the pictures to be classified may be among them. Classes may have any frequencies or be missing, and
            there may be pictures of no class. Read by blocks; memory grows by some 100 bytes a picture.
        shots : (array_like (n, d), array_like (n,)), optional
            Pictures and labels by which the pool is judged, and which are dropped from it. With those of the fit the result is that of
            ``fit(X, y, text, unlabelled=U)``. Default: the class means, which is all that a classifier keeps of its shots.

        Raises
        ------
        InputError
            A classifier that takes no pool or was fitted without text; another width, NaN, zero rows, labels that were not there
            in ``fit``.
        """
        check_fitted(self)
        self.check_takes_pool()
        if shots is None:
            self._take_pool(PoolRows(unlabelled, self.n_features_in_), None)
        else:
            judges = read_validation(self, shots, self.classes_, "shots")
            self._take_pool(PoolRows(unlabelled, self.n_features_in_, np.asarray(shots[0], judges[0].dtype)), judges)
        return self

    def check_takes_pool(self) -> None:
        """Raise :class:`InputError` if :meth:`use_pool` would, whatever the pool: of this kind, or fitted without text."""
        if not self.takes_pool:
            from isomix.fewshot.base import CLASSIFIERS  # which imports this module

            takers = sorted(cls.__name__ for cls in CLASSIFIERS.values() if cls.takes_pool)
            raise InputError(f"{type(self).__name__} takes no unlabelled pictures; {', '.join(takers)} do.")
        if not self.has_text_.any():
            raise InputError(
                "the classifier has no text, without which the shots cannot tell how far to trust unlabelled pictures. "
                "Fit with text=, or leave them out."
            )
        if not self._live.all():
            waiting = self.classes_[~self._live].tolist()
            raise InputError(
                f"the classes {waiting[:5]} have neither pictures nor text yet, and unlabelled pictures might be theirs. Give them "
                "some with partial_fit, or leave the pool out."
            )

    def _take_pool(self, rows: PoolRows, shots: tuple[Floats, Indices] | None) -> None:
        self.pool_ = None
        self._use(self._values)
        if not len(rows):
            return
        predictor, temperature = self._predictor, self.temperature_

        def logits(U: Floats) -> Floats:
            return np.asarray(predictor(U) / U.dtype.type(temperature))

        self.pool_ = pool_of(
            rows,
            logits,
            shots=shots,
            moments=self.moments_,
            means=self.means_,
            texts=self.texts_,
            has_text=self.has_text_,
            logit_scale=self.logit_scale_,
            space=self.space,
        )
        self._use(self._values)
