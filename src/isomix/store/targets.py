"""A target of stored embeddings: vectors, the record of what they are, and their columns, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isomix._files import writing
from isomix.errors import FileFormatError
from isomix.store.formats import write_embeddings
from isomix.store.formats.base import RECORD_NAME, Block, Job, Pairs, Source, content_mark, write_record
from isomix.store.formats.rows_file import rows_file_path

__all__ = ["check_all_read", "write_target"]

SELF_DESCRIBING = (".parquet", ".safetensors", ".lance", "")


def write_target(final: Path, pairs: Pairs, job: Job) -> None:
    """Write vectors under a name that may be taken; what had it before is whole until this is.

    Parameters
    ----------
    final : pathlib.Path
        Its ending names the layout.
    pairs : iterator of (Block, ndarray)
    job : Job
        The record stands inside the target where its layout can hold it, else beside it. Skipped rows are known only at
        the end, so a record with any stands beside it in every file.
    """
    record = dict(job.record)
    beside = final.with_name(f"{final.name}.{RECORD_NAME}")
    with writing(final) as temporary:
        write_embeddings(temporary, final, pairs, job)
        if not final.suffix and job.source.layout != "parquet folder":
            write_record(temporary / RECORD_NAME, record)
        elif temporary.is_file() and (record.get("skipped_rows") or final.suffix not in SELF_DESCRIBING):
            record["file"] = content_mark(temporary)
            # Whenever the process is killed, what stands under the target's name has its record, and no other's.
            write_record(beside, {**record, "before": _earlier(beside)} if final.exists() else record)
    if "file" in record:
        write_record(beside, record)
    else:
        beside.unlink(missing_ok=True)
    if final.suffix == ".parquet" or not job.source.other_fields:
        rows_file_path(final).unlink(missing_ok=True)


def check_all_read(source: Source, blocks: Iterator[Block]) -> Iterator[Block]:
    """The same blocks; an error at their end if they were not as many rows as the source had when it was opened.

    Raises
    ------
    FileFormatError
    """
    done = 0
    for block in blocks:
        done += len(block.vectors)
        yield block
    if done != source.rows:
        raise FileFormatError(
            f"{source.path} had {source.rows} rows when it was opened and gave {done}: it was changed while it was read. "
            "Nothing was written; start again when it is whole."
        )


def _earlier(record: Path) -> dict[str, Any] | None:
    """The record of the file that is about to be replaced, if it has one that can be read."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        json.dumps(found, ensure_ascii=False).encode()  # halves of surrogate pairs can be read, and not written again
    except (OSError, ValueError, RecursionError):
        return None
    return {name: value for name, value in found.items() if name != "before"} if isinstance(found, dict) else None
