"""Print the modules of isomix that a journey passes, in the order in which they are first entered.

Run: ``python tools/journeys.py [--src FOLDER] [--json]``. ``--src`` is the ``src`` of another checkout, to compare with.

Three journeys, with the embedded model and bundled pictures: stored vectors through ``isomix adapt``, a folder through
``isomix embed``, shots through ``ProjectAndMix.fit``. Each goes once before it is traced, so that what modules do when
they are imported is left out. A module counts when one of its functions runs, in any thread.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

SRC = Path(__file__).resolve().parents[1] / "src"


def adapt(folder: Path) -> None:
    """Stored vectors, an ``.npy`` file, adapted into another one."""
    import numpy as np

    source = folder / "vectors.npy"
    if not source.exists():
        rows = np.random.default_rng(0).standard_normal((200, 192)).astype(np.float32)
        np.save(source, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    command("adapt", source, "--model", "embedded", "-o", folder / f"adapted-{len(list(folder.iterdir()))}.npy")


def embed(folder: Path) -> None:
    """A folder of pictures, encoded into a table."""
    import isomix

    pictures = Path(isomix.__file__).parent / "demo" / "pictures" / "icons" / "bell"
    command("embed", pictures, "-o", folder / f"table-{len(list(folder.iterdir()))}.lance", "--model", "embedded")


def fit(folder: Path) -> None:
    """Two shots a class and the class texts, arrays, to a fitted classifier."""
    import numpy as np

    import isomix

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 32))
    rows = np.repeat(centres, 2, axis=0) + 0.3 * rng.standard_normal((10, 32))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    text = {label: centre / np.linalg.norm(centre) for label, centre in enumerate(centres)}
    isomix.ProjectAndMix(logit_scale=100.0).fit(unit, np.repeat(np.arange(5), 2), text=text)


JOURNEYS: dict[str, Callable[[Path], None]] = {
    "stored vectors through adapt": adapt,
    "a folder through embed": embed,
    "shots through ProjectAndMix.fit": fit,
}


def command(*arguments: object) -> None:
    """Call the command line in this process."""
    from isomix.cli.app import main

    sys.argv = ["isomix", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"isomix {' '.join(sys.argv[1:])} ended with {stop.code}") from stop


def modules_entered(journey: Callable[[Path], None], folder: Path) -> list[str]:
    """Modules of isomix whose functions run, in the order of their first call."""
    import isomix

    root = Path(isomix.__file__).parent
    names: dict[str, str] = {}
    entered: dict[str, None] = {}

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        # Bodies of modules and classes have no locals of their own; they run on import.
        if event != "call" or not code.co_flags & inspect.CO_OPTIMIZED:
            return
        name = names.get(code.co_filename)
        if name is None:
            path = Path(code.co_filename)
            inside = path.is_relative_to(root) and path.name != "__init__.py"
            name = names[code.co_filename] = ".".join(path.relative_to(root).with_suffix("").parts) if inside else ""
        if name:
            entered.setdefault(name)

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        journey(folder)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return list(entered)


def trace(name: str) -> list[str]:
    """Modules of one journey, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        JOURNEYS[name](Path(folder))
        return modules_entered(JOURNEYS[name], Path(folder))


def trace_elsewhere(name: str, src: Path) -> list[str]:
    """The same in a process of its own, with the isomix of ``src``."""
    environment = os.environ | {"PYTHONPATH": str(src), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, __file__, "--trace", name]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}, {src}: {done.stderr}")
    return list(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the journeys as a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--src", type=Path, default=SRC, help="src of a checkout (default: this one)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trace", choices=list(JOURNEYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trace:
        print(json.dumps(trace(arguments.trace)))
        return
    found = {name: trace_elsewhere(name, arguments.src) for name in JOURNEYS}
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    print("| journey | modules | in the order of their first call |\n|---|---:|---|")
    for name, modules in found.items():
        print(f"| {name} | {len(modules)} | {', '.join(f'`{module}`' for module in modules)} |")


if __name__ == "__main__":
    main()
