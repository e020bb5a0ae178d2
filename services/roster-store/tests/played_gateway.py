"""Plays a gateway: what it fetched goes to the store's consumer as messages."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from homeroom.bus import Message, Outgoing
from homeroom.messages import (
    Applied,
    Chunk,
    CollectionReport,
    Fact,
    FetchAbandoned,
    FetchCompleted,
    FetchStarted,
    RemovalReason,
    Terms,
    to_changes,
)
from homeroom.roster import Class, Enrollment, Org, Record, Role, User, encode_record, fingerprint, record_key
from roster_store.changes import ChangeConsumer


class RecordingBus:
    """Keeps what is published; the bus itself is tested elsewhere."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []

    async def publish(self, *messages: Outgoing) -> None:
        """Keep the messages."""
        self.published.extend(messages)


@dataclass
class Gateway:
    """Plays a gateway: what it fetched goes to the store's consumer as messages."""

    consumer: ChangeConsumer
    bus: RecordingBus
    integration_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    organization_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    provider: str = "oneroster"
    terms: Terms = field(default_factory=Terms)
    run_number: int = 0
    basis: int = 0

    def messages(
        self,
        upserts: Mapping[str, Sequence[Record]],
        removals: Mapping[str, Sequence[str]] | None = None,
        *,
        configured: Mapping[str, Sequence[str]] | None = None,
        unproved: Mapping[str, Sequence[str]] | None = None,
        reason: RemovalReason = "absent",
        served: Mapping[str, int] | None = None,
        chunk_records: int = 2,
        unwanted: str = "",
        whole: bool = True,
        basis: int | None = None,
        attempt: int = 1,
        terms: Terms | None = None,
        **completed: Any,
    ) -> list[Message]:
        """All messages of one fetch; `configured` are removals because of the integration's options.

        `unproved` were not seen, and not proved gone. Without `terms` the gateway's own count.
        """
        self.run_number += attempt == 1
        run_id, fetch_id = str(uuid.UUID(int=self.run_number)), uuid.uuid4().hex
        common = {"run_id": run_id, "run_number": self.run_number, "attempt": attempt, "fetch_id": fetch_id}
        changes: list[Any] = [
            FetchStarted(
                **common,
                integration_id=self.integration_id,
                organization_id=self.organization_id,
                basis=self.basis if basis is None else basis,
                provider=self.provider,
                terms=terms or self.terms,
            )
        ]
        chunks: list[dict[str, Any]] = []
        for collection, records in upserts.items():
            for some in batched_records(records, chunk_records):
                encoded = [encode_record(record) for record in some]
                marks = b"".join(fingerprint(body).to_bytes(8, "big", signed=True) for body in encoded)
                raw = msgspec.Raw(b"[" + b",".join(encoded) + b"]")
                chunks.append({"collection": collection, "records": raw, "fingerprints": marks})
        gone: list[tuple[Mapping[str, Sequence[str]], RemovalReason]] = [
            (removals or {}, reason),
            (configured or {}, "configuration"),
            (unproved or {}, "unproved"),
        ]
        for collection, ids, why in [(name, ids, why) for some, why in gone for name, ids in some.items()]:
            keys = b"".join(record_key(sourced_id) for sourced_id in ids)
            chunks.append({"collection": collection, "removed_keys": keys, "removal_reason": why})
        changes += [
            Chunk(fetch_id=fetch_id, integration_id=self.integration_id, seq=seq, **chunk)
            for seq, chunk in enumerate(chunks)
        ]
        counts = {collection: len(records) for collection, records in upserts.items()}
        removed = {*(removals or {}), *(configured or {}), *(unproved or {})}
        counts |= {collection: 1 for collection in removed if collection not in counts} | dict(served or {})
        reports = {
            collection: CollectionReport(
                whole=whole,
                wanted=collection != unwanted,
                served=count,
                added=(added := len({record.sourced_id for record in upserts.get(collection, ())})),
                unchanged=max(0, count - len(upserts.get(collection, ()))),
                filtered=len(upserts.get(collection, ())) - added,
                unconfirmed=len((unproved or {}).get(collection, ())),
            )
            for collection, count in counts.items()
        }
        changes.append(
            FetchCompleted(
                **common, integration_id=self.integration_id, chunks=len(chunks), collections=reports, **completed
            )
        )
        return [as_message(to_changes(change), offset) for offset, change in enumerate(changes)]

    async def sync(self, *args: Any, **kwargs: Any) -> Fact:
        """Send one fetch and return the store's answer."""
        return await self.send(self.messages(*args, **kwargs))

    async def apply(self, *args: Any, **kwargs: Any) -> Applied:
        """Send one fetch that must be applied, with all its records accounted for (I9)."""
        fact = await self.sync(*args, **kwargs)
        assert isinstance(fact, Applied)
        for collection, report in fact.collections.items():
            told = report.added + report.changed + report.unchanged + report.filtered + report.quarantined
            assert told == report.served, f"{collection} does not add up: {report}"
        return fact

    async def send(self, messages: Sequence[Message]) -> Fact:
        """Hand messages to the store and return its last answer."""
        await self.consumer.handle(messages)
        fact = self.last_fact()
        self.basis = getattr(fact, "apply", None) or self.basis
        return fact

    def last_fact(self) -> Fact:
        """The newest fact the store published."""
        decoder: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(Fact)
        return decoder.decode(self.bus.published[-1].value)


def batched_records(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    """Slices of `size`."""
    return [records[at : at + size] for at in range(0, len(records), size)]


def as_message(outgoing: Outgoing, offset: int) -> Message:
    """A sent message as a consumer sees it."""
    return Message(outgoing.topic, 0, offset, outgoing.key, outgoing.value, outgoing.headers, datetime.now(UTC))


def abandoned(messages: Sequence[Message]) -> FetchAbandoned:
    """The abandonment of the fetch these messages belong to."""
    started = msgspec.json.decode(messages[0].value)
    return FetchAbandoned(
        run_id=started["runId"], fetch_id=started["fetchId"], integration_id=started["integrationId"], code="PROV_5XX"
    )


def school(name: str = "North") -> Org:
    """A school."""
    return Org(sourced_id=f"org-{name}", name=name, type="school")


def student(number: int, name: str = "Mila", *schools: str, role: str = "student", **fields: Any) -> User:
    """A student, of North unless other schools are named; somebody else in another role."""
    known: dict[str, Any] = {
        "family_name": "Ek",
        "email": f"student{number}@north.example",
        "grades": ("05",),
        "metadata": {"house": "blue"},
    }
    return User(
        sourced_id=f"user-{number}",
        given_name=name,
        roles=tuple(
            Role(role=role, org_sourced_id=f"org-{one}", role_type="secondary" if place else "primary")
            for place, one in enumerate(schools or ("North",))
        ),
        **known | fields,
    )


def section(number: int, school_name: str = "North", title: str = "Maths") -> Class:
    """A class."""
    return Class(
        sourced_id=f"class-{number}", title=title, school_sourced_id=f"org-{school_name}", term_sourced_ids=("t1",)
    )


def enrollment(user: int, group: int, school_name: str | None = None, **fields: Any) -> Enrollment:
    """A student in a class."""
    return Enrollment(
        sourced_id=f"enrollment-{user}-{group}",
        user_sourced_id=f"user-{user}",
        class_sourced_id=f"class-{group}",
        school_sourced_id=f"org-{school_name}" if school_name else None,
        role="student",
        **fields,
    )


ROSTER: dict[str, list[Any]] = {
    "orgs": [school()],
    "classes": [section(1)],
    "users": [student(1), student(2), student(3)],
    "enrollments": [enrollment(1, 1), enrollment(2, 1), enrollment(3, 1)],
}
"""A small roster."""


def campus(name: str, first: int, *, students: int = 3, classes: int = 1) -> dict[str, list[Any]]:
    """A school with its people and classes, numbered from `first`; everybody is in the first class."""
    people = range(first, first + students)
    return {
        "orgs": [school(name)],
        "classes": [section(number, name) for number in range(first, first + classes)],
        "users": [student(number, "Mila", name) for number in people],
        "enrollments": [enrollment(number, first, name) for number in people] if classes else [],
    }


def together(*parts: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Several rosters as one."""
    merged: dict[str, list[Any]] = {"orgs": [], "classes": [], "users": [], "enrollments": []}
    for part in parts:
        for collection, records in part.items():
            merged.setdefault(collection, []).extend(records)
    return merged


def ids(roster: Mapping[str, Sequence[Any]], *collections: str) -> dict[str, list[str]]:
    """The sourcedIds of some collections of a roster."""
    return {collection: [record.sourced_id for record in roster[collection]] for collection in collections}
