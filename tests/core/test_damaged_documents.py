"""Files of classifiers, spaces and projectors, damaged at random: an error of isomix, or something that works."""

from __future__ import annotations

import copy
import json
import random
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomix import Projectors
from isomix.errors import FileFormatError, IsomixError, IsomixWarning
from isomix.fewshot import CLASSIFIERS, load_classifier
from isomix.linalg import normalize_rows
from isomix.spaces import SPACES, TextPCA, load_space

MUTATIONS = 40
D = 8
BOUND = 100
"""Bytes that loading may take for each byte of the file, beside two megabytes for modules, messages and blocks."""
HOSTILE: list[Any] = [
    None, True, 0, -1, 1, 3, 2**31, 10**30, 1e-320, 1e308, -0.5, 0.0, "", "x", "NaN", "<U999999999", "\ud7ff", [], {}, [0], [[]],
    ["a", "a", "b"], ["a", "b", "c"], {"a": {"b": None}}, "project-and-mix", "isoclip", "plain", "object",
]  # fmt: skip


def _classifier(method: str, path: Path, space: Any = None) -> None:
    rng = np.random.default_rng(len(method))
    X = normalize_rows(np.repeat(np.eye(D)[:3], 4, axis=0) + 0.4 * rng.normal(size=(12, D))).astype(np.float32)
    text = {name: normalize_rows(rng.normal(size=(2, D))) for name in ("ant", "bee", "cow")}
    arguments = {} if space is None else {"space": space}
    CLASSIFIERS[method](**arguments).fit(X, np.repeat(list(text), 4), text).save(path)


def _space(method: str, path: Path) -> None:
    rng = np.random.default_rng(len(method))
    E = rng.normal(size=(30, D))
    projectors = Projectors(rng.normal(size=(D, D + 2)), rng.normal(size=(D, D + 1)), logit_scale=50.0)
    kind = SPACES[method]
    space: Any = {
        "isoclip": lambda: kind(projectors, "2/1").fit(),
        "isoclip-control": lambda: kind(projectors, "2/1").fit(),
        "random-directions": lambda: kind(3).fit(E),
        "text-pca": lambda: kind(3).fit(E),
    }.get(method, lambda: kind().fit(E))()
    space.save(path)


def _projectors(path: Path) -> None:
    rng = np.random.default_rng(0)
    pair = Projectors(
        rng.normal(size=(D, D + 2)), rng.normal(size=(D, D + 1)), image_bias=rng.normal(size=D), logit_scale=50.0
    )
    pair.save(path)


def _use_classifier(path: Path) -> None:
    queries = np.random.default_rng(1).normal(size=(40, D))
    loaded = load_classifier(path)
    if loaded.n_features_in_ == D:
        for dtype in (np.float32, np.float64):
            assert np.isfinite(loaded.predict_proba(queries.astype(dtype))).all()
    assert len(set(loaded.classes_.tolist())) == len(loaded.classes_) >= 2


def _use_space(path: Path) -> None:
    space = load_space(path)
    if 0 < space.n_features_in_ <= 100:
        assert np.isfinite(space.transform(np.random.default_rng(2).normal(size=(5, space.n_features_in_)))).all()


def _use_projectors(path: Path) -> None:
    assert len(Projectors.load(path).fingerprint) == 64


CASES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    **{f"classifier-{m}": ((lambda path, m=m: _classifier(m, path)), _use_classifier) for m in CLASSIFIERS},
    "classifier-in-a-space": (
        lambda path: _classifier(
            "project-and-mix", path, TextPCA(4).fit(np.random.default_rng(3).normal(size=(30, D)))
        ),
        _use_classifier,
    ),
    **{f"space-{m}": ((lambda path, m=m: _space(m, path)), _use_space) for m in SPACES},
    "projectors": (_projectors, _use_projectors),
}


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, item in inner for found in _places(item, (*place, key)))]


def _damage_json(header: Any, rng: random.Random) -> Any:
    header = copy.deepcopy(header)
    *before, last = rng.choice([place for place in _places(header) if place])
    holder = header
    for key in before:
        holder = holder[key]
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[last]
    elif isinstance(holder[last], int | float) and rng.random() < 0.4:
        holder[last] = holder[last] * rng.choice([-1, 2, 1e6, 1e-6]) + rng.choice([0, 1])
    else:
        holder[last] = copy.deepcopy(rng.choice(HOSTILE))
    return header


def _damaged(whole: bytes, rng: random.Random) -> bytes:
    """The file with one of its two headers, its bytes or its numbers changed."""
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), bytearray(whole[8 + length :])
    kind = rng.choice(
        ["own header", "own header", "own header", "tensors' header", "bytes", "numbers", "numbers", "end"]
    )
    if kind == "own header":
        own = json.loads(header["__metadata__"]["isomix"])
        for _ in range(rng.randint(1, 2)):
            own = _damage_json(own, rng)
        header["__metadata__"]["isomix"] = json.dumps(own)
    elif kind == "tensors' header" and data:
        metadata = header.pop("__metadata__")
        header = _damage_json(header, rng)
        header["__metadata__"] = metadata
    elif kind == "numbers" and data:
        entry = rng.choice(
            [e for name, e in header.items() if name != "__metadata__" and e["data_offsets"][0] < len(data)]
        )
        dtype = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "BOOL": "?"}[entry["dtype"]]
        place = rng.randrange(entry["data_offsets"][0], entry["data_offsets"][1], np.dtype(dtype).itemsize)
        value = rng.choice([0, -1, 2, 7, 1e30, -1e-30, 1e200, float("nan")] if "f" in dtype else [0, 1, -1, 10**9])
        with np.errstate(all="ignore"):
            data[place : place + np.dtype(dtype).itemsize] = np.array(value).astype(dtype).tobytes()
    elif kind == "bytes":
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(whole))] = rng.randrange(256)
        return bytes(changed)
    else:
        return whole[: rng.randrange(len(whole))]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_refused_or_works(case: str, tmp_path: Path) -> None:
    make, use = CASES[case]
    make(tmp_path / "whole")
    use(tmp_path / "whole")
    whole, damaged, refused = (tmp_path / "whole").read_bytes(), tmp_path / "damaged", 0
    tracemalloc.start()
    try:
        for seed in range(MUTATIONS):
            damaged.write_bytes(_damaged(whole, random.Random(f"{case} {seed}")))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", IsomixWarning)
                    use(damaged)
            except IsomixError as error:
                refused += 1
                assert len(str(error)) > 20
            except BaseException as error:
                raise AssertionError(f"{case}, mutation {seed}: {type(error).__name__}: {error}") from error
            taken = tracemalloc.get_traced_memory()[1] - before
            assert taken < BOUND * len(whole) + 2_000_000, f"{case}, mutation {seed}: {taken} bytes"
    finally:
        tracemalloc.stop()
    assert refused > MUTATIONS // 4


def _with_header(whole: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    own = json.loads(header["__metadata__"]["isomix"])
    change(own)
    header["__metadata__"]["isomix"] = json.dumps(own)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + whole[8 + length :]


@pytest.mark.parametrize(("value", "message"), [("\ud800", "surrogates"), (12345, "Out of range")])
def test_what_could_not_be_saved_again_is_not_loaded(tmp_path: Path, value: Any, message: str) -> None:
    _classifier("project-and-mix", tmp_path / "whole")
    whole = _with_header((tmp_path / "whole").read_bytes(), lambda own: own["source"].update(model=value))
    (tmp_path / "damaged").write_bytes(whole.replace(b"12345", b"1e999"))
    with pytest.raises(FileFormatError, match=message):
        load_classifier(tmp_path / "damaged")


@pytest.mark.parametrize("changes", [{"shrinkage": "pca-whitening"}, {"n_components": 0}, {"n_components": "all"}])
def test_parameters_of_a_whitening_are_numbers(tmp_path: Path, changes: dict[str, Any]) -> None:
    _space("pca-whitening", tmp_path / "whole")
    damaged = _with_header((tmp_path / "whole").read_bytes(), lambda own: own["parameters"].update(changes))
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(FileFormatError, match="cannot be used"):
        load_space(tmp_path / "damaged")
