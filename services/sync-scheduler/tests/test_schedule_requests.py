"""Schedules, guards, takeovers and pauses over REST: what is taken, shown and refused (C1, C8, C10, C14)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx2
import msgspec
import pytest
from pydantic import ValidationError
from scheduled import begin_due, read_integration

from homeroom.db import Database
from homeroom.messages import GuardLimits, UploadReceived
from sync_scheduler.integration_bodies import GuardBody, IntegrationBody, IntegrationEdit
from sync_scheduler.ticking import Ticking

Wanted = Callable[..., dict[str, Any]]
DAY = timedelta(days=1)


async def _create(client: httpx2.AsyncClient, body: dict[str, Any]) -> httpx2.Response:
    return await client.post("/v1/integrations", json=body)


TAKEN: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"kind": "every_24_hours"}, {"at": None, "window_minutes": 1440}),
    ({"kind": "every_24_hours", "at": "02:00"}, {"window_minutes": 60}),
    ({"kind": "nightly"}, {"at": "02:00", "window_minutes": 60}),
    ({"kind": "nightly", "at": "23:30", "window_minutes": 0}, {}),
    ({"kind": "weekly", "weekdays": ["tuesday"], "times": ["18:00", "18:20"]}, {"window_minutes": 20}),
    ({"kind": "twice_weekly"}, {"window_minutes": 1440}),
    ({"kind": "cron", "expression": " 30 1  * * 1-5"}, {"expression": "30 1 * * 1-5", "window_minutes": 0}),
    (
        {
            "kind": "nightly",
            "blackout": [{"from": "2027-07-01", "until": "2027-08-15"}],
            "not_in_school_hours": {"from": "08:00", "until": "15:30"},
        },
        {
            "at": "02:00",
            "window_minutes": 60,
            "not_in_school_hours": {
                "from": "08:00",
                "until": "15:30",
                "weekdays": ["monday", "tuesday", "wednesday", "thursday", "friday"],
            },
        },
    ),
)


async def test_schedules(client: httpx2.AsyncClient, organization_id: str, wanted: Wanted) -> None:
    """Each kind of schedule comes back with its defaults, and with the next five runs by the district's clocks (C1)."""
    for entered, shown in TAKEN:
        created = (await _create(client, wanted(organization_id, schedule=entered))).raise_for_status().json()
        timed = {"blackout": [], "not_in_school_hours": None}

        assert created["schedule"] == timed | entered | shown
        assert len(created["next_runs"]) == 5
        assert created["next_runs"][0]["at"] == created["next_slot_at"]
        moments = [datetime.fromisoformat(run["at"]) for run in created["next_runs"]]
        local = [datetime.fromisoformat(run["local"]) for run in created["next_runs"]]
        assert moments == sorted(set(moments)) == local
        assert datetime.now(UTC) < moments[0] < datetime.now(UTC) + 8 * DAY
        assert all(at.utcoffset() == at.astimezone(ZoneInfo("America/Chicago")).utcoffset() for at in local)


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        ({"kind": "hourly"}, "schedule"),
        ({}, "schedule"),
        ("nightly", "schedule"),
        ({"kind": "manual", "at": "02:00"}, "schedule.at"),
        ({"kind": "nightly", "time": "02:00"}, "schedule.time"),
        ({"kind": "nightly", "at": "24:00"}, "schedule.at"),
        ({"kind": "nightly", "at": "2:00"}, "schedule.at"),
        ({"kind": "nightly", "window_minutes": -1}, "schedule.window_minutes"),
        ({"kind": "nightly", "window_minutes": 1441}, "schedule.window_minutes"),
        ({"kind": "nightly", "window_minutes": True}, "schedule.window_minutes"),
        ({"kind": "weekly", "weekdays": [], "times": ["18:00"]}, "schedule.weekdays"),
        ({"kind": "weekly", "weekdays": ["friday"], "times": []}, "schedule.times"),
        ({"kind": "weekly", "weekdays": ["friday"]}, "schedule.times"),
        ({"kind": "weekly", "weekdays": ["friday", "friday"], "times": ["18:00"]}, "schedule.weekdays"),
        ({"kind": "weekly", "weekdays": ["friday"], "times": ["18:00", "18:05"]}, "schedule.times"),
        ({"kind": "cron"}, "schedule.expression"),
        ({"kind": "cron", "expression": "* * * * *"}, "schedule.expression"),
        ({"kind": "cron", "expression": "0 2 * *"}, "schedule.expression"),
        ({"kind": "cron", "expression": "0 0 2 * * *"}, "schedule.expression"),
        ({"kind": "cron", "expression": "0 25 * * *"}, "schedule.expression"),
        ({"kind": "cron", "expression": "0 2 * * moonday"}, "schedule.expression"),
        ({"kind": "nightly", "blackout": [{"from": "2027-08-15", "until": "2027-07-01"}]}, "schedule.blackout.0"),
        ({"kind": "nightly", "blackout": [{"from": "2027-08-15", "until": "9999-12-31"}]}, "schedule.blackout.0"),
        (
            {"kind": "nightly", "not_in_school_hours": {"from": "15:00", "until": "08:00"}},
            "schedule.not_in_school_hours",
        ),
    ],
)
def test_wrong_schedules(wanted: Wanted, unknown_id: str, schedule: Any, field: str) -> None:
    """What is wrong with a schedule is named by its field, when created and when edited."""
    for model, body in (
        (IntegrationBody, wanted(unknown_id, schedule=schedule)),
        (IntegrationEdit, {"schedule": schedule}),
    ):
        with pytest.raises(ValidationError) as refused:
            model.model_validate(body)
        assert [".".join(map(str, error["loc"])) for error in refused.value.errors()] == [field]


IMPOSSIBLE: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"schedule": {"kind": "cron", "expression": "0 2 30 2 *"}}, "SCHEDULE_IMPOSSIBLE", "does not come"),
    (
        {"schedule": {"kind": "nightly", "blackout": [{"from": "2026-01-01", "until": "2100-01-01"}]}},
        "SCHEDULE_IMPOSSIBLE",
        "blackout dates",
    ),
    (
        {
            "schedule": {
                "kind": "weekly",
                "weekdays": ["monday"],
                "times": ["09:00"],
                "window_minutes": 240,
                "not_in_school_hours": {"from": "08:00", "until": "15:00"},
            }
        },
        "SCHEDULE_IMPOSSIBLE",
        "no room",
    ),
    ({"time_zone": "Middle/Earth"}, "ZONE_UNKNOWN", "America/Chicago"),
    ({"time_zone": "../etc/passwd"}, "ZONE_UNKNOWN", "America/Chicago"),
    ({"time_zone": "localtime"}, "ZONE_UNKNOWN", "America/Chicago"),
)


async def test_impossible(
    client: httpx2.AsyncClient, organization_id: str, wanted: Wanted, integration: dict[str, Any]
) -> None:
    """A schedule that never comes due and a zone nobody knows are refused when created and when edited."""
    for change, code, words in IMPOSSIBLE:
        for answer in (
            await _create(client, wanted(organization_id, **change)),
            await client.patch(f"/v1/integrations/{integration['id']}", json=change),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, code)
            assert words in answer.json()["detail"]
    assert len((await client.get("/v1/integrations")).json()["items"]) == 1
    assert (await client.get(f"/v1/integrations/{integration['id']}")).json() == integration


async def test_files_need_no_schedule(client: httpx2.AsyncClient, fed: dict[str, Any]) -> None:
    """An integration that is fed by files starts by upload, and any schedule is refused with a sentence."""
    path = f"/v1/integrations/{fed['id']}"
    answer = await client.patch(path, json={"schedule": {"kind": "nightly"}})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body.schedule.kind")
    assert "files start a sync by themselves" in answer.json()["errors"][0]["problem"]
    assert (await client.patch(path, json={"schedule": {"kind": "manual"}})).status_code == 200


async def test_editing_a_schedule(client: httpx2.AsyncClient, database: Database, integration: dict[str, Any]) -> None:
    """A new schedule or zone moves the next run and asks for no sync; null makes it manual."""
    path = f"/v1/integrations/{integration['id']}"
    await database.fetch("UPDATE integration SET needs_sync = false")
    nightly = (await client.patch(path, json={"schedule": {"kind": "nightly", "window_minutes": 0}})).json()
    first = datetime.fromisoformat(nightly["next_runs"][0]["local"])
    assert (first.hour, nightly["needs_sync"]) == (2, False)
    moved = (await client.patch(path, json={"time_zone": "Australia/Perth"})).json()
    assert datetime.fromisoformat(moved["next_runs"][0]["local"]).utcoffset() == timedelta(hours=8)
    manual = (await client.patch(path, json={"schedule": None})).json()

    assert (manual["schedule"], manual["next_slot_at"], manual["next_runs"]) == ({"kind": "manual"}, None, [])


# ── how pictures are taken ────────────────────────────────────────────────────────────────────────────────────────


def test_limits_are_those_of_the_guard() -> None:
    """What an admin can set is what the guard knows (C14)."""
    assert tuple(GuardBody.model_fields) == GuardLimits.__struct_fields__


async def test_guard(client: httpx2.AsyncClient, database: Database, integration: dict[str, Any]) -> None:
    """Limits are changed one by one, shown with their defaults, kept only where they differ, and ask for no sync."""
    path = f"/v1/integrations/{integration['id']}"
    usual = msgspec.structs.asdict(GuardLimits())
    await database.fetch("UPDATE integration SET needs_sync = false")
    assert integration["guard"] == usual
    await client.patch(path, json={"guard": {"remove_share": 0.2, "small": 50, "rekey_share": 0.2}})
    edited = (await client.patch(path, json={"guard": {"small": None, "remove_least": 5}})).json()
    assert edited["guard"] == usual | {"remove_share": 0.2, "remove_least": 5}
    assert edited["needs_sync"] is False
    stored = await database.fetchval("SELECT guard FROM integration")
    assert msgspec.convert(stored, GuardLimits) == GuardLimits(remove_share=0.2, remove_least=5)
    assert len(stored) == 2
    assert (await client.patch(path, json={"guard": None})).json()["guard"] == usual


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"guard": {"remove_share": 1.01}}, "guard.remove_share"),
        ({"guard": {"remove_share": -0.1}}, "guard.remove_share"),
        ({"guard": {"remove_share": "0.1"}}, "guard.remove_share"),
        ({"guard": {"remove_least": -1}}, "guard.remove_least"),
        ({"guard": {"remove_least": 2.5}}, "guard.remove_least"),
        ({"guard": {"surprise": 1}}, "guard.surprise"),
        ({"approve_first": "yes"}, "approve_first"),
        ({"additions_only": 1}, "additions_only"),
    ],
)
def test_wrong_terms(wanted: Wanted, unknown_id: str, change: dict[str, Any], field: str) -> None:
    """Shares outside of 0 to 1, negative numbers and unknown limits are refused by name."""
    for model, body in ((IntegrationBody, wanted(unknown_id, **change)), (IntegrationEdit, change)):
        with pytest.raises(ValidationError) as refused:
            model.model_validate(body)
        assert [".".join(map(str, error["loc"])) for error in refused.value.errors()] == [field]


async def test_switches(client: httpx2.AsyncClient, organization_id: str, wanted: Wanted) -> None:
    """Approval of the first picture, additions only and keeping what is received are off until somebody wants them."""
    names = ("approve_first", "additions_only", "keep_received")
    plain = (await _create(client, wanted(organization_id))).json()
    wished = (await _create(client, wanted(organization_id, **dict.fromkeys(names, True)))).json()
    edited = (await client.patch(f"/v1/integrations/{wished['id']}", json={"approve_first": False})).json()

    assert [plain[name] for name in names] == [False, False, False]
    assert [wished[name] for name in names] == [True, True, True]
    assert [edited[name] for name in names] == [False, True, True]


async def test_takeover(client: httpx2.AsyncClient, organization_id: str, wanted: Wanted, unknown_id: str) -> None:
    """Only the records of a deleted integration of the same organization can be taken over, by one, from the start."""
    other = (await client.post("/v1/organizations", json={"name": "Shelbyville"})).json()["id"]
    old, living, foreign = [
        (await _create(client, wanted(owner))).json()["id"] for owner in (organization_id, organization_id, other)
    ]
    for gone in (old, foreign):
        await client.delete(f"/v1/integrations/{gone}")
    for unfit in (living, foreign, unknown_id):
        answer = await _create(client, wanted(organization_id, takes_over=unfit))
        assert (answer.status_code, answer.json()["code"]) == (422, "TAKEOVER_UNFIT")

    taker = (await _create(client, wanted(organization_id, takes_over=old))).json()
    assert taker["takes_over"] == old
    assert (await _create(client, wanted(organization_id, takes_over=old))).json()["code"] == "TAKEOVER_UNFIT"
    answer = await client.patch(f"/v1/integrations/{taker['id']}", json={"takes_over": None})
    assert answer.json()["code"] == "REQUEST_INVALID"


# ── pauses ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pause(client: httpx2.AsyncClient, database: Database, integration: dict[str, Any]) -> None:
    """A pause is shown with its end, reason and author, keeps runs from starting, and ends when it is over (C10)."""
    path = f"/v1/integrations/{integration['id']}"
    until = (datetime.now(UTC) + DAY).isoformat()
    paused = (await client.post(f"{path}/pause", json={"until": until, "reason": "Summer"})).json()
    assert paused["state"] == "active"
    assert paused["paused"]["reason"] == "Summer"
    assert paused["paused"]["by"]
    assert datetime.fromisoformat(paused["paused"]["until"]) == datetime.fromisoformat(until)
    refused = await client.post(f"{path}/runs")
    assert (refused.status_code, refused.json()["code"]) == (409, "INTEGRATION_PAUSED")

    await database.fetch("UPDATE integration SET paused_until = now() - interval '1 second'")
    assert (await client.get(path)).json()["paused"] is None
    assert (await client.post(f"{path}/runs")).status_code == 202


async def test_pause_until_a_day(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """A pause until a day ends as that day begins where the district is, and what is ahead begins there."""
    path = f"/v1/integrations/{integration['id']}"
    await client.patch(path, json={"schedule": {"kind": "nightly", "window_minutes": 0}})
    paused = (await client.post(f"{path}/pause", json={"until": "2099-07-01"})).json()

    assert paused["paused"]["until"] == "2099-07-01T05:00:00Z"
    assert [run["local"] for run in paused["next_runs"]][:2] == [
        "2099-07-01T00:00:00-05:00",
        "2099-07-01T02:00:00-05:00",
    ]
    assert paused["next_runs"][0]["why"] == "catch_up"
    assert (await client.post(f"{path}/pause")).json()["next_runs"] == []


WRONG_PAUSES: tuple[dict[str, Any], ...] = (
    {"until": "2020-01-01"},
    {"until": "2020-01-01T00:00:00Z"},
    {"until": "2099-01-01T00:00:00"},
    {"until": 4070908800},
    {"until": "9999-12-31"},
    {"until": "soon"},
    {"reason": ""},
    {"for": "ever"},
)


async def test_wrong_pauses(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """Ends that are past, vague or without an offset are refused, and nothing is paused."""
    path = f"/v1/integrations/{integration['id']}"
    for body in WRONG_PAUSES:
        answer = await client.post(f"{path}/pause", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID"), body

    assert (await client.get(path)).json()["paused"] is None


async def test_deleted_ones_are_not_paused(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """Nobody pauses or resumes what was deleted."""
    path = f"/v1/integrations/{integration['id']}"
    await client.delete(path)
    for verb in ("pause", "resume"):
        assert (await client.post(f"{path}/{verb}")).json()["code"] == "INTEGRATION_DELETED"


async def test_files_wait_for_the_end_of_a_pause(
    client: httpx2.AsyncClient, hear: Callable[..., Any], ticking: Ticking, fed: dict[str, Any]
) -> None:
    """Files that are received during a pause are read once it ends."""
    path = f"/v1/integrations/{fed['id']}"
    await client.post(f"{path}/pause")
    now = datetime.now(UTC)
    await hear(
        UploadReceived(
            upload_id="u1",
            integration_id=fed["id"],
            via="rest",
            files=1,
            bytes=1,
            digest="d",
            at=now,
        )
    )
    await ticking.send_due()
    assert (await client.get(f"{path}/runs")).json()["items"] == []
    await client.post(f"{path}/resume")
    await ticking.send_due()

    assert [run["state"] for run in (await client.get(f"{path}/runs")).json()["items"]] == ["queued"]


async def test_everything_is_audited(
    client: httpx2.AsyncClient, database: Database, organization_id: str, wanted: Wanted, canary: str
) -> None:
    """What people do to integrations is written down with who did it, not with secrets."""
    path = f"/v1/integrations/{(await _create(client, wanted(organization_id))).json()['id']}"
    await client.patch(path, json={"connection": {"client_secret": canary}, "name": "Renamed"})
    await client.post(f"{path}/pause", json={"reason": "Summer"})
    await client.post(f"{path}/resume")
    await client.post(f"{path}/reset", json={"confirm": True})
    await client.delete(path)
    rows = await database.fetch("SELECT * FROM audit_entry ORDER BY position")

    verbs = ["create", "edit", "pause", "resume", "reset", "delete"]
    assert [row["action"] for row in rows if row["subject"] == f"integration:{path.rpartition('/')[2]}"] == [
        f"integration.{verb}" for verb in verbs
    ]
    assert all(row["by"] for row in rows)
    assert canary not in json.dumps([str(dict(row)) for row in rows])


async def test_old_slots_by_page(client: httpx2.AsyncClient, database: Database, integration: dict[str, Any]) -> None:
    """What became of slots is read page by page, newest first, and only by those who may see the integration."""
    path = f"/v1/integrations/{integration['id']}"
    await client.patch(path, json={"schedule": {"kind": "nightly", "window_minutes": 0}})
    moment = datetime.fromisoformat((await client.get(path)).json()["next_slot_at"])
    for night in range(5):
        await begin_due(database, moment + night * DAY + timedelta(hours=2))
        await database.fetch("UPDATE run SET state = 'failed', finished_at = now()")
    first = (await client.get(f"{path}/slots", params={"limit": 3})).json()
    second = (await client.get(f"{path}/slots", params={"limit": 3, "cursor": first["cursor"]})).json()

    assert (first["more"], second["more"]) == (True, False)
    seen = [slot["slot"] for slot in (*first["items"], *second["items"])]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 5
    assert (await read_integration(database, UUID(integration["id"])))["slots_owed"] == 0
