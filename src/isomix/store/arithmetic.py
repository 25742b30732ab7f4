"""Sums of queries: a picture, and more of one thing, and less of another, in the plain space.

``cat.jpg + "in snow" - "indoors"`` is the direction of u(cat.jpg) + u("in snow") - u("indoors"), u the unit embedding. Pictures and
sentences can be added only in the space that the model was trained to compare them in, which is the plain one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isomix.errors import InputError
from isomix.store.answers import Query

__all__ = ["SIGNS", "Term", "parse_sums", "read_terms", "sum_of"]

SIGNS = {"+": 1.0, "-": -1.0}


class Term(NamedTuple):
    """A query within a sum.

    Attributes
    ----------
    sign : float
        1 or -1.
    name : str
    """

    sign: float
    name: str


def parse_sums(names: Sequence[str]) -> list[list[Term]]:
    """Group names by the signs that stand between them as names of their own.

    Examples
    --------
    >>> parse_sums(["cat.jpg", "+", "in snow", "dog.jpg"])
    [[Term(sign=1.0, name='cat.jpg'), Term(sign=1.0, name='in snow')], [Term(sign=1.0, name='dog.jpg')]]

    Raises
    ------
    InputError
        A sign with nothing before or after it.
    """
    sums: list[list[Term]] = []
    waiting = ""
    for name in names:
        if name in SIGNS:
            if waiting or not sums:
                raise InputError(f"query: {name!r} stands between two queries, as in: cat.jpg + 'in snow' - 'indoors'.")
            waiting = name
        elif waiting:
            sums[-1].append(Term(SIGNS[waiting], name))
            waiting = ""
        else:
            sums.append([Term(1.0, name)])
    if waiting:
        raise InputError(f"query: nothing follows the last {waiting!r}. Write, for example: cat.jpg + 'in snow'.")
    return sums


def read_terms(terms: Sequence[Term], found: Sequence[Sequence[Query | None]]) -> list[Query]:
    """The queries of one name, or the one query of a sum; none where a picture of the sum could not be read.

    Raises
    ------
    InputError
        A term of a sum is several queries.
    """
    if len(terms) == 1:
        return [query for query in found[0] if query is not None]
    several = next((term for term, each in zip(terms, found, strict=True) if len(each) != 1), None)
    if several is not None:
        raise InputError(f"query: {several.name} is several vectors, and a term of a sum is one. Take one row of it.")
    queries = [query for (query,) in found if query is not None]
    return [sum_of(terms, queries)] if len(queries) == len(terms) else []


def sum_of(terms: Sequence[Term], queries: Sequence[Query]) -> Query:
    """One query of several.

    Parameters
    ----------
    terms : sequence of Term
    queries : sequence of Query
        One of each term.

    Raises
    ------
    InputError
        The terms cancel out.
    """
    total = np.zeros(len(queries[0].vector))
    for term, query in zip(terms, queries, strict=True):
        total += term.sign * query.vector / np.linalg.norm(query.vector)
    length = float(np.linalg.norm(total))
    name = terms[0].name + "".join(f" {'+' if term.sign > 0 else '-'} {term.name}" for term in terms[1:])
    if length < 1e-3:
        raise InputError(f"query: {name}: these queries cancel out, and nothing is left to search with.")
    pictured = next((query for query in queries if query.row), queries[0])
    file = next((query.file for query in queries if query.file is not None), None)
    return Query(name, "sum", np.asarray(total / length, np.float32), file, pictured.row)
