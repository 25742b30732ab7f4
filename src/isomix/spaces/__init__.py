"""Linear maps of the embedding space: numpy in, numpy out."""

from isomix.projectors import Projectors
from isomix.spaces.bands import preset_band
from isomix.spaces.base import SPACES, Space, load_space
from isomix.spaces.controls import RandomDirections
from isomix.spaces.isoclip import IsoCLIP
from isomix.spaces.nested_text_pca import NestedTextPCA
from isomix.spaces.plain import Plain, PreProjection
from isomix.spaces.text_pca import TextPCA
from isomix.spaces.whitening import PCAWhitening, ZCAWhitening

__all__ = [
    "SPACES",
    "IsoCLIP",
    "NestedTextPCA",
    "PCAWhitening",
    "Plain",
    "PreProjection",
    "Projectors",
    "RandomDirections",
    "Space",
    "TextPCA",
    "ZCAWhitening",
    "load_space",
    "preset_band",
]
