"""What every verb shares: exit codes, errors without tracebacks, warnings."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from isomix.cli import spectrum
from isomix.errors import InputError, IsomixWarning


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


def test_starting_is_light():
    """Naming a verb imports no framework: help must come at once."""
    program = (
        "import sys, isomix.cli.app as a; sys.argv = ['isomix', '--help']\n"
        "try: a.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lancedb', 'onnxruntime', 'transformers', 'matplotlib', 'PIL', 'scipy'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
