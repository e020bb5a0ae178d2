"""What sign-in does in the background: ends, counts, forgets and tells, and goes on whatever is away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from connecting import make_connection
from roster_stand_in import District, PlayedRoster

from homeroom.bus import BusUnavailable, Message, Outgoing
from homeroom.ids import new_id
from homeroom.messages import Erased, read_sign_in, to_erasures
from homeroom.telemetry import LAUNCHES
from sso.launch.arrivals import Arrival
from sso.launch.erasures import ErasureConsumer
from sso.launch.flows import Intent
from sso.launch.sessions import Session
from sso.launch.sign_ins import note_sign_in
from sso.launch.upkeep import Upkeep, keep_telling
from sso.settings import Settings

if TYPE_CHECKING:
    from conftest import Service


class PlayedBus:
    """A bus that keeps what is published, or is away."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.away = False
        self.asked = asyncio.Event()

    async def publish(self, *messages: Outgoing) -> None:
        """Keep the messages."""
        self.asked.set()
        if self.away:
            raise BusUnavailable
        self.published.extend(messages)


async def count(service: Service, which: str) -> Any:
    """How many rows."""
    return await service.database.fetchval(f"SELECT count(*) FROM {which}")  # noqa: S608 - a table of these tests


def as_message(outgoing: Outgoing) -> Message:
    """A sent message as a consumer sees it."""
    return Message(outgoing.topic, 0, 0, outgoing.key, outgoing.value, outgoing.headers, datetime.now(UTC))


async def come(service: Service, upstream_id: UUID, subject: str, key: str | None) -> UUID:
    """Somebody comes in, with a session, and is told to a product; the session's id."""
    upstream = await service.launching.upstreams.find(upstream_id)
    assert upstream is not None
    trace = service.launching.launches.begin("launch", upstream.kind)
    found = await service.launching.identify(Arrival(upstream, subject, None, key), Intent("launch"), trace)
    await service.launching.launches.write(trace, "completed")
    session_id = new_id()
    sourced_id = None if found.person is None else found.person.sourced_id
    await service.database.fetch(
        "INSERT INTO session (id, token_hash, person_id, integration_id, sourced_id, auth_time, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, now(), now() + interval '1 hour')",
        session_id,
        session_id.bytes,
        found.person_id,
        found.door.integration_id,
        sourced_id,
    )
    await service.database.fetch(
        "INSERT INTO participation (sid, session_id, client_id, subject) VALUES ($1, $2, 'reader', 'x')",
        new_id(),
        session_id,
    )
    return session_id


async def test_what_is_over_is_swept(
    service: Service, settings: Settings, roster: PlayedRoster, district: District
) -> None:
    """Old flows, codes, answers and sessions go, and none that is still good, from two workers at once."""
    upstream_id, _ = await make_connection(service.database, settings, organization_id=district.organization_id)
    for number in range(3):
        roster.add(district.integration_id, f"user-{number}")
        await come(service, upstream_id, str(number), f"user-{number}")
    for hours in (-1, 1):
        state = str(hours).encode()
        await service.database.fetch(
            "INSERT INTO flow (state_hash, browser_hash, launch_id, support_id, upstream_id, purpose, expires_at) "
            "VALUES ($1, $1, $2, 'HR-0000-0000', $2, 'launch', now() + make_interval(hours => $3))",
            state,
            uuid4(),
            hours,
        )
        await service.database.fetch(
            "INSERT INTO presented VALUES ($1, now() + make_interval(hours => $2))", state, hours
        )
    await service.database.fetch("UPDATE session SET expires_at = now() WHERE sourced_id = 'user-0'")
    await service.database.fetch(
        "UPDATE session SET last_seen_at = now() - '3 hours'::interval WHERE sourced_id = 'user-1'"
    )
    await service.database.fetch(
        "UPDATE person_answer SET asked_at = now() - '5 hours'::interval WHERE value = 'user-0'"
    )
    done = await asyncio.gather(*(Upkeep(service.database, settings).tidy() for _ in range(2)))
    together = {name: sum(one[name] for one in done) for name in done[0]}
    assert {name: some for name, some in together.items() if some} == {
        "sweep_flows": 1,
        "sweep_presented": 1,
        "sweep_answers": 1,
        "sweep_sessions": 2,
    }
    assert await service.database.fetchval("SELECT sourced_id FROM session") == "user-2"
    assert await count(service, "participation WHERE ended_at IS NOT NULL") == 2


async def test_launches_nobody_came_back_from_are_abandoned(
    service: Service, settings: Settings, district: District
) -> None:
    """After a quarter of an hour a launch under way counts as not completed, once, in the metric as well."""
    upstream_id, _ = await make_connection(service.database, settings, organization_id=district.organization_id)
    launches = service.launching.launches
    for minutes in (0, 14, 16, 60):
        trace = launches.begin("launch", "oidc")
        trace.facts["upstream_id"] = upstream_id
        await launches.write(trace, "signed-in" if minutes == 60 else None)
        await service.database.fetch(
            "UPDATE launch SET began_at = now() - make_interval(mins => $2) WHERE id = $1", trace.id, minutes
        )

    def value() -> float:
        samples = [one for metric in LAUNCHES.collect() for one in metric.samples if one.name.endswith("_total")]
        return sum(
            one.value for one in samples if one.labels == {"kind": "oidc", "purpose": "launch", "outcome": "abandoned"}
        )

    before = value()
    done = await asyncio.gather(*(Upkeep(service.database, settings).tidy() for _ in range(2)))
    assert sum(one["abandoned"] for one in done) == 2
    assert value() == before + 2
    assert await count(service, "launch WHERE state = 'abandoned' AND ended_at IS NOT NULL") == 2


async def test_traces_and_people_are_not_kept_for_ever(
    service: Service, settings: Settings, roster: PlayedRoster, district: District
) -> None:
    """Traces go after their time, once their day is counted; who did not come for over a year is forgotten whole."""
    upstream_id, _ = await make_connection(service.database, settings, organization_id=district.organization_id)
    for number in (1, 2):
        roster.add(district.integration_id, f"user-{number}")
        await come(service, upstream_id, str(number), f"user-{number}")
    await come(service, upstream_id, "other portal", "user-2")
    await service.database.fetch("DELETE FROM session")
    await service.database.fetch(
        "UPDATE identity SET last_used_at = now() - interval '401 days' WHERE subject IN ('1', '2')"
    )
    await service.database.fetch(
        "UPDATE launch SET began_at = began_at - interval '31 days' WHERE sourced_id = 'user-1'"
    )
    done = await asyncio.gather(*(Upkeep(service.database, settings).tidy_rarely() for _ in range(2)))
    together = {name: sum(one[name] for one in done) for name in done[0]}
    assert together["identities"] == 2
    assert together["days"] >= 30
    assert await Upkeep(service.database, settings).tidy_rarely()
    assert await count(service, "launch") == 2
    assert await service.database.fetchval("SELECT sum(launches) FROM launch_count") == 1
    assert [row["sourced_id"] for row in await service.database.fetch("SELECT sourced_id FROM person_name")] == [
        "user-2"
    ]
    assert await count(service, "person") == await count(service, "identity") == 1


async def test_sign_ins_wait_for_the_bus(service: Service, district: District) -> None:
    """While the bus is away sign-ins are written down and nobody is kept waiting; then all are told, and forgotten."""
    session = Session(
        new_id(),
        uuid4(),
        district.organization_id,
        uuid4(),
        district.integration_id,
        "user-1",
        None,
        None,
        datetime.now(UTC),
    )
    bus, stop = PlayedBus(), asyncio.Event()
    bus.away = True
    telling = asyncio.create_task(keep_telling(service.database, bus, stop))  # type: ignore[arg-type]  # publish is all it uses
    await service.database.transact(lambda one: note_sign_in(one, session, district.product_id))
    async with asyncio.timeout(10):
        await bus.asked.wait()
    assert (await service.client.get("/sso/session")).status_code == 200
    assert await count(service, "sign_in") == 1
    assert not telling.done()
    stop.set()
    await telling
    bus.away, again = False, asyncio.Event()
    telling = asyncio.create_task(keep_telling(service.database, bus, again))  # type: ignore[arg-type]  # likewise
    async with asyncio.timeout(10):
        while await count(service, "sign_in"):
            await asyncio.sleep(0.01)
    again.set()
    await telling
    (told,) = (read_sign_in(as_message(one)) for one in bus.published)
    assert (told.user_sourced_id, told.product_id) == ("user-1", str(district.product_id))


async def test_the_api_never_touches_the_bus(service: Service, settings: Settings) -> None:
    """Sso's API runs without a bus: nothing it opens is one, and it says that it is ready."""
    assert settings.kafka is None
    assert await service.database.fetchval("SELECT to_regnamespace('bus') IS NULL")
    assert (await service.client.get("/readyz")).status_code == 200
    assert not [name for name in vars(service.app.state)["_state"] if "bus" in name.lower()]


async def test_an_erased_person_is_nowhere_in_sign_in(
    service: Service, settings: Settings, roster: PlayedRoster, district: District
) -> None:
    """Whoever is erased is found in no table any more; products hear that sessions end, and nobody else is touched."""
    upstream_id, connection_id = await make_connection(
        service.database, settings, organization_id=district.organization_id
    )
    for name in ("sis-vexilla", "user-2"):
        roster.add(district.integration_id, name, "Wrenfeather", "Okonjuvala")
        await come(service, upstream_id, f"portal-{name}", name)
    session = Session(
        new_id(),
        uuid4(),
        district.organization_id,
        uuid4(),
        district.integration_id,
        "sis-vexilla",
        None,
        None,
        datetime.now(UTC),
    )
    await service.database.transact(lambda one: note_sign_in(one, session, district.product_id))
    await service.database.fetch(
        "INSERT INTO staff_account (id, kind, organization_id, connection_id, tenant, subject) "
        "VALUES ($1, 'portal', $2, $3, '', 'portal-sis-vexilla')",
        uuid4(),
        district.organization_id,
        connection_id,
    )
    roster.pupils = [one for one in roster.pupils if one.person.sourced_id != "sis-vexilla"]
    erased = Erased(
        erasure_id=str(uuid4()),
        integration_id=str(district.integration_id),
        organization_id=str(district.organization_id),
        sourced_ids=("sis-vexilla", "enrollment-1"),
        at=datetime.now(UTC),
    )
    for _ in range(2):
        await ErasureConsumer(service.database).handle([as_message(to_erasures(erased))])
    tables = await service.database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'sso'")
    for row in tables:
        name = row["tablename"]
        found = await service.database.fetchval(
            f"SELECT count(*) FROM {name} AS held WHERE held::text LIKE '%sis-vexilla%'"  # noqa: S608 - a table's name
        )
        assert found == 0, name
    assert await count(service, "participation WHERE ended_at IS NOT NULL") == 1
    assert await count(service, "launch") == 2
    assert [row["sourced_id"] for row in await service.database.fetch("SELECT sourced_id FROM session")] == ["user-2"]
    assert await count(service, "person") == await count(service, "identity") == 1
