"""What a request asks for: which records, in which order, with which fields, from where on (OneRoster 1.1 §3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from roster_store.oneroster.conditions import Parameters, fill_key, find_since, shows_removed, write_condition
from roster_store.oneroster.errors import refuse_filter, refuse_parameter
from roster_store.oneroster.faces import Face
from roster_store.oneroster.fields import Field, Kind, Shape
from roster_store.oneroster.filters import Filter, FilterError, is_path, parse_filter
from roster_store.oneroster.versions import Version

MAX_LIMIT: Final = 10_000
DEFAULT_LIMIT: Final = 100
EVERYTHING: Final = "true"
"""The condition of what belongs to nothing in particular."""
_DIRECTIONS: Final = {"": "ASC", "asc": "ASC", "acs": "ASC", "desc": "DESC", "dsc": "DESC"}
"""`acs` is how the published OpenAPI document of 1.1 spells it; `dsc` is seen in consumers."""
_NOTHING: Final[dict[Kind, str]] = {
    "text": "''",
    "flag": "false",
    "day": "'0001-01-01'::date",
    "moment": "'epoch'::timestamptz",
}


@dataclass(frozen=True, slots=True)
class Query:
    """What stands after the question mark, as far as it was read."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    sort: str | None = None
    order_by: str = ""
    filter: str | None = None
    fields: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What of a request was not heeded: the answer is right without it (1.1's success with a warning)."""

    minor: str
    description: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A list that was asked for, but for what it belongs to."""

    face: Face
    shape: Shape
    fields: tuple[Field, ...]
    wanted: Filter | None
    since: datetime | None
    """The moment since which all of it was modified, if the filter says so."""
    sort: str | None
    """The path it is sorted by; None for the order of ids."""
    direction: str
    notices: tuple[Notice, ...]

    def write_where(self, bind: Parameters) -> str:
        """The condition that its records fulfil. Raises `Refusal`."""
        conditions = [self.face.condition]
        if self.wanted is None or not shows_removed(self.wanted):
            conditions.append("held.active")
        if self.wanted is not None:
            try:
                conditions.append(f"({write_condition(self.wanted, self.shape, bind)})")
            except FilterError as error:
                raise refuse_filter(error) from None
        return " AND ".join(conditions)

    def write_order(self, bind: Parameters) -> str:
        """What it is sorted by: what is missing comes last both ways, what is equal in the order of ids."""
        leaf = self.shape.find_leaf(self.sort) if self.sort else None
        if leaf is None or leaf.order is None:
            return f"held.sourced_id {self.direction}"
        value = fill_key(leaf, leaf.order, bind)
        kind: Kind = "text" if leaf.kind == "texts" else leaf.kind
        compared = f"coalesce(({value}), {_NOTHING[kind]})" + (' COLLATE "C"' if kind == "text" else "")
        return f"(({value}) IS NULL), {compared} {self.direction}, held.sourced_id {self.direction}"


def read_listing(query: Query, face: Face, version: Version) -> Listing:
    """What a query asks of a face. Raises `Refusal` for what can't be honoured and must not be ignored."""
    shape = version.shapes[face.collection]
    fields, notices = read_fields(query.fields, shape, version)
    wanted = None
    if query.filter is not None:
        try:
            wanted = parse_filter(query.filter)
            write_condition(wanted, shape, Parameters())
            since = find_since(wanted)
        except FilterError as error:
            raise refuse_filter(error) from None
    else:
        since = None
    direction = _DIRECTIONS.get(query.order_by.lower())
    if direction is None:
        raise refuse_parameter("orderBy", "asc or desc.")
    sort = query.sort
    if sort is not None and not _can_sort(sort, shape):
        notices += (Notice("invalid_sort_field", f"Not sorted: there is no such field in {face.collection}."),)
        sort, direction = None, "ASC"
    return Listing(
        face=face,
        shape=shape,
        fields=fields,
        wanted=wanted,
        since=since,
        sort=None if sort == "sourcedId" else sort,
        direction=direction,
        notices=notices,
    )


def read_fields(text: str | None, shape: Shape, version: Version) -> tuple[tuple[Field, ...], tuple[Notice, ...]]:
    """The fields asked for; all of them if one is unknown, and a notice, as the standard has it."""
    if text is None:
        return shape.pick(None), ()
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise refuse_parameter("fields", "a name is blank.", status=400, minor=version.blank_fields)
    if any(name not in shape.fields for name in names):
        return shape.pick(None), (Notice("invalid_selection_field", "All fields are shown: one asked for is none."),)
    return shape.pick(dict.fromkeys(names)), ()


def _can_sort(path: str, shape: Shape) -> bool:
    leaf = shape.find_leaf(path) if is_path(path) else None
    return leaf is not None and leaf.order is not None


@dataclass(frozen=True, slots=True)
class Statement:
    """The records of a listing in one integration, as SQL: condition, order, and the values of both."""

    view: str
    where: str
    direction: str
    order: str | None
    """None for the order of ids."""
    values: tuple[Any, ...]
    """The condition's."""
    order_values: tuple[Any, ...] = ()
    """The order's, numbered behind them."""
    is_selective: bool = False
    """Whether it holds but a few of what lies between two of its ids, as far as that is known."""

    @property
    def is_descending(self) -> bool:
        """Whether it runs from the last to the first."""
        return self.direction == "DESC"


def write_statement(listing: Listing, belonging: str, bind: Parameters) -> Statement:
    """The listing's SQL; `belonging` is a further condition, whose values are bound already."""
    where = f"{belonging} AND {listing.write_where(bind)}"
    count = len(bind.values)
    order = listing.write_order(bind) if listing.sort else None
    values = tuple(bind.values)
    is_selective = listing.wanted is not None or belonging != EVERYTHING
    return Statement(listing.face.view, where, listing.direction, order, values[:count], values[count:], is_selective)
