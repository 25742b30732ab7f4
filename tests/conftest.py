"""Fixtures that every test module may use."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]

# A shell's background job ignores Ctrl-C, and so would the programs that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

try:
    from hypothesis import settings
except ModuleNotFoundError:  # the environment of open_clip has none
    pass
else:  # how long an example takes depends on what else the machine does, and is not what these tests are about
    settings.register_profile("isomix", deadline=None)
    settings.load_profile("isomix")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real ViT-B/32 embeddings beside the checkout; the test skips, visibly, where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real ViT-B/32 embeddings (../shared/data) are not on this machine")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(0)


class CliResult(NamedTuple):
    """What one call of the command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch, capsys):
    """Call the command line in this process: ``cli("search", table, query)`` gives its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("ISOMIX_DEBUG", raising=False)

    def call(*arguments: object) -> CliResult:
        from isomix.cli.app import main

        monkeypatch.setattr("sys.argv", ["isomix", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return CliResult(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The bundled pictures: ``<group>/<concept>/<style>.<suffix>``."""
    return ROOT / "src" / "isomix" / "demo" / "pictures"
