"""OneRoster's filters as texts: what they mean, and what is said about those that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roster_store.oneroster.filters import (
    MAX_FILTER,
    MAX_PREDICATES,
    Filter,
    FilterError,
    Predicate,
    parse_filter,
)

OPERATORS = ("=", "!=", ">", ">=", "<", "<=", "~")
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
PATHS = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}(\.[A-Za-z0-9_.\- ]{0,3}[a-z])?", fullmatch=True).filter(
    lambda path: " " not in path
)
PREDICATES = st.builds(Predicate, path=PATHS, operator=st.sampled_from(OPERATORS), value=VALUES)


@given(st.lists(st.lists(PREDICATES, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple))
def test_a_printed_filter_parses_to_itself(groups: tuple[tuple[Predicate, ...], ...]) -> None:
    """Whatever is compared with whatever, quotes inside, the text of a filter means the filter."""
    assert parse_filter(str(Filter(groups))) == Filter(groups)


@given(st.text() | st.lists(st.sampled_from([*OPERATORS, "'", "''", "a", "a.b", " AND ", " OR ", " "])).map("".join))
def test_any_other_text_is_refused_with_its_place(text: str) -> None:
    """A text is a filter, or an error that points into it; nothing else is ever raised."""
    position = 1
    try:
        parse_filter(text)
    except FilterError as error:
        position = error.position
    assert 1 <= position <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        ("familyName", 11),
        ("familyName='Ek", 12),
        ("familyName=Ek", 12),
        ("familyName=\u2018Ek\u2019", 12),
        ("familyName=='Ek'", 12),
        ("(familyName='Ek')", 1),
        ("familyName='Ek' and role='x'", 17),
        ("familyName='Ek'AND role='x'", 16),
        ("familyName='Ek' AND ", 21),
        ("family\0Name='Ek'", 7),
        ("familyName='E\0k'", 14),
        (" OR ".join(["a='1'"] * (MAX_PREDICATES + 1)), 91),
        ("a" * (MAX_FILTER + 1), MAX_FILTER + 1),
    ],
)
def test_errors_name_the_character(text: str, position: int) -> None:
    """Each mistake is reported where it is, counted from 1."""
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert caught.value.position == position


def test_values_stay_out_of_errors() -> None:
    """An error names words of the grammar, never what somebody is looked for by."""
    with pytest.raises(FilterError) as caught:
        parse_filter("email='mila@north.example' XOR email='x'")
    assert "mila" not in str(caught.value)


def test_and_binds_closer_than_or() -> None:
    """Groups of AND are separated by OR."""
    parsed = parse_filter("a='1' AND b='2' OR c~'O''Neil'")
    assert [[predicate.value for predicate in group] for group in parsed.groups] == [["1", "2"], ["O'Neil"]]
