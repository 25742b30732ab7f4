"""How a model is named."""

from __future__ import annotations

import pytest

from isomix.encoders import load_encoder
from isomix.encoders.lazy import LazyEncoder
from isomix.errors import InputError, ModelError
from isomix.projectors import Projectors
from isomix.projectors.model_spec import SHORT_NAMES, ModelSpec, parse_spec, unknown_model
from isomix.spaces import preset_band


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


def test_a_short_name_is_its_model(tmp_path, monkeypatch):
    assert parse_spec("clip-b32") == ("hf", "openai/clip-vit-base-patch32")
    assert {str(parse_spec(short)) for short in SHORT_NAMES} == set(SHORT_NAMES.values())
    assert preset_band("clip-b16") == preset_band("hf:openai/clip-vit-base-patch16")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip-b32").mkdir()  # a folder of that name is named as a folder
    assert parse_spec("clip-b32").name == "openai/clip-vit-base-patch32"
    assert parse_spec("./clip-b32") == ("hf", "./clip-b32")
    assert LazyEncoder("clip-l14").spec == "hf:openai/clip-vit-large-patch14"  # what is stored names it in full


@pytest.mark.parametrize("load", [Projectors.from_pretrained, load_encoder])
@pytest.mark.parametrize(
    ("spec", "nearest"),
    [
        ("clip-b23", "'clip-b32'"),
        ("CLIP-L14", "'clip-l14'"),
        ("siglip2b16", "'siglip2-b16'"),
        ("embeded", "'embedded'"),
        ("openai/clip-vit-base-patch32", "'hf:openai/clip-vit-base-patch32'"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(load, spec, nearest):
    with pytest.raises(ModelError, match=f"Did you mean {nearest}"):
        load(spec)


def test_a_name_like_no_other_has_no_nearest():
    assert "Did you mean" not in str(unknown_model("./some/where")) + str(unknown_model("xyz"))
