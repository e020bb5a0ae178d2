"""Every honest way to make a response is understood."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lxml import etree
from played_idp import (
    DS,
    MORE,
    NOW,
    SAML,
    XENC,
    XENC11,
    Encrypting,
    Idp,
    assertion_of,
    certify,
    make_ec,
    make_rsa,
    sign,
    stamp,
    write,
    write_key,
)

from sso.saml.profile import Assertion, Expectation, check_response
from sso.saml.signatures import Trust

OURS = make_rsa("ours")


def expect(idp: Idp, **other: Any) -> Expectation:
    """What is expected of a played provider."""
    base = Expectation(
        entity_id=idp.entity_id,
        trust=Trust((idp.certificate,)),
        audience=idp.audience,
        acs_url=idp.acs_url,
        private_key=write_key(OURS),
    )
    return replace(base, **other)


def check(idp: Idp, document: bytes, **other: Any) -> Assertion:
    """Check a document of a played provider."""
    return check_response(document, expect(idp, **other), NOW)


@pytest.mark.parametrize("key_info", [False, True], ids=["bare", "key-info"])
@pytest.mark.parametrize("signed", [("assertion",), ("assertion", "response")], ids=["assertion", "both"])
@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_signed_assertions_are_believed(kind: str, signed: tuple[str, ...], key_info: bool) -> None:
    """Assertion or both signed, RSA or elliptic curve, with and without KeyInfo: all are taken."""
    idp = Idp(key=make_rsa("idp") if kind == "rsa" else make_ec("idp"))
    how = idp.signing(key_info=idp.key_info() if key_info else "")
    found = check(idp, idp.respond(sign=signed, signing=how))
    assert (found.name_id, found.session_index, found.in_response_to) == ("user-1", "session-1", "_request")
    assert found.signed == ("both" if len(signed) == 2 else "assertion")
    assert found.algorithm == ("RSA_SHA256" if kind == "rsa" else "ECDSA_SHA256")
    assert not found.sha1


@pytest.mark.parametrize(
    ("method", "digest", "pss"),
    [
        (f"{MORE}rsa-sha384", f"{MORE}sha384", False),
        (f"{MORE}rsa-sha512", f"{XENC}sha512", False),
        ("http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1", f"{XENC}sha256", True),
    ],
)
def test_stronger_algorithms_are_believed(method: str, digest: str, pss: bool) -> None:
    """SHA-384, SHA-512 and RSA-PSS are taken as well."""
    idp = Idp()
    assert check(idp, idp.respond(signing=idp.signing(method=method, digest=digest, pss=pss))).name_id == "user-1"


def test_sha1_is_taken_as_an_exception_only() -> None:
    """SHA-1 passes where the connection allows it, and is told."""
    idp = Idp()
    document = idp.respond(signing=idp.signing(method=f"{DS}rsa-sha1", digest=f"{DS}sha1"))
    assert check(idp, document, trust=Trust((idp.certificate,), allow_sha1=True)).sha1


def test_a_signed_response_is_enough_where_that_is_allowed() -> None:
    """An unsigned assertion within a signed response is read from the signed bytes, if the connection allows it."""
    idp = Idp()
    found = check(idp, idp.respond(sign=("response",)), allow_unsigned_assertion=True)
    assert (found.signed, found.name_id) == ("response", "user-1")


@pytest.mark.parametrize(
    "how",
    [
        Encrypting(OURS.public_key()),
        Encrypting(OURS.public_key(), method=f"{XENC11}aes128-gcm"),
        Encrypting(OURS.public_key(), digest=f"{XENC}sha256"),
        Encrypting(
            OURS.public_key(), transport=f"{XENC11}rsa-oaep", digest=f"{XENC}sha256", mask=f"{XENC11}mgf1sha256"
        ),
        Encrypting(OURS.public_key(), beside=True),
    ],
    ids=["gcm", "gcm-128", "oaep-sha256", "oaep-1.1", "key-beside"],
)
def test_encrypted_assertions_are_read(how: Encrypting) -> None:
    """AES-GCM with any OAEP, with the key within or beside the data."""
    idp = Idp()
    found = check(idp, idp.respond(encrypting=how), encrypted=True)
    assert found.encrypted
    assert found.name_id == "user-1"


@pytest.mark.parametrize("bits", [128, 256])
def test_cbc_is_read_within_a_signed_response(bits: int) -> None:
    """AES-CBC passes where a signature around the response was verified first."""
    idp = Idp()
    how = Encrypting(OURS.public_key(), method=f"{XENC}aes{bits}-cbc")
    assert check(idp, idp.respond(sign=("assertion", "response"), encrypting=how)).signed == "both"


def test_optional_parts_may_be_missing() -> None:
    """What the standard leaves open may be left out: the response's Issuer and Destination, SessionIndex, Format."""
    idp = Idp()
    story = idp.story(response_issuer=None, destination=None, session_index=None, name_id_format=None, not_before=None)
    found = check(idp, idp.respond(story))
    assert found.session_index is None
    assert found.name_id_format.endswith("unspecified")


def test_several_audiences_are_fine_if_we_are_among_them() -> None:
    """One restriction may name several audiences, of which we are one; every restriction must name us."""
    idp = Idp()
    restriction = (
        "<saml:AudienceRestriction><saml:Audience>https://other.test</saml:Audience>"
        f"<saml:Audience>{idp.audience}</saml:Audience></saml:AudienceRestriction>"
    )
    story = idp.story(conditions_xml=f"<saml:Conditions>{restriction}{restriction}<saml:OneTimeUse/></saml:Conditions>")
    assert check(idp, idp.respond(story)).name_id == "user-1"


def test_attributes_are_read_whole() -> None:
    """Values come as they were sent, several of one attribute in order, and structured ones are left out."""
    idp = Idp()
    story = idp.story(
        attributes_xml="<saml:AttributeStatement>"
        '<saml:Attribute Name="roles"><saml:AttributeValue>a &amp; b</saml:AttributeValue>'
        "<saml:AttributeValue><![CDATA[<c>]]></saml:AttributeValue></saml:Attribute>"
        '<saml:Attribute Name="tree"><saml:AttributeValue><saml:NameID>x</saml:NameID></saml:AttributeValue>'
        '</saml:Attribute><saml:Attribute Name="none"/></saml:AttributeStatement>'
    )
    assert check(idp, idp.respond(story)).attributes == {"roles": ("a & b", "<c>"), "tree": (), "none": ()}


@pytest.mark.parametrize("shift", [-85, 85])
def test_clocks_may_differ_a_little(shift: int) -> None:
    """A provider whose clock is off by less than ninety seconds is understood."""
    idp = Idp()
    story = idp.story(now=NOW + timedelta(seconds=shift))
    assert check(idp, idp.respond(story)).name_id == "user-1"


def test_times_come_in_many_shapes() -> None:
    """Fractions of seconds and offsets from UTC name the same moment."""
    idp = Idp()
    story = idp.story(
        issued="2026-09-01T06:00:00.1234567Z", authn_instant="2026-09-01T08:00:00+02:00", not_before=stamp(NOW)[:-1]
    )
    assert check(idp, idp.respond(story)).authn_instant == NOW


def test_exchanged_certificates_overlap() -> None:
    """Of several pinned certificates any valid one will do, and one that can't be read is passed over."""
    idp = Idp()
    trust = Trust((certify(make_rsa("other")), "not a certificate", idp.certificate))
    assert check(idp, idp.respond(), trust=trust).name_id == "user-1"


def test_written_differently_it_is_the_same() -> None:
    """Comments, indentation, a declaration, a byte order mark and other prefixes change nothing of what is said."""
    idp = Idp()
    story = idp.story(name_id_xml="<saml:NameID>\n  <![CDATA[user]]>-<!-- so -->1\n</saml:NameID>")
    assert check(idp, idp.respond(story)).name_id == "user-1"
    plain = idp.respond()
    assert check(idp, b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- hello -->' + plain).name_id == "user-1"
    assert check(idp, b"\xef\xbb\xbf" + plain).name_id == "user-1"
    assert check(idp, idp.respond(idp.story(prefix="saml2"))).name_id == "user-1"


def test_prefixes_of_schema_types_may_be_inclusive() -> None:
    """InclusiveNamespaces is understood, as it is sent along with typed attribute values."""
    idp = Idp()
    story = idp.story(
        attributes_xml='<saml:AttributeStatement xmlns:xs="http://www.w3.org/2001/XMLSchema" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><saml:Attribute Name="id">'
        '<saml:AttributeValue xsi:type="xs:string">7</saml:AttributeValue></saml:Attribute></saml:AttributeStatement>'
    )
    assert check(idp, idp.respond(story, signing=idp.signing(prefixes="xs"))).attributes == {"id": ("7",)}


def test_a_signature_of_an_indented_document_holds() -> None:
    """A provider that indents before it signs is understood."""
    idp = Idp()
    response = idp.build(idp.story(), sign=())
    etree.indent(response)
    sign(assertion_of(response), idp.signing())
    assert check(idp, write(response)).name_id == "user-1"


def test_verification_is_fast() -> None:
    """A signed assertion takes about two milliseconds; ten times that would be a mistake of ours."""
    idp = Idp()
    document = idp.respond()
    took = []
    for _ in range(40):
        began = time.perf_counter()
        check(idp, document)
        took.append(time.perf_counter() - began)
    assert statistics.median(took) < 0.02


def test_a_signature_by_another_library_holds() -> None:
    """What signxml itself signs is believed as well."""
    from signxml.algorithms import CanonicalizationMethod
    from signxml.signer import XMLSigner

    idp = Idp()
    response = idp.build(idp.story(), sign=())
    assertion = assertion_of(response)
    signer = XMLSigner(c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0)
    key = write_key(idp.key)
    signed = signer.sign(assertion, key=key, cert=idp.certificate, reference_uri=assertion.get("ID"))
    response.replace(assertion, signed)
    assert SAML in str(signed.tag)
    assert check(idp, write(response)).name_id == "user-1"
