"""Pictures of a district, good and bad, put through the gateway's and the store's own code without a network between.

A picture is what a provider serves of a truth: rows of OneRoster 1.1 in pages, with the counts it states. What is bad
about one is made by chance from a seed. The gateway compares and decides what is missing, the store judges and applies.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import numpy as np

from homeroom.bus import Message, Outgoing
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import (
    ROSTER_CHANGES,
    Bookmark,
    Decide,
    Fact,
    FetchAbandoned,
    Finding,
    Held,
    Mode,
    Options,
    SyncJob,
    read_fact,
)
from homeroom.roster import COLLECTIONS
from provider_gateway.comparer import Known
from provider_gateway.failures import ProviderError
from provider_gateway.fetching import fetch_district
from provider_gateway.providers._oneroster_pages import read_body, read_single
from provider_gateway.providers.contract import Page, Proof, Seen, Source
from provider_gateway.publisher import Publisher, Result
from provider_gateway.scope import Scope
from provider_gateway.tally import Tally
from roster_store.changes import ChangeConsumer
from roster_store.tables import SQL, TABLES
from sandbox_district import District

Rows = dict[str, list[dict[str, Any]]]
"""Collection → rows as OneRoster 1.1 serves them."""

PAGE = 200
WANTED = ("orgs", "academicSessions", "courses", "classes", "users", "enrollments")
CONFIRM_AT_MOST = 50
"""Fewer than in earnest, so that small districts see both ways of proving that somebody is gone."""


@dataclass
class PictureSource:
    """Serves one picture; `truth` is what the provider really has, and what it says when asked by id."""

    rows: Rows
    truth: Mapping[str, Mapping[str, dict[str, Any]]]
    stated: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    """Collection → the counts of the first and the last page, where they are not those of the rows."""
    refused: str | None = None
    """A collection that is refused."""
    mode: Mode = "full"
    mode_code: Code | None = None
    increments: bool = False
    collections: Sequence[str] = WANTED
    refused_schools: Mapping[str, str] = field(default_factory=dict)

    async def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """The picture's rows, page by page."""
        if collection == self.refused:
            raise ProviderError(Code.PROV_SCOPE, "refused")
        rows = self.rows[collection]
        first, last = self.stated.get(collection, (len(rows), len(rows)))
        starts = range(0, max(len(rows), 1), PAGE)
        for start in starts:
            body = msgspec.json.encode({collection: rows[start : start + PAGE]})
            stated = last if start == starts[-1] and start else first
            yield read_body("picture", collection, body, stated, scope)

    def proof(self, collection: str) -> Proof:  # noqa: ARG002 - the same for all
        """Counts, as for every OneRoster server."""
        return Proof.COUNTS

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:
        """What the provider has under an id."""
        row = self.truth[collection].get(sourced_id)
        return None if row is None else read_single("picture", collection, msgspec.json.encode({"one": row}), scope)

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:  # noqa: ARG002 - nothing to check
        """Nothing to go on from."""
        return {}

    async def remark(self) -> Sequence[Finding]:
        """Nothing."""
        return ()


class _Wire:
    """Takes what the gateway sends, and what the store answers."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def send(self, message: Outgoing) -> Awaitable[None]:
        """Keep a message; it is durable at once."""
        await self.publish(message)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def publish(self, *messages: Outgoing) -> None:
        """Keep messages."""
        for one in messages:
            at = len(self.sent)
            self.sent.append(Message(one.topic, 0, at, one.key, one.value, one.headers, datetime.now(UTC)))


class _Known:
    """What the store holds, read from its tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, integration_id: str) -> tuple[int, dict[str, Known]]:
        """As the gateway's client of the store answers."""
        basis = await self._database.fetchval(SQL["last_apply"], integration_id) or 0
        found = {}
        for collection in COLLECTIONS:
            rows = await self._database.fetch(TABLES[collection].sql("fingerprints"), integration_id)
            keys = np.frombuffer(b"".join(row["key"].bytes for row in rows), ">u8").reshape(-1, 2)
            marks = np.array([row["fingerprint"] for row in rows], np.int64)
            found[collection] = Known(keys[:, 0].astype(np.uint64), keys[:, 1].astype(np.uint64), marks)
        return basis, found

    async def sourced_ids(self, integration_id: str, collection: str, keys: bytes) -> dict[bytes, str]:
        """The sourcedIds behind keys."""
        wanted = [uuid.UUID(bytes=keys[at : at + 16]) for at in range(0, len(keys), 16)]
        rows = await self._database.fetch(TABLES[collection].sql("ids"), integration_id, wanted)
        return {row["key"].bytes: row["sourced_id"] for row in rows}


class Pipe:
    """One integration, from a picture to what the store makes of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.integration_id = str(uuid.uuid4())
        self.organization_id = str(uuid.uuid4())
        self.runs = 0
        self.bookmark: Bookmark | None = None
        """Of the last set of files that was applied."""
        self._known: Any = _Known(database)

    async def sync(self, source: Source) -> Fact | None:
        """Fetch, compare, publish, apply; the store's answer, or None for a fetch that was given up."""
        wire: Any = _Wire()
        job = self._make_job()
        fetch_id = uuid.uuid4().hex
        publisher = Publisher(wire, job, fetch_id, in_flight=64)
        tally = Tally()
        known = asyncio.create_task(self._begin(publisher))
        try:
            await fetch_district(
                self.integration_id,
                Scope(job.options, job.today),
                source,
                known,
                self._known,
                publisher,
                tally,
                confirm_at_most=CONFIRM_AT_MOST,
            )
            await publisher.settle()
            result = Result(mode="full", mode_code=None, bookmark=None, refused_schools={}, duplicates=tally.duplicates)
            await publisher.complete(tally.reports(), tally.issues, result)
        except ProviderError as error:
            await asyncio.gather(known)
            await publisher.abandon(
                FetchAbandoned(
                    run_id=job.run_id, fetch_id=fetch_id, integration_id=self.integration_id, code=error.code
                )
            )
        return await self._hand_over(wire.sent)

    async def active(self) -> dict[str, set[str]]:
        """The sourcedIds the store holds as active."""
        found = {}
        for collection in WANTED:
            rows = await self.database.fetch(
                f"SELECT sourced_id FROM {TABLES[collection].name} WHERE active AND integration_no ="  # noqa: S608 - names of ours
                " (SELECT no FROM integration WHERE id = $1)",
                self.integration_id,
            )
            found[collection] = {row["sourced_id"] for row in rows}
        return found

    async def approve(self, held: Held) -> Sequence[Fact]:
        """Let somebody approve what is held."""
        from roster_store.decisions import decide  # the one use of it

        decision = Decide(
            decision_id=str(uuid.uuid4()),
            run_id=held.run_id,
            attempt=held.attempt,
            integration_id=self.integration_id,
            plan=held.plan,
            action="approve",
            by="test",
            at=datetime.now(UTC),
        )
        return await decide(self.database, decision)

    def _make_job(self) -> SyncJob:
        self.runs += 1
        now = datetime.now(UTC)
        return SyncJob(
            run_id=str(uuid.uuid4()),
            run_number=self.runs,
            attempt=1,
            integration_id=self.integration_id,
            organization_id=self.organization_id,
            provider="oneroster",
            connection={},
            sealed_secret="",
            options=Options(sync_parents=True),
            deadline=now + timedelta(hours=1),
            today=now.date(),
        )

    async def _begin(self, publisher: Publisher) -> dict[str, Known]:
        basis, known = await self._known.known(self.integration_id)
        await publisher.start(basis)
        return known  # type: ignore[no-any-return]  # `_Known.known` gives nothing else

    async def _hand_over(self, messages: Sequence[Message]) -> Fact | None:
        answers: Any = _Wire()
        await ChangeConsumer(self.database, answers).handle(
            [one for one in messages if one.topic == ROSTER_CHANGES.name]
        )
        facts = [read_fact(message) for message in answers.sent]
        own = [fact for fact in facts if getattr(fact, "fetch_id", None) or getattr(fact, "code", None)]
        return own[-1] if own else None  # type: ignore[return-value]  # the store answers with facts of runs only


def read_truth(district: District) -> dict[str, dict[str, dict[str, Any]]]:
    """What the provider has: collection → sourcedId → row, in the order it serves them."""
    return {name: dict(sorted(district.active(name).items())) for name in WANTED}


def as_rows(truth: Mapping[str, Mapping[str, dict[str, Any]]]) -> Rows:
    """All of it, as rows."""
    return {name: list(records.values()) for name, records in truth.items()}


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class BadPicture:
    """A picture, what is wrong with it, and whether a great many would go if it were believed."""

    kind: str
    source: PictureSource
    mass: bool


def make_bad_picture(rng: Random, truth: Mapping[str, Mapping[str, dict[str, Any]]]) -> BadPicture:
    """One picture of the truth that is wrong in a way of its own."""
    make = rng.choice((_empty, _cut_short, _cut_and_counted, _shifted, _without_school, _rekeyed, _refused))
    return make(rng, truth)


def _empty(rng: Random, truth: Mapping[str, Any]) -> BadPicture:
    """A collection arrives empty, with an honest count, a wrong one, or none."""
    rows, name = as_rows(truth), rng.choice(WANTED)
    count = rng.choice((0, None, len(rows[name])))
    rows[name] = []
    return BadPicture(f"empty {name}", PictureSource(rows, truth, {name: (count, count)}), mass=True)


def _cut_short(rng: Random, truth: Mapping[str, Any]) -> BadPicture:
    """Rows are missing, and the counts say so, or nothing."""
    rows, name = as_rows(truth), rng.choice(WANTED)
    whole = len(rows[name])
    rows[name] = _drop(rng, rows[name], int(whole * rng.uniform(0.01, 0.9)))
    stated = rng.choice(((whole, whole), (None, None), (whole, len(rows[name]))))
    return BadPicture(f"cut short {name}", PictureSource(rows, truth, {name: stated}), mass=False)


def _cut_and_counted(rng: Random, truth: Mapping[str, Any]) -> BadPicture:
    """Rows are missing, and the counts agree: an export that lost a part of its source."""
    rows, name = as_rows(truth), rng.choice(("classes", "users", "enrollments"))
    whole = len(rows[name])
    lost = int(whole * rng.uniform(0.02, 0.95))
    if lost > CONFIRM_AT_MOST:  # more than are asked for by id, and no less than the guard's tenth
        lost = max(lost, whole // 10 + 1)
    rows[name] = _drop(rng, rows[name], lost)
    mass = lost > CONFIRM_AT_MOST
    return BadPicture(f"cut and counted {name}", PictureSource(rows, truth), mass=mass)


def _shifted(rng: Random, truth: Mapping[str, Any]) -> BadPicture:
    """Rows move while they are read: some are skipped, some come twice, others appear; counts may stay the same."""
    rows = as_rows(truth)
    name = rng.choice(("users", "enrollments"))
    listed = rows[name]
    number = rng.randint(1, 12)
    skipped = set(rng.sample(range(len(listed)), number))
    kept = [row for at, row in enumerate(listed) if at not in skipped]
    twice = rng.choice((0, number))
    kept += rng.sample(kept, twice)
    counts = rng.choice(((len(listed), len(listed)), (len(listed), len(listed) - number), (len(set_ids(kept)),) * 2))
    rows[name] = kept
    return BadPicture(f"shifted {name}", PictureSource(rows, truth, {name: counts}), mass=False)


def _without_school(rng: Random, truth: Mapping[str, Any]) -> BadPicture:
    """A school is missing, with or without its own record, and everything counts as if it never was."""
    school = rng.choice([key for key, org in truth["orgs"].items() if org["type"] == "school"])
    with_org = rng.random() < 0.5
    classes = {key for key, one in truth["classes"].items() if one["school"]["sourcedId"] == school}
    people = {
        key
        for key, one in truth["users"].items()
        if {org["sourcedId"] for org in one["orgs"]} <= {school} and one["orgs"]
    }
    gone = {
        "orgs": set() if with_org else {school},
        "classes": classes,
        "users": people,
        "enrollments": {
            key
            for key, one in truth["enrollments"].items()
            if one["class"]["sourcedId"] in classes or one["user"]["sourcedId"] in people
        },
    }
    rows = {
        name: [row for key, row in records.items() if key not in gone.get(name, ())] for name, records in truth.items()
    }
    mass = max(map(len, gone.values())) > CONFIRM_AT_MOST
    return BadPicture("without a school", PictureSource(rows, truth), mass=mass)


def _rekeyed(rng: Random, truth: Mapping[str, Any]) -> BadPicture:
    """Everybody, or most, have new ids; the old ones are not known any more."""
    share = rng.uniform(0.4, 1.0)
    renamed = {key: f"new-{key}" for key in truth["users"] if rng.random() < share}
    moved: dict[str, dict[str, Any]] = {name: {} for name in WANTED}
    for name, records in truth.items():
        for key, row in records.items():
            new = dict(row)
            if name == "users" and key in renamed:
                new["sourcedId"] = renamed[key]
            if name == "users" and new.get("agents"):
                new["agents"] = [_rename(ref, renamed) for ref in new["agents"]]
            if name == "enrollments" and row["user"]["sourcedId"] in renamed:
                new |= {"sourcedId": f"new-{key}", "user": _rename(row["user"], renamed)}
            moved[name][new["sourcedId"]] = new
    return BadPicture("re-keyed", PictureSource(as_rows(moved), moved), mass=True)


def _refused(rng: Random, truth: Mapping[str, Any]) -> BadPicture:
    """A collection is refused in the midst of the run."""
    return BadPicture("refused", PictureSource(as_rows(truth), truth, refused=rng.choice(WANTED)), mass=True)


def _rename(ref: dict[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    return {**ref, "sourcedId": renamed.get(ref["sourcedId"], ref["sourcedId"])}


def _drop(rng: Random, rows: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Rows without some: from one end, from a page in the middle, or here and there."""
    number = max(1, number)
    match rng.randrange(3):
        case 0:
            return rows[: len(rows) - number]
        case 1:
            start = rng.randrange(len(rows) - number + 1)
            return rows[:start] + rows[start + number :]
    lost = set(rng.sample(range(len(rows)), number))
    return [row for at, row in enumerate(rows) if at not in lost]


def set_ids(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The sourcedIds of some rows."""
    return {row["sourcedId"] for row in rows}
