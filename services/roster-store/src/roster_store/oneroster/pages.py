"""Pages of a listing over everything a caller sees, and single records, read through `Rosters.look` (F1, F3).

Integrations come one after the other, in their own order. A page is found by its offset, or goes on behind the record
that ended the one before it: that way nothing is missed or doubled when the roster changes in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Database
from roster_store.oneroster.conditions import Parameters
from roster_store.oneroster.errors import Refusal
from roster_store.oneroster.faces import Face, Relation
from roster_store.oneroster.fields import Field, list_columns
from roster_store.oneroster.listings import EVERYTHING, Listing, Statement, write_statement
from roster_store.oneroster.marks import (
    DISTANCE,
    Stretch,
    Survey,
    Surveys,
    SurveyTooLarge,
    survey_marks,
    survey_order,
)
from roster_store.sights import Rosters, Sight
from roster_store.tables import SQL

READ_SECONDS: Final = 30.0
"""Deadline of a single statement."""
_PREFETCH: Final = 5_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a page goes on behind: a record of an integration."""

    integration_id: UUID
    sourced_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, how many there are on all pages, and where the next one begins."""

    rows: list[asyncpg.Record]
    total: int
    more: bool
    end: Anchor | None
    """The last record, where the next page can go on behind it: in the order of ids."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A listing in one integration."""

    sight: Sight
    statement: Statement
    survey: Survey
    columns: str


class Reader:
    """Reads pages and records as a caller sees them."""

    def __init__(self, rosters: Rosters, database: Database, surveys: Surveys) -> None:
        self._rosters = rosters
        self._database = database
        self._surveys = surveys

    async def find_record(
        self, sights: Sequence[Sight], face: Face, sourced_id: str, fields: Sequence[Field]
    ) -> asyncpg.Record | None:
        """A record by its id, removed or not. Raises `Refusal` if several integrations have one."""
        columns = f"{list_columns(fields)}, held.active AS is_active"
        found = [
            row for sight in sights for row in await self._fetch_one(sight, face, sourced_id, columns, face.condition)
        ]
        return _choose_one([(row["is_active"], row) for row in found])

    async def find_holder(
        self, sights: Sequence[Sight], face: Face, sourced_id: str, condition: str = "true", *values: str
    ) -> Sight | None:
        """The integration that has a record, which others belong to. Raises `Refusal` if there are several.

        `condition` is a further one about the record; its values are numbered from 2.
        """
        both = f"{face.condition} AND {condition}"
        return _choose_one(
            [
                (row["is_active"], sight)
                for sight in sights
                for row in await self._fetch_one(sight, face, sourced_id, "held.active AS is_active", both, *values)
            ]
        )

    async def read_page(
        self,
        sights: Sequence[Sight],
        listing: Listing,
        relation: tuple[Relation, str] | None,
        *,
        offset: int,
        limit: int,
        anchor: Anchor | None = None,
    ) -> Page:
        """A page of a listing; `relation` is what its records belong to. Raises `Refusal`.

        With an anchor that can be used, the page begins behind it and not at the offset.
        """
        columns = list_columns(listing.fields)
        parts = [await self._survey(sight, listing, relation, columns) for sight in sights]
        rows: list[asyncpg.Record] = []
        owners: list[UUID] = []
        for part, place, after in _choose_places(parts, offset, anchor if listing.sort is None else None):
            wanted = limit + 1 - len(rows)
            if wanted <= 0:
                break
            got = await (
                self._read_at(part, place, wanted) if after is None else self._read_behind(part, after, wanted)
            )
            rows += got
            owners += [part.sight.integration_id] * len(got)
        total = sum(part.survey.total for part in parts)
        more = len(rows) > limit
        del rows[limit:]
        end = Anchor(owners[limit - 1], rows[-1]["sourced_id"]) if more and listing.sort is None else None
        return Page(rows, total, more, end)

    # ── what is remembered of a listing ───────────────────────────────────────────────────────────────────────────

    async def _survey(
        self, sight: Sight, listing: Listing, relation: tuple[Relation, str] | None, columns: str
    ) -> _Part:
        bind = Parameters()
        belonging = await self._relate(sight, relation, bind) if relation else EVERYTHING
        if listing.since is not None:
            belonging += f" AND {await self._narrow(sight, listing, bind)}"
        statement = write_statement(listing, belonging, bind)
        make = partial(self._make_survey, sight, statement)
        try:
            survey = await self._surveys.get((sight, statement), sight.newest, make)
        except SurveyTooLarge:
            raise Refusal(
                Code.REQUEST_INVALID,
                status=400,
                detail="The list is too long for this order. Sort it by sourcedId, or filter it.",
            ) from None
        return _Part(sight, statement, survey, columns)

    async def _relate(self, sight: Sight, relation: tuple[Relation, str], bind: Parameters) -> str:
        """The condition that records belong to another one."""
        kind, sourced_id = relation
        names: dict[str, str] = {}
        if "{id}" in kind.condition:
            names["id"] = bind.bind(sourced_id)
        if kind.statement:
            async with self._rosters.look(sight) as connection:
                found = await connection.fetch(SQL[kind.statement], sourced_id, timeout=READ_SECONDS)
            names["ids"] = bind.bind(tuple(sorted(row[0] for row in found)), "text[]")
        return kind.condition.format(**names)

    async def _narrow(self, sight: Sight, listing: Listing, bind: Parameters) -> str:
        """The condition that a record was changed since a moment, as an index knows it: by the step that did it."""
        step = await self._database.fetchval(SQL["find_step_since"], sight.integration_no, listing.since)
        column = "held_by" if sight.whole else "changed_by"
        return "false" if step is None else f"held.{column} >= {bind.bind(step, 'bigint')}"

    async def _make_survey(self, sight: Sight, statement: Statement) -> Survey:
        """All ids where an index can't find a page between two of them; otherwise, or of too many, marks."""
        if statement.order is not None or statement.is_selective:
            try:
                return await self._survey_ids(sight, statement)
            except SurveyTooLarge:
                if statement.order is not None:
                    raise
        parts = {"view": statement.view, "where": statement.where}
        sql = SQL["survey_listing"].format(**parts, direction=statement.direction, distance=DISTANCE)
        rows = await self._fetch(sight, sql, *statement.values)
        return survey_marks([(row["place"], row["sourced_id"]) for row in rows], descending=statement.is_descending)

    async def _survey_ids(self, sight: Sight, statement: Statement) -> Survey:
        order = statement.order or f"held.sourced_id {statement.direction}"
        sql = SQL["list_ids"].format(view=statement.view, where=statement.where, order=order)
        values = (*statement.values, *statement.order_values)
        async with self._rosters.look(sight) as connection:
            cursor = connection.cursor(sql, *values, prefetch=_PREFETCH, timeout=READ_SECONDS)
            return await survey_order(_take_ids(cursor), descending=statement.is_descending)

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read_at(self, part: _Part, place: int, wanted: int) -> list[asyncpg.Record]:
        if part.survey.blocks is not None:
            return await self._fetch_by_ids(part, part.survey.list_ids(place, wanted))
        stretch = part.survey.find_stretch(place, wanted)
        if stretch is None:
            return []
        rows = await self._fetch_stretch(part, stretch, wanted)
        if len(rows) < wanted:  # the roster has changed since it was surveyed, or this is its end
            rows += await self._read_behind(part, stretch.until, wanted - len(rows))
        return rows

    async def _read_behind(self, part: _Part, after: str, wanted: int) -> list[asyncpg.Record]:
        if part.survey.blocks is not None:
            return await self._fetch_by_ids(part, part.survey.list_ids_after(after, wanted))
        rows: list[asyncpg.Record] = []
        while len(rows) < wanted and (stretch := part.survey.find_stretch_after(after, wanted - len(rows))):
            rows += await self._fetch_stretch(part, stretch, wanted - len(rows))
            after = stretch.until
        return rows

    async def _fetch_stretch(self, part: _Part, stretch: Stretch, wanted: int) -> list[asyncpg.Record]:
        statement, bind = part.statement, Parameters()
        bind.values += statement.values
        behind, within = (">", "<=") if statement.direction == "ASC" else ("<", ">=")
        where = f"{statement.where} AND held.sourced_id {within} {bind.bind(stretch.until)}"
        if stretch.after is not None:
            where += f" AND held.sourced_id {behind} {bind.bind(stretch.after)}"
        sql = SQL["list_records"].format(
            columns=part.columns,
            view=statement.view,
            where=where,
            direction=statement.direction,
            limit=bind.bind(wanted, "int"),
            offset=bind.bind(stretch.skip, "int"),
        )
        return await self._fetch(part.sight, sql, *bind.values)

    async def _fetch_by_ids(self, part: _Part, ids: list[str]) -> list[asyncpg.Record]:
        if not ids:
            return []
        statement, bind = part.statement, Parameters()
        bind.values += statement.values
        where = f"held.sourced_id = ANY ({bind.bind(ids, 'text[]')}) AND {statement.where}"
        sql = SQL["find_records"].format(columns=part.columns, view=statement.view, where=where)
        found = {row["sourced_id"]: row for row in await self._fetch(part.sight, sql, *bind.values)}
        return [found[sourced_id] for sourced_id in ids if sourced_id in found]

    async def _fetch_one(
        self, sight: Sight, face: Face, sourced_id: str, columns: str, condition: str, *values: str
    ) -> list[asyncpg.Record]:
        where = f"held.sourced_id = $1 AND {condition}"
        sql = SQL["find_records"].format(columns=columns, view=face.view, where=where)
        return await self._fetch(sight, sql, sourced_id, *values)

    async def _fetch(self, sight: Sight, sql: str, *values: Any) -> list[asyncpg.Record]:
        async with self._rosters.look(sight) as connection:
            return await connection.fetch(sql, *values, timeout=READ_SECONDS)


def _choose_places(parts: Sequence[_Part], offset: int, anchor: Anchor | None) -> list[tuple[_Part, int, str | None]]:
    """Where a page may begin in each integration: at a place, or behind an id."""
    if anchor is not None:
        for number, part in enumerate(parts):
            if part.sight.integration_id == anchor.integration_id:
                return [(part, 0, anchor.sourced_id), *((later, 0, None) for later in parts[number + 1 :])]
    places: list[tuple[_Part, int, str | None]] = []
    before = 0
    for part in parts:
        if offset < before + part.survey.total:
            places.append((part, max(0, offset - before), None))
        before += part.survey.total
    return places


async def _take_ids(rows: Any) -> AsyncIterator[str]:
    async for row in rows:
        yield row[0]


def _choose_one(found: Sequence[tuple[bool, T]]) -> T | None:
    """The one that is active, or the only one: a district that changed its provider has its old records removed."""
    chosen = [one for is_active, one in found if is_active] or [one for _, one in found]
    if len(chosen) > 1:
        raise Refusal(
            Code.INTEGRATION_AMBIGUOUS,
            status=400,
            detail="Several integrations have a record with this id; name one with ?integration=.",
        )
    return chosen[0] if chosen else None
