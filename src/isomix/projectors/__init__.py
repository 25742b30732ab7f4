"""The two projectors of a CLIP-like model, and how to read them without loading the model."""

from isomix.projectors.projectors import Projectors

__all__ = ["Projectors"]
