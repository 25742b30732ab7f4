"""The house: imports point downwards, no two packages import one another, modules stay readable, faces are complete."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import isomix

PACKAGE = Path(isomix.__file__).parent

ORDER = [
    "__main__",
    "cli",
    "demo",
    "web",
    "cluster",
    "benchmark",
    "store",
    "plotting",
    "inversion",
    "fewshot",
    "spaces",
    "exports",
    "encoders",
    "metrics",
    "neighbors",
    "projectors",
    "_affine",
    "linalg",
    "_documents",
    "_safetensors",
    "_files",
    "_extras",
    "_estimators",
    "_arrays",
    "errors",
]
"""Rooms from the top down: packages, then the modules of the root. A room imports what stands to the right of it."""

FACE = "__init__"
"""The package's own ``__init__``: it names what lies below it for users, and gives the rooms its version only."""

COMMANDS = {"cli", "web"}
"""Packages that are reached by a command, and no part of the interface."""

LINES = 400


class Import(NamedTuple):
    """One import of a room by another, and where it stands."""

    importer: str
    imported: str
    place: str

    @property
    def arrow(self) -> str:
        return f"{self.importer} -> {self.imported}"


def imports(root: Path) -> Iterator[Import]:
    """Every import between two rooms of a package: of modules, in functions, and for type checkers alike.

    Those for type checkers count, because a reader of the annotation has to go where it points.
    """
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        room, package = parts[0], (root.name, *parts[:-1])
        if room == FACE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node, package):
                if target[0] != root.name:
                    continue
                imported = target[1] if len(target) > 1 else FACE
                if imported != room and target != (root.name, "__version__"):
                    yield Import(room, imported, f"{path.relative_to(root).as_posix()}:{node.lineno}")


def _targets(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Dotted names that a statement imports, absolute; of ``from a import b`` it is a.b, whatever b is."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield tuple(alias.name.split("."))
    elif isinstance(node, ast.ImportFrom):
        start = package[: len(package) - node.level + 1] if node.level else ()
        for alias in node.names:
            yield (*start, *(node.module.split(".") if node.module else ()), alias.name)


def against_the_order(found: list[Import], order: list[str] = ORDER) -> list[Import]:
    """Imports that point upwards, or at a room that the order does not know."""
    place = {room: number for number, room in enumerate(order)}
    return [each for each in found if place.get(each.importer, -1) >= place.get(each.imported, -1)]


def circle(found: list[Import]) -> list[str]:
    """Rooms that import one another in a ring; empty when there is none."""
    graph: dict[str, set[str]] = {}
    for each in found:
        graph.setdefault(each.importer, set()).add(each.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def modules(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


# ---------------------------------------------------------------------- the house


def test_imports_point_downwards() -> None:
    found = list(imports(PACKAGE))
    wrong = against_the_order(found)
    assert not wrong, "\n".join(f"{each.place}: {each.arrow}" for each in wrong)


def test_no_two_packages_import_one_another() -> None:
    assert circle(imports(PACKAGE)) == []


def test_every_room_is_in_the_order() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    rooms |= {path.stem for path in PACKAGE.glob("*.py")} - {FACE}
    assert rooms <= set(ORDER)


def test_modules_are_read_in_one_sitting() -> None:
    long = {path.relative_to(PACKAGE).as_posix(): n for path in modules(PACKAGE) if (n := _lines(path)) > LINES}
    assert not long, f"more than {LINES} lines"


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path in modules(PACKAGE) if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


@pytest.mark.parametrize("room", [room for room in ORDER if (PACKAGE / room / "__init__.py").exists()])
def test_a_face_has_what_it_names(room: str) -> None:
    package = importlib.import_module(f"isomix.{room}")
    names = getattr(package, "__all__", [])
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(package, name)] == []


# ---------------------------------------------------------------------- the checker


def write(root: Path, **texts: str) -> list[Import]:
    """A small package whose rooms are ``top``, ``middle`` and ``ground``, and its imports."""
    for name, text in {"__init__": "", "top/__init__": "", "middle/__init__": "", "ground": "", **texts}.items():
        path = root / "small" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(imports(root / "small"))


SMALL = ["top", "middle", "ground"]


def test_the_checker_lets_downward_imports_pass(tmp_path: Path) -> None:
    text = "import os\nfrom small import __version__\nfrom small.middle.deep import x\nfrom small.top.b import y\n"
    found = write(tmp_path, **{"top/a": text, "middle/deep": "from small import ground\nfrom .other import z\n"})
    assert [each.arrow for each in found] == ["middle -> ground", "top -> middle"]
    assert against_the_order(found, SMALL) == []
    assert circle(found) == []


@pytest.mark.parametrize(
    "text",
    [
        "from small.top import x",
        "import small.top.deep",
        "from small import top",
        "from .. import top",
        "from ..top.deep import x",
        "def f():\n    from small.top import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from small.top import x",
        "try:\n    import small.top\nexcept ImportError:\n    pass",
    ],
)
def test_the_checker_finds_an_arrow_up_wherever_it_stands(tmp_path: Path, text: str) -> None:
    found = write(tmp_path, **{"middle/a": text})
    assert [each.arrow for each in against_the_order(found, SMALL)] == ["middle -> top"]
    assert found[0].place.startswith("middle/a.py:")


def test_the_checker_finds_names_taken_from_the_face_and_unknown_rooms(tmp_path: Path) -> None:
    found = write(tmp_path, **{"middle/a": "from small import Thing\n", "ground": "import small\n"})
    assert {each.arrow for each in against_the_order(found, SMALL)} == {"middle -> Thing", "ground -> __init__"}


def test_the_checker_finds_circles(tmp_path: Path) -> None:
    found = write(tmp_path, **{"top/a": "import small.middle", "middle/a": "from small.top import x"})
    assert set(circle(found)) == {"top", "middle"}


# ---------------------------------------------------------------------- the face


def test_subpackages_come_when_they_are_asked_for() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms - COMMANDS | {"errors"} == set(isomix._SUBPACKAGES)
    assert set(isomix._SUBPACKAGES) <= set(dir(isomix))
    assert isomix.fewshot.GDA is importlib.import_module("isomix.fewshot").GDA
    for name in isomix._SUBPACKAGES:
        assert getattr(isomix, name) is sys.modules[f"isomix.{name}"]
    with pytest.raises(AttributeError, match="no attribute 'fewshots'"):
        isomix.fewshots  # noqa: B018


def test_the_face_has_what_it_names() -> None:
    assert set(isomix.__all__) <= set(dir(isomix))
    assert [name for name in isomix.__all__ if not hasattr(isomix, name)] == []
