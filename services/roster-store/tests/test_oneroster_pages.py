"""Pages far into long lists: found by what is remembered, never by counting rows, and within bounds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import md5
from itertools import count
from typing import Any

import httpx2
import pytest

from homeroom.db import Database
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.oneroster import marks
from roster_store.oneroster.marks import (
    DISTANCE,
    Survey,
    Surveys,
    SurveyTooLarge,
    survey_marks,
    survey_order,
)
from roster_store.settings import StoreSettings
from roster_store.sights import Rosters, Sight

ISSUER = TestIssuer()
USERS = "/ims/oneroster/v1p1/users"
PEOPLE = 2_500
LOAD = """
WITH made AS (INSERT INTO integration (id, organization_id) VALUES (gen_random_uuid(), gen_random_uuid()) RETURNING no),
step AS (
    INSERT INTO apply (no, xid, integration_no, run_id, applied_at, segments, counts)
    SELECT nextval('apply_no'), pg_current_xact_id(), no, gen_random_uuid(), now(), '[]', '{}' FROM made RETURNING *)
INSERT INTO users (
    integration_no, changed_by, change_no, version, change, active, key, fingerprint, sourced_id, given_name,
    family_name, roles, enabled_user, user_ids, agent_sourced_ids, grades)
SELECT step.integration_no, step.no, one, 1, 'added', true, md5(one::text)::uuid, one, 'u' || lpad(one::text, 5, '0'),
    'G', 'F' || one % 7, '[{"role": "student", "orgSourcedId": "s"}]', true, '[]', '{}', '{}'
FROM step CROSS JOIN generate_series(1, $1::int) AS one
"""


class Spy:
    """A connection that notes how many rows its statements skip."""

    def __init__(self, connection: Any, skipped: list[int], statements: list[str]) -> None:
        self._connection, self._skipped, self._statements = connection, skipped, statements

    async def fetch(self, sql: str, *values: Any, **options: Any) -> Any:
        """Note, and fetch."""
        self._statements.append(sql)
        if found := re.search(r"OFFSET \$(\d+)", sql):
            self._skipped.append(values[int(found[1]) - 1])
        assert "OFFSET" not in sql or found
        return await self._connection.fetch(sql, *values, **options)

    def cursor(self, sql: str, *values: Any, **options: Any) -> Any:
        """Note, and read."""
        self._statements.append(sql)
        return self._connection.cursor(sql, *values, **options)


class SpyingRosters:
    """Rosters whose connections are spied upon."""

    def __init__(self, rosters: Rosters) -> None:
        self.rosters = rosters
        self.skipped: list[int] = []
        self.statements: list[str] = []

    @asynccontextmanager
    async def look(self, sight: Sight) -> AsyncIterator[Any]:
        """Look, with a spy between."""
        async with self.rosters.look(sight) as connection:
            yield Spy(connection, self.skipped, self.statements)


@pytest.fixture
async def reading(
    database: Database, settings: StoreSettings
) -> AsyncIterator[tuple[httpx2.AsyncClient, SpyingRosters]]:
    """A reader of a long list, and what its requests ask of Postgres."""
    await database.fetch(LOAD, PEOPLE)
    app = make_app(settings, ISSUER.verifier)
    async with calling(app, ISSUER.token(["roster.read"])) as client:
        app.state.rosters = SpyingRosters(app.state.rosters)
        yield client, app.state.rosters


async def walk(client: httpx2.AsyncClient, query: str, limit: int, *, by_links: bool) -> list[str]:
    """The whole list, page by page."""
    seen: list[str] = []
    url = f"{USERS}?{query}&fields=sourcedId&limit={limit}"
    while True:
        answer = await client.get(
            url if by_links else f"{USERS}?{query}&fields=sourcedId&limit={limit}&offset={len(seen)}"
        )
        page = [user["sourcedId"] for user in answer.json()["users"]]
        seen += page
        if "next" not in answer.links:
            return seen
        assert len(page) == limit
        url = answer.links["next"]["url"]


async def test_no_page_is_found_by_counting(reading: tuple[httpx2.AsyncClient, SpyingRosters]) -> None:
    """In any order, by links and by offsets, every record comes once, and nothing skips a whole distance of rows."""
    client, rosters = reading
    by_id = [f"u{number:05}" for number in range(1, PEOPLE + 1)]
    by_name = sorted(by_id, key=lambda one: (int(one[1:]) % 7, one))
    wanted = {
        "sort=sourcedId": by_id,
        "orderBy=desc": by_id[::-1],
        "sort=familyName": by_name,
        "sort=familyName&orderBy=desc": by_name[::-1],
        "filter=familyName!='F3'": [one for one in by_id if int(one[1:]) % 7 != 3],
        "filter=familyName!='F3'&orderBy=desc": [one for one in by_id[::-1] if int(one[1:]) % 7 != 3],
    }
    for query, ids in wanted.items():
        for by_links, limit in ((True, 700), (False, 1_300)):
            assert await walk(client, query, limit, by_links=by_links) == ids, query
    for place in (0, 999, 1_000, 1_001, 2_499, 2_500, 9_999_999_999):
        answer = await client.get(f"{USERS}?limit=3&offset={place}")
        assert [user["sourcedId"] for user in answer.json()["users"]] == by_id[place : place + 3]
    assert rosters.skipped
    assert max(rosters.skipped) < DISTANCE


async def test_who_comes_at_once_waits_for_one(reading: tuple[httpx2.AsyncClient, SpyingRosters]) -> None:
    """A list that many ask for at the same time is surveyed once, and again only when something has changed."""
    client, rosters = reading
    await asyncio.gather(*(client.get(f"{USERS}?limit=1&offset={place}") for place in range(6)))
    assert sum("row_number" in sql for sql in rosters.statements) == 1


# ── what is remembered ────────────────────────────────────────────────────────────────────────────────────────────


def marked(total: int) -> Survey:
    """A survey of ids that are their places."""
    return survey_marks([(place, f"{place:09}") for place in range(1, total + 1)], descending=False)


async def test_memory_is_bounded() -> None:
    """Surveys that were not asked for longest are forgotten, and what one weighs is what it holds."""
    surveys, survey = Surveys(max_bytes=30_000), marked(100_000)

    async def make() -> Survey:
        return survey

    for number in range(100):
        await surveys.get(number, 1, make)
    assert survey.weight <= surveys.weight <= 30_000


async def test_a_failed_survey_is_tried_again() -> None:
    """Whoever waits for a survey that fails is told, and the next one who asks makes it anew."""
    surveys = Surveys()
    tries = iter([RuntimeError, None])

    async def make() -> Survey:
        await asyncio.sleep(0)
        if error := next(tries):
            raise error
        return marked(3)

    failed = await asyncio.gather(*(surveys.get("list", 1, make) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in failed] == [RuntimeError] * 3
    assert (await surveys.get("list", 1, make)).total == 3


async def test_older_surveys_are_replaced() -> None:
    """A newer step of the roster makes a new survey in the place of the old one; an older question takes the newer."""
    surveys, made = Surveys(), []

    async def make() -> Survey:
        made.append(1)
        return marked(len(made))

    totals = [(await surveys.get("list", newest, make)).total for newest in (1, 1, 2, 1, 2)]
    assert totals == [1, 1, 2, 2, 2]


async def test_orders_beyond_all_bounds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that would take more memory than all surveys together may is not remembered."""
    monkeypatch.setattr(marks, "MAX_REMEMBERED_BYTES", 100_000)

    async def endless() -> AsyncIterator[str]:
        for number in count():
            yield f"{number}-{md5(str(number).encode(), usedforsecurity=False).hexdigest()}"

    with pytest.raises(SurveyTooLarge):
        await asyncio.wait_for(survey_order(endless(), descending=False), 60)
