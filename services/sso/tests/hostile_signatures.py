"""Responses whose signatures are missing, foreign, weak, or over something else than what is read."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from cryptography.hazmat.primitives import serialization
from hostile import (
    EVIL,
    FOREIGN,
    IDP,
    NOT_OURS,
    SIGNATURE,
    Hostile,
    drop,
    expecting,
    find,
    of_class,
    spoilt,
    told,
)
from lxml import etree
from played_idp import (
    DS,
    ENVELOPED,
    EXCLUSIVE,
    INCLUSIVE,
    MORE,
    SAML,
    SAMLP,
    Element,
    Idp,
    assertion_of,
    bare,
    certify,
    make_ec,
    make_rsa,
    sign,
    write,
    write_key_info,
)

from sso.saml.signatures import Trust


@of_class(1)
def unsigned() -> Iterator[Hostile]:
    """No signature, or none any more."""
    yield Hostile("none", IDP.respond(sign=()), "not signed")
    yield Hostile("none, allowed", IDP.respond(sign=()), "not signed", expecting(allow_unsigned_assertion=True))
    yield spoilt("stripped from the assertion", "not signed", lambda root: drop(root, ".//ds:Signature"))
    both = ("assertion", "response")
    yield spoilt("the response's kept", "not of", lambda root: drop(root, "saml:Assertion/ds:Signature"), sign=both)
    yield spoilt("emptied", "unknown parts", lambda root: find(root, ".//ds:Signature").clear())
    yield spoilt("without value", "unknown parts", lambda root: drop(root, ".//ds:SignatureValue"))
    yield spoilt("without SignedInfo", "unknown parts", lambda root: drop(root, ".//ds:SignedInfo"))
    yield spoilt("without reference", "unknown parts", lambda root: drop(root, ".//ds:Reference"))
    yield spoilt("without digest", "unknown parts", lambda root: drop(root, ".//ds:DigestValue"))
    yield spoilt("empty value", "is empty", lambda root: setattr(find(root, ".//ds:SignatureValue"), "text", ""))
    yield spoilt("empty digest", "is empty", lambda root: setattr(find(root, ".//ds:DigestValue"), "text", " "))
    yield spoilt("other digest", "not of", lambda root: setattr(find(root, ".//ds:DigestValue"), "text", "AAAA"))
    for what in ("NameID", "Audience", "Issuer"):
        path = f"saml:Assertion//saml:{what}"
        yield spoilt(f"{what} changed", "not of", lambda root, path=path: setattr(find(root, path), "text", EVIL))
    for name in ("Recipient", "NotOnOrAfter", "InResponseTo"):
        path = ".//saml:SubjectConfirmationData"
        yield spoilt(f"{name} changed", "not of", lambda root, name=name, path=path: find(root, path).set(name, "x"))


@of_class(2)
def unsigned_within() -> Iterator[Hostile]:
    """An unsigned assertion inside a signed response."""
    yield Hostile("not allowed", IDP.respond(sign=("response",)), "not signed")
    allowed = expecting(allow_unsigned_assertion=True)
    response = IDP.build(IDP.story(), sign=("response",))
    find(response, ".//saml:NameID").text = EVIL
    yield Hostile("changed", write(response), NOT_OURS, allowed)
    response = IDP.build(IDP.story(), sign=("response",))
    response.append(etree.fromstring(IDP.story(name_id=EVIL).write_assertion()))
    yield Hostile("another beside it", write(response), "exactly one assertion", allowed)
    response = IDP.build(IDP.story(), sign=("response",))
    response.replace(assertion_of(response), etree.fromstring(IDP.story(name_id=EVIL).write_assertion()))
    yield Hostile("replaced", write(response), NOT_OURS, allowed)


@of_class(3)
def foreign_keys() -> Iterator[Hostile]:
    """Signed by somebody else, whatever KeyInfo says."""
    foreign = certify(FOREIGN)
    infos = {
        "bare": "",
        "their certificate": write_key_info(foreign),
        "the genuine certificate": write_key_info(IDP.certificate),
        "both certificates": f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{bare(IDP.certificate)}"
        f"</ds:X509Certificate><ds:X509Certificate>{bare(foreign)}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>",
        "a key's name": "<ds:KeyInfo><ds:KeyName>idp.test</ds:KeyName></ds:KeyInfo>",
        "a key elsewhere": '<ds:KeyInfo><ds:RetrievalMethod URI="http://evil.test/key"/></ds:KeyInfo>',
        "a key": "<ds:KeyInfo><ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AQAB</ds:Modulus><ds:Exponent>AQAB</ds:Exponent>"
        "</ds:RSAKeyValue></ds:KeyValue></ds:KeyInfo>",
        "a key in DER": '<ds:KeyInfo><dsig11:DEREncodedKeyValue xmlns:dsig11="http://www.w3.org/2009/xmldsig11#">'
        f"{public_der(FOREIGN)}</dsig11:DEREncodedKeyValue></ds:KeyInfo>",
    }
    for name, info in infos.items():
        for signed in (("assertion",), ("assertion", "response")):
            how = IDP.signing(key=FOREIGN, key_info=info)
            yield Hostile(f"{name}, {len(signed)} signed", IDP.respond(sign=signed, signing=how), NOT_OURS)
    ec = IDP.signing(key=make_ec("foreign"), method=f"{MORE}ecdsa-sha256")
    yield Hostile("another kind of key", IDP.respond(signing=ec), NOT_OURS)
    response = IDP.build(IDP.story())
    sign(response, IDP.signing(key=FOREIGN))
    yield Hostile("a foreign signature around a genuine one", write(response), NOT_OURS)
    response = IDP.build(IDP.story(), signing=IDP.signing(key=FOREIGN))
    sign(response, IDP.signing())
    yield Hostile("a genuine signature around a foreign one", write(response), NOT_OURS)


def public_der(key: Any) -> str:
    """The public half of a key, in base64."""
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return bare(pem.decode())


@of_class(4)
def shared_secrets() -> Iterator[Hostile]:
    """HMAC, keyed with what everybody knows."""
    keys = {
        "PEM": IDP.certificate.encode(),
        "PEM stripped": IDP.certificate.strip().encode(),
        "base64": bare(IDP.certificate).encode(),
        "DER": b64decode(bare(IDP.certificate)),
        "public key": b64decode(public_der(IDP.key)),
        "nothing": b"",
    }
    for name, key in keys.items():
        for method in (f"{MORE}hmac-sha256", f"{MORE}hmac-sha512", f"{DS}hmac-sha1"):
            how = IDP.signing(key=key, method=method)
            yield Hostile(f"{method} with {name}", IDP.respond(signing=how), "algorithm is not allowed")


@of_class(5)
def weak_algorithms() -> Iterator[Hostile]:
    """SHA-1, MD5 and others in signature or digest, and short keys."""
    methods = [f"{DS}rsa-sha1", f"{MORE}rsa-md5", f"{MORE}rsa-sha224", f"{DS}dsa-sha1", f"{MORE}rsa-ripemd160", "", "x"]
    for method in [*methods, f"{MORE}RSA-SHA256", f"{MORE}rsa-sha256 "]:
        how = IDP.signing(method=method)
        yield Hostile(f"signed with {method}", IDP.respond(signing=how), "algorithm is not allowed")
    for digest in (f"{DS}sha1", f"{MORE}md5", f"{MORE}sha224", "http://www.w3.org/2001/04/xmlenc#ripemd160", ""):
        how = IDP.signing(digest=digest)
        yield Hostile(f"digest with {digest}", IDP.respond(signing=how), "algorithm is not allowed")
    short = Idp(key=make_rsa("short", 1024))
    yield Hostile("short key", short.respond(), "no usable certificate", expecting(trust=Trust((short.certificate,))))
    sha1 = expecting(trust=Trust((IDP.certificate,), allow_sha1=True))
    md5 = IDP.signing(method=f"{MORE}rsa-md5", digest=f"{MORE}md5")
    yield Hostile("MD5 where SHA-1 is allowed", IDP.respond(signing=md5), "algorithm is not allowed", sha1)
    how = IDP.signing(method=f"{DS}rsa-sha1", digest=f"{DS}sha1", key=FOREIGN)
    yield Hostile("foreign SHA-1 where it is allowed", IDP.respond(signing=how), NOT_OURS, sha1)


# ── what is signed ────────────────────────────────────────────────────────────────────────────────────────────────


@of_class(6)
def wrapped() -> Iterator[Hostile]:
    """Signature wrapping: the genuine assertion is somewhere, and a forged one where it is looked for."""
    for place in PLACES:
        for same_id in (False, True):
            for stolen in ("kept", "copied", "moved"):
                yield wrap(place, same_id=same_id, stolen=stolen)
    yield from wrapped_responses()
    yield spoilt(
        "two genuine ones", "exactly one|another Assertion", lambda root: root.append(deepcopy(assertion_of(root)))
    )


def put_in_extensions(response: Element, genuine: Element) -> None:
    """XSW 7."""
    extensions = etree.Element(f"{{{SAMLP}}}Extensions")
    extensions.append(genuine)
    response.insert(1, extensions)


def put_in_detail(response: Element, genuine: Element) -> None:
    """In StatusDetail, where a schema lets anything be."""
    etree.SubElement(find(response, "samlp:Status"), f"{{{SAMLP}}}StatusDetail").append(genuine)


def put_in_object(response: Element, genuine: Element) -> None:
    """XSW 4 and 8: in an Object of a signature of the forged one."""
    evil = assertion_of(response)
    signature = evil.find(SIGNATURE)
    if signature is None:
        signature = etree.Element(SIGNATURE)
        evil.insert(1, signature)
    etree.SubElement(signature, f"{{{DS}}}Object").append(genuine)


def put_in_evil(response: Element, genuine: Element) -> None:
    """XSW 3 and 4: within the forged one."""
    assertion_of(response).append(genuine)


def put_in_advice(response: Element, genuine: Element) -> None:
    """In Advice, where assertions may be."""
    etree.SubElement(assertion_of(response), f"{{{SAML}}}Advice").append(genuine)


def put_in_data(response: Element, genuine: Element) -> None:
    """In SubjectConfirmationData."""
    find(response, ".//saml:SubjectConfirmationData").append(genuine)


def put_in_attribute(response: Element, genuine: Element) -> None:
    """In an attribute's value."""
    statement = etree.SubElement(assertion_of(response), f"{{{SAML}}}AttributeStatement")
    attribute = etree.SubElement(statement, f"{{{SAML}}}Attribute", {"Name": "x"})
    etree.SubElement(attribute, f"{{{SAML}}}AttributeValue").append(genuine)


def put_before(response: Element, genuine: Element) -> None:
    """XSW 3: before the forged one."""
    assertion_of(response).addprevious(genuine)


def put_after(response: Element, genuine: Element) -> None:
    """Behind the forged one."""
    assertion_of(response).addnext(genuine)


def put_in_unknown(response: Element, genuine: Element) -> None:
    """In an element nobody knows."""
    etree.SubElement(response, "{urn:evil}Wrapper").append(genuine)


PLACES = (
    put_in_extensions,
    put_in_detail,
    put_in_object,
    put_in_evil,
    put_in_advice,
    put_in_data,
    put_in_attribute,
    put_before,
    put_after,
    put_in_unknown,
)


def wrap(place: Callable[[Element, Element], None], *, same_id: bool, stolen: str) -> Hostile:
    """A response whose assertion is forged, with the genuine one in some place.

    The genuine signature stays where it is, is copied to the forged one, or moves there.
    """
    response = IDP.build(IDP.story())
    genuine = assertion_of(response)
    story = IDP.story(name_id=EVIL, assertion_id=genuine.get("ID") if same_id else "_evil")
    evil = etree.fromstring(story.write_assertion())
    signature = genuine.find(SIGNATURE)
    assert signature is not None
    if stolen == "copied":
        evil.insert(1, deepcopy(signature))
    elif stolen == "moved":
        evil.insert(1, signature)
    response.replace(genuine, evil)
    place(response, genuine)
    name = f"{place.__name__}, {'same' if same_id else 'other'} id, signature {stolen}"
    return Hostile(name, write(response), "another|exactly one|out of place|twice")


def wrapped_responses() -> Iterator[Hostile]:
    """XSW 1 and 2, for the response's own signature."""
    for stolen in (True, False):
        for inside in ("object", "extensions", "sibling"):
            genuine = IDP.build(IDP.story(), sign=("response",))
            evil = etree.fromstring(IDP.story(name_id=EVIL).write())
            signature = genuine.find(SIGNATURE)
            assert signature is not None
            own = deepcopy(signature)
            if stolen:
                genuine.remove(signature)
            evil.insert(1, own)
            if inside == "object":
                etree.SubElement(own, f"{{{DS}}}Object").append(genuine)
            elif inside == "extensions":
                put_in_extensions(evil, genuine)
            else:
                own.addprevious(genuine)
            name = f"response in {inside}, signature {'moved' if stolen else 'copied'}"
            allowed = expecting(allow_unsigned_assertion=True)
            yield Hostile(name, write(evil), "another|exactly one|out of place", allowed)


@of_class(7)
def polluted_ids() -> Iterator[Hostile]:
    """Ids in other namespaces, in other spellings, or twice."""
    names = [
        f"{{{SAMLP}}}ID",
        f"{{{SAML}}}ID",
        "{urn:evil}id",
        "{urn:evil}Id",
        "{http://www.w3.org/XML/1998/namespace}id",
    ]
    for name in names:
        yield spoilt(f"{name} on the response", "has a namespace|two ids", lambda root, name=name: root.set(name, "_x"))
        yield spoilt(
            f"{name} on the issuer",
            "has a namespace",
            lambda root, name=name: find(root, "saml:Issuer").set(name, "_x"),
        )
    for name in ("Id", "id", "iD"):
        yield spoilt(f"{name} beside ID", "two ids", lambda root, name=name: root.set(name, "_x"))
        yield spoilt(
            f"{name} as the assertion's",
            "twice",
            lambda root, name=name: find(root, "saml:Issuer").set(name, assertion_of(root).get("ID", "")),
        )
    yield told("the same for both", "twice", response_id="_same", assertion_id="_same")
    yield told("no id at all", "is not one", assertion_id="")
    yield told("an id with a hash", "is not one", assertion_id="#x")
    yield told("an endless id", "is not one", assertion_id="x" * 300)


@of_class(8)
def void_canonicalization() -> Iterator[Hostile]:
    """What makes canonicalization fail must not leave an empty text to be digested."""
    empty = IDP.signing(digest_of=b"")
    yield Hostile("digest of nothing", IDP.respond(signing=empty), NOT_OURS)
    for uri in ("1", "relative/path", "../x", "x", "#x"):
        story = IDP.story(assertion_extra_xml=f'<saml:Advice xmlns:evil="{uri}"/>')
        text = story.write().encode()
        response = IDP.build(IDP.story(assertion_id=story.assertion_id), signing=empty)
        signature = etree.tostring(find(response, ".//ds:Signature"))
        yield Hostile(
            f"relative namespace {uri}",
            text.replace(b"</saml:Assertion>", signature + b"</saml:Assertion>"),
            "relative",
        )
    response = IDP.respond(signing=empty).replace(b"<ds:SignedInfo>", b'<ds:SignedInfo xmlns:evil="rel">')
    yield Hostile("relative namespace in SignedInfo", response, "relative")


@of_class(9)
def split_texts() -> Iterator[Hostile]:
    """Processing instructions and elements inside texts."""
    for name, text in {
        "instruction": f"{EVIL}<?evil?>.example",
        "instruction with data": f'{EVIL}<?xml-stylesheet href="http://evil.test"?>.example',
    }.items():
        yield told(name, "processing instruction", name_id_xml=f"<saml:NameID>{text}</saml:NameID>")
    inside = f"<saml:NameID>{EVIL}<saml:NameID>.example</saml:NameID></saml:NameID>"
    yield told("element", "more than text", name_id_xml=inside)
    yield Hostile("instruction before", b"<?evil?>" + IDP.respond(), "processing instruction")
    yield Hostile("instruction behind", IDP.respond() + b"<?evil?>", "processing instruction")
    yield spoilt(
        "comment in the response's issuer",
        "more than text",
        lambda root: find(root, "saml:Issuer").append(etree.Comment("x")),
    )
    audience = f"<saml:Audience>{IDP.audience}<x/></saml:Audience>"
    conditions = f"<saml:Conditions><saml:AudienceRestriction>{audience}</saml:AudienceRestriction></saml:Conditions>"
    yield told("element in the audience", "more than text", conditions_xml=conditions)


@of_class(10)
def doubled_parts() -> Iterator[Hostile]:
    """Comments within the signature, and parts of it twice."""
    for name in ("DigestValue", "SignatureValue", "Reference", "SignedInfo", "CanonicalizationMethod", "Transforms"):
        yield spoilt(
            f"comment in {name}",
            "has a comment",
            lambda root, name=name: find(root, f".//ds:{name}").insert(0, etree.Comment("evil")),
        )

    def insert(root: Element, name: str, *, first: bool) -> None:
        found = find(root, f".//ds:{name}")
        evil = deepcopy(found)
        for value in evil.iter(f"{{{DS}}}DigestValue"):
            value.text = "AAAA"
        (found.addprevious if first else found.addnext)(evil)

    for name in ("SignedInfo", "SignatureValue", "DigestValue", "Reference", "Transforms", "SignatureMethod"):
        for first in (True, False):
            yield spoilt(
                f"second {name}, {'before' if first else 'behind'}",
                "unknown parts|not of",
                lambda root, name=name, first=first: insert(root, name, first=first),
            )
    for first in (True, False):
        yield spoilt(
            f"second signature, {'before' if first else 'behind'}",
            "two signatures",
            lambda root, first=first: insert(root, "Signature", first=first),
        )


@of_class(15)
def transforms() -> Iterator[Hostile]:
    """Transforms, canonicalizations and references that do more than they must."""
    how = IDP.signing
    xslt = "http://www.w3.org/TR/1999/REC-xslt-19991116"
    comments = f"{EXCLUSIVE}WithComments"
    for name, chain in {
        "XSLT": (ENVELOPED, xslt),
        "XSLT as a third": (ENVELOPED, EXCLUSIVE, xslt),
        "XPath": (ENVELOPED, "http://www.w3.org/TR/1999/REC-xpath-19991116"),
        "XPath filter": ("http://www.w3.org/2002/06/xmldsig-filter2", EXCLUSIVE),
        "base64": (f"{DS}base64", EXCLUSIVE),
        "with comments": (ENVELOPED, comments),
        "inclusive": (ENVELOPED, INCLUSIVE),
        "inclusive 1.1": (ENVELOPED, "http://www.w3.org/2006/12/xml-c14n11"),
        "the wrong way round": (EXCLUSIVE, ENVELOPED),
        "one twice": (EXCLUSIVE, EXCLUSIVE),
        "three": (ENVELOPED, EXCLUSIVE, EXCLUSIVE),
        "one": (ENVELOPED,),
        "the other one": (EXCLUSIVE,),
        "none": (),
        "many": (ENVELOPED,) + (EXCLUSIVE,) * 200,
    }.items():
        yield Hostile(name, IDP.respond(signing=how(transforms=chain)), "transforms|unknown parts")
    stylesheet = (
        f'<ds:Transform Algorithm="{ENVELOPED}"><xsl:stylesheet xmlns:xsl="http://www.w3.org/1999/XSL/Transform"/>'
        f'</ds:Transform><ds:Transform Algorithm="{EXCLUSIVE}"/>'
    )
    yield Hostile("a stylesheet inside", IDP.respond(signing=how(transforms_xml=stylesheet)), "transforms")
    xpath = (
        f'<ds:Transform Algorithm="{ENVELOPED}"/>'
        f'<ds:Transform Algorithm="{EXCLUSIVE}"><ds:XPath>1</ds:XPath></ds:Transform>'
    )
    yield Hostile("an XPath inside", IDP.respond(signing=how(transforms_xml=xpath)), "unknown parts")
    for canonical in (comments, INCLUSIVE, f"{INCLUSIVE}#WithComments", xslt, "", "x"):
        yield Hostile(f"SignedInfo by {canonical}", IDP.respond(signing=how(canonical=canonical)), "canonicalization")
    for uri in (
        "",
        "http://evil.test/x",
        "file:///etc/passwd",
        "#xpointer(/)",
        "#xpointer(id('x'))",
        "#other",
        "##x",
        None,
    ):
        yield Hostile(f"reference to {uri}", IDP.respond(signing=how(uri=uri)), "reference is not")
    story = IDP.story()
    double = how(uri=f"##{story.assertion_id}")
    yield Hostile("two hashes", IDP.respond(story, signing=double), "reference is not")
    around = how(uri=f"#{story.response_id}")
    yield Hostile("reference to the response", IDP.respond(story, signing=around), "reference is not")
