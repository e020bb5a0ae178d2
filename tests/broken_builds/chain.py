"""The way of a run inside one process: the real gateway, store and state machine, a made-up provider, no bus between.

A test holds every message in its hands: it may lose one, hand it over twice, or late, as a bus and workers that die
would. That is how a fault that takes a whole installation seconds to come about takes milliseconds here.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from history import History, Provided, RunBegan, RunEnded, Served, StoreWatch, digest_record
from pydantic import SecretStr

from homeroom.bus import Message, Outgoing
from homeroom.clock import SystemClock
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import (
    ROSTER_CHANGES,
    ROSTER_EVENTS,
    SYNC_FACTS,
    Claimed,
    Failed,
    Fetched,
    Options,
    Progress,
    SyncJob,
    read_fact,
)
from homeroom.roster import Class, Enrollment, Org, Record, Role, User, record_key
from provider_gateway.comparer import Known, split_keys
from provider_gateway.execution import Execution
from provider_gateway.failures import RecordProblem
from provider_gateway.providers.contract import Page, Proof, RawPage, make_page
from provider_gateway.settings import GatewaySettings
from roster_store.changes import ChangeConsumer
from roster_store.relay import Relay
from roster_store.sights import Rosters
from roster_store.tables import TABLES
from sync_scheduler.runs import Limits, Run
from sync_scheduler.transitions import hear, supervise

PAGE = 3
Roster = dict[str, list[Any]]


class Wire:
    """A bus as far as services send: keeps what is sent, in order, durable at once."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.failing = 0
        """How many sends are still to fail, as if the process died there."""

    async def send(self, message: Outgoing) -> Awaitable[None]:
        """Keep a message."""
        await self.publish(message)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def publish(self, *messages: Outgoing) -> None:
        """Keep messages, or fail."""
        if self.failing:
            self.failing -= 1
            raise ConnectionError("the process died here")
        self.sent += messages

    def of(self, topic: str) -> list[Message]:
        """What was sent to a topic, as a consumer sees it."""
        now = datetime.now(UTC)
        return [
            Message(one.topic, 0, place, one.key, one.value, one.headers, now)
            for place, one in enumerate(self.sent)
            if one.topic == topic
        ]


# ── the provider ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class PlayedProvider:
    """What a provider has, and how it fails to show it."""

    truth: Roster
    shown: Roster = field(default_factory=dict)
    """Collections that are shown otherwise than they are."""
    unreadable: frozenset[str] = frozenset()
    """The sourcedIds of records that come in a form nobody understands."""
    stated: dict[str, int] = field(default_factory=dict)
    """Counts that are stated wrongly."""
    proof: Proof = Proof.COUNTS

    def rows(self, collection: str) -> list[Any]:
        """What is shown of a collection."""
        return self.shown.get(collection, self.truth[collection])

    def heal(self) -> None:
        """Show everything as it is."""
        self.shown, self.unreadable, self.stated = {}, frozenset(), {}


class PlayedSource:
    """One fetch of it; see `provider_gateway.providers.contract.Source`."""

    mode = "full"
    mode_code: Code | None = None
    increments = False

    def __init__(self, provider: PlayedProvider) -> None:
        self._provider = provider
        self.refused_schools: dict[str, str] = {}
        self.collections = tuple(provider.truth)
        self._came: dict[str, list[str]] = {}

    @property
    def served(self) -> dict[str, int]:
        """How many records of each collection were shown; one that was asked for once more counts once."""
        return {collection: len(came) for collection, came in self._came.items()}

    async def pages(self, collection: str, scope: Any) -> AsyncGenerator[Page, None]:
        """All pages of a collection, at least one."""
        rows = self._provider.rows(collection)
        self._came[collection] = [record.sourced_id for record in rows]
        stated = self._provider.stated.get(collection, len(rows))
        for start in range(0, max(len(rows), 1), PAGE):
            some = rows[start : start + PAGE]
            yield make_page(collection, self._raw(some, stated), scope)

    def proof(self, collection: str) -> Proof:  # noqa: ARG002 - the same for all
        """What proves that a collection was read to its end."""
        return self._provider.proof

    async def find(self, collection: str, sourced_id: str, scope: Any) -> Page | None:
        """One record by its id, as it really is."""
        found = [record for record in self._provider.truth[collection] if record.sourced_id == sourced_id]
        if found and sourced_id not in self._came[collection]:
            self._came[collection].append(sourced_id)
        return make_page(collection, self._raw(found, None), scope) if found else None

    async def finish(self, seen: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - nothing to check
        """Nothing to check, nothing to remember."""
        return {}

    async def remark(self) -> Sequence[Any]:
        """Nothing to tell."""
        return ()

    def _raw(self, records: Sequence[Record], stated: int | None) -> RawPage:
        bad = self._provider.unreadable
        return RawPage(
            received=len(records),
            records=[record for record in records if record.sourced_id not in bad],
            refused=[
                RecordProblem(Code.BAD_DATE, sourced_id=record.sourced_id)
                for record in records
                if record.sourced_id in bad
            ],
            stated=stated,
        )


# ── what the gateway knows of the store ───────────────────────────────────────────────────────────────────────────


@dataclass
class Shelf:
    """What the store holds, as the gateway asks for it over HTTP; here straight from the tables."""

    database: Database

    async def known(self, integration_id: str, collections: Sequence[str]) -> tuple[int, dict[str, Known]]:
        """The number of the last apply, and keys and fingerprints."""
        row = await self.database.fetchrow("SELECT no, last_apply FROM integration WHERE id = $1", integration_id)
        if row is None:
            return 0, {collection: Known.nothing() for collection in collections}
        found = {}
        for collection in collections:
            rows = await self._held(collection, row["no"])
            upper, lower = split_keys(b"".join(one["key"].bytes for one in rows))
            marks = np.array([one["fingerprint"] for one in rows], np.int64)
            found[collection] = Known(upper, lower, marks)
        return row["last_apply"], found

    async def sourced_ids(self, integration_id: str, collection: str, keys: bytes) -> dict[bytes, str]:
        """The sourcedIds behind some keys."""
        no = await self.database.fetchval("SELECT no FROM integration WHERE id = $1", integration_id)
        wanted = {keys[start : start + 16] for start in range(0, len(keys), 16)}
        rows = await self._held(collection, no)
        return {record_key(one["sourced_id"]): one["sourced_id"] for one in rows if one["key"].bytes in wanted}

    async def _held(self, collection: str, no: int) -> list[Any]:
        return await self.database.fetch(
            f"SELECT key, fingerprint, sourced_id FROM {TABLES[collection].name}"  # noqa: S608 - one of our own tables
            " WHERE integration_no = $1 AND active AND origin = 'synced' ORDER BY key",
            no,
        )


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class PlayedRun:
    """A run, moved by the scheduler's own state machine, on a clock that is moved by hand."""

    run_id: str
    number: int
    run: Run
    passed: timedelta = timedelta()

    @property
    def now(self) -> datetime:
        """The scheduler's time."""
        return datetime.now(UTC) + self.passed

    def hear(self, *facts: Any) -> None:
        """Hear facts about it."""
        for fact in facts:
            self.run = hear(self.run, fact, now=self.now, limits=LIMITS).run

    def wait(self, seconds: float) -> None:
        """Let time pass, with nothing heard."""
        self.passed += timedelta(seconds=seconds)
        self.run = supervise(self.run, now=self.now, limits=LIMITS).run


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class FetchedMessages:
    """All that one execution of a job sent."""

    changes: list[Message]
    facts: list[Any]


@dataclass
class Chain:
    """One integration from its provider to a product."""

    database: Database
    store: StoreWatch
    history: History
    provider: PlayedProvider
    integration_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    organization_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    wire: Wire = field(default_factory=Wire)
    runs: int = 0
    version: int = 0
    told: int = 0
    served: dict[str, dict[str, int]] = field(default_factory=dict)
    quarantined: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.consumer = ChangeConsumer(self.database, self.wire)  # type: ignore[arg-type]  # publish is all it uses
        self.relay = Relay(self.database, Rosters(self.database), self.wire)  # type: ignore[arg-type]  # likewise
        self.note_truth()

    # the provider

    def note_truth(self) -> None:
        """Write down what the provider has from now on; what nobody could take is left out."""
        records = {
            f"{collection}/{record.sourced_id}": digest_record(collection, record)
            for collection, some in self.provider.truth.items()
            for record in some
            if f"{collection}/{record.sourced_id}" not in self.quarantined
        }
        self.history.note(Provided(integration=self.integration_id, version=self.version, records=records))

    def change(self, **collections: Iterable[Any]) -> None:
        """From now on the provider has these collections otherwise."""
        self.version += 1
        self.provider.truth = self.provider.truth | {name: list(some) for name, some in collections.items()}
        self.note_truth()

    # a run, step by step

    def begin(self) -> PlayedRun:
        """A run is asked for."""
        self.runs += 1
        run = Run(deadline_at=datetime.now(UTC) + timedelta(days=1))
        played = PlayedRun(str(uuid.uuid4()), self.runs, run)
        self.history.note(RunBegan(integration=self.integration_id, run=played.run_id, number=played.number))
        return played

    async def fetch(self, played: PlayedRun, attempt: int = 1) -> FetchedMessages:
        """Let a gateway worker do the job to its end; what it sends is nobody's yet."""
        wire = Wire()
        source = PlayedSource(self.provider)

        @asynccontextmanager
        async def open_source(*_: Any, **__: Any) -> AsyncIterator[PlayedSource]:
            yield source

        workshop = SimpleNamespace(
            settings=_SETTINGS, bus=wire, store=Shelf(self.database), clock=SystemClock(), worker="worker",
            open_source=open_source,
        )  # fmt: skip
        job = SyncJob(
            run_id=played.run_id,
            run_number=played.number,
            attempt=attempt,
            integration_id=self.integration_id,
            organization_id=self.organization_id,
            provider="oneroster",
            connection={},
            sealed_secret="",
            options=Options(sync_parents=True),
            deadline=datetime.now(UTC) + timedelta(minutes=5),
            today=datetime.now(UTC).date(),
        )
        execution = Execution(workshop, job)  # type: ignore[arg-type]  # what it uses of a workshop
        async with asyncio.timeout(30):
            await execution.claim()
            await execution.start()
        self.served[played.run_id] = source.served
        return FetchedMessages(wire.of(ROSTER_CHANGES.name), [read_fact(one) for one in wire.of(SYNC_FACTS.name)])

    async def deliver(self, messages: Sequence[Message]) -> list[Any]:
        """Hand messages to the store; the facts it answers with."""
        before = len(self.answers())
        await self.consumer.handle(messages)
        return self.answers()[before:]

    def answers(self) -> list[Any]:
        """All facts the store has told so far."""
        return [read_fact(one) for one in self.wire.of(SYNC_FACTS.name)]

    async def work(self, played: PlayedRun, attempt: int = 1) -> PlayedRun:
        """One attempt without a fault, from the job to the store's answer."""
        fetched = await self.fetch(played, attempt)
        played.hear(*(fact for fact in fetched.facts if isinstance(fact, Claimed | Progress)))
        answers = await self.deliver(fetched.changes)
        played.hear(*(fact for fact in fetched.facts if isinstance(fact, Fetched | Failed)), *answers)
        return played

    async def sync(self) -> PlayedRun:
        """A run as it should be; made again where an attempt failed and another may succeed."""
        return await self.see_through(await self.work(self.begin()))

    async def see_through(self, played: PlayedRun) -> PlayedRun:
        """Make the attempts that are still due, and write down how the run ended."""
        while played.run.active and played.run.state == "queued" and played.run.attempt < LIMITS.attempts:
            await self.work(played, played.run.attempt)
        return self.end(played)

    def end(self, played: PlayedRun) -> PlayedRun:
        """Write down how a run ended, if it did."""
        run = played.run
        if not run.active:
            served = self.served.get(played.run_id)
            if served is not None and run.attempt == 1:
                self.history.note(Served(integration=self.integration_id, run=played.run_id, records=served))
            self.history.note(
                RunEnded(
                    integration=self.integration_id,
                    run=played.run_id,
                    state=run.state.value,
                    code=run.code,
                    attempt=run.attempt,
                    counts={name: msgspec.structs.asdict(report) for name, report in run.collections.items()},
                )
            )
        return played

    # products

    async def send_events(self) -> None:
        """Relay everything there is, and let a product take it."""
        async with asyncio.timeout(30):
            while await self.relay.relay_page():
                pass
        self.take_events()

    def take_events(self) -> None:
        """Let the product take what was sent since the last time."""
        events = self.wire.of(ROSTER_EVENTS.name)
        for place, message in list(enumerate(events))[self.told :]:
            self.history.deliver("product", place, message.key, message.headers, message.value, at=time.time())
        self.told = len(events)

    async def rest(self) -> None:
        """Everything is sent; write down what the store holds."""
        await self.send_events()
        await self.store.rest(self.history, self.integration_id, self.quarantined)


_SETTINGS = GatewaySettings(
    database_url=SecretStr("postgresql://unused"), issuer="http://issuer.test", heartbeat_seconds=60.0
)


# ── a small district ──────────────────────────────────────────────────────────────────────────────────────────────


def student(number: int, name: str | None = None) -> User:
    """A student of the one school."""
    return User(
        sourced_id=f"user-{number}",
        given_name=name or f"Mila {number}",
        family_name=f"Ek {number}",
        email=f"student{number}@north.example",
        roles=(Role(role="student", org_sourced_id="north", role_type="primary"),),
    )


def seat(number: int, section: int = 1) -> Enrollment:
    """A student in a class."""
    return Enrollment(
        sourced_id=f"seat-{number}-{section}",
        user_sourced_id=f"user-{number}",
        class_sourced_id=f"class-{section}",
        school_sourced_id="north",
        role="student",
    )


def district(students: int = 8) -> Roster:
    """A school with a class and its students."""
    sections = [
        Class(sourced_id=f"class-{number}", title=f"Maths {number}", school_sourced_id="north", location="Room 1")
        for number in (1, 2)
    ]
    return {
        "orgs": [Org(sourced_id="north", name="North", type="school")],
        "classes": sections,
        "users": [student(number) for number in range(students)],
        "enrollments": [seat(number) for number in range(students)],
    }


def renamed(roster: Roster, number: int, name: str) -> list[User]:
    """The users, one of them with another name."""
    return [student(number, name) if one.sourced_id == f"user-{number}" else one for one in roster["users"]]


def without(records: Sequence[Any], *sourced_ids: str) -> list[Any]:
    """Records without some."""
    return [record for record in records if record.sourced_id not in sourced_ids]
