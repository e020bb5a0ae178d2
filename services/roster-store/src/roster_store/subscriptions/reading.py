"""What a subscription is to be told next: the feed, as its product or organization sees it."""

from __future__ import annotations

from typing import Final

import asyncpg

from homeroom.db import Database
from homeroom.events import LICENSE_ENDED, LICENSE_STARTED
from roster_store.feed import Cursor, Page, Scope, read_page
from roster_store.sights import Rosters

RESETS: Final = frozenset({LICENSE_STARTED, LICENSE_ENDED})
"""What every product is told, whatever types it asked for: forget what you hold, for it begins anew or has ended."""


async def read(database: Database, rosters: Rosters, row: asyncpg.Record) -> Page:
    """The next page for a subscription, by its row. Problem CURSOR_EXPIRED."""
    types = None if row["types"] is None else frozenset(row["types"]) | (RESETS if row["product_id"] else frozenset())
    scope = Scope(
        product_id=row["product_id"],
        organization_id=row["organization_id"],
        integration_id=row["integration_id"],
        types=types,
        schools=None if row["schools"] is None else frozenset(row["schools"]),
        demographics=row["demographics"],
    )
    return await read_page(database, rosters, Cursor.parse(row["cursor"]), row["batch"], scope)
