"""What a field of OneRoster is: how it is written from a row of a view, and how it is compared and sorted by.

Both stand side by side, so that a filter sees what a reader sees. The SQL is about `held`, a row of a view in
`roster_served`; values never stand in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

from roster_store.tables import SQL

Kind = Literal["text", "texts", "flag", "day", "moment"]
REFERENCE_PATHS: Final = {
    "org": "orgs",
    "academicSession": "academicSessions",
    "course": "courses",
    "class": "classes",
    "user": "users",
}
"""What a reference is to → the collection its address is in."""


_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+").fullmatch


class Row(Protocol):
    """A row of a view, or a mapping in its place."""

    def __getitem__(self, name: str, /) -> Any:
        """A column's value."""
        ...


Write = Callable[[Row, str], Any]
"""(row, base URL) → what stands in JSON; None for nothing."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value a filter can compare. `key` is what the SQL's `{key}` stands for, and is passed as a parameter."""

    kind: Kind
    sql: str
    order: str | None = None
    """By what it is sorted; None if it is no scalar."""
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record."""

    name: str
    write: Write
    leaves: Mapping[str, Leaf]
    """What can be compared: "" is the field itself, other names follow a dot."""
    columns: Mapping[str, str]
    """What has to be read: the name in the row → its SQL."""


class Shape:
    """All fields of a collection's records in one version of OneRoster."""

    def __init__(self, *fields: Field) -> None:
        self.fields = {field.name: field for field in fields}

    def find_leaf(self, path: str) -> Leaf | None:
        """What a path of a filter is about; None if there is no such field. All after `metadata.` is one key."""
        name, _, rest = path.partition(".")
        found = self.fields.get(name)
        if found is None:
            return None
        if name == "metadata" and rest:
            return Leaf(found.leaves["*"].kind, found.leaves["*"].sql, found.leaves["*"].order, key=rest)
        return None if rest == "*" else found.leaves.get(rest)

    def pick(self, names: Iterable[str] | None) -> tuple[Field, ...]:
        """Some of the fields, or all."""
        return tuple(self.fields.values()) if names is None else tuple(self.fields[name] for name in names)


def list_columns(fields: Sequence[Field]) -> str:
    """What has to be selected for these fields, and each row's id."""
    columns = {"sourced_id": _held("sourced_id")}
    for field in fields:
        columns.update(field.columns)
    return ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())


def write_records(rows: Sequence[Row], fields: Sequence[Field], base: str) -> list[dict[str, Any]]:
    """The rows in JSON. What is missing is left out, for a null trips strict clients."""
    writers = [(field.name, field.write) for field in fields]
    return [{name: value for name, write in writers if (value := write(row, base)) is not None} for row in rows]


def refer(base: str, kind: str, sourced_id: str | None) -> dict[str, str] | None:
    """A reference to another record; None if it is to nothing, or to what may not be seen."""
    if not sourced_id:
        return None
    return {
        "href": f"{base}/{REFERENCE_PATHS[kind]}/{sourced_id if _PLAIN(sourced_id) else quote(sourced_id, safe='')}",
        "sourcedId": sourced_id,
        "type": kind,
    }


def _held(column: str) -> str:
    return f'held."{column}"'


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name)


def _plain(name: str, column: str, write: Write, kind: Kind, sql: str) -> Field:
    return Field(name, write, {"": Leaf(kind, sql, sql)}, {column: _held(column)})


# ── the kinds of fields there are ─────────────────────────────────────────────────────────────────────────────────


def text(name: str, column: str | None = None) -> Field:
    """A text that may be missing."""
    column = column or _snake(name)
    return _plain(name, column, lambda row, _: row[column], "text", _held(column))


def required_text(name: str, column: str | None = None) -> Field:
    """A text that the standard requires: empty where there is none."""
    column = column or _snake(name)
    return _plain(name, column, lambda row, _: row[column] or "", "text", f"coalesce({_held(column)}, '')")


def word(name: str, column: str | None = None, *, known: tuple[str, ...] = ()) -> Field:
    """A word of an enumeration: left out where it is blank, or none of `known`."""
    column = column or _snake(name)
    if not known:
        return _plain(name, column, lambda row, _: row[column] or None, "text", f"nullif({_held(column)}, '')")
    listed = ", ".join(f"'{one}'" for one in known)
    sql = f"CASE WHEN {_held(column)} IN ({listed}) THEN {_held(column)} END"
    return _plain(name, column, lambda row, _: row[column] if row[column] in known else None, "text", sql)


def translated_word(name: str, column: str, translate: Callable[[str], str], sql: str) -> Field:
    """A word that this version of the standard has another word for; `sql` says the same as `translate`."""
    written = cache(translate)
    return _plain(name, column, lambda row, _: written(row[column]) if row[column] else None, "text", sql)


def texts(name: str, column: str | None = None) -> Field:
    """A list of texts."""
    column = column or _snake(name)
    leaf = Leaf("texts", _held(column))
    return Field(name, lambda row, _: row[column], {"": leaf}, {column: _held(column)})


def flag(name: str, column: str | None = None) -> Field:
    """A boolean."""
    column = column or _snake(name)
    return _plain(name, column, lambda row, _: row[column], "flag", _held(column))


_FLAG_WORDS: Final[Mapping[bool | None, str | None]] = {True: "true", False: "false", None: None}


def flag_text(name: str, column: str | None = None) -> Field:
    """A boolean that is written as text."""
    column = column or _snake(name)
    return _plain(name, column, lambda row, _: _FLAG_WORDS[row[column]], "flag", _held(column))


def day(name: str, column: str | None = None) -> Field:
    """A calendar date."""
    column = column or _snake(name)
    return _plain(name, column, lambda row, _: _write_day(row[column]), "day", _held(column))


def _write_day(value: date | None) -> str | None:
    return value.isoformat() if value else None


def reference(name: str, kind: str, column: str | None = None, *, sql: str | None = None) -> Field:
    """A reference to another record; `sql` where it is more than a column."""
    column = column or f"{_snake(name)}_sourced_id"
    source = sql or _held(column)
    leaf = f"nullif({source}, '')"
    return Field(
        name,
        lambda row, base: refer(base, kind, row[column]),
        {"sourcedId": Leaf("text", leaf, leaf)},
        {column: source},
    )


def references(name: str, kind: str, column: str) -> Field:
    """References to other records."""
    return Field(
        name,
        lambda row, base: [refer(base, kind, sourced_id) for sourced_id in row[column]],
        {"sourcedId": Leaf("texts", _held(column))},
        {column: _held(column)},
    )


def part(name: str, **words: str) -> str:
    """A named part of a statement, with SQL in the place of words in braces."""
    sql = "\n".join(line for line in SQL[name].rstrip(";").splitlines() if not line.startswith("--"))
    for word_, meaning in words.items():
        sql = sql.replace(f"{{{word_}}}", meaning)
    return sql


def elements(column: str, sql: str) -> str:
    """SQL for a list made of each element of a jsonb list, which `sql` calls `one`."""
    return part("elements", sql=sql, column=column)


# ── what every record has ─────────────────────────────────────────────────────────────────────────────────────────

_STATUS: Final = "CASE WHEN held.active THEN 'active' ELSE 'tobedeleted' END"
_MODIFIED: Final = "date_trunc('milliseconds', coalesce(held.changed_at, 'epoch'))"


@lru_cache(maxsize=4_096)  # whole steps share one
def _write_moment(value: datetime) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z"


def common(
    *, metadata: str = "held.metadata", programs: Callable[[Row], dict[str, Any]] | None = None
) -> tuple[Field, ...]:
    """`sourcedId`, `status`, `dateLastModified` and `metadata`.

    `dateLastModified` is when Homeroom last changed the record. `programs` are further entries of the metadata, which
    what the provider sent goes before; `metadata` is SQL for the same.
    """
    compared, order = part("metadata_values", metadata=metadata), part("metadata_value", metadata=metadata)

    def write(row: Row, _base: str) -> dict[str, Any]:
        return {**programs(row), **(row["metadata"] or {})} if programs else row["metadata"] or {}

    return (
        Field(
            "sourcedId",
            lambda row, _: row["sourced_id"],
            {"": Leaf("text", _held("sourced_id"), _held("sourced_id"))},
            {},
        ),
        Field(
            "status",
            lambda row, _: "active" if row["active"] else "tobedeleted",
            {"": Leaf("text", _STATUS, _STATUS)},
            {"active": "held.active"},
        ),
        Field(
            "dateLastModified",
            lambda row, _: _write_moment(row["modified"]),
            {"": Leaf("moment", _MODIFIED, _MODIFIED)},
            {"modified": _MODIFIED},
        ),
        Field("metadata", write, {"*": Leaf("texts", compared, order)}, {"metadata": _held("metadata")}),
    )
