"""Splits: nothing held out comes back in training, and the same seed writes the same bytes."""

from __future__ import annotations

import collections
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import training.data.recognise as recognise_module
from isomix.encoders.embedded import EmbeddedEncoder
from isomix.errors import InputError
from training.__main__ import main
from training.config import CONFIG, load_section
from training.data.captions import caption_corpora
from training.data.duplicates import leaks
from training.data.pixels import on_white, small_pixels
from training.data.splits import SPLITS, Splits, assign, load_rows, make_dataset, read_list

SETTINGS = load_section(Splits, "splits", CONFIG)
USES = {"a": "train", "b": "train", "art": "train", "style": "held-out style", "photos": "transfer"}
KINDS = {"a": "icon", "b": "emoji", "art": "clip art", "style": "emoji", "photos": "stamp"}

pictures = st.lists(
    st.tuples(st.sampled_from(list(USES)), st.integers(0, 30).map("concept {}".format)), min_size=1, max_size=200
)


def assigned(rows: list[tuple[str, str]], listed: frozenset[str] = frozenset(), **changes: object) -> list[str]:
    changed = dataclasses.replace(SETTINGS, **{"held_out_concepts": 0.4, "held_out_clip_art": 5} | changes)
    sources, concepts = zip(*rows, strict=True)
    return assign(sources, concepts, [KINDS[source] for source in sources], USES, changed, listed)


@settings(deadline=None, max_examples=50)
@given(pictures, st.integers(0, 5))
def test_a_concept_is_trained_on_or_held_out(rows: list[tuple[str, str]], seed: int) -> None:
    splits = assigned(rows, seed=seed)
    seen: dict[str, set[str]] = collections.defaultdict(set)
    for (source, concept), split in zip(rows, splits, strict=True):
        if USES[source] != "train":
            assert split == USES[source]
        else:
            seen[concept].add(split)
    for concept, where in seen.items():
        assert "held-out concept" not in where or where == {"held-out concept"}
        drawn_in = {source for source, other in rows if other == concept and source in "ab"}
        assert "held-out concept" not in where or drawn_in == {"a", "b"}


@settings(deadline=None, max_examples=50)
@given(pictures)
def test_clip_art_of_a_concept_stays_together_and_its_number_is_bounded(rows: list[tuple[str, str]]) -> None:
    splits = assigned(rows, max_siblings=3)
    of = [(concept, split) for (source, concept), split in zip(rows, splits, strict=True) if source == "art"]
    together: dict[str, set[str]] = collections.defaultdict(set)
    for concept, split in of:
        together[concept].add(split)
    assert all(len(where) == 1 for where in together.values())
    held_out = [concept for concept, split in of if split == "held-out clip art"]
    assert len(held_out) <= 5 + 2
    assert all(held_out.count(concept) <= 3 for concept in held_out)


@settings(deadline=None, max_examples=50)
@given(pictures, pictures)
def test_what_is_held_out_depends_on_the_concept_not_on_other_concepts(
    rows: list[tuple[str, str]], others: list[tuple[str, str]]
) -> None:
    others = [(source, f"other {concept}") for source, concept in others]
    alone, beside = assigned(rows, held_out_clip_art=0), assigned(rows + others, held_out_clip_art=0)
    assert beside[: len(rows)] == alone


@settings(deadline=None, max_examples=50)
@given(pictures, st.sets(st.integers(0, 30).map("concept {}".format), min_size=1))
def test_a_list_decides_for_emoji_and_the_hash_for_other_icons(rows: list[tuple[str, str]], names: set[str]) -> None:
    listed, hashed = assigned(rows, frozenset(names)), assigned(rows)
    emoji = {concept for source, concept in rows if source == "b"}
    for (source, concept), split, by_hash in zip(rows, listed, hashed, strict=True):
        if USES[source] == "train" and source != "art":
            drawn_in = {other for other, name in rows if name == concept and other in "ab"}
            expected = len(drawn_in) > 1 and concept in names if concept in emoji else by_hash == "held-out concept"
            assert (split == "held-out concept") == expected


def test_the_list_of_the_recipe_is_read() -> None:
    names = read_list(CONFIG.with_name(SETTINGS.held_out_emoji))
    assert len(names) > 100
    assert not any(name.startswith("#") or not name.strip() for name in names)


def test_variants_of_a_person_are_held_out_together() -> None:
    concepts = [f"{who} concept {i}" for i in range(40) for who in ("man", "woman", "people")]
    rows = [(source, concept) for concept in concepts for source in "ab"]
    splits = assigned(rows)
    assert 0 < splits.count("held-out concept") < len(splits)
    for start in range(0, len(rows), 6):
        assert len(set(splits[start : start + 6])) == 1


def picture(pattern: int, shift: int = 0, side: int = 32) -> np.ndarray:
    """A block pattern of its own for every number, black on transparent."""
    blocks = np.random.default_rng(pattern).random((8, 8)) < 0.4
    alpha = np.roll(np.kron(blocks, np.ones((side // 8, side // 8))), shift, axis=1)
    out = np.zeros((side, side, 4), np.uint8)
    out[..., 3] = alpha * 255
    return out


def test_small_pixels_composite_on_white_and_centre() -> None:
    half = np.zeros((8, 8, 4), np.uint8)
    half[:4] = (255, 0, 0, 255)
    half[4:, :, :3] = 77  # hidden under alpha 0
    small = small_pixels(half, 2).reshape(2, 2, 3)
    assert small.mean() == pytest.approx(0, abs=1e-7)
    np.testing.assert_allclose(small[0] - small[1], np.tile([0, -1, -1], (2, 1)), atol=1e-6)


def test_a_leak_is_found_and_flat_pictures_are_not_compared() -> None:
    flat = np.zeros((32, 32, 4), np.uint8)
    shown = [picture(1), picture(2), picture(1), picture(3), flat, flat, picture(2)]
    splits = ["train", "train", "transfer", "train", "train", "transfer", "dropped"]
    pixels = np.stack([small_pixels(each, 16) for each in shown])
    assert [rows.tolist() for rows in leaks(pixels, splits, 0.97)] == [[0], [2]]
    assert [rows.tolist() for rows in leaks(pixels, ["train"] * 7, 0.97)] == [[], []]


CONFIG_TEXT = """
[corpora.sources.icons]
kind = "icon"
{p}
[corpora.sources.emoji]
kind = "emoji"
{p}
[corpora.sources.art]
kind = "clip art"
files = "**/*.svg"
{p}
[corpora.sources.style]
kind = "emoji"
use = "held-out style"
{p}
[corpora.sources.emojibase]
kind = "words"
{p}
[corpora.sources.wordnet]
kind = "words"
{p}
[render]
side = 16
workers = 1
[captions]
max_words = 14
max_captions = 12
[splits]
seed = {seed}
held_out_concepts = 0.3
held_out_emoji = ""
held_out_clip_art = 4
max_siblings = 50
min_visible = 2
duplicate_side = 16
duplicate_cosine = 0.97
first_weights_min_count = 2
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small corpora of SVGs, drawn and captioned; one drawing of a training set stands in the held-out style too."""
    pytest.importorskip("resvg_py", reason="needs training/requirements.txt")
    from training.data.render import render_corpora

    folder = tmp_path_factory.mktemp("output")

    def write(name: str, text: object) -> None:
        path = folder / "corpora" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else json.dumps(text))

    def body(pattern: int) -> str:
        blocks = np.argwhere(np.random.default_rng(pattern).random((4, 4)) < 0.5)
        return "".join(f'<path d="M{4 * x} {4 * y}h4v4h-4z" fill="currentColor"/>' for y, x in blocks)

    words = ["apple", "boat", "cat", "drum", "egg", "fox", "gate", "hat", "ink", "jug", "kite", "lamp"]
    for number, source in enumerate(("icons", "emoji", "style")):
        icons = {f"{word}-{number}": {"body": body(100 * number + row)} for row, word in enumerate(words)}
        icons["nothing"] = {"body": ""}
        write(f"{source}/icons.json", {"icons": icons, "width": 16, "height": 16})
    copied = json.loads((folder / "corpora/style/icons.json").read_text())["icons"]["apple-2"]
    icons = json.loads((folder / "corpora/icons/icons.json").read_text())
    write("icons/icons.json", icons | {"icons": icons["icons"] | {"copied": copied}})
    for row in range(12):
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16">{body(900 + row)}</svg>'
        write(f"art/things/thing{'abcdef'[row // 2]}_{row}.svg", svg)
    write("emojibase/en/data.json", [])
    write("emojibase/meta/groups.json", {"subgroups": {}})
    write("emojibase/meta/unicode-names.json", {})
    for standard in ("cldr", "emojibase", "github", "iamcal", "joypixels"):
        write(f"emojibase/en/shortcodes/{standard}.json", {})
    for part in ("index", "data"):
        write(f"wordnet/dict/{part}.noun", "")
    package = 'package = "p"\nversion = "1"\nsha256 = ""\nlicense = "MIT"\n'
    for seed in (0, 1):
        (folder / f"config{seed}.toml").write_text(CONFIG_TEXT.format(p=package, seed=seed))
    render_corpora(folder / "config0.toml", folder)
    caption_corpora(folder / "config0.toml", folder)
    make_dataset(folder / "config0.toml", folder)
    return folder


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(output: Path) -> None:
    dataset = output / "dataset"
    first = {path.name: path.read_bytes() for path in dataset.iterdir()}
    assert set(first) == {"pictures.npy", "index.parquet", "summary.json"}
    make_dataset(output / "config1.toml", output)
    assert (dataset / "index.parquet").read_bytes() != first["index.parquet"]
    make_dataset(output / "config0.toml", output)
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == first


def test_rows_of_the_splits_are_the_pictures_that_were_drawn(output: Path) -> None:
    total = 0
    for split in SPLITS:
        rows = load_rows(output / "dataset", split)
        assert rows.pictures.shape == (rows.index.num_rows, 16, 16, 4)
        for row, shown in zip(rows.index.to_pylist(), rows.pictures, strict=True):
            names = json.loads((output / f"pictures/{row['source']}.json").read_text())["names"]
            drawn = np.load(output / f"pictures/{row['source']}.npy")[names.index(row["name"])]
            assert np.array_equal(shown, drawn)
            assert row["row"] == total
            total += 1
    assert total == 3 * 13 + 1 + 12


def test_training_rows_reach_no_other_picture(output: Path) -> None:
    rows = load_rows(output / "dataset", "train")
    assert set(rows.index["split"].to_pylist()) == {"train"}
    owner = rows.pictures
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert owner.size == rows.pictures.size
    with pytest.raises(ValueError, match="read-only"):
        rows.pictures[0] = 0


def test_what_is_dropped_says_why(output: Path) -> None:
    dropped = load_rows(output / "dataset", "dropped").index.to_pylist()
    why = {(row["source"], row["name"]): row["dropped_because"] for row in dropped}
    assert why[("icons", "copied")] == "near-duplicate of a held-out picture"
    assert {why[(source, "nothing")] for source in ("icons", "emoji", "style")} == {"empty"}
    kept = [row for split in SPLITS[:-1] for row in load_rows(output / "dataset", split).index.to_pylist()]
    assert all(row["dropped_because"] is None and row["monochrome"] for row in kept)
    seen = {row["name"]: row["seen_by_first_weights"] for row in kept if row["split"] == "held-out style"}
    assert seen.pop("apple-2") == "perhaps"  # a training set held a copy
    assert set(seen.values()) == {"no"}
    # Every icon concept is drawn once here, and the first weights wanted two.
    assert {row["seen_by_first_weights"] for row in kept if row["kind"] == "icon"} == {"no"}
    assert {row["seen_by_first_weights"] for row in kept if row["kind"] == "clip art"} == {"perhaps"}


def test_emoji_that_a_model_does_not_recognise_are_listed(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognise_module, "MIN_DRAWINGS", 1)
    monkeypatch.setattr(recognise_module, "AMONG", 4)
    listed = output / "listed.txt"
    assert (
        main(["recognise", "--config", str(output / "config0.toml"), "--output", str(output), "--to", str(listed)]) == 0
    )
    names = json.loads((output / "pictures/emoji.json").read_text())["names"]
    drawn = np.load(output / "pictures/emoji.npy")
    encoder = EmbeddedEncoder("as-trained")
    concepts = [name.removesuffix("-1") for name in names]
    images = encoder.encode_image(list(on_white(drawn)), show_progress_bar=False).embeddings
    order = np.argsort(-images @ encoder.encode_text(concepts).embeddings.T, axis=1)
    unknown = {concept for row, concept in enumerate(concepts) if row not in order[row, :4]}
    assert 0 < len(unknown) < len(concepts)
    assert read_list(listed) == unknown


def test_the_summary_counts_every_picture(output: Path) -> None:
    summary = json.loads((output / "dataset/summary.json").read_text())
    assert summary["pictures"] == 52
    assert sum(split["pictures"] for split in summary["splits"].values()) == 52
    for table in ("kinds", "sources"):
        assert sum(sum(counts.values()) for counts in summary[table].values()) == 52
    assert summary["splits"]["held-out concept"]["pictures"] > 0
    assert summary["splits"]["held-out clip art"]["pictures"] == 4


def test_missing_stages_and_unknown_splits_are_named(output: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got 'test', expected one of train"):
        load_rows(output / "dataset", "test")
    with pytest.raises(InputError, match="no data set"):
        load_rows(tmp_path, "train")
    with pytest.raises(InputError, match="training caption"):
        make_dataset(output / "config0.toml", tmp_path)
    (tmp_path / "captions.parquet").write_bytes((output / "captions.parquet").read_bytes())
    with pytest.raises(InputError, match="training render"):
        make_dataset(output / "config0.toml", tmp_path)
