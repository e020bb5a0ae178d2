"""Plays a gateway: what it fetched goes to the store's consumer as messages."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from homeroom.bus import Message, Outgoing
from homeroom.messages import Chunk, CollectionReport, Fact, FetchAbandoned, FetchCompleted, FetchStarted, to_changes
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
    run_number: int = 0
    basis: int = 0

    def messages(
        self,
        upserts: Mapping[str, Sequence[Record]],
        removals: Mapping[str, Sequence[str]] | None = None,
        *,
        served: Mapping[str, int] | None = None,
        chunk_records: int = 2,
        unwanted: str = "",
        basis: int | None = None,
        attempt: int = 1,
        **completed: Any,
    ) -> list[Message]:
        """All messages of one fetch."""
        self.run_number += attempt == 1
        run_id, fetch_id = str(uuid.UUID(int=self.run_number)), uuid.uuid4().hex
        common = {"run_id": run_id, "run_number": self.run_number, "attempt": attempt, "fetch_id": fetch_id}
        changes: list[Any] = [
            FetchStarted(
                **common,
                integration_id=self.integration_id,
                organization_id=self.organization_id,
                basis=self.basis if basis is None else basis,
            )
        ]
        chunks: list[dict[str, Any]] = []
        for collection, records in upserts.items():
            for some in batched_records(records, chunk_records):
                encoded = [encode_record(record) for record in some]
                marks = b"".join(fingerprint(body).to_bytes(8, "big", signed=True) for body in encoded)
                raw = msgspec.Raw(b"[" + b",".join(encoded) + b"]")
                chunks.append({"collection": collection, "records": raw, "fingerprints": marks})
        for collection, ids in (removals or {}).items():
            keys = b"".join(record_key(sourced_id) for sourced_id in ids)
            chunks.append({"collection": collection, "removed_keys": keys})
        changes += [
            Chunk(fetch_id=fetch_id, integration_id=self.integration_id, seq=seq, **chunk)
            for seq, chunk in enumerate(chunks)
        ]
        counts = {collection: len(records) for collection, records in upserts.items()}
        counts |= {collection: 1 for collection in removals or {} if collection not in counts} | dict(served or {})
        reports = {
            collection: CollectionReport(
                wanted=collection != unwanted, served=count, added=len(upserts.get(collection, ()))
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


def student(number: int, name: str = "Mila") -> User:
    """A student."""
    return User(
        sourced_id=f"user-{number}",
        given_name=name,
        family_name="Ek",
        roles=(Role(role="student", org_sourced_id="org-North", role_type="primary"),),
        email=f"student{number}@north.example",
        grades=("05",),
        metadata={"house": "blue"},
    )


def section(number: int) -> Class:
    """A class."""
    return Class(sourced_id=f"class-{number}", title="Maths", school_sourced_id="org-North", term_sourced_ids=("t1",))


def enrollment(user: int, group: int) -> Enrollment:
    """A student in a class."""
    return Enrollment(
        sourced_id=f"enrollment-{user}-{group}",
        user_sourced_id=f"user-{user}",
        class_sourced_id=f"class-{group}",
        role="student",
    )


ROSTER = {
    "orgs": [school()],
    "classes": [section(1)],
    "users": [student(1), student(2), student(3)],
    "enrollments": [enrollment(1, 1), enrollment(2, 1), enrollment(3, 1)],
}
"""A small roster."""
