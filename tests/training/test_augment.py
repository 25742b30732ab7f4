"""Changes of training pictures: in range, repeatable, and none at all when nothing is asked for."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from training.model.augment import LUMINANCE, AugmentConfig, augment, composite_on_white

NOTHING = AugmentConfig(
    rotation=0, scale=(1, 1), stretch=0, shift=0, stroke=0, outline=0, white=1, black=1, grey=0, invert=0, color=0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pictures() -> torch.Tensor:
    values = torch.rand((64, 4, 32, 32), generator=generator())
    values[:, :3] *= values[:, 3:]
    return (values * 255).round().to(torch.uint8)


@pytest.fixture
def disc() -> torch.Tensor:
    """A black disc on nothing, 200 times."""
    place = torch.arange(32) - 15.5
    values = torch.zeros((200, 4, 32, 32), dtype=torch.uint8)
    values[:, 3] = 255 * (place[:, None].square() + place.square() < 100)
    return values


def test_nothing_asked_nothing_changed(pictures):
    monochrome = torch.zeros(len(pictures), dtype=torch.bool)
    assert torch.allclose(augment(pictures, monochrome, NOTHING, generator()), composite_on_white(pictures), atol=1e-5)


def test_a_monochrome_picture_is_its_alpha_in_ink(pictures):
    made = augment(pictures, torch.ones(len(pictures), dtype=torch.bool), NOTHING, generator())
    assert torch.allclose(made, (1 - pictures[:, 3:].float() / 255).expand_as(made), atol=1e-5)


def test_range_and_seed(pictures):
    monochrome = torch.arange(len(pictures)) % 2 == 0
    made = augment(pictures, monochrome, AugmentConfig(), generator(1))
    assert made.dtype == torch.float32
    assert made.shape == (64, 3, 32, 32)
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(made, augment(pictures, monochrome, AugmentConfig(), generator(1)))
    assert not torch.equal(made, augment(pictures, monochrome, AugmentConfig(), generator(2)))


def test_ink_differs_from_its_background(disc):
    colors = dataclasses.replace(NOTHING, white=0.3, black=0.3)
    made = augment(disc, torch.ones(len(disc), dtype=torch.bool), colors, generator())
    contrast = torch.einsum("nc,c->n", made[:, :, 16, 16] - made[:, :, 0, 0], LUMINANCE).abs()
    assert contrast.min() > 0.25
    assert len(made[:, :, 0, 0].unique(dim=0)) > 50


def test_outline_hollows_a_shape(disc):
    made = augment(disc, torch.zeros(len(disc), dtype=torch.bool), dataclasses.replace(NOTHING, outline=1), generator())
    assert torch.all(made.amin((1, 2, 3)) < 0.1)  # the line
    assert torch.all(made[:, :, 16, 16] > made.amin((1, 2, 3))[:, None] + 0.25)  # what it encloses is empty or faint


def test_strokes_get_thicker_and_thinner(disc):
    monochrome = torch.ones(len(disc), dtype=torch.bool)
    ink = 1 - augment(disc, monochrome, dataclasses.replace(NOTHING, stroke=1), generator()).mean((1, 2, 3))
    plain = 1 - augment(disc, monochrome, NOTHING, generator()).mean((1, 2, 3))
    assert ((ink - plain) > 0.01).sum() > 60
    assert ((ink - plain) < -0.01).sum() > 50


def test_shift_and_scale_move_the_shape(disc):
    monochrome = torch.ones(len(disc), dtype=torch.bool)
    half = augment(disc, monochrome, dataclasses.replace(NOTHING, scale=(0.5, 0.5)), generator())
    whole = augment(disc, monochrome, NOTHING, generator())
    assert float((1 - half).sum() / (1 - whole).sum()) == pytest.approx(0.25, abs=0.02)
