"""``isomix classify``: labels and probabilities for pictures."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from isomix.cli import options
from isomix.cli.options import RowFormat


def command(
    model: Annotated[Path, typer.Argument(help="A classifier that `isomix fit` wrote.")],
    images: Annotated[str, typer.Argument(help="A folder, a picture, a list of paths, a CSV file or a table.")],
    output: options.FileOutput = None,
    form: options.RowsAs = options.RowFormat.CSV,
    probabilities: options.Probabilities = False,
    reject_below: options.RejectBelow = None,
    as_json: options.AsJson = False,
    batch_size: options.BatchSize = 32,
    max_megapixels: options.MaxMegapixels = 100.0,
    device: options.Device = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Classify pictures with a classifier made by `isomix fit`; one line a picture, as they are read."""
    from isomix.cli.common import ExitCode, check_output, report_failures
    from isomix.cli.progress import progress as progress_bar
    from isomix.encoders.lazy import LazyEncoder, MadeBy
    from isomix.errors import FileFormatError
    from isomix.fewshot import load_classifier

    check_output(output, overwrite=overwrite)
    classifier = load_classifier(model)
    source = classifier.source_
    if "model" not in source:
        raise FileFormatError(f"{model} does not say which encoder it was fitted with. Make it with `isomix fit`.")
    made_by = MadeBy(f"{model} was", source["model"], encoder=source["fingerprint"])
    encoder = LazyEncoder(source["model"], offline=offline, device=device, made_by=made_by).encoder
    failures: dict[str, str] = {}
    with _opened(output) as stream, progress_bar("pictures") as progress:
        write = _writer(stream, RowFormat.JSONL if as_json else form, classifier.classes_.tolist(), probabilities)
        for path, row in _rows(images, encoder, batch_size, max_megapixels, progress, failures):
            chances = classifier.predict_proba(row[None])[0]
            best = int(chances.argmax())
            rejected = reject_below is not None and chances[best] < reject_below
            write(path, None if rejected else classifier.classes_[best].item(), chances)
    if report_failures(failures):
        raise typer.Exit(ExitCode.SKIPPED_FILES)


def _rows(
    images: str, encoder: Any, batch_size: int, max_megapixels: float, progress: Any, failures: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    from isomix.store import EmbeddingTable
    from isomix.store.labelled import encode_files, list_files

    if images.rstrip("/").endswith(".lance"):
        table = EmbeddingTable.open(images, encoder)
        paths = (row["path"] for row in table.rows(columns=["path"]))
        yield from zip(paths, (row for block in table.iter_embeddings() for row in block), strict=True)
        return
    for file, embedding, reason in encode_files(list_files(images), encoder, batch_size, max_megapixels, progress):
        if embedding is None:
            failures[file.path] = reason
        else:
            yield file.path, embedding


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    from isomix._files import writing

    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def _writer(stream: TextIO, form: RowFormat, classes: list[Any], every: bool) -> Callable[[str, Any, Any], None]:
    if form is RowFormat.JSONL:

        def write_json(path: str, label: Any, chances: Any) -> None:
            line = {"path": path, "label": label, "probability": round(float(chances.max()), 6)}
            if every:
                line["probabilities"] = {str(c): round(float(p), 6) for c, p in zip(classes, chances, strict=True)}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")

        return write_json

    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["path", "label", "probability", *(map(str, classes) if every else ())])

    def write_csv(path: str, label: Any, chances: Any) -> None:
        more = (f"{p:.6f}" for p in chances) if every else ()
        table.writerow([path, "" if label is None else label, f"{chances.max():.6f}", *more])

    return write_csv
