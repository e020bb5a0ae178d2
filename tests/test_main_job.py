"""The main job through all services, on both buses."""

from __future__ import annotations

from collections import Counter

import pytest
from installation import Installation, SyncedDistrict, synced_district

from homeroom.roster import ENTITY_NAMES


@pytest.mark.parametrize("auth", ["oauth1", "oauth2"])
async def test_days_go_by(installation: Installation, auth: str) -> None:
    """After every day the store holds exactly what the provider has, by exactly one event per changed record."""
    async with synced_district(installation, auth=auth, students=120) as district:
        first = await district.sync()
        await district.wait_for_events()
        assert first["state"] == "succeeded"
        assert len(district.watcher.seen) == len(district.truth)

        for _ in range(3):
            before = len(district.watcher.seen)
            changes = district.sandbox.district.advance_day()
            run = await district.sync(mode="auto")
            await district.wait_for_events()

            assert run["state"] == "succeeded"
            assert await district.held() == district.truth
            expected = Counter(
                (f"homeroom.{entity}.{word}.v1", f"{collection}/{sourced_id}")
                for collection, entity in ENTITY_NAMES.items()
                if collection != "demographics"
                for kind, word in (("added", "added"), ("changed", "updated"), ("removed", "removed"))
                for sourced_id in getattr(changes[collection], kind)
            )
            assert Counter((kind, subject) for _, kind, subject in district.watcher.seen[before:]) == expected


async def test_nothing_changed_means_nothing_happens(installation: Installation) -> None:
    """A second sync of the same data changes no record and publishes no event, and neither does one after a reset."""
    async with synced_district(installation) as district:
        await district.sync()
        await district.wait_for_events()
        before = len(district.watcher.seen)
        second = await district.sync()
        await district.client.call("POST", f"/v1/integrations/{district.integration_id}/reset", json={"confirm": True})
        third = await district.sync()
        district.sandbox.district.advance_day()
        await district.sync()
        await district.wait_for_events()  # what came before the day's events would have been seen by now

        for run in (second, third):
            assert run["state"] == "succeeded"
            assert all(
                counts[kind] == 0 for counts in run["counts"].values() for kind in ("added", "changed", "removed")
            )
        day = sum(
            counts[kind]
            for counts in (await district.client.get_run(await _newest_run(district)))["counts"].values()
            for kind in ("added", "changed", "removed")
        )
        assert len(district.watcher.seen) == before + day


async def _newest_run(district: SyncedDistrict) -> str:
    runs = await district.client.call("GET", f"/v1/integrations/{district.integration_id}/runs")
    return str(next(iter(runs.values()))[0]["id"])


async def test_guardians_stay_away_unless_asked_for(on_postgres: Installation) -> None:
    """Without sync_parents no guardian reaches the store, and switching it off removes those that did (B2)."""
    async with synced_district(on_postgres, sync_parents=False) as district:
        run = await district.sync()
        users = await district.client.list_records("users", district.integration_id)

        assert run["counts"]["users"]["filtered"] > 0
        assert {user["role"] for user in users}.isdisjoint({"guardian", "parent", "relative"})
        assert all(not user["agents"] for user in users)


async def test_what_is_switched_off_goes(on_postgres: Installation) -> None:
    """Demographics and guardians that are not asked for any more leave the store once that is approved (B2, B5)."""
    async with synced_district(on_postgres, students=30, sync_demographics=True) as district:
        first = await district.sync()
        options = {"sync_parents": False, "sync_demographics": False}
        await district.client.call("PATCH", f"/v1/integrations/{district.integration_id}", json={"options": options})
        held = await district.sync()
        second = await district.approve(held)
        users = await district.client.list_records("users", district.integration_id)

        assert held["code"] == "GUARD_DELETE_HOLD", held
        assert first["counts"]["demographics"]["added"] > 0
        assert second["state"] == "succeeded", second
        assert second["counts"]["demographics"]["removed"] == first["counts"]["demographics"]["added"]
        assert {user["role"] for user in users}.isdisjoint({"guardian", "parent", "relative"})


async def test_counts_add_up(on_postgres: Installation) -> None:
    """Served = added + changed + unchanged + filtered + quarantined, in every run (I9)."""
    async with synced_district(on_postgres) as district:
        for _ in range(3):
            run = await district.sync()
            district.sandbox.district.advance_day()
            for counts in run["counts"].values():
                parts = ("added", "changed", "unchanged", "filtered", "quarantined")
                assert counts["served"] == sum(counts[part] for part in parts)


async def test_no_secret_reaches_logs_or_answers(on_postgres: Installation) -> None:
    """Neither the client secret nor anybody's name or address stands in a log or in what the API gives back."""
    async with synced_district(on_postgres, students=40) as district:
        await district.sync()
        integration = await district.client.call("GET", f"/v1/integrations/{district.integration_id}")
        logs = on_postgres.logs()
        people = district.sandbox.district.collections["users"].values()

        assert district.sandbox.client_secret not in str(integration)
        assert district.sandbox.client_secret not in logs
        for person in people:
            assert (person.get("email") or "nobody@nowhere") not in logs
            assert f"{person['givenName']} {person['familyName']}" not in logs
