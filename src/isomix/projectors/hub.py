"""Projectors from a model hub: the header of the weights and two tensors by HTTP range requests, a few MB in all."""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from isomix._arrays import Floats
from isomix._files import writing
from isomix._safetensors import PartialSafetensors, shard_of_tensor
from isomix.errors import IsomixWarning, ModelError, OfflineError
from isomix.projectors.checkpoints import projectors_from
from isomix.projectors.projectors import Projectors

__all__ = ["INDEX_FILE", "OPEN_CLIP_FILE", "WEIGHTS_FILE", "cached_file", "check_hub_id", "is_offline", "read_from_hub"]

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
OPEN_CLIP_FILE = "open_clip_model.safetensors"

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.5
_TIMEOUT_SECONDS = 30.0
_MAX_INDEX_BYTES = 50_000_000
_MAX_READ_BYTES = 1 << 30  # of one tensor or header; the largest projectors that exist have a tenth of that
_SLOWEST_BYTES_PER_SECOND = 20_000
_GRACE_SECONDS = 60.0
_COMMIT = re.compile(r"[0-9a-f]{6,64}")
_KEPT = re.compile(rf"{_COMMIT.pattern}|unknown")


def is_offline(offline: bool) -> bool:
    """Whether connections are forbidden, by the argument or by ``HF_HUB_OFFLINE``."""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def check_hub_id(name: str) -> None:
    """Raise :class:`ModelError` unless ``name`` has the form of a hub id, ``organisation/model``."""
    if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name, re.ASCII) or ".." in name:
        raise ModelError(
            f"'hf:{name}' is neither a file or folder that exists nor a hub id (organisation/model). Check the "
            f"spelling."
        )


def cached_file(name: str, filename: str, revision: str | None = None) -> Path | None:
    """A file of a model in the hub's own cache folder on this machine, or None."""
    home = Path(os.environ.get("HF_HOME") or _user_cache() / "huggingface").expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    repository = hub / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    commit = _reference(reference) if reference.is_file() else revision
    if commit and not _COMMIT.fullmatch(commit):  # it becomes part of a path
        return None
    path = repository / "snapshots" / commit / filename if commit else None
    return path if path is not None and path.is_file() else None


def read_from_hub(
    name: str,
    *,
    source: str = "",
    filename: str = "",
    offline: bool = False,
    revision: str | None = None,
    text_only: bool | None = False,
) -> Projectors:
    """Read the projectors of a model on the hub, and keep them in the user's cache folder.

    ``HF_ENDPOINT`` and ``HF_TOKEN`` are respected. What was read before is used again when the hub still has the same
    commit, and always when offline.

    Parameters
    ----------
    name : str
        Hub id, e.g. ``"openai/clip-vit-base-patch32"``.
    source : str
        Recorded in the result; default ``"hf:<name>"``.
    filename : str
        Of the weights. Default: the first there is of transformers' whole or split model and open_clip's.
    offline : bool
    revision : str, optional
        Branch, tag or commit; default ``"main"``.
    text_only : bool or None
        See :meth:`isomix.Projectors.from_pretrained`.

    Raises
    ------
    OfflineError
        Not in the cache, and connections are forbidden.
    ModelError
        No such model, no access, no answer, no known projectors, or a server that does not do what it should.
    """
    check_hub_id(name)
    revision = revision or "main"
    kept = _user_cache() / "isomix" / "projectors" / name.replace("/", "--")
    variant = f"-{Path(filename).stem}" if filename else ""
    variant += {False: "", True: "-text", None: "-linear-or-text"}[text_only]
    reference = kept / f"{urllib.parse.quote(revision, safe='')}{variant}.commit"
    source = source or f"hf:{name}"
    if is_offline(offline):
        if _KEPT.fullmatch(_reference(reference).removesuffix(variant)):  # it becomes part of a path
            return _load_kept(kept / f"{_reference(reference)}.safetensors", source)
        raise OfflineError(
            f"the projectors of 'hf:{name}' (revision {revision}) are not on this machine, and connections are "
            "forbidden. Run once without offline, or download the model's folder elsewhere and name the folder "
            "instead."
        )
    repository = _Repository(name, revision, source)
    weights = repository.open(filename or WEIGHTS_FILE)
    if weights is None and filename:
        raise ModelError(
            f"'hf:{name}' has no {filename}. isomix reads safetensors only, no pickles (.bin, .pt): take another "
            "revision or a copy of the model that has them."
        )
    copy = kept / f"{repository.commit or 'unknown'}{variant}.safetensors"
    if repository.commit and copy.is_file():
        return _load_kept(copy, source)
    projectors = repository.projectors(weights, text_only)
    try:
        kept.mkdir(parents=True, exist_ok=True)
        projectors.save(copy)
        with writing(reference) as temporary:
            temporary.write_text(copy.stem)
    except OSError as error:
        warnings.warn(f"the projectors of {name} could not be kept in {kept}: {error}.", IsomixWarning, stacklevel=4)
    return projectors


def _reference(path: Path) -> str:
    """The commit that a small file names; empty where there is no such file, or no text in it."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _load_kept(path: Path, source: str) -> Projectors:
    return Projectors.load(path).replace(source=source)  # the same weights go by several names


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


class _MissingFileError(Exception):
    """The repository is there, the file is not."""


class _Repository:
    """One revision of a model on the hub."""

    def __init__(self, name: str, revision: str, source: str) -> None:
        self.name = name
        self.source = source
        self.commit = ""
        self._endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        if not self._endpoint.startswith(("https://", "http://")):
            raise ModelError(f"HF_ENDPOINT={self._endpoint!r} is not a URL. Correct or unset it.")
        self._revision = urllib.parse.quote(revision, safe="")
        self._opener = urllib.request.build_opener(_Redirects(self._note))

    def open(self, filename: str) -> PartialSafetensors | None:
        """The header of a file of weights; None when there is no such file."""
        where = f"{filename} of 'hf:{self.name}'"
        try:
            return PartialSafetensors.open(where, lambda start, stop: self._read(filename, start, stop))
        except _MissingFileError:
            return None

    def projectors(self, weights: PartialSafetensors | None, text_only: bool | None) -> Projectors:
        source = self.source
        if weights is not None:
            return projectors_from(weights.entries, weights.tensor, weights.where, source, text_only=text_only)
        try:
            index = self._persist(INDEX_FILE, self._whole_index)
        except _MissingFileError as error:
            weights = self.open(OPEN_CLIP_FILE)
            if weights is not None:
                return projectors_from(weights.entries, weights.tensor, weights.where, source, text_only=text_only)
            raise ModelError(
                f"{source!r} has neither {WEIGHTS_FILE} nor {INDEX_FILE} nor {OPEN_CLIP_FILE}. isomix reads "
                "safetensors only, no pickles (.bin): take another revision or a copy of the model that has them."
            ) from error
        shards = shard_of_tensor(index, f"{INDEX_FILE} of {source!r}")

        def read(tensor: str) -> Floats:
            shard = self.open(shards[tensor])
            if shard is None:
                raise ModelError(f"{source!r} lacks {shards[tensor]}, which its index names.")
            return shard.tensor(tensor)

        return projectors_from(shards, read, source, source, text_only=text_only)

    def _read(self, filename: str, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop - 1``; an interrupted transfer goes on where it broke off."""
        data = bytearray()
        if stop - start > _MAX_READ_BYTES:
            raise ModelError(
                f"{filename} of {self.name!r} announces {stop - start:,} bytes for one tensor or header, expected at most "
                f"{_MAX_READ_BYTES:,}: its header is wrong, or it is no CLIP-like model. Do not use this file."
            )
        seconds = _GRACE_SECONDS + (stop - start) / _SLOWEST_BYTES_PER_SECOND
        deadline = time.monotonic() + seconds

        def go_on() -> bytes | None:
            first = start + len(data)
            with self._request(filename, {"Range": f"bytes={first}-{stop - 1}"}) as answer:
                self._check_range(answer, filename, first, stop)
                while piece := answer.read1(min(1 << 20, stop - start - len(data))):
                    data.extend(piece)
                    if time.monotonic() > deadline:
                        raise ModelError(
                            f"{self._endpoint} sent {len(data):,} of {stop - start:,} bytes of {filename} in {seconds:.0f} "
                            "seconds. Try again later, another mirror (HF_ENDPOINT), or download the model's folder "
                            "elsewhere and name the folder instead."
                        )
            return bytes(data) if len(data) == stop - start else None

        return self._persist(filename, go_on)

    def _whole_index(self) -> bytes | None:
        with self._request(INDEX_FILE, {}) as answer:
            data: bytes = answer.read(_MAX_INDEX_BYTES)
            return None if answer.length else data

    def _persist(self, filename: str, attempt: Callable[[], bytes | None]) -> bytes:
        """What ``attempt`` returns; None or a failure of the network lets it try again, a few times."""
        failure: Exception | None = None
        for turn in range(_ATTEMPTS):
            if turn:
                time.sleep(_PAUSE_SECONDS * 2 ** (turn - 1))
            try:
                data = attempt()
            except (OSError, http.client.HTTPException) as error:
                failure = error
                if isinstance(getattr(error, "reason", None), socket.gaierror | ConnectionRefusedError):
                    break
                continue
            if data is not None:
                return data
            failure = EOFError("the transfer broke off")
        raise ModelError(
            f"{self._endpoint} did not deliver {filename} of {self.name!r} ({_cause(failure)}). Check the connection "
            "and HF_ENDPOINT and try again, or download the model's folder elsewhere and name the folder instead."
        ) from failure

    def _check_range(self, answer: Any, filename: str, first: int, stop: int) -> None:
        where = f"{self._endpoint} ({filename} of {self.name!r})"
        if answer.status != 206:
            raise ModelError(
                f"{where} ignores range requests (status {answer.status}) and would send the whole file. Download the "
                "model's folder yourself and name the folder instead."
            )
        content = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if content is None or (int(content[1]), int(content[2])) != (first, stop - 1):
            raise ModelError(
                f"{where} sent {answer.headers.get('Content-Range')!r} for bytes {first}-{stop - 1}: the file is "
                "shorter than its header says, or the server is faulty. Try again later, or another mirror "
                "(HF_ENDPOINT)."
            )

    def _request(self, filename: str, headers: Mapping[str, str]) -> Any:
        url = f"{self._endpoint}/{self.name}/resolve/{self._revision}/{urllib.parse.quote(filename)}"
        request = urllib.request.Request(
            url, headers={"User-Agent": "isomix", "Accept-Encoding": "identity", **headers}
        )
        token = os.environ.get("HF_TOKEN")
        if token:  # for the hub alone, not for the content servers it redirects to
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            answer = self._opener.open(request, timeout=_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                self._refuse(error, filename)
            raise
        self._note(answer.headers)
        return answer

    def _note(self, headers: Any) -> None:
        commit = headers.get("X-Repo-Commit") or ""
        if _COMMIT.fullmatch(commit):  # it becomes the name of a file
            self.commit = commit

    def _refuse(self, error: urllib.error.HTTPError, filename: str) -> None:
        """Turn a final answer into our error; what may pass (busy, server trouble) is left to be tried again."""
        code = error.headers.get("X-Error-Code", "")
        if error.code == 404 and code in ("", "EntryNotFound"):
            raise _MissingFileError(filename)
        if error.code == 404:
            raise ModelError(f"{self._endpoint} has no {self.name!r} at this revision ({code}). Check id and revision.")
        if error.code in (401, 403):
            raise ModelError(
                f"{self._endpoint} refuses {self.name!r} (status {error.code}): it does not exist, or it is private "
                "or gated. Check the spelling; for a gated model accept its conditions there and set HF_TOKEN."
            )
        if error.code == 416:
            raise ModelError(
                f"{filename} of {self.name!r} at {self._endpoint} is cut short. Try another mirror (HF_ENDPOINT)."
            )
        if error.code < 500 and error.code not in (408, 429):
            raise ModelError(f"{self._endpoint} answers {error.code} {error.reason} for {filename} of {self.name!r}.")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within HTTP; the hub names the commit in the redirect itself, not in the answer behind it."""

    def __init__(self, note: Any) -> None:
        self._note = note

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self._note(headers)
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.startswith(allowed):
            raise ModelError(
                f"{req.full_url} redirects to {newurl!r}, expected {' or '.join(allowed)}. Do not use this server."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _cause(error: Exception | None) -> str:
    reason = None if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None)
    return str(reason or error) or type(error).__name__
