"""Large districts: the shape they promise, whole references, exact days, and the provider that serves them."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from bench.generate import COLLECTIONS, LargeDistrict
from bench.provider import BASE, TOKEN

REFERENCES = {
    "academicSession": "academicSessions",
    "class": "classes",
    "course": "courses",
    "org": "orgs",
    "user": "users",
}
Records = dict[str, dict[str, dict[str, Any]]]


def read_all(district: LargeDistrict) -> Records:
    """Every record, decoded, by collection and sourcedId."""
    return {
        name: {
            record["sourcedId"]: record
            for record in msgspec.json.decode(b"[" + bytes(district.shelves[name].page(0, len(district))) + b"]")
        }
        for name in COLLECTIONS
    }


def assert_references_hold(records: Records) -> None:
    for collection in records.values():
        for record in collection.values():
            for value in record.values():
                for reference in value if isinstance(value, list) else [value]:
                    if isinstance(reference, dict) and reference.get("type") in REFERENCES:
                        assert reference["sourcedId"] in records[REFERENCES[reference["type"]]]


def test_shape() -> None:
    """There are 10.5 records to a student, each class has one primary teacher and about twenty students."""
    district = LargeDistrict(5000)
    records = read_all(district)
    enrollments = list(records["enrollments"].values())
    primaries = Counter(record["class"]["sourcedId"] for record in enrollments if record["primary"])
    sections = Counter(record["class"]["sourcedId"] for record in enrollments if record["role"] == "student")
    assert sum(user["role"] == "student" for user in records["users"].values()) == 5000
    assert 10.2 < len(district) / 5000 < 10.8
    assert primaries == dict.fromkeys(records["classes"], 1)
    assert max(sections.values()) <= 20
    assert {name: len(rows) for name, rows in records.items()} == district.counts()
    assert_references_hold(records)


@pytest.mark.parametrize("students", [1, 19, 701, 3000])
def test_days_are_exact(students: int) -> None:
    """The counts of a day are exactly what was added, changed and removed, and references hold after it."""
    district = LargeDistrict(students)
    for seed in (1, 2, 3):
        before = read_all(district)
        counts = district.one_percent_day(seed)
        after = read_all(district)
        for name in COLLECTIONS:
            old, new = before[name], after[name]
            assert counts[name] == {
                "added": len(new.keys() - old.keys()),
                "changed": sum(old[key] != new[key] for key in old.keys() & new.keys()),
                "removed": len(old.keys() - new.keys()),
            }
        assert_references_hold(after)


def test_a_day_is_one_percent() -> None:
    """A day changes about one record in a hundred, and the district keeps its size."""
    district = LargeDistrict(10_000)
    size = len(district)
    counts = district.one_percent_day(1)
    assert 0.009 < sum(sum(kinds.values()) for kinds in counts.values()) / size < 0.011
    assert abs(len(district) - size) < 100


def test_records_stay_in_order() -> None:
    """However many days go by, records stand in the order of their sourcedIds and are found by them."""
    district = LargeDistrict(2000)
    for seed in range(4):
        district.one_percent_day(seed)
    for name, records in read_all(district).items():
        assert all(one < other for one, other in pairwise(records))
        for sourced_id in list(records)[:50]:
            found = district.shelves[name].find(sourced_id)
            assert found is not None
            assert msgspec.json.decode(found) == records[sourced_id]
        assert district.shelves[name].find("nobody") is None
        assert district.shelves[name].find(f"{district.shelves[name].prefix}999999999") is None


@pytest.fixture(name="provider", scope="module")
def run_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port_file = tmp_path_factory.mktemp("provider") / "port"
    command = [sys.executable, "-m", "bench.provider", "--students", "1500", "--port-file", str(port_file)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.stdout.readline().strip().removesuffix(BASE)
        process.terminate()


async def test_provider_serves_everything(provider: str) -> None:
    """Pages of any length make exactly the collection, over one connection or several at once."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(base_url=provider, headers=headers, timeout=30) as client:
        counts = (await client.get("/bench/counts")).json()
        for name in COLLECTIONS:
            pages = await asyncio.gather(
                *(
                    client.get(f"{BASE}/{name}", params={"limit": 999, "offset": offset})
                    for offset in range(0, counts[name] + 1, 999)
                )
            )
            ids = {record["sourcedId"] for page in pages for record in page.json()[name]}
            assert len(ids) == counts[name]
            assert {page.headers["x-total-count"] for page in pages} == {str(counts[name])}
        single = await client.get(f"{BASE}/classes/k000000001")
        assert single.json()["class"]["sourcedId"] == "k000000001"
        assert (await client.get(f"{BASE}/classes/k000000000")).status_code == 404


async def test_provider_lets_days_go_by(provider: str) -> None:
    """A day changes the counts by exactly what it answers."""
    async with httpx2.AsyncClient(base_url=provider, timeout=30) as client:
        before = (await client.get("/bench/counts")).json()
        changes = (await client.post("/bench/day")).json()
        after = (await client.get("/bench/counts")).json()
    assert {name: before[name] + changes[name]["added"] - changes[name]["removed"] for name in before} == after


async def test_provider_wants_a_token(provider: str) -> None:
    """Without the token it gives out nothing is read, and what it cannot answer rightly it refuses."""
    async with httpx2.AsyncClient(base_url=provider, timeout=30) as client:
        assert (await client.get(f"{BASE}/orgs")).status_code == 401
        token = (await client.post("/oauth/token", data={"grant_type": "client_credentials"})).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        assert (await client.get(f"{BASE}/orgs")).status_code == 200
        filtered = await client.get(f"{BASE}/orgs", params={"filter": "dateLastModified>'2026-01-01'"})
        assert filtered.status_code == 400
        assert (await client.get(f"{BASE}/orgs", params={"limit": "all"})).status_code == 400
