"""A filter as a condition in SQL, with each value as a parameter of the type of its field.

Missing values equal nothing and are unequal to everything. Of a list it is enough that one element compares (`!=`:
that none is equal). Texts are compared by code points, as OneRoster 1.2 has it; `~` looks for a part of a text and
takes no heed of upper and lower case.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, Final

from roster_store.oneroster.fields import Kind, Leaf, Shape
from roster_store.oneroster.filters import Filter, FilterError, Predicate

_LEFT_ABOUT: Final = frozenset({"status", "dateLastModified"})
_EXACT: Final = ("=", "!=")
_FLAGS: Final = {"true": True, "false": False}


class Parameters:
    """The values of a statement, in the order of their numbers."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def bind(self, value: Any, kind: str = "text") -> str:
        """Take a value in; what stands for it in the SQL."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}"


def shows_removed(wanted: Filter) -> bool:
    """Whether a list holds removed records: only if the filter asks by what tells them apart."""
    return not _LEFT_ABOUT.isdisjoint(wanted.paths)


def find_since(wanted: Filter) -> datetime | None:
    """The moment since which whatever fits the filter was modified; None if it may be older than any."""
    if len(wanted.groups) != 1:
        return None
    moments = [
        read_moment(predicate)
        for predicate in wanted.groups[0]
        if predicate.path == "dateLastModified" and predicate.operator in (">", ">=")
    ]
    return max(moments, default=None)


def write_condition(wanted: Filter, shape: Shape, bind: Parameters) -> str:
    """The filter as SQL. Raises `FilterError` for a field that is not there, or can't be compared like that."""
    return " OR ".join(
        f"({' AND '.join(_compare(predicate, shape, bind) for predicate in group)})" for group in wanted.groups
    )


def _compare(predicate: Predicate, shape: Shape, bind: Parameters) -> str:
    leaf = shape.find_leaf(predicate.path)
    if leaf is None:
        raise FilterError(predicate.path_at, _explain_missing(predicate.path, shape))
    sql = fill_key(leaf, leaf.sql, bind)
    return _COMPARISONS[leaf.kind](predicate, sql, bind)


def fill_key(leaf: Leaf, sql: str, bind: Parameters) -> str:
    """A leaf's SQL with its key as a parameter."""
    return sql if leaf.key is None else sql.replace("{key}", bind.bind(leaf.key))


def _explain_missing(path: str, shape: Shape) -> str:
    name = path.partition(".")[0]
    found = shape.fields.get(name)
    if found is None:
        return f"there is no field {name} to filter by."
    paths = ", ".join(f"{name}.{rest}" if rest else name for rest in found.leaves if rest != "*") or "metadata.KEY"
    return f"{path} can't be compared; ask for {paths}."


def _compare_text(predicate: Predicate, sql: str, bind: Parameters) -> str:
    value = bind.bind(predicate.value)
    match predicate.operator:
        case "=":
            return f"{sql} = {value}"
        case "!=":
            return f"{sql} IS DISTINCT FROM {value}"
        case "~":
            return _contains(sql, value)
        case sign:
            return f'({sql}) COLLATE "C" {sign} {value}'


def _contains(sql: str, value: str) -> str:
    return f'strpos(lower(({sql}) COLLATE "default"), lower({value})) > 0'


def _compare_texts(predicate: Predicate, sql: str, bind: Parameters) -> str:
    value = bind.bind(predicate.value)
    match predicate.operator:
        case "=":
            return f"coalesce({value} = ANY (({sql})::text[]), false)"
        case "!=":
            return f"NOT coalesce({value} = ANY (({sql})::text[]), false)"
        case "~":
            compared = _contains("part", value)
        case sign:
            compared = f'part COLLATE "C" {sign} {value}'
    return f"EXISTS (SELECT FROM unnest({sql}) AS part WHERE {compared})"


def _compare_flag(predicate: Predicate, sql: str, bind: Parameters) -> str:
    _allow(predicate, _EXACT, "true or false")
    if predicate.value not in _FLAGS:
        raise FilterError(predicate.value_at, f"{predicate.path} is 'true' or 'false'.")
    sign = "IS DISTINCT FROM" if predicate.operator == "!=" else "="
    return f"{sql} {sign} {bind.bind(_FLAGS[predicate.value], 'boolean')}"


def _compare_day(predicate: Predicate, sql: str, bind: Parameters) -> str:
    return _compare_time(predicate, sql, bind.bind(_read_day(predicate), "date"))


def _compare_moment(predicate: Predicate, sql: str, bind: Parameters) -> str:
    return _compare_time(predicate, sql, bind.bind(read_moment(predicate), "timestamptz"))


def _compare_time(predicate: Predicate, sql: str, value: str) -> str:
    _allow(predicate, (*_EXACT, ">", ">=", "<", "<="), "a date")
    return f"{sql} {'IS DISTINCT FROM' if predicate.operator == '!=' else predicate.operator} {value}"


def _allow(predicate: Predicate, operators: tuple[str, ...], what: str) -> None:
    if predicate.operator not in operators:
        raise FilterError(
            predicate.operator_at, f"{predicate.path} is {what} and can't be compared by {predicate.operator}."
        )


def _read_day(predicate: Predicate) -> date:
    """A date; of a date-time its date, as it is written."""
    try:
        return datetime.fromisoformat(predicate.value).date()
    except ValueError:
        raise FilterError(predicate.value_at, f"{predicate.path} is a date like '2026-08-31'.") from None


def read_moment(predicate: Predicate) -> datetime:
    """A moment in any ISO 8601 spelling; without an offset it is UTC. Raises `FilterError`."""
    try:
        moment = datetime.fromisoformat(predicate.value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        what = f"{predicate.path} is a date and time like '2026-01-31T05:00:00.000Z'."
        raise FilterError(predicate.value_at, what) from None


_COMPARISONS: Final[dict[Kind, Callable[[Predicate, str, Parameters], str]]] = {
    "text": _compare_text,
    "texts": _compare_texts,
    "flag": _compare_flag,
    "day": _compare_day,
    "moment": _compare_moment,
}
