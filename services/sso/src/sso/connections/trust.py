"""What is trusted of a SAML identity provider: its name, its addresses and its certificates, as they were accepted."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Self

import msgspec

from homeroom.endpoints import object_to
from sso.connections.upstreams import SamlConfig
from sso.saml.certificates import CertificateError, find_expiry, fingerprint, read_certificate, write_certificate
from sso.saml.metadata import MetadataError, read_metadata


class TrustError(ValueError):
    """A provider that can't be trusted like this; the text says why, for an admin, and holds nothing of a document."""


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is trusted of a provider; see `SamlConfig`."""

    entity_id: str
    sso_url: str
    slo_url: str | None
    certificates: tuple[str, ...]

    @classmethod
    def of(cls, config: SamlConfig) -> Self:
        """What a configuration trusts."""
        return cls(config.entity_id, config.sso_url, config.slo_url, config.certificates)

    @property
    def hash(self) -> str:
        """SHA-256 in hexadecimal: the same for the same trust, whatever order its certificates come in."""
        sorted_ = msgspec.structs.replace(self, certificates=tuple(sorted(self.certificates)))
        return hashlib.sha256(msgspec.json.encode(sorted_)).hexdigest()

    @property
    def ends(self) -> list[datetime]:
        """When each certificate runs out."""
        return [find_expiry(read_certificate(one)) for one in self.certificates]

    def put_into(self, config: SamlConfig) -> SamlConfig:
        """The configuration with this trust in the place of its own."""
        return msgspec.structs.replace(config, **msgspec.structs.asdict(self))


class Difference(msgspec.Struct, frozen=True):
    """Something that metadata says otherwise than was accepted. Certificates are told by their fingerprints."""

    field: str
    accepted: str | None
    found: str | None


def read_document(document: bytes, entity_id: str | None, now: datetime, *, allow_private: bool) -> Trust:
    """What a metadata document would have us trust. Raises `TrustError`."""
    try:
        metadata = read_metadata(document, entity_id)
    except MetadataError as error:
        raise TrustError(f"{error}.") from None
    if metadata.valid_until is not None and metadata.valid_until <= now:
        raise TrustError("the document says that it is not valid any more.")
    trust = Trust(metadata.entity_id, metadata.sso_url, metadata.slo_url, metadata.certificates)
    return check(trust, now, allow_private=allow_private)


def enter(entered: Trust, now: datetime, *, allow_private: bool) -> Trust:
    """What an admin entered field by field. Raises `TrustError`."""
    try:
        pinned = tuple(dict.fromkeys(write_certificate(read_certificate(one)) for one in entered.certificates))
    except CertificateError as error:
        raise TrustError(f"{error}.") from None
    return check(msgspec.structs.replace(entered, certificates=pinned), now, allow_private=allow_private)


def check(trust: Trust, now: datetime, *, allow_private: bool) -> Trust:
    """The trust, if its addresses may be used and one of its certificates is in force. Raises `TrustError`."""
    for name, url in (("single sign-on address", trust.sso_url), ("single logout address", trust.slo_url)):
        objection = None if url is None else object_to(url, allow_private=allow_private, allow_query=True)
        if objection is not None:
            raise TrustError(f"its {name} can't be used: {objection}.")
    if all(end <= now for end in trust.ends):
        raise TrustError("no certificate of the provider is in force any more.")
    return trust


def compare(accepted: Trust, found: Trust) -> list[Difference]:
    """How what was found differs from what was accepted; empty if it does not."""
    differences = [
        Difference(name, getattr(accepted, name), getattr(found, name))
        for name in ("entity_id", "sso_url", "slo_url")
        if getattr(accepted, name) != getattr(found, name)
    ]
    differences += [Difference("certificate", _name(one), None) for one in _missing(accepted, found)]
    differences += [Difference("certificate", None, _name(one)) for one in _missing(found, accepted)]
    return differences


def describe_certificate(pem: str) -> dict[str, Any]:
    """A certificate as admins compare it: its fingerprint, and from when to when it is in force."""
    certificate = read_certificate(pem)
    return {
        "fingerprint": fingerprint(certificate),
        "begins_at": certificate.not_valid_before_utc,
        "ends_at": find_expiry(certificate),
    }


def _missing(those: Trust, these: Trust) -> list[str]:
    return [one for one in those.certificates if one not in these.certificates]


def _name(pem: str) -> str:
    return fingerprint(read_certificate(pem))
