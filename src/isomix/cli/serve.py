"""``isomix serve``: the studio, a table in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isomix.cli import options


def command(
    table: Annotated[Path, typer.Argument(help="A table that `isomix embed` made.")],
    port: options.Port = 7317,
    host: options.Host = "127.0.0.1",
    token: options.Token = None,
    read_only: options.ReadOnly = False,
    no_open: options.NoOpen = False,
    model: options.ModelOfTable = None,
    pictures_from: options.PictureRoots = None,
) -> None:
    """Look at a table in the browser: two spaces side by side, the band on the spectrum, classes, duplicates."""
    from isomix._extras import require
    from isomix.cli.common import log

    require("fastapi", "web", "isomix serve")
    require("uvicorn", "web", "isomix serve")
    from isomix.web import serve

    serve(
        table,
        host=host,
        port=port,
        token=token,
        model=model,
        read_only=read_only,
        roots=pictures_from or (),
        open_browser=not no_open,
        say=lambda line: log.print(line, markup=False, soft_wrap=True),
    )
