"""The recorder: one append-only history per test, of everything a checker needs to judge it (reliability facts §4.2).

What happens is written down where it happens, not where it is claimed: the provider's truth comes from the sandbox,
what the store commits from triggers inside the committing transaction, events from a product that takes them, runs
from what admins are shown. A history is kept in memory and as JSON lines, so that one that fails can be read.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import xxhash

from homeroom.roster import ENTITY_NAMES, Record
from roster_store.tables import TABLES
from sandbox_district import District

RECORDER = Path(__file__).with_name("recorder.sql")
COLLECTION_OF = {entity: collection for collection, entity in ENTITY_NAMES.items()}
_TABLE_OF = {table.name: table for table in TABLES.values()}
_REFERENCES = {
    "user": ("users", "user_sourced_id"),
    "class": ("classes", "class_sourced_id"),
    "school": ("orgs", "school_sourced_id"),
}


class Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="f"):
    """Something that happened; `at` is in seconds of the machine's clock."""

    at: float = 0.0
    integration: str = ""


class Provided(Entry, frozen=True, kw_only=True, tag="provider.state"):
    """From now on the provider's truth is this: what belongs to the integration, by subject, with a digest of each."""

    version: int
    records: dict[str, str]


class Served(Entry, frozen=True, kw_only=True, tag="provider.served"):
    """How many records of each collection the provider showed to a run."""

    run: str
    records: dict[str, int]


class RunBegan(Entry, frozen=True, kw_only=True, tag="run.began"):
    """A run was asked for, by a person or by a slot of the schedule."""

    run: str
    number: int
    slot: str | None = None


class RunEnded(Entry, frozen=True, kw_only=True, tag="run.ended"):
    """How a run ended, as admins are shown it."""

    run: str
    state: str
    code: str | None = None
    attempt: int = 1
    counts: dict[str, dict[str, int]] = {}


class Decided(Entry, frozen=True, kw_only=True, tag="run.decided"):
    """Somebody decided about what a run held."""

    run: str
    action: str


class Fetch(Entry, frozen=True, kw_only=True, tag="store.fetch"):
    """A fetch the store heard of, or what state it came to."""

    order: int
    transaction: str
    fetch: str
    run: str
    number: int
    attempt: int
    state: str


class Commit(Entry, frozen=True, kw_only=True, tag="store.commit"):
    """A version of a record, committed."""

    order: int
    transaction: str
    subject: str
    version: int
    change: str
    """added, updated, removed; or deleted, which nothing may be."""
    active: bool
    value: str
    run: str = ""
    """Whose apply it was; empty for what no run did."""
    manual: bool = False
    refers: dict[str, str] = {}
    """Of an enrollment: the subjects of its user, class and school."""


class Delivery(Entry, frozen=True, kw_only=True, tag="event.delivered"):
    """An event, as a product got it; repeats included."""

    product: str
    place: int
    """Where in the partition."""
    event: str
    subject: str
    version: int
    active: bool
    value: str
    run: str = ""
    """Of `homeroom.sync.applied.v1`, which has the run for its subject."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A record as the store holds it."""

    version: int
    active: bool
    value: str
    manual: bool = False


class Rested(Entry, frozen=True, kw_only=True, tag="store.rested"):
    """Faults have ended, the provider stands still, nothing is on its way: this is what the store holds."""

    records: dict[str, Row]
    quarantined: list[str] = []


class Fault(Entry, frozen=True, kw_only=True, tag="fault"):
    """Something was broken on purpose."""

    kind: str
    target: str


AnyEntry = (
    Provided | Served | RunBegan | RunEnded | Decided | Fetch | Commit | Delivery | Rested | Fault
)  # fmt: skip


@dataclass
class History:
    """Keeps entries; `note` adds one."""

    path: Path
    seed: int
    entries: list[Entry] = field(default_factory=list)

    def note(self, entry: Entry) -> None:
        """Write down what happened; it happened now unless it says when."""
        entry = entry if entry.at else msgspec.structs.replace(entry, at=time.time())
        self.entries.append(entry)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")

    @property
    def ended(self) -> set[str]:
        """The runs that have ended."""
        return {entry.run for entry in self.entries if isinstance(entry, RunEnded)}

    def provide(self, integration: str, version: int, district: District, collections: Iterable[str]) -> None:
        """Note a sandbox district's truth."""
        records = {
            f"{collection}/{sourced_id}": digest(collection, _from_oneroster(record))
            for collection in collections
            for sourced_id, record in district.active(collection).items()
        }
        self.note(Provided(integration=integration, version=version, records=records))

    def end(self, run: Mapping[str, Any]) -> None:
        """Note a run as REST shows it."""
        self.note(
            RunEnded(
                at=_seconds(run["finished_at"]),
                integration=str(run["integration_id"]),
                run=str(run["id"]),
                state=run["state"],
                code=run["code"],
                attempt=run["attempt"],
                counts=run["counts"],
            )
        )

    def deliver(
        self, product: str, place: int, key: str | None, headers: Mapping[str, str], value: bytes, *, at: float = 0.0
    ) -> None:
        """Note an event of `roster-events`."""
        _, entity, *_, change, _ = headers["ce_type"].split(".")
        data = msgspec.json.decode(value)
        common = {"at": at, "integration": key or "", "product": product, "place": place, "event": headers["ce_id"]}
        if entity == "sync":
            self.note(Delivery(**common, subject="", version=0, active=True, value="", run=data["runId"]))
            return
        self.note(
            Delivery(
                **common,
                subject=headers["ce_subject"],
                version=data["version"],
                active=change != "removed",
                value=digest(COLLECTION_OF[entity], data["record"]),
            )
        )


# ── what the store writes ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many messages were sent so far, and how many of them wait for a consumer."""

    sent: int
    waiting: int


@dataclass
class StoreWatch:
    """Reads what the triggers wrote down."""

    connection: asyncpg.Connection[asyncpg.Record]
    read_up_to: dict[str, int] = field(default_factory=dict)

    async def read(self, history: History, integration: str) -> None:
        """Note what was committed of an integration since the last time."""
        number = await self._number(integration)
        rows = await self.connection.fetch(
            "SELECT no, extract(epoch FROM at)::float8 AS at, transaction, relation, operation,"
            " entry::text AS entry FROM recorder.written"
            " WHERE no > $1 AND integration_no = $2 ORDER BY no",
            self.read_up_to.get(integration, 0),
            number,
        )
        written = [(row, msgspec.json.decode(row["entry"])) for row in rows]
        run_of = {entry["no"]: entry["run_id"] for row, entry in written if row["relation"] == "apply"}
        for row, entry in written:
            common = {
                "at": row["at"],
                "integration": integration,
                "order": row["no"],
                "transaction": row["transaction"],
            }
            if row["relation"] == "staged_fetch" and row["operation"] != "DELETE":
                history.note(_read_fetch(common, entry))
            elif row["relation"] in _TABLE_OF:
                history.note(_read_commit(common, row, entry, run_of))
            self.read_up_to[integration] = row["no"]

    async def rest(self, history: History, integration: str, quarantined: Iterable[str] = ()) -> None:
        """Note what the store holds now that everything is at rest."""
        await self.read(history, integration)
        number = await self._number(integration)
        records: dict[str, Row] = {}
        for table in TABLES.values():
            rows = await self.connection.fetch(
                f"SELECT to_jsonb(held)::text AS entry FROM roster.{table.name} AS held WHERE integration_no = $1",  # noqa: S608 - one of our own tables
                number,
            )
            for entry in (msgspec.json.decode(row["entry"]) for row in rows):
                records[f"{table.collection}/{entry['sourced_id']}"] = Row(
                    version=entry["version"],
                    active=entry["active"],
                    value=digest(table.collection, _from_row(entry)),
                    manual=entry["origin"] == "manual",
                )
        history.note(Rested(integration=integration, records=records, quarantined=list(quarantined)))

    async def read_runs(self, history: History, integration: str) -> None:
        """Note when the scheduler's runs of an integration began, and for which slot."""
        rows = await self.connection.fetch(
            "SELECT to_jsonb(run)::text AS entry, extract(epoch FROM created_at)::float8 AS at"
            " FROM scheduler.run AS run WHERE integration = $1::uuid ORDER BY number",
            integration,
        )
        for row in rows:
            entry = msgspec.json.decode(row["entry"])
            slot = entry.get("slot")
            history.note(
                RunBegan(at=row["at"], integration=integration, run=entry["id"], number=entry["number"], slot=slot)
            )

    async def read_bus(self) -> Traffic | None:
        """How much the bus has carried; None where it is not on Postgres."""
        if not await self.connection.fetchval("SELECT to_regclass('bus.shards')"):
            return None
        row = await self.connection.fetchrow(
            "SELECT (SELECT sum(next_offset) FROM bus.shards) AS sent,"
            " (SELECT coalesce(sum(shard.next_offset - progress.next_offset), 0)"
            "  FROM bus.shards AS shard JOIN bus.progress ON progress.shard = shard.id) AS waiting"
        )
        assert row is not None
        return Traffic(int(row["sent"]), int(row["waiting"]))

    async def _number(self, integration: str) -> int | None:
        """What the store calls an integration; None before its first fetch."""
        found: int | None = await self.connection.fetchval(
            "SELECT no FROM roster.integration WHERE id = $1::uuid", integration
        )
        return found


@asynccontextmanager
async def watching_store(database_url: str) -> AsyncIterator[StoreWatch]:
    """Have the store's database write down what is committed, until the end."""
    connection = await asyncpg.connect(database_url, timeout=30, command_timeout=60)
    try:
        await connection.execute("DROP SCHEMA IF EXISTS recorder CASCADE")  # of a test that was killed
        await connection.execute(RECORDER.read_text("utf-8"))
        try:
            yield StoreWatch(connection)
        finally:
            await connection.execute("DROP SCHEMA recorder CASCADE")
    finally:
        await connection.close(timeout=10)


def _read_fetch(common: Mapping[str, Any], entry: Mapping[str, Any]) -> Fetch:
    return Fetch(
        **common,
        fetch=entry["id"],
        run=entry["run_id"],
        number=entry["run_number"],
        attempt=entry["attempt"],
        state=entry["state"],
    )


def _read_commit(
    common: Mapping[str, Any], row: asyncpg.Record, entry: dict[str, Any], run_of: Mapping[int, str]
) -> Commit:
    collection = _TABLE_OF[row["relation"]].collection
    refers = {}
    if collection == "enrollments":
        refers = {name: f"{to}/{entry[column]}" for name, (to, column) in _REFERENCES.items() if entry[column]}
    return Commit(
        **common,
        subject=f"{collection}/{entry['sourced_id']}",
        version=entry["version"],
        change="deleted" if row["operation"] == "DELETE" else entry["change"],
        active=entry["active"] and row["operation"] != "DELETE",
        value=digest(collection, _from_row(entry)),
        run=run_of.get(entry["changed_by"], ""),
        manual=entry["origin"] == "manual",
        refers=refers,
    )


# ── what a record says ────────────────────────────────────────────────────────────────────────────────────────────

_SAYS: dict[str, tuple[str, ...]] = {
    "orgs": ("name", "type"),
    "academicSessions": ("title", "startDate"),
    "courses": ("title", "subjects"),
    "classes": ("title", "location", "schoolSourcedId"),
    "users": ("givenName", "familyName", "phone", "roles"),
    "enrollments": ("userSourcedId", "classSourcedId", "role", "beginDate"),
    "demographics": ("birthDate", "cityOfBirth"),
}
"""What of a record goes into its digest: whatever changes from day to day, and what it points to."""


def digest(collection: str, record: Mapping[str, Any]) -> str:
    """A few letters, the same for records that say the same; `record` is canonical, with OneRoster's names."""
    said: list[Any] = []
    for name in _SAYS[collection]:
        value = record.get(name) or None
        if name == "roles" and value:
            value = sorted({(role["role"], role["orgSourcedId"]) for role in value})
        said.append(value)
    return xxhash.xxh3_64_hexdigest(msgspec.json.encode(said))


def digest_record(collection: str, record: Record) -> str:
    """The digest of a canonical record."""
    return digest(collection, msgspec.to_builtins(record))


def _from_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub(r"_(\w)", lambda found: found[1].upper(), name): value for name, value in entry.items()}


def _from_oneroster(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the sandbox keeps, in canonical form, as far as digests look at it.

    Written once more and not taken from the gateway: both would have to be wrong in the same way.
    """
    refers = {f"{name}SourcedId": record[name]["sourcedId"] for name in ("user", "class", "school") if name in record}
    roles = [{"role": record.get("role"), "orgSourcedId": org["sourcedId"]} for org in record.get("orgs", ())]
    return {**record, **refers, **({"roles": roles} if roles else {})}


def _seconds(moment: str | datetime) -> float:
    return (moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)).timestamp()
