"""A teacher refreshes a class: exactly that class is read, and nobody else's records move (C2)."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from homeroom.codes import Code
from homeroom.messages import ClassRef, Terms
from sandbox_district import faults
from sandbox_district.server import Sandbox, create_district, running_sandbox

WAYS = ["oneroster 1.1", "oneroster 1.2", "classlink", "clever"]


def connect(gateway: Any, sandbox: Sandbox, way: str) -> None:
    """Point the gateway at one of the district's faces."""
    if way == "clever":
        gateway.provider = "clever"
        gateway.connection = {
            "district_id": sandbox.clever.district_id,
            "base_url": f"{sandbox.url}/clever/v3.1",
            "token_url": f"{sandbox.url}/clever/oauth/tokens",
            "client_id": sandbox.clever.client_id,
        }
        gateway.secrets = {"client_secret": sandbox.clever.client_secret}
        return
    gateway.provider = "classlink" if way == "classlink" else "oneroster"
    path = "/ims/oneroster/rostering/v1p2" if way.endswith("1.2") else ""
    auth = {"auth": "oauth2", "token_url": sandbox.token_url} if path else {"auth": "oauth1"}
    gateway.point_at(f"{sandbox.url}{path}", client_id=sandbox.client_id, **auth)
    gateway.secrets = {"client_secret": sandbox.client_secret}


@pytest.fixture
async def sandbox(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """A district of 40 students."""
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.05)
    async with running_sandbox(create_district(seed=3, students=40)) as sandbox:
        connect(gateway, sandbox, "oneroster 1.1")
        yield sandbox


async def refresh(gateway: Any, section: str, teacher: str | None = None, **options: Any) -> Any:
    """Run a refresh to its end; it is not applied yet."""
    job = gateway.job(
        refresh=ClassRef(class_sourced_id=section, teacher_sourced_id=teacher),
        terms=Terms(purpose="refresh"),
        options=options,
    )
    return await gateway.run(job=job)


def members(gateway: Any, section: str) -> dict[str, dict[str, Any]]:
    """The enrollments the store holds of a class."""
    held = {key: msgspec.json.decode(record) for key, (_, record) in gateway.store.records["enrollments"].items()}
    return {key: one for key, one in held.items() if one["classSourcedId"] == section}


def pick_class(gateway: Any) -> str:
    """A class with several people."""
    sections = sorted(gateway.store.records["classes"])
    return max(sections, key=lambda one: len(members(gateway, one)))


@pytest.mark.parametrize("way", WAYS)
async def test_one_class_is_brought_up_to_date(gateway: Any, sandbox: Sandbox, way: str) -> None:
    """An enrollment and a person the store lacks come, one the provider lacks goes, and nothing else is touched."""
    connect(gateway, sandbox, way)
    await gateway.sync(options={})
    section = pick_class(gateway)
    truth = copy.deepcopy(gateway.store.records)
    students = [key for key, one in members(gateway, section).items() if one["role"] == "student"]
    missed, stranger = students[0], students[1]
    person = members(gateway, section)[missed]["userSourcedId"]
    del gateway.store.records["users"][person]
    del gateway.store.records["enrollments"][missed]
    extra = msgspec.json.decode(gateway.store.records["enrollments"][stranger][1]) | {"sourcedId": f"{section}_gone"}
    gateway.store.records["enrollments"][f"{section}_gone"] = (5, msgspec.json.encode(extra))
    outside = next(key for key in truth["users"] if key != person)
    gateway.store.records["users"][outside] = (7, truth["users"][outside][1])

    outcome = await refresh(gateway, section)

    assert outcome.failure is None
    counts = {
        name: (report.added, report.changed, report.removed, report.whole) for name, report in outcome.reports.items()
    }
    assert counts == {
        "classes": (0, 0, 0, False),
        "users": (1, 0, 0, False),
        "enrollments": (1, 0, 1, False),
    }
    assert outcome.completed.bookmark is None, "what the next sync goes on from stays as it was"
    gateway.store.apply(outcome.changes)
    truth["users"][outside] = gateway.store.records["users"][outside]
    assert gateway.store.records == truth


@pytest.mark.usefixtures("sandbox")
async def test_nothing_new(gateway: Any) -> None:
    """A class that is up to date publishes nothing, and every record is accounted for (I9)."""
    await gateway.sync(options={})
    outcome = await refresh(gateway, pick_class(gateway))

    assert outcome.chunks == []
    for report in outcome.reports.values():
        assert report.served == report.unchanged
    assert outcome.reports["enrollments"].served > 1


@pytest.mark.usefixtures("sandbox")
async def test_only_own_classes(gateway: Any) -> None:
    """A teacher the provider does not name for the class is refused, and nothing is published; their own is read."""
    await gateway.sync(options={})
    section = pick_class(gateway)
    teachers = {one["userSourcedId"] for one in members(gateway, section).values() if one["role"] == "teacher"}
    others = [key for key in sorted(gateway.store.records["users"]) if key not in teachers]

    assert (await refresh(gateway, section, min(teachers))).failure is None
    refused = await refresh(gateway, section, others[0])

    assert refused.failure.code is Code.CLASS_NOT_TAUGHT
    assert refused.chunks == []


@pytest.mark.usefixtures("sandbox")
async def test_no_such_class(gateway: Any) -> None:
    """A class the provider does not have ends the run with its own code; what is held of it stays."""
    await gateway.sync(options={})
    outcome = await refresh(gateway, "class-of-nobody")

    assert outcome.failure.code is Code.CLASS_NOT_FOUND
    assert not outcome.failure.again


@pytest.mark.usefixtures("sandbox")
async def test_excluded_school(gateway: Any) -> None:
    """A class of an excluded school is as good as none."""
    await gateway.sync(options={})
    section = pick_class(gateway)
    school = msgspec.json.decode(gateway.store.records["classes"][section][1])["schoolSourcedId"]

    assert (await refresh(gateway, section, excluded_schools=(school,))).failure.code is Code.CLASS_NOT_FOUND


async def test_providers_without_the_list(gateway: Any, sandbox: Sandbox) -> None:
    """A server that has no list of a class's enrollments is told of as such; nobody is taken for gone."""
    await gateway.sync(options={})
    section = pick_class(gateway)
    sandbox.faults.replace(faults.NoNested())
    outcome = await refresh(gateway, section)

    assert outcome.failure.code is Code.REFRESH_UNSUPPORTED
    assert outcome.chunks == []


@pytest.mark.usefixtures("sandbox")
async def test_without_a_settled_sync(gateway: Any) -> None:
    """Before a first sync there is nothing to build on, and which fields are masked is not known."""
    assert (await refresh(gateway, "any")).failure.code is Code.REFRESH_UNSUPPORTED


async def test_counts_that_do_not_fit(gateway: Any, sandbox: Sandbox) -> None:
    """Where the list of a class states no count, each missing enrollment is asked for before it goes."""
    await gateway.sync(options={})
    section = pick_class(gateway)
    first = min(members(gateway, section))
    extra = msgspec.json.decode(gateway.store.records["enrollments"][first][1]) | {"sourcedId": "nobody-has-this"}
    gateway.store.records["enrollments"]["nobody-has-this"] = (5, msgspec.json.encode(extra))
    sandbox.faults.replace(faults.NoCounts())
    outcome = await refresh(gateway, section)

    assert [chunk.removal_reason for chunk in outcome.chunks] == ["confirmed"]
