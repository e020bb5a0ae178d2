"""The uploader against a real SFTP server: parts, names, order, breaking off and going on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from sandbox_district.sftp_uploader import BrokenOff, Inbox, Manner, upload

HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
CLIENT_KEY = asyncssh.generate_private_key("ssh-ed25519")


class _Server(asyncssh.SSHServer):
    """Lets one user in, by password or key."""

    def begin_auth(self, _username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("lake", "verity")

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, _username: str, key: asyncssh.SSHKey) -> bool:
        return key == CLIENT_KEY.convert_to_public()


class _Recorder(asyncssh.SFTPServer):
    """A folder that keeps what was renamed to what; if it is old-fashioned, it can't rename over an older file."""

    renamed: list[tuple[str, str]]
    folder: Path
    old_fashioned = False

    def __init__(self, channel: asyncssh.SSHServerChannel) -> None:
        super().__init__(channel, chroot=str(self.folder).encode())

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        if self.old_fashioned:
            raise asyncssh.SFTPOpUnsupported("not here")
        self.renamed.append((oldpath.decode(), newpath.decode()))
        super().posix_rename(oldpath, newpath)

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        self.renamed.append((oldpath.decode(), newpath.decode()))
        super().rename(oldpath, newpath)


@pytest.fixture(name="files")
async def run_server(tmp_path: Path) -> AsyncIterator[type[_Recorder]]:
    (tmp_path / "inbox").mkdir()
    files = type("Recorder", (_Recorder,), {"folder": tmp_path / "inbox", "renamed": []})
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=_Server, server_host_keys=[HOST_KEY], sftp_factory=files, allow_scp=False
    )
    files.port = server.get_port()  # type: ignore[attr-defined]  # a class made for one test
    async with server:
        yield files  # type: ignore[misc]  # it is a subclass


@pytest.fixture(name="inbox")
def name_inbox(files: type[_Recorder]) -> Inbox:
    key = HOST_KEY.export_public_key().decode()
    port = files.port  # type: ignore[attr-defined]  # a class made for one test
    return Inbox(host="127.0.0.1", port=port, username="lake", password="verity", host_key=key, folder="DailyImport")


@pytest.fixture(name="source")
def write_files(tmp_path: Path) -> Path:
    source = tmp_path / "set"
    source.mkdir()
    for name, size in {"manifest.csv": 100, "orgs.csv": 1_000, "users.csv": 50_000}.items():
        (source / name).write_bytes(bytes(number % 251 for number in range(size)))
    return source


def compare(source: Path, files: type[_Recorder]) -> None:
    there = files.folder / "DailyImport"
    assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in source.iterdir())
    for path in source.iterdir():
        assert (there / path.name).read_bytes() == path.read_bytes()


async def test_folder(files: type[_Recorder], inbox: Inbox, source: Path) -> None:
    """All files arrive whole, each first under a temporary name, the manifest last."""
    sent = await upload(source, inbox, Manner(part_bytes=700))
    compare(source, files)
    assert sent == 51_100
    assert [Path(new).name for _, new in files.renamed] == ["orgs.csv", "users.csv", "manifest.csv"]
    assert all(old == f"{new}.filepart" for old, new in files.renamed)


async def test_zip_by_key(files: type[_Recorder], inbox: Inbox, source: Path) -> None:
    """A single file is uploaded as it is, and a key opens the account as a password does."""
    private = CLIENT_KEY.export_private_key().decode()
    key_only = Inbox(host=inbox.host, port=inbox.port, username="lake", host_key=inbox.host_key, private_key=private)
    assert await upload(source / "users.csv", key_only) == 50_000
    assert (files.folder / "users.csv").read_bytes() == (source / "users.csv").read_bytes()


async def test_break_off_and_resume(files: type[_Recorder], inbox: Inbox, source: Path) -> None:
    """An upload that breaks off leaves a part under a temporary name, and a later one sends only what is missing."""
    with pytest.raises(BrokenOff):
        await upload(source, inbox, Manner(part_bytes=1_000, break_after=21_500))
    there = files.folder / "DailyImport"
    assert not (there / "users.csv").exists()
    assert not (there / "manifest.csv").exists()
    left = (there / "users.csv.filepart").stat().st_size
    assert 0 < left <= 20_500
    again = await upload(source, inbox, Manner(resume=True))
    compare(source, files)
    assert again == 51_100 - left


async def test_names_that_are_taken(files: type[_Recorder], inbox: Inbox, source: Path) -> None:
    """A newer set replaces the older one, also at a server that does not rename over a file."""
    await upload(source, inbox)
    files.old_fashioned = True
    (source / "orgs.csv").write_bytes(b"newer")
    await upload(source, inbox)
    compare(source, files)


async def test_simple_clients(files: type[_Recorder], inbox: Inbox, source: Path) -> None:
    """An upload in place, with the manifest first, shows files that still grow."""
    manner = Manner(in_place=True, manifest_last=False, part_bytes=5_000, pause_seconds=0.05)
    uploading = asyncio.create_task(upload(source, inbox, manner))
    there = files.folder / "DailyImport"
    async with asyncio.timeout(10):
        while not (there / "users.csv").exists() or not (there / "users.csv").stat().st_size:
            await asyncio.sleep(0.01)
    assert (there / "manifest.csv").exists()
    assert (there / "users.csv").stat().st_size < 50_000
    await uploading
    compare(source, files)
    assert files.renamed == []


@pytest.mark.parametrize("wrong", ["password", "host_key"])
async def test_nobody_else(files: type[_Recorder], inbox: Inbox, source: Path, wrong: str) -> None:
    """A wrong password is refused by the server, and another server's key by the uploader."""
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    changed = {"password": "guess"} if wrong == "password" else {"host_key": other}
    values = {name: getattr(inbox, name) for name in ("host", "port", "username", "password", "host_key", "folder")}
    with pytest.raises((asyncssh.PermissionDenied, asyncssh.HostKeyNotVerifiable)):
        await upload(source, Inbox(**(values | changed)))
    assert not list(files.folder.iterdir())
