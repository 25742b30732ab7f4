"""Fuzz the studio's OpenAPI file with schemathesis, which is not part of the environment of the developers (``make fuzz-studio``)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import isomix
from isomix.store import embed

TOKEN = "a token for the fuzzer alone"


def main() -> int:
    """Serve the bundled icons from a folder of their own, and throw requests at them."""
    schemathesis, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "120"
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "icons.lance"
        pictures = Path(isomix.__file__).parent / "demo" / "pictures" / "icons"
        embed(pictures, table, isomix.load_encoder("embedded"), labels="folders")
        command = [sys.executable, "-m", "isomix", "serve", str(table), "--port", "0", "--no-open", "--token", TOKEN]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None  # noqa: S101
            link = next(line for line in server.stderr if "/open?" in line).split()[-1]
            address = link.partition("/open")[0]
            try:
                return subprocess.run(
                    [schemathesis, "run", f"{address}/api/openapi.json", "-H", f"Authorization: Bearer {TOKEN}",
                     "--phases", "examples,coverage,fuzzing", "--max-time", seconds, "--request-timeout", "60",
                     "-c", "not_a_server_error,content_type_conformance", "--exclude-path", "/api/reload"],
                    check=False,
                ).returncode  # fmt: skip
            finally:
                server.terminate()


if __name__ == "__main__":
    sys.exit(main())
