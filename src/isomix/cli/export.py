"""``isomix export``: a space in other systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix._arrays import Floats

app = typer.Typer(no_args_is_help=True, help="Write a space in the form that another system runs.")


@app.callback()
def _formats() -> None:
    """One command a form, though there is only one yet."""


@app.command("sql")
def sql(
    table: options.DbTable = None,
    column: options.NamedVectors = None,
    key: options.NamedKey = "id",
    schema: options.OwnSchema = "isomix",
    model: options.ModelNamed = None,
    space: options.SavedSpace = None,
    bank: options.Sentences = None,
    band: options.Band = "preset",
    images: options.ImageSample = None,
    modality: options.ForModality = options.Modality.IMAGE,
    text_only: options.TextOnly = False,
    halfvec: options.HalfVec = False,
    no_index: options.NoIndex = False,
    no_fill: options.NoFill = False,
    output: options.FileOutput = None,
    undo: options.UndoOutput = None,
    overwrite: options.Overwrite = False,
    offline: options.Offline = False,
) -> None:
    """Adapt a column of vectors inside PostgreSQL: a script for psql.

    It makes a side table that a trigger keeps in step with the column; the column itself stays as it is.
    """
    from isomix._files import writing
    from isomix.cli.common import check_output, fail_usage, log, out
    from isomix.cli.spaces import fit_space, space_of_bank
    from isomix.exports.sql import sql_scripts
    from isomix.exports.sql_names import table_name
    from isomix.store import open_embeddings

    if table is None or column is None:
        fail_usage("name the table and its column of vectors with --table and --column.")
    if (model is None) == (space is None):
        fail_usage("say whose embeddings these are with --model, or give a --space; not both.")
    if bank is not None and (space, band, text_only, str(modality)) != (None, "preset", False, "image"):
        fail_usage("--bank is for pictures, and says which space: leave out --space, --band, --modality, --text-only.")
    for path in (output, undo):
        check_output(path, overwrite=overwrite)

    def rows() -> Floats:
        if images is None:
            fail_usage(
                "an automatic band is chosen by stored embeddings: give some with --images, or name a band (--band 150/50)."
            )
        return open_embeddings(images, modality=str(modality)).sample()

    if bank is not None:
        fitted = space_of_bank(None, model, bank, offline)
    else:
        fitted = fit_space(rows, str(model), space, band, modality, text_only, True, offline)
    scripts = sql_scripts(
        fitted.affine_map(),
        fitted.describe(),
        table_name(table),
        column,
        key=key,
        schema=schema,
        halfvec=halfvec,
        index=not no_index,
        fill=not no_fill,
    )
    for path, text in ((output, scripts.install), (undo, scripts.undo)):
        if path is not None:
            with writing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    console = out if output is not None else log
    if output is None:
        typer.echo(scripts.install, nl=False)
    else:
        out.print(
            f"{output}: run it with  psql -v ON_ERROR_STOP=1 -f {output} postgresql://...", markup=False, soft_wrap=True
        )
    console.print(f"to undo it{f', {undo}' if undo else ''}:", markup=False, soft_wrap=True)
    console.print(scripts.undo.rstrip(), markup=False, soft_wrap=True)
