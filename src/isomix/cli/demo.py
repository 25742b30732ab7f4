"""``isomix demo``: the tour."""

from __future__ import annotations

from pathlib import Path

import typer

from isomix.cli import options


def command(
    model: options.Model = "embedded",
    images: options.OwnPictures = None,
    output: options.FolderOutput = Path("demo-output"),
    band: options.Band = "preset",
    template: options.Template = None,
    draws: options.Draws = 20,
    seed: options.Seed = 0,
    device: options.Device = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Embed, search, adapt and classify pictures, and measure all of it on the spot.

    Without --images the pictures that come with isomix are used: icons and emoji in several drawing styles.
    """
    from isomix.cli.common import ExitCode, advise_on_photographs, log, out, print_json
    from isomix.demo import run_tour

    if images is not None and model == "embedded":
        advise_on_photographs(str(images))
    tour = run_tour(
        model,
        images,
        output,
        band=band,
        template=template,
        draws=draws,
        seed=seed,
        overwrite=overwrite,
        offline=offline,
        device=device,
        log=lambda line: log.print(line, style="dim", markup=False),
    )
    if as_json:
        print_json(tour.to_dict())
    else:
        from isomix.demo.report import render

        for part in render(tour):
            out.print(part)
        log.print(f"{tour.seconds:.0f} s", style="dim")
    if tour.unreadable:
        raise typer.Exit(ExitCode.SKIPPED_FILES)
