"""What we are to an identity provider: our names and addresses there, and the metadata that tells them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lxml import etree

from sso.connections.upstreams import Upstream
from sso.saml.certificates import read_certificate
from sso.saml.documents import Element
from sso.saml.names import METADATA, NAMESPACES, POST, REDIRECT, SAMLP, tag
from sso.saml.profile import Expectation
from sso.saml.signatures import Trust


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """Us, as one upstream knows us: each has addresses of its own, so no answer can end at another."""

    entity_id: str
    acs_url: str
    slo_url: str


def describe_service_provider(issuer: str, upstream: Upstream) -> ServiceProvider:
    """Our names for an upstream; `issuer` is our public origin. The entity id is where our metadata is."""
    base = f"{issuer.rstrip('/')}/sso/saml/{upstream.id}"
    return ServiceProvider(f"{base}/metadata", f"{base}/acs", f"{base}/slo")


def make_trust(upstream: Upstream, now: datetime) -> Trust:
    """Whose signatures count for an upstream."""
    until = upstream.saml.allow_sha1_until
    return Trust(upstream.saml.certificates, allow_sha1=until is not None and now < until)


def make_expectation(issuer: str, upstream: Upstream, now: datetime) -> Expectation:
    """What a response to this upstream must be."""
    ours, config = describe_service_provider(issuer, upstream), upstream.saml
    return Expectation(
        entity_id=config.entity_id,
        trust=make_trust(upstream, now),
        audience=ours.entity_id,
        acs_url=ours.acs_url,
        allow_unsigned_assertion=config.allow_unsigned_assertion,
        encrypted=config.encrypted,
        private_key=upstream.private_key,
        max_lifetime=timedelta(seconds=config.max_lifetime_seconds),
    )


def write_metadata(ours: ServiceProvider, upstream: Upstream) -> bytes:
    """Our metadata for an upstream (SAML metadata §2.4.4).

    AuthnRequests are not signed: nothing in them is believed unless it is in the answer. Assertions must be. Where we
    have a key, its certificate serves for encryption and for our logout messages.
    """
    root = etree.Element(tag("md:EntityDescriptor"), {"entityID": ours.entity_id}, {"md": METADATA})
    role = etree.SubElement(
        root,
        tag("md:SPSSODescriptor"),
        {"protocolSupportEnumeration": SAMLP, "AuthnRequestsSigned": "false", "WantAssertionsSigned": "true"},
    )
    certificate = upstream.saml.encryption_certificate
    if certificate is not None and upstream.private_key is not None:
        _add_key(role, "signing", certificate)
        _add_key(role, "encryption", certificate)
    for binding in (REDIRECT, POST):
        etree.SubElement(role, tag("md:SingleLogoutService"), {"Binding": binding, "Location": ours.slo_url})
    etree.SubElement(
        role,
        tag("md:AssertionConsumerService"),
        {"Binding": POST, "Location": ours.acs_url, "index": "0", "isDefault": "true"},
    )
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _add_key(role: Element, use: str, pem: str) -> None:
    key = etree.SubElement(role, tag("md:KeyDescriptor"), {"use": use})
    info = etree.SubElement(key, tag("ds:KeyInfo"), None, {"ds": NAMESPACES["ds"]})
    data = etree.SubElement(info, tag("ds:X509Data"))
    etree.SubElement(data, tag("ds:X509Certificate")).text = bare_base64(pem)
    if use == "encryption":
        for algorithm in ("aes256-gcm", "aes128-gcm"):
            name = f"{NAMESPACES['xenc11']}{algorithm}"
            etree.SubElement(key, tag("md:EncryptionMethod"), {"Algorithm": name})
        name = f"{NAMESPACES['xenc']}rsa-oaep-mgf1p"
        etree.SubElement(key, tag("md:EncryptionMethod"), {"Algorithm": name})


def bare_base64(pem: str) -> str:
    """A certificate's base64 without the lines around it. Raises CertificateError if it is none."""
    read_certificate(pem)
    return "".join(line for line in pem.split("\n") if "-----" not in line).replace("\r", "")
