"""Uploading by hand, and asking what became of uploads (A6)."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from homeroom.bus.postgres import PostgresBus
from homeroom.ids import new_id
from homeroom.messages import SYNC_FACTS, IntegrationState, UploadReceived, read_fact, to_tenancy
from homeroom.testing.tokens import TestIssuer
from provider_gateway.app import build
from provider_gateway.inbox import api
from provider_gateway.inbox.folder import FolderStore
from provider_gateway.inbox.storage import Seal, StoredUploads, hash_file, open_uploads
from provider_gateway.inbox.store import StoredFile
from provider_gateway.recording import Recording
from provider_gateway.settings import GatewaySettings

ISSUER = TestIssuer()


def make_zip(size: int = 1_000) -> bytes:
    """A zip that holds so many bytes, and as many itself."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("manifest.csv", "propertyName,value\r\n")
        archive.writestr("users.csv", b"x" * size)
    return content.getvalue()


class Town:
    """The API as a process would serve it, on a real bus."""

    def __init__(self, bus: PostgresBus, settings: GatewaySettings, url: str, client: httpx2.AsyncClient) -> None:
        self.bus = bus
        self.settings = settings
        self.url = url
        self.client = client
        self.facts: list[UploadReceived] = []

    async def add(self, **values: Any) -> IntegrationState:
        """Tell of an integration."""
        defaults: dict[str, Any] = {
            "id": str(uuid4()),
            "organization_id": str(uuid4()),
            "name": "x",
            "provider": "oneroster-csv",
            "region": "us",
            "state": "active",
        }
        state = IntegrationState(**(defaults | values))
        await self.bus.publish(to_tenancy(state))
        return state

    async def post(
        self, integration_id: str, body: Any, scopes: str = "runs.write", organization: str | None = None, **more: Any
    ) -> httpx2.Response:
        """Upload."""
        return await self.client.post(
            f"{self.url}/v1/integrations/{integration_id}/uploads",
            content=body,
            headers=ISSUER.headers(scopes.split(), organization_id=organization) | more.pop("headers", {}),
            **more,
        )

    async def list(self, integration_id: str, organization: str | None = None, **query: Any) -> httpx2.Response:
        """Ask."""
        return await self.client.get(
            f"{self.url}/v1/integrations/{integration_id}/uploads",
            params=query,
            headers=ISSUER.headers(["integrations.read"], organization_id=organization),
        )

    def left(self) -> list[Path]:
        """Files that lie where nobody would look for them."""
        return [path for path in self.settings.spool_folder.rglob("*") if path.is_file()]


@asynccontextmanager
async def open_town(database_url: str, folder: Path, serve: Any, **values: Any) -> AsyncIterator[Town]:
    """Serve the API."""
    settings = GatewaySettings(
        issuer=ISSUER.issuer, database_url=database_url, uploads_url=str(folder / "uploads"), **values
    )
    app = build(settings, ISSUER.verifier)
    async with (
        PostgresBus.open(database_url) as bus,
        app.router.lifespan_context(app),
        httpx2.AsyncClient(timeout=30, trust_env=False) as client,
    ):
        town = Town(bus, settings, await serve(app), client)

        async def hear(messages: Any) -> None:
            town.facts += [read_fact(message) for message in messages]

        consumer = bus.consumer([SYNC_FACTS.name], hear, group=None)
        hearing = asyncio.create_task(consumer.run())
        try:
            yield town
        finally:
            await consumer.stop()
            await hearing


@pytest.fixture
async def town(database_url: str, tmp_path: Path, serve: Any) -> AsyncIterator[Town]:
    """The API, with a limit of a few megabytes."""
    async with open_town(
        database_url, tmp_path, serve, upload_max_bytes=4_000_000, upload_chunk_seconds=0.5, max_body_bytes=1_000
    ) as town:
        yield town


async def test_an_upload_is_kept_and_announced(town: Town, tmp_path: Path) -> None:
    """A zip is kept as it was sent, told of with its digest, announced, listed, and leaves nothing behind."""
    state = await town.add()
    body = make_zip(3_000_000)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    answer = await town.post(state.id, pieces(), params={"name": "Nightly export (1).zip"})
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["bytes"], set(told)) == (len(body), {"upload_id", "bytes", "digest", "received_at"})
    again = (await town.post(state.id, body, params={"name": "Nightly export (1).zip"})).json()
    assert (again["digest"], again["upload_id"] > told["upload_id"]) == (told["digest"], True)
    async with open_uploads(town.settings) as uploads:
        assert uploads is not None
        found = await uploads.fetch(state.id, told["upload_id"], tmp_path)
        assert (found.name, found.read_bytes()) == ("Nightly export (1).zip", body)
    async with asyncio.timeout(20):
        while len(town.facts) < 2:
            await asyncio.sleep(0.02)
    first = town.facts[0]
    assert (first.upload_id, first.via, first.files, first.bytes, first.digest) == (
        told["upload_id"], "rest", 1, len(body), told["digest"],
    )  # fmt: skip
    listed = (await town.list(state.id)).json()
    assert [one["upload_id"] for one in listed["uploads"]] == [again["upload_id"], told["upload_id"]]
    assert listed["uploads"][1] == told | {"via": "rest", "files": 1}
    assert listed["incomplete"] == []
    assert len((await town.list(state.id, limit=1)).json()["uploads"]) == 1
    assert town.left() == []


async def test_who_may_upload(town: Town) -> None:
    """A token needs the scope, and to others than its own organization's callers an integration does not exist."""
    state = await town.add()
    for answer, status, code in (
        (await town.client.post(f"{town.url}/v1/integrations/{state.id}/uploads", content=b"x"), 401, "TOKEN_MISSING"),
        (await town.post(state.id, make_zip(), scopes="integrations.read"), 403, "SCOPE_MISSING"),
        (await town.post(state.id, make_zip(), organization=str(uuid4())), 404, "NOT_FOUND"),
        (await town.list(state.id, organization=str(uuid4())), 404, "NOT_FOUND"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await town.post(state.id, make_zip(), organization=state.organization_id)).status_code == 201
    assert (await town.post(state.id, make_zip(), scopes="admin")).status_code == 201
    assert len((await town.list(state.id, organization=state.organization_id)).json()["uploads"]) == 2


async def test_integrations_that_take_no_uploads(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """An integration of another kind, a deleted one and an unknown one take nothing, each with its code."""
    monkeypatch.setattr(api, "NEWS_SECONDS", 1.0)
    other, deleted = await town.add(provider="oneroster"), await town.add(state="deleted")
    for integration_id, status, code in (
        (other.id, 409, "PROVIDER_UNFIT"),
        (deleted.id, 409, "INTEGRATION_DELETED"),
        (str(uuid4()), 404, "NOT_FOUND"),
        ("..%2F..", 404, "NOT_FOUND"),
    ):
        answer = await town.post(integration_id, make_zip())
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await town.list(deleted.id)).status_code == 200
    assert town.left() == []


async def test_an_integration_of_a_moment_ago(town: Town) -> None:
    """An upload right after the integration was created waits for the news of it."""
    integration_id = str(uuid4())
    posting = asyncio.create_task(town.post(integration_id, make_zip()))
    await asyncio.sleep(0.5)
    await town.add(id=integration_id)
    assert (await posting).status_code == 201


async def test_too_much(town: Town) -> None:
    """A body beyond the limit is refused, whether it says so before or not, and nothing of it stays."""
    state = await town.add()
    answer = await town.post(state.id, b"x" * 4_000_001)
    assert (answer.status_code, answer.json()["code"]) == (413, "UPLOAD_TOO_LARGE")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    try:
        answer = await town.post(state.id, endless())
        assert (answer.status_code, answer.json()["code"]) == (413, "UPLOAD_TOO_LARGE")
    except httpx2.TransportError:
        pass  # the server closed the connection before the client had said all, as HTTP allows
    assert town.left() == []
    assert town.facts == []


async def test_bodies_that_are_no_zip(town: Town) -> None:
    """What is no zip, or half of one, is refused at once, and so is a name that could be a path."""
    state = await town.add()
    for body in (b"", b"sourcedId,status\r\n", make_zip()[:-5]):
        answer = await town.post(state.id, body)
        assert (answer.status_code, answer.json()["code"]) == (422, "ZIP_UNSAFE")
    for name in ("../x.zip", "a/b.zip", "", "x\n.zip", ".hidden"):
        answer = await town.post(state.id, make_zip(), params={"name": name})
        assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert town.left() == []


async def test_bodies_that_stop(town: Town) -> None:
    """A body that stops arriving is given up after a while, and one whose sender goes away at once."""
    state = await town.add()
    head = f"POST /v1/integrations/{state.id}/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in ISSUER.headers(["runs.write"]).items())
    address = httpx2.URL(town.url)
    for leaves in (False, True):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(head.encode() + b"\r\nPK")
        await writer.drain()
        if not leaves:
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(10):
        while town.left():
            await asyncio.sleep(0.05)
    assert (await town.list(state.id)).json()["uploads"] == []


async def test_what_is_incomplete_is_told(town: Town) -> None:
    """Whoever asks learns which files an inbox waits for, and gets the code once it takes too long."""
    from datetime import UTC, datetime

    from provider_gateway.inbox.storage import Expected

    state = await town.add()
    since = datetime(2026, 3, 2, tzinfo=UTC)
    expected = [
        Expected(folder=folder, why="missing", files=("users.csv",), present=3, since=since, overdue=overdue)
        for folder, overdue in (("", False), ("DailyImport", True))
    ]
    async with open_uploads(town.settings) as uploads:
        assert uploads is not None
        await uploads.note(state.id, expected)
    found = (await town.list(state.id)).json()["incomplete"]
    assert [(one["folder"], one["waiting_for"], one["files"], one["present"], one["code"]) for one in found] == [
        ("", "missing", ["users.csv"], 3, None),
        ("DailyImport", "missing", ["users.csv"], 3, "SFTP_INCOMPLETE_SET"),
    ]


async def test_an_upload_outlives_its_process(town: Town, tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the body is there the upload happens: if the API dies before it was announced, the inbox goes on."""
    from homeroom.bus import BusUnavailable
    from provider_gateway.inbox.sealing import Sealer

    state = await town.add()

    async def die(*_: object) -> None:
        raise BusUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Sealer, "announce", die)
        answer = await town.post(state.id, make_zip())
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
    harbour = tools.harbour(town.settings.uploads_folder)
    await harbour.tell(state)
    harbour.watcher.recover()
    await harbour.watcher.look(state.id, harbour.spools.of(state.id))
    [fact] = harbour.bus.received
    assert (fact.via, fact.integration_id) == ("rest", state.id)
    assert [one["upload_id"] for one in (await town.list(state.id)).json()["uploads"]] == [fact.upload_id]


async def test_no_inbox() -> None:
    """An installation without a place for uploads says so, and needs neither bus nor database for its API."""
    from homeroom.testing.tokens import calling

    app = build(GatewaySettings(issuer=ISSUER.issuer), ISSUER.verifier)
    async with calling(app, ISSUER.token(["admin"])) as client:
        for answer in (
            await client.post(f"/v1/integrations/{uuid4()}/uploads", content=make_zip()),
            await client.get(f"/v1/integrations/{uuid4()}/uploads"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "UPLOAD_MISSING")
        assert (await client.get("/readyz")).status_code == 200


async def download(place: Town, state: IntegrationState, set_id: object, **claims: Any) -> httpx2.Response:
    """Ask for what was received."""
    headers = ISSUER.headers(claims.get("scopes", ["roster.read"]), organization_id=claims.get("organization"))
    return await place.client.get(f"{place.url}/v1/received/{state.id}/{set_id}", headers=headers)


def storage(place: Town) -> StoredUploads:
    """Where the town keeps uploads."""
    folder = place.settings.uploads_folder
    assert folder is not None
    return StoredUploads(FolderStore(folder))


async def test_upload_comes_back(town: Town) -> None:
    """A zip that was uploaded is downloaded byte for byte, and no cache keeps it."""
    state = await town.add()
    body = make_zip()
    posted = await town.post(state.id, body)
    answer = await download(town, state, posted.json()["upload_id"])

    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["cache-control"] == "no-store"
    assert "attachment" in answer.headers["content-disposition"]


async def test_files_come_back_as_a_zip(town: Town, tmp_path: Path) -> None:
    """Files that came one by one come back as one zip."""
    state, upload_id = await town.add(), str(new_id())
    sent = {"manifest.csv": b"propertyName,value\r\n", "users.csv": b"sourcedId\r\n1\r\n"}
    for name, content in sent.items():
        (tmp_path / name).write_bytes(content)
    files = tuple(StoredFile(name, *hash_file(tmp_path / name)) for name in sent)
    seal = Seal(upload_id=upload_id, integration_id=state.id, received_at=datetime.now(UTC), via="sftp", files=files)
    await storage(town).keep(seal, tmp_path)

    answer = await download(town, state, upload_id)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == sent


async def test_what_was_received_is_for_those_who_may(town: Town, tmp_path: Path) -> None:
    """What a run received is for its organization with the right scope; what was never kept is not there."""
    state, run_id = await town.add(provider="oneroster"), str(new_id())
    recording = Recording(tmp_path)
    await recording.keep("/users", b'{"users": []}')
    await recording.put_away(storage(town).received, state.id, run_id, datetime.now(UTC))

    assert (await download(town, state, run_id, organization=state.organization_id)).status_code == 200
    assert (await download(town, state, run_id, organization=str(uuid4()))).status_code == 404
    assert (await download(town, state, run_id, scopes=["runs.write"])).status_code == 403
    assert (await download(town, state, new_id())).status_code == 404
    assert (await download(town, await town.add(), run_id)).status_code == 404
