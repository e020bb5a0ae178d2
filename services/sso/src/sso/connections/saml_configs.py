"""From what an admin entered to the configuration of a SAML identity provider, and what of it is sealed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.problems import Problem
from sso.connections import trust
from sso.connections.bodies import SamlBody, object_to_exception
from sso.connections.configs import check, judge, refuse, refuse_if
from sso.connections.trust import Trust, TrustError
from sso.connections.upstreams import SamlConfig
from sso.saml.metadata import MOST_BYTES
from sso.upstream.fetching import Fetching, NotFetched

FIELDS: Final = ("entity_id", "sso_url", "slo_url", "certificates")
"""What says whom we trust, where no metadata does."""
TRUST: Final = frozenset({*FIELDS, "metadata_url", "metadata"})
OUR_KEY_BITS: Final = 3072
OUR_CERTIFICATE_DAYS: Final = 3650
"""Our certificate only carries a public key that portals encrypt with; nobody's trust ends with it."""


class SamlConfigs:
    """Makes configurations; metadata that is named by its address is read for it."""

    def __init__(self, fetching: Fetching, clock: Clock, *, allow_private: bool) -> None:
        self._fetching = fetching
        self._clock = clock
        self._allow_private = allow_private

    async def enter(self, body: SamlBody) -> SamlConfig:
        """A configuration as it was entered. Problems REQUEST_INVALID, ENDPOINT_REFUSED, METADATA_REFUSED."""
        refuse_if(object_to_exception(body.allow_sha1_until, self._clock.now()))
        entered = await self._find_trust(body)
        policy = body.model_dump(exclude=set(TRUST), exclude_none=True)
        return SamlConfig(metadata_url=body.metadata_url, **msgspec.structs.asdict(entered), **policy)

    async def change(self, before: SamlConfig, wish: Mapping[str, Any]) -> SamlConfig:
        """A configuration with some fields entered anew; whoever is trusted now is so by this. Problems as `enter`."""
        stored: dict[str, Any] = msgspec.to_builtins(before)
        kept = {name: value for name, value in stored.items() if name not in TRUST and name in SamlBody.model_fields}
        again = {name for name in TRUST & wish.keys() if wish[name] is not None or name == "slo_url"}
        if again and not again & {"metadata_url", "metadata"}:
            kept |= {name: value for name, value in stored.items() if name in FIELDS}
        body = check(SamlBody, kept, wish, "saml")
        refuse_if(object_to_exception(body.allow_sha1_until, self._clock.now()))
        entered = await self._find_trust(body) if again else Trust.of(before)
        url = before.metadata_url if not {"metadata_url", "metadata"} & wish.keys() else body.metadata_url
        policy = body.model_dump(exclude=set(TRUST), exclude_none=True)
        ours = before.encryption_certificate
        return SamlConfig(metadata_url=url, encryption_certificate=ours, **msgspec.structs.asdict(entered), **policy)

    async def read(self, url: str, entity_id: str | None) -> Trust:
        """What metadata at an address would have us trust. Raises `TrustError`."""
        return await self._read(await self._fetch(url), entity_id)

    async def read_again(self, url: str, entity_id: str) -> Trust:
        """What metadata says now, whatever its provider calls itself; of several the one that was accepted.

        Raises `TrustError`.
        """
        document = await self._fetch(url)
        try:
            return await self._read(document, None)
        except TrustError:
            return await self._read(document, entity_id)

    async def _fetch(self, url: str) -> bytes:
        try:
            return await self._fetching.get_bytes(url, MOST_BYTES, accept="application/samlmetadata+xml, text/xml")
        except NotFetched as error:
            raise TrustError(error.detail) from None

    async def _read(self, document: bytes, entity_id: str | None) -> Trust:
        now = self._clock.now()
        return await asyncio.to_thread(trust.read_document, document, entity_id, now, allow_private=self._allow_private)

    async def _find_trust(self, body: SamlBody) -> Trust:
        by_fields = body.sso_url is not None or body.certificates is not None
        ways = [body.metadata_url is not None, body.metadata is not None, by_fields]
        if sum(ways) != 1:
            raise refuse([("saml", "give either metadata_url, or metadata, or entity_id, sso_url and certificates")])
        judge({"metadata_url": body.metadata_url}, "saml", allow_private=self._allow_private)
        try:
            if body.metadata_url is not None:
                return await self.read(body.metadata_url, body.entity_id)
            if body.metadata is not None:
                return await self._read(body.metadata.encode(errors="surrogatepass"), body.entity_id)
            if body.entity_id is None or body.sso_url is None or not body.certificates:
                raise refuse([("saml", "without metadata give entity_id, sso_url and at least one certificate")])
            entered = Trust(body.entity_id, body.sso_url, body.slo_url, body.certificates)
            return trust.enter(entered, self._clock.now(), allow_private=self._allow_private)
        except TrustError as error:
            raise Problem(Code.METADATA_REFUSED, status=422, detail=f"Not accepted: {error}") from None

    async def make_key(self) -> tuple[str, str]:
        """A new private key of ours, and a certificate with its public half, both PEM; off the event loop."""
        return await asyncio.to_thread(self._make_key)

    def _make_key(self) -> tuple[str, str]:
        key = rsa.generate_private_key(65537, OUR_KEY_BITS)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Homeroom")])
        now = self._clock.now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=OUR_CERTIFICATE_DAYS))
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()
