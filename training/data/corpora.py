"""The corpora: packages fetched at pinned versions, checked, unpacked, and listed as drawings."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from isomix.errors import InputError
from training.config import load_section

__all__ = ["Corpora", "Corpus", "Drawing", "drawings", "fetch", "read_corpora", "read_json"]

# Pictures that differ from another one in the colour of the skin alone. Names are words or code points.
SKIN_TONES = re.compile(r"skin-tone|-tone[1-5]|(?:^|-)1f3f[b-f](?:-|$)")
BRANDS = re.compile(r"\b(?:brand|logo)s?\b", re.IGNORECASE)
SIZED = re.compile(r"-(\d+)(?=-|$)")


@dataclass(frozen=True)
class Corpus:
    """One package; ``config.toml`` explains the fields."""

    package: str
    version: str
    sha256: str
    license: str
    kind: Literal["emoji", "icon", "clip art", "stamp", "words"]
    registry: Literal["npm", "debian"] = "npm"
    use: Literal["train", "held-out style", "transfer"] = "train"
    files: str | None = None
    exclude: str | None = None
    size: int | None = None
    style: str | None = None
    prefixed: bool = False


@dataclass(frozen=True)
class Corpora:
    """The section ``[corpora]``: packages by name, in the order of the data set."""

    sources: dict[str, Corpus]


class Drawing(NamedTuple):
    """One picture of a corpus.

    Attributes
    ----------
    name : str
        Unique in its corpus; for files the path without the ending.
    source : str or Path
        SVG text, or a file.
    aspect : float or None
        Width by height where the corpus says it.
    trim : bool
        Whether the picture stands somewhere on a page, whose empty part is cut off.
    """

    name: str
    source: str | Path
    aspect: float | None = None
    trim: bool = False


def read_corpora(config: Path) -> dict[str, Corpus]:
    """Read the packages named in the configuration, by their short names."""
    return load_section(Corpora, "corpora", config).sources


def fetch(config: Path, output: Path) -> None:
    """Download, check and unpack every package into ``output/corpora/<name>``; those there already are kept.

    Parameters
    ----------
    config, output : Path
        Configuration file and output folder.

    Raises
    ------
    InputError
        A package that cannot be had, or an archive with another sha256 than the configuration says.
    """
    for name, corpus in read_corpora(config).items():
        folder = output / "corpora" / name
        # The stamp names the contents, so that a changed version is fetched anew.
        stamp = folder / ".sha256"
        if stamp.is_file() and stamp.read_text() == corpus.sha256:
            continue
        sys.stderr.write(f"fetch {name}: {corpus.package} {corpus.version}\n")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
            archive = _download(name, corpus, Path(scratch))
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            if digest != corpus.sha256:
                raise InputError(
                    f"{name}: the archive of {corpus.package} {corpus.version} has sha256 {digest}, expected "
                    f"{corpus.sha256}. Look at what changed before you write the new one into the configuration."
                )
            unpacked = Path(scratch) / "unpacked"
            _unpack(corpus, archive, unpacked)
            (unpacked / ".sha256").write_text(corpus.sha256)
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.replace(folder)


def _download(name: str, corpus: Corpus, folder: Path) -> Path:
    wanted = f"{corpus.package}{'@' if corpus.registry == 'npm' else '='}{corpus.version}"
    command = (
        ["npm", "pack", "--ignore-scripts", wanted] if corpus.registry == "npm" else ["apt-get", "download", wanted]
    )
    tools = ("npm",) if corpus.registry == "npm" else ("apt-get", "dpkg")
    for tool in tools:
        if shutil.which(tool) is None:
            where = "" if corpus.registry == "npm" else " on Debian or a system derived from it"
            raise InputError(f"{name}: {wanted} is fetched with {tool}, which is not here. Run this stage{where}.")
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    archives = [path for path in folder.iterdir() if path.suffix in (".tgz", ".deb")]
    if ran.returncode or len(archives) != 1:
        raise InputError(f"{name}: `{' '.join(command)}` failed: {ran.stderr.strip() or ran.stdout.strip()}")
    return archives[0]


def _unpack(corpus: Corpus, archive: Path, folder: Path) -> None:
    folder.mkdir()
    if corpus.registry == "debian":
        ran = subprocess.run(["dpkg", "-x", str(archive), str(folder)], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise InputError(f"{archive.name}: dpkg could not unpack it: {ran.stderr.strip()}")
        return
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    # Archives of npm hold one folder; its contents are the package.
    (package,) = folder.iterdir()
    for path in list(package.iterdir()):
        path.rename(folder / path.name)
    package.rmdir()


def read_json(folder: Path, name: str, default: Any = None) -> Any:
    """Read a JSON file of an unpacked package; ``default``, if given, where it has none."""
    path = folder / name
    if not path.is_file():
        if default is not None:
            return default
        raise InputError(f"{path}: not found. Run `python -m training fetch` first.")
    return json.loads(path.read_text(encoding="utf-8"))


def drawings(folder: Path, corpus: Corpus) -> list[Drawing]:
    """List the pictures of an unpacked corpus, without those the configuration excludes, by name.

    Parameters
    ----------
    folder : Path
        ``output/corpora/<name>``.
    corpus : Corpus

    Returns
    -------
    list of Drawing
        None for a corpus of words.
    """
    if corpus.kind == "words":
        return []
    if corpus.files is None:
        found = _iconify(folder, corpus)
    else:
        # Folders of the pattern before the first wildcard are not part of the names.
        root = folder.joinpath(*itertools.takewhile(lambda part: "*" not in part, Path(corpus.files).parts))
        paths = [path for path in folder.glob(corpus.files) if not path.is_symlink()]
        trim = corpus.kind == "clip art"
        found = [Drawing(path.relative_to(root).with_suffix("").as_posix(), path, trim=trim) for path in paths]
    exclude = re.compile(corpus.exclude) if corpus.exclude else None
    chosen = [
        drawing
        for drawing in found
        if not (exclude and exclude.search(drawing.name))
        and not (corpus.kind == "emoji" and SKIN_TONES.search(drawing.name))
    ]
    if not chosen:
        raise InputError(
            f"{folder}: no pictures. Run `python -m training fetch` first, or remove the folder and run it."
        )
    # A drawing that comes as PNG and as SVG counts once.
    return list({drawing.name: drawing for drawing in sorted(chosen)}.values())


def _iconify(folder: Path, corpus: Corpus) -> list[Drawing]:
    icons = read_json(folder, "icons.json")
    categories = read_json(folder, "metadata.json", {}).get("categories", {})
    branded = {name for category, names in categories.items() if BRANDS.search(category) for name in names}
    names = [name for name in icons["icons"] if name not in branded]
    if corpus.size is not None:
        names = _one_size(names, corpus.size)
    found = []
    for name in names:
        icon = icons["icons"][name]
        left, top, width, height = (
            icon.get(key, icons.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000" '
            f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )
        found.append(Drawing(name, svg, width / height))
    return found


def _one_size(names: list[str], size: int) -> list[str]:
    """The name nearest to ``size`` among those that differ in their size alone; a number is a size where it comes last."""
    best: dict[str, tuple[int, str]] = {}
    for name in sorted(names):
        sizes = list(SIZED.finditer(name))
        base, distance = name, 0
        if sizes:
            last = sizes[-1]
            base, distance = name[: last.start()] + name[last.end() :], abs(int(last[1]) - size)
        best[base] = min(best.get(base, (distance, name)), (distance, name))
    return [name for _, name in best.values()]
