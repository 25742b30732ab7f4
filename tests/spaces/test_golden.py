"""Spaces and projectors written by isomix 0.1 before its parameters were renamed: the same vectors, the same fingerprints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isomix.projectors import Projectors
from isomix.spaces import load_space

GOLDEN = Path(__file__).parent / "golden"
FINGERPRINTS = json.loads((GOLDEN / "fingerprints.json").read_text(encoding="utf-8"))
SPACES = [name for name in FINGERPRINTS if not name.startswith("projectors")]


@pytest.mark.parametrize("name", SPACES)
def test_a_space_of_the_first_format(name, tmp_path):
    vectors = np.load(GOLDEN / "vectors.npz")
    space = load_space(GOLDEN / f"{name}.safetensors")
    assert space.fingerprint == FINGERPRINTS[name]
    if name == "isoclip-affine":
        found = space.transform_features(vectors["affine_features"])
    else:
        found = space.transform(vectors["features" if name == "pre-projection" else "X"])
    np.testing.assert_allclose(found, vectors[name], rtol=0, atol=1e-12)
    space.save(tmp_path / "again.safetensors")
    assert load_space(tmp_path / "again.safetensors").describe() == space.describe()


@pytest.mark.parametrize("name", ["projectors", "projectors-affine"])
def test_projectors_of_the_first_format(name):
    assert Projectors.load(GOLDEN / f"{name}.safetensors").fingerprint == FINGERPRINTS[name]


def test_old_words_are_mapped():
    preset = load_space(GOLDEN / "isoclip-preset.safetensors")
    assert (preset.band_, preset.band_source_) == ((1, 2), "preset")  # was "published"
    assert preset.describe()["band"] == {"k_top": 1, "k_bottom": 2, "of": preset.rank_}
    assert load_space(GOLDEN / "isoclip-auto.safetensors").band_source_ == "spectrum"
