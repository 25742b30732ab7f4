"""Concept, captions and topic of every picture, from its name and what its corpus says about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from isomix._files import writing
from training.config import load_section
from training.data.corpora import Corpus, drawings, read_corpora, read_json
from training.data.words import EmojiNames, Nouns, plain

__all__ = ["Caption", "Captions", "caption_corpora", "strip_style"]

# Words at the end of a name that say how a thing is drawn. Sets add those they list themselves.
STYLE = re.compile(
    "outlined?|fill|filled|solid|bold|duotone|twotone|linear|regular|thin|rounded|sharp|alt|alternate|variant|remix|"
    "negative|glyph"
)
NUMBER = re.compile(r"0*\d{1,2}|\d+px")
RDF = {"rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "dc": "http://purl.org/dc/elements/1.1/"}
# A title of clip art that stands in files of more names than this is the title of a collection.
MAX_NAMES_OF_TITLE = 3
# Keywords of clip art that speak of the collection, not of the picture.
NOT_KEYWORD = re.compile("clip ?art|externalsource|hash|icons?|image|lemon theme icon|media|svg|unchecked|unsorted")


@dataclass(frozen=True)
class Captions:
    """The section ``[captions]``."""

    max_words: int
    max_captions: int


class Caption(NamedTuple):
    """What the data set says about one picture.

    Attributes
    ----------
    concept : str
        What is drawn, the same string in every set.
    captions : list of str
        The label first.
    topic : str
        A coarse class; empty where the corpus gives none.
    """

    concept: str
    captions: list[str]
    topic: str


def strip_style(words: list[str], style: Iterable[str] = ()) -> list[str]:
    """Take words of style, sizes and running numbers from the end of a name; something is always left.

    Parameters
    ----------
    words : list of str
    style : iterable of str
        Words of style of one set, beside those of all sets.

    Examples
    --------
    >>> strip_style(["arrow", "left", "24", "filled"])
    ['arrow', 'left']
    >>> strip_style(["line"], style=["line"])
    ['line']
    """
    own = set(style)
    end = len(words)
    while end > 1 and (words[end - 1] in own or STYLE.fullmatch(words[end - 1]) or NUMBER.fullmatch(words[end - 1])):
        end -= 1
    return words[:end]


def caption_corpora(config: Path, output: Path) -> None:
    """Caption every picture of every corpus and write ``output/captions.parquet``.

    Parameters
    ----------
    config, output : Path
        Configuration file and output folder.
    """
    settings = load_section(Captions, "captions", config)
    corpora = read_corpora(config)
    folders = {name: output / "corpora" / name for name in corpora}
    nouns = Nouns(folders["wordnet"])
    emoji = EmojiNames(folders["emojibase"], [folders[n] for n, c in corpora.items() if c.kind == "emoji"])
    rows: list[dict[str, object]] = []
    for name, corpus in corpora.items():
        if corpus.kind == "words":
            continue
        caption = _captioner(folders[name], corpus, emoji)
        for drawing in drawings(folders[name], corpus):
            found = caption(drawing.name, drawing.source)
            captions = [*found.captions, *_broader(found.concept, nouns, whole=corpus.kind != "emoji")]
            rows.append(
                {
                    "source": name,
                    "name": drawing.name,
                    "concept": found.concept,
                    "captions": _tidy(captions, settings),
                    "kind": corpus.kind,
                    "topic": found.topic,
                }
            )
        sys.stderr.write(f"\rcaption {name}: {len(rows)} pictures in all\x1b[K")
    sys.stderr.write("\n")
    table = pa.Table.from_pylist(rows)
    with writing(output / "captions.parquet") as part:
        pq.write_table(table, part)


def _tidy(captions: Iterable[str], settings: Captions) -> list[str]:
    short = (" ".join(caption.split()[: settings.max_words]) for caption in captions)
    return list(dict.fromkeys(caption for caption in short if caption))[: settings.max_captions]


def _broader(concept: str, nouns: Nouns, *, whole: bool) -> list[str]:
    """Phrases with broader terms of a concept, or of its last word: a "paper boat" is a boat, "arrow left" is no left."""
    terms = nouns.broader(concept)
    if not terms and not whole and " " in concept:
        terms = nouns.broader(concept.split()[-1])
    phrases = [f"{concept}, a kind of {terms[0]}"] if terms else []
    return phrases + [f"a kind of {term}" for term in terms[1:2]]


def _captioner(folder: Path, corpus: Corpus, emoji: EmojiNames) -> Callable[[str, str | Path], Caption]:
    if corpus.kind == "emoji":
        return lambda name, source: _emoji(name, emoji)
    if corpus.kind == "icon":
        return _icons(folder, corpus)
    if corpus.kind == "clip art":
        return _clip_art(folder, corpus)
    return lambda name, source: _stamp(name, Path(source))


def _emoji(name: str, emoji: EmojiNames) -> Caption:
    # Some sets number their drawings of one emoji; a number that is part of a name is found first.
    found = emoji.find(name) or emoji.find(re.sub(r"-\d+$", "", name))
    if found is None:
        concept = " ".join(strip_style(plain(name)))
        return Caption(concept, [concept], "")
    concept = " ".join(plain(found.label))
    keywords = [" ".join(plain(keyword)) for keyword in found.keywords]
    # Short keywords are slang and smileys typed on a keyboard.
    return Caption(concept, [concept, *(keyword for keyword in keywords if len(keyword) > 2)], found.group)


def _icons(folder: Path, corpus: Corpus) -> Callable[[str, str | Path], Caption]:
    metadata = read_json(folder, "metadata.json", {})
    style = {word for suffix in metadata.get("suffixes", {}) for word in suffix.split("-")}
    style.update((corpus.style or "").split())
    categories: dict[str, str] = {}
    for category, names in metadata.get("categories", {}).items():
        # Names of categories are words, or run together with capitals.
        spaced = " ".join(plain(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", category)))
        categories.update((name, spaced) for name in names if name not in categories)
    synonyms: dict[str, list[str]] = {}
    for alias, about in read_json(folder, "icons.json").get("aliases", {}).items():
        # An alias that turns or mirrors its parent is another drawing.
        if set(about) <= {"parent", "hidden"}:
            synonyms.setdefault(about["parent"], []).append(alias)

    def caption(name: str, source: str | Path) -> Caption:
        topic = categories.get(name, "")
        words = plain(name)
        bare = strip_style(words, style)
        prefix = topic.split() if corpus.prefixed else []
        if bare[: len(prefix)] == prefix and len(bare) > len(prefix):
            bare = bare[len(prefix) :]
        # Some names repeat words, as lists of keywords do.
        concept = " ".join(dict.fromkeys(bare))
        others = (" ".join(dict.fromkeys(strip_style(plain(alias), style))) for alias in synonyms.get(name, ()))
        full = [word for word in words if corpus.size is None or not NUMBER.fullmatch(word)]
        return Caption(concept, [concept, *others, " ".join(full)], topic)

    return caption


def _clip_art(folder: Path, corpus: Corpus) -> Callable[[str, str | Path], Caption]:
    works = {drawing.name: _metadata(Path(drawing.source)) for drawing in drawings(folder, corpus)}
    # Titles of collections, and titles left over from the file a drawing began as, stand in many files.
    files = {name: _without_artist(plain(name.rpartition("/")[2]), work.artist) for name, work in works.items()}
    named: dict[str, set[str]] = {}
    for name, work in works.items():
        named.setdefault(work.title, set()).add(" ".join(files[name]))

    def caption(name: str, source: str | Path) -> Caption:
        work = works[name]
        words = strip_style(plain(work.title)) if len(named[work.title]) <= MAX_NAMES_OF_TITLE else []
        # Numbers of a series are often joined to the last word.
        concept = re.sub(r"(?<=[a-z]{3})\d+$", "", " ".join(words or files[name]))
        spoken = [" ".join(plain(keyword)) for keyword in work.keywords]
        spoken = list(
            dict.fromkeys(keyword for keyword in spoken if not NOT_KEYWORD.fullmatch(keyword) and len(keyword) > 2)
        )
        together = [f"{concept}, {', '.join(spoken[:3])}"] if len(spoken) > 1 else []
        return Caption(concept, [concept, *together, *spoken], name.rpartition("/")[0])

    return caption


def _without_artist(words: list[str], artist: str) -> list[str]:
    """Take the name of the artist, often cut short, from the end of the name of a file."""
    names = plain(artist)
    words = strip_style(words)
    end = len(words)
    while end > 1 and len(words[end - 1]) > 2 and any(name.startswith(words[end - 1]) for name in names):
        end -= 1
    return strip_style(words[:end])


class _Work(NamedTuple):
    title: str
    keywords: list[str]
    artist: str


def _metadata(path: Path) -> _Work:
    """Title, keywords and artist in the RDF of an SVG; empty where it is missing or broken."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError):
        return _Work("", [], "")
    # The namespace of Creative Commons changed over the years; the work is told by the end of its name.
    for work in root.iter():
        if isinstance(work.tag, str) and work.tag.endswith("}Work"):
            title = re.sub(
                r"^clip ?art by [^-]*- ", "", work.findtext("dc:title", "", RDF).strip(), flags=re.IGNORECASE
            )
            keywords = [li.text for li in work.iterfind("dc:subject//rdf:li", RDF) if li.text]
            return _Work(title, keywords, work.findtext("dc:creator/*/dc:title", "", RDF))
    return _Work("", [], "")


def _stamp(name: str, path: Path) -> Caption:
    folder, _, file = name.rpartition("/")
    text = path.with_suffix(".txt")
    # The first line is English; what follows its first sentence is a remark.
    line = text.read_text(encoding="utf-8", errors="replace").split("\n")[0] if text.is_file() else ""
    words = plain(re.split(r"[.!?](?:\s|$)", line.strip())[0])
    concept = " ".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) and len(words) > 1 else words)
    concept = concept or " ".join(strip_style(plain(file)))
    return Caption(concept, [" ".join(words) or concept, concept], folder)
