"""A OneRoster client that nobody here wrote reads back what was synced.

The client is the PyPI package `oneroster` 0.0.17 (MIT). It was made for ClassLink and signs with OAuth 1.0a, which
Homeroom does not offer its readers; so the class that sends its requests is replaced by one with an OAuth 2 token.
Addresses, paging and what it makes of answers stay its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from installation import COLLECTIONS, Installation, synced_district

from homeroom_local.client import HomeroomClient

CACHE = Path(os.environ.get("HOMEROOM_CACHE") or Path(__file__).parents[1] / ".cache") / "oneroster-client"
REQUIREMENTS = """
oneroster==0.0.17 --hash=sha256:ffcfaa005429619b62854a6682090e21ea6f9ac4a57595f9ab60f5b7f40f9fc3
six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274
"""
"""Its third requirement, requests, is here already."""
FETCH_SECONDS = 120
READER = """
import json, os, sys, requests
from oneroster import ClasslinkConnector, classlink

origin, *collections = sys.argv[1:]

class WithToken:
    def __init__(self, client_id, client_secret):
        answer = requests.post(
            f"{origin}/oauth2/token", data={"grant_type": "client_credentials"}, auth=(client_id, client_secret)
        )
        answer.raise_for_status()
        self.headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def make_roster_request(self, url):
        return requests.get(url, headers=self.headers)

classlink.ClasslinkAPI = WithToken
client = ClasslinkConnector(
    f"{origin}/ims/oneroster/v1p1/", os.environ["READER_ID"], os.environ["READER_SECRET"], page_size=37
)
found = {name: client.get_users(user_filter=name) for name in ("students", "teachers")}
found |= {name: client.execute_actions(None, name, None, "all_users", []) for name in collections}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def client_folder() -> Path:
    """Where the client is, fetched once."""
    if not (CACHE / "oneroster").is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        wanted = CACHE / "requirements.txt"
        wanted.write_text(REQUIREMENTS, "utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        command = [*pip, "--require-hashes", "--target", str(CACHE), "--requirement", str(wanted)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=FETCH_SECONDS)
        if done.returncode:
            reason = f"the client could not be fetched: {done.stderr.strip().splitlines()[-1:]}"
            if os.environ.get("HOMEROOM_REQUIRE_KAFKA") == "1":  # where nothing may be left out
                pytest.fail(reason)
            pytest.skip(reason)  # no package index can be reached from here
    return CACHE


async def test_a_foreign_client_reads_the_whole_roster(on_postgres: Installation, client_folder: Path) -> None:
    """A foreign client with a product's own credentials gets each record of its district once, and no other's."""
    async with synced_district(on_postgres) as other, synced_district(on_postgres, seed=8) as district:
        await other.sync()
        await district.sync()
        integration = await district.client.call("GET", f"/v1/integrations/{district.integration_id}")
        product = {"scopes": ["roster.read"], "organization_id": integration["organization_id"]}
        async with HomeroomClient.open(on_postgres.origin, on_postgres.token) as admin:
            credentials = await admin.call("POST", "/v1/clients", json={"id": f"reader-{uuid4().hex[:8]}", **product})
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-W", "ignore", "-c", READER, on_postgres.origin, *COLLECTIONS],
            env={"PYTHONPATH": str(client_folder), "READER_ID": credentials["id"], "NO_PROXY": "*"}
            | {"READER_SECRET": credentials["secret"]},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        read = [f"{name}/{record['sourcedId']}" for name in COLLECTIONS for record in found[name]]
        assert len(read) == len(set(read))
        assert set(read) == district.truth
        for name, role in (("students", "student"), ("teachers", "teacher")):
            assert {user["sourcedId"] for user in found[name]} == {
                user["sourcedId"] for user in found["users"] if user["role"] == role
            }
