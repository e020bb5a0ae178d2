"""Records that are sent otherwise than the books have them: masked, misspelled, or not to be understood."""

import heapq
from collections.abc import Callable
from typing import Any, Literal

from typing_extensions import override

from sandbox_district.faults.fault import Fault
from sandbox_district.records import Record


class NullMetadata(Fault, frozen=True, kw_only=True):
    """metadata is null."""

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [row | {"metadata": None} if isinstance(row, dict) else row for row in rows]


class StringBooleans(Fault, frozen=True, kw_only=True):
    """Booleans are the strings "true" and "false"."""

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [_spell_booleans(row) for row in rows]


class BothRoles(Fault, frozen=True, kw_only=True):
    """Users have OneRoster 1.2's roles beside 1.1's role and orgs."""

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [row | {"roles": _list_roles(row)} if isinstance(row, dict) and "orgs" in row else row for row in rows]


class Masked(Fault, frozen=True, kw_only=True):
    """Some fields are masked at the source, or withheld if there is no mask."""

    fields: tuple[str, ...] = ("email",)
    mask: str | None = "*****"

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [self._cover(row) if isinstance(row, dict) else row for row in rows]

    def _cover(self, row: Record) -> Record:
        shown = {name: self.mask if name in self.fields else value for name, value in row.items()}
        return {name: value for name, value in shown.items() if name not in self.fields or value is not None}


class FullNames(Fault, frozen=True, kw_only=True):
    """Clever's contacts have their whole name in the last name, and no first name."""

    path: str = "/clever/users"

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [self._join(row) if isinstance(row, dict) and "contact" in row.get("roles", ()) else row for row in rows]

    def _join(self, row: Record) -> Record:
        return row | {"name": {"first": "", "last": f"{row['name']['first']} {row['name']['last']}"}}


class BadRecords(Fault, frozen=True, kw_only=True):
    """The first records of a collection, by sourcedId, cannot be understood; in turn in each of four ways if mixed."""

    rows: int = 3
    how: Literal["mixed", "no_id", "unknown_role", "null_reference", "no_object"] = "mixed"

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        ways = list(_WAYS) if self.how == "mixed" else [self.how]
        chosen = {key: ways[number % len(ways)] for number, key in enumerate(heapq.nsmallest(self.rows, books))}
        return [
            _WAYS[chosen[_name_row(row)]](row) if isinstance(row, dict) and _name_row(row) in chosen else row
            for row in rows
        ]


def _spell_booleans(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return {name: _spell_booleans(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_spell_booleans(inner) for inner in value]
    return value


def _list_roles(user: Record) -> list[Record]:
    return [
        {"roleType": "primary" if number == 0 else "secondary", "role": user["role"], "org": org}
        for number, org in enumerate(user["orgs"])
    ]


def _name_row(row: Record) -> Any:
    return row.get("sourcedId", row.get("id"))


def _drop_id(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in {"sourcedId", "id"}}


def _confuse_role(record: Record) -> Record:
    name = next((name for name in ("role", "type") if name in record), None)
    return record | {name: "wizard"} if name else _drop_id(record)


def _null_reference(record: Record) -> Record:
    name = next((name for name in ("user", "course", "orgs", "school", "org", "parent") if name in record), None)
    return record | {name: None} if name else _drop_id(record)


_WAYS: dict[str, Callable[[Record], Any]] = {
    "no_id": _drop_id,
    "unknown_role": _confuse_role,
    "null_reference": _null_reference,
    "no_object": lambda record: f"{_name_row(record)} is not an object",
}
