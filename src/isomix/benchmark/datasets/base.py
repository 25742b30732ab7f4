"""What a data set is, on disk and in memory, and how it is checked when it is loaded."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from isomix.errors import InputError, IsomixError

__all__ = ["A_PHOTO", "DATASETS", "Captions", "Dataset", "Pictures", "read_text"]

A_PHOTO = ("a photo of a {}.",)
"""The template of data sets that have none of their own."""
DATASETS: dict[str, Dataset] = {}
SHOWN = 5


@dataclass(frozen=True)
class Pictures:
    """Labelled picture files, one row a picture.

    Attributes
    ----------
    name : str
        Registry name, or the spec of one's own data.
    root : pathlib.Path
        Where ``paths`` start.
    paths : tuple of str, length n
    labels : ndarray of intp, shape (n,)
        Positions in ``class_names``; -1 for landmarks, which have ``ground_truth`` instead.
    splits : ndarray of str, shape (n,)
        Such as ``"train"``, ``"val"``, ``"test"``, ``"query"``, ``"gallery"``, or ``""`` without a split.
    class_names : tuple of str
        As they are read out in a sentence.
    templates : tuple of str
        Sentences around a class name; empty: the encoder's own.
    query_split, gallery_split : str
        Of retrieval; both empty: all against all, the query itself removed.
    boxes : mapping of row to (left, top, right, bottom)
        Queries that are a part of their picture.
    ground_truth : tuple of mappings, or None
        Revisited protocol: for each query the gallery rows that are easy, hard and junk.
    own : bool
        One's own data: nothing is known of what should be there.
    """

    name: str
    root: Path
    paths: tuple[str, ...]
    labels: NDArray[np.intp]
    splits: NDArray[np.str_]
    class_names: tuple[str, ...]
    templates: tuple[str, ...] = ()
    query_split: str = ""
    gallery_split: str = ""
    boxes: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    ground_truth: tuple[Mapping[str, Any], ...] | None = None
    own: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: NDArray[np.intp]) -> Pictures:
        """Some of the rows."""
        return replace(
            self, paths=tuple(self.paths[i] for i in rows), labels=self.labels[rows], splits=self.splits[rows]
        )

    def counts(self) -> dict[str, int]:
        """Pictures of every split, and classes."""
        names, sizes = np.unique(self.splits, return_counts=True)
        found = {str(name) or "pictures": int(size) for name, size in zip(names, sizes)}
        return found if self.ground_truth is not None else {**found, "classes": len(self.class_names)}


@dataclass(frozen=True)
class Captions:
    """Sentences about pictures; the pictures themselves are not needed.

    Attributes
    ----------
    name : str
    sentences : tuple of str, length n
    images : ndarray of intp, shape (n,)
        Which picture each is about; the sentences of one picture follow one another.
    """

    name: str
    sentences: tuple[str, ...]
    images: NDArray[np.intp]

    def counts(self) -> dict[str, int]:
        """Sentences and pictures."""
        return {"captions": len(self.sentences), "images": len(np.unique(self.images))}


@dataclass(frozen=True)
class Dataset(ABC):
    """One published data set in the layout that people have on their disks.

    Attributes
    ----------
    name : str
        Registry name.
    folder : str
        Below the root of all data sets.
    expected : mapping of str to int
        What ``counts()`` must give.
    layout : tuple of str
        Files and folders that must lie in ``folder``, for people to read.
    tasks : tuple of str
        Protocols that make sense on it.
    """

    name: str
    folder: str
    expected: Mapping[str, int]
    layout: tuple[str, ...]
    tasks: ClassVar[tuple[str, ...]] = ("retrieval", "ncm", "fewshot", "zeroshot")

    @abstractmethod
    def read(self, folder: Path) -> Pictures | Captions:
        """Read the lists of the data set; no picture is opened."""

    def load(self, root: str | os.PathLike[str]) -> Pictures | Captions:
        """Read and verify.

        Parameters
        ----------
        root : path-like
            The folder that holds the folders of all data sets.

        Raises
        ------
        InputError
            Something is missing, or the counts are not those of the published set; the message says what belongs where.
        """
        folder = Path(root) / self.folder
        if not folder.is_dir():
            raise InputError(f"{self.name}: {folder} is not there. {self._belongs(folder)}")
        try:
            found = self.read(folder)
            self._check(found, folder)
        except FileNotFoundError as error:
            raise InputError(f"{self.name}: {error.filename} is not there. {self._belongs(folder)}") from error
        except IsomixError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, OSError) as error:
            raise InputError(
                f"{self.name}: the lists in {folder} are not in the expected form ({type(error).__name__}: {error}). "
                f"{self._belongs(folder)}"
            ) from error
        return found

    def _check(self, found: Pictures | Captions, folder: Path) -> None:
        counts = found.counts()
        wrong = [
            f"{counts.get(what, 0):,} {what}, expected {expected:,}"
            for what, expected in self.expected.items()
            if counts.get(what, 0) != expected
        ]
        if wrong:
            raise InputError(
                f"{self.name}: the lists in {folder} are not those of the published set: {'; '.join(wrong)}. "
                "They are incomplete, or of another version of the split; figures would not be comparable."
            )
        if isinstance(found, Captions):
            return
        if found.ground_truth is None:
            empty = np.setdiff1d(np.arange(len(found.class_names)), found.labels)
            if empty.size:
                raise InputError(
                    f"{self.name}: {empty.size} classes without a picture in {folder}, "
                    f"e.g. {found.class_names[empty[0]]!r}."
                )
        if len(set(found.paths)) != len(found.paths):
            twice, _ = Counter(found.paths).most_common(1)[0]
            raise InputError(f"{self.name}: {twice} stands twice in the lists of {folder}.")
        missing = [path for path in found.paths if not (found.root / path).is_file()]
        if missing:
            shown = ", ".join(missing[:SHOWN])
            raise InputError(
                f"{self.name}: {len(missing):,} of {len(found):,} pictures are missing below {found.root}, "
                f"e.g. {shown}. {self._belongs(folder)}"
            )

    def _belongs(self, folder: Path) -> str:
        return f"{folder} must hold: {', '.join(self.layout)}."


def read_text(path: Path) -> list[str]:
    """Lines of a UTF-8 file, without the empty ones."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
