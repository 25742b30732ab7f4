"""Run one stage of the recipe: ``python -m training <stage>``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from isomix.errors import IsomixError
from training.config import CONFIG, OUTPUT


def _fetch(options: argparse.Namespace) -> None:
    from training.data.corpora import fetch

    fetch(options.config, options.output)


def _render(options: argparse.Namespace) -> None:
    from training.data.render import render_corpora

    render_corpora(options.config, options.output)


def _caption(options: argparse.Namespace) -> None:
    from training.data.captions import caption_corpora

    caption_corpora(options.config, options.output)


def _recognise(options: argparse.Namespace) -> None:
    from training.data.recognise import recognise

    recognise(options.config, options.output, weights=options.weights, to=options.to)


def _split(options: argparse.Namespace) -> None:
    from training.data.splits import make_dataset

    make_dataset(options.config, options.output)


def _teacher(options: argparse.Namespace) -> None:
    from training.model.teacher import make_teacher

    make_teacher(options.config, options.output)


def _train(options: argparse.Namespace) -> None:
    from training.model.train import train

    train(options.config, options.output, name=options.name, seed=options.seed, stop=options.steps)


def _project(options: argparse.Namespace) -> None:
    from training.model.project import project

    project(options.config, options.output, name=options.name, seed=options.seed)


def _export(options: argparse.Namespace) -> None:
    from training.model.export import export

    export(options.config, options.output, name=options.name)


def _add_recognise(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("--weights", type=Path, help="folder of exported weights (default: those that come with isomix)")
    stage.add_argument("--to", type=Path, required=True, help="the list to write")


def _add_run(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("--name", default="run", help="folder of the run below runs/ (default: %(default)s)")


def _add_seed(stage: argparse.ArgumentParser) -> None:
    _add_run(stage)
    stage.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")


def _add_train(stage: argparse.ArgumentParser) -> None:
    _add_seed(stage)
    stage.add_argument("--steps", type=int, help="stop after this many steps in all, with a checkpoint")


def _evaluate(options: argparse.Namespace) -> None:
    from training.report.evaluate import evaluate

    for run in options.runs:
        sys.stdout.write(f"{evaluate(run, options.output, options.config, _say)}\n")


def _report(options: argparse.Namespace) -> None:
    from training.report.page import report

    sys.stdout.write(report(options.runs, options.baseline, options.output, options.page, options.figures))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _add_evaluate(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("runs", nargs="+", metavar="RUN", help="a run of the training, 'packaged', or NAME=FOLDER")


def _add_report(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("runs", nargs="*", metavar="RUN", help="evaluated runs of one model, one a seed")
    stage.add_argument("--baseline", default="packaged", help="the evaluation they have to beat (default: %(default)s)")
    stage.add_argument("--page", type=Path, help="put the tables between the markers of this page")
    stage.add_argument("--figures", type=Path, help="draw the figures of the first run into this folder")


# One function a stage; imports stand inside, so that a stage needs only its own packages.
STAGES: dict[str, tuple[str, Callable[[argparse.Namespace], None]]] = {
    "fetch": ("download and unpack the corpora", _fetch),
    "render": ("draw every picture at the size of the model", _render),
    "caption": ("concept, captions and topic of every picture", _caption),
    "recognise": ("list the emoji concepts that some weights do not know", _recognise),
    "split": ("training and held-out pictures; writes the data set", _split),
    "teacher": ("embed captions and nouns with the text teacher", _teacher),
    "train": ("train the towers, or go on with it", _train),
    "project": ("train new projectors on frozen features", _project),
    "export": ("write the weights that the encoder loads", _export),
    "evaluate": ("measure weights on everything held out", _evaluate),
    "report": ("tables and the gate, from evaluations", _report),
}
# Stages that take more than --config and --output.
ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "recognise": _add_recognise,
    "train": _add_train,
    "project": _add_seed,
    "export": _add_run,
    "evaluate": _add_evaluate,
    "report": _add_report,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage named on the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train the embedded model of isomix.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="stage")
    for name, (about, _) in STAGES.items():
        stage = stages.add_parser(name, help=about, description=about)
        stage.add_argument("--config", type=Path, default=CONFIG, help="settings (default: %(default)s)")
        stage.add_argument("--output", type=Path, default=OUTPUT, help="output folder (default: %(default)s)")
        if name in ARGUMENTS:
            ARGUMENTS[name](stage)
    options = parser.parse_args(arguments)
    try:
        STAGES[options.stage][1](options)
    except IsomixError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the stage again to go on where it stopped\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
