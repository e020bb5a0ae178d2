"""From a portal's word to a person, on a real database: who stays who, and who never becomes somebody else (E4)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from connecting import make_connection
from roster_stand_in import District, PlayedRoster, add_integration, add_license, make_district

from homeroom.codes import Code
from sso.connections.upstreams import Upstream
from sso.launch.arrivals import Arrival
from sso.launch.flows import Intent
from sso.launch.identification import Identified
from sso.launch.refusals import Refused
from sso.settings import Settings

if TYPE_CHECKING:
    from conftest import Service


@dataclass
class Door:
    """A connection through which people come; `come` says who they are."""

    service: Service
    upstream: Upstream
    connection_id: UUID
    product_id: UUID | None
    tenant: str | None = None
    whys: list[str] = field(default_factory=list)

    async def come(self, subject: str, key: str | None = None, **more: Any) -> Identified:
        """Somebody comes; raises Refused."""
        arrival = Arrival(self.upstream, subject, more.pop("tenant", self.tenant), key, **more)
        trace = self.service.launching.launches.begin("launch")
        return await self.service.launching.identify(arrival, Intent("launch", self.product_id), trace)

    async def refuse(self, subject: str, key: str | None = None, **more: Any) -> Code:
        """Somebody comes who must not come in: with which code, and nothing is left of them."""
        before = await count(self.service)
        with pytest.raises(Refused) as caught:
            await self.come(subject, key, **more)
        assert await count(self.service) == before
        self.whys.append(caught.value.why)
        return caught.value.code


async def count(service: Service) -> tuple[Any, ...]:
    """What is written down of people."""
    row = await service.database.fetchrow(
        "SELECT (SELECT count(*) FROM person), (SELECT count(*) FROM person_name), (SELECT count(*) FROM identity), "
        "(SELECT count(*) FROM session)"
    )
    assert row is not None
    return tuple(row)


async def forget(service: Service) -> None:
    """Have every answer of the store be one of yesterday morning: nothing of it is believed without asking."""
    await service.database.fetch("UPDATE person_answer SET asked_at = asked_at - interval '1 minute'")


async def open_door(
    service: Service, settings: Settings, district: District, *, product: bool = True, **more: Any
) -> Door:
    """A connection of a district."""
    place = {"organization_id": district.organization_id, "integration_id": district.integration_id}
    upstream_id, connection_id = await make_connection(service.database, settings, **(place | more))
    upstream = await service.launching.upstreams.find(upstream_id)
    assert upstream is not None
    return Door(service, upstream, connection_id, district.product_id if product else None, more.get("tenant"))


@pytest.fixture
async def door(service: Service, settings: Settings, district: District) -> Door:
    """The district's connection."""
    return await open_door(service, settings, district)


async def test_a_first_sign_in_ties_and_the_next_ones_keep(
    door: Door, roster: PlayedRoster, district: District
) -> None:
    """The portal's user is the same person ever after, in every tab at once, with or without the key."""
    roster.add(district.integration_id, "user-1", classes=("class-1",))
    first = await asyncio.gather(*(door.come("portal-1", "user-1") for _ in range(4)))
    assert len({one.person_id for one in first}) == 1
    assert first[0].person is not None
    assert [one.sourced_id for one in first[0].person.classes] == ["class-1"]
    for key in ("user-1", None, ""):
        assert (await door.come("portal-1", key)).person_id == first[0].person_id
    assert (await door.come("portal-2", "user-1")).person_id == first[0].person_id  # their other user at the portal
    assert await count(door.service) == (1, 1, 2, 0)


async def test_who_is_renamed_stays_who_they_are(door: Door, roster: PlayedRoster, district: District) -> None:
    """Another sourcedId of the same person keeps the person, and a portal that is behind still leads to them."""
    old = roster.add(district.integration_id, "teacher-1", role="teacher")
    before = (await door.come("portal-1", "teacher-1")).person_id
    old.active = False
    roster.add(district.integration_id, "aide-1", role="aide", formerly=("teacher-1",))
    await forget(door.service)
    assert (await door.come("portal-1", "aide-1")).person_id == before
    behind = await door.come("portal-1", "teacher-1")
    assert behind.person_id == before
    assert behind.person is not None
    assert behind.person.sourced_id == "aide-1"
    assert (await door.come("portal-9", "aide-1")).person_id == before


async def test_attack_58_a_reused_id_is_never_the_old_person(
    door: Door, roster: PlayedRoster, district: District
) -> None:
    """A portal's user id given to somebody else makes a new person; so does a sourcedId that was somebody's before."""
    gone = roster.add(district.integration_id, "user-1")
    old = (await door.come("portal-1", "user-1")).person_id
    gone.active = False
    roster.add(district.integration_id, "user-2")
    await forget(door.service)
    new = (await door.come("portal-1", "user-2")).person_id
    assert new != old
    # user-1 was renamed to user-3, and the id user-1 goes to another child
    roster.pupils.clear()
    roster.add(district.integration_id, "user-3", formerly=("user-1",))
    await forget(door.service)
    await door.service.database.fetch(
        "INSERT INTO identity (connection_id, tenant, subject, person_id) VALUES ($1, '', 'portal-7', $2)",
        door.connection_id,
        old,
    )
    assert (await door.come("portal-7", "user-3")).person_id == old
    roster.add(district.integration_id, "user-1", "Bo")
    await forget(door.service)
    other = await door.come("portal-8", "user-1")
    assert other.person_id not in (old, new)
    assert (await door.come("portal-7", "user-3")).person_id == old
    # and somebody else's, while the old person is still there, is for people to settle
    assert await door.refuse("portal-8", "user-3") is Code.SIGNIN_AMBIGUOUS


async def test_attack_52_the_same_id_in_another_tenant_is_somebody_else(
    service: Service, settings: Settings, roster: PlayedRoster, district: District
) -> None:
    """Portal ids and sourcedIds count inside their tenant and roster only; a tenant nobody has leads nowhere (53)."""
    other = await make_district(service.database, "South", product_id=district.product_id)
    ours = await open_door(service, settings, district, shared=True, kind="classlink", tenant="1")
    theirs = await open_door(service, settings, other, upstream_id=ours.upstream.id, tenant="2")
    roster.add(district.integration_id, "user-1", "Ada")
    roster.add(other.integration_id, "user-1", "Bo")
    first, second = await ours.come("17", "user-1"), await theirs.come("17", "user-1")
    assert first.person_id != second.person_id
    assert (first.name, second.name) == ("Ada Berg", "Bo Berg")
    assert first.door.organization_id != second.door.organization_id
    assert first.person is not None
    for tenant in ("3", "01", "1 ", "", None, "1\0"):
        assert await ours.refuse("17", "user-1", tenant=tenant) in (
            Code.SIGNIN_TENANT_UNKNOWN,
            Code.SIGNIN_TOKEN_INVALID,
        )


async def test_attack_53_an_unknown_tenant_gets_no_account(
    service: Service, settings: Settings, roster: PlayedRoster, district: District
) -> None:
    """Whoever's district nobody connected gets a page to name to us, even where strangers are let in elsewhere."""
    door = await open_door(
        service, settings, district, shared=True, kind="clever", tenant="d-1", rostering="optional", integration_id=None
    )
    assert (await door.come("17")).person is None
    assert await door.refuse("17", tenant="d-2") is Code.SIGNIN_TENANT_UNKNOWN
    assert roster.questions == []


async def test_attack_54_who_is_not_there_any_more(
    service: Service, roster: PlayedRoster, district: District, door: Door
) -> None:
    """Unknown, removed and people of an old roster are refused; where strangers may come in, removed ones are none."""
    pupil = roster.add(district.integration_id, "user-1")
    assert await door.refuse("portal-1", "user-9") is Code.SIGNIN_NOT_ROSTERED
    await door.come("portal-1", "user-1")
    pupil.active = False
    await forget(service)
    assert await door.refuse("portal-1", "user-1") is Code.SIGNIN_REMOVED
    await service.database.fetch("UPDATE connection SET rostering = 'optional'")
    assert await door.refuse("portal-1", "user-1") is Code.SIGNIN_REMOVED
    assert await door.refuse("portal-1", "user-9") is Code.SIGNIN_NOT_ROSTERED
    assert (await door.come("portal-3", "user-9")).person is None
    pupil.active = True
    await service.database.fetch("UPDATE connection SET max_roster_age_hours = 24")
    await forget(service)
    assert (await door.come("portal-1", "user-1")).person is not None
    assert roster.applied_at is not None
    roster.applied_at -= timedelta(hours=24)
    await forget(service)
    assert await door.refuse("portal-1", "user-1") is Code.SIGNIN_ROSTER_OLD
    await service.database.fetch("UPDATE integration SET deleted = true")
    assert (await door.come("portal-1", "user-1")).person is not None  # C8


async def test_attack_56_roles_come_from_the_roster(door: Door, roster: PlayedRoster, district: District) -> None:
    """What a portal calls somebody is not even looked at: a pupil stays a pupil."""
    roster.add(district.integration_id, "user-1", role="student")
    found = await door.come("portal-1", "user-1", claims=("role", "role_level"), shown_as="Tenant Administrator")
    assert found.person is not None
    assert [one.role for one in found.person.roles] == ["student"]
    assert found.name == "Ada Berg"


async def test_attack_57_look_alikes_are_others(door: Door, roster: PlayedRoster, district: District) -> None:
    """Ids are compared character by character, as text; what is no text, or can't be seen, is nobody's id."""
    roster.add(district.integration_id, "007")
    roster.add(district.integration_id, "7", "Bo")
    first = await door.come("17", "007")
    assert (await door.come("017", "7")).person_id != first.person_id
    for key in ("07", "OO7", "\u0660\u0660\u0667", "7 ", "007\u200b"):
        assert await door.refuse("17", key) is Code.SIGNIN_NOT_ROSTERED
    for subject in ("", " ", "\u200b", "x" * 513, "17\0", "\ud800"):
        assert await door.refuse(subject, "007") is Code.SIGNIN_TOKEN_INVALID
    for key in ("007\0", "\ud800", "7" * 3_000):
        assert await door.refuse("17", key) is Code.SIGNIN_TOKEN_INVALID


async def test_attack_50_the_same_email_is_no_bond(
    service: Service, settings: Settings, roster: PlayedRoster, district: District
) -> None:
    """Two people with one address, in two districts or in one, stay two; an address is no key at all."""
    other = await make_district(service.database, "South", product_id=district.product_id)
    doors = [await open_door(service, settings, one) for one in (district, other)]
    for place, sourced_id in ((district, "user-1"), (district, "user-2"), (other, "user-1")):
        roster.add(place.integration_id, sourced_id, email="same@north.example")
    found = [await doors[0].come("1", "user-1"), await doors[0].come("2", "user-2"), await doors[1].come("1", "user-1")]
    assert len({one.person_id for one in found}) == 3
    assert await doors[0].refuse("3", "same@north.example") is Code.SIGNIN_NOT_ROSTERED


async def test_attack_51_an_address_never_links(door: Door, roster: PlayedRoster, district: District) -> None:
    """Nothing an upstream says of an e-mail address, verified or not, even reaches identification."""
    roster.add(district.integration_id, "user-1", email="ada@north.example")
    assert "email" not in Arrival.__slots__
    assert await door.refuse("ada@north.example", None, claims=("email", "email_verified")) is Code.SIGNIN_NOT_ROSTERED


async def test_attack_65_without_a_license_nobody_comes_in(
    service: Service, settings: Settings, roster: PlayedRoster, district: District, door: Door
) -> None:
    """A license that is over, or is for other schools, refuses (D5); without a product everybody may be here."""
    pupil = roster.add(district.integration_id, "user-1")
    pupil.hidden_from.add(district.product_id)
    assert await door.refuse("1", "user-1") is Code.SIGNIN_UNLICENSED
    lost = await make_district(service.database, "Lost", licensed=False)
    await add_license(service.database, lost.organization_id, lost.product_id, valid_for=timedelta(days=-1))
    closed = await open_door(service, settings, lost)
    roster.add(lost.integration_id, "user-1")
    assert await closed.refuse("1", "user-1") is Code.SIGNIN_UNLICENSED
    closed.product_id = None
    assert (await closed.come("1", "user-1")).person is not None


async def test_known_people_come_in_while_the_store_is_away(
    door: Door, roster: PlayedRoster, district: District
) -> None:
    """An answer of the last hours lets people in; of whom nothing is known nobody is guessed (attack: fail open)."""
    roster.add(district.integration_id, "user-1")
    known = await door.come("1", "user-1")
    roster.away = True
    await forget(door.service)
    assert (await door.come("1", "user-1")).person_id == known.person_id
    assert (await door.come("2", "user-1")).person_id == known.person_id  # the answer is about the person
    assert await door.refuse("3", "user-3") is Code.SIGNIN_STORE_AWAY
    await door.service.database.fetch("UPDATE person_answer SET asked_at = asked_at - interval '5 hours'")
    assert await door.refuse("1", "user-1") is Code.SIGNIN_STORE_AWAY
    roster.away = False
    roster.status = 500
    assert await door.refuse("1", "user-1") is Code.SIGNIN_STORE_AWAY
    roster.status = 200
    assert (await door.come("1", "user-1")).person_id == known.person_id


async def test_another_roster_keeps_the_people(
    service: Service, roster: PlayedRoster, district: District, door: Door
) -> None:
    """A connection that goes by another integration now finds its people there, by its keys alone (C8)."""
    roster.add(district.integration_id, "user-1")
    before = (await door.come("1", "user-1")).person_id
    newer = await add_integration(service.database, district.organization_id)
    await service.database.fetch("UPDATE connection SET integration_id = $1", newer)
    roster.add(newer, "user-1", "Bo")  # somebody else has the old id there
    roster.add(newer, "person-1")
    assert await door.refuse("1") is Code.SIGNIN_NOT_ROSTERED
    assert (await door.come("1", "person-1")).person_id == before
    assert (await door.come("2", "user-1")).person_id != before
    assert (await door.come("1", "person-1")).person_id == before


async def test_disabled_doors_let_nobody_in(service: Service, roster: PlayedRoster, district: District) -> None:
    """A disabled connection refuses whoever the portal vouches for, and is no other's way in."""
    settings: Settings = service.app.state.settings
    closed = await open_door(service, settings, district, enabled=False)
    roster.add(district.integration_id, "user-1")
    assert await closed.refuse("1", "user-1") is Code.SIGNIN_CONNECTION_OFF
