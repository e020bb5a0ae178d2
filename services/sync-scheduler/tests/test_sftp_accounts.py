"""Accounts in the SFTP inbox (A2)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from homeroom.bus import Message
from homeroom.db import Database
from homeroom.messages import TENANCY, IntegrationState, SftpAccount, read_tenancy
from homeroom.secrets import verify_password
from homeroom.testing.tokens import TestIssuer, calling
from sync_scheduler.app import make_app
from sync_scheduler.settings import ApiSettings
from sync_scheduler.sftp_accounts import read_public_key
from sync_scheduler.ticking import Ticking

Read = Callable[[str], Awaitable[list[Message]]]


def _line(key: Any) -> str:
    line: bytes = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return line.decode()


ED25519 = _line(ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def told(ticking: Ticking, read: Read) -> Callable[[], Awaitable[list[SftpAccount | None]]]:
    """The accounts that were told of on `tenancy`, in order."""

    async def list_all() -> list[SftpAccount | None]:
        await ticking.send_due()
        states = [read_tenancy(message) for message in await read(TENANCY.name)]
        return [state.sftp for state in states if isinstance(state, IntegrationState)]

    return list_all


async def test_password(
    client: httpx2.AsyncClient, database: Database, fed: dict[str, Any], told: Callable[[], Awaitable[list[Any]]]
) -> None:
    """A password is made, shown once, kept only as a hash that the inbox can check, and is long enough to last."""
    path = f"/v1/integrations/{fed['id']}"
    answer = await client.post(f"{path}/sftp-account", json={"auth": "password"})
    made = answer.json()
    shown = (await client.get(path)).json()
    account = (await told())[-1]
    row = await database.fetchrow("SELECT * FROM integration")

    assert answer.status_code == 201
    assert re.fullmatch(r"hr-[a-z2-7]{12}", made["username"])
    assert (made["host"], made["port"], made["host_key_fingerprint"]) == ("issuer.test", 2222, None)
    assert re.fullmatch(r"([a-hjkmnp-z2-9]{4}-){6}[a-hjkmnp-z2-9]{4}", made["password"])
    assert shown["sftp"] == {"username": made["username"], "auth": "password"}
    assert verify_password(made["password"], account.password_hash)
    assert (account.username, account.public_keys) == (made["username"], ())
    assert row is not None
    assert made["password"] not in str(dict(row))


async def test_key(client: httpx2.AsyncClient, fed: dict[str, Any], told: Callable[[], Awaitable[list[Any]]]) -> None:
    """A district that brings its own key gets no password, and its key is told without its comment."""
    answer = await client.post(
        f"/v1/integrations/{fed['id']}/sftp-account", json={"auth": "key", "public_key": f"{ED25519} it@school\n"}
    )
    account = (await told())[-1]

    assert (answer.status_code, answer.json()["password"]) == (201, None)
    assert (account.password_hash, account.public_keys) == (None, (ED25519,))
    assert (await client.get(f"/v1/integrations/{fed['id']}")).json()["sftp"]["auth"] == "key"


async def test_rotation_and_end(
    client: httpx2.AsyncClient, fed: dict[str, Any], told: Callable[[], Awaitable[list[Any]]]
) -> None:
    """Made again the account keeps its name and takes another password; removed or deleted, nobody gets in."""
    path = f"/v1/integrations/{fed['id']}"
    first, second = [(await client.post(f"{path}/sftp-account", json={"auth": "password"})).json() for _ in range(2)]
    account = (await told())[-1]
    removed = [(await client.delete(f"{path}/sftp-account")).status_code for _ in range(2)]
    after_removal = (await told())[-1]
    third = (await client.post(f"{path}/sftp-account", json={"auth": "password"})).json()
    back = (await told())[-1]
    await client.delete(path)
    after_deletion = (await told())[-1]
    refused = await client.post(f"{path}/sftp-account", json={"auth": "password"})

    assert first["username"] == second["username"] == third["username"]
    assert not verify_password(first["password"], account.password_hash)
    assert verify_password(second["password"], account.password_hash)
    assert (removed, after_removal) == ([204, 204], None)
    assert back is not None
    assert after_deletion is None
    assert (refused.status_code, refused.json()["code"]) == (409, "INTEGRATION_DELETED")


async def test_only_where_files_are_taken(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """An integration that is asked over the network has no inbox."""
    path = f"/v1/integrations/{integration['id']}/sftp-account"
    answers = [await client.post(path, json={"auth": "password"}), await client.delete(path)]

    assert [(one.status_code, one.json()["code"]) for one in answers] == [(409, "PROVIDER_UNFIT")] * 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"auth": "none"}, "body.auth"),
        ({"auth": "key"}, "body"),
        ({"auth": "password", "public_key": ED25519}, "body"),
        ({"auth": "key", "public_key": "ssh-ed25519 AAAA"}, "body.public_key"),
        ({"auth": "key", "public_key": f"{ED25519}\n{ED25519}"}, "body.public_key"),
        ({"auth": "key", "public_key": f'command="rm" {ED25519}'}, "body.public_key"),
        ({"auth": "password", "password": "mine"}, "body.password"),
    ],
)
async def test_wrong_bodies(client: httpx2.AsyncClient, fed: dict[str, Any], body: dict[str, Any], field: str) -> None:
    """What is no way to sign in is refused by name, and no account is made."""
    path = f"/v1/integrations/{fed['id']}"
    answer = await client.post(f"{path}/sftp-account", json=body)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert (await client.get(path)).json()["sftp"] is None


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_curves(curve: ec.EllipticCurve) -> None:
    """The curves OpenSSH knows are taken."""
    line = _line(ec.generate_private_key(curve))

    assert read_public_key(f"{line} comment with spaces") == line


def test_rsa() -> None:
    """RSA keys are taken from 3072 bits on, and shorter ones refused with their length."""
    long, short = (_line(rsa.generate_private_key(65537, bits)) for bits in (3072, 2048))

    assert read_public_key(long) == long
    with pytest.raises(ValueError, match="2048 bits"):
        read_public_key(short)


def test_other_keys() -> None:
    """Keys of a type nobody should use, of another than they say, private and damaged ones are refused."""
    wrong = ED25519.replace("ssh-ed25519", "ssh-rsa")
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----"
    for line, why in (
        ("ssh-dss AAAAB3NzaC1kc3MAAACB", "type"),
        (wrong, "can't be read"),
        (ED25519[:-4], "can't be read"),
        (private, "private key"),
        ("", "one-line form"),
        (ED25519.replace("ssh-ed25519", "sk-ssh-ed25519@openssh.com"), "type"),
    ):
        with pytest.raises(ValueError, match=why):
            read_public_key(line)


async def test_where_it_is_and_who_may(
    settings: ApiSettings, issuer: TestIssuer, fed: dict[str, Any], unknown_id: str
) -> None:
    """The answer names host, port and host key as the installation says, to whoever may edit the integration."""
    set_otherwise = {"sftp_host": "files.example.org", "sftp_port": 22, "sftp_host_key_fingerprint": "SHA256:abc"}
    app = make_app(settings.model_copy(update=set_otherwise), verifier=issuer.verifier)
    path = f"/v1/integrations/{fed['id']}/sftp-account"
    answers = []
    for scope, organization in (
        ("integrations.write", fed["organization_id"]),
        ("integrations.read", fed["organization_id"]),
        ("integrations.write", unknown_id),
    ):
        async with calling(app, issuer.token([scope], organization_id=organization)) as client:
            answers.append(await client.post(path, json={"auth": "password"}))

    assert [answer.status_code for answer in answers] == [201, 403, 404]
    made = answers[0].json()
    assert (made["host"], made["port"], made["host_key_fingerprint"]) == ("files.example.org", 22, "SHA256:abc")
