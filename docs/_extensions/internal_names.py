"""What the repository says and the site has no page for.

A reference to what is not API, such as the module that holds a formula, is shown as code, if the name exists; a name that does
not exist stays a broken reference, and the build fails. A link to a file beside ``docs`` becomes its path, if the file exists.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.autodoc.mock import mock
from sphinx.util.nodes import make_refnode


def _find(name: str) -> Any:
    """The module, class, function or attribute of that full name; None if there is none."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            with mock(["torch"]):
                found: Any = importlib.import_module(".".join(parts[:split]))
        except ImportError:
            continue
        for attribute in parts[split:]:
            annotated = attribute in getattr(found, "__annotations__", {})
            found = getattr(found, attribute, attribute if annotated else None)
        return found
    return None


def _link(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement) -> nodes.Node | None:
    if node.get("refdomain") != "py":
        return None
    target, module, owner = str(node.get("reftarget")), node.get("py:module"), node.get("py:class")
    scopes = ["isomix.errors", module, f"{module}.{owner}" if owner else None]
    if module and owner:  # beside the class, in the module that defines it or in a class that it comes from
        classes = inspect.getmro(_find(f"{module}.{owner}") or object)
        scopes += [cls.__module__ for cls in classes]
    elif module and (documented := env.current_document.docname.rpartition("/")[2]).startswith("isomix."):
        scopes += [documented, getattr(_find(documented), "__module__", None)]  # a function may have its module's name
    names = [target, *(f"{scope}.{target}" for scope in scopes if scope)]
    for name in names:
        if name.startswith("isomix.") and (found := _find(name)) is not None:
            return _documented(app, env, node, content, name, found)
    return None


def _documented(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement, name: str, found: Any
) -> nodes.Node:
    """A link, where the object has a page under another of its names (isomix.IsoCLIP is isomix.spaces.IsoCLIP)."""
    domain = env.domains.python_domain
    last = name.rpartition(".")[2]
    for full, entry in domain.objects.items():
        if full.rpartition(".")[2] == last and _find(full) is found and not inspect.ismodule(found):
            builder: Any = app.builder
            return make_refnode(builder, node["refdoc"], entry.docname, entry.node_id, content, full)
    return content


LINK_OUT = re.compile(r"\[([^]]+)\]\(\.\./((?:training|src|studies|benches|tools|tests)/[^)#]*)\)")


def _unlink(app: Sphinx, docname: str, source: list[str]) -> None:
    def path(link: re.Match[str]) -> str:
        exists = (Path(app.srcdir).parent / link[2]).exists()
        return f"{link[1]} (`{link[2]}`)" if exists else link[0]

    source[0] = LINK_OUT.sub(path, source[0])


SHAPE = re.compile(r"(?<![`\w])(\w+_)(?=[,) ])")


def _no_targets(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """``n_components_`` in a shape ends in an underscore, and is no link."""
    lines[:] = [SHAPE.sub(lambda name: name[1][:-1] + r"\_", line) if "shape" in line else line for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handlers."""
    app.connect("missing-reference", _link)
    app.connect("source-read", _unlink)
    app.connect("autodoc-process-docstring", _no_targets, priority=900)  # after numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}
