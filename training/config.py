"""The settings of the recipe: sections of ``config.toml`` as frozen dataclasses, checked when they are read."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from isomix.errors import InputError

__all__ = ["CONFIG", "OUTPUT", "load_section"]

CONFIG = Path(__file__).with_name("config.toml")
OUTPUT = Path("training-output")

Section = TypeVar("Section")


def load_section(section: type[Section], name: str, path: Path | str = CONFIG) -> Section:
    """Read one section of the configuration into its dataclass.

    Parameters
    ----------
    section : type
        A frozen dataclass. Its fields are the keys of the section: plain values, tuples for lists, dataclasses for
        subsections, ``dict[str, T]`` for tables of them. Fields with a default may be left out of the file.
    name : str
        The section, e.g. ``"render"``.
    path : path
        The file. Default: the one beside this module.

    Returns
    -------
    An instance of ``section``.

    Raises
    ------
    InputError
        No such section, an unknown or a missing key, or a value of another type.

    Examples
    --------
    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Captions:
    ...     max_words: int
    ...     max_captions: int
    >>> load_section(Captions, "captions")
    Captions(max_words=14, max_captions=12)
    """
    path = Path(path)
    sections = tomllib.loads(path.read_text(encoding="utf-8"))
    if name not in sections:
        raise InputError(f"{path}: no section [{name}]. It has: {', '.join(sections)}.")
    return typing.cast(Section, _build(section, sections[name], f"{path.name} [{name}]"))


def _build(kind: type[Any], table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise InputError(f"{where}: got {table!r}, expected a table.")
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    names = [field.name for field in fields]
    unknown = [key for key in table if key not in names]
    required = dataclasses.MISSING
    missing = [
        field.name
        for field in fields
        if field.name not in table and field.default is required and field.default_factory is required
    ]
    if unknown or missing:
        raise InputError(f"{where}: unknown keys {unknown}, missing keys {missing}; it takes {', '.join(names)}.")
    return kind(**{key: _convert(hints[key], value, f"{where} {key}") for key, value in table.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build(kind, value, where)
    if origin in (types.UnionType, typing.Union) and type(None) in arguments:
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
    elif origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    elif origin is tuple and isinstance(value, list):
        of = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(of) == len(value):
            return tuple(_convert(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(of, value, strict=True)))
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    raise InputError(f"{where}: got {value!r}, expected {getattr(kind, '__name__', kind)}.")
