"""What every verb shares: exit codes, errors without tracebacks, warnings."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from isomix.cli import spectrum
from isomix.errors import InputError, IsomixWarning

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def failing(monkeypatch):
    """Make the verb spectrum fail, or do something else, without leaving this process."""

    def set_action(action):
        monkeypatch.setattr(spectrum, "render", action)

    return set_action


def raiser(error):
    def act(*_, **__):
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("got this, expected that"), 1, "error: got this, expected that"),
        (ZeroDivisionError("oops"), 1, "This is a bug"),
        (PermissionError(13, "Permission denied", "place"), 1, "error: Permission denied: place"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line(cli, failing, error, code, message):
    failing(raiser(error))
    result = cli("spectrum", "embedded")
    assert result.code == code
    assert message in result.err
    assert "Traceback" not in result.err


def test_debug_shows_the_traceback_wherever_it_stands(cli, failing):
    failing(raiser(InputError("got this")))
    with pytest.raises(InputError):
        cli("spectrum", "embedded", "--debug")


def test_our_warnings_are_lines_and_others_are_silent(cli, failing):
    def warn(*_, **__):
        warnings.warn("mind the gap", IsomixWarning, stacklevel=1)
        return []

    failing(warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = cli("spectrum", "embedded")
    assert "warning: mind the gap" in result.err


def test_wrong_usage_is_code_2(cli):
    assert cli("spectrum").code == 2
    assert cli("nonsense").code == 2
    assert cli("spectrum", "embedded", "--nonsense").code == 2


HELP = """
import sys
from isomix.__main__ import main
sys.argv = ["isomix", *sys.argv[1:], "--help"]
try:
    main()
except SystemExit:
    pass
loaded = {name.partition(".")[0] for name in sys.modules}
sys.exit(repr(loaded & {*"numpy scipy sklearn torch lance lancedb pyarrow onnxruntime transformers matplotlib PIL".split()}))
"""


@pytest.mark.parametrize("words", [[], ["search"], ["eval"], ["eval", "fewshot"]])
def test_help_comes_at_once(words):
    """Help imports typer and rich, and nothing that computes."""
    done = subprocess.run([sys.executable, "-c", HELP, *words], capture_output=True, text=True, check=False)
    assert "Usage" in done.stdout
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_the_base_install_names_the_extra(missing):
    """The script of the base install, which has no command line: one line that says how to get it."""
    script = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["isomix"]
    module, _, function = script.partition(":")
    program = f"import sys; sys.modules[{missing!r}] = None; from {module} import {function}; {function}()"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: The command line needs the package")
    assert done.stderr.strip().endswith("pip install 'isomix[app]'")
    assert len(done.stderr.splitlines()) == 1
