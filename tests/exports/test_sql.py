"""The script for PostgreSQL as text; what it does is tested on a server, in tests/stores."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isomix._affine import AffineMap
from isomix.errors import InputError
from isomix.exports.sql import sql_scripts
from isomix.exports.sql_names import MAX_NAME_BYTES, TableName, identifier, literal, table_name

RECORD = {"method": "isoclip", "modality": "image", "fingerprint": "0" * 64, "source": {"model": "hf:a/b"}}
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=15)


def unquoted(text: str, quote: str) -> str:
    assert text[0] == text[-1] == quote
    inside = text[1:-1]
    assert quote not in inside.replace(quote * 2, "")
    return inside.replace(quote * 2, quote)


@given(names)
def test_quoted_names_and_strings_end_where_they_should(name):
    assert unquoted(identifier(name), '"') == name
    assert unquoted(literal(name), "'") == name


@given(names, names)
def test_a_table_is_read_back(schema, name):
    assert table_name(str(TableName(schema, name))) == (schema, name)


@pytest.mark.parametrize("name", ["", "x" * 64, "ä" * 32, "a\0b", "\udcff"])
def test_names_that_postgresql_cannot_have(name):
    with pytest.raises(InputError, match=f"expected 1 to {MAX_NAME_BYTES} bytes"):
        identifier(name)


@pytest.mark.parametrize("text", ["", "a.b.c", '"a', 'a"b', ".a", "a."])
def test_no_table(text):
    with pytest.raises(InputError, match=r"expected 'table' or 'schema\.table'"):
        table_name(text)


@given(names, names, names, st.sampled_from(["$isomix$", "$isomix1$ $isomix$", "\n\\! x\n", "*/"]))
def test_hostile_names_stay_inside_their_quotes(table, column, key, nasty):
    """Without dollar quotes, quoted names, strings and comments, nothing but the script's own words is left."""

    def bare(*words: str) -> str:
        scripts = sql_scripts(
            AffineMap(np.eye(2)), RECORD, TableName("s", words[0]), words[1], key=words[2], schema="own"
        )
        text = scripts.install + scripts.undo
        quoted = r"--[^\n]*|(\$isomix\d*\$).*?\1|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
        return re.sub(quoted, "Q", text, flags=re.DOTALL)

    assert bare(table + nasty, column + nasty, key + nasty) == bare("t", "c", "k")


def test_numbers_come_back_as_they_were():
    weight = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    text = sql_scripts(
        AffineMap(weight.astype(float), np.array([0.1, 0, -1 / 3])), RECORD, TableName("s", "t"), "c"
    ).install
    rows = re.findall(r"\((\d), '\[([^]]*)\]', ([^)]*)\)", text)
    assert [int(number) for number, _, _ in rows] == [0, 1, 2]
    assert np.array_equal(np.array([values.split(",") for _, values, _ in rows], np.float32), weight)
    assert [float(bias) for _, _, bias in rows] == [0.1, 0, -1 / 3]


def test_too_wide_for_an_index():
    wide = AffineMap(np.zeros((2001, 3)))
    with pytest.raises(InputError, match="or take --halfvec"):
        sql_scripts(wide, RECORD, TableName("s", "t"), "c")
    assert "USING hnsw" in sql_scripts(wide, RECORD, TableName("s", "t"), "c", halfvec=True).install
    assert "USING hnsw" not in sql_scripts(wide, RECORD, TableName("s", "t"), "c", index=False).install


def test_the_command(cli, tmp_path):
    script, undo = tmp_path / "adapt.sql", tmp_path / "undo.sql"
    words = ("export", "sql", "--table", 'my."odd.name"', "--column", "Vec", "--model", "embedded")
    code, out, err = cli(*words, "-o", script, "--undo", undo)
    assert code == 0 and err == ""
    assert undo.read_text() in out + "\n" and 'ON "my"."odd.name"' in undo.read_text()
    code, printed, err = cli(*words)
    assert code == 0 and printed == script.read_text() and undo.read_text().strip() in err
    assert cli(*words, "-o", script)[0] == 2  # exists already
    assert cli(*words, "--space", "x.safetensors")[0] == 2
    assert cli("export", "sql", "--table", "t", "--model", "embedded")[0] == 2
    code, _, err = cli(*words, "--band", "auto")
    assert code == 2 and "--images" in err
