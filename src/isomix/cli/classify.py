"""``isomix classify``: labels and probabilities for pictures."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from isomix.cli import options
from isomix.cli.options import RowFormat


def command(
    model: Annotated[Path, typer.Argument(help="A classifier that `isomix fit` wrote.")],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES...", help="Folders, pictures, lists of paths, CSV files or tables."),
    ],
    output: options.FileOutput = None,
    form: options.RowsAs = options.RowFormat.CSV,
    probabilities: options.Probabilities = False,
    reject_below: options.RejectBelow = None,
    transductive: options.Transductive = False,
    as_json: options.AsJson = False,
    batch_size: options.BatchSize = 32,
    max_megapixels: options.MaxMegapixels = 100.0,
    device: options.Device = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Classify pictures with a classifier made by `isomix fit`; one line a picture, as they are read.

    Paths are those of the folder, list or table; with several of them they are absolute. CSV holds paths and labels as
    they are, also where they begin with = + - or @: do not open it in a spreadsheet that takes those for formulas.
    """
    from isomix.cli.common import ExitCode, check_output, report_failures
    from isomix.cli.progress import progress as progress_bar
    from isomix.encoders.lazy import LazyEncoder, MadeBy
    from isomix.errors import FileFormatError
    from isomix.fewshot import load_classifier

    check_output(output, overwrite=overwrite)
    classifier = load_classifier(model)
    if transductive:
        classifier.check_takes_pool()
    source = classifier.source_
    if "model" not in source:
        raise FileFormatError(f"{model} does not say which encoder it was fitted with. Make it with `isomix fit`.")
    made_by = MadeBy(f"{model} was", source["model"], encoder=source["fingerprint"])
    encoder = LazyEncoder(source["model"], offline=offline, device=device, made_by=made_by).encoder
    failures: dict[str, str] = {}
    with _opened(output) as stream, progress_bar("pictures") as progress:
        rows = _rows(images, encoder, batch_size, max_megapixels, progress, failures)
        write = _writer(stream, RowFormat.JSONL if as_json else form, classifier.classes_.tolist(), probabilities)
        for path, row in _with_pool(rows, classifier) if transductive else rows:
            chances = classifier.predict_proba(row[None])[0]
            best = int(chances.argmax())
            rejected = reject_below is not None and chances[best] < reject_below
            write(path, None if rejected else classifier.classes_[best].item(), chances)
    if report_failures(failures):
        raise typer.Exit(ExitCode.SKIPPED_FILES)


def _with_pool(rows: Iterator[tuple[str, Any]], classifier: Any) -> Iterator[tuple[str, Any]]:
    """The same rows, after the classifier has learnt from all of them."""
    import numpy as np

    from isomix.cli.common import log

    read = list(rows)
    why = "no picture could be read"
    if read:
        why = classifier.use_pool(np.stack([row for _, row in read])).pool_.explanation()
    log.print(f"--transductive: {why}", markup=False, soft_wrap=True)
    return iter(read)


def _rows(
    images: list[str], encoder: Any, batch_size: int, max_megapixels: float, progress: Any, failures: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """Path and embedding of every picture; sources that are not there are told before anything is written."""
    from isomix.store import EmbeddingTable
    from isomix.store.labelled import encode_files
    from isomix.store.scan import scan

    several = len(images) > 1  # then only the whole path says which file it is
    tables = [source for source in images if source.rstrip("/").endswith(".lance")]
    opened = [EmbeddingTable.open(source, encoder) for source in tables]
    files = [file for source in images if source not in tables for file in scan(source).files]

    def rows() -> Iterator[tuple[str, Any]]:
        for table in opened:
            listed = (row["path"] for row in table.rows(columns=["path"]))
            paths = (os.fspath(table.root / path) if several else path for path in listed)
            yield from zip(paths, (row for block in table.iter_embeddings() for row in block), strict=True)
        for file, embedding, reason in encode_files(files, encoder, batch_size, max_megapixels, progress):
            path = os.fspath(file.location) if several else file.path
            if embedding is None:
                failures[path] = reason
            else:
                yield path, embedding

    return rows()


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    from isomix._files import writing

    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def _writer(stream: TextIO, form: RowFormat, classes: list[Any], every: bool) -> Callable[[str, Any, Any], None]:
    from isomix.cli.common import to_json, visible

    if form is RowFormat.JSONL:

        def write_json(path: str, label: Any, chances: Any) -> None:
            line = {"path": path, "label": label, "probability": round(float(chances.max()), 6)}
            if every:
                line["probabilities"] = {str(c): round(float(p), 6) for c, p in zip(classes, chances, strict=True)}
            stream.write(to_json(line) + "\n")

        return write_json

    plain = csv.writer(stream, lineterminator="\n")
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)  # the other leaves a carriage return bare
    shown = visible if stream.isatty() else str  # a file gets paths and labels as they are

    def write_row(*cells: Any) -> None:
        texts = [shown(str(cell)) for cell in cells]
        (quoted if any("\r" in text for text in texts) else plain).writerow(texts)

    write_row("path", "label", "probability", *(classes if every else ()))

    def write_csv(path: str, label: Any, chances: Any) -> None:
        more = (f"{p:.6f}" for p in chances) if every else ()
        write_row(path, "" if label is None else label, f"{chances.max():.6f}", *more)

    return write_csv
