"""Fixtures that every test module may use."""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
from collections.abc import Iterator
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


# No network, here and in the programs that the tests start. One file of attempts a process of pytest-xdist.
NO_NETWORK = Path(__file__).with_name("no_network")
_handle, _attempts = tempfile.mkstemp(prefix="isomix-network-")
os.close(_handle)
os.environ["ISOMIX_TESTS_ATTEMPTS"] = _attempts
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(NO_NETWORK), os.environ.get("PYTHONPATH", ""))))
_spec = importlib.util.spec_from_file_location("no_network", NO_NETWORK / "sitecustomize.py")
assert _spec is not None and _spec.loader is not None
_spec.loader.exec_module(importlib.util.module_from_spec(_spec))


def pytest_unconfigure() -> None:
    """Remove the file of attempts."""
    Path(_attempts).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that tries to reach another machine, whatever becomes of the error; ``network`` tests may."""
    if request.node.get_closest_marker("network"):
        monkeypatch.setenv("ISOMIX_TESTS_NETWORK", "1")
    tried = Path(_attempts)
    before = tried.stat().st_size
    yield
    found = tried.read_text(encoding="utf-8")[before:]
    if found:
        pytest.fail(f"the network was tried: {found}", pytrace=False)


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
    monkeypatch.setenv("ISOMIX_DEBUG", "")  # --debug sets it, and monkeypatch takes it back

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
