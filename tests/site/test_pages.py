"""What the pages say: whom they are for, every verb, every error, every name of the interface."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer

from isomix import errors
from isomix.cli.app import VERBS, _register, app

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docs"
WRITTEN = [*SOURCE.glob("*.md"), *SOURCE.glob("*/*.md"), SOURCE / "reference" / "api.rst", *SOURCE.glob("examples/*.*")]


def beginning(path: Path) -> str:
    """The first two lines below a page's title."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip(' "=')]
    return " ".join(lines[1:3])


@pytest.mark.parametrize("path", sorted(WRITTEN), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_page_begins_with_whom_it_is_for(path):
    assert re.match(r"For (people|those) ", beginning(path)), beginning(path)


def commands() -> dict[str, set[str]]:
    """The long options of every verb, and of the verbs of verbs."""
    if not app.registered_commands:
        _register()
    group = typer.main.get_command(app)
    found = {}

    def walk(command, name):
        for inner, below in getattr(command, "commands", {}).items():
            walk(below, f"{name} {inner}")
        found[name] = {option for each in command.params for option in each.opts if option.startswith("--")} - {
            "--help"
        }

    for verb in VERBS:
        walk(group.commands[verb], f"isomix {verb}")
    return found


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_verb_has_a_section_with_its_options(pages, site, name):
    page = pages[site / "reference" / "command-line.html"]
    anchor = name.replace(" ", "-")
    assert anchor in page.anchors
    section = page.text.split(f'id="{anchor}"')[1].split("<section")[0]
    missing = {option for option in commands()[name] if option not in section}
    assert not missing


def test_every_error_has_a_section(pages, site):
    page = pages[site / "reference" / "errors.html"]
    assert {name.lower() for name in errors.__all__} <= page.anchors


def packages() -> list[str]:
    text = (SOURCE / "reference" / "api.rst").read_text(encoding="utf-8")
    return re.findall(r"currentmodule:: (\S+)", text)


@pytest.mark.parametrize("package", packages())
def test_every_class_and_function_of_the_interface_has_a_page(pages, site, package):
    try:
        module = importlib.import_module(package)
        names = [name for name in module.__all__ if callable(getattr(module, name))]
    except errors.MissingExtraError as error:
        pytest.skip(str(error))
    folder = site / "reference" / "generated"
    missing = [name for name in names if folder / f"{package}.{name}.html" not in pages]
    assert not missing or (package, missing) == ("isomix.spaces", ["Projectors"])  # it has its page in projectors


def test_environment_variables_are_those_that_the_code_reads():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    read = set(re.findall(r"""environ(?:\.get\(|\[)"(\w+)\"""", text))
    for constant in re.findall(r"environ(?:\.get\(|\[)([A-Z_]+)\b", text):
        read |= set(re.findall(rf'^{constant} = "(\w+)"', text, re.M))
    page = (SOURCE / "reference" / "environment.md").read_text(encoding="utf-8")
    assert read == set(re.findall(r"^\| `(\w+)`", page, re.M))


@pytest.mark.parametrize("script", sorted(SOURCE.glob("examples/*.py")), ids=lambda path: path.stem)
def test_tutorials_were_run_and_can_be_taken_home(pages, site, script):
    page = pages[site / "tutorials" / f"{script.stem}.html"]
    assert "sphx-glr-script-out" in page.text  # what it printed
    assert f"sphx_glr_{script.stem}_001" in page.text  # what it drew
    assert any(link.endswith(".ipynb") for link in page.links)
    assert any(link.endswith(".py") for link in page.links)
