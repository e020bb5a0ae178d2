"""Lines of CSV that a spreadsheet shows as they are, whatever somebody wrote into a name (failure catalogue C5, X17).

A cell that a spreadsheet would take for a formula gets an apostrophe before it. That is a cell whose first visible
character is `=`, `+`, `-`, `@` or one of their full-width kin, or that begins with a tab or line break. The same is
done behind semicolons, tabs and line breaks within a cell: where lists are separated by semicolons, Excel begins a new
cell there whatever the quotes say.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

import msgspec

BYTE_ORDER_MARK = "\ufeff"
"""Without it Excel takes UTF-8 for the encoding of the country it was sold in."""

_FORMULA = frozenset("=+-@\N{MINUS SIGN}")
_INNER = re.compile(r"[;\t\r\n]")
_encode = msgspec.json.Encoder(order="deterministic").encode


def render_lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV (RFC 4180): commas, CRLF, quotes where needed; every cell made harmless."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerows([defuse(render_cell(value)) for value in row] for row in rows)
    return buffer.getvalue()


def render_cell(value: object) -> str:
    """A value of a record as text: nothing for what is missing, lists of words by commas, what is nested as JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case list() if all(isinstance(one, str) for one in value):
            return ", ".join(value)
        case _:
            return _encode(value).decode()


def defuse(text: str) -> str:
    """The text, with an apostrophe before whatever a spreadsheet would run.

    >>> defuse("=1+1"), defuse("a; @b"), defuse("Ada-Lovelace")
    ("'=1+1", "a;' @b", 'Ada-Lovelace')
    """
    if not _INNER.search(text):
        return f"'{text}" if _is_formula(text) else text
    parts = re.split(r"([;\t\r\n])", text)
    safe = "".join(f"'{part}" if _is_formula(part) else part for part in parts)
    return f"'{safe}" if text[0] in "\t\r\n" else safe


def _is_formula(text: str) -> bool:
    """Whether the first character one can see begins a formula."""
    for character in text:
        if character.isalnum():
            return False
        if character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Zs", "Mn"):
            continue
        return unicodedata.normalize("NFKC", character)[:1] in _FORMULA
    return False
