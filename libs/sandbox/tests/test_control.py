"""The control routes, and the sandbox as a process of its own."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from sandbox_district import COLLECTIONS, District, Sandbox, create_app, create_sandbox, running_sandbox
from sandbox_district.faults import Clamp, RateLimit, Slow


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=60)) as sandbox:
        yield sandbox


@pytest.fixture(name="http")
async def open_client(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox.url, timeout=10) as client:
        yield client


async def test_description_is_enough_to_begin(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """The description has the address and credentials a client needs."""
    described = (await http.get("/sandbox")).json()
    face = described["oneroster"]
    assert described["day"] == 0
    assert (face["base_url"], face["token_url"]) == (sandbox.base_url, sandbox.token_url)
    assert (face["client_id"], face["client_secret"]) == (sandbox.client_id, sandbox.client_secret)


async def test_a_day_over_http(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """A day that is asked for over HTTP goes by, and answers what truly changed."""
    answer = (await http.post("/sandbox/day")).json()
    (changes,) = sandbox.district.history
    assert answer["day"] == sandbox.district.day == 1
    for name in COLLECTIONS:
        assert set(answer["collections"][name]["added"]) == changes[name].added
        assert set(answer["collections"][name]["changed"]) == changes[name].changed
        assert set(answer["collections"][name]["removed"]) == changes[name].removed


async def test_truth_over_http(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """The truth over HTTP is the district's."""
    answer = (await http.get("/sandbox/truth")).json()
    assert {name: set(ids) for name, ids in answer.items()} == sandbox.district.truth()


async def test_faults_over_http(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """Faults are put in force and ended over HTTP; those that make no sense are refused and change nothing."""
    wanted = [{"kind": "rate_limit", "path": "/users", "times": 2}, {"kind": "clamp", "limit": 5}]
    assert (await http.post("/sandbox/faults", json=wanted)).status_code == 200
    assert list(sandbox.faults) == [RateLimit(path="/users", times=2), Clamp(limit=5)]
    nonsenses: list[object] = [[{"kind": "earthquake"}], [{"kind": "clamp", "rows": 5}], {}]
    for nonsense in nonsenses:
        assert (await http.post("/sandbox/faults", json=nonsense)).status_code == 400
    assert len(list(sandbox.faults)) == 2
    assert (await http.delete("/sandbox/faults")).status_code == 204
    assert not list(sandbox.faults)


async def test_requests_over_http(http: httpx2.AsyncClient) -> None:
    """The requests of each path are counted, without those to the control routes."""
    await http.get("/ims/oneroster/v1p1/orgs")
    assert (await http.get("/sandbox/requests")).json() == {"/ims/oneroster/v1p1/orgs": 1}


async def test_control_can_be_left_out() -> None:
    """An application without control routes serves none."""
    app = create_app(create_sandbox(District(students=0)), control=False)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox.example") as client:
        assert (await client.get("/sandbox")).status_code == 404


async def test_it_stops_in_the_middle_of_an_answer() -> None:
    """A sandbox stops within seconds and without complaint though a client still waits for its answer."""
    begun = time.monotonic()
    async with running_sandbox(District(students=0)) as sandbox, httpx2.AsyncClient() as client:
        sandbox.faults.replace(Slow(seconds=60))
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(f"{sandbox.base_url}/orgs", timeout=0.1)
        waiting = asyncio.create_task(client.get(f"{sandbox.base_url}/orgs", timeout=10))
        await asyncio.sleep(0.05)
    await asyncio.gather(waiting, return_exceptions=True)
    assert time.monotonic() - begun < 5


def test_process(tmp_path: Path) -> None:
    """As a process it prints its address, writes its port and serves a district of the size asked for."""
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "sandbox_district", "--students", "20", "--port-file", str(port_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            address = process.stdout.readline().strip()
            assert f":{port_file.read_text()}/" in address
            described = json.loads(httpx2.get(address, timeout=10).text)
            assert described["records"]["demographics"] == 20
        finally:
            process.terminate()
