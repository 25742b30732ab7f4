"""``isomix serve``: the studio, a table in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    table: Annotated[Path, typer.Argument(help="A table that `isomix embed` made.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 7317,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on. Others than this machine's own can then reach it by its link."
        ),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="ISOMIX_TOKEN",
            help="Opens the studio in any browser; 16 characters or more. Default: a random one, and a link that works once.",
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Keep no labels, votes or verdicts.")] = False,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="Where the table's model is now, if it is not where it was.")
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root", help="A folder that pictures may be read from, beside the table's own; may be repeated."
        ),
    ] = None,
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
        roots=root or (),
        open_browser=not no_open,
        say=lambda line: log.print(line, markup=False, soft_wrap=True),
    )
