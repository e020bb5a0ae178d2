"""The inbox as a process: settings, host keys, readiness, logs, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncssh
import httpx2
import pytest
from pydantic import SecretStr

from homeroom.bus.postgres import PostgresBus
from homeroom.messages import SYNC_FACTS, TOPICS, IntegrationState, UploadReceived, read_fact, to_tenancy
from homeroom.settings import SettingsError
from homeroom_local.stack import free_port
from provider_gateway.inbox.host_key import fingerprints, make_host_keys, split_host_keys
from provider_gateway.inbox.process import _own, check_inbox, make_rules
from provider_gateway.settings import GatewaySettings


def test_host_keys(tmp_path: Path) -> None:
    """New keys are of two kinds, are what OpenSSH reads, and have the fingerprints that it shows."""
    text = make_host_keys()
    told = fingerprints(text)
    assert [one.split()[0] for one in told] == ["ssh-ed25519", "ecdsa-sha2-nistp256"]
    for key, shown in zip(split_host_keys(text), told, strict=True):
        path = tmp_path / "key"
        path.unlink(missing_ok=True)
        path.write_text(key)
        path.chmod(0o600)
        said = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout
        assert shown.split()[1] in said
    assert make_host_keys() != text


def test_what_an_inbox_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place for uploads or a host key the inbox does not start, and says which setting is missing."""
    with pytest.raises(SettingsError, match="HOMEROOM_UPLOADS_URL is not set"):
        check_inbox(GatewaySettings(issuer="http://issuer.test"))
    for key in ("", "nonsense", "-----BEGIN OPENSSH PRIVATE KEY-----\nAA\n-----END OPENSSH PRIVATE KEY-----"):
        settings = GatewaySettings(issuer="http://issuer.test", uploads_url="/uploads", sftp_host_key=SecretStr(key))
        with pytest.raises(SettingsError, match="HOMEROOM_SFTP_HOST_KEY"):
            check_inbox(settings)
    one = make_host_keys()
    monkeypatch.setenv("HOMEROOM_SFTP_HOST_KEY", one)
    monkeypatch.setenv("HOMEROOM_ISSUER", "http://issuer.test")
    monkeypatch.setenv("HOMEROOM_UPLOADS_URL", "/uploads")
    settings = GatewaySettings.load()
    assert check_inbox(settings) == fingerprints(one)
    assert (settings.spool_folder, make_rules(settings).rest.total_seconds()) == (Path("/uploads/inbox"), 30)
    assert "PRIVATE" not in str(settings.describe())


async def test_one_inbox_has_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process waits for the first to end, and gives up with a word if it does not."""
    from provider_gateway.inbox import process

    monkeypatch.setattr(process, "OWN_SECONDS", 0.5)
    async with _own(tmp_path / "inbox"):
        with pytest.raises(SettingsError, match="Another process serves the inbox"):
            async with _own(tmp_path / "inbox"):
                pass
    async with _own(tmp_path / "inbox") as folder:
        assert folder.is_dir()


async def test_the_process(database_url: str, tmp_path: Path, tools: Any) -> None:
    """`python -m provider_gateway inbox` takes a set, announces it, logs no password or name, and ends in order."""
    port, health = free_port(), free_port()
    (tmp_path / "key").write_text(tools.host_key)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")} | {
        "HOMEROOM_DATABASE_URL": database_url,
        "HOMEROOM_ISSUER": "http://issuer.test",
        "HOMEROOM_UPLOADS_URL": str(tmp_path / "uploads"),
        "HOMEROOM_INBOX_REST_SECONDS": "0.3",
        "HOMEROOM_SFTP_PORT": str(port),
        "HOMEROOM_SFTP_HOST_KEY_FILE": str(tmp_path / "key"),
        "HOMEROOM_HEALTH_PORT": str(health),
        "HOMEROOM_LOG_LEVEL": "DEBUG",
    }
    async with PostgresBus.open(database_url) as bus:
        await bus.ensure_topics(TOPICS)
        harbour = tools.harbour(tmp_path / "unused", port=port)
        state: IntegrationState = await harbour.add()
        await bus.publish(to_tenancy(state))
        facts: list[Any] = []

        async def hear(messages: Any) -> None:
            facts.extend(map(read_fact, messages))

        consumer = bus.consumer([SYNC_FACTS.name], hear, group=None)
        hearing = asyncio.create_task(consumer.run())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "provider_gateway", "inbox"), env=environment, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        logging = asyncio.create_task(process.stderr.read())
        try:
            async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(30):
                while not await _answers(client, f"http://127.0.0.1:{health}/readyz"):
                    await asyncio.sleep(0.05)
                while not await _listens(port):
                    await asyncio.sleep(0.05)
            with pytest.raises(asyncssh.PermissionDenied):
                async with harbour.connect(state, password="wrong-password"):
                    pass
            async with harbour.sftp(state) as client:
                await tools.put(client, tools.make_set())
                await tools.until(lambda: facts)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            if process.returncode is None:
                process.kill()
            await consumer.stop()
            await hearing
        logs = (await logging).decode()
    assert isinstance(facts[0], UploadReceived)
    assert fingerprints(tools.host_key)[0] in logs
    assert state.sftp is not None
    for secret in (tools.password, "wrong-password", state.sftp.password_hash, "PRIVATE KEY", state.sftp.username):
        assert secret is not None
        assert secret not in logs
    assert '"level":"error"' not in logs


async def _answers(client: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx2.TransportError:
        return False


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
