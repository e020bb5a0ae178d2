"""A district delivers its roster by file: over SFTP, as ClassLink does, to a sync nobody had to start (A2, A6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from installation import COLLECTIONS, Installation

from homeroom_local.client import HomeroomClient
from sandbox_district import District
from sandbox_district.oneroster_csv import write_set
from sandbox_district.sftp_uploader import BrokenOff, Inbox, Manner, upload


@dataclass
class Delivery:
    """A district with an account in the inbox."""

    client: HomeroomClient
    district: District
    integration_id: str
    inbox: Inbox

    async def runs(self) -> list[dict[str, Any]]:
        """The integration's runs, newest first."""
        found: list[dict[str, Any]] = next(
            iter((await self.client.call("GET", f"/v1/integrations/{self.integration_id}/runs")).values())
        )
        return found

    async def next_run(self, before: int, seconds: float = 60) -> dict[str, Any]:
        """Wait for the run that begins by itself, and its end."""
        async with asyncio.timeout(seconds):
            while len(runs := await self.runs()) <= before:
                await asyncio.sleep(0.2)
        return await self.client.wait_for_run(runs[0]["id"], seconds=seconds)

    async def held(self) -> dict[str, set[str]]:
        """The sourcedIds the store holds."""
        return {
            collection: {one["sourcedId"] for one in await self.client.list_records(collection, self.integration_id)}
            for collection in COLLECTIONS
        }


@asynccontextmanager
async def opened_account(installation: Installation) -> AsyncIterator[Delivery]:
    """An integration that is fed by files, with a password for the inbox."""
    async with HomeroomClient.open(installation.origin, installation.token) as client:
        organization = await client.create_organization("District of files")
        integration = await client.create_integration(
            organization, {}, provider="oneroster-csv", options={"sync_parents": True}
        )
        account = await client.call("POST", f"/v1/integrations/{integration}/sftp-account", json={"auth": "password"})
        host_key = await asyncssh.get_server_host_key(account["host"], account["port"])
        assert host_key is not None
        assert host_key.get_fingerprint() == account["host_key_fingerprint"]
        inbox = Inbox(
            host=account["host"],
            port=account["port"],
            username=account["username"],
            password=account["password"],
            host_key=host_key.export_public_key().decode(),
            folder="DailyImport",
        )
        yield Delivery(client, District(seed=5, students=60), integration, inbox)


async def test_files_over_sftp(installation: Installation, tmp_path: Path) -> None:
    """A complete set starts a sync by itself; sent again it changes nothing; the next day's set brings the day."""
    async with opened_account(installation) as delivery:
        district = delivery.district
        await upload(write_set(district, tmp_path / "first"), delivery.inbox)
        first = await delivery.next_run(0)
        assert (first["state"], first["mode"]) == ("succeeded", "full")
        truth = district.truth()
        assert await delivery.held() == {collection: set(truth[collection]) for collection in COLLECTIONS}

        await upload(tmp_path / "first", delivery.inbox)
        again = await delivery.next_run(1)
        assert again["state"] == "succeeded"
        assert sum(counts["added"] + counts["changed"] + counts["removed"] for counts in again["counts"].values()) == 0

        changes = district.advance_day()
        await upload(write_set(district, tmp_path / "day.zip", kind="delta", since_day=0), delivery.inbox)
        day = await delivery.next_run(2)
        assert (day["state"], day["mode"]) == ("succeeded", "delta")
        counts = {
            name: sum(day["counts"][name][kind] for kind in ("added", "changed", "removed")) for name in COLLECTIONS
        }
        assert counts == {
            name: sum(len(getattr(changes[name], kind)) for kind in ("added", "changed", "removed"))
            for name in COLLECTIONS
        }
        truth = district.truth()
        assert await delivery.held() == {collection: set(truth[collection]) for collection in COLLECTIONS}


async def test_upload_that_breaks_off(installation: Installation, tmp_path: Path) -> None:
    """A set that is only half there starts nothing; gone on with, it starts one run with all of it."""
    async with opened_account(installation) as delivery:
        source = write_set(delivery.district, tmp_path / "set")
        size = sum(path.stat().st_size for path in source.iterdir())
        with pytest.raises(BrokenOff):
            await upload(source, delivery.inbox, Manner(part_bytes=4_096, break_after=size // 2))
        await asyncio.sleep(3)
        assert await delivery.runs() == []
        await upload(source, delivery.inbox, Manner(resume=True))
        run = await delivery.next_run(0)
        assert run["state"] == "succeeded"
        assert len(await delivery.runs()) == 1


async def test_a_set_that_can_not_be_read(installation: Installation, tmp_path: Path) -> None:
    """A damaged set fails its run with a code and a next step, and the roster stays; the next good one is taken."""
    async with opened_account(installation) as delivery:
        await upload(write_set(delivery.district, tmp_path / "good"), delivery.inbox)
        await delivery.next_run(0)
        before = await delivery.held()
        bad = write_set(delivery.district, tmp_path / "bad")
        (bad / "users.csv").write_bytes((bad / "users.csv").read_bytes().decode().encode("utf-16"))
        await upload(bad, delivery.inbox)
        run = await delivery.next_run(1)
        assert (run["state"], run["code"]) == ("failed", "CSV_ENCODING")
        assert run["next_step"]
        assert await delivery.held() == before
        await upload(tmp_path / "good", delivery.inbox)
        assert (await delivery.next_run(2))["state"] == "succeeded"


async def test_by_hand(installation: Installation, tmp_path: Path) -> None:
    """A zip sent to the API takes the same way as one that came over SFTP, and is listed."""
    async with opened_account(installation) as delivery:
        path = write_set(delivery.district, tmp_path / "set.zip")
        address = f"/v1/integrations/{delivery.integration_id}/uploads"
        headers = {"Content-Type": "application/zip"}
        sent = await delivery.client.call("POST", address, content=path.read_bytes(), headers=headers)
        run = await delivery.next_run(0)
        assert run["state"] == "succeeded"
        assert run["upload"]["id"] == sent["upload_id"]
        listed = await delivery.client.call("GET", address)
        assert [one["upload_id"] for one in listed["uploads"]] == [sent["upload_id"]]
