"""Lines of CSV that no spreadsheet runs."""

from __future__ import annotations

import csv
import io

import pytest

from roster_store.spreadsheets import defuse, render_cell, render_lines


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\tx", "\rx", "\nx", " =1", "\u00a0=1", "\u200b=1",
        "\ufeff=1", "\x1f=1", "\u0301=1",
        "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x", "\ufe661", "\ufe621", "\ufe631", "\ufe6bx", "\u207c1", "\u208c1",
        "\u22121",
    ],
)  # fmt: skip
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    """Whatever a spreadsheet might run, also in its full-width form or behind what cannot be seen, is made text."""
    assert defuse(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a;=1", "a;'=1"),
        ("a\n=1", "a\n'=1"),
        ("a\t@b;-c", "a\t'@b;'-c"),
        ("\n=1", "'\n'=1"),
    ],
)
def test_a_formula_behind_a_separator_gets_an_apostrophe(text: str, safe: str) -> None:
    """Where semicolons separate cells, what follows one within a cell is as dangerous as a cell's beginning."""
    assert defuse(text) == safe


@pytest.mark.parametrize(
    "text",
    ["", "Ada", "Ada-Lovelace", "O'Brien", "a=b", "1-2", "x@north.example", "{}", "Zoë 李", "5 + 5", "'", "a; b"],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Names, addresses and numbers that are no formulas are not touched."""
    assert defuse(text) == text


def test_lines_are_read_back_as_they_were() -> None:
    """Commas, quotes and line breaks survive; every line ends with CRLF."""
    row = ["a,b", 'say "hi"', "two\r\nlines", "", "Zoë\u2028李", "end"]
    text = render_lines([row, row])

    assert text.endswith("end\r\n")
    assert list(csv.reader(io.StringIO(text, newline=""))) == [row, row]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (["05", "06"], "05, 06"),
        ([], ""),
        ([{"role": "student", "orgSourcedId": "s1"}], '[{"orgSourcedId":"s1","role":"student"}]'),
        ({"b": 1, "a": None}, '{"a":null,"b":1}'),
    ],
)
def test_values_become_text(value: object, text: str) -> None:
    """Nothing for what is missing, words in a row, JSON for what is nested."""
    assert render_cell(value) == text
