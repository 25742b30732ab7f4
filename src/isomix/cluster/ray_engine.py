"""An engine of :func:`isomix.store.embed` on Ray: units to actors, and back in the order of the plan.

Ray schedules; what is done is decided by the table alone. An actor leaves a file of rows that no version of the table knows,
and the driver makes it part of the table, unit after unit. Whatever dies before that leaves a file that nobody reads, and the
unit is done again, by another actor or in the next run; whatever dies afterwards finds the rows in the table.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from isomix import __version__
from isomix._arrays import check_integer
from isomix._extras import require
from isomix.cluster.actor import Unit, UnitEncoder
from isomix.errors import ClusterError, IsomixError
from isomix.store.scan import SourceFile
from isomix.store.table import EmbeddingTable
from isomix.store.thumbnails import Thumbnails
from isomix.store.units import Part, Progress, Work

if TYPE_CHECKING:
    from isomix.encoders.base import Encoder

__all__ = ["UNIT", "RayEngine"]

UNIT = 2048
"""Pictures of a unit, at most: what the loss of an actor costs."""

UNITS_A_COMMIT = 16
UNITS_AN_ACTOR = 4
"""Of a run that is too small for full units: so that the last ones do not leave most actors idle."""

TRIES = 4
"""How often a unit may lose its actor before the unit is to blame."""

START_SECONDS = 900.0
"""How long no actor at all may be there: the cluster has no place, or loads the model."""

CONNECT_SECONDS = 10.0
TICK = 0.5
OBJECT_STORE = 200 * 2**20
"""Bytes, of a cluster that is started for one run: file names go out and thumbnails come back."""

HERE = "local"
"""What Ray calls a cluster on this machine alone."""

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
"""Ray reads this when it is imported: a cluster on this machine alone then listens to this machine alone, as it does on
Windows and macOS anyway. It runs whatever code it is sent, and asks for no password."""


@dataclass(frozen=True)
class RayEngine:
    """Encodes on the machines of a Ray cluster, all of which must have the pictures and the table under the same paths.

    Parameters
    ----------
    load : callable
        Gives the encoder, on each of them; the same as the one that ``embed`` gets.
    address : str, optional
        Of the cluster, or ``"auto"`` on one of its machines. Default: the environment's RAY_ADDRESS, else a cluster on this
        machine alone that ends with the run.
    actors : int, optional
        Default: one a GPU, or as many as the processors have place for.
    gpu : bool
        Every actor gets a GPU of its own.
    unit : int
        Pictures of a unit, at most; whole batches are taken.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    """

    load: Callable[[], Encoder]
    address: str | None = None
    actors: int | None = None
    gpu: bool = False
    unit: int = UNIT

    def __post_init__(self) -> None:
        if self.actors is not None:
            check_integer(self.actors, "actors", minimum=1)
        check_integer(self.unit, "unit", minimum=1)
        if _place(self.address) == HERE:
            os.environ.setdefault(*LOOPBACK)
        require("ray", "ray", "The engine Ray")  # before a table is made

    def __call__(
        self, table: EmbeddingTable, files: Sequence[SourceFile], encoder: Encoder, work: Work
    ) -> Generator[Part, None, None]:
        """Yield what is to be committed, in the order of the files.

        Raises
        ------
        ClusterError
            No cluster, no place in it, a machine that cannot do the work, or a unit that ends every actor.
        """
        if not files:
            return
        ray = require("ray", "ray", "The engine Ray")
        with _connected(ray, self.address):
            count, options = _places(ray, self.actors, self.gpu, work.workers)
            sent = work._replace(workers=int(options["num_cpus"]), progress=None)
            make = partial(
                ray.remote(**options)(UnitEncoder).remote, self.load, table.path.resolve(), sent, __version__
            )
            units = _cut(files, min(self.unit, -(-len(files) // (UNITS_AN_ACTOR * count))), work.batch_size)
            yield from _Run(ray, make, count, units, Thumbnails(table.path), work.progress, encoder.fingerprint).parts()


def _cut(files: Sequence[SourceFile], size: int, batch_size: int) -> list[Sequence[SourceFile]]:
    """Units of whole batches, so that every picture is encoded beside the same others as in a run without a cluster."""
    step = max(1, size // batch_size) * batch_size
    return [files[start : start + step] for start in range(0, len(files), step)]


def _place(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or HERE


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Be connected to a cluster: one that the caller is connected to already, the one at the address, or one of our own."""
    if ray.is_initialized():
        yield
        return
    where = _place(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}
    if where == HERE:
        quiet |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        _check_answers(where)
        with warnings.catch_warnings():
            # Ray's own processes are started by fork and exec at once, which Lance has nothing against.
            warnings.filterwarnings("ignore", "lance is not fork-safe")
            ray.init(address=where, **quiet)
    except Exception as error:  # its errors have no common class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ClusterError(
            f"no Ray cluster at {where!r}: {reason}. Start one with `ray start --head`, or leave the address out for this "
            "machine alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(where: str) -> None:
    """Raise OSError unless somebody listens at ``host:port``; Ray itself tries for minutes."""
    host, _, port = where.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _places(ray: Any, actors: int | None, gpu: bool, workers: int | None) -> tuple[int, dict[str, Any]]:
    """How many actors, and what each of them is given."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [node for node in nodes if node.get("GPU" if gpu else "CPU", 0) >= 1]
    if not nodes:
        raise ClusterError(f"the cluster has no {'GPU' if gpu else 'processor'} to offer. Is a machine in it?")
    sharers = max(int(node["GPU"]) for node in nodes) if gpu else 1
    fewest = min(int(node.get("CPU", 0)) for node in nodes)
    processors = max(1, min(8, fewest // sharers) if workers is None else workers)
    fit = sum(int(node["GPU"]) if gpu else int(node["CPU"]) // processors for node in nodes)
    # The driver replaces an actor that died itself: Ray would wait with its unit until there is a place for it again.
    return actors or max(1, fit), {"num_cpus": processors, "num_gpus": int(gpu), "max_restarts": 0}


class _Run:
    """One run: units that wait, are under way, and are back."""

    def __init__(
        self,
        ray: Any,
        make: Callable[[], Any],
        count: int,
        units: list[Sequence[SourceFile]],
        thumbnails: Thumbnails,
        progress: Progress | None,
        fingerprint: str,
    ) -> None:
        self._ray, self._make, self._count, self._units = ray, make, count, units
        self._name = secrets.token_hex(8)
        self._thumbnails, self._progress, self._fingerprint = thumbnails, progress, fingerprint
        self._todo = deque(range(len(units)))
        self._back: dict[int, Unit] = {}
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int]] = {}
        self._lost: Counter[int] = Counter()
        self._lost_starts = 0
        self._done = self._failed = 0
        self._seen = time.monotonic()

    def parts(self) -> Generator[Part, None, None]:
        """What is to be committed, in order; ends the actors, whatever happens."""
        first = 0
        try:
            for _ in range(min(self._count, len(self._units))):
                self._start()
            self._show()
            while first < len(self._units):
                self._hand_out(first + UNITS_A_COMMIT + 2 * self._count)
                self._take_back()
                self._show()
                while first in self._back:
                    group: list[int] = []
                    while first in self._back and len(group) < UNITS_A_COMMIT:
                        group.append(first)
                        first += 1
                    yield self._part(group)
        finally:
            for actor in (*self._starting.values(), *self._idle, *(actor for actor, _ in self._busy.values())):
                self._ray.kill(actor)

    def _start(self) -> None:
        actor = self._make()
        self._starting[actor.start.remote()] = actor

    def _hand_out(self, end: int) -> None:
        """Give units to idle actors, the first ones first, and not far ahead of what is committed."""
        while self._idle and self._todo and self._todo[0] < end:
            actor, number = self._idle.pop(), self._todo.popleft()
            self._busy[actor.encode.remote(self._units[number])] = actor, number

    def _take_back(self) -> None:
        under_way = [*self._starting, *self._busy]
        ready, _ = self._ray.wait(under_way, num_returns=1, timeout=TICK)
        if ready:  # and whatever else is back by now: it goes into the same commit
            ready, _ = self._ray.wait(under_way, num_returns=len(under_way), timeout=0)
        for reference in ready:
            if reference in self._starting:
                self._started(reference)
            else:
                self._encoded(reference)
        if self._idle or self._busy:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > START_SECONDS:
            raise ClusterError(
                f"no actor could start in {START_SECONDS:.0f} seconds: is the cluster full? What is in the table stays; the "
                "same command goes on from there."
            )

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            self._get(reference)
        except _lost(self._ray) as error:
            self._lost_starts += 1
            if self._lost_starts >= TRIES:
                raise ClusterError(f"actors die while they load the model: {_first_line(error)}.") from error
            self._start()
        else:
            self._lost_starts = 0
            self._idle.append(actor)

    def _encoded(self, reference: Any) -> None:
        actor, number = self._busy.pop(reference)
        try:
            unit = self._get(reference)
        except _lost(self._ray) as error:
            files = self._units[number]
            self._lost[number] += 1
            if self._lost[number] >= TRIES:
                raise ClusterError(
                    f"{TRIES} actors died over the {len(files)} pictures from {files[0].path} to {files[-1].path}: "
                    f"{_first_line(error)}. One of them may need more memory than an actor has. What comes before them is in "
                    "the table."
                ) from error
            self._todo = deque(sorted((number, *self._todo)))
            self._ray.kill(actor)  # it may live on behind a node that is gone
            self._start()
            return
        self._idle.append(actor)
        self._thumbnails.put(unit.thumbnails)
        self._back[number] = unit._replace(thumbnails={})
        self._done += len(self._units[number])
        self._failed += len(unit.failures)

    def _get(self, reference: Any) -> Any:
        """What an actor returned; an error of isomix comes out as one, with what a cluster adds to it."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, IsomixError):
                raise ClusterError(
                    f"a machine of the cluster says: {cause} All of them need the same isomix, the same model, and the pictures "
                    "and the table under the same paths."
                ) from error
            raise

    def _part(self, numbers: list[int]) -> Part:
        units = [self._back.pop(number) for number in numbers]
        fragments = [unit.fragment for unit in units if unit.fragment]
        properties = {
            "isomix.run": self._name,
            "isomix.units": " ".join(self._identity(self._units[number]) for number in numbers),
        }
        return Part(
            [file for number in numbers for file in self._units[number]],
            [identifier for unit in units for identifier in unit.ids],
            [failure for unit in units for failure in unit.failures],
            partial(_append, fragments, properties),
        )

    def _identity(self, files: Sequence[SourceFile]) -> str:
        """The same for the same unit of any run with this model."""
        text = f"{self._fingerprint} {files[0].id} {files[-1].id} {len(files)}"
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def _show(self) -> None:
        if self._progress is not None:
            self._progress(self._done, sum(map(len, self._units)), self._failed)


def _append(fragments: list[str], properties: dict[str, str], table: EmbeddingTable) -> None:
    table.append_fragments(fragments, properties)


def _lost(ray: Any) -> tuple[type[Exception], ...]:
    """Errors that say that an actor, its machine or what it returned is gone, and not that its work failed."""
    errors = ray.exceptions
    names = ("RayActorError", "OutOfMemoryError", "NodeDiedError", "WorkerCrashedError", "ObjectLostError")
    return tuple(getattr(errors, name) for name in names)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
