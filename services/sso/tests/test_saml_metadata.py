"""Metadata and certificates of identity providers: what is understood, and what is refused in words for an admin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from played_idp import DS, NOW, bare, certify, make_ec, make_rsa

from sso.saml.certificates import CertificateError, find_expiry, fingerprint, holds_at, read_certificate
from sso.saml.metadata import MetadataError, read_metadata

MD = "urn:oasis:names:tc:SAML:2.0:metadata"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
FIRST = certify(make_rsa("idp"))
SECOND = certify(make_ec("idp"))


def key(pem: str, use: str | None = "signing") -> str:
    """A KeyDescriptor."""
    said = "" if use is None else f' use="{use}"'
    return (
        f'<KeyDescriptor{said}><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data><ds:X509Certificate>\n{bare(pem)}\n'
        "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></KeyDescriptor>"
    )


def service(name: str, binding: str = REDIRECT, location: str = "https://idp.test/sso", more: str = "") -> str:
    """An endpoint."""
    return f'<{name} Binding="{binding}" Location="{location}"{more}/>'


def entity(
    keys: str = key(FIRST),
    services: str = service("SingleSignOnService"),
    *,
    entity_id: str = "https://idp.test/metadata",
    head: str = "",
    role: str = "",
    protocol: str = "urn:oasis:names:tc:SAML:2.0:protocol",
) -> str:
    """Metadata of one provider."""
    return (
        f'<EntityDescriptor xmlns="{MD}" entityID="{entity_id}"{head}><IDPSSODescriptor{role} '
        f'protocolSupportEnumeration="{protocol}">{keys}{services}</IDPSSODescriptor></EntityDescriptor>'
    )


def test_metadata_is_understood() -> None:
    """Addresses, certificates and the end are read, whatever stands around them."""
    services = service("SingleLogoutService", POST, "https://idp.test/post") + service(
        "SingleLogoutService", location="https://idp.test/slo"
    )
    services += service("SingleSignOnService", POST, "https://idp.test/post") + service("SingleSignOnService")
    text = entity(
        key(FIRST) + key(SECOND) + key(FIRST) + key(certify(make_rsa("other")), "encryption"),
        services,
        head=' validUntil="2027-01-01T00:00:00Z"',
        role=' validUntil="2026-12-01T00:00:00+01:00" WantAuthnRequestsSigned="true"',
    )
    found = read_metadata(b"<!-- ours -->" + text.encode())
    assert found.entity_id == "https://idp.test/metadata"
    assert (found.sso_url, found.slo_url) == ("https://idp.test/sso", "https://idp.test/slo")
    assert [bare(pem) for pem in found.certificates] == [bare(FIRST), bare(SECOND)]
    assert found.valid_until == datetime(2026, 11, 30, 23, tzinfo=UTC)
    assert found.wants_signed_requests


def test_logout_elsewhere_is_passed_over() -> None:
    """A logout service that wants answers at another address is as none, since a connection keeps one address."""
    more = ' ResponseLocation="https://idp.test/other"'
    services = service("SingleSignOnService") + service("SingleLogoutService", more=more)
    assert read_metadata(entity(services=services).encode()).slo_url is None


def test_one_of_several_providers_is_read() -> None:
    """Of a federation's document the provider that is named is read, and one that is not named is not guessed."""
    others = "".join(entity(entity_id=f"https://idp{n}.test") for n in range(3))
    text = f'<EntitiesDescriptor xmlns="{MD}"><EntitiesDescriptor>{others}</EntitiesDescriptor></EntitiesDescriptor>'
    assert read_metadata(text.encode(), "https://idp1.test").entity_id == "https://idp1.test"
    for named, why in ((None, "several"), ("https://idp9.test", "does not have")):
        with pytest.raises(MetadataError, match=why):
            read_metadata(text.encode(), named)


def test_attack_28_a_key_without_use_signs() -> None:
    """A key without `use` serves for signing, so a provider that has only such keys is still held to its signatures."""
    assert len(read_metadata(entity(key(FIRST, None)).encode()).certificates) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<!DOCTYPE x>" + entity(), "document type"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + entity(), "document type"),
        ("<html/>", "no SAML 2.0 metadata"),
        ("", "well-formed"),
        (entity(""), "no certificate"),
        (entity(key(FIRST, "encryption")), "no certificate"),
        (entity(key(FIRST, "Signing")), "a use that"),
        (entity(key("AAAA")), "not a certificate"),
        (entity(services=""), "no single sign-on"),
        (entity(services=service("SingleSignOnService", POST)), "no single sign-on"),
        (entity(services=service("SingleSignOnService", location="file:///etc/passwd")), "no web address"),
        (entity(services=service("SingleSignOnService", location="javascript:alert(1)")), "no web address"),
        (entity(services=service("SingleSignOnService", location="https://ok@evil.test/")), "no web address"),
        (entity(services=service("SingleSignOnService", location="https://idp.test:x/")), "no web address"),
        (entity(services=service("SingleSignOnService", location="https://idp.test/ x")), "no web address"),
        (entity(services=service("SingleSignOnService", location="//idp.test/")), "no web address"),
        (entity(entity_id=""), "entity id"),
        (entity(entity_id=" x"), "entity id"),
        (entity(entity_id="x" * 2000), "entity id"),
        (entity(head=' validUntil="tomorrow"'), "not a time"),
        (entity(protocol="urn:oasis:names:tc:SAML:1.1:protocol"), "no SAML 2.0 identity provider"),
        (entity("".join(key(certify(make_ec(str(n)))) for n in range(11))), "too many"),
        (entity(key(certify(make_rsa("short", 1024)))), "1024 bits"),
        ("x" * 1_100_000, "too large"),
    ],
)
def test_attack_28_metadata_that_is_refused(text: str, why: str) -> None:
    """Metadata with a document type, without keys, with foreign addresses or weak keys is refused, in words."""
    with pytest.raises(MetadataError, match=why) as refused:
        read_metadata(text.encode())
    assert "evil" not in str(refused.value)


def test_certificates_say_what_they_are() -> None:
    """A certificate's end and fingerprint are told, and it holds between its two dates."""
    found = read_certificate(f"\n{FIRST}\n")
    assert read_certificate(bare(FIRST)) == found
    assert find_expiry(found) == NOW + timedelta(days=365)
    assert len(fingerprint(found)) == 95
    assert holds_at(found, NOW)
    assert not holds_at(found, NOW + timedelta(days=366))
    assert not holds_at(found, NOW - timedelta(days=31))


def make_odd(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """A certificate for a key we don't take."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (make_odd(ed25519.Ed25519PrivateKey.generate()), "neither RSA"),
        (make_odd(ec.generate_private_key(ec.SECP256K1())), "neither RSA"),
        (FIRST + FIRST, "not a certificate|not one certificate"),
        (FIRST.replace("-----END", "-----"), "not one certificate"),
        ("", "not a certificate"),
        ("A" * 20_000, "too large"),
    ],
)
def test_certificates_that_are_no_use(text: str, why: str) -> None:
    """A certificate with another kind of key, or a text that is not exactly one, is refused."""
    with pytest.raises(CertificateError, match=why):
        read_certificate(text)
