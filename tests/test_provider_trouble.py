"""Every way in which a provider can fail ends in the right state, with a stable code, and removes nobody."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from installation import Installation, SyncedDistrict, connection_of, synced_district

from sandbox_district import faults

FAILING = {
    "error pages": (faults.ServerError(path="/users"), "failed", "PROV_5XX"),
    "cut-off pages": (faults.Truncate(path="/enrollments"), "failed", "PROV_BAD_PAYLOAD"),
    "a login page": (faults.HtmlLogin(path="/users"), "failed", "PROV_BAD_PAYLOAD"),
    "errors in the guise of answers": (faults.ErrorEnvelope(path="/users"), "failed", "PROV_BAD_PAYLOAD"),
    "collections that are not shared": (faults.Forbidden(path="/"), "failed", "PROV_SCOPE"),
    "credentials that were revoked": (faults.Unauthorized(path="/"), "failed", "AUTH_INVALID"),
    "an empty collection": (faults.Empty(path="/users"), "held", "GUARD_EMPTY_COLLECTION"),
}
HARMLESS = {
    "pages cut shorter than asked for": faults.Clamp(path="/", limit=37),
    "no counts": faults.NoCounts(path="/"),
    "wrong counts": faults.WrongCounts(path="/enrollments"),
    "lists without a wrapper": faults.BareArray(path="/"),
    "null metadata": faults.NullMetadata(path="/"),
    "booleans as texts": faults.StringBooleans(path="/"),
    "role and roles": faults.BothRoles(path="/"),
    "an order of its own": faults.IgnoreSort(path="/"),
    "an outage that passes": faults.ServerError(path="/users", times=2),
    "being asked to slow down": faults.RateLimit(path="/users", times=2),
}


async def told(district: SyncedDistrict, run: dict[str, Any]) -> str:
    """Everything an admin reads about a run."""
    return str(run) + str(await district.client.call("GET", f"/v1/runs/{run['id']}/log"))


@pytest.mark.parametrize("trouble", FAILING)
async def test_failures_end_with_a_code_and_a_next_step(on_postgres: Installation, trouble: str) -> None:
    """A run that can't be completed says why and what to do, and leaves the roster as it was."""
    fault, state, code = FAILING[trouble]
    async with synced_district(on_postgres, students=30) as district:
        await district.sync()
        before = await district.held()
        district.sandbox.faults.replace(fault)
        run = await district.sync(90)
        district.sandbox.faults.replace()

        assert (run["state"], run["code"]) == (state, code)
        assert run["message"]
        assert run["next_step"]
        assert await district.held() == before
        assert district.sandbox.client_secret not in await told(district, run)
        assert (await district.sync())["state"] == "succeeded", "the next run is not harmed by the failure"


@pytest.mark.parametrize("trouble", HARMLESS)
async def test_oddities_are_borne(on_postgres: Installation, trouble: str) -> None:
    """What providers do differently costs nobody: the roster becomes the provider's, and nobody is removed wrongly."""
    async with synced_district(on_postgres, students=30) as district:
        district.sandbox.faults.replace(HARMLESS[trouble])
        first = await district.sync(90)
        before = await district.held()
        again = await district.sync(90)

        assert first["state"] == again["state"] == "succeeded"
        assert before == await district.held() == district.truth


async def test_a_list_that_ends_early_removes_nobody(on_postgres: Installation) -> None:
    """Records beyond the end of a list that is too short are asked for by id, found, and kept."""
    async with synced_district(on_postgres, students=30) as district:
        await district.sync()
        district.sandbox.faults.replace(faults.ShortList(path="/users", rows=20))
        run = await district.sync()

        assert run["state"] == "succeeded"
        assert run["counts"]["users"]["removed"] == 0
        assert await district.held() == district.truth


async def test_who_can_not_be_asked_for_stays(on_postgres: Installation) -> None:
    """If the provider neither lists somebody nor answers by id, that proves nothing: partial, and all stay."""
    async with synced_district(on_postgres, students=30) as district:
        await district.sync()
        district.sandbox.faults.replace(faults.ShortList(path="/users", rows=20), faults.NotFoundSingles(path="/users"))
        run = await district.sync()

        assert (run["state"], run["code"]) == ("partial", "REMOVALS_UNCONFIRMED")
        assert run["next_step"]
        assert await district.held() == district.truth


async def test_damaged_records_are_quarantined(on_postgres: Installation) -> None:
    """Records that can't be understood keep their last good value and are listed with id, collection and reason."""
    async with synced_district(on_postgres, students=30) as district:
        await district.sync()
        before = await district.held()
        district.sandbox.faults.replace(faults.BadRecords(path="/users", rows=3))
        run = await district.sync()
        log = await district.client.call("GET", f"/v1/runs/{run['id']}/log")

        assert (run["state"], run["code"]) == ("partial", "RECORDS_QUARANTINED")
        assert run["counts"]["users"]["quarantined"] == 3
        assert await district.held() == before
        issues = [issue for issue in log["issues"] if issue["collection"] == "users"]
        assert len(issues) == 3
        assert all(issue["code"] and issue["title"] for issue in issues)


async def test_counts_that_shift_remove_nobody_who_is_there(on_postgres: Installation) -> None:
    """A record deleted while pages are read does not make its neighbour look gone (P7)."""
    async with synced_district(on_postgres, students=200) as district:
        await district.sync()
        district.sandbox.faults.replace(faults.Clamp(path="/", limit=50), faults.Shift(path="/enrollments"))
        await district.sync()
        district.sandbox.faults.replace()

        assert district.truth <= await district.held(), "whoever is there now was there all the time"
        assert (await district.sync())["state"] == "succeeded"
        assert await district.held() == district.truth


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"client_secret": "not-the-secret"}, "AUTH_INVALID"),
        ({"endpoint_url": "http://127.0.0.1:9/"}, "PROV_UNREACHABLE"),
        ({"endpoint_url": "https://roster.invalid/"}, "PROV_UNREACHABLE"),
    ],
)
async def test_wrong_connections_fail_within_seconds(
    on_postgres: Installation, wrong: dict[str, str], code: str
) -> None:
    """A wrong secret or endpoint is told within seconds, not after retries of minutes."""
    async with synced_district(on_postgres, students=5) as district:
        await district.client.call(
            "PATCH",
            f"/v1/integrations/{district.integration_id}",
            json={"connection": connection_of(district.sandbox, **wrong)},
        )
        began = time.monotonic()
        run = await district.sync()

        assert (run["state"], run["code"]) == ("failed", code)
        assert time.monotonic() - began < 15


async def test_a_slow_run_can_be_cancelled(on_postgres: Installation) -> None:
    """Cancelling ends a run within seconds, and the next one starts afresh."""
    async with synced_district(on_postgres, students=30) as district:
        district.sandbox.faults.replace(faults.Slow(path="/users", seconds=20))
        run_id = await district.start()
        while (await district.client.get_run(run_id))["state"] == "queued":
            await asyncio.sleep(0.05)
        await district.client.call("POST", f"/v1/runs/{run_id}/cancel")
        cancelled = await district.wait(run_id, 15)
        district.sandbox.faults.replace()

        assert (cancelled["state"], cancelled["code"]) == ("cancelled", "RUN_CANCELLED")
        assert (await district.sync())["state"] == "succeeded"
