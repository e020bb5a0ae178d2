"""What products get, over all services: licensed, folded, matched (D3, D5, F1 to F3)."""

from __future__ import annotations

import asyncio
import json

import pytest
from installation import COLLECTIONS, Installation, SyncedDistrict, synced_district
from products import Copy, Product, license_to, read_topic, registered_product
from standardwebhooks import Webhook

from homeroom.testing.receivers import receiving
from homeroom_local.client import ApiError

STARTED, ENDED = "homeroom.license.started.v1", "homeroom.license.ended.v1"
ONCE = pytest.mark.parametrize("installation", ["on_postgres"], indirect=True)
"""For what has nothing to do with the bus."""


async def check_copy(district: SyncedDistrict, product: Product, *collections: str) -> None:
    """The product's own copy must be what Homeroom shows it now."""
    await product.follow()
    shown = await product.read(district.integration_id, *collections)
    assert {
        subject for subject in product.copy.subjects() if subject.split("/")[0] in (collections or COLLECTIONS)
    } == shown


async def test_a_product_gets_what_it_is_licensed_for(installation: Installation) -> None:
    """From its license on a product's copy is its view of the roster, day after day, until the license ends."""
    async with (
        synced_district(installation, students=60, sync_demographics=True) as district,
        registered_product(installation, district, "Reader") as reader,
    ):
        await district.sync()
        assert await reader.follow() == []
        assert await reader.read(district.integration_id) == set()
        license_id = await license_to(district, reader, grants=["grades", "identifiers", "guardians"])
        await reader.follow_until(STARTED)
        assert await reader.read(district.integration_id) == district.truth
        for _ in range(3):
            district.sandbox.district.advance_day()
            run = await district.sync()
            assert run["state"] == "succeeded", run
            await check_copy(district, reader)
            assert {
                subject for subject in reader.copy.subjects() if subject.split("/")[0] in COLLECTIONS
            } == district.truth

        await district.client.call("PATCH", f"/v1/licenses/{license_id}", json={"revoked": True})
        await reader.follow_until(ENDED)
        assert reader.copy.subjects() == set()
        with pytest.raises(ApiError) as refused:
            await district.client.start_run(district.integration_id)
        assert refused.value.code == "LICENSE_INACTIVE"
        assert await reader.follow() == []


@ONCE
async def test_demographics_and_grades_arrive_where_granted_and_nowhere_else(installation: Installation) -> None:
    """Demographics and grades reach the product that is granted them, over REST and feed, and no other (B4, B5)."""
    async with (
        synced_district(installation, students=60, sync_demographics=True) as district,
        registered_product(installation, district, "Granted") as granted,
        registered_product(installation, district, "Plain") as plain,
    ):
        await district.sync()
        everything = ["grades", "identifiers", "contacts", "guardians", "demographics", "metadata"]
        await license_to(district, granted, grants=everything)
        await license_to(district, plain, grants=["identifiers"])
        for product in (granted, plain):
            await product.follow_until(STARTED)
        truth = district.sandbox.district.truth()

        told = {record["sourcedId"]: record for record in granted.copy.of("demographics")}
        assert set(told) == set(truth["demographics"])
        for field in ("frlStatus", "iepStatus", "ellStatus", "sex", "hispanicOrLatinoEthnicity"):
            assert any(record.get(field) is not None for record in told.values()), field
        served = await granted.client.list_records("demographics", district.integration_id)
        assert {record["sourcedId"] for record in served} == set(told)
        assert {"frl_status", "iep_status", "ell_status"} <= {key for one in served for key in one["metadata"]}
        assert any(record.get("grades") for record in granted.copy.of("users"))
        assert any(record.get("grades") for record in granted.copy.of("classes"))

        assert plain.copy.of("demographics") == []
        hidden = {"grades", "email", "sms", "phone", "agentSourcedIds", "pronouns", "metadata"}
        for collection in COLLECTIONS:
            assert not [record for record in plain.copy.of(collection) if hidden & record.keys()], collection
        assert not [
            one for one in plain.copy.of("users") if {role["role"] for role in one["roles"]} <= {"parent", "guardian"}
        ]
        rows = [row for name in COLLECTIONS for row in await plain.client.list_records(name, district.integration_id)]
        assert rows
        for row in rows:
            assert not row.get("grades")
            assert not {"email", "sms", "phone"} & {name for name in row if row[name]}
            assert not row.get("metadata")
            assert not row.get("agents")
        assert await plain.client.list_records("demographics", district.integration_id) == []


@ONCE
async def test_a_license_for_one_school(installation: Installation) -> None:
    """A product licensed for one school gets its classes and people, and hears of the others when the license grows."""
    async with (
        synced_district(installation, students=90) as district,
        registered_product(installation, district, "Reader") as reader,
    ):
        await district.sync()
        found = await district.client.list_records("schools", district.integration_id)
        schools = sorted(record["sourcedId"] for record in found)
        license_id = await license_to(district, reader, schools=schools[:1])
        await reader.follow_until(STARTED)
        classes = {record["schoolSourcedId"] for record in reader.copy.of("classes")}
        assert classes == {schools[0]}
        assert {f"orgs/{other}" for other in schools[1:]}.isdisjoint(reader.copy.subjects())
        for _ in range(2):
            await check_copy(district, reader)
            district.sandbox.district.advance_day()
            await district.sync()
        await check_copy(district, reader)
        await district.client.call("PATCH", f"/v1/licenses/{license_id}", json={"schools": None})
        await reader.follow_until(STARTED)
        await check_copy(district, reader)
        assert {record["schoolSourcedId"] for record in reader.copy.of("classes")} > classes


async def test_every_way_of_delivery_tells_the_same(installation: Installation) -> None:
    """A webhook, a Kafka topic of its own and the pull feed give a product the same roster, over days."""
    async with (
        synced_district(installation, students=60) as district,
        registered_product(installation, district, "Reader") as reader,
        receiving() as receiver,
    ):
        await district.sync()
        await license_to(district, reader, grants=["grades", "contacts"])
        webhook = await reader.client.call("POST", "/v1/subscriptions", json={"kind": "webhook", "url": receiver.url})
        topic = (await reader.client.call("POST", "/v1/subscriptions", json={"kind": "kafka"}))["topic"]
        await reader.follow_until(STARTED)
        district.sandbox.district.advance_day()
        await district.sync()
        await check_copy(district, reader)

        posted, streamed = Copy(), Copy()
        signer = Webhook(webhook["secret"])
        async with asyncio.timeout(30):
            while posted.records != reader.copy.records:
                posted = Copy()
                for headers, body in list(receiver.requests):
                    signer.verify(body, headers)
                    for event in json.loads(body)["data"]["events"]:
                        posted.take(event)
                await asyncio.sleep(0.2)
        async for event in read_topic(installation, topic):
            streamed.take(event)
            if streamed.records == reader.copy.records:
                break


@ONCE
async def test_accounts_are_matched_and_counted(installation: Installation) -> None:
    """Accounts a product registers are matched with people by e-mail, and the next run says how many are not."""
    async with (
        synced_district(installation, students=60) as district,
        registered_product(installation, district, "Reader") as reader,
    ):
        await district.sync()
        await license_to(district, reader)
        await reader.follow_until(STARTED)
        integration = await district.client.call("GET", f"/v1/integrations/{district.integration_id}")
        people = await district.client.list_records("students", district.integration_id)
        known = [person for person in people if person.get("email")][:20]
        body = {
            "accounts": [
                {"external_id": f"account-{place}", "email": person["email"].upper(), "role": "student"}
                for place, person in enumerate(known)
            ]
        }
        where = {"organization": integration["organization_id"]}
        answer = await reader.client.call("PUT", "/v1/accounts", params=where, json=body)
        assert answer["created"] == 20
        district.sandbox.district.advance_day()
        run = await district.sync()
        [matching] = run["matching"]
        assert matching["product_id"] == reader.id
        assert run["matched_students"] == matching["matched_students"] >= 15
        assert run["unmatched_users"] == matching["unmatched"] >= len(people) - 25
        unmatched = await reader.client.call("GET", "/v1/matching/unmatched", params=where)
        assert unmatched["items"]
