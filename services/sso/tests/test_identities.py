"""A portal's user who is somebody else now: refused, told to an admin by ids, and settled by them (E4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx2
import pytest
from connecting import make_connection
from fastapi import Request
from roster_stand_in import District, PlayedRoster, make_district

from homeroom.codes import Code
from homeroom.messages import Erased
from sso.launch.arrivals import Arrival
from sso.launch.erasures import forget_people
from sso.launch.flows import Intent
from sso.launch.identification import Identified
from sso.launch.refusals import Refused
from sso.launch.sessions import Beginning
from sso.launch.traces import Trace
from sso.provider.claims import make_subject
from sso.settings import Settings

if TYPE_CHECKING:
    from conftest import Service


@dataclass
class Door:
    """A district's connection, whose portal has the user `portal-1`."""

    service: Service
    district: District
    connection_id: UUID

    async def come(self, key: str, trace: Trace | None = None) -> Identified:
        """The portal's user comes, and the portal says it is whoever the roster calls that. Raises Refused."""
        await self.service.database.fetch("DELETE FROM person_answer")
        upstream = await self.service.launching.upstreams.find(self.connection_id)
        assert upstream is not None
        arrival, intent = Arrival(upstream, "portal-1", None, key), Intent("launch", self.district.product_id)
        return await self.service.launching.identify(
            arrival, intent, trace or self.service.launching.launches.begin("launch")
        )

    async def refuse(self, key: str) -> dict[str, Any]:
        """They come and are refused; the launch as an admin reads it."""
        launches = self.service.launching.launches
        trace = launches.begin("launch")
        with pytest.raises(Refused) as refused:
            await self.come(key, trace)
        await launches.write(trace, "refused", refused.value.code)
        return await self.read_launch(trace.support_id)

    async def read_launch(self, support_id: str) -> dict[str, Any]:
        """A launch as an admin reads it."""
        answer = await self.service.client.get(f"/v1/launches/{support_id}", headers=await self.service.boss())
        found: dict[str, Any] = answer.json()
        return found

    async def sign_in(self, identified: Identified) -> UUID:
        """A session of somebody who came; its id."""
        assert identified.person is not None
        beginning = Beginning(
            person_id=identified.person_id,
            organization_id=self.district.organization_id,
            connection_id=identified.door.id,
            integration_id=self.district.integration_id,
            sourced_id=identified.person.sourced_id,
        )
        session, _ = await self.service.launching.sessions.begin(Request({"type": "http", "headers": []}), beginning)
        return session.id

    async def untie(self, sourced_id: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        """What an admin is answered who ends somebody's ties."""
        path = f"/v1/connections/{self.connection_id}/identities/removals"
        return await self.service.client.post(
            path, json={"sourced_id": sourced_id}, headers=headers or await self.service.boss()
        )


@pytest.fixture
async def door(service: Service, settings: Settings, district: District) -> Door:
    """The district's connection."""
    _, connection_id = await make_connection(
        service.database, settings, organization_id=district.organization_id, integration_id=district.integration_id
    )
    return Door(service, district, connection_id)


async def become_admin(service: Service, organization_id: UUID) -> dict[str, str]:
    """Headers of an admin of one organization."""
    body = {"scopes": ["connections.write", "launches.read"], "organization_id": str(organization_id)}
    made = (await service.client.post("/v1/clients", json=body, headers=await service.boss())).json()
    return {"Authorization": f"Bearer {await service.token(made['id'], made['secret'])}"}


async def test_an_admin_settles_who_a_portals_user_is(
    service: Service, settings: Settings, roster: PlayedRoster, district: District, door: Door
) -> None:
    """The refused launch names both people by their ids; once the tie is ended the new one comes in, with a new sub."""
    roster.add(district.integration_id, "user-1", "Ada")
    roster.add(district.integration_id, "user-2", "Bo")
    before = await door.come("user-1")
    session = await door.sign_in(before)
    _, other_id = await make_connection(
        service.database, settings, organization_id=district.organization_id, integration_id=district.integration_id
    )
    elsewhere = await Door(service, district, other_id).sign_in(await Door(service, district, other_id).come("user-1"))

    told = await door.refuse("user-2")
    assert told["reason"]["code"] == Code.SIGNIN_AMBIGUOUS
    assert (told["integration_id"], told["sourced_id"]) == (str(district.integration_id), "user-1")
    assert [step["leads_to"] for step in told["steps"] if "leads_to" in step] == ["user-2"]
    assert "Bo" not in str(told)
    assert (await door.untie("user-2")).json() == {"ended": 0}
    assert (await door.refuse("user-2"))["sourced_id"] == "user-1"

    admin = await become_admin(service, district.organization_id)
    assert (await door.untie("user-1", admin)).json() == {"ended": 1}
    after = await door.come("user-2")
    sessions = service.launching.sessions
    assert after.person is not None
    assert after.person.sourced_id == "user-2"
    assert make_subject(after.person_id, district.product_id) != make_subject(before.person_id, district.product_id)
    assert await sessions.find_by_id(session) is None
    assert await sessions.find_by_id(elsewhere) is not None
    back = await Door(service, district, other_id).come("user-1")
    assert back.person_id == before.person_id  # who was untied stays who they are
    audit = (await service.client.get("/v1/sign-in/audit", headers=await service.boss())).json()["items"]
    assert [(one["action"], one["detail"]) for one in audit if one["action"].startswith("identity")] == [
        ("identity.untie", {"ended": 1})
    ]


async def test_attack_74_only_a_districts_own_ties_are_ended(
    service: Service, settings: Settings, roster: PlayedRoster, district: District, door: Door
) -> None:
    """Another district's admin finds no such connection, and their own connection reaches nobody of the first."""
    roster.add(district.integration_id, "user-1")
    before = await door.come("user-1")
    session = await door.sign_in(before)
    other = await make_district(service.database, "South", product_id=district.product_id)
    _, theirs = await make_connection(
        service.database, settings, organization_id=other.organization_id, integration_id=other.integration_id
    )
    admin = await become_admin(service, other.organization_id)
    refused = await door.untie("user-1", admin)
    assert (refused.status_code, refused.json()["code"]) == (404, Code.NOT_FOUND)
    assert (await Door(service, other, theirs).untie("user-1", admin)).json() == {"ended": 0}
    for wrong in ("", "a\0b"):
        assert (await door.untie(wrong, admin)).status_code == 422
    assert (await door.come("user-1")).person_id == before.person_id
    assert await service.launching.sessions.find_by_id(session) is not None


async def test_an_erasure_takes_whom_a_key_led_to_out_of_traces(
    service: Service, roster: PlayedRoster, district: District, door: Door
) -> None:
    """Of two people whom a refused launch names each goes with their own erasure, and the steps stay in order."""
    roster.add(district.integration_id, "user-1")
    roster.add(district.integration_id, "user-2")
    await door.come("user-1")
    told = await door.refuse("user-2")
    for gone, left in (("user-2", "user-1"), ("user-1", None)):
        erased = Erased(
            erasure_id="erasure-1",
            organization_id=str(district.organization_id),
            integration_id=str(district.integration_id),
            sourced_ids=(gone,),
            at=datetime(2026, 9, 1, tzinfo=UTC),
        )
        await service.database.transact(partial(forget_people, erased=erased))
        found = await door.read_launch(told["support_id"])
        assert found["sourced_id"] == left
        assert "leads_to" not in str(found)
        assert [step["what"] for step in found["steps"]] == [step["what"] for step in told["steps"]]
