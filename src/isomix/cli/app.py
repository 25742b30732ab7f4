"""The command ``isomix``: one module a verb; results to stdout, progress and log to stderr."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from isomix import __version__
from isomix.cli import options
from isomix.errors import IsomixError, IsomixWarning

__all__ = ["app", "main"]

VERBS = (
    *("embed", "adapt", "export", "search", "serve", "fit", "classify"),
    *("convert", "duplicates", "table", "inspect", "spectrum", "doctor", "demo", "eval"),
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Better image-to-image search and few-shot classification from the CLIP model you already have.",
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"isomix {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, options.version_option(_show_version)] = False,
    debug: options.Debug = False,
) -> None:
    if debug:
        os.environ["ISOMIX_DEBUG"] = "1"


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every error as one line on stderr and its exit code; ``--debug`` shows the traceback."""

    @functools.wraps(command)
    def run(*arguments: Any, **given: Any) -> None:
        from isomix.cli.common import ExitCode, log

        try:
            command(*arguments, **given)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BrokenPipeError:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            log.print("interrupted", style="yellow")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except Exception as error:
            if os.environ.get("ISOMIX_DEBUG"):
                raise
            log.print(f"error: {_explain(error)}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(ExitCode.FAILED) from None

    return run


def _explain(error: Exception) -> str:
    if isinstance(error, IsomixError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return (
        f"{type(error).__name__}: {error}. This is a bug in isomix, or in something it uses; "
        "`isomix --debug ...` shows where it happened."
    )


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    from isomix.cli.common import log

    if issubclass(category, IsomixWarning):
        log.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)


def _register() -> None:
    for verb in VERBS:
        module = importlib.import_module(f"isomix.cli.{verb}")
        verbs = getattr(module, "app", None)
        if verbs is None:
            app.command(verb)(_guarded(module.command))
            continue
        for inner in verbs.registered_commands:  # a verb with verbs of its own
            inner.callback = _guarded(inner.callback)
        app.add_typer(verbs, name=verb)


def main() -> None:
    """Run the command line; the entry point of the ``isomix`` script."""
    from isomix.cli.common import open_streams

    open_streams()
    if not app.registered_commands:
        _register()
    arguments = sys.argv[1:]
    if "--debug" in arguments:  # wherever it stands
        arguments.remove("--debug")
        arguments.insert(0, "--debug")
    with warnings.catch_warnings():
        warnings.simplefilter("default", IsomixWarning)  # lines of ours, whatever PYTHONWARNINGS says
        warnings.showwarning = _show_warning
        app(arguments, standalone_mode=True)
