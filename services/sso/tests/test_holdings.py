"""What sso keeps of people, as the documents say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sso.holdings import HOLDINGS, NOBODYS

if TYPE_CHECKING:
    from conftest import Service


async def test_every_table_says_whether_it_is_about_people(service: Service) -> None:
    """A table that is new fails here until somebody says what it holds of people, or that it holds nothing."""
    rows = await service.database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'sso'")
    listed = [one.table for one in HOLDINGS]
    assert len(set(listed)) == len(listed)
    assert not NOBODYS & set(listed)
    assert {row["tablename"] for row in rows} - {"migration"} == NOBODYS | set(listed)
