"""The embedding run: from a source of pictures to a table, resumable and incremental."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomix._arrays import check_integer
from isomix.errors import ImageError, InputError
from isomix.store.journal import Journal
from isomix.store.lance_file import LanceFile, check_table_path
from isomix.store.ledger import Failure
from isomix.store.plan import EmbedReport, Plan, content_hash, make_plan
from isomix.store.scan import Scan, SourceFile, scan_several
from isomix.store.schema import ANNOTATIONS, TableMetadata, relative_root
from isomix.store.table import EmbeddingTable, check_is_plain
from isomix.store.thumbnails import Thumbnails, make_thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

    from isomix.encoders.base import Encoder
    from isomix.encoders.batching import Batch

__all__ = ["embed"]

CHUNK_BATCHES = 8
"""Whole batches a commit: what a killed run has to do again at most."""

Progress = Callable[[int, int, int], None]


def embed(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    table_path: str | os.PathLike[str],
    encoder: Encoder,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    max_megapixels: float = 100.0,
    labels: str | None = None,
    root: str | os.PathLike[str] | None = None,
    keep_features: bool = False,
    keep_vanished: bool = False,
    retry: bool = False,
    overwrite: bool = False,
    thumbnails: bool = True,
    progress: Progress | None = None,
) -> EmbedReport:
    """Encode the pictures of a source into a table, or bring the table up to date with its source.

    A run that was killed goes on where it stopped when it is started again, and gives the same rows in the same order
    with the same bytes. On a table that exists, only new and changed files are encoded, a moved file keeps its row under
    its new path, rows of files that the source no longer has are removed, and unreadable files are tried again only after
    they have changed.

    Parameters
    ----------
    source : path-like or sequence of path-like
        Folder, picture, list of paths, CSV, or ``"-"``; see :func:`isomix.store.scan.scan`, also for ``labels`` and
        ``root``. Of several, the table's root is the folder that they have in common.
    table_path : path-like
        Ends in ``.lance``.
    encoder : Encoder
    batch_size : int
    workers : int, optional
        Decoding threads.
    max_megapixels : float
        Larger pictures go to the ledger without being decoded.
    keep_features : bool
        Keep pre-projection features too. Decided when the table is made.
    keep_vanished : bool
        Keep the rows of files that the source no longer has.
    retry : bool
        Try the files on the ledger again, changed or not.
    overwrite : bool
        Start the table anew, whatever is there.
    thumbnails : bool
        Keep a small copy of every picture beside the table, for the studio (:mod:`isomix.store.thumbnails`).
    progress : callable, optional
        Called with (done, total, failed) after every batch.

    Returns
    -------
    EmbedReport

    Raises
    ------
    InputError
        A source that cannot be used, or one that has nothing in common with the table.
    FingerprintMismatchError
        The table was made with another model.
    TableError
        The table cannot be written, or another process is writing it.
    """
    started = time.monotonic()
    batch_size = check_integer(batch_size, "batch_size", minimum=1)
    path = check_table_path(table_path)
    with Journal(path) as journal:
        # A wrong model is said before a long listing of files.
        goes_on = LanceFile(path).exists() and not overwrite
        table = EmbeddingTable.open(path, encoder) if goes_on else None
        sources = [source] if isinstance(source, str | os.PathLike) else source
        found = scan_several(sources, labels=labels, root=root)
        report = EmbedReport(
            os.fspath(path), ignored=found.ignored, duplicates=found.duplicates, closed_folders=found.closed_folders
        )
        if table is None:
            table = EmbeddingTable.create(
                path, _metadata(encoder, found.root, path, keep_features), overwrite=overwrite
            )
        else:
            _check_goes_on(table, found, keep_features)
        journal.recover(table)
        plan = make_plan(table, found, report, keep_vanished, retry)
        _apply(table, plan, report, keep_vanished)
        small = Thumbnails(path)
        if overwrite:
            small.drop()
        kept = small if thumbnails else None
        _encode(table, plan, journal, encoder, report, batch_size, workers, max_megapixels, progress, kept)
        table.check_still_there()
        table.tidy()
        if report.changed or report.removed:
            small.keep_only(table.column("content_hash"))
        report.thumbnail_bytes = small.bytes
        report.rows = table.count
        report.seconds = time.monotonic() - started
    return report


def _metadata(encoder: Encoder, root: Path, path: Path, keep_features: bool) -> TableMetadata:
    from isomix import __version__

    return TableMetadata(
        model=encoder.spec,
        fingerprint=encoder.fingerprint,
        projectors=encoder.projectors.fingerprint,
        preprocessing=encoder.preprocessing,
        embedding_dim=encoder.embedding_dim,
        feature_dim=encoder.image_feature_dim if keep_features else None,
        root=relative_root(root, path),
        isomix_version=__version__,
    )


def _check_goes_on(table: EmbeddingTable, found: Scan, keep_features: bool) -> None:
    check_is_plain(table)
    if table.root != found.root:
        raise InputError(
            f"{table.path} was made from {table.root}, and this source starts at {found.root}: every row would be "
            "replaced. "
            "Use another table, or allow this one to be overwritten."
        )
    if keep_features and table.metadata.feature_dim is None:
        raise InputError(
            f"{table.path} was made without pre-projection features. Use another table, or allow this one to be "
            "overwritten."
        )


def _apply(table: EmbeddingTable, plan: Plan, report: EmbedReport, keep_vanished: bool) -> None:
    table.ledger.remove(plan.healed)
    if keep_vanished:
        report.vanished_kept = len(plan.vanished)
    elif plan.vanished:
        before = list(table.derived)
        table.delete(plan.vanished)
        report.removed, report.removed_present = len(plan.vanished), len(plan.present)
        report.dropped_columns = [name for name in before if name not in table.derived]
    if plan.update:
        table.update(plan.update)
        report.touched, report.moved = len(plan.update) - len(plan.moved), len(plan.moved)
    if plan.encode:
        report.dropped_columns += table.drop_derived()


def _encode(
    table: EmbeddingTable,
    plan: Plan,
    journal: Journal,
    encoder: Encoder,
    report: EmbedReport,
    batch_size: int,
    workers: int | None,
    max_megapixels: float,
    progress: Progress | None,
    thumbnails: Thumbnails | None,
) -> None:
    from isomix.encoders.batching import iter_encoded

    total = len(plan.encode)
    hashes: dict[int, str] = {}
    small: dict[int, bytes] | None = None if thumbnails is None else {}
    loaders = (partial(_load, i, file, hashes, small, max_megapixels) for i, file in enumerate(plan.encode))
    done = failed = 0
    waiting: list[Batch] = []
    if progress is not None:
        progress(0, total, 0)
    for batch in iter_encoded(encoder, loaders, batch_size=batch_size, workers=workers):
        waiting.append(batch)
        done += len(batch)
        failed += len(batch.errors)
        if len(waiting) == CHUNK_BATCHES or done == total:
            if thumbnails is not None and small is not None:
                thumbnails.put({hashes[i]: small.pop(i) for i in list(small) if i in hashes and i < done})
            _commit(table, plan, journal, waiting, hashes, report)
            waiting = []
        if progress is not None:
            progress(done, total, failed)


def _load(
    index: int, file: SourceFile, hashes: dict[int, str], small: dict[int, bytes] | None, max_megapixels: float
) -> Image:
    from isomix.encoders.images import read_file, read_image

    if file.problem:
        raise ImageError(file.problem)
    content = read_file(file.location, max_megapixels=max_megapixels)
    hashes[index] = content_hash(content)
    image = read_image(content, max_megapixels=max_megapixels)
    if small is not None:
        small[index] = make_thumbnail(image)
    return image


def _commit(
    table: EmbeddingTable,
    plan: Plan,
    journal: Journal,
    batches: list[Batch],
    hashes: dict[int, str],
    report: EmbedReport,
) -> None:
    table.check_still_there()
    rows: list[tuple[SourceFile, str, tuple[int, int]]] = []
    failures: list[Failure] = []
    embeddings, features = [], []
    for batch in batches:
        finite = np.isfinite(batch.embeddings.sum(axis=1))
        embeddings.append(batch.embeddings[finite])
        features.append(batch.features[finite])
        for offset in range(len(batch)):
            index = batch.start + offset
            file, digest, size = plan.encode[index], hashes.pop(index, ""), batch.sizes[offset]
            if finite[offset] and size is not None:
                rows.append((file, digest, size))
            else:
                reason = batch.errors.get(offset, "the model returned NaN for this picture")
                failures.append(Failure(file.id, file.path, file.size, file.mtime_ns, reason))
    columns: dict[str, Any] = {
        "id": [file.id for file, _, _ in rows],
        "path": [file.path for file, _, _ in rows],
        "size": [file.size for file, _, _ in rows],
        "mtime_ns": [file.mtime_ns for file, _, _ in rows],
        "content_hash": [digest for _, digest, _ in rows],
        "width": [size[0] for _, _, size in rows],
        "height": [size[1] for _, _, size in rows],
        "embedding": np.concatenate(embeddings),
        **{name: [file.annotations.get(name) for file, _, _ in rows] for name in ANNOTATIONS},
    }
    if table.metadata.feature_dim is not None:
        columns["feature"] = np.concatenate(features)
    replaced = [file.id for file in _files(plan, batches) if file.id in plan.replaced]
    table.delete(replaced)
    journal.commit(table, columns, failures)
    encoded_again = sum(file.id in plan.replaced for file, _, _ in rows)
    report.changed += encoded_again
    report.added += len(rows) - encoded_again
    report.failed += len(failures)


def _files(plan: Plan, batches: list[Batch]) -> Iterator[SourceFile]:
    for batch in batches:
        yield from plan.encode[batch.start : batch.start + len(batch)]
