"""What is done to a build to see whether it holds: each makes the fault happen that an unbroken build survives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
from broken_builds.chain import Chain, PlayedProvider, Roster, district, renamed, seat, student, without
from history import Fault, History, RunBegan, RunEnded, StoreWatch
from pydantic import SecretStr

from homeroom.bus import Message, Outgoing
from homeroom.bus.postgres import PostgresBus
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import ROSTER_CHANGES, TOPICS, Failed, FetchCompleted, read_change
from homeroom.migrate import migrate
from homeroom.secrets import generate_key
from homeroom.testing.tokens import TestIssuer, calling
from provider_gateway.providers.contract import Proof
from roster_store.tables import TABLES
from sync_scheduler import schedules
from sync_scheduler.app import PACKAGE, SCHEMA, make_app
from sync_scheduler.settings import ApiSettings


@dataclass
class World:
    """What a scenario plays in."""

    database: Database
    database_url: str
    store: StoreWatch
    history: History
    broken_schema: list[str] = field(default_factory=list)
    """Statements that take something away from the scheduler's tables once they are made."""

    def chain(self, roster: Roster | None = None, *, quarantined: tuple[str, ...] = (), **provider: Any) -> Chain:
        """One more integration."""
        truth = roster or district()
        return Chain(
            self.database, self.store, self.history, PlayedProvider(truth, **provider), quarantined=[*quarantined]
        )


Scenario = Callable[[World], Awaitable[None]]


async def an_ordinary_week(world: World) -> None:
    """Somebody comes, somebody changes, somebody goes and comes back; then two nights on which nothing happens."""
    chain = world.chain()
    await chain.sync()
    before = chain.provider.truth
    chain.change(
        users=[*without(renamed(before, 2, "Milena"), "user-1"), student(20)],
        enrollments=[*without(before["enrollments"], "seat-1-1"), seat(20)],
    )
    await chain.sync()
    await chain.send_events()
    chain.change(**before)
    await chain.sync()
    chain.change(users=renamed(before, 3, "Mika"))
    for _ in range(3):
        await chain.sync()
    await chain.rest()


async def a_lost_chunk(world: World) -> None:
    """A part of a picture never reaches the store."""
    chain = world.chain()
    await chain.sync()
    chain.change(users=[*chain.provider.truth["users"], student(20)], orgs=[*chain.provider.truth["orgs"]])
    played = chain.begin()
    fetched = await chain.fetch(played)
    world.history.note(Fault(kind="lose", target="a chunk"))
    played.hear(*fetched.facts, *await chain.deliver([fetched.changes[0], *fetched.changes[2:]]))
    await chain.see_through(played)
    await chain.rest()


async def a_batch_twice(world: World) -> None:
    """The store stages chunks, dies before it commits its place, and is handed them again; likewise the last word."""
    chain = world.chain()
    played = chain.begin()
    fetched = await chain.fetch(played)
    played.hear(*fetched.facts)
    *chunks, completed = fetched.changes
    world.history.note(Fault(kind="repeat", target="chunks and completion"))
    await chain.deliver(chunks)
    await chain.deliver(chunks)
    try:
        played.hear(*await chain.deliver([completed]), *await chain.deliver([completed]))
    except Exception as error:  # noqa: BLE001 - the bus would hand it over again and again, and then bury it
        world.history.note(Fault(kind="fail", target=type(error).__name__))
    await chain.see_through(played)
    await chain.rest()


async def a_zombie(world: World) -> None:
    """A worker sleeps in the midst of a run, another takes over, and the first one goes on before that has ended."""
    chain = world.chain()
    await chain.sync()
    chain.change(users=renamed(chain.provider.truth, 2, "Milena"))
    played = chain.begin()
    sleeper = await chain.fetch(played)
    played.hear(sleeper.facts[0])
    played.hear(*await chain.deliver(sleeper.changes[:1]))
    world.history.note(Fault(kind="stop", target="gateway"))
    chain.change(users=renamed(chain.provider.truth, 2, "Milu"))
    played.wait(300)
    successor = await chain.fetch(played, played.run.attempt)
    played.hear(*successor.facts, *await chain.deliver(successor.changes[:-1]))
    played.hear(*await chain.deliver(sleeper.changes[1:]), *sleeper.facts[1:])
    played.hear(*await chain.deliver(successor.changes[-1:]))
    await chain.see_through(played)
    await chain.sync()
    await chain.rest()


async def a_late_picture(world: World) -> None:
    """A picture whose run was given up is applied after the next run has asked the store what it holds."""
    chain = world.chain()
    await chain.sync()
    before = chain.provider.truth
    chain.change(users=renamed(before, 2, "Milena"))
    late = chain.begin()
    overdue = await chain.fetch(late)
    late.hear(*overdue.facts)
    late.wait(2 * 86_400)
    chain.end(late)
    chain.change(**before)
    played = chain.begin()
    fetched = await chain.fetch(played)
    late.hear(*await chain.deliver(overdue.changes))
    played.hear(*fetched.facts, *await chain.deliver(fetched.changes))
    await chain.see_through(played)
    await chain.rest()


async def an_empty_collection(world: World) -> None:
    """The provider shows no enrollments on a bad day, and all of them on the next."""
    chain = world.chain()
    await chain.sync()
    chain.provider.shown = {"enrollments": []}
    await chain.sync()
    chain.provider.heal()
    await chain.sync()
    await chain.rest()


async def a_shifted_page(world: World) -> None:
    """A clerk edits while pages are read: two people who are there are on none of them."""
    chain = world.chain()
    await chain.sync()
    users = chain.provider.truth["users"]
    chain.provider.shown = {"users": without(users, "user-2", "user-5")}
    chain.provider.stated = {"users": len(users)}
    await chain.sync()
    await chain.rest()


async def a_page_that_shifted_unseen(world: World) -> None:
    """Somebody slips through while somebody else is new, so that all counts agree."""
    chain = world.chain()
    await chain.sync()
    chain.change(users=[*chain.provider.truth["users"], student(20)])
    chain.provider.shown = {"users": without(chain.provider.truth["users"], "user-2")}
    await chain.sync()
    await chain.rest()


async def an_unreadable_record(world: World) -> None:
    """Somebody who is there comes, in a complete file, in a form nobody understands."""
    chain = world.chain(proof=Proof.WHOLE)
    await chain.sync()
    chain.provider.unreadable = frozenset({"user-2"})
    await chain.sync()
    chain.provider.heal()
    await chain.sync()
    await chain.rest()


async def an_enrollment_without_its_user(world: World) -> None:
    """The provider has an enrollment of somebody it does not have."""
    roster = district()
    roster["enrollments"].append(seat(99))
    chain = world.chain(roster, quarantined=("enrollments/seat-99-1",))
    await chain.sync()
    await chain.rest()


async def a_relay_that_dies(world: World) -> None:
    """The relay dies while it sends, and begins again from its cursor."""
    chain = world.chain()
    await chain.sync()
    await chain.send_events()
    chain.change(users=renamed(chain.provider.truth, 2, "Milena"))
    await chain.sync()
    chain.wire.failing = 1
    world.history.note(Fault(kind="kill", target="relay"))
    try:
        await chain.send_events()
    except ConnectionError:
        chain.take_events()
    await chain.rest()


async def a_late_commit(world: World) -> None:
    """An apply that took its number first commits last, while the relay reads what its neighbour has applied."""
    slow, quick = world.chain(), world.chain()
    await slow.sync()
    await slow.send_events()
    slow.change(users=renamed(slow.provider.truth, 2, "Milena"))
    played = slow.begin()
    fetched = await slow.fetch(played)
    *begun, completed = fetched.changes
    played.hear(*fetched.facts, *await slow.deliver(begun))
    async with world.database.transaction() as blocker:
        await blocker.execute("SELECT FROM integration WHERE id = $1 FOR UPDATE", slow.integration_id)
        completing = asyncio.create_task(slow.deliver([completed]))
        async with asyncio.timeout(20):
            while not await world.database.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock')"
            ):
                await asyncio.sleep(0.01)
        await quick.sync()
        await slow.relay.relay_page()
    played.hear(*await completing)
    slow.end(played)
    await slow.rest()
    await world.store.rest(world.history, quick.integration_id)


async def a_record_made_by_hand(world: World) -> None:
    """Somebody made a record by hand, and the provider comes to have one with the same id."""
    chain = world.chain()
    await chain.sync()
    table = TABLES["users"]
    by_hand = ", ".join(
        {"sourced_id": "'user-30'", "given_name": "'Made'"}.get(one, f'"{one}"') for one in table.columns
    )
    await world.database.fetch(
        "INSERT INTO users"  # noqa: S608 - our own columns
        f" (integration_no, changed_by, change_no, version, change, active, origin, {table.column_list})"
        f" SELECT integration_no, 0, 0, 1, 'added', true, 'manual', {by_hand} FROM users WHERE sourced_id = 'user-3'"
    )
    chain.change(users=[*renamed(chain.provider.truth, 2, "Milena"), student(30)])
    await chain.sync()
    await chain.rest()


async def a_word_of_an_old_attempt(world: World) -> None:
    """A worker that was given up says that the provider fails, while its successor fetches without trouble."""
    chain = world.chain()
    await chain.sync()
    before = chain.provider.truth
    chain.change(users=without(before["users"], "user-1"), enrollments=without(before["enrollments"], "seat-1-1"))
    played = chain.begin()
    old = await chain.fetch(played)
    played.hear(old.facts[0])
    played.wait(300)
    successor = await chain.fetch(played, played.run.attempt)
    played.hear(successor.facts[0])
    world.history.note(Fault(kind="late", target="a failure"))
    played.hear(
        Failed(
            run_id=played.run_id,
            attempt=1,
            integration_id=chain.integration_id,
            at=played.now,
            code=Code.PROV_5XX,
            detail="The provider fails.",
        )
    )
    played.hear(*successor.facts[1:], *await chain.deliver(successor.changes))
    await chain.see_through(played)
    await chain.rest()


async def a_worker_that_dies_at_work(world: World) -> None:
    """A store worker dies with a message in its hands that its successor has to be handed."""
    chain = world.chain()
    played = chain.begin()
    fetched = await chain.fetch(played)
    played.hear(*fetched.facts)
    async with PostgresBus.open(world.database_url) as bus:
        await bus.ensure_topics(TOPICS)
        await bus.publish(*[_as_outgoing(message) for message in fetched.changes])
        died = asyncio.Event()

        async def die(messages: Any) -> None:
            if any(isinstance(read_change(message), FetchCompleted) for message in messages):
                died.set()
                await asyncio.sleep(30)
            await chain.consumer.handle(messages)

        first = bus.consumer([ROSTER_CHANGES.name], die, group="store", max_batch=1)
        task = asyncio.create_task(first.run())
        async with asyncio.timeout(20):
            await died.wait()
        world.history.note(Fault(kind="kill", target="store"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        second = bus.consumer([ROSTER_CHANGES.name], chain.consumer.handle, group="store")
        task = asyncio.create_task(second.run())
        async with asyncio.timeout(20):
            while await bus.lag("store", [ROSTER_CHANGES.name]):
                await asyncio.sleep(0.02)
        await second.stop()
        await asyncio.wait_for(task, 20)
    played.hear(*chain.answers())
    chain.end(played)
    await chain.rest()


async def a_double_click(world: World) -> None:
    """Two people ask for a run of the same integration at the same moment."""
    await migrate(world.database_url, schema=SCHEMA, package=PACKAGE)
    for statement in world.broken_schema:
        await world.database.fetch(statement)
    settings = ApiSettings(
        database_url=SecretStr(world.database_url),
        issuer="http://issuer.test",
        gateway_public_key=generate_key()[1],
        inquiry_wait_seconds=1.0,
    )
    issuer = TestIssuer()
    async with calling(make_app(settings, verifier=issuer.verifier), issuer.token(["admin"])) as client:
        organization = (await client.post("/v1/organizations", json={"name": "Springfield"})).json()["id"]
        answer = await client.post("/v1/integrations", json=_body(organization))
        integration = answer.raise_for_status().json()["id"]
        await asyncio.gather(*(_ask(client, integration) for _ in range(4)))
        await world.store.read_runs(world.history, integration)
    for began in [one for one in world.history.entries if isinstance(one, RunBegan)]:
        world.history.note(RunEnded(integration=integration, run=began.run, state="cancelled", code=Code.RUN_CANCELLED))


def _as_outgoing(message: Message) -> Outgoing:
    return Outgoing(message.topic, message.key, message.value, message.headers)


async def a_year_of_nights(world: World) -> None:
    """Runs at half past midnight through a year in which clocks go forward and back; a slot is a night's."""
    zone = ZoneInfo("America/Chicago")
    nightly = schedules.Schedule(kind="nightly", at=time(0, 30))
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    for number, slot in enumerate(schedules.list_slots(nightly, zone.key, start, end)):
        at, run = slot.at.timestamp(), f"night {number}"
        night = slot.at.astimezone(zone).date().isoformat()
        world.history.note(RunBegan(at=at, integration="i", run=run, number=number, slot=night))
        world.history.note(RunEnded(at=at + 60, integration="i", run=run, state="succeeded"))


async def _ask(client: httpx2.AsyncClient, integration: str) -> int:
    return (await client.post(f"/v1/integrations/{integration}/runs", json={})).status_code


def _body(organization: str) -> dict[str, Any]:
    return {
        "organization_id": organization,
        "name": "Springfield",
        "provider": "oneroster",
        "region": "us",
        "connection": {
            "endpoint_url": "https://sis.example.org/ims/oneroster/v1p1",
            "auth": "oauth1",
            "client_id": "homeroom",
            "client_secret": "made-up",
        },
    }
