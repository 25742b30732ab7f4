"""Corpora: the packages of the configuration, archives that are checked, drawings that are listed once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from isomix.errors import InputError
from training.config import CONFIG
from training.data.corpora import Corpus, drawings, fetch, read_corpora

PATH = '<path d="M0 0h1v1H0z"/>'


def corpus(**fields: object) -> Corpus:
    given = {"package": "set", "version": "1.0.0", "sha256": "0", "license": "MIT", "kind": "icon"} | fields
    return Corpus(**given)  # type: ignore[arg-type]


def iconify(folder: Path, names: list[str], categories: dict[str, list[str]] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    icons = {name: {"body": PATH} for name in names}
    (folder / "icons.json").write_text(json.dumps({"prefix": "set", "icons": icons, "width": 24, "height": 12}))
    if categories:
        (folder / "metadata.json").write_text(json.dumps({"categories": categories}))
    return folder


def test_every_package_of_the_configuration_is_pinned_and_licensed() -> None:
    corpora = read_corpora(CONFIG)
    assert {"wordnet", "emojibase", "openclipart", "stamps"} <= set(corpora)
    for name, package in corpora.items():
        assert len(bytes.fromhex(package.sha256)) == 32, name
        assert package.version[0].isdigit(), name
        assert package.license, name


def test_share_alike_and_gpl_corpora_are_never_trained_on() -> None:
    trained = [c for c in read_corpora(CONFIG).values() if c.use == "train" and c.kind != "words"]
    assert not [c.package for c in trained if "SA" in c.license or "GPL" in c.license]


def test_drawings_of_an_iconify_set(tmp_path: Path) -> None:
    folder = iconify(tmp_path, ["b", "a", "a-bold", "acme"], {"Brand / Logo": ["acme"], "Letters": ["a"]})
    found = drawings(folder, corpus(exclude="-bold$"))
    assert [drawing.name for drawing in found] == ["a", "b"]
    assert found[0].aspect == 2
    assert 'viewBox="0 0 24 12"' in str(found[0].source)


def test_skin_tones_are_left_out_of_emoji_alone(tmp_path: Path) -> None:
    names = ["hand", "hand-dark-skin-tone", "hand-tone3", "1f44b-1f3fb", "tones"]
    folder = iconify(tmp_path, names)
    assert [drawing.name for drawing in drawings(folder, corpus(kind="emoji"))] == ["hand", "tones"]
    assert len(drawings(folder, corpus())) == 5


def test_one_size_of_each_icon_and_style(tmp_path: Path) -> None:
    names = ["add-16-filled", "add-20-filled", "add-20-regular", "add-48-regular", "box-1-28-filled", "home"]
    found = drawings(iconify(tmp_path, names), corpus(size=24))
    assert [drawing.name for drawing in found] == ["add-20-filled", "add-20-regular", "box-1-28-filled", "home"]


def test_files_are_named_by_their_path_and_count_once(tmp_path: Path) -> None:
    for name in ("cat.svg", "cat.png", "dog.png", "readme.txt"):
        (tmp_path / "art/pets").mkdir(parents=True, exist_ok=True)
        (tmp_path / "art/pets" / name).write_text("")
    (tmp_path / "art/pets/link.svg").symlink_to("cat.svg")
    found = drawings(tmp_path, corpus(kind="clip art", files="art/**/*.[ps][nv]g"))
    assert [(d.name, Path(d.source).suffix) for d in found] == [("pets/cat", ".svg"), ("pets/dog", ".png")]


def test_an_empty_corpus_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="training fetch"):
        drawings(tmp_path, corpus())
    with pytest.raises(InputError, match="training fetch"):
        drawings(tmp_path, corpus(kind="stamp", files="*.png"))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive, and an ``npm`` that hands it out in place of the registry and counts its calls."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        body = json.dumps({"icons": {"a": {"body": PATH}}}).encode()
        entry = tarfile.TarInfo("package/icons.json")
        entry.size = len(body)
        tar.addfile(entry, io.BytesIO(body))
    archive = tmp_path / "set-1.0.0.tgz"
    archive.write_bytes(data.getvalue())
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncase "$3" in set@1.0.0) cp {archive} . ;; *) exit 1 ;; esac\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")
    return archive


def config(folder: Path, sha256: str, **fields: str) -> Path:
    given = {"package": "set", "version": "1.0.0", "license": "MIT", "kind": "icon", "sha256": sha256} | fields
    path = folder / "config.toml"
    path.write_text("[corpora.sources.set]\n" + "".join(f'{key} = "{value}"\n' for key, value in given.items()))
    return path


def test_fetch_unpacks_once_and_again_when_the_pin_changes(registry: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(registry.read_bytes()).hexdigest()
    settings, output = config(tmp_path, digest), tmp_path / "output"
    fetch(settings, output)
    fetch(settings, output)
    assert (tmp_path / "calls").read_text() == "pack --ignore-scripts set@1.0.0\n"
    assert [drawing.name for drawing in drawings(output / "corpora/set", corpus())] == ["a"]
    assert [path.name for path in (output / "corpora").iterdir()] == ["set"]
    (output / "corpora/set/.sha256").write_text("older")
    fetch(settings, output)
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_fetch_refuses_an_archive_that_is_not_the_pinned_one(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set: the archive of set 1\.0\.0 has sha256"):
        fetch(config(tmp_path, "0" * 64), tmp_path / "output")
    assert not list((tmp_path / "output/corpora").iterdir())


def test_fetch_names_the_package_that_cannot_be_had(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set: `npm pack --ignore-scripts set@2\.0\.0` failed"):
        fetch(config(tmp_path, "0" * 64, version="2.0.0"), tmp_path / "output")


def test_fetch_names_the_tool_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"set: set=1\.0\.0 is fetched with apt-get"):
        fetch(config(tmp_path, "0" * 64, registry="debian"), tmp_path / "output")


@pytest.mark.network
def test_fetch_a_package_for_real(tmp_path: Path) -> None:
    maki = read_corpora(CONFIG)["maki"]
    fields = {"package": maki.package, "version": maki.version, "license": maki.license}
    fetch(config(tmp_path, maki.sha256, **fields), tmp_path / "output")
    assert len(drawings(tmp_path / "output/corpora/set", maki)) == 418
