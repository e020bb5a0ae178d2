"""Where uploads are kept: the same promises from a folder and from an S3-compatible store (A2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from pydantic import SecretStr, ValidationError

from homeroom.codes import Code
from homeroom.ids import new_id
from homeroom.messages import IntegrationState
from homeroom.settings import SettingsError
from provider_gateway.failures import ProviderError
from provider_gateway.inbox.retention import Retention, choose
from provider_gateway.inbox.storage import (
    Expected,
    NoUploads,
    Seal,
    StorageFailed,
    StoredFile,
    StoredUploads,
    hash_file,
    open_uploads,
    received_at,
)
from provider_gateway.settings import GatewaySettings

NOW = datetime(2026, 3, 2, tzinfo=UTC)


class Place:
    """Uploads, and a way to spoil them behind their back."""

    def __init__(self, settings: GatewaySettings, bucket: Any = None) -> None:
        self.settings = settings
        self.bucket = bucket

    def names(self) -> list[str]:
        """Everything that is kept."""
        if self.bucket is not None:
            return [one.key for one in self.bucket.objects.all()]
        folder = self.settings.uploads_folder
        assert folder is not None
        return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]

    def find(self, ending: str) -> str:
        """The one thing whose name ends so."""
        [found] = [key for key in self.names() if key.endswith(ending)]
        return found

    def spoil(self, key: str, content: bytes | None) -> None:
        """Change something, or take it away."""
        if self.bucket is not None:
            self.bucket.Object(key).delete() if content is None else self.bucket.put_object(Key=key, Body=content)
            return
        assert self.settings.uploads_folder is not None
        path = self.settings.uploads_folder / key
        path.unlink()
        if content is not None:
            path.write_bytes(content)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 that nobody here wrote."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A fresh place for uploads."""
    if request.param == "folder":
        return Place(make_settings(uploads_url=str(tmp_path / "uploads")))
    endpoint, name = request.getfixturevalue("s3"), f"test-{uuid4().hex}"
    resource = boto3.resource(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret"
    )
    resource.create_bucket(Bucket=name)
    settings = make_settings(
        uploads_url=f"s3://{name}/some/prefix",
        inbox_dir=str(tmp_path / "inbox"),
        uploads_s3_endpoint=endpoint,
        uploads_s3_access_key_id="id",
        uploads_s3_secret_access_key=SecretStr("secret"),
    )
    return Place(settings, resource.Bucket(name))


def make_settings(**values: Any) -> GatewaySettings:
    """Settings of a gateway with an inbox."""
    return GatewaySettings(issuer="http://issuer.test", **values)


async def keep(uploads: StoredUploads, folder: Path, files: dict[str, bytes], integration_id: str = "") -> Seal:
    """Keep a set."""
    _lay(folder, files)
    stored = tuple(StoredFile(name, *hash_file(folder / name)) for name in sorted(files))
    integration_id = integration_id or str(uuid4())
    seal = Seal(upload_id=str(new_id()), integration_id=integration_id, received_at=NOW, via="sftp", files=stored)
    await uploads.keep(seal, folder)
    return seal


def _lay(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


async def refused(uploads: Any, integration_id: str, upload_id: str, into: Path) -> Code:
    """The code that fetching a set ends with."""
    _lay(into, {})
    with pytest.raises(ProviderError) as error:
        await uploads.fetch(integration_id, upload_id, into)
    return error.value.code


FILES = {"manifest.csv": b"a,b\r\n", "üsers %20#?.csv": b"x" * 3_000_000, "empty.csv": b""}


async def test_what_is_kept_is_what_is_fetched(place: Place, tmp_path: Path) -> None:
    """A set comes back with its names and bytes, as a folder, and keeping it twice does no harm."""
    async with open_uploads(place.settings) as uploads:
        assert uploads is not None
        seal = await keep(uploads, tmp_path / "source", FILES)
        await uploads.keep(seal, tmp_path / "source")
        into = tmp_path / "into"
        into.mkdir()
        found = await uploads.fetch(seal.integration_id, seal.upload_id, into)
        assert {path.name: path.read_bytes() for path in found.iterdir()} == FILES
        assert await uploads.find(seal.integration_id, seal.upload_id) == seal
        assert await uploads.ids(seal.integration_id) == [seal.upload_id]
        assert await uploads.integrations() == [seal.integration_id]
        if place.bucket is not None:
            assert all(key.startswith("some/prefix/") for key in place.names())


async def test_a_zip_comes_as_a_file(place: Place, tmp_path: Path) -> None:
    """A set of one zip is fetched as that zip."""
    async with open_uploads(place.settings) as uploads:
        assert uploads is not None
        seal = await keep(uploads, tmp_path / "source", {"Monday.ZIP": b"zip"})
        (tmp_path / "into").mkdir()
        found = await uploads.fetch(seal.integration_id, seal.upload_id, tmp_path / "into")
        assert (found.name, found.read_bytes()) == ("Monday.ZIP", b"zip")


async def test_what_is_not_there(place: Place, tmp_path: Path) -> None:
    """A set that was never kept, was erased, or is no id at all is missing; nothing can be reached by a path."""
    async with open_uploads(place.settings) as uploads:
        assert uploads is not None
        seal = await keep(uploads, tmp_path / "source", FILES)
        other = str(uuid4())
        climbing = f"{other}/../{seal.integration_id}"
        for integration_id, upload_id in (
            *((other, seal.upload_id), (seal.integration_id, other)),
            *((climbing, seal.upload_id), ("..", "..")),
        ):
            assert await refused(uploads, integration_id, upload_id, tmp_path / "into") is Code.UPLOAD_MISSING
        await uploads.erase(seal.integration_id, seal.upload_id)
        assert await refused(uploads, seal.integration_id, seal.upload_id, tmp_path / "into") is Code.UPLOAD_MISSING
        assert place.names() == []
        assert await refused(NoUploads(), seal.integration_id, seal.upload_id, tmp_path) is Code.UPLOAD_MISSING


@pytest.mark.parametrize("how", ["shorter", "longer", "gone", "other"])
async def test_what_was_changed_is_not_read(place: Place, tmp_path: Path, how: str) -> None:
    """A file that is not as it was received is refused as SFTP_IO instead of being read (C2)."""
    async with open_uploads(place.settings) as uploads:
        assert uploads is not None
        seal = await keep(uploads, tmp_path / "source", {"manifest.csv": b"12345"})
        changed = {"shorter": b"1234", "longer": b"123456", "gone": None, "other": b"12346"}[how]
        place.spoil(place.find("files/manifest.csv" if place.bucket is None else "files/0"), changed)
        if how == "other" and place.bucket is None:  # a folder is trusted to hold bytes; only lengths are compared
            assert (await uploads.fetch(seal.integration_id, seal.upload_id, tmp_path)).is_dir()
        else:
            assert await refused(uploads, seal.integration_id, seal.upload_id, tmp_path / "into") is Code.SFTP_IO


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"uploadId":1}'])
async def test_a_damaged_seal(place: Place, tmp_path: Path, content: bytes) -> None:
    """A seal that can't be read is trouble of the storage, not a set."""
    async with open_uploads(place.settings) as uploads:
        assert uploads is not None
        seal = await keep(uploads, tmp_path / "source", {"manifest.csv": b"12345"})
        place.spoil(place.find("seal.json"), content)
        assert await refused(uploads, seal.integration_id, seal.upload_id, tmp_path / "into") is Code.SFTP_IO


async def test_a_seal_without_files_behind_it_is_written_last(place: Place, tmp_path: Path) -> None:
    """If a file can't be kept there is no set, for the seal comes last."""
    async with open_uploads(place.settings) as uploads:
        assert uploads is not None
        missing = Seal(
            upload_id=str(new_id()), integration_id=str(uuid4()), received_at=NOW, via="sftp",
            files=(StoredFile("gone.csv", 1, ""),),
        )  # fmt: skip
        with pytest.raises(StorageFailed):
            await uploads.keep(missing, tmp_path)
        assert await uploads.find(missing.integration_id, missing.upload_id) is None


async def test_what_is_waited_for_is_noted(place: Place) -> None:
    """What an inbox waits for can be read where it is asked about, and only the last word counts."""
    integration_id = str(uuid4())
    one = Expected(folder="a", why="missing", files=("users.csv",), present=1, since=NOW, overdue=True)
    async with open_uploads(place.settings) as uploads:
        assert uploads is not None
        assert await uploads.expected(integration_id) == ()
        await uploads.note(integration_id, [one])
        assert await uploads.expected(integration_id) == (one,)
        await uploads.note(integration_id, [])
        assert await uploads.expected(integration_id) == ()


async def test_a_store_that_is_away(tmp_path: Path) -> None:
    """A store that does not answer ends as SFTP_IO, without its address or key in a word of it."""
    settings = make_settings(
        uploads_url="s3://bucket",
        inbox_dir=str(tmp_path),
        uploads_s3_endpoint="http://127.0.0.1:9",
        uploads_s3_access_key_id="hidden-id",
        uploads_s3_secret_access_key=SecretStr("hidden-secret"),
    )
    async with open_uploads(settings) as uploads:
        assert uploads is not None
        with pytest.raises(ProviderError) as error:
            await uploads.fetch(str(uuid4()), str(uuid4()), tmp_path)
    assert error.value.code is Code.SFTP_IO
    assert "hidden" not in str(error.value)
    assert "127.0.0.1" not in str(error.value)
    assert "hidden-secret" not in str(settings.describe())


async def test_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file can't have a second name, as on another disk, it is copied."""
    import errno

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    async with open_uploads(make_settings(uploads_url=f"file://{tmp_path}/with%20space")) as uploads:
        assert uploads is not None
        seal = await keep(uploads, tmp_path / "source", FILES)
        found = await uploads.fetch(seal.integration_id, seal.upload_id, tmp_path)
        assert {path.name: path.read_bytes() for path in found.iterdir()} == FILES
        assert (tmp_path / "with space").is_dir()


@pytest.mark.parametrize("url", ["uploads", "s3:bucket", "https://bucket", "file://host/x", "s3://bucket"])
def test_addresses_that_are_none(url: str) -> None:
    """An address that is no place, or a bucket without a folder for what is incomplete, is refused at the start."""
    with pytest.raises(ValidationError):
        make_settings(uploads_url=url)


async def test_a_bucket_that_is_none() -> None:
    """A bucket's name that can't be one is refused with the setting's name."""
    with pytest.raises(SettingsError, match="HOMEROOM_UPLOADS_URL"):
        async with open_uploads(make_settings(uploads_url="s3://", inbox_dir="/inbox")):
            pass
    async with open_uploads(make_settings()) as uploads:
        assert uploads is None


# ── how long they are kept ────────────────────────────────────────────────────────────────────────────────────────


def made(ago: timedelta) -> str:
    """An upload's id of so long ago."""
    milliseconds = int((NOW - ago).timestamp() * 1000)
    text = f"{milliseconds:012x}7{uuid4().hex[:19]}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def test_old_uploads_go_but_the_newest_stays() -> None:
    """Uploads past their time are erased; the newest stays however old, unless its integration was deleted."""
    days = [made(timedelta(days=number)) for number in (30, 15, 13, 1)]
    keep_for = timedelta(days=14)
    assert set(choose(days, NOW, keep_for, deleted=False)) == set(days[:2])
    assert choose([days[0]], NOW, keep_for, deleted=False) == []
    assert choose([days[0]], NOW, keep_for, deleted=True) == [days[0]]
    assert choose([days[3]], NOW, keep_for, deleted=True) == []
    assert received_at(days[0]) == NOW - timedelta(days=30)


async def test_sweeping(harbour: Any, tmp_path: Path) -> None:
    """A sweep erases what is too old of every integration, files of deleted ones and leftovers, and nothing else."""
    active, deleted = await harbour.add(), await harbour.add()
    await harbour.tell(
        IntegrationState(**{name: getattr(deleted, name) for name in deleted.__struct_fields__} | {"state": "deleted"})
    )
    kept = {state.id: await keep(harbour.uploads, tmp_path / "source", FILES, state.id) for state in (active, deleted)}
    newer = await keep(harbour.uploads, tmp_path / "source", FILES, active.id)
    for state in (active, deleted):
        (harbour.incoming(state) / "users.csv").write_bytes(b"x")
    left = harbour.folder / "inbox" / active.id / "posted" / "dead"
    left.mkdir(parents=True)
    retention = Retention(harbour.uploads, harbour.spools, harbour.directory, harbour.clock, timedelta(microseconds=1))
    await retention.sweep()
    assert await harbour.uploads.ids(active.id) == [max(newer.upload_id, kept[active.id].upload_id)]
    assert await harbour.uploads.ids(deleted.id) == []
    assert [len(list(harbour.incoming(state).iterdir())) for state in (active, deleted)] == [1, 0]
    assert not left.exists()
