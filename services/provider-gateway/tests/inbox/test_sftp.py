"""Uploading over SFTP: who gets in, what they may do, and that nothing is sealed too early (A2; facts §3.2)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from homeroom.messages import IntegrationState, SftpAccount
from homeroom.secrets import hash_password

SFTP = shutil.which("sftp")


async def test_a_set_is_sealed_and_announced(harbour: Any, tools: Any, tmp_path: Path) -> None:
    """A complete set that came to rest becomes an upload with the same bytes, and the scheduler is told."""
    state = await harbour.add()
    files = tools.make_set()
    async with harbour.serve(), harbour.sftp(state) as client:
        await tools.put(client, files)
        [fact] = await harbour.sealed()
        assert await client.listdir(".") == [".", ".."]
    assert (fact.integration_id, fact.via, fact.files) == (state.id, "sftp", len(files))
    assert fact.bytes == sum(map(len, files.values()))
    assert await harbour.read(fact, tmp_path) == files
    assert (await harbour.seal_of(fact)).digest == fact.digest


@pytest.mark.parametrize("folder", ["DailyImport", "a/b"])
async def test_sets_in_folders(harbour: Any, tools: Any, tmp_path: Path, folder: str) -> None:
    """A set may lie in a folder, as ClassLink's `DailyImport`, up to two deep."""
    state = await harbour.add()
    files = tools.make_set()
    async with harbour.serve(), harbour.sftp(state) as client:
        await client.makedirs(folder)
        await tools.put(client, files, f"/{folder}/")
        [fact] = await harbour.sealed()
    assert await harbour.read(fact, tmp_path) == files


async def test_parts_then_rename(harbour: Any, tools: Any, tmp_path: Path) -> None:
    """Files that come under temporary names count once they are renamed, and not before."""
    state = await harbour.add()
    files = tools.make_set()
    async with harbour.serve(), harbour.sftp(state) as client:
        await tools.put(client, {f"{name}.filepart": content for name, content in files.items()})
        await asyncio.sleep(3 * tools.rest.total_seconds())
        assert harbour.bus.received == []
        for name in files:
            await client.rename(f"{name}.filepart", name)
        [fact] = await harbour.sealed()
    assert await harbour.read(fact, tmp_path) == files


@pytest.mark.parametrize("last", ["manifest.csv", "users.csv"])
async def test_pauses_never_seal_early(harbour: Any, tools: Any, tmp_path: Path, last: str) -> None:
    """An uploader that pauses at each tenth of a file, longer than files have to rest, is never cut short (C1)."""
    state = await harbour.add()
    files = tools.make_set("orgs", "users", size=10_000)
    slow = files.pop(last)
    step = len(slow) // 10 + 1
    async with harbour.serve(), harbour.sftp(state) as client:
        await tools.put(client, files)
        async with client.open(last, "wb") as file:
            for start in range(0, len(slow), step):
                await file.write(slow[start : start + step])
                await asyncio.sleep(1.2 * tools.rest.total_seconds())
                assert harbour.bus.received == []
        [fact] = await harbour.sealed()
    assert (await harbour.read(fact, tmp_path))[last] == slow


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_broken_connection_leaves_no_set(harbour: Any, tools: Any, tmp_path: Path, how: str) -> None:
    """A file whose connection broke is not whole, however long it rests; resumed at its end, it has the same bytes."""
    state = await harbour.add()
    files = tools.make_set("orgs", "users", size=50_000)
    users = files.pop("users.csv")
    async with harbour.serve():
        async with harbour.connect(state) as connection:
            client = await connection.start_sftp_client()
            await tools.put(client, files)
            file = await client.open("users.csv", "wb")
            await file.write(users[:20_000])
            if how == "abort":
                connection.abort()
            else:
                client.exit()  # the session ends without closing the file, as when an uploader is killed
                await client.wait_closed()
        await asyncio.sleep(4 * tools.rest.total_seconds())
        assert harbour.bus.received == []
        async with harbour.sftp(state) as client:
            size = (await client.stat("users.csv")).size
            assert size == 20_000
            async with client.open("users.csv", "r+b") as file:
                await file.write(users[size:], offset=size)
        [fact] = await harbour.sealed()
    assert await harbour.read(fact, tmp_path) == {**files, "users.csv": users}


_CHILD = """
import asyncio, sys, importlib.util
spec = importlib.util.spec_from_file_location("town", sys.argv[1])
town = importlib.util.module_from_spec(spec); sys.modules["town"] = town; spec.loader.exec_module(town)
from pathlib import Path
from homeroom.messages import IntegrationState
import msgspec
async def main():
    town.HOST_KEY = Path(sys.argv[3]).read_text()
    harbour = town.Harbour(Path(sys.argv[2]), port=int(sys.argv[4]))
    await harbour.tell(msgspec.json.decode(sys.argv[5], type=IntegrationState))
    async with harbour.serve(watch=False):
        print("up", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_killed_server_changes_neither_key_nor_bytes(harbour: Any, tools: Any, tmp_path: Path) -> None:
    """After kill -9 of the server the same server comes back, and an upload goes on where it was (C2, C6)."""
    import msgspec

    from homeroom_local.stack import free_port

    state, port = await harbour.add(), free_port()
    (tmp_path / "key").write_text(tools.host_key)
    arguments = [
        *(sys.executable, "-c", _CHILD, str(Path(__file__).with_name("conftest.py")), str(harbour.folder)),
        *(str(tmp_path / "key"), str(port), msgspec.json.encode(state).decode()),
    ]
    harbour.port = port
    files = tools.make_set("orgs", "users", size=300_000)
    users = files.pop("users.csv")
    for number in range(2):
        child = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            assert await asyncio.wait_for(child.stdout.readline(), 30) == b"up\n"
            async with harbour.connect(state) as connection:
                client = await connection.start_sftp_client()
                if not number:
                    await tools.put(client, files)
                file = await client.open("users.csv", "ab")
                await file.write(users[number * 100_000 : (number + 1) * 100_000])
                child.send_signal(signal.SIGKILL)
                await connection.wait_closed()
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()

    after = tools.harbour(harbour.folder, port=port)
    await after.tell(state)
    async with after.serve():
        await asyncio.sleep(4 * tools.rest.total_seconds())
        assert after.bus.received == []
        async with after.sftp(state) as client, client.open("users.csv", "ab") as file:
            await file.write(users[(await client.stat("users.csv")).size :])
        [fact] = await after.sealed()
    assert await after.read(fact, tmp_path) == {**files, "users.csv": users}


async def test_the_same_files_again_are_another_upload_with_the_same_digest(harbour: Any, tools: Any) -> None:
    """Yesterday's files uploaded again are received again, and their digest tells that they are the same (C9)."""
    state = await harbour.add()
    async with harbour.serve(), harbour.sftp(state) as client:
        await tools.put(client, tools.make_set())
        await harbour.sealed(1)
        await tools.put(client, tools.make_set())
        first, second = await harbour.sealed(2)
        await tools.put(client, tools.make_set(size=2_001))
        third = (await harbour.sealed(3))[2]
    assert first.upload_id < second.upload_id
    assert first.digest == second.digest != third.digest


async def test_a_changed_host_key_is_noticed(harbour: Any) -> None:
    """An uploader that knows the server refuses one with another key: the key is what must never change (C6)."""
    from provider_gateway.inbox.host_key import make_host_keys, split_host_keys

    other = [asyncssh.import_private_key(text).convert_to_public() for text in split_host_keys(make_host_keys())]
    async with harbour.serve():
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            await asyncssh.connect(
                "127.0.0.1", harbour.port, username="x", known_hosts=(other, [], []), config=None, agent_path=None
            )


# ── who gets in ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_passwords(harbour: Any, tools: Any) -> None:
    """The right password lets in; a wrong one, none, and an unknown account do not."""
    state = await harbour.add()
    stranger = await harbour.add()
    await harbour.tell(IntegrationState(**{**_fields(stranger), "sftp": None}))
    async with harbour.serve():
        async with harbour.sftp(state) as client:
            assert await client.getcwd() == "/"
        for who, password in ((state, "wrong"), (state, ""), (state, None), (stranger, tools.password)):
            with pytest.raises(asyncssh.PermissionDenied):
                async with harbour.connect(who, password=password):
                    pass


async def test_keys(harbour: Any) -> None:
    """A key of the account lets in, one of another account does not, and an account with keys only has no password."""
    mine, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    text = mine.export_public_key().decode().strip()
    state = await harbour.add(sftp=SftpAccount(username="keyed", public_keys=("ssh-ed25519 broken", text)))
    async with harbour.serve():
        async with harbour.sftp(state, password=None, key=mine) as client:
            assert await client.listdir("/") == [".", ".."]
        for how in ({"key": other, "password": None}, {"password": ""}, {}):
            with pytest.raises(asyncssh.PermissionDenied):
                async with harbour.connect(state, **how):
                    pass


async def test_only_sftp_is_served(harbour: Any) -> None:
    """There is no shell, no command, no scp, no other subsystem, and nothing is forwarded."""
    state = await harbour.add()
    async with harbour.serve(), harbour.connect(state) as connection:
        for wanted in ({}, {"command": "id"}, {"command": "scp -t x"}, {"subsystem": "netconf"}):
            with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ProcessError)):
                await connection.run(**wanted, check=True, timeout=5)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", harbour.port)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)


@pytest.mark.parametrize("change", ["rotated", "removed", "deleted"])
async def test_an_account_that_changes_ends_its_connections(harbour: Any, change: str) -> None:
    """When an account is rotated, removed, or its integration deleted, who is connected is put out and stays out."""
    state = await harbour.add()
    assert state.sftp is not None
    other = SftpAccount(username=state.sftp.username, password_hash=hash_password("another"))
    changed = {"rotated": {"sftp": other}, "removed": {"sftp": None}, "deleted": {"state": "deleted"}}[change]
    async with harbour.serve():
        async with harbour.connect(state) as connection, connection.start_sftp_client() as client:
            file = await client.open("users.csv", "wb")
            await file.write(b"x")
            await harbour.tell(IntegrationState(**{**_fields(state), "name": "Renamed"}))
            await file.write(b"y")
            await harbour.tell(IntegrationState(**{**_fields(state), **changed}))
            await asyncio.wait_for(connection.wait_closed(), 10)
            with pytest.raises((asyncssh.SFTPError, asyncssh.Error, OSError)):
                await file.write(b"z")
        with pytest.raises(asyncssh.PermissionDenied):
            async with harbour.connect(state):
                pass


async def test_guessing_is_stopped_but_not_the_district(
    harbour: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some wrong passwords no further one is looked at, but for whoever got in from their address before."""
    from provider_gateway.inbox import door

    hashed: list[str] = []

    def verify(password: str, stored: str) -> bool:
        hashed.append(stored)
        return stored == tools.password_hash and password == tools.password

    monkeypatch.setattr(door, "verify_password", verify)
    state = await harbour.add()
    assert state.sftp is not None
    entrance = door.Door(harbour.directory, harbour.clock)
    name = state.sftp.username
    assert await entrance.check_password(name, tools.password, "198.51.100.1")
    for number in range(30):
        assert not await entrance.check_password(name, "guess", f"203.0.113.{number}")
    assert len(hashed) == 1 + door.FAILURES_PER_ACCOUNT
    assert not await entrance.check_password(name, tools.password, "203.0.113.99")
    assert await entrance.check_password(name, tools.password, "198.51.100.1")
    for number in range(60):
        await entrance.check_password(f"nobody-{number}", "guess", f"2001:db8::{number:x}")
    assert len(hashed) == 2 + door.FAILURES_PER_ACCOUNT + door.FAILURES_PER_ADDRESS


async def test_too_many_attempts_end_the_connection(harbour: Any) -> None:
    """Whoever tries again and again in one connection is put out."""
    state = await harbour.add()
    tried: list[int] = []

    class Client(asyncssh.SSHClient):
        def password_auth_requested(self) -> str:
            tried.append(1)
            return f"guess {len(tried)}"

        def kbdint_auth_requested(self) -> None:
            return None

    async with harbour.serve():
        with pytest.raises(asyncssh.DisconnectError):
            await asyncssh.connect(
                "127.0.0.1", harbour.port, username=state.sftp.username, known_hosts=None, config=None,
                agent_path=None, client_factory=Client, client_keys=None,
            )  # fmt: skip
    assert len(tried) <= 11


async def test_connections_of_an_account_are_few(harbour: Any) -> None:
    """A fifth connection of an account is refused while four are open, and taken once one is gone."""
    state = await harbour.add()
    async with harbour.serve():
        first = harbour.connect(state)
        await first.__aenter__()
        async with harbour.connect(state), harbour.connect(state), harbour.connect(state):
            with pytest.raises((asyncssh.Error, OSError)):
                async with harbour.connect(state) as fifth, fifth.start_sftp_client() as client:
                    await client.listdir(".")
            await first.__aexit__(None, None, None)
            async with harbour.sftp(state) as client:
                assert await client.listdir(".")


async def test_idle_connections_end(harbour: Any) -> None:
    """A connection on which nothing is done for too long is ended; one that works is not."""
    harbour.idle_seconds = 0.6
    state = await harbour.add()
    async with harbour.serve(), harbour.connect(state) as idle, harbour.sftp(state) as busy:
        ending = asyncio.create_task(idle.wait_closed())
        async with asyncio.timeout(10):
            while not ending.done():
                await busy.stat(".")
                await asyncio.sleep(0.05)
        assert await busy.listdir(".")


# ── what they may do ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["../../../secret", "/../secret", "a/../../secret", "//..//secret", "./../secret"])
async def test_nobody_climbs_out(harbour: Any, path: str) -> None:
    """However a path is written, it begins at the account's own root."""
    state = await harbour.add()
    (harbour.folder / "secret").write_text("secret")
    (harbour.folder / "inbox" / "secret").write_text("secret")
    async with harbour.serve(watch=False), harbour.sftp(state) as client:
        assert not await client.exists(path)
        async with client.open(path, "wb") as file:
            await file.write(b"mine")
        assert await client.listdir("/") == [".", "..", "secret"]
        assert await client.realpath(path) == "/secret"
    assert (harbour.folder / "secret").read_text() == "secret"
    assert (harbour.incoming(state) / "secret").read_bytes() == b"mine"


async def test_accounts_do_not_see_each_other(harbour: Any, tools: Any) -> None:
    """An account sees its own files only, under any path."""
    one, two = await harbour.add(), await harbour.add()
    async with harbour.serve(watch=False), harbour.sftp(one) as first, harbour.sftp(two) as second:
        await tools.put(first, {"users.csv": b"x"})
        assert await second.listdir("/") == [".", ".."]
        for path in (f"../{one.id}/incoming/users.csv", f"/{one.id}", "users.csv"):
            assert not await second.exists(path)


async def test_links_are_neither_made_nor_followed(harbour: Any, tmp_path: Path) -> None:
    """Links can't be made; should one get there, neither it nor what is behind it can be read or written."""
    state = await harbour.add()
    (tmp_path / "secret").write_text("secret")
    async with harbour.serve(watch=False), harbour.sftp(state) as client:
        for make in (client.symlink, client.link):
            with pytest.raises(asyncssh.SFTPError):
                await make("/etc/passwd", "here")
        (harbour.incoming(state) / "file").symlink_to(tmp_path / "secret")
        (harbour.incoming(state) / "folder").symlink_to(tmp_path)
        for path in ("file", "folder/secret"):
            for mode in ("rb", "wb"):
                with pytest.raises(asyncssh.SFTPError):
                    await client.open(path, mode)
        with pytest.raises(asyncssh.SFTPError):
            await client.statvfs("/")
    assert (tmp_path / "secret").read_text() == "secret"


async def test_quotas(harbour: Any, tools: Any) -> None:
    """An account holds so many bytes, files and folders at once, however they are written, and no more."""
    harbour = tools.harbour(harbour.folder, max_bytes=100_000)
    state = await harbour.add()
    async with harbour.serve(watch=False), harbour.sftp(state) as client:
        await tools.put(client, {"a.csv": b"x" * 60_000})
        with pytest.raises(asyncssh.SFTPError):
            await tools.put(client, {"b.csv": b"x" * 60_000})
        async with client.open("c.csv", "wb") as file:
            for write in (lambda: file.write(b"x", offset=10**12), lambda: file.truncate(10**12)):
                with pytest.raises(asyncssh.SFTPError):
                    await write()
        with pytest.raises(asyncssh.SFTPError):
            await client.truncate("c.csv", 10**12)
        async with client.open("a.csv", "ab") as file:
            with pytest.raises(asyncssh.SFTPError):
                await file.write(b"x" * 60_000)
        await client.remove("b.csv")
        await tools.put(client, {"d.csv": b"x" * 30_000})
        used = sum(path.stat().st_size for path in harbour.incoming(state).iterdir())
        assert used <= 100_000
        for number in range(61):
            await tools.put(client, {f"{number}.txt": b""})
        with pytest.raises(asyncssh.SFTPError):
            await tools.put(client, {"one-more.txt": b""})
        assert len(await client.listdir("/")) == 2 + 64
        with pytest.raises(asyncssh.SFTPError):
            await client.makedirs("one/two/three")
        for number in range(14):
            await client.mkdir(f"folder-{number}")
        with pytest.raises(asyncssh.SFTPError):
            await client.mkdir("one-more")


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "x" * 250, "a\x00b", "\x1b[31m"], ids=repr)
async def test_names_are_names(harbour: Any, name: str) -> None:
    """A name with control characters or backslashes, or one beyond all length, is refused."""
    state = await harbour.add()
    async with harbour.serve(watch=False), harbour.sftp(state) as client:
        with pytest.raises(asyncssh.SFTPError):
            await client.open(name, "wb")
        assert await client.listdir("/") == [".", ".."]


async def test_what_uploaders_do(harbour: Any, tools: Any) -> None:
    """Times and modes may be set, files compared by reading, replaced by renaming, and folders made and removed."""
    state = await harbour.add()
    async with harbour.serve(watch=False), harbour.sftp(state) as client:
        await tools.put(client, {"a.csv": b"12345", "b.csv": b"678"})
        await client.utime("a.csv", (1_700_000_000, 1_700_000_001))
        await client.chmod("a.csv", 0o777)
        await client.chown("a.csv", 1, 1)
        found = await client.stat("a.csv")
        assert (found.mtime, found.size, found.permissions) == (1_700_000_001, 5, 0o100600)
        async with client.open("a.csv", "rb") as file:
            assert await file.read() == b"12345"
        with pytest.raises(asyncssh.SFTPError):
            await client.rename("a.csv", "b.csv")
        await client.posix_rename("a.csv", "b.csv")
        async with client.open("b.csv", "rb") as file:
            assert await file.read() == b"12345"
        await client.mkdir("DailyImport")
        await client.rename("b.csv", "DailyImport/c.csv")
        with pytest.raises(asyncssh.SFTPError):
            await client.rmdir("DailyImport")
        await client.remove("DailyImport/c.csv")
        await client.rmdir("DailyImport")
        async with client.open("new.csv", "xb") as file:
            await file.write(b"1")
        with pytest.raises(asyncssh.SFTPError):
            await client.open("new.csv", "xb")
        with pytest.raises(asyncssh.SFTPError):
            await client.open("missing.csv", "rb")
        listed = [entry async for entry in client.scandir("/")]
        told = " ".join(str(entry.longname) for entry in listed)
        assert "district" in told


async def test_replaced_while_open(harbour: Any, tools: Any) -> None:
    """Whoever has a file open that was removed or replaced writes to nothing, and learns it."""
    state = await harbour.add()
    async with harbour.serve(watch=False), harbour.sftp(state) as client:
        await tools.put(client, {"other.csv": b"other"})
        for replace in (lambda: client.remove("a.csv"), lambda: client.posix_rename("other.csv", "a.csv")):
            file = await client.open("a.csv", "wb")
            await replace()
            with pytest.raises(asyncssh.SFTPError):
                await file.write(b"x")
            await file.close()


# ── the client everybody has ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(SFTP is None, reason="OpenSSH's client is not installed here")
async def test_opensshs_client_uploads(harbour: Any, tools: Any, tmp_path: Path) -> None:
    """OpenSSH's own client signs in with a key, resumes, renames and lists, and its set is sealed with its bytes."""
    files = tools.make_set(size=200_000)
    source = tmp_path / "source"
    source.mkdir()
    for name, content in files.items():
        (source / name).write_bytes(content)
    options, _ = await _openssh(harbour, tmp_path)
    async with harbour.serve():
        options += ["-P", str(harbour.port)]
        (source / "half").write_bytes(files["users.csv"][:70_000])
        await _batch(options, "mkdir DailyImport", "cd DailyImport", f"put {source}/half users.csv.part")
        lines = [f"put -p {source}/{name} {name}" for name in files if name != "users.csv"]
        resume = [f"reput {source}/users.csv users.csv.part", "rename users.csv.part users.csv", "ls -la"]
        told = await _batch(options, "cd DailyImport", *lines, *resume, "-symlink users.csv x", "-df")
        assert "district" in told
        [fact] = await harbour.sealed()
    assert await harbour.read(fact, tmp_path / "into") == files


@pytest.mark.skipif(SFTP is None, reason="OpenSSH's client is not installed here")
async def test_opensshs_client_is_killed(harbour: Any, tools: Any, tmp_path: Path) -> None:
    """A client that is killed in the middle of a file leaves it unfinished in our eyes, not only in its own."""
    options, state = await _openssh(harbour, tmp_path)
    (tmp_path / "big").write_bytes(b"x" * 4_000_000)
    async with harbour.serve(watch=False), harbour.sftp(state, key=None, password=tools.password) as other:
        child = await asyncio.create_subprocess_exec(
            SFTP or "", *options, "-P", str(harbour.port), "-l", "4000", "-b", "-", "localhost",
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(f"put {tmp_path}/big users.csv\n".encode())
        await child.stdin.drain()
        await tools.until((harbour.incoming(state) / "users.csv").exists)
        await asyncio.sleep(0.3)
        child.kill()
        await child.wait()
        await tools.until(lambda: not harbour.spools.of(state.id)._handles)
        [[(one, _)]] = harbour.spools.of(state.id).look(0.0).values()
        assert (one.name, one.writing) == ("users.csv", True)
        assert one.size < 4_000_000
        assert await other.exists("users.csv")


async def _openssh(harbour: Any, folder: Path) -> tuple[list[str], IntegrationState]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = folder / "id"
    path.write_bytes(key.export_private_key())
    path.chmod(0o600)
    state: IntegrationState = await harbour.add()
    assert state.sftp is not None
    account = SftpAccount(
        username="openssh",
        password_hash=state.sftp.password_hash,
        public_keys=(key.export_public_key().decode().strip(),),
    )
    state = await harbour.tell(IntegrationState(**{**_fields(state), "sftp": account}))
    options = [
        *("-F", "none", "-i", str(path), "-o", "User=openssh", "-o", "IdentitiesOnly=yes"),
        *("-o", f"UserKnownHostsFile={folder / 'known'}", "-o", "StrictHostKeyChecking=accept-new"),
        *("-o", "BatchMode=yes", "-o", "HostName=127.0.0.1"),
    ]
    return options, state


async def _batch(options: list[str], *lines: str) -> str:
    child = await asyncio.create_subprocess_exec(
        SFTP or "", *options, "-b", "-", "localhost",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "HOME": "/nowhere"},
    )  # fmt: skip
    out, _ = await asyncio.wait_for(child.communicate("\n".join(lines).encode() + b"\n"), 60)
    assert child.returncode == 0, out.decode()
    return out.decode()


def _fields(state: IntegrationState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in state.__struct_fields__}
