"""SAML trust is pinned: metadata that says something else is held for approval, and what runs out is warned of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from connecting import make_certificate, make_connection
from roster_stand_in import District

from homeroom.bus import Outgoing
from homeroom.clock import MovingClock
from homeroom.codes import Code
from homeroom.secrets import SealingKeys, generate_key
from sso.connections.refreshing import MetadataRefresh
from sso.connections.saml_configs import SamlConfigs
from sso.connections.sealing import name_key, reseal
from sso.connections.telling import Telling
from sso.connections.warnings import Facts, list_told, warn
from sso.settings import Settings

if TYPE_CHECKING:
    from conftest import Service

NOW = datetime(2026, 9, 1, 6, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class PlayedMetadata:
    """A server with one document: an identity provider's metadata, changed in place."""

    url: str = ""
    entity_id: str = "https://idp.test"
    sso_url: str = "https://idp.test/sso"
    certificates: list[str] = field(default_factory=lambda: [make_certificate()])
    instead: str | None = None
    """What is served instead of metadata."""

    def write(self) -> str:
        """The document."""
        keys = "".join(
            f"<m:KeyDescriptor><d:KeyInfo><d:X509Data><d:X509Certificate>{''.join(pem.splitlines()[1:-1])}"
            "</d:X509Certificate></d:X509Data></d:KeyInfo></m:KeyDescriptor>"
            for pem in self.certificates
        )
        return (
            '<m:EntityDescriptor xmlns:m="urn:oasis:names:tc:SAML:2.0:metadata" '
            f'xmlns:d="http://www.w3.org/2000/09/xmldsig#" entityID="{self.entity_id}">'
            '<m:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
            f'{keys}<m:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" '
            f'Location="{self.sso_url}"/></m:IDPSSODescriptor></m:EntityDescriptor>'
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        await reader.readuntil(b"\r\n\r\n")
        body = (self.write() if self.instead is None else self.instead).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def playing_metadata() -> AsyncIterator[PlayedMetadata]:
    """Such a server on loopback."""
    played = PlayedMetadata()
    server = await asyncio.start_server(played.serve, "127.0.0.1", 0)
    played.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metadata"
    try:
        yield played
    finally:
        server.close()


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    """Settings with which providers may be on loopback."""
    settings.allow_private_endpoints = True
    return settings


@pytest.fixture
async def metadata() -> AsyncIterator[PlayedMetadata]:
    """A played server with metadata."""
    async with playing_metadata() as played:
        yield played


async def create(service: Service, district: District, **saml: Any) -> httpx2.Response:
    """What is answered to whoever makes a SAML connection."""
    place = {"organization_id": str(district.organization_id), "integration_id": str(district.integration_id)}
    body = {"kind": "saml", "name": "ADFS", "saml": saml, **place}
    return await service.client.post("/v1/connections", json=body, headers=await service.boss())


async def read(service: Service, path: str) -> Any:
    """What a path answers."""
    return (await service.client.get(path, headers=await service.boss())).json()


async def read_again(service: Service, settings: Settings) -> None:
    """What the worker does a day later."""
    await service.database.fetch("UPDATE metadata_reading SET due_at = now()")
    configs = SamlConfigs(service.app.state.fetching, service.app.state.clock, allow_private=True)
    assert settings.allow_private_endpoints
    await MetadataRefresh(service.database, configs).read_due()


async def test_attack_27_nobody_is_trusted_without_a_certificate(
    service: Service, district: District, metadata: PlayedMetadata
) -> None:
    """Without a certificate, or with none that is in force, a connection can't be made: by fields, file or address."""
    metadata.certificates = []
    fields = {"entity_id": "https://idp.test", "sso_url": "https://idp.test/sso"}
    old = make_certificate(begins_days=-900, ends_days=-600)
    refused = [
        await create(service, district, **fields),
        await create(service, district, **fields, certificates=[]),
        await create(service, district, **fields, certificates=["not a certificate"]),
        await create(service, district, **fields, certificates=[old]),
        await create(service, district, metadata=metadata.write()),
        await create(service, district, metadata_url=metadata.url),
        await create(service, district, metadata_url=metadata.url, **fields, certificates=[make_certificate()]),
    ]

    assert [one.status_code for one in refused] == [422] * len(refused)
    assert {one.json()["code"] for one in refused} == {Code.REQUEST_INVALID, Code.METADATA_REFUSED}
    assert await service.database.fetchval("SELECT count(*) FROM upstream") == 0
    made = (await create(service, district, **fields, certificates=[make_certificate()])).json()
    emptied = await service.client.patch(
        f"/v1/connections/{made['id']}", json={"saml": {"certificates": []}}, headers=await service.boss()
    )
    assert emptied.status_code == 422


async def test_attack_28_metadata_that_is_hostile_is_refused(
    service: Service, district: District, metadata: PlayedMetadata
) -> None:
    """A document type, addresses that lead to files, and what is no metadata never become a connection."""
    for hostile in (
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>{metadata.write()}',
        metadata.write().replace("https://idp.test/sso", "file:///etc/passwd"),
        metadata.write().replace("https://idp.test/sso", "javascript:alert(1)"),
        metadata.write().replace("IDPSSODescriptor", "SPSSODescriptor"),
        "<html></html>",
        "nonsense",
    ):
        metadata.instead = hostile
        for refused in (
            await create(service, district, metadata=hostile),
            await create(service, district, metadata_url=metadata.url),
        ):
            assert (refused.status_code, refused.json()["code"]) == (422, Code.METADATA_REFUSED), hostile
            assert "passwd" not in refused.text


async def test_attack_28_changed_metadata_waits_for_approval(
    service: Service, settings: Settings, district: District, metadata: PlayedMetadata
) -> None:
    """Another name, key or address, even one more certificate, counts only when somebody approves it."""
    made = (await create(service, district, metadata_url=metadata.url)).json()
    path = f"/v1/connections/{made['id']}"
    [pinned] = made["saml"]["certificates"]
    await read_again(service, settings)
    assert (await read(service, f"{path}/metadata-change"))["code"] == Code.NOT_FOUND

    metadata.certificates.append(make_certificate("idp-next"))
    metadata.entity_id = "https://evil.test"
    await read_again(service, settings)
    shown = await read(service, path)
    change = await read(service, f"{path}/metadata-change")
    assert shown["saml"]["certificates"] == [pinned]
    assert [one["code"] for one in shown["warnings"]] == [Code.METADATA_CHANGED]
    assert [one["field"] for one in change["differences"]] == ["entity_id", "certificate"]
    found = await service.launching.upstreams.find(made["id"], fresh=True)
    assert found is not None
    assert found.saml.entity_id == "https://idp.test"

    headers = await service.boss()
    stale = await service.client.post(f"{path}/metadata-change/approve", json={"hash": "0" * 64}, headers=headers)
    assert (stale.status_code, stale.json()["code"]) == (409, Code.METADATA_CHANGE_GONE)
    known = {"hash": change["hash"]}
    assert (await service.client.post(f"{path}/metadata-change/discard", json=known, headers=headers)).is_success
    await read_again(service, settings)
    assert (await read(service, path))["warnings"] == []

    metadata.entity_id = "https://idp.test"
    await read_again(service, settings)
    change = await read(service, f"{path}/metadata-change")
    known = {"hash": change["hash"]}
    assert (await service.client.post(f"{path}/metadata-change/approve", json=known, headers=headers)).is_success
    shown = await read(service, path)
    assert (len(shown["saml"]["certificates"]), shown["warnings"]) == (2, [])
    assert shown["saml"]["certificates"][0] == pinned
    await read_again(service, settings)
    assert (await read(service, f"{path}/metadata-change"))["code"] == Code.NOT_FOUND


async def test_trust_is_entered_anew_by_whoever_may(service: Service, district: District) -> None:
    """An admin adds a certificate, takes single logout back, or brings a new document; the rest stays as it was."""
    first, second = make_certificate(), make_certificate("idp-next")
    fields = {"entity_id": "https://idp.test", "sso_url": "https://idp.test/sso", "slo_url": "https://idp.test/slo"}
    made = (await create(service, district, **fields, certificates=[first], person_attribute="id")).json()
    path = f"/v1/connections/{made['id']}"
    document = PlayedMetadata(entity_id="https://new.test", certificates=[second]).write()
    shown = []
    for change in ({"certificates": [first, second]}, {"slo_url": None}, {"metadata": document}, {"encrypted": True}):
        changed = await service.client.patch(path, json={"saml": change}, headers=await service.boss())
        assert changed.status_code == 200, changed.text
        saml = changed.json()["saml"]
        assert saml["person_attribute"] == "id"
        shown.append((saml["entity_id"], saml["slo_url"], len(saml["certificates"]), saml["encrypted"]))
    assert shown == [
        ("https://idp.test", "https://idp.test/slo", 2, False),
        ("https://idp.test", None, 2, False),
        ("https://new.test", None, 1, False),
        ("https://new.test", None, 1, True),
    ]
    refused = await service.client.patch(path, json={"saml": {"sso_url": None}}, headers=await service.boss())
    assert refused.status_code == 200  # nothing was entered, so nothing changes
    audit = await read(service, f"/v1/sign-in/audit?subject=connection:{made['id']}")
    assert ["trust" in one["detail"] for one in reversed(audit["items"])] == [True, True, True, True, False, False]


async def test_metadata_that_cannot_be_read_changes_nothing(
    service: Service, settings: Settings, district: District, metadata: PlayedMetadata
) -> None:
    """Sign-in goes on with what was accepted; after a day the admin is told that nobody looks any more."""
    made = (await create(service, district, metadata_url=metadata.url)).json()
    metadata.instead = "<html>Down for maintenance</html>"
    await read_again(service, settings)
    await service.database.fetch("UPDATE metadata_reading SET failing_since = failing_since - interval '90 days'")
    shown = await read(service, f"/v1/connections/{made['id']}")
    assert shown["saml"]["certificates"] == made["saml"]["certificates"]
    listed = await read(service, "/v1/connections?state=warned")
    assert [one["id"] for one in listed["items"]] == [made["id"]]
    assert (await service.database.fetchrow("SELECT problem FROM metadata_reading"))["problem"]  # type: ignore[index]  # there is one

    metadata.instead = None
    await read_again(service, settings)
    assert (await read(service, f"/v1/connections/{made['id']}"))["warnings"] == []


async def test_our_key_for_encrypted_assertions_is_made_and_sealed(service: Service, district: District) -> None:
    """A connection with encryption gets a key of its own; it is sealed, and stays when other settings change."""
    fields = {"entity_id": "https://idp.test", "sso_url": "https://idp.test/sso", "certificates": [make_certificate()]}
    made = (await create(service, district, **fields, encrypted=True)).json()
    first = await service.launching.upstreams.find(made["id"], fresh=True)
    changed = await service.client.patch(
        f"/v1/connections/{made['id']}", json={"saml": {"person_attribute": "id"}}, headers=await service.boss()
    )
    second = await service.launching.upstreams.find(made["id"], fresh=True)

    assert changed.json()["saml"]["person_attribute"] == "id"
    assert first is not None
    assert second is not None
    assert "PRIVATE KEY" in (first.private_key or "")
    assert (first.private_key, first.saml.encryption_certificate) == (
        second.private_key,
        second.saml.encryption_certificate,
    )
    assert "PRIVATE" not in changed.text + str(
        await service.database.fetchval("SELECT jsonb_agg(t) FROM upstream AS t")
    )


def test_warnings_say_what_and_when() -> None:
    """Nothing is warned of that is well; each trouble is, once, and what is urgent comes first."""
    assert warn(Facts(certificate_ends=[NOW + 61 * DAY], sealed=["key.x", None], key_id="key"), NOW) == []
    facts = Facts(
        certificate_ends=[NOW + 300 * DAY, NOW - DAY, NOW + 59 * DAY],
        sha1_until=NOW + DAY,
        change_found_at=NOW,
        failing_since=NOW - 2 * DAY,
        problem="no answer.",
        sealed=["old.x"],
        key_id="key",
    )
    assert [one.code for one in warn(facts, NOW)] == [
        Code.CERTIFICATE_EXPIRED,
        Code.CERTIFICATE_EXPIRES,
        Code.METADATA_CHANGED,
        Code.METADATA_UNREAD,
        Code.WEAK_SIGNATURES,
        Code.SEALED_TO_OLD_KEY,
    ]


def test_a_certificate_is_told_of_four_times() -> None:
    """Sixty, fourteen and two days ahead, and when it has run out, unless another one is in force by then."""
    end = NOW + 61 * DAY
    told = [list_told([end], NOW + days * DAY) for days in range(100)]
    assert len({one for due in told for one in due}) == 4
    assert told[0] == []
    assert [code for code, _ in told[-1]] == [Code.CERTIFICATE_EXPIRED]
    assert list_told([end, end + 900 * DAY], end + DAY) == []


class KeptBus:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []

    async def publish(self, *messages: Outgoing) -> None:
        """Keep the messages."""
        self.published.extend(messages)


async def test_warnings_are_told_once(service: Service, settings: Settings) -> None:
    """A certificate that runs out is said to the scheduler once for each stage, whichever worker says it."""
    clock = MovingClock(datetime.now(UTC))
    await make_connection(service.database, settings, kind="saml")
    await service.database.fetch("UPDATE upstream SET certificate_ends = ARRAY[now() + interval '50 days']")
    bus = KeptBus()
    telling = Telling(service.database, bus, clock)  # type: ignore[arg-type]  # publish is all it uses
    assert [await telling.tell(), await telling.tell()] == [1, 0]
    await service.database.fetch("UPDATE upstream SET certificate_ends = ARRAY[now() + interval '10 days']")
    assert await telling.tell() == 1
    assert [b"CERTIFICATE_EXPIRES" in one.value for one in bus.published] == [True, True]
    assert len({one.key for one in bus.published}) == 1


async def test_secrets_are_sealed_to_the_key_in_use(service: Service, settings: Settings) -> None:
    """When the service's key is exchanged, the worker seals anew what is sealed to the old one; nothing is lost."""
    upstream, _ = await make_connection(service.database, settings, secret="kept-through-it-all")
    old = settings.sso_key.get_secret_value()
    keys = SealingKeys(f"{generate_key()[0]},{old}")
    assert [await reseal(service.database, keys), await reseal(service.database, keys)] == [1, 0]
    sealed = await service.database.fetchval("SELECT sealed_secret FROM upstream WHERE id = $1", upstream)

    assert sealed.startswith(f"{name_key(keys)}.")
    assert keys.open(f"upstream-secret:{upstream}", sealed) == "kept-through-it-all"
