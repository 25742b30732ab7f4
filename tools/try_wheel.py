"""Build the wheel and the sdist, and try each in a bare environment, with the newest and the lowest dependencies.

``python tools/try_wheel.py [PYTHON ...]``, from the root of a checkout; other interpreters than the one that runs it by name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 15 * 2**20


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a program without what this environment would lend it; stop if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([str(part) for part in command], check=True, cwd=cwd, env=environment)


def environment(python: str, folder: Path) -> Path:
    """Make a bare environment; its interpreter."""
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def main() -> None:
    """Build, install, run; the exit code is that of the first step that fails."""
    with tempfile.TemporaryDirectory(prefix="isomix-wheel-") as work:
        folder = Path(work)
        builder = environment(sys.executable, folder / "build")
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(builder, *pip, "build")
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        run(builder, "-m", "build", "--outdir", ROOT / "dist", ROOT)
        (wheel,), (sdist,) = (list((ROOT / "dist").glob(ending)) for ending in ("*.whl", "*.tar.gz"))
        if wheel.stat().st_size > LARGEST:
            sys.exit(f"test-wheel: {wheel.name} has {wheel.stat().st_size:,} bytes, more than {LARGEST:,}.")
        print(
            f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB; {sdist.name}: {sdist.stat().st_size / 2**20:.1f} MiB"
        )
        tries = [
            ("wheel, newest", wheel, []),
            ("wheel, lowest", wheel, ["--constraint", ROOT / "constraints-lowest.txt"]),
        ]
        tries.append(("sdist, newest", sdist, []))
        for number, python in enumerate(sys.argv[1:] or [sys.executable]):
            for name, package, constraints in tries:
                bare = environment(python, folder / f"bare-{number}-{name.replace(', ', '-')}")
                run(bare, *pip, *constraints, package)
                print(f"{name}: ", end="", flush=True)
                run(bare, "-I", ROOT / "tools" / "wheel_example.py", work, cwd=folder)


if __name__ == "__main__":
    main()
