"""A model by name: its projectors are read on their own, its towers only once something has to be encoded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from isomix.errors import FingerprintMismatchError
from isomix.projectors import Projectors
from isomix.projectors.model_spec import full_name

if TYPE_CHECKING:
    from isomix.encoders.base import Encoder

__all__ = ["LazyEncoder", "MadeBy"]


@dataclass(frozen=True)
class MadeBy:
    """The model that made something stored; any other is refused, always in the same words.

    Attributes
    ----------
    what : str
        What is stored, as the beginning of the message: ``"photos.lance was"`` or ``"these embeddings were"``.
    model : str
        Its name; empty where only fingerprints are known.
    projectors : str
        Fingerprint of its projectors; empty where it is not known.
    encoder : str
        Fingerprint of its weights and preprocessing; empty where it is not known.
    """

    what: str
    model: str = ""
    projectors: str = ""
    encoder: str = ""

    def check(self, model: str, *, projectors: str = "", encoder: str = "") -> None:
        """Refuse a model whose fingerprints are not those of the one that made it; what is empty is not compared.

        Raises
        ------
        FingerprintMismatchError

        Examples
        --------
        >>> MadeBy("photos.lance was", "hf:a/b", "0123").check("hf:c/d", projectors="4567")
        Traceback (most recent call last):
        isomix.errors.FingerprintMismatchError: photos.lance was made with the model 'hf:a/b' (projectors 0123), and 'hf:c/d' is another one (projectors 4567). Embeddings of different models cannot be compared: name the model that made it, or make it again.
        """
        for part, made, now in (("fingerprint", self.encoder, encoder), ("projectors", self.projectors, projectors)):
            if made and now and made != now:
                name = f"the model {self.model!r}" if self.model else "a model"
                raise FingerprintMismatchError(
                    f"{self.what} made with {name} ({part} {made[:12]}), and {model!r} is another one "
                    f"({part} {now[:12]}). Embeddings of different models cannot be compared: name the model that made "
                    "it, or make it again."
                )

    def check_name(self, model: str) -> None:
        """Refuse a model of another name, where there is no fingerprint to compare.

        Raises
        ------
        FingerprintMismatchError
        """
        if self.model and model != self.model:
            raise FingerprintMismatchError(
                f"{self.what} made with the model {self.model!r}, and the text projector at hand is that of "
                f"{model or 'a model without a name'!r}. Name the model that made it."
            )

    def check_encoder(self, encoder: Encoder) -> None:
        """The same for an encoder that is loaded."""
        self.check(encoder.spec, projectors=encoder.projectors.fingerprint, encoder=encoder.fingerprint)


class LazyEncoder:
    """An encoder by name, loaded when it is needed, and never another one than the embeddings at hand were made with.

    Parameters
    ----------
    spec : str
        As for :func:`isomix.load_encoder`.
    offline : bool
        Never open a connection.
    device : str, optional
        Where the towers run.
    made_by : MadeBy, optional
        What made the embeddings at hand; another model is refused when it is read.
    """

    def __init__(
        self, spec: str, *, offline: bool = False, device: str | None = None, made_by: MadeBy | None = None
    ) -> None:
        self.spec, self.offline, self.device, self.made_by = full_name(spec), offline, device, made_by

    @property
    def is_loaded(self) -> bool:
        """Whether the towers are in memory."""
        return "encoder" in self.__dict__

    @cached_property
    def encoder(self) -> Encoder:
        """The model."""
        from isomix.encoders.registry import load_encoder

        encoder = load_encoder(self.spec, offline=self.offline, device=self.device)
        if self.made_by is not None:
            self.made_by.check_encoder(encoder)
        return encoder

    @cached_property
    def projectors(self) -> Projectors:
        """Its last linear maps: the encoder's if that is loaded, else two tensors of its weights and nothing else."""
        if self.is_loaded:
            return self.encoder.projectors
        projectors = Projectors.from_pretrained(self.spec, offline=self.offline)
        if self.made_by is not None:
            self.made_by.check(self.spec, projectors=projectors.fingerprint)
        return projectors

    @property
    def fingerprint(self) -> str:
        """Of the encoder if it is loaded, else of the projectors."""
        return self.encoder.fingerprint if self.is_loaded else self.projectors.fingerprint

    @property
    def logit_scale(self) -> float:
        """Inverse temperature; 100, OpenAI's, where the weights do not say."""
        return float(self.projectors.logit_scale or 100.0)
