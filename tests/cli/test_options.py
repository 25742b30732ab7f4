"""Every option of the command line once: one name, one wording, in one module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from isomix.cli import app as app_module
from isomix.cli import options

CLI = Path(options.__file__).parent
DIFFERENT = {
    "--column": {"adapt", "convert", "duplicates", "export sql"},  # of the source, or new; of the source
    "--images": {"spectrum", "demo", "export sql"},  # stored embeddings, a folder
    "--method": {"fit", "eval retrieval", "eval ncm", "eval fewshot"},  # classifiers, spaces
    "--root": {"embed", "convert", "eval *"},  # of a list of paths, of the data sets
    "--space": {"search", "adapt", "export sql"},  # by name, from a file
}
"""Names that mean two things, by the verbs that have them."""


@pytest.fixture(scope="module")
def verbs():
    """Verb → its click command."""
    if not app_module.app.registered_commands:
        app_module._register()

    def walk(command, name: str) -> Iterator[tuple[str, object]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            for word, each in inner.items():
                yield from walk(each, f"{name} {word}".strip())

    return dict(walk(typer.main.get_command(app_module.app), ""))


def every_option(verbs) -> Iterator[tuple[str, str, str]]:
    """Verb, longest name and help of every option."""
    for verb, command in verbs.items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and "--help" not in parameter.opts:
                yield verb, max(parameter.opts, key=len), parameter.help or ""


def test_all_verbs_are_looked_at(verbs):
    assert {verb.split()[0] for verb in verbs} == set(app_module.VERBS)
    assert {"eval retrieval", "eval fewshot", "eval tables"} <= set(verbs)


def test_options_are_made_in_one_module():
    for path in sorted(CLI.glob("*.py")):
        made = [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Option", "Option")
        ]
        assert not made or path.name == "options.py", f"{path.name}: {made}"


def test_every_option_says_what_it_does(verbs):
    assert [(verb, name) for verb, name, text in every_option(verbs) if not text.endswith((".", "..."))] == []


def test_an_option_has_one_wording(verbs):
    """The first sentence; that it may be repeated, or what holds without it, may follow."""
    found: dict[str, dict[str, set[str]]] = {}
    for verb, name, text in every_option(verbs):
        found.setdefault(name, {}).setdefault(text.removesuffix(options.SEVERAL).strip(), set()).add(verb)
    several = {name: texts for name, texts in found.items() if len(texts) > 1}
    assert set(several) == set(DIFFERENT)
    for name, texts in several.items():
        named = {
            verb if verb in DIFFERENT[name] else f"{verb.split()[0]} *" for group in texts.values() for verb in group
        }
        assert named == DIFFERENT[name]


@pytest.mark.parametrize(
    "words",
    [
        "embed",
        "adapt",
        "export sql",
        "search",
        "fit",
        "spectrum",
        "demo",
        "eval retrieval",
        "eval ncm",
        "eval fewshot",
        "eval zeroshot",
    ],
)
def test_help_names_every_kind_of_model(cli, words):
    shown = cli(*words.split(), "--help").out
    assert max(map(len, shown.splitlines())) <= 80
    for name in ("embedded", "hf:<hub", "openclip:<name>/<tag>"):
        assert name in shown
