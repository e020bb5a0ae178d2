"""Runs one can trust, over all services: held, evaluated, undone, refreshed, scheduled (C1, C2, C11, C14)."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from installation import COLLECTIONS, Installation, SyncedDistrict, synced_district

from homeroom_local.client import ApiError
from sandbox_district.registrar import Registrar

ONCE = pytest.mark.parametrize("installation", ["on_postgres"], indirect=True)
"""For what has nothing to do with the bus."""


async def call(district: SyncedDistrict, method: str, path: str, **parts: Any) -> Any:
    """One call, of the integration if the path does not begin with a slash."""
    full = path if path.startswith("/") else f"/v1/integrations/{district.integration_id}/{path}".rstrip("/")
    return await district.client.call(method, full, **parts)


async def start(district: SyncedDistrict, **body: Any) -> dict[str, Any]:
    """Begin a run and wait for its end."""
    begun = await call(district, "POST", "runs", json=body)
    run: dict[str, Any] = await district.wait(begun["run_id"])
    return run


def send_home(district: SyncedDistrict, share: float = 0.5) -> set[str]:
    """Take a good part of the students out of the provider's roster, without tombstones; who they are."""
    source = district.sandbox.district
    students = sorted(key for key, user in source.active("users").items() if user["role"] == "student")
    leaving = students[: int(len(students) * share)]

    def dismiss() -> None:
        registrar = Registrar(source, Random(1))
        for student in leaving:
            registrar.dismiss(student, tombstone=False)

    source.change(dismiss)
    return {f"users/{student}" for student in leaving}


async def read_changes(district: SyncedDistrict, run_id: str, **query: str) -> list[dict[str, str]]:
    """A plan's changes, as a spreadsheet would read them."""
    answer = await district.client._http.get(f"/v1/plans/{run_id}/changes.csv", params=query)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


async def test_many_leaving_are_held_until_somebody_approves(installation: Installation) -> None:
    """Half of the students missing stay until exactly this plan is approved; then the roster is the provider's."""
    async with synced_district(installation, students=120) as district:
        await district.sync()
        await district.wait_for_events()
        before = await district.held()
        leaving = send_home(district)
        joined = district.sandbox.district.change(
            lambda: Registrar(district.sandbox.district, Random(2)).admit_student("05")
        )
        run = await district.sync()

        assert (run["state"], run["code"]) == ("held", "GUARD_DELETE_HOLD"), run
        hold = run["hold"]
        assert hold["reasons"]
        held = await district.held()
        assert before <= held, "nobody goes"
        assert {f"users/{key}" for key in joined["users"].added} <= held, "whoever is new is there already"
        removals = await read_changes(district, run["id"], change="removed", collection="users")
        assert leaving <= {f"users/{row['sourced_id']}" for row in removals}

        for plan in ("0" * 64, hold["plan"][:-1] + ("0" if hold["plan"][-1] != "0" else "1")):
            with pytest.raises(ApiError) as refused:
                await call(district, "POST", f"/v1/runs/{run['id']}/approve", json={"plan": plan, "action": "all"})
            assert refused.value.code == "PLAN_CHANGED"
        assert await district.held() == held

        await call(district, "POST", f"/v1/runs/{run['id']}/approve", json={"plan": hold["plan"], "action": "all"})
        run = await district.wait(run["id"])
        assert run["state"] == "succeeded", run
        assert await district.held() == district.truth
        await district.wait_for_events()
        with pytest.raises(ApiError) as again:
            await call(district, "POST", f"/v1/runs/{run['id']}/discard", json={"plan": hold["plan"]})
        assert again.value.code == "HOLD_DECIDED"
        audit = await call(district, "GET", "/v1/audit", params={"subject": f"run:{run['id']}"})
        assert [entry["by"] for entry in audit["items"]] == ["local-admin"]


async def test_a_newer_plan_takes_the_place_of_a_held_one(installation: Installation) -> None:
    """What was held is replaced by the next run's plan, whose approval counts; a discarded plan changes nothing."""
    async with synced_district(installation, students=120) as district:
        await district.sync()
        before = await district.held()
        send_home(district)
        first = await district.sync()
        second = await district.sync()
        assert (first["state"], second["state"]) == ("held", "held")
        replaced = await call(district, "GET", f"/v1/runs/{first['id']}")
        assert replaced["code"] == "HOLD_REPLACED"
        assert replaced["state"] in ("cancelled", "partial")

        plan = {"plan": second["hold"]["plan"]}
        await call(district, "POST", f"/v1/runs/{second['id']}/discard", json=plan)
        async with asyncio.timeout(20):
            while (run := await call(district, "GET", f"/v1/runs/{second['id']}"))["state"] in ("held", "applying"):
                await asyncio.sleep(0.1)
        assert run["code"] == "HOLD_DISCARDED"
        assert await district.held() == before


@ONCE
async def test_an_evaluation_changes_nothing(installation: Installation) -> None:
    """An evaluation tells exactly what the next sync does, tries other options, and leaves everything as it was."""
    async with synced_district(installation, students=120) as district:
        await district.sync()
        before, integration = await district.held(), await call(district, "GET", "")
        changes = district.sandbox.district.advance_day()
        seen = await start(district, evaluate=True)

        assert (seen["state"], seen["evaluate"]) == ("succeeded", True), seen
        assert await district.held() == before
        now = await call(district, "GET", "")
        assert {key: now[key] for key in ("needs_sync", "last_success_at")} == {
            key: integration[key] for key in ("needs_sync", "last_success_at")
        }
        rows = await read_changes(district, seen["id"])
        for kind, word in (("added", "added"), ("removed", "removed"), ("changed", "changed")):
            told = {(row["collection"], row["sourced_id"]) for row in rows if row["change"] == word}
            true = {(name, key) for name in COLLECTIONS for key in getattr(changes[name], kind)}
            assert told == true, kind
        report = await call(district, "GET", f"/v1/plans/{seen['id']}")
        assert report

        options = {"sync_parents": True, "sync_classes": False}
        tried = await start(district, evaluate=True, options=options)
        gone = await read_changes(district, tried["id"], change="removed", collection="classes")
        assert gone
        assert {row["reason"] for row in gone} == {"configuration"}
        assert (await call(district, "GET", ""))["options"]["sync_classes"], "nothing was saved"

        run = await district.sync()
        assert run["counts"]["users"]["added"] == seen["counts"]["users"]["added"]
        assert await district.held() == district.truth


async def test_a_run_is_undone(installation: Installation) -> None:
    """A restore brings back the roster from before a run, events tell it, and no sync undoes it by itself."""
    async with synced_district(installation, students=60) as district:
        await district.sync()
        before = await district.held()
        district.sandbox.district.advance_day()
        run = await district.sync()
        after = await district.held()
        assert after != before

        restored = await call(district, "POST", f"/v1/runs/{run['id']}/restore", json={"confirm": True})
        undone = await district.wait(restored["run_id"])
        assert undone["state"] in ("succeeded", "partial"), undone
        assert await district.held() == before
        async with asyncio.timeout(40):
            while district.watcher.active() != before:
                await asyncio.sleep(0.1)
        with pytest.raises(ApiError) as refused:
            await district.client.start_run(district.integration_id)
        assert refused.value.code == "INTEGRATION_PAUSED"

        await call(district, "POST", "resume")
        assert (await district.sync())["state"] == "succeeded"
        assert await district.held() == district.truth


@ONCE
async def test_a_teacher_refreshes_a_class(installation: Installation) -> None:
    """A new student is in the class a moment after the teacher asked, and nothing else was read or removed."""
    async with synced_district(installation, students=60) as district:
        await district.sync()
        source = district.sandbox.district
        section = next(iter(sorted(source.active("classes"))))
        district.sandbox.district.advance_day()
        student = next(key for key, user in sorted(source.active("users").items()) if user["role"] == "student")
        added: list[str] = []
        source.change(lambda: added.append(Registrar(source, Random(3)).enroll(student, section)))
        before = await district.held()
        body = {"integration_id": district.integration_id}
        answer = await call(district, "POST", f"/v1/classes/{section}/refresh", json=body)

        assert answer["changed"], answer
        assert f"enrollments/{added[0]}" in await district.held()
        of_class = {
            f"enrollments/{key}"
            for key, one in source.collections["enrollments"].items()
            if one["class"]["sourcedId"] == section
        }
        gone = before - await district.held()
        assert gone <= of_class
        with pytest.raises(ApiError) as refused:
            await call(district, "POST", f"/v1/classes/{section}/refresh", json=body)
        assert (refused.value.status, refused.value.code) == (429, "REFRESH_THROTTLED")
        assert (await district.sync())["state"] == "succeeded"
        assert await district.held() == district.truth


@ONCE
async def test_runs_begin_by_themselves(installation: Installation) -> None:
    """An integration with a schedule syncs at its slot without being asked, and shows the next ones."""
    async with synced_district(installation, students=30) as district:
        soon = datetime.now(UTC) + timedelta(seconds=63)  # the next minute that has not begun when this is saved
        schedule = {"kind": "nightly", "at": f"{soon:%H:%M}", "window_minutes": 0}
        shown = await call(district, "PATCH", "", json={"schedule": schedule, "time_zone": "UTC"})
        assert len(shown["next_runs"]) >= 3
        async with asyncio.timeout(100):
            while not (runs := (await call(district, "GET", "runs"))["items"]):
                await asyncio.sleep(0.5)
        run = await district.wait(runs[-1]["id"])
        await call(district, "PATCH", "", json={"schedule": {"kind": "manual"}})

        assert run["state"] == "succeeded"
        assert run["slot"] is not None
        assert await district.held() == district.truth
