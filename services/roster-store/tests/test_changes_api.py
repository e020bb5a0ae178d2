"""`GET /v1/changes` as products and organizations meet it (F2, F3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from licensed import announce, license_product
from msgspec.structs import replace
from played_gateway import ROSTER, Gateway, campus, section, student, together

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.roster import Demographics
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.settings import StoreSettings

ISSUER = TestIssuer()


@pytest.fixture
async def client(settings: StoreSettings, database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller without a token."""
    assert database is not None
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        yield client


async def pull(
    client: httpx2.AsyncClient, scopes: tuple[str, ...] = ("roster.read",), *, token: dict[str, Any], **query: Any
) -> dict[str, Any]:
    """One answer of the feed."""
    answer = await client.get("/v1/changes", params=query, headers=ISSUER.headers(scopes, **token))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def kinds(body: dict[str, Any]) -> list[str]:
    """Types and subjects, shortened."""
    return [
        f"{one['type'].removeprefix('homeroom.').removesuffix('.v1')} {one['subject'].split('/')[1]}"
        for one in body["events"]
        if "license" not in one["type"] and "applied" not in one["type"]
    ]


async def test_demographics_need_license_and_scope(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database
) -> None:
    """Demographics are told to who is granted them and asks with the scope, and are not counted for others."""
    await gateway.sync({**ROSTER, "demographics": [Demographics(sourced_id="user-1", sex="female")]})
    granted = await license_product(database, gateway.organization_id, grants=("demographics",))
    plain = await license_product(database, gateway.organization_id)
    both = ("roster.read", "demographics.read")
    bodies = [
        await pull(client, scopes, token=token)
        for scopes, token in (
            (both, {"product_id": granted.product_id}),
            (("roster.read",), {"product_id": granted.product_id}),
            (both, {"product_id": plain.product_id}),
            (("roster.read",), {"organization_id": gateway.organization_id}),
        )
    ]

    assert ["demographics.added user-1" in kinds(body) for body in bodies] == [True, False, False, False]
    assert "demographics" not in bodies[3]["events"][-1]["data"]["counts"]


async def test_what_leaves_the_schools_asked_for_is_removed(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database
) -> None:
    """A reader of one school hears of it alone, and of what moves away nothing but its id."""
    await gateway.sync(together(campus("North", 1, students=2), campus("South", 11, students=1)))
    held = await license_product(database, gateway.organization_id)
    token = {"product_id": held.product_id}
    first = await pull(client, token=token, schools="org-North", limit=3)
    while first["more"]:
        more = await pull(client, token=token, schools="org-North", limit=3, cursor=first["cursor"])
        first = {**more, "events": first["events"] + more["events"]}
    await gateway.sync({"classes": [section(1, "South")]}, served={"classes": 2})
    second = await pull(client, token=token, schools="org-North", cursor=first["cursor"])

    assert not {"user.added user-11", "class.added class-11", "org.added org-South"}.intersection(kinds(first))
    assert {"user.added user-1", "class.added class-1", "enrollment.added enrollment-2-1"} <= set(kinds(first))
    removed = {one["subject"]: one["data"]["record"] for one in second["events"] if ".removed." in one["type"]}
    assert removed["classes/class-1"] == {"sourcedId": "class-1"}
    assert removed["enrollments/enrollment-1-1"] == {"sourcedId": "enrollment-1-1"}


async def test_waiting_ends_as_soon_as_there_is_something(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """A long poll answers when a sync is applied, and without one when its time is over."""
    await gateway.sync(ROSTER)
    token = {"organization_id": gateway.organization_id}
    cursor = (await pull(client, token=token))["cursor"]
    began = monotonic()
    empty = await pull(client, token=token, cursor=cursor, wait=1)
    waited = monotonic() - began
    waiting = asyncio.create_task(pull(client, token=token, cursor=cursor, wait=20))
    await asyncio.sleep(0.2)
    await gateway.sync({"users": [student(1, "Milena")]}, served={"users": 3})
    body = await asyncio.wait_for(waiting, 10)

    assert empty["events"] == []
    assert waited >= 1
    assert kinds(body) == ["user.updated user-1"]


async def test_a_cursor_from_before_what_was_forgotten_is_refused(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database
) -> None:
    """Who may miss removals is told to begin anew, and who does is not stopped on the way."""
    await gateway.sync(ROSTER)
    token = {"organization_id": gateway.organization_id}
    old = (await pull(client, token=token))["cursor"]
    await gateway.sync({}, {"users": ["user-2"]}, served={"users": 3})
    no = await database.fetchval("SELECT no FROM integration")
    await database.fetch("INSERT INTO feed_horizon (integration_no, apply_no) SELECT $1, max(no) FROM apply", no)
    headers = ISSUER.headers(["roster.read"], **token)
    refused = await client.get("/v1/changes", params={"cursor": old}, headers=headers)
    anew, pages = await pull(client, token=token, limit=2), 1
    while anew["more"]:
        anew, pages = await pull(client, token=token, limit=2, cursor=anew["cursor"]), pages + 1

    assert (refused.status_code, refused.json()["code"]) == (410, Code.CURSOR_EXPIRED)
    assert pages > 3
    assert (await pull(client, token=token, cursor=anew["cursor"]))["events"] == []


async def test_a_license_that_ended_tells_only_that(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database
) -> None:
    """Without a license in force there is one event, to forget everything, and nothing of what happens later."""
    await gateway.sync(ROSTER)
    held = await license_product(database, gateway.organization_id)
    token = {"product_id": held.product_id}
    half = await pull(client, token=token, limit=4)
    await announce(database, replace(held, revoked_at=held.valid_from))
    await gateway.sync({"users": [student(1, "Milena")]}, served={"users": 3})
    rest = await pull(client, token=token, cursor=half["cursor"])
    anew = await pull(client, token=token)

    assert half["events"][0]["type"] == "homeroom.license.started.v1"
    assert [one["type"] for one in rest["events"]] == ["homeroom.license.ended.v1"]
    assert [one["type"] for one in anew["events"]] == ["homeroom.license.ended.v1"]


@pytest.mark.parametrize("token", [{"product_id": "x"}, {"organization_id": "x"}])
async def test_tokens_without_a_place_see_nothing(
    client: httpx2.AsyncClient, gateway: Gateway, token: dict[str, str]
) -> None:
    """A token whose product or organization can't be one is told nothing."""
    await gateway.sync(ROSTER)

    assert (await pull(client, token=token))["events"] == []


async def test_another_organization_has_nothing_to_tell(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """An organization that asks for another's changes gets none."""
    await gateway.sync(ROSTER)
    token = {"organization_id": str(uuid4())}

    assert (await pull(client, token=token, organization=gateway.organization_id))["events"] == []
    assert (await pull(client, token=token, integration=gateway.integration_id))["events"] == []
