"""Plays a SAML identity provider: writes responses, signs and encrypts them, rightly or in any wrong way.

It signs with lxml's canonicalization and `cryptography` alone, so what checks it is not what made it.

idp = Idp()
document = idp.respond(idp.story(name_id="user-1"))                      # a genuine response, its assertion signed
document = idp.respond(story, sign=("response",), signing=Signing(...))   # and whatever else
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID
from lxml import etree

NOW = datetime(2026, 9, 1, 6, tzinfo=UTC)
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
DS = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
INCLUSIVE = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
ENVELOPED = f"{DS}enveloped-signature"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"

Element = etree._Element
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

DIGESTS: dict[str, Callable[..., Any]] = {
    f"{DS}sha1": hashlib.sha1,
    f"{XENC}sha256": hashlib.sha256,
    f"{MORE}sha384": hashlib.sha384,
    f"{XENC}sha512": hashlib.sha512,
    f"{MORE}md5": hashlib.md5,
    f"{MORE}sha224": hashlib.sha224,
}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "md5": hashes.MD5(),  # noqa: S303 - to be refused
    "sha1": hashes.SHA1(),  # noqa: S303 - to be refused
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@cache
def make_rsa(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key, the same for a name."""
    _ = name
    return rsa.generate_private_key(65537, bits)


@cache
def make_ec(name: str) -> ec.EllipticCurvePrivateKey:
    """A key on P-256, the same for a name."""
    _ = name
    return ec.generate_private_key(ec.SECP256R1())


def certify(
    key: Key, *, begins: datetime = NOW - timedelta(days=30), ends: datetime = NOW + timedelta(days=365)
) -> str:
    """A self-signed certificate in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def write_key(key: Key) -> str:
    """A private key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def bare(pem: str) -> str:
    """A PEM's base64."""
    return "".join(line for line in pem.splitlines() if "-----" not in line)


def stamp(moment: datetime) -> str:
    """A time as SAML writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def make_id() -> str:
    """An id."""
    return f"_{secrets.token_hex(16)}"


@dataclass(frozen=True)
class Story:
    """What a response says. What is None is left out; a field ending in `_xml` replaces that whole part."""

    issuer: str | None
    acs_url: str
    audience: str | None
    now: datetime = NOW
    response_id: str = field(default_factory=make_id)
    assertion_id: str = field(default_factory=make_id)
    in_response_to: str | None = "_request"
    confirmed_in_response_to: str | None = "same"
    response_issuer: str | None = "same"
    destination: str | None = "same"
    recipient: str | None = "same"
    response_version: str | None = "2.0"
    version: str | None = "2.0"
    response_issued: str | None = "now"
    issued: str | None = "now"
    not_before: str | None = "now"
    not_on_or_after: str | None = "later"
    confirmed_not_before: str | None = None
    confirmed_not_on_or_after: str | None = "later"
    authn_instant: str | None = "now"
    session_index: str | None = "session-1"
    session_not_on_or_after: str | None = None
    method: str | None = BEARER
    name_id: str = "user-1"
    name_id_format: str | None = PERSISTENT
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    extensions_xml: str = ""
    status_xml: str = f'<samlp:Status><samlp:StatusCode Value="{SUCCESS}"/></samlp:Status>'
    name_id_xml: str | None = None
    subject_xml: str | None = None
    data_xml: str = ""
    conditions_xml: str | None = None
    statement_xml: str | None = None
    attributes_xml: str | None = None
    assertion_extra_xml: str = ""
    prefix: str = "saml"

    def write(self) -> str:
        """The response without signatures."""
        issuer = self.issuer if self.response_issuer == "same" else self.response_issuer
        head = _attributes(
            ID=self.response_id,
            Version=self.response_version,
            IssueInstant=self._time(self.response_issued),
            Destination=self.acs_url if self.destination == "same" else self.destination,
            InResponseTo=self.in_response_to,
        )
        said = "" if issuer is None else f"<saml:Issuer>{escape(issuer)}</saml:Issuer>"
        return (
            f'<samlp:Response xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}"{head}>{said}{self.extensions_xml}'
            f"{self.status_xml}{self.write_assertion()}</samlp:Response>"
        )

    def write_assertion(self) -> str:
        """The assertion without a signature; it declares its own prefix, so that it can stand alone."""
        head = _attributes(ID=self.assertion_id, Version=self.version, IssueInstant=self._time(self.issued))
        said = "" if self.issuer is None else f"<saml:Issuer>{escape(self.issuer)}</saml:Issuer>"
        text = (
            f'<saml:Assertion xmlns:saml="{SAML}"{head}>{said}{self._subject()}{self._conditions()}'
            f"{self._statement()}{self._attribute_statement()}{self.assertion_extra_xml}</saml:Assertion>"
        )
        return (
            text
            if self.prefix == "saml"
            else text.replace("saml:", f"{self.prefix}:").replace("xmlns:saml", f"xmlns:{self.prefix}")
        )

    def _time(self, said: str | None) -> str | None:
        known = {"now": self.now, "later": self.now + timedelta(minutes=5)}
        return said if said is None or said not in known else stamp(known[said])

    def _subject(self) -> str:
        if self.subject_xml is not None:
            return self.subject_xml
        name = self.name_id_xml
        if name is None:
            name = f"<saml:NameID{_attributes(Format=self.name_id_format)}>{escape(self.name_id)}</saml:NameID>"
        data = _attributes(
            NotBefore=self._time(self.confirmed_not_before),
            NotOnOrAfter=self._time(self.confirmed_not_on_or_after),
            Recipient=self.acs_url if self.recipient == "same" else self.recipient,
            InResponseTo=self.in_response_to
            if self.confirmed_in_response_to == "same"
            else self.confirmed_in_response_to,
        )
        return (
            f"<saml:Subject>{name}<saml:SubjectConfirmation{_attributes(Method=self.method)}>"
            f"<saml:SubjectConfirmationData{data}>{self.data_xml}</saml:SubjectConfirmationData>"
            "</saml:SubjectConfirmation></saml:Subject>"
        )

    def _conditions(self) -> str:
        if self.conditions_xml is not None:
            return self.conditions_xml
        times = _attributes(NotBefore=self._time(self.not_before), NotOnOrAfter=self._time(self.not_on_or_after))
        audience = "" if self.audience is None else f"<saml:Audience>{escape(self.audience)}</saml:Audience>"
        restriction = f"<saml:AudienceRestriction>{audience}</saml:AudienceRestriction>"
        return f"<saml:Conditions{times}>{restriction}</saml:Conditions>"

    def _statement(self) -> str:
        if self.statement_xml is not None:
            return self.statement_xml
        head = _attributes(
            AuthnInstant=self._time(self.authn_instant),
            SessionIndex=self.session_index,
            SessionNotOnOrAfter=self._time(self.session_not_on_or_after),
        )
        return (
            f"<saml:AuthnStatement{head}><saml:AuthnContext><saml:AuthnContextClassRef>"
            "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"
            "</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
        )

    def _attribute_statement(self) -> str:
        if self.attributes_xml is not None:
            return self.attributes_xml
        if not self.attributes:
            return ""
        written = "".join(
            f"<saml:Attribute Name={quoteattr(name)}>"
            + "".join(f"<saml:AttributeValue>{escape(value)}</saml:AttributeValue>" for value in values)
            + "</saml:Attribute>"
            for name, values in self.attributes
        )
        return f"<saml:AttributeStatement>{written}</saml:AttributeStatement>"


def _attributes(**said: str | None) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in said.items() if value is not None)


@dataclass(frozen=True)
class Signing:
    """How something is signed; the defaults are what a good provider does."""

    key: Key | bytes
    method: str = f"{MORE}rsa-sha256"
    digest: str = f"{XENC}sha256"
    canonical: str = EXCLUSIVE
    transforms: tuple[str, ...] = (ENVELOPED, EXCLUSIVE)
    transforms_xml: str | None = None
    uri: str | None = "same"
    key_info: str = ""
    prefixes: str = ""
    """Of InclusiveNamespaces."""
    digest_of: bytes | None = None
    """What the digest is made of, instead of the element."""
    pss: bool = False


def sign(element: Element, how: Signing, *, at: int = 1) -> Element:
    """Put a signature into an element, after its Issuer; the signature."""
    digested = canonicalize(element, how.prefixes) if how.digest_of is None else how.digest_of
    digest = b64encode(DIGESTS.get(how.digest, hashlib.sha256)(digested).digest()).decode()
    inner = f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE}" PrefixList="{how.prefixes}"/>' if how.prefixes else ""
    transforms = how.transforms_xml
    if transforms is None:
        transforms = "".join(
            f'<ds:Transform Algorithm="{one}">{inner if one == EXCLUSIVE else ""}</ds:Transform>'
            for one in how.transforms
        )
    uri = f"#{element.get('ID')}" if how.uri == "same" else how.uri
    signature = etree.fromstring(
        f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{how.canonical}"/>'
        f'<ds:SignatureMethod Algorithm="{how.method}"/><ds:Reference{_attributes(URI=uri)}>'
        f'<ds:Transforms>{transforms}</ds:Transforms><ds:DigestMethod Algorithm="{how.digest}"/>'
        f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
        f"<ds:SignatureValue/>{how.key_info}</ds:Signature>"
    )
    element.insert(at, signature)
    seal(signature, how)
    return signature


def seal(signature: Element, how: Signing) -> None:
    """Compute the value of a signature over its SignedInfo as it stands now."""
    signed_info, value = signature[0], signature.find(f"{{{DS}}}SignatureValue")
    assert value is not None
    value.text = b64encode(_sign_bytes(canonicalize(signed_info), how)).decode()


def canonicalize(element: Element, prefixes: str = "") -> bytes:
    """Exclusive canonicalization without comments."""
    listed = prefixes.split() or None
    return etree.tostring(element, method="c14n", exclusive=True, with_comments=False, inclusive_ns_prefixes=listed)


def _sign_bytes(data: bytes, how: Signing) -> bytes:
    name = how.method.rpartition("#")[2].lower()
    algorithm = next((HASHES[one] for one in HASHES if one in name), hashes.SHA256())
    if isinstance(how.key, bytes):
        return hmac.digest(how.key, data, algorithm.name)
    if isinstance(how.key, rsa.RSAPrivateKey):
        if how.pss:
            salt = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
            return how.key.sign(data, salt, algorithm)
        return how.key.sign(data, padding.PKCS1v15(), algorithm)
    r, s = utils.decode_dss_signature(how.key.sign(data, ec.ECDSA(algorithm)))
    size = (how.key.key_size + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


@dataclass(frozen=True)
class Encrypting:
    """How an assertion is encrypted."""

    key: rsa.RSAPublicKey
    method: str = f"{XENC11}aes256-gcm"
    transport: str = f"{XENC}rsa-oaep-mgf1p"
    digest: str = f"{DS}sha1"
    mask: str | None = None
    beside: bool = False
    """Whether the EncryptedKey stands beside the data."""
    spoil: bool = False
    """Whether a bit of the ciphertext is turned."""


def encrypt(plain: bytes, how: Encrypting) -> str:
    """An EncryptedAssertion."""
    bits = int("".join(one for one in how.method.rpartition("#")[2] if one.isdigit()) or "256")
    content_key = secrets.token_bytes(bits // 8 if bits in (128, 192, 256) else 32)
    if "gcm" in how.method:
        nonce = secrets.token_bytes(12)
        data = nonce + AESGCM(content_key).encrypt(nonce, plain, None)
    else:
        start, pad = secrets.token_bytes(16), 16 - len(plain) % 16
        encryptor = Cipher(algorithms.AES(content_key), modes.CBC(start)).encryptor()
        data = start + encryptor.update(plain + bytes([0] * (pad - 1) + [pad])) + encryptor.finalize()
    if how.spoil:
        data = data[:40] + bytes([data[40] ^ 1]) + data[41:]
    known = {f"{DS}sha1": hashes.SHA1(), f"{XENC}sha256": hashes.SHA256()}  # noqa: S303 - within OAEP
    digest = known[how.digest]
    mask = hashes.SHA256() if how.mask == f"{XENC11}mgf1sha256" else hashes.SHA1()  # noqa: S303 - within OAEP
    oaep: padding.AsymmetricPadding = padding.OAEP(padding.MGF1(mask), digest, None)
    wrapped = how.key.encrypt(content_key, padding.PKCS1v15() if "1_5" in how.transport else oaep)
    masked = "" if how.mask is None else f'<xenc11:MGF xmlns:xenc11="{XENC11}" Algorithm="{how.mask}"/>'
    key = (
        f'<xenc:EncryptedKey xmlns:xenc="{XENC}"><xenc:EncryptionMethod Algorithm="{how.transport}">'
        f'<ds:DigestMethod xmlns:ds="{DS}" Algorithm="{how.digest}"/>{masked}</xenc:EncryptionMethod>'
        f"<xenc:CipherData><xenc:CipherValue>{b64encode(wrapped).decode()}</xenc:CipherValue></xenc:CipherData>"
        "</xenc:EncryptedKey>"
    )
    inside = "" if how.beside else f'<ds:KeyInfo xmlns:ds="{DS}">{key}</ds:KeyInfo>'
    return (
        f'<saml:EncryptedAssertion xmlns:saml="{SAML}"><xenc:EncryptedData xmlns:xenc="{XENC}" '
        f'Type="{XENC}Element"><xenc:EncryptionMethod Algorithm="{how.method}"/>{inside}'
        f"<xenc:CipherData><xenc:CipherValue>{b64encode(data).decode()}</xenc:CipherValue></xenc:CipherData>"
        f"</xenc:EncryptedData>{key if how.beside else ''}</saml:EncryptedAssertion>"
    )


@dataclass
class Idp:
    """An identity provider, and the service provider it speaks to."""

    entity_id: str = "https://idp.test/metadata"
    audience: str = "http://homeroom.test/sso/saml/x/metadata"
    acs_url: str = "http://homeroom.test/sso/saml/x/acs"
    key: Key = field(default_factory=lambda: make_rsa("idp"))
    certificate: str = ""

    def __post_init__(self) -> None:
        """Make a certificate unless one is given."""
        self.certificate = self.certificate or certify(self.key)

    def story(self, **said: Any) -> Story:
        """What an honest response says, but for what is given."""
        return replace(Story(self.entity_id, self.acs_url, self.audience), **said)

    def signing(self, **how: Any) -> Signing:
        """How it signs."""
        method = f"{MORE}rsa-sha256" if isinstance(self.key, rsa.RSAPrivateKey) else f"{MORE}ecdsa-sha256"
        return replace(Signing(self.key, method), **how)

    def key_info(self) -> str:
        """KeyInfo with its certificate."""
        return write_key_info(self.certificate)

    def respond(
        self,
        story: Story | None = None,
        *,
        sign: tuple[str, ...] = ("assertion",),
        signing: Signing | None = None,
        encrypting: Encrypting | None = None,
    ) -> bytes:
        """A response with what is named signed, in this order."""
        return write(self.build(story or self.story(), sign=sign, signing=signing, encrypting=encrypting))

    def build(
        self,
        story: Story,
        *,
        sign: tuple[str, ...] = ("assertion",),
        signing: Signing | None = None,
        encrypting: Encrypting | None = None,
    ) -> Element:
        """The same as a tree."""
        how = signing or self.signing()
        response = etree.fromstring(story.write())
        if "assertion" in sign:
            put_signature(assertion_of(response), how)
        if encrypting is not None:
            assertion = assertion_of(response)
            sealed = etree.fromstring(encrypt(canonicalize(assertion), encrypting))
            response.replace(assertion, sealed)
        if "response" in sign:
            put_signature(response, how)
        return response


put_signature = sign


def write_key_info(pem: str) -> str:
    """KeyInfo with a certificate."""
    return f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{bare(pem)}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"


def assertion_of(response: Element) -> Element:
    """The assertion right under a response."""
    found = response.find(f"{{{SAML}}}Assertion")
    assert found is not None
    return found


def write(root: Element) -> bytes:
    """A tree as bytes."""
    return etree.tostring(root)
