"""An identity provider's metadata: what is believed of it, once an admin has said that it is theirs.

Signatures of metadata are not looked at: there is nobody whose key we could check them with. Trust comes from the
admin who uploads a document or names its address, and what changes later waits for their word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from sso.saml.certificates import CertificateError, read_certificate, write_certificate
from sso.saml.documents import DocumentError, Element, parse, text_of
from sso.saml.names import REDIRECT, SAMLP, tag
from sso.saml.times import read_time

MOST_BYTES: Final = 1024 * 1024
"""Of metadata; a federation's, with hundreds of providers, is not taken."""
MOST_CERTIFICATES: Final = 10
MOST_URL: Final = 2_000
MOST_ENTITY_ID: Final = 1_024
"""Characters; SAML metadata §2.2.1."""


class MetadataError(ValueError):
    """Metadata that can't be used; the text says why, for an admin, and holds nothing of the document."""


@dataclass(frozen=True, slots=True)
class IdpMetadata:
    """What metadata says of an identity provider.

    Args:
        entity_id: its name; compared character by character.
        sso_url: where AuthnRequests go by the redirect binding.
        slo_url: where LogoutRequests and answers to them go, likewise; None where there is no single logout.
        certificates: whose signatures count, each PEM, in the document's order, without repeats.
        valid_until: when the document runs out; None if it does not say.
        wants_signed_requests: whether it says that it refuses AuthnRequests without a signature. Ours have none.
    """

    entity_id: str
    sso_url: str
    slo_url: str | None
    certificates: tuple[str, ...]
    valid_until: datetime | None = None
    wants_signed_requests: bool = False


def read_metadata(document: bytes, entity_id: str | None = None) -> IdpMetadata:
    """What a metadata document says of its identity provider. Raises MetadataError.

    Args:
        document: XML in UTF-8, at most 1 MiB.
        entity_id: which provider is meant; needed if the document has several.
    """
    try:
        root = parse(document, most=MOST_BYTES)
        entity, role = _find_provider(root, entity_id)
        return IdpMetadata(
            entity_id=_read_entity_id(entity),
            sso_url=_find_location(role, "md:SingleSignOnService")
            or _refuse("the provider has no single sign-on service with the HTTP-Redirect binding"),
            slo_url=_find_location(role, "md:SingleLogoutService"),
            certificates=_read_certificates(role),
            valid_until=_find_end(role),
            wants_signed_requests=role.get("WantAuthnRequestsSigned", "false").strip() in ("true", "1"),
        )
    except (DocumentError, CertificateError) as error:
        raise MetadataError(str(error)) from None


def _find_provider(root: Element, entity_id: str | None) -> tuple[Element, Element]:
    """The one entity that is meant, and its role as identity provider."""
    if root.tag not in (tag("md:EntityDescriptor"), tag("md:EntitiesDescriptor")):
        raise MetadataError("the document is no SAML 2.0 metadata")
    entities = [one for one in _list_entities(root) if entity_id is None or one.get("entityID") == entity_id]
    found = [(entity, role) for entity in entities for role in _list_roles(entity)]
    if not entities and entity_id is not None:
        raise MetadataError("the document does not have the provider that is meant")
    if not found:
        raise MetadataError("the document describes no SAML 2.0 identity provider")
    if len(found) > 1:
        raise MetadataError("the document describes several identity providers; say which entity id is meant")
    return found[0]


def _list_entities(element: Element) -> Iterator[Element]:
    if element.tag == tag("md:EntityDescriptor"):
        yield element
    elif element.tag == tag("md:EntitiesDescriptor"):
        for child in element:
            yield from _list_entities(child)


def _list_roles(entity: Element) -> Iterator[Element]:
    for role in entity.findall(tag("md:IDPSSODescriptor")):
        if SAMLP in role.get("protocolSupportEnumeration", "").split():
            yield role


def _read_entity_id(entity: Element) -> str:
    entity_id = entity.get("entityID", "")
    if not 0 < len(entity_id) <= MOST_ENTITY_ID or entity_id != entity_id.strip():
        raise MetadataError("the provider's entity id is empty or too long")
    return entity_id


def _find_location(role: Element, service: str) -> str | None:
    """Where a service takes messages by the redirect binding, the first one named.

    One that wants answers at another address than requests is passed over: a connection keeps one address for logout.
    """
    for endpoint in role.findall(tag(service)):
        if endpoint.get("Binding") == REDIRECT:
            location = endpoint.get("Location", "").strip()
            if not _is_web_address(location):
                raise MetadataError("an address of the provider is no web address")
            if endpoint.get("ResponseLocation", location).strip() == location:
                return location
    return None


def _is_web_address(location: str) -> bool:
    try:
        parts = urlsplit(location)
        _ = parts.port
    except ValueError:
        return False
    plain = len(location) <= MOST_URL and location.isascii() and location.isprintable() and " " not in location
    return (
        plain
        and parts.scheme in ("https", "http")
        and bool(parts.hostname)
        and not (parts.fragment or "@" in parts.netloc)
    )


def _read_certificates(role: Element) -> tuple[str, ...]:
    """The certificates that signatures are checked with: a key without `use` serves for signing as well."""
    found: dict[str, None] = {}
    for key in role.findall(tag("md:KeyDescriptor")):
        use = key.get("use")
        if use not in (None, "signing", "encryption"):
            raise MetadataError("a key of the provider is of a use that SAML does not know")
        if use == "encryption":
            continue
        for certificate in key.iterfind(f"{tag('ds:KeyInfo')}/{tag('ds:X509Data')}/{tag('ds:X509Certificate')}"):
            found[write_certificate(read_certificate(text_of(certificate)))] = None
    if not found:
        raise MetadataError("the provider names no certificate for its signatures")
    if len(found) > MOST_CERTIFICATES:
        raise MetadataError("the provider names too many certificates")
    return tuple(found)


def _find_end(role: Element) -> datetime | None:
    """The earliest end that the role or anything around it names."""
    element: Element | None = role
    ends: list[datetime] = []
    while element is not None:
        said = element.get("validUntil")
        if said is not None:
            end = read_time(said)
            if end is None:
                raise MetadataError("the document's validUntil is not a time")
            ends.append(end.astimezone(UTC))
        element = element.getparent()
    return min(ends, default=None)


def _refuse(why: str) -> str:
    raise MetadataError(why)
