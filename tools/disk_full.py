"""Run every verb that writes on a disk that is full, nearly full, and a little less so, until the verb succeeds.

Run: ``python tools/disk_full.py [--case NAME ...]``; it needs the right to mount a small file system in memory. The short form
of it is ``tests/crash/test_disk_full.py``. What is written, and what a target holds, is that of ``crash.py``.

Every run that fails must say so in one error that names the disk, leave what was there before or whole parts of what it makes,
and, once there is room, be completed by the same command without leftovers. Prints one line a case; the exit code is 1 when
anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import crash

SIZE = 48 << 20
FILLER = ".filler"
SAID = re.compile(
    r"^error: \S+ .*written.*(no space left|disk is full).*(make room|space left on the disk)", re.I | re.M
)
"""What a user has to be told: which file, why, and what to do."""


class NoDiskError(Exception):
    """No file system can be mounted here."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """An empty file system of ``SIZE`` bytes at ``folder``.

    Raises
    ------
    NoDiskError
    """
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or mount is None:
        raise NoDiskError("a file system in memory needs Linux and mount")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoDiskError(done.stderr.strip() or "mount failed")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def steps(most: int = 1 << 24) -> Iterator[int]:
    """Bytes that are left free: none, a page, and then twice as many each time."""
    yield 0
    free = 4096
    while free <= most:
        yield free
        free *= 2


class FullDisk:
    """One case: its start, the undisturbed run, and runs on a disk with little room."""

    def __init__(self, case: crash.Case, work: Path, disk: Path) -> None:
        self.trial, self.disk, self.case = crash.Trial(case, work), disk, case

    def run(self, free: int) -> tuple[bool, list[str]]:
        """Whether the command succeeded with so many bytes free, and what was wrong."""
        trial, disk = self.trial, self.disk
        for path in disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(trial.origin, disk, dirs_exist_ok=True)
        _fill(disk, free)
        where = f"{free} bytes free"
        run = crash.start(disk, self.case.arguments)
        code = run.code()
        said = run.said.read_text(encoding="utf-8", errors="replace")
        problems = list(trial.lost(disk, where))
        if code not in (0, 3) and (code < 0 or "Traceback" in said or not SAID.search(said)):
            problems.append(f"{where}: exit code {code}, and what is said does not tell why: {said[-1500:]!r}")
        (disk / FILLER).unlink(missing_ok=True)
        try:
            crash.finish(disk, self.case.arguments)
        except RuntimeError as error:
            return code in (0, 3), [*problems, f"{where}, run again: {error}"]
        final = self.case.state(disk)
        if final != trial.after:
            problems.append(f"{where}, run again: another content")
        left = crash.names(disk) - trial.usual
        if left:
            problems.append(f"{where}, run again: left over {sorted(left)}")
        return code in (0, 3), problems


def _fill(disk: Path, free: int) -> None:
    state = os.statvfs(disk)
    room = state.f_bavail * state.f_frsize - free
    with (disk / FILLER).open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, max(room, 1))


def main() -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", action="append", choices=[case.name for case in crash.CASES], help="default: all")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    failed = False
    line = "{:22s} {:>8s} {:>14s} {:>7s}"
    print(line.format("verb", "failures", "room it takes", "losses"))
    with tempfile.TemporaryDirectory(prefix="isomix-disk-") as name, small_disk(Path(name) / "disk") as disk:
        for number, case in enumerate(crash.CASES):
            if arguments.case and case.name not in arguments.case:
                continue
            full = FullDisk(case, Path(name) / str(number), disk)
            failures, problems, took = 0, [], "more than 16 MB"
            for free in steps():
                succeeded, wrong = full.run(free)
                problems += wrong
                if succeeded:
                    took = f"{free // 1024} kB"
                    break
                failures += 1
            failed |= bool(problems)
            print(line.format(case.name, str(failures), took, str(len(problems))), flush=True)
            for problem in problems:
                print(f"  {problem}", flush=True)
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoDiskError as error:
        sys.exit(f"no small disk here: {error}")
