"""Kill every verb that writes, again and again, and compare what it leaves with a run that nobody disturbed.

Run: ``python tools/crash.py [--kills N] [--seed N] [--case NAME ...] [--keep]`` or ``make crash``. The short form of it is
``tests/crash``.

Every case is killed (SIGKILL) at every named point, before and after each rename, removal and commit, and ``--kills`` times at a
random moment. After a kill the target must hold what was there before, or what the run makes, never a mixture: ids, content
hashes and vectors are compared. Then the same command runs again, and must end with the content of the undisturbed run and
without leftovers (an unfinished file of Lance goes with the first run an hour later). Prints one line a case: kills that met
a process at work, at named points and at random, and losses; then their sums. The exit code is 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crash_serve
import numpy as np

from isomix import _files
from isomix.store.lance_file import UNFINISHED

VOLATILE = {"seconds", "time", "command"}
"""Keys of JSON records that differ between two runs of the same command."""

State = dict[str, str]
"""What a target holds: name of a part (a row, a file) to a digest of its content, in order."""


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes
    ----------
    name : str
    start : callable
        Makes what is in the folder before the command.
    arguments : tuple of str
        Of isomix; run in the folder. ``("serve", "session")`` is a session at the studio, see ``tools/crash_serve.py``.
    state : callable
        Reads what the target holds.
    piecewise : bool
        The run commits in pieces: after a kill the target may hold any parts of the old and the new, each of them whole.
    """

    name: str
    start: Callable[[Path], None]
    arguments: tuple[str, ...]
    state: Callable[[Path], State]
    piecewise: bool = False


@dataclass
class Result:
    """What became of one case: kills at named points, kills at random moments, and what was wrong after them."""

    points: int = 0
    random: int = 0
    problems: list[str] = field(default_factory=list)

    def counts(self) -> list[str]:
        """Named points, random kills, kills in all and losses, as they are printed."""
        numbers = (self.points, self.random, self.points + self.random, len(self.problems))
        return [str(number) for number in numbers]


# ---------------------------------------------------------------------- what is written


def write_pictures(folder: Path, names: list[str], seed: int) -> None:
    """Small pictures, all different."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name)


def photos(folder: Path) -> None:
    """Forty pictures in two folders, two of them broken."""
    write_pictures(folder / "photos", [f"{'ab'[i % 2]}/{i:02d}.png" for i in range(40)], 0)
    for name in ("a/04.png", "b/31.png"):
        (folder / "photos" / name).write_bytes(b"no picture")


def embedded_photos(folder: Path) -> None:
    """The same, embedded."""
    photos(folder)
    finish(folder, EMBED)


def changed_photos(folder: Path) -> None:
    """The same, embedded, and then changed: new, changed, moved, vanished, broken and mended files."""
    embedded_photos(folder)
    write_pictures(folder / "photos", ["a/new1.png", "b/new2.png", "a/04.png", "a/02.png", "b/03.png"], 1)
    for name in ("a/06.png", "b/07.png", "a/08.png"):
        (folder / "photos" / name).unlink()
    (folder / "photos/a/10.png").rename(folder / "photos/b/moved.png")
    (folder / "photos/b/09.png").write_bytes(b"broken now")


def vectors(folder: Path) -> None:
    """Stored vectors as one file and as a folder of clip-retrieval, and targets of another precision."""
    rows = np.random.default_rng(0).standard_normal((300, 192)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(folder / "vectors.npy", rows)
    (folder / "stored/img_emb").mkdir(parents=True)
    for part in range(3):
        np.save(folder / f"stored/img_emb/img_emb_{part}.npy", rows[100 * part : 100 * part + 100])
    for target in ("adapted.npy", "adapted.parquet"):
        finish(folder, ("adapt", "vectors.npy", "--model", "embedded", "--dtype", "float16", "-o", target))
    finish(folder, ("adapt", "stored", "--model", "embedded", "--dtype", "float16", "-o", "adapted"))


def shots(folder: Path) -> None:
    """Two classes of three pictures, and a classifier of another method."""
    write_pictures(folder / "shots", [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(3)], 2)
    finish(folder, ("fit", "shots", "-o", "model.safetensors", "--method", "nearest-class-mean"))


def classified(folder: Path) -> None:
    """The same, and labels of the pictures as JSON Lines."""
    shots(folder)
    finish(folder, ("classify", "model.safetensors", "shots", "-o", "labels.csv", "--format", "jsonl"))


def served_photos(folder: Path) -> None:
    """Embedded photos, and what an earlier session at the studio has left."""
    embedded_photos(folder)
    finish(folder, ("serve", "before"))


def searched(folder: Path) -> None:
    """A table, and a contact sheet of another search."""
    embedded_photos(folder)
    finish(folder, ("search", "t.lance", "row:0", "--contact-sheet", "hits.png"))


def labelled(folder: Path) -> None:
    """Embeddings with labels, in arrays."""
    rng = np.random.default_rng(3)
    np.savez(folder / "arrays.npz", embeddings=rng.standard_normal((40, 24)), labels=np.arange(40) % 4)


EMBED = ("embed", "photos", "-o", "t.lance", "--batch-size", "2")
BETTER = ("--model", "embedded", "--overwrite")


# ---------------------------------------------------------------------- what a target holds


def digest(content: bytes) -> str:
    """Short and sure enough."""
    return hashlib.sha256(content).hexdigest()[:16]


def rows_of(folder: Path) -> State:
    """Rows of the table and of its ledger: id, path, content hash and every vector."""
    from isomix.store import EmbeddingTable
    from isomix.store.lance_file import LanceFile

    if not LanceFile(folder / "t.lance").exists():
        return {}
    table = EmbeddingTable.open(folder / "t.lance")
    found: State = {}
    names = ("embedding", *table.derived)
    columns = {name: table.embeddings(name) for name in names} if len(table) else {}
    for number, row in enumerate(table.rows(columns=["id", "path", "content_hash"])):
        content = repr((row["id"], row["content_hash"])).encode()
        for name in names:
            part = np.asarray(columns[name][number]).tobytes()
            found[f"{row['path']} {name}"] = digest(content + part)
    return found | {f"{row['path']} failed": row["reason"] for row in table.errors()}


def tree_of(*names: str) -> Callable[[Path], State]:
    """Contents of files and folders."""

    def read(folder: Path) -> State:
        found: State = {}
        for name in names:
            top = folder / name
            for path in sorted(top.rglob("*")) if top.is_dir() else [top] * top.exists():
                if path.is_file() and not path.name.startswith("."):  # unfinished ones are looked for in the end
                    found[path.relative_to(folder).as_posix()] = digest(_stable(path))
        return found

    return read


def file_with_record(folder: Path) -> State:
    """A file of vectors, and what isomix knows of it: a record of other vectors would be left aside with a warning."""
    from isomix.store.formats import open_embeddings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = open_embeddings(folder / "adapted.npy").record
    content = json.dumps(record, sort_keys=True).encode()
    return {"adapted.npy": digest((folder / "adapted.npy").read_bytes()), "its record": digest(content)}


def _stable(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".json":
        return content
    record = json.loads(content)
    return json.dumps({key: value for key, value in record.items() if key not in VOLATILE}, sort_keys=True).encode()


CASES = (
    Case("embed", photos, EMBED, rows_of, piecewise=True),
    Case("embed, changed", changed_photos, EMBED, rows_of, piecewise=True),
    Case("embed --overwrite", changed_photos, (*EMBED, "--overwrite"), rows_of, piecewise=True),
    Case(
        "adapt to a file",
        vectors,
        ("adapt", "vectors.npy", "-o", "adapted.npy", *BETTER),
        file_with_record,
    ),
    Case(
        "adapt to parquet",
        vectors,
        ("adapt", "vectors.npy", "-o", "adapted.parquet", *BETTER),
        tree_of("adapted.parquet"),
    ),
    Case("adapt to a folder", vectors, ("adapt", "stored", "-o", "adapted", *BETTER), tree_of("adapted")),
    Case(
        "adapt to a column",
        embedded_photos,
        ("adapt", "t.lance", "--column", "better", "--model", "embedded"),
        rows_of,
        piecewise=True,
    ),
    Case(
        "search --contact-sheet",
        searched,
        ("search", "t.lance", "row:1", "--contact-sheet", "hits.png", "--overwrite"),
        tree_of("hits.png"),
    ),
    Case("fit", shots, ("fit", "shots", "-o", "model.safetensors", "--overwrite"), tree_of("model.safetensors")),
    Case(
        "classify",
        classified,
        ("classify", "model.safetensors", "shots", "-o", "labels.csv", "--overwrite"),
        tree_of("labels.csv"),
    ),
    Case("serve", served_photos, ("serve", "session"), crash_serve.state, piecewise=True),
    Case(
        "eval",
        labelled,
        (
            "eval",
            "retrieval",
            "arrays:arrays.npz",
            "--method",
            "plain",
            "--method",
            "pca-whitening:8",
            "--runs",
            "runs",
        ),
        tree_of("runs"),
        piecewise=True,
    ),
)


# ---------------------------------------------------------------------- the process that is killed

PROCESSES = multiprocessing.get_context("forkserver")
"""Children of a server that has imported what isomix imports: a run begins at once, in a process of its own."""
PROCESSES.set_forkserver_preload(
    [
        "isomix.cli.app",
        "isomix.store",
        "isomix.encoders.embedded",
        "isomix.fewshot",
        "isomix.benchmark.harness",
        "isomix.web",
        "pyarrow.parquet",
    ]
)


def start(folder: Path, arguments: tuple[str, ...], point: str = "", log: Path | None = None) -> Run:
    """Isomix in a folder, in a process of its own; ``point`` ("3:before") is where it kills itself."""
    ready, told = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_child, args=(folder, arguments, point, log, told))
    process.start()
    told.close()
    with contextlib.suppress(EOFError):
        ready.recv()
    return Run(process, folder.with_name(f"{folder.name}.said"))


@dataclass(frozen=True)
class Run:
    """A process of isomix, and the file that has what it says."""

    process: Any
    said: Path

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def code(self) -> int:
        """Wait for the exit code; minus the signal where one ended it."""
        self.process.join(600)
        return int(self.process.exitcode)


def finish(folder: Path, arguments: tuple[str, ...], log: Path | None = None) -> None:
    """Run to the end; failures of single pictures are expected."""
    run = start(folder, arguments, log=log)
    code = run.code()
    if code not in (0, 3):
        said = run.said.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"isomix {' '.join(arguments)}: exit code {code}\n{said}")


def _child(folder: Path, arguments: tuple[str, ...], point: str, log: Path | None, told: Any) -> None:
    from isomix.cli.app import main

    with folder.with_name(f"{folder.name}.said").open("wb") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
    os.chdir(folder)
    if point or log:
        number, _, when = point.partition(":")
        _watch(int(number or 0), when, log)
    sys.argv = ["isomix", *arguments]
    told.send("ready")
    if arguments[0] == "serve":
        getattr(crash_serve, arguments[1])()
    else:
        main()


def _watch(number: int, when: str, log: Path | None) -> None:
    """Count calls that change what stands on the disk under a name, and die before or after one of them."""
    from isomix.store.lance_file import LanceFile
    from isomix.store.side_file import SideFile
    from isomix.store.thumbnails import Thumbnails

    seen = 0
    here = Path.cwd()

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            place = Path(arguments[0]) if isinstance(arguments[0], str | os.PathLike) else here
            if not (here / place).is_relative_to(here) and options.get("dir_fd") is None:
                return function(*arguments, **options)
            seen += 1
            own = seen
            if log:
                with log.open("a", encoding="utf-8") as stream:
                    stream.write(f"{name} {place.name}\n")
            if own == number and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*arguments, **options)
            finally:
                if own == number and when == "after":
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in ("replace", "rename", "unlink", "remove", "rmdir", "fsync"):
        setattr(os, name, watched(name, getattr(os, name)))
    _files._exchange = watched("exchange", _files._exchange)
    SideFile._append = watched("side file append", SideFile._append)  # type: ignore[method-assign]
    Thumbnails.put = watched("thumbnails put", Thumbnails.put)  # type: ignore[method-assign]
    for name in ("create", "drop", "append", "replace", "delete_ids", "drop_columns", "tidy"):
        setattr(LanceFile, name, watched(f"lance {name}", getattr(LanceFile, name)))


# ---------------------------------------------------------------------- the trial


class Trial:
    """One case: its start, the undisturbed run, and as many killed ones as wanted."""

    def __init__(self, case: Case, work: Path) -> None:
        self.case, self.work = case, work
        self.random_kills = 0
        self.origin = work / "start"
        self.origin.mkdir(parents=True)
        case.start(self.origin)
        folder = self._copy("undisturbed")
        self.before = case.state(folder)
        log = work / "points"
        finish(folder, case.arguments, log)
        self.after = case.state(folder)
        self.points = log.read_text(encoding="utf-8").splitlines()
        if self.before == self.after or not self.after:
            raise RuntimeError(f"{case.name}: the command changes nothing, so a kill can lose nothing")
        self.usual = names(folder)

    def kill_at(self, number: int, when: str) -> Iterator[str]:
        """Kill before or after the ``number``-th point; yields what is wrong then, and after the next run."""
        where = f"{when} {number} ({self.points[number - 1]})"
        folder = self._copy(f"point-{number}-{when}")
        code = start(folder, self.case.arguments, f"{number}:{when}").code()
        if code != -signal.SIGKILL:
            yield f"{where}: the point was not reached (exit code {code})"
        yield from self._judge(folder, where)

    def kill_at_random(self, number: int, generator: random.Random, usual_seconds: float) -> Iterator[str]:
        """Kill one to three runs in a row, each at a random moment."""
        folder = self._copy(f"random-{number}")
        for _ in range(generator.randint(1, 3)):
            process = start(folder, self.case.arguments)
            time.sleep(generator.uniform(0.0, usual_seconds))
            process.kill()
            self.random_kills += process.code() == -signal.SIGKILL  # and not a run that had ended before
            yield from self.lost(folder, f"random {number}")
        yield from self._judge(folder, f"random {number}")

    def seconds(self) -> float:
        """How long the command takes once its process is ready."""
        folder = self._copy("timed")
        process = start(folder, self.case.arguments)
        started = time.monotonic()
        process.code()
        shutil.rmtree(folder)
        return time.monotonic() - started

    def _judge(self, folder: Path, where: str) -> Iterator[str]:
        yield from self.lost(folder, where)
        try:
            finish(folder, self.case.arguments)
        except RuntimeError as error:
            yield f"{where}, run again: {error}"
            return
        final = self.case.state(folder)
        if final != self.after or list(final) != list(self.after):
            yield f"{where}, run again: {_difference(final, self.after)}"
        left = names(folder) - self.usual
        if left and all(UNFINISHED.fullmatch(name) for name in left):
            # Lance's own unfinished file may belong to a writer at work: it goes once it is old, and not before.
            for file in (file for name in left for file in folder.rglob(name)):
                os.utime(file, (0, 0))
            finish(folder, self.case.arguments)
            left = names(folder) - self.usual
        if left:
            yield f"{where}, run again: left over {sorted(left)}"
        shutil.rmtree(folder)

    def lost(self, folder: Path, where: str) -> Iterator[str]:
        """What a target holds that it should not."""
        try:
            state = self.case.state(folder)
        except Exception as error:  # noqa: BLE001 - whatever reading raises, the target is damaged
            yield f"{where}: the target cannot be read: {type(error).__name__}: {error}"
            return
        if self.case.piecewise:
            wrong = [
                part for part, value in state.items() if value not in (self.before.get(part), self.after.get(part))
            ]
            if wrong:
                yield f"{where}: {len(wrong)} parts are neither old nor new, e.g. {wrong[0]}"
        elif state not in (self.before, self.after):
            yield f"{where}: neither old nor new: {_difference(state, self.after)}"

    def _copy(self, name: str) -> Path:
        folder = self.work / name
        shutil.copytree(self.origin, folder)
        return folder


def names(folder: Path) -> set[str]:
    """What stands in a folder, and unfinished files and folders anywhere in it."""
    return {path.name for path in (*folder.iterdir(), *folder.rglob(".*"))}


def _difference(found: State, wanted: State) -> str:
    missing, extra = set(wanted) - set(found), set(found) - set(wanted)
    other = [part for part in set(wanted) & set(found) if wanted[part] != found[part]]
    counts = f"{len(missing)} parts missing, {len(extra)} too many, {len(other)} different"
    example = next(iter(sorted([*missing, *extra, *other])), "")
    return f"{counts}, e.g. {example}" if example else "another order"


def run(case: Case, work: Path, kills: int, seed: int) -> Result:
    """All points of a case and ``kills`` random moments."""
    trial, result = Trial(case, work), Result()
    for number in range(1, len(trial.points) + 1):
        for when in ("before", "after"):
            result.points += 1
            result.problems += trial.kill_at(number, when)
    generator = random.Random(f"{seed} {case.name}")
    usual = trial.seconds() if kills else 0.0
    for number in range(kills):
        result.problems += trial.kill_at_random(number, generator, usual)
    result.random = trial.random_kills
    return result


def main() -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--kills",
        type=int,
        default=10,
        help="random moments a case, one to three runs in a row killed at each (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument("--keep", action="store_true", help="keep the folders of runs that failed")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    line = "{:22s} {:>13s} {:>9s} {:>7s} {:>7s}"
    total, failed = Result(), False
    work = Path(tempfile.mkdtemp(prefix="isomix-crash-"))
    print(line.format("verb", "named points", "at random", "kills", "losses"))
    for case in CASES:
        if arguments.case and case.name not in arguments.case:
            continue
        result = run(case, work / case.name.replace(" ", "-"), arguments.kills, arguments.seed)
        failed |= bool(result.problems)
        print(line.format(case.name, *result.counts()), flush=True)
        total = Result(total.points + result.points, total.random + result.random, [*total.problems, *result.problems])
        for problem in result.problems:
            print(f"  {problem}", flush=True)
    print(line.format("all", *total.counts()), flush=True)
    if not (failed and arguments.keep):
        shutil.rmtree(work)
    else:
        print(f"kept in {work}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
