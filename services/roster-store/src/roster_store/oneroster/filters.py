"""OneRoster's filters: a text becomes predicates, or an error that says at which character it went wrong (F1).

    filter    = group *(" OR " group)
    group     = predicate *(" AND " predicate)
    predicate = path operator value
    path      = field *("." name)            familyName, school.sourcedId, metadata.frl-status
    operator  = "=" / "!=" / ">" / ">=" / "<" / "<=" / "~"
    value     = "'" any characters, an inner quote doubled "'"

OneRoster 1.1 §3.4.3 allows two predicates. Up to `MAX_PREDICATES` are taken here, AND before OR, as ClassLink does.
Nothing is looked up in this file: whether there is such a field is for `roster_store.oneroster.conditions`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, cast

MAX_FILTER: Final = 2_000
"""Longest filter, in characters."""
MAX_PREDICATES: Final = 10

Operator = Literal["=", "!=", ">", ">=", "<", "<=", "~"]

_PATH = re.compile(r"[A-Za-z]\w*(?:\.[^\s=!<>~'\x00-\x1f\x7f]+)?", re.ASCII)
_OPERATOR = re.compile(r"!=|>=|<=|=|>|<|~")
_VALUE = re.compile(r"'((?:[^']|'')*)'")
_JUNCTION = re.compile(r" +(AND|OR) +")
_SPACES = re.compile(r" *")
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")
_EXCERPT: Final = 20


class FilterError(ValueError):
    """A filter that is none, or asks for what can't be compared. `position` counts characters from 1."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"At character {position}: {reason}")
        self.position = position
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Predicate:
    """One comparison. The positions are for errors that are found later; they don't count when filters are compared."""

    path: str
    operator: Operator
    value: str
    path_at: int = field(default=1, compare=False)
    operator_at: int = field(default=1, compare=False)
    value_at: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Filter:
    """Groups of predicates: a record fits if all predicates of one group hold."""

    groups: tuple[tuple[Predicate, ...], ...]

    @property
    def paths(self) -> frozenset[str]:
        """Every path that is compared."""
        return frozenset(predicate.path for group in self.groups for predicate in group)

    def __str__(self) -> str:
        """The filter as a text that parses to the same filter."""
        return " OR ".join(" AND ".join(map(_print, group)) for group in self.groups)


def is_path(text: str) -> bool:
    """Whether a text may stand for a field in a filter, and after `sort`."""
    return _PATH.fullmatch(text) is not None and _UNFIT.search(text) is None


def parse_filter(text: str) -> Filter:
    """The predicates of a filter. Raises `FilterError`, and nothing else whatever the text."""
    if len(text) > MAX_FILTER:
        raise FilterError(MAX_FILTER + 1, f"a filter may have {MAX_FILTER:,} characters.")
    if unfit := _UNFIT.search(text):
        raise FilterError(unfit.start() + 1, "this character can't stand in a filter.")
    groups: list[list[Predicate]] = [[]]
    at, count = _skip(text, 0), 0
    while True:
        count += 1
        if count > MAX_PREDICATES:
            raise FilterError(at + 1, f"a filter may have {MAX_PREDICATES} comparisons.")
        predicate, at = _read_predicate(text, at)
        groups[-1].append(predicate)
        junction = _JUNCTION.match(text, at)
        if junction is None:
            break
        if junction[1] == "OR":
            groups.append([])
        at = junction.end()
    at = _skip(text, at)
    if at < len(text):
        raise FilterError(at + 1, f"expected AND or OR between spaces, or the end, not {_excerpt(text, at)}.")
    return Filter(tuple(map(tuple, groups)))


def _read_predicate(text: str, at: int) -> tuple[Predicate, int]:
    path = _expect(_PATH, text, at, "the name of a field")
    sign_at = _skip(text, path.end())
    sign = _expect(_OPERATOR, text, sign_at, "one of = != > >= < <= ~")
    value_at = _skip(text, sign.end())
    if text[value_at : value_at + 1] == "'" and _VALUE.match(text, value_at) is None:
        raise FilterError(value_at + 1, "the quotation that begins here does not end; a quote inside is doubled: ''.")
    value = _expect(_VALUE, text, value_at, "a value between single straight quotes (')")
    operator = cast("Operator", sign[0])
    predicate = Predicate(path[0], operator, value[1].replace("''", "'"), at + 1, sign_at + 1, value_at + 1)
    return predicate, value.end()


def _expect(pattern: re.Pattern[str], text: str, at: int, what: str) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise FilterError(at + 1, f"expected {what}, not {_excerpt(text, at)}.")
    return found


def _skip(text: str, at: int) -> int:
    found = _SPACES.match(text, at)
    return at if found is None else found.end()


def _excerpt(text: str, at: int) -> str:
    """What stands there, for the error: only a sign or a bare word, for values are people's."""
    if at >= len(text):
        return "the end"
    word = re.compile(r"\w+", re.ASCII).match(text, at)
    return f"“{word[0][:_EXCERPT]}”" if word else f"“{text[at] if text[at].isprintable() else '?'}”"


def _print(predicate: Predicate) -> str:
    return f"{predicate.path}{predicate.operator}'{predicate.value.replace(chr(39), chr(39) * 2)}'"
