"""What embeddings are turned into before they are compared: methods by name, with their argument after a colon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from isomix._arrays import Floats
from isomix.benchmark.backbone import Backbone
from isomix.benchmark.banks import Bank
from isomix.benchmark.samples import Vectors
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.neighbors import Smoothing
from isomix.spaces import IsoCLIP, NestedTextPCA, PCAWhitening, Plain, RandomDirections, Space, TextPCA, ZCAWhitening
from isomix.spaces.controls import turned_projectors

__all__ = ["METHODS", "Context", "Fitted", "check_methods", "fit_method", "reads_bank", "uses_gallery"]

AFTER = ["smoothing", "expansion"]
Map = Callable[[Vectors], Floats]


@dataclass(frozen=True)
class Context:
    """What a method may look at: never a label.

    Attributes
    ----------
    gallery : Vectors
    modality : {"image", "text"}
    backbone : Backbone or None
    bank : callable
        Gives the :class:`Bank`.
    """

    gallery: Vectors
    modality: str
    backbone: Backbone | None
    bank: Callable[[], Bank]

    def require_backbone(self, method: str) -> Backbone:
        """The model, or an error that says who needs it."""
        if self.backbone is None:
            raise InputError(f"{method} needs the model that made the embeddings: name it with --model.")
        return self.backbone


@dataclass(frozen=True)
class Fitted:
    """A method that is ready for use.

    Attributes
    ----------
    gallery : callable
        :class:`Vectors` to unit rows.
    queries : callable
        The same for queries, where they are treated otherwise.
    description : dict
        What was fitted; JSON values.
    smoothing : Smoothing or None
        Not fitted; what the mapped gallery is smoothed with before it is searched.
    expand : bool
        Whether queries are expanded.
    """

    gallery: Map
    queries: Map
    description: dict[str, Any] = field(default_factory=dict)
    smoothing: Smoothing | None = None
    expand: bool = False


def fit_method(spec: str, context: Context) -> Fitted:
    """Fit a method by name.

    Parameters
    ----------
    spec : str
        A name of ``METHODS``, with an argument after a colon where it takes one: ``"isoclip"`` (the preset band),
        ``"isoclip:auto"`` (chosen from the gallery and the bank, without labels), ``"isoclip:150/50"``; ``"text-pca:256"``,
        ``"pca-whitening:128"`` (components), ``"text-pca:auto"`` (chosen as the band is); ``"text-pca-cliff"`` is Text PCA
        once the projectors' cliff is cut, ``"nested-text-pca"`` the mean of three sizes of it (the cliff is cut where the model is
        known), ``"nested-text-pca:64,128,256"`` of others. After any of them ``+smoothing`` (:class:`isomix.Smoothing` of the gallery), and after
        that ``+expansion`` (of the queries).
    context : Context

    Raises
    ------
    InputError
        An unknown name or argument, or something the method needs is missing.
    """
    check_methods([spec])
    space, *after = spec.split("+")
    name, _, argument = space.partition(":")
    fitted = METHODS[name](argument, context)
    if not after:
        return fitted
    return replace(fitted, smoothing=Smoothing(), expand=after == AFTER)


def check_methods(specs: Sequence[str]) -> None:
    """Raise :class:`InputError` for a name that is not in ``METHODS``, and for what may not follow it."""
    for spec in specs:
        space, *after = spec.split("+")
        if space.partition(":")[0] not in METHODS:
            raise InputError(f"method: got {spec!r}, expected one of {', '.join(METHODS)}.")
        if after not in ([], AFTER[:1], AFTER):
            raise InputError(
                f"method: got {spec!r}, expected '{space}', '{space}+smoothing' or '{space}+smoothing+expansion'."
            )


def uses_gallery(spec: str) -> bool:
    """Whether a method looks at all pictures of the gallery (never at a label), and not at one vector at a time."""
    space, *after = spec.split("+")
    return bool(after) or space.partition(":")[0].endswith("-whitening") or space.endswith(":auto")


def reads_bank(spec: str) -> bool:
    """Whether what a method does depends on the bank, which then belongs to the identity of a run."""
    space = spec.partition("+")[0]
    return space.partition(":")[0] in ("text-pca", "text-pca-cliff", "nested-text-pca") or space in (
        "isoclip:auto",
        "isoclip-control:auto",
    )


def _plain(argument: str, context: Context) -> Fitted:
    _no_argument("plain", argument)
    return _on_embeddings(Plain().fit(context.gallery.embeddings))


def _pre_projection(argument: str, context: Context) -> Fitted:
    _no_argument("pre-projection", argument)
    features = context.gallery.features
    if features is None:
        raise InputError("pre-projection needs pre-projection features, and this data has embeddings only.")

    def unit(vectors: Vectors) -> Floats:
        return normalize_rows(np.asarray(vectors.features), "pre-projection features")

    return Fitted(unit, unit, {"n_components": int(features.shape[1])})


def _whitening(kind: type[PCAWhitening]) -> Callable[[str, Context], Fitted]:
    def fit(argument: str, context: Context) -> Fitted:
        return _on_embeddings(kind(_integer(kind.method, argument)).fit(context.gallery.embeddings))

    return fit


def _text_pca(argument: str, context: Context, *, behind_the_cliff: bool = False) -> Fitted:
    projectors = None
    if behind_the_cliff:
        projectors = context.require_backbone("text-pca-cliff").projectors
    bank, automatic = context.bank(), argument == "auto"
    space = TextPCA("auto" if automatic else _integer("text-pca", argument), projectors=projectors)
    fitted = _on_embeddings(space.fit(bank.embeddings, gallery=context.gallery.embeddings if automatic else None))
    description = {**fitted.description, "bank": bank.name, "bank_size": len(bank.embeddings)}
    if behind_the_cliff:
        description["cliff"] = space.cliff_
    return Fitted(fitted.gallery, fitted.queries, description)


def _nested_text_pca(argument: str, context: Context) -> Fitted:
    sizes = argument.split(",") if argument else None
    if sizes is not None and not all(size.isdigit() for size in sizes):
        raise InputError(f"nested-text-pca: got {argument!r}, expected numbers of components such as 64,128,256.")
    projectors = None if context.backbone is None else context.backbone.projectors
    bank = context.bank()
    space = NestedTextPCA(None if sizes is None else [int(size) for size in sizes], projectors=projectors)
    fitted = _on_embeddings(space.fit(bank.embeddings))
    return replace(
        fitted,
        description=fitted.description | {"bank": bank.name, "bank_size": len(bank.embeddings), "cliff": space.cliff_},
    )


def _isoclip(argument: str, context: Context, *, turned: bool = False) -> Fitted:
    backbone = context.require_backbone("isoclip")
    gallery, projectors = context.gallery, backbone.projectors
    if projectors.linearised_at and context.modality == "image" and gallery.features is not None:
        projectors = backbone.encoder.linearise(gallery.features).apply_to(projectors)
    elif projectors.image_bias is not None and context.modality == "image" and gallery.features is None:
        projectors = projectors.text_only()  # enough for stored embeddings
    if turned:
        projectors = turned_projectors(projectors)
    space = IsoCLIP(projectors, argument or "preset", modality=context.modality)
    alone = projectors.image is None
    biased = not alone and projectors.side(context.modality).bias is not None
    if biased and gallery.features is None:
        raise InputError("isoclip: this model's head has a bias, so it needs pre-projection features.")
    sentences = context.bank().embeddings if argument == "auto" and context.modality == "image" else None
    space.fit(gallery.features if biased else gallery.embeddings, bank=sentences)

    def apply(vectors: Vectors) -> Floats:
        if vectors.features is None or alone:
            return space.transform(vectors.embeddings)
        return space.transform_features(vectors.features)

    return Fitted(apply, apply, _describe(space) | {"band_source": space.band_source_, "rank": space.rank_})


def _random_directions(argument: str, context: Context) -> Fitted:
    if argument.isdigit():
        return _on_embeddings(RandomDirections(int(argument)).fit(context.gallery.embeddings))
    backbone = context.require_backbone("random-directions without a number")
    band = IsoCLIP(backbone.projectors.text_only(), argument or "preset", modality=context.modality).fit()
    return _on_embeddings(RandomDirections(band.n_components_).fit(context.gallery.embeddings))


def _inversion(name: str) -> Callable[[str, Context], Fitted]:
    def fit(argument: str, context: Context) -> Fitted:
        _no_argument(name, argument)
        modality = "image" if name == "oti" else "text"
        if context.modality != modality:
            raise InputError(f"{name} turns {modality} queries, and these are {context.modality} queries.")
        from isomix.inversion import TextualInversion, VisualInversion

        encoder = context.require_backbone(name).encoder
        inversion = TextualInversion(encoder) if name == "oti" else VisualInversion(encoder)
        plain = Plain().fit(context.gallery.embeddings)
        return Fitted(
            lambda vectors: plain.transform(vectors.embeddings),
            lambda vectors: inversion.transform(vectors.embeddings),
            {"n_steps": inversion.n_steps, "n_tokens": inversion.n_tokens, "learning_rate": inversion.learning_rate},
        )

    return fit


METHODS: dict[str, Callable[[str, Context], Fitted]] = {
    "plain": _plain,
    "pre-projection": _pre_projection,
    "pca-whitening": _whitening(PCAWhitening),
    "zca-whitening": _whitening(ZCAWhitening),
    "oti": _inversion("oti"),
    "ovi": _inversion("ovi"),
    "text-pca": _text_pca,
    "text-pca-cliff": partial(_text_pca, behind_the_cliff=True),
    "nested-text-pca": _nested_text_pca,
    "isoclip": _isoclip,
    "isoclip-control": partial(_isoclip, turned=True),
    "random-directions": _random_directions,
}
"""Name → function of the argument and the context; in the order of the tables."""


def _on_embeddings(space: Space) -> Fitted:
    def apply(vectors: Vectors) -> Floats:
        return space.transform(vectors.embeddings)

    return Fitted(apply, apply, _describe(space))


def _describe(space: Space) -> dict[str, Any]:
    described = space.describe()
    return {key: described[key] for key in ("n_components", "parameters", "fingerprint")}


def _integer(method: str, argument: str) -> int | None:
    if argument and not argument.isdigit():
        raise InputError(f"{method}: got {argument!r}, expected a number of components, or nothing.")
    return int(argument) if argument else None


def _no_argument(method: str, argument: str) -> None:
    if argument:
        raise InputError(f"{method}: got {argument!r}, but it takes no argument.")
