"""The examples for products in docs/examples do what they say, exactly as they stand there."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest

from homeroom.events import LICENSE_ENDED, LICENSE_STARTED, Event, LicenseData, RecordData, event_type
from homeroom.roster import Class
from homeroom.secrets import SealingKeys, generate_key
from homeroom.testing.bus_contract import open_short
from homeroom.testing.kafka import Broker
from homeroom.webhooks import NotDelivered, Webhooks, make_secret
from roster_store.feed import Cursor, FeedEvent, Page
from roster_store.subscriptions.batches import cut, make_test, write_body, write_test
from roster_store.subscriptions.outlets import Outlets

EXAMPLES = Path(__file__).parents[1] / "docs/examples"
AT = datetime(2026, 9, 1, 6, tzinfo=UTC)
SOURCE = f"/integrations/{UUID(int=1)}"


def tell(place: int, change: Any, number: int, version: int = 1) -> Event:
    """An event of a class."""
    record = Class(sourced_id=f"c{number}", title=f"Maths {version}", school_sourced_id="s")
    data = RecordData(sourced_id=record.sourced_id, version=version, record=record)
    return Event(
        id=f"1-{place}",
        source=SOURCE,
        type=event_type("classes", change),
        subject=f"classes/c{number}",
        time=AT,
        data=data,
    )


def tell_license(place: int, kind: str) -> Event:
    """An event of a license."""
    data = LicenseData(product_id=str(UUID(int=3)), organization_id=str(UUID(int=2)))
    return Event(id=f"1-{place}", source=SOURCE, type=kind, subject="licenses/3", time=AT, data=data)


STORY = [
    tell(1, "added", 9),
    tell_license(2, LICENSE_STARTED),
    tell(3, "added", 1),
    tell(4, "added", 2),
    tell(5, "added", 3),
    tell(6, "updated", 1, 2),
    tell(7, "removed", 2, 2),
    tell(8, "added", 2),  # again, and late
    tell(9, "added", 1),
    tell(10, "updated", 4),
]
LEFT = {"classes/c1": "Maths 2", "classes/c3": "Maths 1", "classes/c4": "Maths 1"}
PAGE = Page(
    [FeedEvent(event, str(UUID(int=1)), Cursor(1, at)) for at, event in enumerate(STORY, 1)], Cursor(1), more=False
)


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports an example as if its folder were where Python was started."""
    monkeypatch.syspath_prepend(EXAMPLES)
    names = ("folding", "webhook_receiver", "kafka_consumer")

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in names:
        sys.modules.pop(name, None)


def test_folding(examples: Any) -> None:
    """Repeats, late events, removals and new beginnings fold into what is there; unknown kinds are let by."""
    roster = examples("folding").Roster()
    for _ in range(2):
        for event in STORY:
            body = json.loads(
                write_body(UUID(int=5), cut(Page([FeedEvent(event, "i", Cursor(1))], Cursor(1), more=False)))
            )
            [one] = body["data"]["events"]
            roster.fold(one["type"], one["source"], one["subject"], one["data"])
        roster.fold("homeroom.planet.discovered.v3", SOURCE, "planets/9", {})
        roster.fold("odd", SOURCE, "x", {"version": 1})
        held = roster.list_present()[SOURCE]
        assert {subject: record["title"] for subject, record in held.items()} == LEFT
    roster.fold(LICENSE_ENDED, SOURCE, "licenses/3", {})
    assert roster.list_present() == {}


async def test_webhook_receiver(examples: Any) -> None:
    """The receiver takes what is signed with any of its secrets, once, and refuses everything else."""
    old, new = make_secret(), make_secret()
    receiver = examples("webhook_receiver").Receiver([old, new])
    server = examples("webhook_receiver").make_server(0, receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    whose, now = UUID(int=5), datetime.now(UTC)
    try:
        async with asyncio.timeout(20), Webhooks.open(allow_private=True) as sender:
            for secrets in ([old], [new], [make_secret(), new]):
                await sender.send(url, "msg_1", write_body(whose, cut(PAGE)), secrets, now)
            await sender.send(url, "msg_2", write_test(whose, make_test(whose, UUID(int=6), now)), [new], now)
            for secrets, at in (([make_secret()], now), ([new], AT.replace(year=2001))):
                with pytest.raises(NotDelivered, match="answered 400"):
                    await sender.send(url, "msg_3", write_body(whose, cut(PAGE)), secrets, at)
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
    held = receiver.roster.list_present()[SOURCE]
    assert {subject: record["title"] for subject, record in held.items()} == LEFT
    assert receiver.cursor == str(Cursor(1))


@pytest.mark.kafka
async def test_kafka_consumer(kafka: Broker) -> None:
    """The consumer, run as a program, folds a product's topic into what is there, and goes on as more comes."""
    product = uuid4()
    row: Any = {"kind": "kafka", "product_id": product}
    environment = os.environ | {"HOMEROOM_KAFKA": kafka.bootstrap, "HOMEROOM_PRODUCT": str(product)}
    async with open_short("kafka", kafka.bootstrap) as bus, Webhooks.open(allow_private=True) as webhooks:
        outlets = Outlets(webhooks, bus, SealingKeys(generate_key()[0]))
        await outlets.send(row, cut(PAGE), AT)
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / "kafka_consumer.py")), env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert program.stdout is not None
        try:
            async with asyncio.timeout(60):
                assert await _read(program.stdout) == {SOURCE: 3}
                more = FeedEvent(tell(11, "removed", 3, 2), str(UUID(int=1)), Cursor(2))
                await outlets.send(row, cut(Page([more], Cursor(2), more=False)), AT)
                assert await _read(program.stdout) == {SOURCE: 2}
        finally:
            program.kill()
            await program.wait()


async def _read(stream: asyncio.StreamReader) -> dict[str, int]:
    """The next line that says anything is held."""
    while not (held := json.loads(await stream.readline())):
        continue
    counts: dict[str, int] = held
    return counts
