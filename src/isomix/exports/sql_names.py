"""Names and strings as PostgreSQL reads them, whatever letters are in them."""

from __future__ import annotations

import re
from typing import NamedTuple

from isomix.errors import InputError

__all__ = ["MAX_NAME_BYTES", "TableName", "identifier", "literal", "table_name"]

MAX_NAME_BYTES = 63
"""Longer names are cut off by PostgreSQL, without an error."""


class TableName(NamedTuple):
    """A table and the schema it is in."""

    schema: str
    name: str

    def __str__(self) -> str:
        """As SQL: qualified and quoted."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"


def identifier(name: str, what: str = "name") -> str:
    """A name as SQL, quoted.

    Raises
    ------
    InputError
        Empty, too long, no UTF-8, or with a NUL.

    Examples
    --------
    >>> identifier('3" tape')
    '"3"" tape"'
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if "\0" in name or not 0 < size <= MAX_NAME_BYTES:
        raise InputError(
            f"{what}: got {name!r}, expected 1 to {MAX_NAME_BYTES} bytes of UTF-8 without NUL, as PostgreSQL's names are."
        )
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL, quoted; right where ``standard_conforming_strings`` is on, as it is everywhere by now.

    Examples
    --------
    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("\0", "").replace("'", "''") + "'"


def table_name(text: str, what: str = "table") -> TableName:
    """Read ``table`` or ``schema.table``; a part with a dot or a quote in it is written in double quotes, as in SQL.

    Capitals stay as they are. Without a schema it is ``public``.

    Raises
    ------
    InputError

    Examples
    --------
    >>> table_name("Photos"), table_name('my."odd.name"')
    (TableName(schema='public', name='Photos'), TableName(schema='my', name='odd.name'))
    """
    part = r'"(?:[^"]|"")+"|[^".]+'
    found = re.fullmatch(rf"(?:({part})\.)?({part})", text, re.DOTALL)
    if found is None:
        raise InputError(
            f"{what}: got {text!r}, expected 'table' or 'schema.table'; a part with a dot or a quote in it stands in double "
            "quotes, and a quote in it is doubled."
        )
    schema, name = ((each or "public") for each in found.groups())
    names = [each[1:-1].replace('""', '"') if each.startswith('"') else each for each in (schema, name)]
    for each in names:
        identifier(each, what)
    return TableName(*names)
