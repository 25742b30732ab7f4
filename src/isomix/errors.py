"""The exceptions and the warning category of isomix.

::

    IsomixError
    ├── InputError (ValueError)              an argument or array that cannot be used
    │   ├── BandError                        a band that leaves no direction, or no preset
    │   └── ModalityError                    adapted vectors of one modality compared with another
    ├── NotFittedError (sklearn NotFittedError)   an estimator used before ``fit``
    ├── FileFormatError (ValueError)         a file that is not what its reader expects
    ├── FingerprintMismatchError (ValueError)     a table, space or model made with another model
    ├── ModelError (ValueError)              a model that cannot be loaded or has no usable projector
    │   └── OfflineError                     something must be downloaded, and that was forbidden
    ├── MissingExtraError (ImportError)      an optional dependency is not installed
    ├── ImageError (ValueError)              one picture that cannot be read
    ├── OutputError (OSError)                a file that cannot be written: the disk is full
    ├── TableError                           an embedding table that cannot be opened or written
    └── ClusterError                         a cluster that is not there, or that cannot do the work

Every message says what was given, what was expected and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "BandError",
    "ClusterError",
    "FileFormatError",
    "FingerprintMismatchError",
    "ImageError",
    "InputError",
    "IsomixError",
    "IsomixWarning",
    "MissingExtraError",
    "ModalityError",
    "ModelError",
    "NotFittedError",
    "OfflineError",
    "OutputError",
    "TableError",
]


class IsomixError(Exception):
    """Base class of every error that isomix raises on purpose."""


class InputError(IsomixError, ValueError):
    """An argument or array that cannot be used."""


class BandError(InputError):
    """A band of singular directions that is empty, out of range or unknown."""


class ModalityError(InputError):
    """Vectors adapted for one modality were about to be compared with another modality."""


class FileFormatError(IsomixError, ValueError):
    """A file that is not what its reader expects; the message lists every problem found."""


class FingerprintMismatchError(IsomixError, ValueError):
    """A table, space or classifier that was made with another model or preprocessing."""


class ModelError(IsomixError, ValueError):
    """A model that cannot be found, loaded or used."""


class OfflineError(ModelError):
    """Something must be downloaded, and ``offline`` forbids it."""


class MissingExtraError(IsomixError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class ImageError(IsomixError, ValueError):
    """One picture that cannot be read; the message is the reason, fit for a ledger row."""


class OutputError(IsomixError, OSError):
    """A file that cannot be written because there is no room for it."""


class TableError(IsomixError):
    """An embedding table that cannot be opened, read or written."""


class ClusterError(IsomixError):
    """A cluster that cannot be reached, has no place, or cannot do the work."""


class IsomixWarning(UserWarning):
    """Category of every warning that isomix issues."""


if TYPE_CHECKING:
    from sklearn.exceptions import NotFittedError as _SklearnNotFittedError

    class NotFittedError(IsomixError, _SklearnNotFittedError):
        """An estimator was used before ``fit``."""


def __getattr__(name: str) -> Any:
    """Make ``NotFittedError`` on demand: it derives from scikit-learn's, whose import takes most of a second."""
    if name != "NotFittedError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sklearn.exceptions import NotFittedError as SklearnNotFittedError

    words = {"__module__": __name__, "__doc__": "An estimator was used before ``fit``."}
    return globals().setdefault(name, type(name, (IsomixError, SklearnNotFittedError), words))
