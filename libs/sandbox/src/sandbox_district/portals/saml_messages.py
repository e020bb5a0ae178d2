"""SAML 2.0 messages of the identity provider: metadata, signed answers, and requests read from the redirect binding.

Sources: SAML 2.0 core §3.2, §3.4 and §3.7, bindings §3.4, metadata §2.4. The requests are believed as they are: who
sends people here is known by the addresses it registered, and nothing secret is at stake.
"""

from __future__ import annotations

import secrets
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote, urlencode

from lxml import etree
from lxml.builder import ElementMaker
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner

from sandbox_district.portals.signing import Signing

SAMLP: Final = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML: Final = "urn:oasis:names:tc:SAML:2.0:assertion"
MD: Final = "urn:oasis:names:tc:SAML:2.0:metadata"
DS: Final = "http://www.w3.org/2000/09/xmldsig#"
REDIRECT: Final = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST: Final = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
UNSPECIFIED: Final = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
RSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
LIFE: Final = timedelta(minutes=5)
MOST_BYTES: Final = 64_000
_P: Final = ElementMaker(namespace=SAMLP, nsmap={"samlp": SAMLP, "saml": SAML})
_A: Final = ElementMaker(namespace=SAML, nsmap={"saml": SAML})
_M: Final = ElementMaker(namespace=MD, nsmap={"md": MD, "ds": DS})
_D: Final = ElementMaker(namespace=DS, nsmap={"ds": DS})


class UnreadableRequestError(Exception):
    """What was sent is no SAML request."""


@dataclass(frozen=True, slots=True)
class SamlRequest:
    """An AuthnRequest or LogoutRequest, as far as it is read."""

    kind: str
    id: str
    issuer: str
    acs_url: str | None
    force: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What an assertion says, and to whom.

    Args:
        in_response_to: the request that is answered; None where nobody asked.
        session_index: what a logout names this sign-in by.
    """

    issuer: str
    audience: str
    acs_url: str
    name_id: str
    session_index: str
    auth_time: datetime
    attributes: dict[str, str]
    in_response_to: str | None = None


def read_request(text: str) -> SamlRequest:
    """What came in `SAMLRequest` of the redirect binding. Raises `UnreadableRequestError`."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        inflated = zlib.decompressobj(-15).decompress(b64decode(text, validate=True), MOST_BYTES)
        root = etree.fromstring(inflated, parser)
    except (ValueError, zlib.error, etree.XMLSyntaxError) as error:
        raise UnreadableRequestError from error
    kind = etree.QName(root).localname
    issuer = root.findtext(f"{{{SAML}}}Issuer", "")
    if kind not in {"AuthnRequest", "LogoutRequest"} or not root.get("ID") or not issuer:
        raise UnreadableRequestError
    acs_url, force = root.get("AssertionConsumerServiceURL"), root.get("ForceAuthn") in {"true", "1"}
    return SamlRequest(kind, root.get("ID", ""), issuer.strip(), acs_url, force)


def read_service_metadata(document: bytes) -> tuple[str, str, str | None]:
    """Entity id, address for answers, and address for logouts, of a service provider. Raises ValueError."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError("the metadata is no XML") from error
    places = root.findall(f".//{{{MD}}}AssertionConsumerService")
    acs_url = next((place.get("Location") for place in places if place.get("Binding") == POST), None)
    logouts = root.findall(f".//{{{MD}}}SingleLogoutService")
    slo_url = next((place.get("Location") for place in logouts if place.get("Binding") == REDIRECT), None)
    if not root.get("entityID") or not acs_url:
        msg = "the metadata names no entity or no address for answers"
        raise ValueError(msg)
    return root.get("entityID", ""), acs_url, slo_url


def write_metadata(entity_id: str, sso_url: str, slo_url: str, signing: Signing) -> bytes:
    """The identity provider's metadata."""
    lines = signing.certificate.split("-----")[2].split()
    certificate = _D.X509Data(_D.X509Certificate("".join(lines)))
    descriptor = _M.IDPSSODescriptor(
        _M.KeyDescriptor(_D.KeyInfo(certificate), use="signing"),
        _M.SingleLogoutService(Binding=REDIRECT, Location=slo_url),
        _M.NameIDFormat(UNSPECIFIED),
        _M.SingleSignOnService(Binding=REDIRECT, Location=sso_url),
        protocolSupportEnumeration=SAMLP,
        WantAuthnRequestsSigned="false",
    )
    return etree.tostring(
        _M.EntityDescriptor(descriptor, entityID=entity_id), xml_declaration=True, encoding="utf-8", pretty_print=True
    )


def write_response(answer: Answer, signing: Signing) -> str:
    """A Response around a signed assertion, as `SAMLResponse` is posted."""
    now = datetime.now(UTC)
    signed = _sign(_write_assertion(answer, now), signing)
    asked = {} if answer.in_response_to is None else {"InResponseTo": answer.in_response_to}
    response = _P.Response(
        _A.Issuer(answer.issuer),
        _P.Status(_P.StatusCode(Value="urn:oasis:names:tc:SAML:2.0:status:Success")),
        signed,
        ID=_make_id(),
        Version="2.0",
        IssueInstant=_format(now),
        Destination=answer.acs_url,
        **asked,
    )
    return b64encode(etree.tostring(response)).decode()


def write_logout_redirect(issuer: str, slo_url: str, request: SamlRequest, relay: str | None, signing: Signing) -> str:
    """Where a browser is sent with the answer to a LogoutRequest, signed as the redirect binding wants."""
    response = _P.LogoutResponse(
        _A.Issuer(issuer),
        _P.Status(_P.StatusCode(Value="urn:oasis:names:tc:SAML:2.0:status:Success")),
        ID=_make_id(),
        Version="2.0",
        IssueInstant=_format(datetime.now(UTC)),
        Destination=slo_url,
        InResponseTo=request.id,
    )
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(etree.tostring(response)) + packer.flush()
    fields = {"SAMLResponse": b64encode(packed).decode(), **({} if relay is None else {"RelayState": relay})}
    query = urlencode({**fields, "SigAlg": RSA_SHA256}, quote_via=quote)
    signature = quote(b64encode(signing.sign_bytes(query.encode())), safe="")
    return f"{slo_url}{'&' if '?' in slo_url else '?'}{query}&Signature={signature}"


def _write_assertion(answer: Answer, now: datetime) -> etree._Element:
    ends = _format(now + LIFE)
    asked = {} if answer.in_response_to is None else {"InResponseTo": answer.in_response_to}
    confirmation = _A.SubjectConfirmationData(NotOnOrAfter=ends, Recipient=answer.acs_url, **asked)
    context = _A.AuthnContext(_A.AuthnContextClassRef("urn:oasis:names:tc:SAML:2.0:ac:classes:Password"))
    return _A.Assertion(
        _A.Issuer(answer.issuer),
        _D.Signature(Id="placeholder"),  # where the signature belongs
        _A.Subject(
            _A.NameID(answer.name_id, Format=UNSPECIFIED),
            _A.SubjectConfirmation(confirmation, Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"),
        ),
        _A.Conditions(
            _A.AudienceRestriction(_A.Audience(answer.audience)),
            NotBefore=_format(now - timedelta(seconds=30)),
            NotOnOrAfter=ends,
        ),
        _A.AuthnStatement(context, AuthnInstant=_format(answer.auth_time), SessionIndex=answer.session_index),
        _A.AttributeStatement(
            *(_A.Attribute(_A.AttributeValue(value), Name=name) for name, value in answer.attributes.items())
        ),
        ID=_make_id(),
        Version="2.0",
        IssueInstant=_format(now),
    )


def _sign(assertion: etree._Element, signing: Signing) -> etree._Element:
    signer = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=SignatureMethod.RSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    return signer.sign(
        assertion, key=signing.pem.encode(), cert=signing.certificate, reference_uri=f"#{assertion.get('ID')}"
    )


def _make_id() -> str:
    return f"_{secrets.token_hex(16)}"


def _format(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
