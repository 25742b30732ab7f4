"""From class names to class text embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

import numpy as np

from isomix.encoders.base import Array, Encoder
from isomix.errors import InputError

__all__ = ["EncodedClasses", "check_templates", "class_name", "default_templates", "encode_classes", "nouns"]


class EncodedClasses(dict[str, Array]):
    """Label to text embeddings (p, d), and the logit scale of the model that made them: ``text=`` of a classifier."""

    def __init__(self, texts: Mapping[str, Array], logit_scale: float) -> None:
        super().__init__(texts)
        self.logit_scale = logit_scale


def default_templates(encoder: Encoder) -> tuple[str, ...]:
    """The sentence around a class name where the user gives none.

    The name alone for the embedded model, which was trained on names; "a photo of a {}." for all others (CLIP, Radford et
    al., ICML 2021).
    """
    return ("{}",) if encoder.scheme == "embedded" else ("a photo of a {}.",)


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates, each of which must hold ``{}`` once.

    Raises
    ------
    InputError
    """
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(
                f"template: got {template!r}, expected a sentence with {{}} in the place of the class name."
            )
    return tuple(templates)


def class_name(label: str) -> str:
    """What a folder called ``label`` shows: underscores and hyphens are spaces.

    Examples
    --------
    >>> class_name("golden_retriever")
    'golden retriever'
    """
    return " ".join(label.replace("_", " ").replace("-", " ").split())


def nouns() -> list[str]:
    """A few hundred everyday nouns: a bank for :class:`isomix.TextPCA` where the user has none.

    Examples
    --------
    >>> nouns()[:2]
    ['acorn', 'air balloon']
    """
    text = (files("isomix.encoders") / "nouns.txt").read_text(encoding="utf-8")
    return [class_name(word) for line in text.splitlines() if not line.startswith("#") for word in line.split()]


def encode_classes(
    encoder: Encoder,
    labels: Iterable[str],
    *,
    names: Mapping[str, str] | None = None,
    templates: Sequence[str] | None = None,
) -> EncodedClasses:
    """Text embeddings of every class, one a template.

    Parameters
    ----------
    encoder : Encoder
    labels : iterable of str
    names : mapping of label to name, optional
        Names for the labels that do not say what they show; the others go through :func:`class_name`.
    templates : sequence of str, optional
        Sentences with ``{}``; default :func:`default_templates`.

    Returns
    -------
    EncodedClasses
        A dict of label to ndarray, shape (p, d): what the classifiers take as ``text=``, with the encoder's logit scale.

    Raises
    ------
    InputError
        A template without ``{}``, or an empty name.
    """
    chosen = check_templates(templates or default_templates(encoder))
    shown = {label: (names or {}).get(label) or class_name(str(label)) for label in dict.fromkeys(labels)}
    empty = [label for label, name in shown.items() if not name.strip()]
    if empty:
        raise InputError(f"the classes {empty[:5]!r} have no name to read. Give one with names=.")
    sentences = [template.format(name) for name in shown.values() for template in chosen]
    rows = encoder.encode_text(sentences, show_progress_bar=False).embeddings
    blocks = np.split(rows, len(shown)) if shown else []
    return EncodedClasses(dict(zip(shown, blocks, strict=True)), encoder.logit_scale)
