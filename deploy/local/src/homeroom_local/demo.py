"""`homeroom demo`: the main job done once, the way a user would do it, and checked.

An integration with the sandbox district is created over REST and synced three times: the first time everything is
new, the second time nothing, and then a day goes by. Then one student clicks a product's tile at the district's
portal. Nothing is believed: the roster is read back as OneRoster and compared with the district's own list, the events
on the bus are compared with what really changed, and what the product was told of the student with who that is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from homeroom.bus import Bus, Message
from homeroom.bus.opening import open_bus
from homeroom.events import SYNC_APPLIED
from homeroom.messages import ROSTER_EVENTS
from homeroom.settings import Settings
from homeroom_local.client import HomeroomClient
from homeroom_local.sign_in_setup import SandboxAdmin
from homeroom_local.stack import Stack
from homeroom_local.student_launch import launch_student

EVENT_SECONDS = 60.0
STEPS = (
    "first sync",
    "second sync, nothing changed",
    "sync after a day went by",
    "reading everything back",
    "a student clicks a tile",
)

Json = dict[str, Any]


class DemoError(Exception):
    """The main job was not done as it should be; the text says what differed."""


class EventListener:
    """Keeps the events of `roster-events`, as a product would."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, str]] = []
        self._news = asyncio.Condition()

    async def handle(self, messages: Sequence[Message]) -> None:
        """Take a batch."""
        async with self._news:
            self.events += [message.headers for message in messages]
            self._news.notify_all()

    async def wait_for_sync(self, run_id: str) -> list[Mapping[str, str]]:
        """The record events of a run, once all of them are here."""
        source = (SYNC_APPLIED, f"runs/{run_id}")

        def ends() -> list[int]:
            return [at for at, found in enumerate(self.events) if (found["ce_type"], found["ce_subject"]) == source]

        async with asyncio.timeout(EVENT_SECONDS), self._news:
            await self._news.wait_for(ends)
        apply = self.events[ends()[0]]["ce_id"].split("-")[0]
        return [
            found for found in self.events if found["ce_id"].split("-")[0] == apply and found["ce_type"] != SYNC_APPLIED
        ]


async def run_demo(stack: Stack, console: Console, *, quiet: bool = False) -> Json:
    """Do the main job and return the object of the contract. Raises DemoError if anything is not as it should be."""
    began = time.monotonic()
    settings = Settings(database_url=SecretStr(stack.database_url), kafka=stack.kafka, issuer=stack.origin)
    listener = EventListener()
    columns = (TextColumn("{task.description:32}"), BarColumn(), TextColumn("{task.fields[seen]}"), TimeElapsedColumn())
    async with (
        open_bus(settings) as bus,
        _listening(bus, listener),
        HomeroomClient.open(stack.origin, await stack.token()) as client,
        httpx2.AsyncClient(base_url=stack.sandbox, timeout=60, trust_env=False) as district,
    ):
        with Progress(*columns, console=console, disable=quiet) as progress:
            admin = SandboxAdmin(client, district, stack.origin, (await district.get("/sandbox")).json())
            report = await _do_main_job(admin, listener, progress)
    return report | {"seconds": round(time.monotonic() - began, 2)}


class _listening:  # noqa: N801 - reads as a word in `async with`
    """A consumer that runs for the length of a block."""

    def __init__(self, bus: Bus, listener: EventListener) -> None:
        self._consumer = bus.consumer([ROSTER_EVENTS.name], listener.handle, group=None, start="earliest")

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._consumer.run())

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await asyncio.wait_for(self._task, EVENT_SECONDS)


async def _do_main_job(admin: SandboxAdmin, listener: EventListener, progress: Progress) -> Json:
    client, district, sandbox = admin.client, admin.district, admin.described["oneroster"]
    organization = await client.create_organization("Willow Creek (sandbox)")
    integration = await client.create_integration(
        organization,
        {
            "endpoint_url": sandbox["base_url"],
            "auth": "oauth1",
            "client_id": sandbox["client_id"],
            "client_secret": sandbox["client_secret"],
        },
        options={"sync_parents": True},
    )
    product, client_id, secret = await admin.add_product(organization)
    door = await admin.connect_classlink(organization, integration, product)
    await admin.introduce_product(client_id, secret)
    await admin.introduce_door("classlink", door)

    async def sync(step: str) -> Json:
        task = progress.add_task(step, total=None, seen="")

        def look(run: Json) -> None:
            served = sum(counts.get("served", 0) for counts in (run["counts"] or {}).values())
            progress.update(task, seen=f"{run['state']:10} {served:6,} records" if served else f"{run['state']:10}")

        run = await client.sync(integration, on_look=look)
        progress.update(task, total=1, completed=1)
        if run["state"] != "succeeded":
            msg = f"the {step} ended {run['state']}: {run['code']} {run['message']}"
            raise DemoError(msg)
        return run

    first = await sync(STEPS[0])
    second = await sync(STEPS[1])
    changed_truth = (await district.post("/sandbox/day")).json()["collections"]
    third = await sync(STEPS[2])

    task = progress.add_task(STEPS[3], total=None, seen="")
    first_events = await listener.wait_for_sync(first["id"])
    third_events = await listener.wait_for_sync(third["id"])
    roster = await _compare_roster(client, district, integration)
    _compare_unchanged(second, listener, len(first_events) + len(third_events))
    _compare_events(first_events, third_events, changed_truth, first, third)
    progress.update(task, total=1, completed=1, seen=f"{sum(roster.values()):,} records")

    task = progress.add_task(STEPS[4], total=None, seen="")
    launch = await launch_student(district, admin.portals, organization)
    progress.update(task, total=1, completed=1, seen=f"{launch['seconds']} s")
    return {
        "organization": organization,
        "integration": integration,
        "first_run": first,
        "second_run": second,
        "after_changes_run": third,
        "roster": roster,
        "events": {"first_run": len(first_events), "after_changes_run": len(third_events)},
        "launch": launch,
    }


async def _compare_roster(client: HomeroomClient, district: httpx2.AsyncClient, integration: str) -> dict[str, int]:
    """The store's active records are exactly the provider's."""
    truth = (await district.get("/sandbox/truth")).json()
    for collection in ("orgs", "academicSessions", "courses", "classes", "users", "enrollments"):
        held = {record["sourcedId"] for record in await client.list_records(collection, integration)}
        if held != set(truth[collection]):
            missing, extra = len(set(truth[collection]) - held), len(held - set(truth[collection]))
            msg = f"{collection} differ from the provider's: {missing} missing, {extra} too many"
            raise DemoError(msg)
    counted = ("orgs", "classes", "students", "teachers", "enrollments")
    return {name: len(await client.list_records(name, integration)) for name in counted}


def _changes(run: Json) -> int:
    return sum(counts[kind] for counts in run["counts"].values() for kind in ("added", "changed", "removed"))


def _compare_unchanged(second: Json, listener: EventListener, expected: int) -> None:
    if _changes(second):
        msg = f"the second sync changed {_changes(second)} records although nothing had changed"
        raise DemoError(msg)
    published = sum(found["ce_type"] != SYNC_APPLIED for found in listener.events)
    if published != expected:
        msg = f"{published - expected} events were published that belong to no change"
        raise DemoError(msg)


def _compare_events(
    first: list[Mapping[str, str]], third: list[Mapping[str, str]], truth: Json, first_run: Json, third_run: Json
) -> None:
    """One event per changed record, and exactly those of the day that went by."""
    if len(first) != _changes(first_run) or len(third) != _changes(third_run):
        msg = "the number of events is not the number of changed records"
        raise DemoError(msg)
    words = {"added": "added", "changed": "updated", "removed": "removed"}
    expected = {
        (f"{collection}/{sourced_id}", words[kind])
        for collection, kinds in truth.items()
        if collection != "demographics"
        for kind, ids in kinds.items()
        for sourced_id in ids
    }
    seen = {(found["ce_subject"], found["ce_type"].split(".")[2]) for found in third}
    if seen != expected:
        msg = (
            f"the day's events are not the day's changes: {len(expected - seen)} missing, {len(seen - expected)} extra"
        )
        raise DemoError(msg)


def print_summary(report: Json, console: Console) -> None:
    """The readable end of the demo."""
    table = Table(title="What happened", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in ("", "served", "added", "changed", "removed", "events"):
        table.add_column(heading, justify="left" if not heading else "right")
    events = {"first_run": report["events"]["first_run"], "second_run": 0, **report["events"]}
    for name, step in zip(("first_run", "second_run", "after_changes_run"), STEPS, strict=False):
        counts = report[name]["counts"].values()
        numbers = [sum(part[kind] for part in counts) for kind in ("served", "added", "changed", "removed")]
        table.add_row(step, *(f"{number:,}" for number in (*numbers, events.get(name, 0))))
    console.print()
    console.print(table)
    roster = report["roster"]
    console.print(
        f"\nNow in the store, equal to the provider's: {roster['orgs']} orgs, {roster['classes']:,} classes, "
        f"{roster['students']:,} students, {roster['teachers']:,} teachers, {roster['enrollments']:,} enrollments."
    )
    _print_launch(report["launch"], console)
    console.print(f"Done in {report['seconds']} s. Keep it running with `make up`.")


def _print_launch(launch: Json, console: Console) -> None:
    """What the product was told of the student who came in."""
    console.print(f"\nA student clicked {launch['product']} in LaunchPad and was in after {launch['seconds']} s, as")
    table = Table(box=None, pad_edge=False, show_header=False)
    for name in ("name", "organization", "roles", "sourced_id", "classes", "sub"):
        value = launch[name]
        table.add_row(f"  {name}", ", ".join(value) if isinstance(value, list) else str(value))
    console.print(table)
    console.print()
