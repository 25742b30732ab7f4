"""``isomix eval``: the papers' protocols on their data sets and on one's own."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix.benchmark.harness import Harness, Result

app = typer.Typer(
    no_args_is_help=True,
    help="Measure methods on published data sets and on your own; every run is a JSON file, and none is made twice.",
)

RETRIEVAL_METHODS = ["plain", "pre-projection", "text-pca", "isoclip"]


Datasets = Annotated[
    list[str],
    typer.Argument(help="Names (see: isomix eval datasets), or folder:PATH, csv:PATH, table:PATH, arrays:PATH.npz."),
]
Protocol: TypeAlias = "Callable[[Harness, str], Iterable[Result]]"


def _shared(
    model: options.ModelOfData = None,
    runs: options.Runs = Path("runs"),
    root: options.DataRoot = Path(),
    cache: options.Cache = None,
    batch_size: options.BatchSize = 32,
    skip_unreadable: options.SkipUnreadable = False,
    device: options.Device = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """The options of every verb that measures; its signature is all there is to it."""


def _verb(name: str, *settings: str) -> Callable[[Callable[..., Protocol]], Callable[..., Protocol]]:
    """Make a verb of a function that chooses a protocol: it gets the shared options, and runs it on every data set.

    Parameters
    ----------
    name : str
        Of the verb.
    *settings : str
        Those of the function's own options that the harness has under the same names.
    """

    def decorate(choose: Callable[..., Protocol]) -> Callable[..., Protocol]:
        own, shared = (inspect.signature(each, eval_str=True).parameters for each in (choose, _shared))

        def run(datasets: list[str], runs: Path, overwrite: bool, as_json: bool, **given: Any) -> None:
            protocol = choose(**{option: given[option] for option in own})
            mine = [option for option in given if option in shared or option in settings]
            chosen = {option: given[option] for option in mine if given[option] is not None}
            with _harness(runs, overwrite, chosen) as harness:
                _show((result for dataset in datasets for result in protocol(harness, dataset)), as_json)

        named = inspect.Parameter("datasets", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Datasets)
        parameters = [named, *own.values(), *shared.values()]
        # What typer reads. It has no other way to give several verbs the same options.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, help=choose.__doc__)(run)
        return choose

    return decorate


@_verb("retrieval", "text_bank", "latency")
def retrieval(
    method: options.Methods = None,
    text_bank: options.TextBank = None,
    latency: options.Latency = 0,
) -> Protocol:
    """Image-to-image retrieval; text-to-text on captions."""
    return lambda harness, dataset: harness.retrieval(dataset, method or RETRIEVAL_METHODS)


@_verb("ncm", "text_bank")
def ncm(method: options.Methods = None, text_bank: options.TextBank = None) -> Protocol:
    """Nearest class mean of the whole train split."""
    return lambda harness, dataset: harness.ncm(dataset, method or RETRIEVAL_METHODS)


@_verb("fewshot", "templates")
def fewshot(
    method: options.Classifiers = None,
    shots: options.Shots = None,
    seed: options.Seeds = None,
    tier: options.Tiers = None,
    templates: options.Templates = None,
) -> Protocol:
    """Few-shot classification on CoOp's draws of the shots."""
    from isomix.fewshot import CLASSIFIERS

    methods = method or [name for name in CLASSIFIERS if name != "zero-shot"]
    asked: dict[str, Any] = {
        "shots": shots or [1, 2, 4, 8, 16],
        "seeds": [1, 2, 3] if seed is None else seed,
        "tiers": [t.value for t in tier or [options.Tier.LEAVE_ONE_OUT]],
    }
    return lambda harness, dataset: harness.few_shot(dataset, methods, **asked)


@_verb("zeroshot", "templates")
def zeroshot(templates: options.Templates = None) -> Protocol:
    """Classification by class names alone."""
    return lambda harness, dataset: harness.zero_shot(dataset)


@app.command("datasets")
def datasets(
    root: options.DataRoot = Path(),
    as_json: options.AsJson = False,
) -> None:
    """List the published data sets, and what of them lies below --root."""
    from rich.table import Table

    from isomix.benchmark.datasets import DATASETS
    from isomix.cli.common import out, print_json, visible
    from isomix.errors import IsomixError

    found: list[dict[str, Any]] = []
    for name, dataset in DATASETS.items():
        status, problem = "ready", ""
        if not (root / dataset.folder).is_dir():
            status = "not here"
        else:
            try:
                dataset.load(root)
            except IsomixError as error:
                status, problem = "incomplete", str(error)
        about = {"folder": dataset.folder, "layout": list(dataset.layout), "expected": dict(dataset.expected)}
        found.append({"name": name, "status": status, "problem": problem, "tasks": list(dataset.tasks), **about})
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("data set", "status", f"belongs into {root}/"):
        table.add_column(heading, overflow="fold")
    for row in found:
        where = row["problem"] or f"{row['folder']}/: {', '.join(row['layout'])}"
        table.add_row(row["name"], row["status"], visible(where).replace("[", "\\["))
    out.print(table)
    out.print("Your own: folder:PATH, csv:PATH, table:PATH, arrays:PATH.npz", markup=False)


@app.command("tables")
def tables(
    runs: Annotated[Path, typer.Argument(help="Folder of run files.")] = Path("runs"),
    against: options.AgainstFigures = None,
    form: options.TablesAs = options.TableFormat.MARKDOWN,
    figures: options.Figures = None,
) -> None:
    """Tables of all runs of a folder, every method side by side."""
    from isomix.benchmark.rendering import render
    from isomix.benchmark.runs import read_runs
    from isomix.benchmark.tables import lay_out
    from isomix.cli.common import log

    found = read_runs(runs)
    sys.stdout.write(render(lay_out(found, against=against), form))
    if figures is not None:
        from isomix.benchmark.figures import draw

        for path in draw(found, figures):
            log.print(f"written {path}", markup=False, soft_wrap=True)


@contextmanager
def _harness(runs: Path, overwrite: bool, chosen: dict[str, Any]) -> Iterator[Harness]:
    from isomix.benchmark.harness import Harness
    from isomix.benchmark.runs import RunFolder
    from isomix.cli.progress import progress

    with progress("pictures") as update:
        folder = RunFolder(runs, command=["isomix", *sys.argv[1:]], overwrite=overwrite)
        yield Harness(folder, progress=update, **chosen)


def _show(results: Iterable[Result], as_json: bool) -> None:
    """Print every run when it is there; exit code 3 when some could not be made."""
    from isomix.benchmark.methods import uses_gallery
    from isomix.benchmark.runs import HEADLINE
    from isomix.benchmark.tables import dataset_name
    from isomix.cli.common import ExitCode, log, out, print_json, weights_line

    records, problems, made = [], 0, 0
    for result in results:
        what = result.what
        name = " ".join(
            [dataset_name(what["dataset"]), what["task"].replace("_", " "), what["method"]]
            + ([f"{what['shots']} shots, seed {what['seed']}, weights by {what['tier']}"] if "shots" in what else [])
        )
        if result.record is None:
            problems += 1
            log.print(f"skipped {name}: {result.problem}", style="yellow", markup=False, soft_wrap=True)
            continue
        made += 1
        if as_json:
            records.append(result.record)
            continue
        figure, heading = HEADLINE[what["task"]]
        metrics = result.record["metrics"]
        low, high = metrics.get("intervals", {}).get(figure, (None, None))
        interval = "" if low is None else f"  ({100 * low:.1f} to {100 * high:.1f})"
        there = "" if result.measured else "  measured before"
        out.print(f"{name}  {heading} {100 * metrics[figure]:.1f}{interval}{there}", markup=False, soft_wrap=True)
        details = result.record["details"]
        if "retrieval" in what["task"] and uses_gallery(what["method"]):
            out.print("  uses the whole gallery, without labels", markup=False, soft_wrap=True)
        if "pool" in details:
            out.print(
                f"  uses unlabelled pictures, those of the test split: {details['pool']}", markup=False, soft_wrap=True
            )
        if details.get("weights"):
            line = weights_line(details["weights_from"], details["weights"])
            out.print(f"  {line}", markup=False, soft_wrap=True)
    if as_json:
        print_json(records)
    if problems:
        raise typer.Exit(ExitCode.SKIPPED_FILES if made else ExitCode.FAILED)
