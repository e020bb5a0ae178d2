"""What a product makes of the feed: the events folded, and what it should come to."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from homeroom.db import Database
from homeroom.events import LICENSE_ENDED, LICENSE_STARTED, Event, RecordData
from roster_store.feed import Cursor, FeedEvent, Scope, read_page
from roster_store.sights import EVERYTHING, Rosters, Sight, list_product_sights
from roster_store.tables import TABLES

Held = dict[tuple[str, str], tuple[int, Any]]
"""Source and subject → version and record."""


@dataclass
class Fold:
    """A product's copy, made as `homeroom.events` says."""

    held: Held = field(default_factory=dict)

    def take(self, events: Iterable[Event]) -> None:
        """Take events in, in order."""
        for event in events:
            if event.type in (LICENSE_STARTED, LICENSE_ENDED):
                self.held = {place: one for place, one in self.held.items() if place[0] != event.source}
            elif isinstance(event.data, RecordData):
                place = (event.source, event.subject)
                if place in self.held and event.data.version < self.held[place][0]:
                    continue
                record = None if event.type.endswith(".removed.v1") else msgspec.to_builtins(event.data.record)
                self.held[place] = (event.data.version, record)

    @property
    def shown(self) -> Held:
        """What is there, without what was removed."""
        return {place: one for place, one in self.held.items() if one[1] is not None}


@dataclass
class Reader:
    """Somebody who reads the feed by and by."""

    database: Database
    rosters: Rosters
    scope: Scope
    chance: random.Random
    cursor: Cursor = field(default_factory=Cursor)
    fold: Fold = field(default_factory=Fold)
    passed: list[Cursor] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    repeats: bool = False
    """Whether it reads parts of the feed again, as after a crash."""

    async def read(self, pages: int, *, on: bool = False) -> bool:
        """Read some pages of some size, `on` and on or with steps back; whether there is more."""
        more = True
        while more and pages:
            if self.repeats and not on and self.passed and self.chance.random() < 0.1:
                self.cursor = self.chance.choice(self.passed)
            limit = self.chance.choice((1, 2, 3, 7, 50))
            page = await read_page(self.database, self.rosters, self.cursor, limit, self.scope)
            assert len(page.events) <= limit
            assert page.cursor >= self.cursor
            self._take(page.events)
            self.cursor, more, pages = Cursor.parse(str(page.cursor)), page.more, pages - 1
            self.passed.append(self.cursor)
        return more

    async def catch_up(self) -> Held:
        """Read to the end; what it holds then."""
        assert not await self.read(10_000, on=True)
        return self.fold.shown

    def _take(self, found: list[FeedEvent]) -> None:
        places = [one.cursor for one in found]
        assert places == sorted(places)
        if not self.repeats:
            ids = [one.event.id for one in found]
            assert not self.ids.intersection(ids), "an event was told twice"
            self.ids.update(ids)
        sources: dict[str, list[Event]] = {}
        for one in found:
            sources.setdefault(one.event.source, []).append(one.event)
        keys = list(sources)  # what has different keys may arrive in any order
        self.chance.shuffle(keys)
        for key in keys:
            self.fold.take(sources[key])


async def read_view(database: Database, rosters: Rosters, scope: Scope) -> Held:
    """What a reader may see at this moment, as the views show it."""
    if scope.product_id is not None:
        sights = await list_product_sights(database, scope.product_id)
    else:
        rows = await database.fetch("SELECT no, id, organization_id FROM integration")
        sights = [Sight(row["no"], row["id"], row["organization_id"], grants=EVERYTHING) for row in rows]
    held: Held = {}
    for sight in sights:
        seen = _narrow(sight, scope)
        async with rosters.look(seen) as connection:
            for table in TABLES.values():
                rows = await connection.fetch(f"SELECT * FROM roster_served.{table.name} WHERE active")  # noqa: S608 - a view of ours
                for row in rows:
                    place = (f"/integrations/{sight.integration_id}", f"{table.collection}/{row['sourced_id']}")
                    held[place] = (row["version"], msgspec.to_builtins(table.record(row)))
    return held


def _narrow(sight: Sight, scope: Scope) -> Sight:
    schools = sight.schools
    if scope.schools is not None:
        schools = tuple(sorted(scope.schools if schools is None else scope.schools & set(schools)))
    return Sight(
        sight.integration_no,
        sight.integration_id,
        sight.organization_id,
        sight.product_id,
        schools,
        sight.grants - scope.hidden,
        sight.teacher_started,
    )


def product_scope(product_id: str | UUID, **more: Any) -> Scope:
    """A product's own feed."""
    return Scope(product_id=UUID(str(product_id)), **more)
