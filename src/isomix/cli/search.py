"""``isomix search``: the nearest pictures of a table."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from isomix.plotting.sheets import Tile
    from isomix.store.search import Answer, Query


def command(
    table: Annotated[Path, typer.Argument(help="A table that `isomix embed` made.")],
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...",
            help="A picture, a sentence, row:<number>, a row's id or path, or an .npy file of image embeddings of the table's "
            "model. text: or image: in front says what it is; + and - between two queries: cat.jpg + 'in snow' - 'indoors'.",
        ),
    ],
    k: options.Hits = 10,
    space: options.Space = options.SpaceName.AUTO,
    band: options.Band = "preset",
    bank: options.Sentences = None,
    with_self: options.WithSelf = False,
    no_smoothed: options.NoSmoothed = False,
    expand: options.Expand = False,
    where: options.Where = None,
    as_json: options.AsJson = False,
    paths: options.Paths = False,
    null: options.Null = False,
    sheet: options.Sheet = None,
    model: options.ModelOfTable = None,
    max_megapixels: options.MaxMegapixels = 100.0,
    device: options.Device = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Search a table of pictures with pictures or words."""
    from isomix.cli.common import ExitCode, check_output, fail_usage, log, print_json, report_failures
    from isomix.store import EmbeddingTable
    from isomix.store.bank import read_bank
    from isomix.store.search import TableSearch

    if as_json and (paths or null):
        fail_usage("--json and --paths are two formats of the same result. Choose one.")
    check_output(sheet, overwrite=overwrite)
    searcher = TableSearch(
        EmbeddingTable.open(table),
        model=model,
        band=band,
        sentences=None if bank is None else read_bank(bank),
        offline=offline,
        device=device,
    )
    asked, failures = searcher.read(queries, max_megapixels=max_megapixels)
    answers = searcher.search(
        asked, k, space=space.value, with_self=with_self, smooth=not no_smoothed, expand=expand, where=where
    )
    if as_json:
        print_json({"table": os.fspath(table), "results": [_as_json(answer) for answer in answers], "failed": failures})
    elif paths or null:
        _print_paths(answers, "\0" if null else "\n")
    else:
        _print_tables(answers)
    if sheet is not None and answers:
        _draw(answers, searcher.table.metadata.model, sheet)
        log.print(f"contact sheet written to {sheet}", markup=False, soft_wrap=True)
    if report_failures(failures):
        raise typer.Exit(ExitCode.SKIPPED_FILES if answers else ExitCode.FAILED)


def _as_json(answer: Answer) -> dict[str, Any]:
    shown = ("id", "path", "label", "caption", "split", "width", "height")
    return {
        "query": answer.query.name,
        "kind": answer.query.kind,
        "space": answer.space,
        "space_note": answer.note,
        "hits": [
            {
                "rank": rank,
                "score": round(hit.score, 6),
                "row": hit.number,
                **{name: hit.row.get(name) for name in shown},
                "file": os.fspath(hit.file),
            }
            for rank, hit in enumerate(answer.hits, 1)
        ],
    }


def _space_line(answer: Answer) -> str:
    return f"{answer.space} space" + (f" ({answer.note})" if answer.note else "")


def _print_paths(answers: list[Answer], end: str) -> None:
    from isomix.cli.common import log, visible

    shown = visible if sys.stdout.isatty() else str  # a pipe gets the path as it is
    for answer in answers:
        log.print(f"{visible(answer.query.name)}: {_space_line(answer)}", markup=False, soft_wrap=True)
        for hit in answer.hits:
            sys.stdout.write(shown(os.fspath(hit.file)) + end)


def _print_tables(answers: list[Answer]) -> None:
    from rich.text import Text

    from isomix.cli.common import out, visible

    for number, answer in enumerate(answers):
        if number:
            out.print()
        out.print(Text.assemble((visible(answer.query.name), "bold"), f"  {answer.query.kind}"))
        out.print(Text(_space_line(answer), style="dim"))
        out.print(_table(answer, out.width))


def _table(answer: Answer, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from isomix.cli.common import visible

    labels = [visible(hit.row["label"] or "") for hit in answer.hits]
    label_width = min(20, max(map(len, labels), default=0))
    row_width = max((len(str(hit.number)) for hit in answer.hits), default=0)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("cosine", justify="right")
    table.add_column("picture", no_wrap=True)
    if label_width:
        table.add_column("label", no_wrap=True, max_width=label_width)
    table.add_column("row", justify="right", style="dim")
    room = max(20, width - (24 if label_width else 20) - max(5, label_width) * bool(label_width) - max(3, row_width))
    for rank, (hit, label) in enumerate(zip(answer.hits, labels, strict=True), 1):
        path = visible(hit.row["path"])
        shown = path if len(path) <= room else "…" + path[-(room - 1) :]
        cells = [Text(label)] if label_width else []
        table.add_row(str(rank), f"{hit.score:.3f}", Text(shown), *cells, str(hit.number))
    return table


def _draw(answers: list[Answer], model: str, path: Path) -> None:
    from isomix._files import writing
    from isomix.errors import InputError, IsomixError
    from isomix.plotting.sheets import Row, Tile, contact_sheet

    rows = []
    for answer in answers:
        own = answer.query.row.get("label")
        tiles = []
        for hit in answer.hits:
            label = hit.row["label"]
            mark: Literal["right", "wrong"] | None = None
            if own and label:
                mark = "right" if label == own else "wrong"
            tiles.append(Tile(hit.file, f"{hit.file.name}\n{hit.score:.3f}" + (f"  {label}" if label else ""), mark))
        rows.append(Row(_query_tile(answer.query), tiles, _space_line(answer)))
    image = contact_sheet(rows, footer=f"model: {model}. Below each picture: cosine with the query.")
    try:
        with writing(path) as temporary:
            image.save(temporary)
    except IsomixError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be written ({error}). Name a .png or .jpg file in a folder that exists."
        ) from error


def _query_tile(query: Query) -> Tile:
    from isomix.plotting.sheets import Tile

    if query.file is not None:
        return Tile(query.file, f"{query.file.name}\nquery")
    from PIL import Image, ImageDraw, ImageFont

    side = 224
    card = Image.new("RGB", (side, side), "#f6f8fa")
    words = "\n".join(textwrap.wrap(query.name, 16, max_lines=7, placeholder=" …"))
    font = ImageFont.load_default(size=24)
    ImageDraw.Draw(card).multiline_text((side / 2, side / 2), words, "#1f2328", font, anchor="mm", align="center")
    return Tile(card, f"{query.kind}\nquery")
