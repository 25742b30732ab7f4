"""What people say about the pictures of a table, in a file beside it: labels, votes, verdicts on duplicates.

``photos.lance`` has ``photos.studio.jsonl``: a JSON object a line, only ever appended to, so that two windows, two servers or a
killed process lose nothing; of two lines about one thing the later one holds. The table itself is not touched.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from isomix.errors import FileFormatError, InputError, TableError

__all__ = ["CHOICES", "VERDICTS", "SideFile", "Vote", "check_label"]

FORMAT_VERSION = 1
CHOICES = ("plain", "adapted", "same")
VERDICTS = ("same", "different", "later")
MAX_LABEL = 120
Pair = tuple[str, str]


@dataclass(frozen=True)
class Vote:
    """Which side was better for one query.

    Attributes
    ----------
    query : str
        What was looked for; one query has one vote a space.
    space : str
        What stood beside the plain space, e.g. ``"isoclip 150/50"``.
    choice : {"plain", "adapted", "same"}
    """

    query: str
    space: str
    choice: str


@dataclass
class _Contents:
    classes: dict[str, None] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    votes: dict[tuple[str, str], Vote] = field(default_factory=dict)
    verdicts: dict[Pair, str] = field(default_factory=dict)

    def apply(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if not _is_whole(event):
            raise TypeError("values of another kind")
        if kind == "label":
            for identifier in event["ids"]:
                if event["label"] is None:
                    self.labels.pop(identifier, None)
                else:
                    self.labels[identifier] = event["label"]
                    self.classes.setdefault(event["label"])
        elif kind == "class":
            if event["present"]:
                self.classes.setdefault(event["name"])
            else:
                self.classes.pop(event["name"], None)
                self.labels = {i: label for i, label in self.labels.items() if label != event["name"]}
        elif kind == "rename":
            old, new = event["old"], event["new"]
            self.classes = dict.fromkeys(new if name == old else name for name in self.classes)
            self.labels = {i: new if label == old else label for i, label in self.labels.items()}
        elif kind == "vote":
            self.votes[event["query"], event["space"]] = Vote(event["query"], event["space"], event["choice"])
        elif kind == "verdict":
            pair = (event["left"], event["right"])
            if event["verdict"] is None:
                self.verdicts.pop(pair, None)
            else:
                self.verdicts[pair] = event["verdict"]


def _is_whole(event: Mapping[str, Any]) -> bool:
    """Whether the values of a line are what is written there; a line of a later version, with a kind of its own, is."""
    kind = event["kind"]
    if kind == "label":
        texts = [*event["ids"], *([] if event["label"] is None else [event["label"]])]
        return isinstance(event["ids"], list) and all(isinstance(text, str) for text in texts)
    if kind == "vote" and event["choice"] not in CHOICES:
        return False
    if kind == "verdict" and event["verdict"] not in (*VERDICTS, None):
        return False
    names = {"class": ("name",), "rename": ("old", "new"), "vote": ("query", "space"), "verdict": ("left", "right")}
    return isinstance(kind, str) and all(isinstance(event[name], str) for name in names.get(kind, ()))


def check_label(label: str) -> str:
    """Return a label without spaces around it.

    Raises
    ------
    InputError
        Nothing is left, it is longer than 120 characters, or it holds characters that cannot be printed.
    """
    shown = label.strip()
    if not shown or len(shown) > MAX_LABEL or not shown.isprintable():
        raise InputError(
            f"label: got {label[:MAX_LABEL]!a}, expected 1 to {MAX_LABEL} printable characters on one line."
        )
    return shown


class SideFile:
    """Labels, votes and verdicts of one table. Safe to use from several threads and processes.

    Parameters
    ----------
    table : path-like
    read_only : bool
        Refuse to write.

    Raises
    ------
    FileFormatError
        On use: the file beside the table is something else.
    """

    def __init__(self, table: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(table).with_suffix(".studio.jsonl")
        self.read_only = read_only
        self._lock = threading.RLock()
        self._contents = _Contents()
        self._read = 0
        self._lines = 0

    @property
    def revision(self) -> int:
        """Number of things said so far; grows with every change, also of another process."""
        return self._refresh()._lines

    @property
    def classes(self) -> list[str]:
        """Names of classes, in the order in which they were made."""
        return list(self._refresh()._contents.classes)

    @property
    def labels(self) -> dict[str, str]:
        """Row id to label."""
        return dict(self._refresh()._contents.labels)

    @property
    def votes(self) -> list[Vote]:
        """The last vote on every query and space."""
        return list(self._refresh()._contents.votes.values())

    @property
    def verdicts(self) -> dict[Pair, str]:
        """Pair of row ids, the smaller one first, to verdict."""
        return dict(self._refresh()._contents.verdicts)

    def label(self, ids: Iterable[str], label: str | None) -> None:
        """Give rows a label, or take it away with None."""
        named = None if label is None else check_label(label)
        self._append({"kind": "label", "ids": list(ids), "label": named})

    def add_class(self, name: str) -> None:
        """Make a class, which may stay without pictures."""
        self._append({"kind": "class", "name": check_label(name), "present": True})

    def remove_class(self, name: str) -> None:
        """Remove a class and its labels."""
        self._append({"kind": "class", "name": name, "present": False})

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name; an existing one of that name takes its pictures."""
        self._append({"kind": "rename", "old": old, "new": check_label(new)})

    def vote(self, vote: Vote) -> None:
        """Say which side was better; a second vote on the same query and space replaces the first."""
        if vote.choice not in CHOICES:
            raise InputError(f"choice: got {vote.choice!r}, expected one of {', '.join(CHOICES)}.")
        self._append({"kind": "vote", "query": vote.query, "space": vote.space, "choice": vote.choice})

    def judge(self, left: str, right: str, verdict: Literal["same", "different", "later"] | None) -> None:
        """Say what a pair of rows is; None takes it back."""
        if verdict is not None and verdict not in VERDICTS:
            raise InputError(f"verdict: got {verdict!r}, expected one of {', '.join(VERDICTS)}.")
        first, second = sorted((left, right))
        self._append({"kind": "verdict", "left": first, "right": second, "verdict": verdict})

    def _append(self, event: Mapping[str, Any]) -> None:
        if self.read_only:
            raise InputError("this table is served read-only, so nothing is kept. Start it without --read-only.")
        with self._lock:
            self._refresh()
            text = json.dumps(event, ensure_ascii=True, allow_nan=False) + "\n"
            if self._read == 0:
                text = json.dumps({"isomix": "studio", "format": FORMAT_VERSION}) + "\n" + text
            elif self._unfinished():
                text = "\n" + text
            try:
                # One write at the end of the file is whole even beside that of another process.
                descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                try:
                    content = text.encode()
                    if os.write(descriptor, content) < len(content):  # a part of it had room
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise TableError(
                    f"{self.path} could not be written ({error.strerror}). Is there space left, and may you write there?"
                ) from error
            self._refresh()

    def _unfinished(self) -> bool:
        """Whether the last line was cut off when its writer was killed."""
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"

    def _refresh(self) -> SideFile:
        """Read what was appended since the last time; lines that were cut off count for nothing."""
        with self._lock:
            size = self.path.stat().st_size if self.path.is_file() else 0
            if size < self._read:  # somebody deleted it, or began it anew
                self._contents, self._read, self._lines = _Contents(), 0, 0
            if size == self._read:
                return self
            with self.path.open("rb") as stream:
                stream.seek(self._read)
                content = stream.read()
            if self._read == 0:
                self._check_header(content)
            end = content.rfind(b"\n") + 1
            for line in content[:end].splitlines():
                try:
                    event = json.loads(line)
                    if "kind" in event:
                        self._contents.apply(event)
                        self._lines += 1
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
            self._read += end
        return self

    def _check_header(self, content: bytes) -> None:
        try:
            version = json.loads(content.split(b"\n", 1)[0])["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FileFormatError(
                f"{self.path} is not what isomix keeps labels and votes in (its first line is no header). Move it away."
            ) from error
        if version != FORMAT_VERSION:
            raise FileFormatError(
                f"{self.path} has format {version!r}, this isomix reads format {FORMAT_VERSION}. Install a matching isomix."
            )
