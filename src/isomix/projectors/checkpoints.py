"""Under which names, and which way round, the projectors lie in files of weights."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import product

import numpy as np

from isomix._arrays import Floats
from isomix.errors import InputError, ModelError
from isomix.projectors.projectors import Projectors
from isomix.projectors.residual_head import ResidualHead

__all__ = [
    "LAYOUTS",
    "Layout",
    "Linear",
    "Residual",
    "find_layout",
    "find_text_layout",
    "projectors_from",
    "read_residual_head",
]

Read = Callable[[str], Floats]


@dataclass(frozen=True)
class Linear:
    """A projector, perhaps with a bias.

    Attributes
    ----------
    tensor : str
        Its name. A ``….weight`` may have a ``….bias`` beside it, which is read too.
    in_first : bool
        It is stored in x out, and must be turned to out x in.
    """

    tensor: str
    in_first: bool = False

    def read(self, names: Collection[str], read: Read) -> tuple[Floats, Floats | None]:
        """Weight, out x in, and bias, if there is one that is not zero throughout."""
        weight = read(self.tensor)
        return (weight.T if self.in_first else weight), self._bias(names, read)

    def has_bias(self, names: Collection[str], read: Read) -> bool:
        """Whether there is a bias that is not zero throughout; reads nothing else."""
        return self._bias(names, read) is not None

    def _bias(self, names: Collection[str], read: Read) -> Floats | None:
        name = f"{self.tensor.removesuffix('weight')}bias"
        bias = read(name) if self.tensor.endswith(".weight") and name in names else None
        return bias if bias is not None and bias.any() else None  # zeros: a model without one, PE-Core for example


@dataclass(frozen=True)
class Residual:
    """An image head x + MLP(LayerNorm(x)); see :class:`~isomix.projectors.residual_head.ResidualHead`.

    Attributes
    ----------
    norm, mlp : str
        What the names of the tensors of its two parts begin with.
    """

    norm: str
    mlp: str

    @property
    def tensor(self) -> str:
        """Name of the tensor that tells this head."""
        return f"{self.mlp}.fc1.weight"

    def read(self, names: Collection[str], read: Read) -> tuple[Floats, Floats | None]:
        """Weight and bias of the head's linearisation at the origin."""
        linear = read_residual_head(self, read).linearise()
        return linear.weight.astype(np.float32), linear.bias.astype(np.float32)


@dataclass(frozen=True)
class Layout:
    """How one family of models stores its projectors.

    Attributes
    ----------
    family : str
    image : Linear or Residual
    text : Linear
    logit_scale : str
        Name of the inverse temperature, which may be absent.
    log_scale : bool
        It is stored as its logarithm.
    """

    family: str
    image: Linear | Residual
    text: Linear
    logit_scale: str = "logit_scale"
    log_scale: bool = True


_OPEN_CLIP_IMAGE: dict[str, Linear | Residual] = {
    "ViT": Linear("visual.proj", in_first=True),
    "ResNet": Linear("visual.attnpool.c_proj.weight"),
    "timm tower with a projector": Linear("visual.head.proj.weight"),
    "timm tower with its own head": Linear("visual.trunk.head.weight"),  # EVA-02, PE-Core
    "timm tower with its own head, FastViT": Linear("visual.trunk.head.fc.weight"),  # MobileCLIP
    "SigLIP": Residual("visual.trunk.attn_pool.norm", "visual.trunk.attn_pool.mlp"),
}
_OPEN_CLIP_TEXT = (
    Linear("text_projection", in_first=True),
    Linear("text.text_projection", in_first=True),
    Linear("text_projection.weight"),
    Linear("text.text_projection.weight"),
    Linear("text.proj.weight"),  # a text tower of transformers
)

LAYOUTS = (
    Layout("isomix", Linear("image_projector"), Linear("text_projector"), log_scale=False),
    Layout("transformers CLIP", Linear("visual_projection.weight"), Linear("text_projection.weight")),
    Layout(
        "transformers SigLIP",
        Residual("vision_model.head.layernorm", "vision_model.head.mlp"),
        Linear("text_model.head.weight"),
    ),
    *(
        Layout(f"open_clip ({tower})", image, text)
        for (tower, image), text in product(_OPEN_CLIP_IMAGE.items(), _OPEN_CLIP_TEXT)
    ),
)
"""In the order in which they are tried: a projector is preferred to what lies before it."""

_REFUSED = {"visual.head.mlp.fc1.weight": "a model of open_clip whose image head is an MLP"}


def find_layout(names: Collection[str], where: str) -> Layout:
    """The layout whose two projectors are among the names of the tensors.

    Raises
    ------
    ModelError
        None fits; the message lists the tensors that look like projectors.
    """
    known = ", ".join(dict.fromkeys(layout.family for layout in LAYOUTS))
    for name, reason in _REFUSED.items():
        if name in names:
            raise ModelError(
                f"{where} is {reason}: there is no projector that could be read. isomix knows {known}. Its stored "
                "embeddings can be adapted with the text projector alone (text_only=True, --text-only), "
                "or with TextPCA."
            )
    for layout in LAYOUTS:
        if layout.image.tensor in names and layout.text.tensor in names:
            return layout
    similar = sorted(
        name for name in names if "proj" in name and not any(part in name for part in ("attn", "mlp", "layers"))
    )
    seen = (
        f"tensors that look similar: {', '.join(similar[:8])}"
        if similar
        else f"none of its {len(names)} tensors looks similar"
    )
    raise ModelError(
        f"{where} holds no pair of projectors that isomix knows; {seen}. Expected the names of {known}. Use another "
        "format of the model, or give Projectors(image, text) the two matrices, out x in."
    )


def find_text_layout(names: Collection[str], where: str) -> Layout:
    """The layout whose text projector is among the names of the tensors, whatever the image head is.

    Raises
    ------
    ModelError
        None fits.
    """
    whole = [layout for layout in LAYOUTS if layout.image.tensor in names]
    for layout in (*whole, *LAYOUTS):
        if layout.text.tensor in names:
            return layout
    known = ", ".join(dict.fromkeys(layout.text.tensor for layout in LAYOUTS))
    raise ModelError(
        f"{where} has no text projector at any place that isomix knows ({known}). Take a model with a text tower, or give "
        "Projectors(text=...) the matrix, out x in."
    )


def _has_matrix_head(names: Collection[str], read: Read) -> bool:
    """Whether the image head is one matrix that isomix can read, without a bias."""
    for layout in LAYOUTS:
        if layout.image.tensor in names and layout.text.tensor in names and not _REFUSED.keys() & set(names):
            return isinstance(layout.image, Linear) and not layout.image.has_bias(names, read)
    return False


def read_residual_head(
    head: Residual, read: Read, *, epsilon: float = 1e-6, activation: str = "gelu_tanh"
) -> ResidualHead:
    """The head itself. Its linearisation at the origin depends on neither ``epsilon`` nor ``activation``."""
    return ResidualHead(
        gamma=read(f"{head.norm}.weight"),
        beta=read(f"{head.norm}.bias"),
        first=read(f"{head.mlp}.fc1.weight"),
        first_bias=read(f"{head.mlp}.fc1.bias"),
        second=read(f"{head.mlp}.fc2.weight"),
        second_bias=read(f"{head.mlp}.fc2.bias"),
        epsilon=epsilon,
        activation=activation,
    )


def projectors_from(
    names: Collection[str], read: Read, where: str, source: str, *, text_only: bool | None = False
) -> Projectors:
    """The projectors among named tensors, turned to out x in; a head that is not linear is linearised at the origin.

    Parameters
    ----------
    names : collection of str
        Of all tensors there are.
    read : callable
        Name → tensor; called for two or three of them, or the nine of a SigLIP.
    text_only : bool or None
        Leave the image projector out. None: where the image head is not one matrix.
    where : str
        What holds the tensors, for messages.
    source : str
        Recorded in the result.

    Raises
    ------
    ModelError
        No known layout, or its tensors do not fit together.
    """
    if text_only is None:
        text_only = not _has_matrix_head(names, read)
    layout = find_text_layout(names, where) if text_only else find_layout(names, where)
    image, image_bias = (None, None) if text_only else layout.image.read(names, read)
    text, text_bias = layout.text.read(names, read)
    scale = None
    if layout.logit_scale in names:
        scale = float(np.asarray(read(layout.logit_scale), np.float64).reshape(-1)[0])
        scale = float(np.exp(scale)) if layout.log_scale else scale
    try:
        return Projectors(
            None if image is None else np.ascontiguousarray(image),
            np.ascontiguousarray(text),
            image_bias=image_bias,
            text_bias=text_bias,
            logit_scale=scale,
            source=source,
            linearised_at="origin" if image is not None and isinstance(layout.image, Residual) else "",
        )
    except InputError as error:
        raise ModelError(f"{where} has the names of {layout.family}, but its tensors do not fit: {error}") from error
