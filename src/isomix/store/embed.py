"""The embedding run: from a source of pictures to a table, resumable and incremental."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from isomix._arrays import check_integer
from isomix.errors import InputError
from isomix.store.journal import Journal
from isomix.store.lance_file import LanceFile, check_table_path
from isomix.store.plan import EmbedReport, Plan, make_plan
from isomix.store.scan import Scan, scan_several
from isomix.store.schema import TableMetadata, relative_root
from isomix.store.table import EmbeddingTable, check_is_plain
from isomix.store.thumbnails import Thumbnails
from isomix.store.units import Engine, Part, Progress, Work, encode_here

if TYPE_CHECKING:
    from isomix.encoders.base import Encoder

__all__ = ["embed", "shard_path"]


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
    shard: tuple[int, int] | None = None,
    engine: Engine | None = None,
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
    shard : (int, int), optional
        Part i of n, i from 1: a run of whole batches of the source, into a table of its own, see :func:`shard_path`. The
        tables of all parts, merged in order, have the rows of one run in its order, with its bytes
        (:func:`isomix.store.changes.merge_tables`).
    engine : callable, optional
        Who encodes; default: this process. Another one is :class:`isomix.cluster.RayEngine`.
    progress : callable, optional
        Called with (done, total, failed) after every batch; by other engines, after what they commit at once.

    Returns
    -------
    EmbedReport

    Raises
    ------
    InputError
        A source that cannot be used, one that has nothing in common with the table, or a shard that is none.
    FingerprintMismatchError
        The table was made with another model.
    TableError
        The table cannot be written, or another process is writing it.
    """
    started = time.monotonic()
    batch_size = check_integer(batch_size, "batch_size", minimum=1)
    path = check_table_path(table_path if shard is None else shard_path(table_path, shard))
    with Journal(path) as journal:
        # A wrong model is said before a long listing of files.
        goes_on = LanceFile(path).exists() and not overwrite
        table = EmbeddingTable.open(path, encoder) if goes_on else None
        sources = [source] if isinstance(source, str | os.PathLike) else source
        found = scan_several(sources, labels=labels, root=root)
        if shard is not None:
            found.files = found.files[_range_of(shard, len(found.files), batch_size)]
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
        work = Work(batch_size, workers, max_megapixels, thumbnails, progress)
        with closing((engine or encode_here)(table, plan.encode, encoder, work)) as parts:
            for part in parts:
                _commit(table, plan, journal, part, report)
        table.check_still_there()
        table.tidy()
        if report.changed or report.removed:
            small.keep_only(table.column("content_hash"))
        report.thumbnail_bytes = small.bytes
        report.rows = table.count
        report.seconds = time.monotonic() - started
    return report


def shard_path(table_path: str | os.PathLike[str], shard: tuple[int, int]) -> Path:
    """Where part i of n of a table is kept; in the order of the parts by name, too.

    Raises
    ------
    InputError
        No such part.

    Examples
    --------
    >>> str(shard_path("photos.lance", (3, 16)))
    'photos.shard-03-of-16.lance'
    """
    number, of = (check_integer(value, "shard", minimum=1) for value in shard)
    if number > of:
        raise InputError(f"shard: got {number}/{of}, expected i/n with i from 1 to n.")
    path = Path(table_path)
    return path.with_name(f"{path.stem}.shard-{number:0{len(str(of))}}-of-{of}{path.suffix}")


def _range_of(shard: tuple[int, int], files: int, batch_size: int) -> slice:
    """Positions of a shard's files: whole batches, so that every picture is encoded beside the same others as in one run."""
    number, of = shard
    batches = -(-files // batch_size)
    return slice(batches * (number - 1) // of * batch_size, batches * number // of * batch_size)


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


def _commit(table: EmbeddingTable, plan: Plan, journal: Journal, part: Part, report: EmbedReport) -> None:
    table.check_still_there()
    table.delete([file.id for file in part.files if file.id in plan.replaced])
    journal.commit(table, part)
    encoded_again = sum(identifier in plan.replaced for identifier in part.ids)
    report.changed += encoded_again
    report.added += len(part.ids) - encoded_again
    report.failed += len(part.failures)
