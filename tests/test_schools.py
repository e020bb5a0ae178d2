"""Schools of a district: listed, left out, and kept safe when their data are incomplete (C4, C11, C15)."""

from __future__ import annotations

from typing import Any

from installation import COLLECTIONS, Installation, SyncedDistrict, synced_district

from sandbox_district import faults


def of_school(district: SyncedDistrict, collection: str, school: str) -> set[str]:
    """The sourcedIds of a school's classes, or of people at no other school."""
    records = district.sandbox.district.active(collection)
    if collection == "users":
        return {
            key
            for key, user in records.items()
            if {org["sourcedId"] for org in user["orgs"]} - {"100"} == {school} and user["role"] != "parent"
        }
    return {key for key, record in records.items() if record["school"]["sourcedId"] == school}


async def held(district: SyncedDistrict, collection: str) -> dict[str, dict[str, Any]]:
    """The store's records."""
    records = await district.client.list_records(collection, district.integration_id, 5_000)
    return {record["sourcedId"]: record for record in records}


async def test_verify_and_choose_schools(installation: Installation) -> None:
    """An admin verifies a connection, sees its schools, excludes one, and gets the district without it."""
    async with synced_district(installation, students=120) as district:
        path = f"/v1/integrations/{district.integration_id}"
        report = await district.client.call("POST", f"{path}/verify")
        assert report["ok"], report
        assert {finding["check"] for finding in report["findings"]} >= {"orgs", "users", "enrollments", "masked fields"}

        schools = (await district.client.call("GET", f"{path}/schools"))["schools"]
        orgs = district.sandbox.district.active("orgs")
        assert {school["sourced_id"] for school in schools} == {
            key for key, org in orgs.items() if org["type"] == "school"
        }
        await district.sync()
        excluded = schools[0]["sourced_id"]
        assert of_school(district, "classes", excluded) <= set(await held(district, "classes"))

        await district.client.call("PATCH", path, json={"options": {"excluded_schools": [excluded]}})
        run = await district.approve(await district.sync())  # so many are not removed without a word
        assert run["state"] == "succeeded"
        assert not of_school(district, "classes", excluded) & set(await held(district, "classes"))
        assert not of_school(district, "users", excluded) & set(await held(district, "users"))
        assert run["incomplete_schools"] == []


async def test_wrong_credentials_are_told_before_a_sync(installation: Installation) -> None:
    """A verification with wrong credentials says so with a code and what to do, and changes nothing."""
    async with synced_district(installation) as district:
        path = f"/v1/integrations/{district.integration_id}"
        connection = (await district.client.call("GET", path))["connection"]
        await district.client.call("PATCH", path, json={"connection": {**connection, "client_secret": "wrong"}})
        report = await district.client.call("POST", f"{path}/verify")
        assert (report["ok"], report["code"]) == (False, "AUTH_INVALID")
        assert report["findings"][0]["next_step"]
        assert await district.held() == set()


async def test_an_incomplete_school_does_not_sink_the_others(installation: Installation) -> None:
    """A school whose classes are refused is named and stays as it was; the others go on; it recovers by itself."""
    async with synced_district(installation, students=120) as district:
        await district.sync()
        before = await held(district, "classes")
        schools = sorted(
            key for key, org in district.sandbox.district.active("orgs").items() if org["type"] == "school"
        )
        broken = schools[0]
        district.sandbox.faults.replace(faults.RefusedCollection(path="/classes", schools=(broken,)))
        district.sandbox.district.advance_day()
        run = await district.sync()

        assert (run["state"], run["code"]) == ("partial", "SCHOOL_INCOMPLETE"), run
        assert [school["sourced_id"] for school in run["incomplete_schools"]] == [broken]
        now = await held(district, "classes")
        kept = {key for key, one in before.items() if one["school"]["sourcedId"] == broken}
        assert {key: now.get(key) for key in kept} == {key: before[key] for key in kept}
        truth = district.sandbox.district.truth()
        others = {key for key in truth["classes"] if key not in of_school(district, "classes", broken)}
        assert others <= set(now)

        district.sandbox.faults.replace()
        run = await district.sync()
        assert run["state"] == "succeeded"
        assert await district.held() == {f"{name}/{key}" for name in COLLECTIONS for key in truth[name]}


async def test_a_school_that_vanishes(installation: Installation) -> None:
    """A school that is suddenly not served, with all that is in it, is kept and named (GUARD_SCHOOL_MISSING)."""
    async with synced_district(installation, students=120) as district:
        await district.sync()
        before = await district.held()
        books = district.sandbox.district
        gone = min(key for key, org in books.active("orgs").items() if org["type"] == "school")
        classes, people = of_school(district, "classes", gone), of_school(district, "users", gone)
        enrollments = {
            key
            for key, one in books.active("enrollments").items()
            if one["class"]["sourcedId"] in classes or one["user"]["sourcedId"] in people
        }
        removed = {"orgs": {gone}, "classes": classes, "users": people, "enrollments": enrollments}
        stored = {name: {key: books.collections[name].pop(key) for key in keys} for name, keys in removed.items()}
        run = await district.sync()
        assert (run["state"], run["code"]) == ("partial", "GUARD_SCHOOL_MISSING"), run
        assert await district.held() == before

        for name, records in stored.items():
            books.collections[name].update(records)
        assert (await district.sync())["state"] == "succeeded"
        assert await district.held() == before
