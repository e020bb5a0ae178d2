"""Clever's events: that they tell the whole difference between two days, and how they end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from sandbox_district import CleverOrder, District, Sandbox, clever_snapshot, faults, running_sandbox

Get = Callable[..., Awaitable[httpx2.Response]]
Objects = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=80)) as sandbox:
        yield sandbox


@pytest.fixture(name="get")
async def make_get(sandbox: Sandbox) -> AsyncIterator[Get]:
    async with httpx2.AsyncClient(timeout=10) as client:

        async def get(path: str, version: str = "v3.1", **params: Any) -> httpx2.Response:
            headers = {"Authorization": f"Bearer {sandbox.clever_token}"}
            return await client.get(f"{sandbox.url}/clever/{version}/{path}", params=params, headers=headers)

        yield get


async def read_events(get: Get, after: str | None = None, **params: Any) -> list[dict[str, Any]]:
    """The events after one, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        cursor = {"starting_after": after} if after else {}
        answer = await get("events", limit=50, **cursor, **params)
        assert answer.status_code == 200
        found += [row["data"] for row in answer.json()["data"]]
        if all(link["rel"] != "next" for link in answer.json()["links"]):
            return found
        after = found[-1]["id"]


async def find_last(get: Get) -> str:
    """The id of the newest event."""
    (event,) = (await get("events", ending_before="last", limit=1)).json()["data"]
    return str(event["data"]["id"])


def strip(found: dict[str, Any]) -> dict[str, Any]:
    """An object without when it was made and changed."""
    return {name: value for name, value in found.items() if name not in {"created", "last_modified"}}


def take_snapshot(district: District) -> Objects:
    """What a client should see, without the district object, whose sync has no events."""
    return {kind: dict(found) for kind, found in clever_snapshot(district).items()}


def apply(objects: Objects, event: dict[str, Any]) -> None:
    """Do to a picture of the district what an event says, and check what it says was before."""
    kind, _, what = event["type"].partition(".")
    found = event["data"]["object"]
    held = objects[kind].pop(found["id"], None)
    assert (held is None) == (what == "created")
    if what == "updated":
        assert held is not None
        changed = {name for name in held.keys() | strip(found).keys() if held.get(name) != found.get(name)}
        assert changed
        assert strip(event["previous_attributes"]) == {name: held.get(name) for name in changed}
    if what != "deleted":
        objects[kind][found["id"]] = strip(found)


async def test_events_tell_the_whole_difference(sandbox: Sandbox, get: Get) -> None:
    """On each of ten days the events turn the picture of the day before into that of the day, and none is idle."""
    last, objects = await find_last(get), take_snapshot(sandbox.district)
    kinds = set()
    for _ in range(10):
        sandbox.district.advance_day()
        events = await read_events(get, last)
        for event in events:
            apply(objects, event)
            kinds.add(event["type"])
        ids = [last, *(event["id"] for event in events)]
        assert ids == sorted(set(ids))
        assert objects == take_snapshot(sandbox.district)
        last = ids[-1]
    assert {"users.created", "users.updated", "users.deleted", "sections.created", "sections.updated"} <= kinds
    assert {"schools.updated"} <= kinds
    assert {"terms.updated"} & kinds


async def test_every_change_is_its_own(sandbox: Sandbox, get: Get) -> None:
    """Changes are recorded one by one as they happen, also when nobody asks in between."""
    last = await find_last(get)
    for number in range(3):
        sandbox.district.change(lambda n=number: sandbox.district.amend("orgs", "101", name=f"School {n}"))
    events = await read_events(get, last)
    assert [event["data"]["object"]["name"] for event in events] == ["School 0", "School 1", "School 2"]
    assert events[2]["previous_attributes"]["name"] == "School 1"
    assert {event["type"] for event in events} == {"schools.updated"}


async def test_what_clever_does_not_show_is_no_event(sandbox: Sandbox, get: Get) -> None:
    """A change of what Clever has no field for makes no event nor touches anything; one of 3.1's is none for 3.0."""
    last, district = await find_last(get), sandbox.district
    before = (await get("sections", limit=1000)).json()["data"]
    district.day = 3
    district.change(lambda: district.amend("classes", next(iter(district.active("classes"))), location="Roof"))
    assert await read_events(get, last) == []
    assert (await get("sections", limit=1000)).json()["data"] == before
    record = district.collections["demographics"]["stu-100001"]
    others = {name: value for name, value in record["metadata"].items() if not name.startswith("frl")}
    district.change(lambda: district.amend("demographics", "stu-100001", metadata=others | {"frl": "Other"}))
    (event,) = await read_events(get, last)
    assert event["data"]["object"]["roles"]["student"]["frl_status"] == "Other"
    assert event["previous_attributes"]["roles"]["student"]["frl_status"] != "Other"
    assert await read_events(get, last, version="v3.0") == []
    assert (await get(f"events/{event['id']}")).json()["data"] == event


async def test_filters(sandbox: Sandbox, get: Get) -> None:
    """Events are chosen by kind, spelled either way, and by school."""
    last = await find_last(get)
    sandbox.district.advance_day()
    events = await read_events(get, last)
    users = [event for event in events if event["type"].startswith("users.")]
    assert await read_events(get, last, record_type="users") == users
    both = await read_events(get, last, **{"record_type[]": ["users", "sections"]})
    assert {event["type"].partition(".")[0] for event in both} == {"users", "sections"}
    school = next(
        each["id"] for each in clever_snapshot(sandbox.district)["schools"].values() if each["sis_id"] == "101"
    )
    there = await read_events(get, last, school=school)
    assert 0 < len(there) < len(events)
    assert all(school in str(event["data"]["object"]) for event in there)


async def test_events_are_kept_for_thirty_days(sandbox: Sandbox, get: Get) -> None:
    """After thirty days of the district's calendar an event is gone, and as a cursor 404 like one that never was."""
    last, district = await find_last(get), sandbox.district
    district.day = 30
    district.change(lambda: district.amend("orgs", "101", name="Day 30"))
    assert (await get("events", starting_after=last)).status_code == 200
    district.day = 31
    district.change(lambda: district.amend("orgs", "101", name="Day 31"))
    assert (await get("events", starting_after=last)).status_code == 404
    assert (await get("events", starting_after="f" * 24)).status_code == 404
    assert (await get(f"events/{last}")).status_code == 404
    assert len(await read_events(get)) == 2


async def test_purged_and_switched_off(sandbox: Sandbox, get: Get) -> None:
    """Events can be forgotten, so that the list is empty and a cursor is lost, and the application can lack them."""
    last = await find_last(get)
    async with httpx2.AsyncClient() as client:
        await client.post(f"{sandbox.url}/sandbox/clever", json={"purge_events": True})
        assert (await get("events", starting_after=last)).status_code == 404
        assert (await get("events", ending_before="last", limit=1)).json()["data"] == []
        for status in (403, 404, 200):
            await client.post(f"{sandbox.url}/sandbox/clever", json={"events": status})
            assert (await get("events")).status_code == status
            assert (await get("schools")).status_code == 200
    sandbox.faults.replace(faults.Forbidden(path="/clever/events"))
    assert (await get("events")).status_code == 403


async def test_a_pause_ends_in_one_sync(sandbox: Sandbox, get: Get) -> None:
    """What happened in a pause comes as events when it is over, without what came and went in between."""
    last, district = await find_last(get), sandbox.district
    objects = take_snapshot(district)
    sandbox.clever.obey(CleverOrder(state="error", error="The SIS does not answer."))
    for _ in range(2):
        district.advance_day()
    assert await read_events(get, last) == []
    sandbox.clever.obey(CleverOrder(state="running"))
    for event in await read_events(get, last):
        apply(objects, event)
    assert objects == take_snapshot(district)


async def test_nothing_is_read_before_somebody_asks(get: Get, sandbox: Sandbox) -> None:
    """The days before the first request leave no events: the feed begins with the district's own."""
    sandbox.district.advance_day()
    events = await read_events(get)
    assert [event["type"] for event in events] == ["districts.created"]
    assert events[0]["data"]["object"]["id"] == sandbox.clever_district_id
