"""Bookmarks: kept, given back with the next job, dropped when nothing may build on them; and the mode of a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Bookmark, Claimed, CollectionReport, Failed, Fetched, Mode, SyncJob, read_job
from homeroom.roster import CANONICAL_VERSION
from sync_scheduler.ticking import Ticking

Read = Callable[[str], Awaitable[list[Message]]]
Hear = Callable[..., Awaitable[None]]

AT = datetime(2026, 9, 1, 6, 30, tzinfo=UTC)
BOOKMARK = Bookmark(at=AT, canonical=CANONICAL_VERSION, state={"cursor": "e17"}, masked=("email",), increments=True)


class District:
    """An integration whose runs are made one after the other."""

    def __init__(
        self, client: httpx2.AsyncClient, ticking: Ticking, hear: Hear, read: Read, integration: dict[str, Any]
    ) -> None:
        self.client, self.ticking, self.hear, self.read = client, ticking, hear, read
        self.path = f"/v1/integrations/{integration['id']}"
        self.id = integration["id"]

    async def start(self, mode: str = "auto") -> SyncJob:
        """Ask for a run and return the job that went out."""
        (await self.client.post(f"{self.path}/runs", json={"mode": mode})).raise_for_status()
        await self.ticking.send_due()
        return read_job((await self.read("sync-jobs.us"))[-1])

    async def apply(
        self, job: SyncJob, bookmark: Bookmark | None, *, mode: Mode | None = None, code: Code | None = None
    ) -> None:
        """Let the store have applied what was fetched."""
        await self.hear(
            Applied(
                run_id=job.run_id,
                attempt=job.attempt,
                integration_id=self.id,
                at=AT,
                fetch_id="f",
                apply=1,
                collections={"users": CollectionReport(served=1, unchanged=1)},
                mode=mode or job.mode,
                mode_code=code,
                bookmark=bookmark,
            )
        )

    async def sync(self, bookmark: Bookmark | None = BOOKMARK) -> SyncJob:
        """A whole run."""
        job = await self.start()
        await self.apply(job, bookmark)
        return job

    async def look(self, job: SyncJob) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A run and the entries of its log."""
        run = (await self.client.get(f"/v1/runs/{job.run_id}")).json()
        log = (await self.client.get(f"/v1/runs/{job.run_id}/log")).json()
        return run, log["entries"]

    async def show(self) -> dict[str, Any]:
        """The integration."""
        found: dict[str, Any] = (await self.client.get(self.path)).json()
        return found


@pytest.fixture
def district(
    client: httpx2.AsyncClient, ticking: Ticking, hear: Hear, read: Read, integration: dict[str, Any]
) -> District:
    """A district that was never synced."""
    return District(client, ticking, hear, read, integration)


async def test_the_next_run_goes_on(district: District) -> None:
    """What an applied fetch left is given to the next one, which reads changes only and says so (C6)."""
    first = await district.sync()
    second = await district.start()
    run, log = await district.look(second)

    assert (first.mode, first.bookmark) == ("full", None)
    assert (second.mode, second.bookmark) == ("delta", BOOKMARK)
    assert (run["mode"], run["mode_code"]) == ("delta", None)
    assert log[0]["sentence"] == "A sync was asked for. Only what changed since 2026-09-01 06:30 UTC is read."


async def test_full_keeps_the_bookmark(district: District) -> None:
    """Who asks for everything gets it, and the bookmark goes along to check increments by."""
    await district.sync()
    job = await district.start("full")

    assert (job.mode, job.bookmark) == ("full", BOOKMARK)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"connection": {"signature_method": "HMAC-SHA1"}}, "edited"),
        ({"connection": {"client_secret": "new"}}, "edited"),
        ({"options": {"sync_parents": True}}, "edited"),
        ({"sis": "Skyward"}, "edited"),
        ({"time_zone": "America/Denver"}, "edited"),
        (None, "reset"),
    ],
)
async def test_what_drops_it(district: District, change: dict[str, Any] | None, why: str) -> None:
    """After an edit of what is synced, and after a reset, everything is compared, and the log says which."""
    await district.sync()
    if change is None:
        await district.client.post(f"{district.path}/reset", json={"confirm": True})
    else:
        assert (await district.client.patch(district.path, json=change)).status_code == 200
    job = await district.start()
    _, log = await district.look(job)

    assert (job.mode, job.bookmark) == ("full", None)
    assert why in log[0]["sentence"]


@pytest.mark.parametrize("change", [{"name": "Another"}, {"options": {"sync_parents": False}}, {"sis": "PowerSchool"}])
async def test_what_does_not(district: District, change: dict[str, Any]) -> None:
    """A new name, or settings sent as they were, leave the bookmark."""
    await district.sync()
    await district.client.patch(district.path, json=change)

    assert (await district.start()).bookmark == BOOKMARK


async def test_edited_while_it_ran(district: District) -> None:
    """What was fetched with settings that were edited meanwhile leaves no bookmark."""
    job = await district.start()
    await district.client.patch(district.path, json={"options": {"sync_parents": True}})
    await district.apply(job, BOOKMARK)

    assert (await district.start()).bookmark is None


async def test_edited_before_it_went_out(district: District, client: httpx2.AsyncClient) -> None:
    """A run that was to read changes and lost its bookmark before it went out reads everything, and says so."""
    await district.sync()
    run_id = (await client.post(f"{district.path}/runs")).json()["run_id"]
    await client.patch(district.path, json={"options": {"sync_parents": True}})
    await district.ticking.send_due()
    job = read_job((await district.read("sync-jobs.us"))[-1])
    run, log = await district.look(job)

    assert (job.run_id, job.mode, job.bookmark) == (run_id, "full", None)
    assert run["mode"] == "full"
    assert "edited since the run was asked for" in log[1]["sentence"]


async def test_none_clears_it(district: District) -> None:
    """A fetch the next one must not build on leaves no bookmark, not even the one before."""
    await district.sync()
    await district.sync(bookmark=None)
    job = await district.start()
    _, log = await district.look(job)

    assert (job.mode, job.bookmark) == ("full", None)
    assert "left nothing" in log[0]["sentence"]


async def test_failures_leave_it(district: District, hear: Hear) -> None:
    """A run that failed leaves the bookmark of the last one that did not."""
    await district.sync()
    job = await district.start()
    await hear(
        Failed(
            run_id=job.run_id,
            attempt=1,
            integration_id=district.id,
            at=AT,
            code=Code.AUTH_INVALID,
            detail="It answered 401.",
        )
    )

    assert (await district.start()).bookmark == BOOKMARK


async def test_an_older_attempt(district: District, hear: Hear, database: Database) -> None:
    """A bookmark of an overtaken attempt is not kept; with which settings it was fetched is not known any more."""
    job = await district.start()
    await hear(
        Failed(
            run_id=job.run_id,
            attempt=1,
            integration_id=district.id,
            at=AT,
            code=Code.PROV_5XX,
            detail="It answered 503.",
            again=True,
        )
    )
    await district.apply(job, BOOKMARK)

    assert (await district.look(job))[0]["state"] == "succeeded"
    assert await database.fetchval("SELECT bookmark FROM integration") is None


async def test_what_can_not_be_stored(district: District) -> None:
    """A bookmark with characters no table can hold is given up instead of altered."""
    await district.sync(Bookmark(at=AT, canonical=CANONICAL_VERSION, state={"cursor": "a\0b"}, increments=True))

    assert (await district.start()).bookmark is None


async def test_only_full_runs_set_the_last_sync_date(district: District, database: Database) -> None:
    """Changes alone do not put off the weekly comparison."""
    await district.sync()
    await database.fetch("UPDATE integration SET last_full_at = now() - interval '8 days', last_success_at = NULL")
    before = (await district.show())["last_full_at"]
    weekly = await district.start()
    await district.apply(weekly, BOOKMARK, mode="delta")
    after_delta = await district.show()
    await district.apply(await district.start("full"), BOOKMARK)

    assert (weekly.mode, weekly.bookmark) == ("full", BOOKMARK)
    assert after_delta["last_full_at"] == before
    assert after_delta["last_success_at"] is not None
    assert (await district.show())["last_full_at"] > before


async def test_the_gateway_turned(district: District, hear: Hear) -> None:
    """When changes could not be had after all, run and log say what was done instead and why, once."""
    await district.sync()
    job = await district.start()
    common: dict[str, Any] = {"run_id": job.run_id, "attempt": 1, "integration_id": district.id, "at": AT}
    turn: dict[str, Any] = {"mode": "full", "mode_code": Code.CLEVER_EVENTS_GAP, "fetch_id": "f"}
    await hear(
        Claimed(worker="w", fetch_id="f", **common),
        Fetched(collections={}, **turn, **common),
        Applied(apply=2, collections={}, bookmark=BOOKMARK, **turn, **common),
    )
    run, log = await district.look(job)

    assert (run["state"], run["mode"], run["mode_code"]) == ("succeeded", "full", "CLEVER_EVENTS_GAP")
    assert [entry["step"] for entry in log] == ["asked", "published", "claimed", "mode", "fetched", "applied"]
    told = log[3]
    assert (told["code"], told["sentence"]) == (
        "CLEVER_EVENTS_GAP",
        "Everything was read and compared. Clever no longer has the events since the last sync.",
    )


async def test_distrust_is_told(district: District) -> None:
    """While increments are distrusted everything is compared, and the run shows DELTA_DRIFT as the reason."""
    await district.sync(Bookmark(at=AT, canonical=CANONICAL_VERSION, increments=True, distrusted=True))
    run, log = await district.look(await district.start())

    assert (run["mode"], run["mode_code"], log[0]["code"]) == ("full", "DELTA_DRIFT", "DELTA_DRIFT")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_today_is_the_districts(
    district: District, client: httpx2.AsyncClient, database: Database, hear: Hear, zone: str
) -> None:
    """The date rules are decided by is the district's own when the run was made, for all its attempts (C3)."""
    await client.patch(district.path, json={"time_zone": zone})
    hours = 14 if zone == "Pacific/Kiritimati" else -11
    job = await district.start()
    expected = (datetime.now(UTC) + timedelta(hours=hours)).date()
    await database.fetch("UPDATE run SET today = $1, created_at = now() - interval '3 days'", date(2026, 1, 31))
    await hear(
        Failed(
            run_id=job.run_id,
            attempt=1,
            integration_id=district.id,
            at=AT,
            code=Code.PROV_5XX,
            detail="It answered 503.",
            again=True,
        )
    )
    await database.fetch("UPDATE run SET not_before = NULL")
    await district.ticking.send_due()
    second = read_job((await district.read("sync-jobs.us"))[-1])

    assert job.today == expected
    assert (second.attempt, second.today) == (2, date(2026, 1, 31))
