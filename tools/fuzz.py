"""Damaged and hostile input for every format that isomix reads; whatever is not an answer or an error of isomix is a failure.

Run: ``python tools/fuzz.py [--cases N | --seconds N] [--format NAME ...] [--first N]``, or ``make fuzz`` for an hour; the
short form of it is ``tests/fuzz``. One case again: ``python tools/fuzz.py --format NAME --first NUMBER --cases 1`` (of a
table nearly the same one: Lance draws the names of its files). Seeds and readers stand in ``fuzz_formats.py``, what damages
them in ``fuzz_damage.py``.

Each case takes a whole seed of its format, damages it (bytes, numbers, text, or parts of the format with its lengths and
checksums made right again), and reads it in a child process. A failure is an exception that is not one of
``isomix.errors``, a child that dies, more than ``SECONDS`` of processor time, or more than ``MEMORY`` bytes asked for beyond
what the child had when it began, even where that ends in an error of isomix. The input of a failure is kept under
``fuzz-output/failures``. With ``--corpus``, inputs that end in a way not met before are kept and damaged further; a number then
repeats a case only with the corpus that it met.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_damage import make_input
from fuzz_formats import FORMATS

SECONDS = 20.0
"""Processor time of one case, and a tenth of the time on the clock after which a child that waits is killed."""

MEMORY = 1 << 30
"""Bytes that a child may map beyond what it had before its first case."""

# ---------------------------------------------------------------------- one case, in a child


def outcome(read: Callable[[Path], None], path: Path) -> tuple[str, str]:
    """``("read" | "refused" | "failure", what)``; ``what`` has no numbers and no paths, so that the like are like."""
    from isomix.errors import IsomixError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except IsomixError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return "failure", f"more than {MEMORY >> 20} MiB asked for: {error}"
            cause = cause.__cause__ or cause.__context__
        return "refused", f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return "failure", "".join(traceback.format_exception(error))[-3000:]
    return "read", ""


def alike(what: str) -> str:
    """The message without what differs between two cases of one kind."""
    return re.sub(r"0x[0-9a-f]+|\d+|'[^']*'|\S*/\S*|[^\x20-\x7e]", "", what)[:160]


def child(name: str, seeds: Path, corpus: Path | None) -> None:
    """Read numbers of cases from standard input, and answer each with one line of JSON."""
    spec = FORMATS[name]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    for seed in sorted((seeds / name).iterdir()):  # imports and pools of threads come before the limit on memory
        result = outcome(spec.read, seed)
        if result[0] != "read":
            answers.write(json.dumps({"kind": "failure", "what": f"the seed {seed.name} itself: {result[1]}"}) + "\n")
    limit = _mapped() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    met: set[str] = set()
    answers.write(json.dumps({"kind": "ready"}) + "\n")
    answers.flush()
    for line in sys.stdin:
        number = int(line)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = make_input(seeds / name, corpus, Path(folder), random.Random(f"{name}:{number}"))
            before, began = _begin_peak(), time.process_time()
            kind, what = outcome(spec.read, path)
            seconds, peak = time.process_time() - began, _resident("VmHWM") - before
            if corpus is not None and kind != "failure" and alike(what) not in met:
                met.add(alike(what))
                _keep(path, corpus / f"{zlib.crc32(alike(what).encode()):08x}~{path.name}")
        answer = {"kind": kind, "what": what.replace(folder, ""), "seconds": seconds, "peak": peak}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _begin_peak() -> int:
    """Bytes in memory now; what ``VmHWM`` says from here on is the largest since."""
    with contextlib.suppress(OSError):  # a kernel that refuses gives the largest of all cases so far
        Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]


def _keep(path: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)


# ---------------------------------------------------------------------- many cases


@dataclass
class Child:
    """A process that reads cases of one format."""

    name: str
    process: subprocess.Popen[bytes]
    number: int = -1
    began: float = 0.0
    processor: float = 0.0
    heard: bytes = b""

    def used(self) -> float:
        """Seconds of processor time since the case began."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") - self.processor


@dataclass
class Tally:
    """What became of the cases of one format."""

    read: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0

    @property
    def cases(self) -> int:
        """How many there were."""
        return self.read + self.refused + self.failures.total()


def _ending(code: int) -> str:
    """How a process ended, in words: ``"signal 6, SIGABRT"``."""
    with contextlib.suppress(ValueError):
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"exit code {code}"


class Fuzzer:
    """Seeds in a folder of their own, one child at a time, and the account.

    Parameters
    ----------
    output : Path
        Where failures and the corpus go.
    corpus : bool
    """

    def __init__(self, output: Path, corpus: bool = False) -> None:
        self.output, self.corpus = output, corpus
        self.seeds = Path(tempfile.mkdtemp(prefix="isomix-fuzz-"))
        self.tallies: dict[str, Tally] = {}

    def close(self) -> None:
        """Remove the seeds."""
        shutil.rmtree(self.seeds, ignore_errors=True)

    def _corpus(self, name: str) -> Path | None:
        return self.output.resolve() / "corpus" / name if self.corpus else None

    def start(self, name: str) -> Child:
        """A child that has imported what it needs."""
        if not (self.seeds / name).exists():
            (self.seeds / name).mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                FORMATS[name].seed(self.seeds / name)
        command = [sys.executable, __file__, "--child", name, "--seeds", os.fspath(self.seeds)]
        command += ["--corpus-folder", os.fspath(self._corpus(name))] if self.corpus else []
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment)
        started = Child(name, process)
        while (answer := self._answer(started, 300.0)) is not None and answer["kind"] != "ready":
            self._fail(name, -1, answer["what"])
        return started

    def _answer(self, worker: Child, limit: float) -> dict[str, Any] | None:
        """The next line of a child; None when it died or was killed for its time."""
        import select

        worker.began = time.monotonic()
        worker.processor = 0.0
        worker.processor = worker.used()
        output = worker.process.stdout
        if output is None:
            return None
        while b"\n" not in worker.heard:
            if select.select([output], [], [], 0.5)[0]:
                content = os.read(output.fileno(), 1 << 16)
                if not content:
                    return None
                worker.heard += content
            elif worker.used() > limit or time.monotonic() - worker.began > 10 * limit:
                worker.process.kill()
                worker.process.wait()
                return None
        line, _, worker.heard = worker.heard.partition(b"\n")
        return json.loads(line)

    def run(self, name: str, numbers: Iterator[int], until: float = float("inf")) -> None:
        """Cases of one format, until a time of the monotonic clock."""
        tally = self.tallies.setdefault(name, Tally())
        worker = self.start(name)
        for number in numbers:
            if time.monotonic() > until:
                break
            if worker.process.stdin is None:
                break
            worker.process.stdin.write(f"{number}\n".encode())
            answer = self._answer(worker, SECONDS)
            if answer is None:
                code = worker.process.wait()
                took = time.monotonic() - worker.began
                what = (
                    f"no answer in {SECONDS:g} s of processor time"
                    if code == -9
                    else f"the child died, {_ending(code)}"
                )
                self._fail(name, number, f"{what} ({took:.0f} s)")
                self._close(worker)
                worker = self.start(name)
                continue
            tally.slowest = max(tally.slowest, answer["seconds"])
            tally.peak = max(tally.peak, answer["peak"])
            if answer["kind"] == "failure":
                self._fail(name, number, answer["what"])
            elif answer["kind"] == "refused":
                tally.refused += 1
            else:
                tally.read += 1
        self._close(worker)

    def _close(self, worker: Child) -> None:
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        worker.process.wait(60)

    def _fail(self, name: str, number: int, what: str) -> None:
        tally = self.tallies.setdefault(name, Tally())
        last = alike(what.strip().splitlines()[-1])
        tally.failures[last] += 1
        if tally.failures[last] > 3:
            return
        print(f"FAILURE {name} {number}: {what.strip()}")
        print(f"  again: python tools/fuzz.py --format {name} --first {number} --cases 1", flush=True)
        if number >= 0:
            target = self.output / "failures" / f"{name}-{number}"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            make_input(self.seeds / name, self._corpus(name), target, random.Random(f"{name}:{number}"))

    def report(self) -> int:
        """Print the account; returns how many cases failed."""
        print(f"{'format':<16}{'cases':>8}{'read':>8}{'refused':>9}{'failed':>8}{'peak MB':>9}{'slowest s':>11}")
        tallies = list(self.tallies.values())
        whole = Tally(
            sum(tally.read for tally in tallies),
            sum(tally.refused for tally in tallies),
            sum((tally.failures for tally in tallies), Counter()),
            slowest=max(tally.slowest for tally in tallies),
            peak=max(tally.peak for tally in tallies),
        )
        for name, tally in [*self.tallies.items(), ("all", whole)]:
            counts = f"{tally.cases:>8,}{tally.read:>8,}{tally.refused:>9,}{tally.failures.total():>8,}"
            print(f"{name:<16}{counts}{tally.peak / 1e6:>9.0f}{tally.slowest:>11.2f}")
        return whole.failures.total()


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, report; 1 when a case failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="of all formats together, by their shares")
    parser.add_argument("--seconds", type=float, help="instead of a number of cases")
    parser.add_argument("--format", action="append", choices=sorted(FORMATS))
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each format")
    parser.add_argument("--output", type=Path, default=Path("fuzz-output"))
    parser.add_argument("--corpus", action="store_true", help="keep inputs that end in new ways, and damage those too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--corpus-folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        child(given.child, given.seeds, given.corpus_folder)
        return 0
    names = given.format or list(FORMATS)
    shares = sum(FORMATS[name].share for name in names)
    fuzzer = Fuzzer(given.output, given.corpus)
    try:
        for name in names:
            share = FORMATS[name].share / shares
            if given.seconds is None:
                fuzzer.run(name, iter(range(given.first, given.first + round(given.cases * share))))
            else:
                until = time.monotonic() + given.seconds * share
                fuzzer.run(name, iter(range(given.first, sys.maxsize)), until)
        return min(1, fuzzer.report())
    finally:
        fuzzer.close()


if __name__ == "__main__":
    sys.exit(main())
