"""Signatures in and around SAML messages (SAML core §5.4, bindings §3.4.4.1).

What a signature may look like is checked here before signxml verifies it, and more strictly than its schema does: one
signature as a direct child of what it signs, one reference to that parent, two transforms, algorithms from a short
list. Keys come from the connection's pinned certificates; what the message itself says of keys is not looked at.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier

from sso.saml.certificates import CertificateError, holds_at, read_certificate
from sso.saml.documents import DocumentError, Element, make_parser, text_of
from sso.saml.names import DS, EXCLUSIVE, tag
from sso.saml.refusals import Unbelieved, demand

METHODS: Final = frozenset(
    {
        SignatureMethod.RSA_SHA256,
        SignatureMethod.RSA_SHA384,
        SignatureMethod.RSA_SHA512,
        SignatureMethod.SHA256_RSA_MGF1,
        SignatureMethod.SHA384_RSA_MGF1,
        SignatureMethod.SHA512_RSA_MGF1,
        SignatureMethod.ECDSA_SHA256,
        SignatureMethod.ECDSA_SHA384,
        SignatureMethod.ECDSA_SHA512,
    }
)
DIGESTS: Final = frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512})
SHA1_METHODS: Final = METHODS | {SignatureMethod.RSA_SHA1, SignatureMethod.ECDSA_SHA1}
SHA1_DIGESTS: Final = DIGESTS | {DigestAlgorithm.SHA1}

_SIGNATURE: Final = tag("ds:Signature")
_ENVELOPED: Final = f"{DS}enveloped-signature"
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count.

    Args:
        certificates: PEM, all that are pinned.
        allow_sha1: whether SHA-1 passes, as a logged exception.
    """

    certificates: tuple[str, ...]
    allow_sha1: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """An element as its signature covers it.

    Args:
        element: parsed from the very bytes that were verified; the signature and all comments are gone.
        algorithm: a short name of the signature's algorithm.
        sha1: whether SHA-1 was in it.
    """

    element: Element
    algorithm: str
    sha1: bool


def find_certificates(trust: Trust, now: datetime) -> list[x509.Certificate]:
    """The pinned certificates that are valid now. Raises Unbelieved if there is none: nothing passes then."""
    read = []
    for pem in trust.certificates:
        try:
            read.append(read_certificate(pem))
        except CertificateError:
            continue
    demand(read, "the connection has no usable certificate")
    valid = [certificate for certificate in read if holds_at(certificate, now)]
    demand(valid, "the identity provider's certificate is expired or not valid yet")
    return valid


def check_ids(roots: Iterable[Element]) -> None:
    """Raise Unbelieved unless every id in all these trees stands once, without a prefix.

    Whatever a reference could be taken to mean by anybody must be one element (XML signature wrapping, ruby-saml).
    """
    seen: set[str] = set()
    for root in roots:
        for element in root.iter(etree.Element):
            own = [name for name in element.attrib if etree.QName(name).localname.lower() == "id"]
            demand(len(own) <= 1, "an element has two ids")
            for name in own:
                value = element.get(name, "")
                demand(etree.QName(name).namespace is None, "an id has a namespace")
                demand(_ID.fullmatch(value), "an id is not one")
                demand(value not in seen, "an id stands twice")
                seen.add(value)


def check_places(roots: Iterable[Element], parents: Sequence[Element]) -> None:
    """Raise Unbelieved if a signature stands anywhere but as the only one right under one of `parents`."""
    for root in roots:
        for signature in root.iter(_SIGNATURE):
            demand(any(signature.getparent() is parent for parent in parents), "a signature is out of place")
    for parent in parents:
        demand(len(parent.findall(_SIGNATURE)) <= 1, "an element has two signatures")


def is_signed(element: Element) -> bool:
    """Whether a signature stands right under an element; it is worth nothing until it is verified."""
    return element.find(_SIGNATURE) is not None


def verify(root: Element, path: str, trust: Trust, now: datetime) -> Verified:
    """Verify the signature right under an element; what may be read afterwards is in the answer and nowhere else.

    Args:
        root: of the whole document.
        path: to the signed element from the root, as ElementPath; "." for the root itself.
        trust: whose signature counts.
        now: for the certificates.

    Raises Unbelieved.
    """
    parent = root if path == "." else root.find(path)
    demand(parent is not None, "what should be signed is missing")
    assert parent is not None  # noqa: S101 - just demanded
    method, digest = _check_shape(parent, trust)
    config = SignatureConfiguration(
        location="./" if path == "." else f"./{path}/",
        expect_references=1,
        signature_methods=SHA1_METHODS if trust.allow_sha1 else METHODS,
        digest_algorithms=SHA1_DIGESTS if trust.allow_sha1 else DIGESTS,
        ignore_ambiguous_key_info=True,
        verification_time=now,
    )
    for certificate in find_certificates(trust, now):
        try:
            # The schema is looser than `_check_shape`, and minds what KeyInfo holds, which does not matter here.
            found = XMLVerifier().verify(
                root, x509_cert=certificate, parser=make_parser(), validate_schema=False, expect_config=config
            )
        except Exception:  # noqa: BLE001, S112 - whatever the verifier stumbles over, this key has not signed it
            continue
        assert not isinstance(found, list)  # noqa: S101 - one reference was expected
        element = found.signed_xml
        demand(element is not None and found.signed_data, "nothing is signed")
        assert element is not None  # noqa: S101 - just demanded
        demand(element.tag == parent.tag and element.get("ID") == parent.get("ID"), "something else is signed")
        return Verified(element, method.name, "SHA1" in method.name or digest is DigestAlgorithm.SHA1)
    raise Unbelieved("the signature is not of the identity provider's key")


def _check_shape(parent: Element, trust: Trust) -> tuple[SignatureMethod, DigestAlgorithm]:
    """What a signature may be made of; everything else is refused before anything is computed."""
    signatures = parent.findall(_SIGNATURE)
    demand(len(signatures) == 1, "there is no signature")
    signature = signatures[0]
    demand(next(signature.iter(etree.Comment), None) is None, "a signature has a comment")
    names = [child.tag for child in signature]
    wanted = [tag("ds:SignedInfo"), tag("ds:SignatureValue")]
    demand(names in (wanted, [*wanted, tag("ds:KeyInfo")]), "a signature has unknown parts")
    canonical, method, reference = _take(
        signature[0], "ds:CanonicalizationMethod", "ds:SignatureMethod", "ds:Reference"
    )
    demand(canonical.get("Algorithm") == EXCLUSIVE, "the canonicalization is not allowed")
    _check_prefixes(canonical)
    demand(len(method) == 0, "the signature's algorithm has parameters")
    transforms, digest, value = _take(reference, "ds:Transforms", "ds:DigestMethod", "ds:DigestValue")
    identifier = parent.get("ID")
    demand(identifier and reference.get("URI") == f"#{identifier}", "the reference is not to the signed element")
    enveloped, exclusive = _take(transforms, "ds:Transform", "ds:Transform")
    demand(enveloped.get("Algorithm") == _ENVELOPED and len(enveloped) == 0, "the transforms are not allowed")
    demand(exclusive.get("Algorithm") == EXCLUSIVE, "the transforms are not allowed")
    _check_prefixes(exclusive)
    demand(len(digest) == 0, "the digest's algorithm has parameters")
    try:
        demand(text_of(value) and text_of(signature[1]), "a signature is empty")
    except DocumentError:
        raise Unbelieved("a signature has unknown parts") from None
    return _read_algorithms(method.get("Algorithm"), digest.get("Algorithm"), allow_sha1=trust.allow_sha1)


def _read_algorithms(
    method: str | None, digest: str | None, *, allow_sha1: bool
) -> tuple[SignatureMethod, DigestAlgorithm]:
    methods = {one.value: one for one in (SHA1_METHODS if allow_sha1 else METHODS)}
    digests = {one.value: one for one in (SHA1_DIGESTS if allow_sha1 else DIGESTS)}
    if method not in methods or digest not in digests:
        raise Unbelieved("the signature's algorithm is not allowed")
    return methods[method], digests[digest]


def _take(element: Element, *names: str) -> list[Element]:
    """An element's children, which must be these and in this order."""
    demand([child.tag for child in element] == [tag(name) for name in names], "a signature has unknown parts")
    return list(element)


def _check_prefixes(method: Element) -> None:
    """Exclusive canonicalization may name prefixes that it treats inclusively, and nothing else."""
    inclusive = [child.tag for child in method]
    demand(inclusive in ([], [f"{{{EXCLUSIVE}}}InclusiveNamespaces"]), "the canonicalization has unknown parts")


# ── the redirect binding ──────────────────────────────────────────────────────────────────────────────────────────

_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
RSA_SHA256: Final = SignatureMethod.RSA_SHA256.value
_QUERY_METHOD: Final = re.compile(r"http://www\.w3\.org/2001/04/xmldsig-more#(rsa|ecdsa)-(sha256|sha384|sha512)")


def verify_query(signed: str, algorithm: str, signature: str, trust: Trust, now: datetime) -> str:
    """Verify a signature of the redirect binding; a short name of its algorithm. Raises Unbelieved.

    Args:
        signed: the part of the query that is signed, exactly as it came.
        algorithm: the parameter SigAlg, decoded; SHA-1 is not taken here, whatever the connection allows.
        signature: the parameter Signature, decoded from percents but not from base64.
        trust: whose signature counts.
        now: for the certificates.
    """
    match = _QUERY_METHOD.fullmatch(algorithm)
    if match is None:
        raise Unbelieved("the signature's algorithm is not allowed")
    try:
        raw = b64decode("".join(signature.split()), validate=True)
    except (Base64Error, ValueError):
        raise Unbelieved("the signature is not base64") from None
    for certificate in find_certificates(trust, now):
        if _has_signed(certificate, match[1], _HASHES[match[2]](), raw, signed.encode()):
            return f"{match[1]}-{match[2]}"
    raise Unbelieved("the signature is not of the identity provider's key")


def _has_signed(
    certificate: x509.Certificate, kind: str, digest: hashes.HashAlgorithm, signature: bytes, data: bytes
) -> bool:
    key = certificate.public_key()
    try:
        if kind == "rsa" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), digest)
            return True
        if kind == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            # Some send r and s one after the other, as XML signatures have them, others DER.
            if len(signature) == 2 * ((key.key_size + 7) // 8):
                half = len(signature) // 2
                r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
                signature = utils.encode_dss_signature(r, s)
            key.verify(signature, data, ec.ECDSA(digest))
            return True
    except InvalidSignature:
        return False
    return False


def sign_query(signed: str, key: rsa.RSAPrivateKey) -> bytes:
    """Our signature over a query, with RSA and SHA-256."""
    return key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
