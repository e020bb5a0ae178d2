"""OneRoster's filter grammar: `field op 'value'`, two of them joined by AND or OR."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandbox_district.records import Record, format_instant

Predicate = Callable[[Record], bool]
_COMPARISON = r"([\w.]+)\s*(!=|>=|<=|=|>|<|~)\s*'((?:[^']|'')*)'"
_FILTER = re.compile(rf"\s*{_COMPARISON}(?:\s+(AND|OR)\s+{_COMPARISON})?\s*")
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda is_, wanted: is_ == wanted,
    "!=": lambda is_, wanted: is_ != wanted,
    ">": lambda is_, wanted: is_ > wanted,
    ">=": lambda is_, wanted: is_ >= wanted,
    "<": lambda is_, wanted: is_ < wanted,
    "<=": lambda is_, wanted: is_ <= wanted,
    "~": lambda is_, wanted: wanted.lower() in is_.lower(),
}


def read_filter(text: str, is_known: Callable[[str], bool]) -> Predicate:
    """A filter as a predicate. Of a list it is enough that one element matches.

    Raises:
        ValueError: the text is no filter, or names a field that no record of the collection has.
    """
    parts = _FILTER.fullmatch(text)
    if parts is None:
        raise ValueError("The filter is not understood: field op 'value', at most two, joined by AND or OR.")
    field, operator, value, junction, other_field, other_operator, other_value = parts.groups()
    first = _compare(field, operator, value, is_known)
    if junction is None:
        return first
    second = _compare(other_field, other_operator, other_value, is_known)
    if junction == "AND":
        return lambda record: first(record) and second(record)
    return lambda record: first(record) or second(record)


def list_fields(text: str) -> set[str]:
    """The fields a filter names, without what follows their dots."""
    parts = _FILTER.fullmatch(text)
    return {field.partition(".")[0] for field in (parts[1], parts[5]) if field} if parts else set()


def read_path(record: Record, path: str) -> list[str]:
    """The values at a dotted path, as the text they are compared by."""
    if isinstance(value := record.get(path), str):  # most are, and whole collections are sorted by them
        return [value]
    values: list[Any] = [record]
    for name in path.split("."):
        values = [value.get(name) for value in values if isinstance(value, dict)]
        values = [inner for value in values for inner in (value if isinstance(value, list) else [value])]
    return [_spell(value) for value in values if value is not None]


def _compare(field: str, operator: str, value: str, is_known: Callable[[str], bool]) -> Predicate:
    if not is_known(field.partition(".")[0]):
        raise ValueError(f"The filter names a field that does not exist: {field}.")
    compare, wanted = _OPERATORS[operator], value.replace("''", "'")
    if field == "dateLastModified" and operator != "~":
        wanted = _spell_instant(wanted)
    if operator == "!=":
        return lambda record: wanted not in read_path(record, field)
    return lambda record: any(compare(is_, wanted) for is_ in read_path(record, field))


def _spell_instant(text: str) -> str:
    """A moment in whatever precision and zone it is asked for by, as records have it; other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return format_instant(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
