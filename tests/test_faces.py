"""One district through every way it can be fetched: the store must come to hold the same roster, day after day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from installation import Installation, connection_of
from lenses import CLEVER_3_0, EXACT, RENAMED, Lens, Roster

from homeroom.roster import COLLECTIONS, ENTITY_NAMES
from homeroom_local.client import HomeroomClient
from sandbox_district import District, Sandbox, running_sandbox
from sandbox_district.oneroster_csv import write_set

DAYS = 10
EVERYTHING = {"sync_parents": True, "sync_demographics": True}
NO_PARENTS = {"sync_parents": False, "sync_demographics": True}
COLLECTION_OF = {f"homeroom.{entity}": collection for collection, entity in ENTITY_NAMES.items()}


Fetch = Callable[["Way"], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a way is set up, and what it must be equal to."""

    provider: str
    connection: dict[str, Any]
    fetch: Fetch
    lens: Lens = EXACT
    like: str = "OneRoster 1.1"
    options: dict[str, Any] = field(default_factory=lambda: EVERYTHING)


@dataclass
class Way:
    """An integration that fetches the district in one way, and what the store's feed says it holds."""

    client: HomeroomClient
    sandbox: Sandbox
    integration_id: str
    plan: Plan
    folder: Path
    roster: Roster = field(default_factory=lambda: {collection: {} for collection in COLLECTIONS})
    cursor: str | None = None

    @property
    def day(self) -> int:
        """The district's day."""
        return self.sandbox.district.day

    async def ask(self, mode: str) -> dict[str, Any]:
        """Run now."""
        path = f"/v1/integrations/{self.integration_id}/runs"
        started = await self.client.call("POST", path, json={"mode": mode})
        return await self.client.wait_for_run(started["run_id"])

    async def upload(self, kind: Any, version: Any = "1.1") -> dict[str, Any]:
        """Upload a set by hand, and wait for the run that it starts by itself."""
        path = self.folder / f"{self.integration_id}-{self.day}.zip"
        write_set(self.sandbox.district, path, kind=kind, version=version, since_day=max(self.day - 1, 0))
        address = f"/v1/integrations/{self.integration_id}"
        upload = await self.client.call(
            "POST", f"{address}/uploads", content=path.read_bytes(), headers={"Content-Type": "application/zip"}
        )
        async with asyncio.timeout(60):
            while True:
                runs = next(iter((await self.client.call("GET", f"{address}/runs")).values()))
                for run in runs:
                    if (run["upload"] or {}).get("id") == upload["upload_id"]:
                        return await self.client.wait_for_run(run["id"])
                await asyncio.sleep(0.1)

    async def fold(self) -> None:
        """Read what the feed has new."""
        events, self.cursor = await self.client.read_feed(self.cursor, integration=self.integration_id)
        for event in events:
            collection = COLLECTION_OF.get(event["type"].rsplit(".", 2)[0])
            if collection is None:
                continue
            record = event["data"]["record"]
            if event["type"].endswith(".removed.v1"):
                self.roster[collection].pop(record["sourcedId"], None)
            else:
                self.roster[collection][record["sourcedId"]] = record


def make_plans(sandbox: Sandbox) -> dict[str, Plan]:
    """Every way to fetch the district."""
    oneroster = connection_of(sandbox)
    oneroster_1p2 = connection_of(sandbox, "oauth2") | {"endpoint_url": sandbox.base_url_1p2}
    clever = {
        "district_id": sandbox.clever_district_id,
        "district_token": sandbox.clever_token,
        "base_url": sandbox.clever_url,
        "token_url": sandbox.clever_token_url,
    }
    proxy = {
        "auth": "proxy",
        "proxy_url": sandbox.classlink_proxy_url,
        "application_id": sandbox.classlink_application_id,
        "partner_key": sandbox.partner_key,
    }
    return {
        "OneRoster 1.1": Plan("oneroster", oneroster, lambda way: way.ask("full")),
        "OneRoster 1.1, increments": Plan("oneroster", oneroster, lambda way: way.ask("auto")),
        "OneRoster 1.2": Plan("oneroster", oneroster_1p2, lambda way: way.ask("full"), RENAMED),
        "ClassLink proxy": Plan("classlink", proxy, lambda way: way.ask("auto")),
        "CSV bulk": Plan("oneroster-csv", {}, lambda way: way.upload("bulk")),
        "CSV 1.2 bulk": Plan("oneroster-csv", {}, lambda way: way.upload("bulk", "1.2"), RENAMED),
        "CSV bulk and deltas": Plan("oneroster-csv", {}, lambda way: way.upload("delta" if way.day else "bulk")),
        "Clever, full": Plan("clever", clever, lambda way: way.ask("full"), CLEVER_3_0),
        "Clever, with parents": Plan("clever", clever, lambda way: way.ask("auto"), like="Clever, full"),
        "Clever, no parents": Plan("clever", clever, lambda way: way.ask("full"), like="", options=NO_PARENTS),
        "Clever, events": Plan(
            "clever", clever, lambda way: way.ask("auto"), like="Clever, no parents", options=NO_PARENTS
        ),
    }


@asynccontextmanager
async def open_ways(installation: Installation, folder: Path) -> AsyncIterator[dict[str, Way]]:
    """An integration for each way to fetch the same district."""
    async with (
        running_sandbox(District(seed=11, students=60)) as sandbox,
        HomeroomClient.open(installation.origin, installation.token) as client,
    ):
        organization = await client.create_organization("One district, many ways")
        ways = {}
        for name, plan in make_plans(sandbox).items():
            integration_id = await client.create_integration(
                organization, plan.connection, name=name, provider=plan.provider, options=plan.options
            )
            ways[name] = Way(client, sandbox, integration_id, plan, folder)
        yield ways


@pytest.mark.timeout(600)
async def test_ten_days(on_postgres: Installation, tmp_path: Path) -> None:
    """After each of ten days the store holds the same roster, whichever way the district was fetched."""
    modes: dict[str, list[str]] = {}
    async with open_ways(on_postgres, tmp_path) as ways:
        first = ways["OneRoster 1.1"]
        district = first.sandbox.district
        for day in range(DAYS + 1):
            if day:
                district.advance_day()
            for name, way in ways.items():
                run = await way.plan.fetch(way)
                assert run["state"] == "succeeded", f"day {day}, {name}: {run}"
                modes.setdefault(name, []).append(run["mode"])
                await way.fold()
            truth = district.truth()
            assert {name: set(records) for name, records in first.roster.items()} == {
                name: set(truth[name]) for name in COLLECTIONS
            }
            for name, way in ways.items():
                if way.plan.like:
                    expected = way.plan.lens.expect(ways[way.plan.like].roster, district)
                    assert way.plan.lens.see(way.roster) == expected, f"day {day}: {name} differs"
    assert modes["CSV bulk and deltas"] == modes["Clever, events"] == ["full", *["delta"] * DAYS]
    assert modes["OneRoster 1.1"] == modes["Clever, full"] == ["full"] * (DAYS + 1)
