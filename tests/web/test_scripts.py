"""The pages' scripts: their tests under node, their size, and that nothing in them comes from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import isomix

STATIC = Path(isomix.__file__).parent / "web" / "static"
SOURCES = [
    path for path in sorted(STATIC.rglob("*")) if path.suffix in (".js", ".css", ".html") and "vendor" not in path.parts
]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_scripts_pass_their_own_tests():
    done = subprocess.run(
        ["node", "--test", str(Path(__file__).with_name("studio.test.mjs"))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_module_is_short_and_loads_nothing_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 300
    outside = re.findall(r"""(?:https?:)?//[\w.-]+\.\w+""", text.replace("http://www.w3.org/2000/svg", ""))
    assert outside == []
    if path.suffix == ".js":
        assert "// @ts-check" in text
        assert not re.search(r"\beval\(|new Function|innerHTML|unsafeHTML|document\.write|insertAdjacentHTML", text)
        for imported in re.findall(r"from '([^']+)'", text):
            assert (path.parent / imported).resolve().is_file()


def test_what_is_vendored_names_its_licence():
    assert (
        "BSD" in (STATIC / "vendor" / "lit-html" / "LICENSE").read_text()
        or "Redistribution" in (STATIC / "vendor" / "lit-html" / "LICENSE").read_text()
    )
    for path in (STATIC / "vendor").rglob("*.js"):
        assert "BSD-3-Clause" in path.read_text(encoding="utf-8")[:400]
