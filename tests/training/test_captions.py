"""Captions: one concept for one thing in every set, words of the corpora in order, broader terms of things alone."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.captions import caption_corpora, strip_style
from training.data.words import EmojiNames, Nouns, plain


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")


@pytest.fixture
def emojibase(tmp_path: Path) -> Path:
    folder = tmp_path / "corpora" / "emojibase"
    data = [
        {"label": "cat face", "hexcode": "1F431", "tags": ["pet", "=^"], "subgroup": 0},
        {"label": "flag: Norway", "hexcode": "1F1F3-1F1F4", "tags": ["no"], "subgroup": 1},
        {"label": "keycap: 2", "hexcode": "0032-FE0F-20E3", "subgroup": 1},
    ]
    write(folder / "en/data.json", data)
    write(folder / "meta/groups.json", {"subgroups": {"0": "animal-mammal", "1": "flag"}})
    write(folder / "meta/unicode-names.json", {"1F431": "CAT FACE"})
    for standard in ("cldr", "emojibase", "github", "iamcal", "joypixels"):
        write(folder / f"en/shortcodes/{standard}.json", {"1F431": ["kitty", "cat"]})
    return folder


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """Seven levels of nouns: entity > object > whole > artifact > device > instrument > wrench, and an injury."""
    folder = tmp_path / "corpora" / "wordnet"
    names = ["entity", "object", "whole", "artifact", "device", "instrument", "hand_tool", "spanner"]
    lines = ["  1 This is the licence."]
    for level, name in enumerate(names):
        words = "02 wrench 0 spanner 0" if name == "spanner" else f"01 {name} 0"
        broader = "000" if level == 0 else f"001 @ {level - 1:08d} n 0000"
        lines.append(f"{level:08d} 06 n {words} {broader} | a gloss with @ signs")
    lines.append("00000008 26 n 01 wrench 1 001 @ 00000000 n 0000 | an injury")
    write(folder / "dict/data.noun", "\n".join(lines) + "\n")
    index = ["  1 This is the licence.", "wrench n 2 1 @ 2 1 00000008 00000007"]
    index += [f"{name} n 1 1 @ 1 1 {level:08d}" for level, name in enumerate(names)]
    write(folder / "dict/index.noun", "\n".join(index) + "\n")
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("arrow-left-24-filled", "arrow left"),
        ("heart-outline-rounded", "heart"),
        ("mouse-23", "mouse"),
        ("solid", "solid"),
        ("outline-24", "outline"),
        ("bold-arrow", "bold arrow"),
        ("year-2024", "year 2024"),
    ],
)
def test_style_is_stripped_from_the_end(name: str, expected: str) -> None:
    assert " ".join(strip_style(plain(name))) == expected


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["cat", "line", "outline", "24", "bold", "16px"]), min_size=1))
def test_stripping_keeps_a_start_of_the_name_and_is_final(words: list[str]) -> None:
    stripped = strip_style(words, ["line"])
    assert stripped
    assert words[: len(stripped)] == stripped
    assert strip_style(stripped, ["line"]) == stripped


def test_emoji_are_found_by_code_label_and_habit(emojibase: Path, tmp_path: Path) -> None:
    write(tmp_path / "set/chars.json", {"1f431": "pussy-cat"})
    emoji = EmojiNames(emojibase, [tmp_path / "set", tmp_path / "set without characters"])
    for name in ("1f431", "1f431-fe0f", "cat-face", "catface", "kitty", "pussy-cat"):
        found = emoji.find(name)
        assert found is not None, name
        assert found.label == "cat face"
    flag = emoji.find("flag-for-norway")
    assert flag is not None
    assert flag.group == "flag"
    assert emoji.find("dog") is None


def test_only_things_are_broadened(wordnet: Path) -> None:
    nouns = Nouns(wordnet)
    # The first sense, an injury, cannot be drawn; terms next to the root are too general.
    assert nouns.broader("wrench") == nouns.broader("wrenchs") == ["hand tool", "instrument"]
    assert nouns.broader("device") == []
    assert nouns.broader("no such noun") == []


def rdf(title: str, keywords: list[str], artist: str) -> str:
    bag = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg"><metadata>'
        '<rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work>'
        f"<dc:title>{title}</dc:title><dc:subject><rdf:Bag>{bag}</rdf:Bag></dc:subject>"
        f"<dc:creator><cc:Agent><dc:title>{artist}</dc:title></cc:Agent></dc:creator>"
        "</cc:Work></rdf:RDF></metadata></svg>"
    )


def test_all_corpora(tmp_path: Path, emojibase: Path, wordnet: Path) -> None:
    corpora = tmp_path / "corpora"
    icons = {"body": ""}
    names = ["wrench-line", "map-line", "wrench-2", "spanner-fill", "paint-brush"]
    write(corpora / "icons/icons.json", {"icons": dict.fromkeys(names, icons), "aliases": {
        "hand-tool": {"parent": "wrench-line"}, "wrench-turned": {"parent": "wrench-line", "rotate": 1}}})  # fmt: skip
    write(corpora / "icons/metadata.json", {"suffixes": {"line": "Line"}, "categories": {"Map": ["map-line"]}})
    write(corpora / "pixels/icons.json", {"icons": {"FoodDrink-wine": icons, "food-drink-wine-1": icons}})
    write(corpora / "pixels/metadata.json", {"categories": {"FoodDrink": ["food-drink-wine-1"]}})
    write(corpora / "emoji/icons.json", {"icons": {"cat-face-2": icons, "1f1f3-1f1f4": icons, "unheard-of": icons}})
    art = corpora / "art/svg"
    write(
        art / "tools/key_jane_do_01.svg",
        rdf("Clipart by Jane Doe - Old key", ["lock", "hash", "tool", "lock"], "Jane Doe"),
    )
    for name in ("red_bus", "blue_bus", "van", "lorry7"):
        write(art / f"cars/{name}_jane_03.svg", rdf("Jane's collection", [], "Jane Doe"))
    write(art / "broken.svg", "<svg")
    write(corpora / "stamps/s/fruit/fig.png", "")
    write(corpora / "stamps/s/fruit/fig.txt", "A ripe fig. Sweet!\nde.utf8=Eine Feige.\n")
    sources = {
        "icons": 'kind = "icon"',
        "pixels": 'kind = "icon"\nprefixed = true',
        "emoji": 'kind = "emoji"',
        "art": 'kind = "clip art"\nfiles = "svg/**/*.svg"',
        "stamps": 'kind = "stamp"\nuse = "transfer"\nfiles = "s/**/*.png"',
        "emojibase": 'kind = "words"',
        "wordnet": 'kind = "words"',
    }
    config = "".join(
        f'[corpora.sources.{name}]\npackage = "p"\nversion = "1"\nsha256 = ""\nlicense = "MIT"\n{fields}\n'
        for name, fields in sources.items()
    )
    write(tmp_path / "config.toml", config + "[captions]\nmax_words = 4\nmax_captions = 5\n")

    caption_corpora(tmp_path / "config.toml", tmp_path)
    rows = pq.read_table(tmp_path / "captions.parquet").to_pylist()
    found = {(row["source"], row["name"]): (row["concept"], row["captions"], row["topic"]) for row in rows}
    assert found == {
        ("icons", "map-line"): ("map", ["map", "map line"], "map"),
        ("icons", "paint-brush"): ("paint brush", ["paint brush"], ""),
        ("icons", "spanner-fill"): (
            "spanner",
            ["spanner", "spanner fill", "spanner, a kind of", "a kind of instrument"],
            "",
        ),
        ("icons", "wrench-2"): ("wrench", ["wrench", "wrench 2", "wrench, a kind of", "a kind of instrument"], ""),
        ("icons", "wrench-line"): (
            "wrench",
            ["wrench", "hand tool", "wrench line", "wrench, a kind of", "a kind of instrument"],
            "",
        ),
        ("pixels", "FoodDrink-wine"): ("fooddrink wine", ["fooddrink wine"], ""),
        ("pixels", "food-drink-wine-1"): ("wine", ["wine", "food drink wine 1"], "food drink"),
        ("emoji", "1f1f3-1f1f4"): ("flag norway", ["flag norway"], "flag"),
        ("emoji", "cat-face-2"): ("cat face", ["cat face", "pet"], "animal-mammal"),
        ("emoji", "unheard-of"): ("unheard of", ["unheard of"], ""),
        ("art", "broken"): ("broken", ["broken"], ""),
        ("art", "cars/blue_bus_jane_03"): ("blue bus", ["blue bus"], "cars"),
        ("art", "cars/lorry7_jane_03"): ("lorry", ["lorry"], "cars"),
        ("art", "cars/red_bus_jane_03"): ("red bus", ["red bus"], "cars"),
        ("art", "cars/van_jane_03"): ("van", ["van"], "cars"),
        ("art", "tools/key_jane_do_01"): ("old key", ["old key", "old key, lock, tool", "lock", "tool"], "tools"),
        ("stamps", "fruit/fig"): ("ripe fig", ["a ripe fig", "ripe fig"], "fruit"),
    }
