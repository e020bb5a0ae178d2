"""Every route by everybody who might call it: no unexpected success, and no route without a rule."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from authorization.checking import Check, check_cursor, check_public
from authorization.districts import GATEWAY, SCHEDULER, SSO, STORE, Neighbourhood
from authorization.opening import opened_neighbourhood
from authorization.routes import compare, list_paged
from authorization.rules import Public, Rule
from authorization.smuggling import CASES, check_smuggled
from authorization.table import TABLE

from homeroom.testing.postgres import fresh_database

SERVICES = (SCHEDULER, GATEWAY, STORE, SSO)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Neighbourhood]:
    """All services, and two districts."""
    async with fresh_database(request) as url, opened_neighbourhood(url, tmp_path_factory.mktemp("files")) as place:
        yield place


async def test_every_route_has_a_rule(place: Neighbourhood) -> None:
    """A route that is new fails here until somebody says who may call it, and so does a rule whose route is gone."""
    assert compare(place.apps, TABLE) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_only_who_may(place: Neighbourhood, service: str) -> None:
    """Each route answers those its rule names, with what is theirs, and nobody else."""
    problems = []
    for rule in TABLE[service]:
        if isinstance(rule, Public):
            problems += await check_public(place, service, rule)
        else:
            problems += await Check(place, service, rule).run()
    assert problems == [], "\n".join(problems)


@pytest.mark.parametrize("service", SERVICES)
async def test_others_places_in_lists(place: Neighbourhood, service: str) -> None:
    """A cursor of one district shows another one nothing of it."""
    problems = []
    for rule, name in list_paged(place.apps[service], TABLE[service]):
        problems += await check_cursor(place, service, rule, name)
    assert problems == [], "\n".join(problems)


async def test_others_ids_in_what_is_said(place: Neighbourhood) -> None:
    """An id of one district in a call of another is refused just as one that nobody has."""
    problems = [problem for case in CASES for problem in await check_smuggled(place, case)]
    assert problems == [], "\n".join(problems)


async def test_reads_say_what_they_show() -> None:
    """No rule about reading is content with any answer."""
    rules = [rule for some in TABLE.values() for rule in some if isinstance(rule, Rule)]
    assert [rule.path for rule in rules if rule.method == "GET" and not rule.shows] == []
