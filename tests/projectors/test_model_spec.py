"""How a model is named."""

from __future__ import annotations

import pytest

from isomix.errors import InputError, ModelError
from isomix.projectors.model_spec import ModelSpec, parse_spec


@pytest.mark.parametrize(
    ("spec", "scheme", "name"),
    [
        ("embedded", "embedded", ""),
        ("embedded:as-trained", "embedded", "as-trained"),
        ("hf:openai/clip-vit-base-patch32", "hf", "openai/clip-vit-base-patch32"),
        ("openclip:local-dir:/models/a:b", "openclip", "local-dir:/models/a:b"),
        ("somewhere:else", "somewhere", "else"),
        ("no-such-file", "no-such-file", ""),
    ],
)
def test_schemes(spec, scheme, name):
    parsed = parse_spec(spec)
    assert parsed == (scheme, name)
    assert str(parsed) == spec


def test_what_exists_needs_no_scheme(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert parse_spec(str(folder)) == ("hf", str(folder))
    assert parse_spec(str(folder)).path == folder
    assert parse_spec("hf:openai/clip").path is None
    assert parse_spec("openclip:ViT-B-32/openai").path is None


@pytest.mark.parametrize("spec", ["", "hf:", "openclip:", None, 3])
def test_nothing_is_named(spec):
    with pytest.raises(InputError, match="expected a string such as"):
        parse_spec(spec)


def test_names_of_open_clip():
    assert ModelSpec("openclip", "ViT-B-32/openai").open_clip() == ("", "ViT-B-32", "openai")
    assert ModelSpec("openclip", "ViT-B-32/a/b.safetensors").open_clip() == ("", "ViT-B-32", "a/b.safetensors")
    assert ModelSpec("openclip", "hf-hub:timm/x").open_clip() == ("hf-hub", "timm/x", None)
    assert ModelSpec("openclip", "local-dir:/m/x").open_clip() == ("local-dir", "/m/x", None)
    with pytest.raises(ModelError, match="names no weights"):
        ModelSpec("openclip", "ViT-B-32").open_clip()


@pytest.mark.parametrize(
    ("spec", "backbone"),
    [
        ("hf:OpenAI/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("openclip:hf-hub:timm/x", "timm/x"),
        ("openclip:ViT-B-32-quickgelu/openai", "vit-b-32/openai"),
        ("embedded", "embedded"),
        ("embedded:as-trained", "embedded:as-trained"),
    ],
)
def test_one_name_for_every_spelling_of_a_backbone(spec, backbone):
    assert parse_spec(spec).backbone == backbone
