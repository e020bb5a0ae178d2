"""Rightly signed responses that say something wrong."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

from hostile import (
    EVIL,
    FOREIGN,
    IDP,
    NOT_OURS,
    OURS,
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
    BEARER,
    DS,
    NOW,
    XENC,
    Encrypting,
    assertion_of,
    canonicalize,
    encrypt,
    sign,
    stamp,
    write,
)


def at(**shift: float) -> str:
    """A time, from now."""
    return stamp(NOW + timedelta(**shift))


@of_class(16)
def times() -> Iterator[Hostile]:
    """Too early, too late, too long, or no time at all."""
    yield told("conditions expired", "expired", not_on_or_after=at(seconds=-90), not_before=at(minutes=-5))
    yield told("conditions long expired", "expired", not_on_or_after=at(days=-1), not_before=None)
    yield told("conditions not yet", "not valid yet", not_before=at(seconds=91), not_on_or_after=at(minutes=9))
    yield told("conditions never", "never", not_before=at(minutes=1), not_on_or_after=at(minutes=1))
    yield told("confirmation expired", "expired", confirmed_not_on_or_after=at(seconds=-90))
    yield told("confirmation without end", "no end", confirmed_not_on_or_after=None)
    yield told("confirmation with a beginning", "NotBefore", confirmed_not_before=at(minutes=-1))
    yield told("session over", "over", session_not_on_or_after=at(seconds=-90))
    yield told("issued in the future", "future", issued=at(seconds=91))
    yield told("response issued in the future", "future", response_issued=at(seconds=91))
    yield told("signed in in the future", "future", authn_instant=at(seconds=91))
    yield told("too long", "longer", confirmed_not_on_or_after=at(minutes=11))
    yield told("much too long", "longer", confirmed_not_on_or_after="9999-12-31T23:59:59Z")
    yield told("long ago, for long", "longer", issued=at(days=-30), confirmed_not_on_or_after=at(minutes=4))
    yield told("not issued", "no time of issue", issued=None)
    yield told("response not issued", "no time of issue", response_issued=None)
    yield told("no sign-in", "no time of sign-in", authn_instant=None)
    for text in ("", "tomorrow", "1788242400", "2026-13-01T00:00:00Z", "2026-09-01", "2026-09-01T06:05:00+99:00"):
        yield told(f"confirmed until {text!r}", "is not a time", confirmed_not_on_or_after=text)
        yield told(f"valid until {text!r}", "is not a time", not_on_or_after=text)
        yield told(f"issued at {text!r}", "no time of issue", issued=text)
    yield told("session until whenever", "is not a time", session_not_on_or_after="never")
    yield told("other digits", "is not a time", not_on_or_after="\uff12026-09-01T06:05:00Z")


def look_alikes(url: str) -> dict[str, str]:
    """Addresses that are not an address, though somebody might take them for it."""
    return {
        "longer": f"{url}/x",
        "with a slash": f"{url}/",
        "with a query": f"{url}?x",
        "with a fragment": f"{url}#x",
        "shorter": url[:-1],
        "containing": f"https://evil.test/?{url}",
        "as a list": f"{url} {url}",
        "upper case": url.upper(),
        "host in upper case": url.replace("homeroom", "Homeroom"),
        "another port": url.replace(".test/", ".test:80/"),
        "another scheme": url.replace("http:", "https:"),
        "another host": url.replace("homeroom.test", "homeroom.test.evil.test"),
        "another connection": url.replace("/x/", "/y/"),
        "with dots": url.replace("/sso/", "/sso/../sso/"),
        "escaped": url.replace("/acs", "/%61cs").replace("/metadata", "/%6detadata"),
        "nothing": "",
    }


@of_class(17)
def audiences() -> Iterator[Hostile]:
    """For somebody else, or for nobody in particular."""
    for name, audience in look_alikes(IDP.audience).items():
        yield told(name, "audience is another", audience=audience)
    yield told("none in the restriction", "audience is another", audience=None)
    yield told("no restriction", "no audience", conditions_xml="<saml:Conditions/>")
    yield told("no conditions", "exactly one Conditions", conditions_xml="")
    ours = f"<saml:AudienceRestriction><saml:Audience>{IDP.audience}</saml:Audience></saml:AudienceRestriction>"
    other = ours.replace(IDP.audience, "https://other.test")
    yield told("a second restriction", "another", conditions_xml=f"<saml:Conditions>{ours}{other}</saml:Conditions>")
    twice = f"<saml:Conditions>{ours}</saml:Conditions>" * 2
    yield told("conditions twice", "exactly one Conditions", conditions_xml=twice)


@of_class(18)
def recipients() -> Iterator[Hostile]:
    """Sent elsewhere."""
    for name, recipient in look_alikes(IDP.acs_url).items():
        yield told(name, "recipient is another", recipient=recipient)
    yield told("none", "recipient is another", recipient=None)
    yield told("the audience", "recipient is another", recipient=IDP.audience)


@of_class(19)
def destinations() -> Iterator[Hostile]:
    """A response that was sent elsewhere."""
    for name, destination in look_alikes(IDP.acs_url).items():
        for signed in (("assertion",), ("assertion", "response")):
            yield told(
                f"{name}, {len(signed)} signed", "destination is another", destination=destination, signed=signed
            )
    yield told("none, signed", "no destination", destination=None, signed=("assertion", "response"))


@of_class(20)
def issuers() -> Iterator[Hostile]:
    """Said by somebody else."""
    named = {name: text for name, text in look_alikes(IDP.entity_id).items() if text != IDP.entity_id}
    named["another connection with the same key"] = "https://other.test/metadata"
    for name, issuer in named.items():
        yield told(f"assertion: {name}", "issuer is another", issuer=issuer, response_issuer=IDP.entity_id)
        yield told(f"response: {name}", "issuer is another", response_issuer=issuer)
    yield told("assertion: none", "exactly one Issuer", issuer=None, response_issuer=IDP.entity_id)
    yield told(
        "none in a signed response", "exactly one issuer", response_issuer=None, signed=("assertion", "response")
    )
    two = f"<saml:Issuer>{IDP.entity_id}</saml:Issuer>"
    yield told("two in the assertion", "exactly one Issuer", assertion_extra_xml=two)
    yield told("two in the response", "exactly one issuer", extensions_xml=two)
    response = IDP.build(IDP.story(), sign=())
    find(response, "saml:Assertion/saml:Issuer").set("Format", "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress")
    sign(assertion_of(response), IDP.signing())
    yield Hostile("not an entity", write(response), "no entity")


@of_class(21)
def other_requests() -> Iterator[Hostile]:
    """Response and assertion do not answer the same request."""
    why = "different requests"
    yield told("only in the assertion", why, in_response_to=None, confirmed_in_response_to="_request")
    yield told("only in the response", why, confirmed_in_response_to=None)
    yield told("two", why, confirmed_in_response_to="_other")
    yield told("one of them empty", why, in_response_to=None, confirmed_in_response_to="")
    yield spoilt("taken away", why, lambda root: root.attrib.pop("InResponseTo"))
    yield spoilt("changed in the response", why, lambda root: root.set("InResponseTo", "_victim"))


@of_class(23)
def other_profiles() -> Iterator[Hostile]:
    """Not bearer, not successful, not 2.0, not one person."""
    for name in ("sender-vouches", "holder-of-key", "", "Bearer"):
        yield told(f"method {name}", "not bearer", method=f"urn:oasis:names:tc:SAML:2.0:cm:{name}")
    yield told("no method", "not bearer", method=None)
    status = "<samlp:Status><samlp:StatusCode Value={}/></samlp:Status>"
    top = "urn:oasis:names:tc:SAML:2.0:status:"
    for code in ("Requester", "Responder", "VersionMismatch", "success", "Success ", "PartialLogout", ""):
        yield told(f"status {code}", "not success", status_xml=status.format(f'"{top}{code}"'))
    yield told("no status", "one status", status_xml="")
    yield told("empty status", "one status", status_xml="<samlp:Status/>")
    yield told("two statuses", "one status", status_xml=status.format(f'"{top}Success"') * 2)
    two = "<samlp:Status>" + f'<samlp:StatusCode Value="{top}Success"/>' * 2 + "</samlp:Status>"
    yield told("two codes", "one status", status_xml=two)
    inner = (
        f'<samlp:Status><samlp:StatusCode Value="{top}Responder"><samlp:StatusCode Value="{top}Success"/>'
        "</samlp:StatusCode></samlp:Status>"
    )
    yield told("success within a failure", "not success", status_xml=inner)
    for version in ("1.1", "2.1", "2", "", None):
        yield told(f"version {version}", "version", version=version)
        yield told(f"response's version {version}", "version", response_version=version)
    yield from other_people()


def other_people() -> Iterator[Hostile]:
    """Nobody, two people, or somebody nobody can see."""
    for name, text in {
        "empty": "",
        "blank": "   \t\n",
        "no-break space": "\u00a0",
        "zero width": "\u200b",
        "zero width inside": "user\u200b-1",
        "joiner": "user\u200d-1",
        "right to left": "user\u202e1",
        "soft hyphen": "us\u00ader",
        "byte order mark": "\ufeffuser-1",
        "line separator": "user\u20281",
        "tab inside": "user\t1",
        "endless": "x" * 600,
    }.items():
        yield told(f"NameID {name}", "blank or not plain", name_id=text)
    name_id = "<saml:NameID>user-1</saml:NameID>"
    yield told("two NameIDs", "exactly one NameID", name_id_xml=name_id * 2)
    yield told("no NameID", "unknown parts", name_id_xml="")
    yield told("BaseID", "unknown parts", name_id_xml=f"{name_id}<saml:BaseID/>")
    yield told("EncryptedID", "unknown parts", name_id_xml="<saml:EncryptedID/>")
    yield told("no subject", "exactly one Subject", subject_xml="")
    yield told("an empty subject", "unknown parts", subject_xml="<saml:Subject/>")
    yield told("no confirmation", "unknown parts", subject_xml=f"<saml:Subject>{name_id}</saml:Subject>")
    whole = IDP.story()
    subject = whole.write_assertion().partition("<saml:Subject>")[2].partition("</saml:Subject>")[0]
    confirmation = subject.partition("</saml:NameID>")[2]
    yield told("two subjects", "exactly one Subject", subject_xml=f"<saml:Subject>{subject}</saml:Subject>" * 2)
    twice = f"<saml:Subject>{name_id}{confirmation * 2}</saml:Subject>"
    yield told("two confirmations", "exactly one SubjectConfirmation", subject_xml=twice)
    hollow = f'<saml:Subject>{name_id}<saml:SubjectConfirmation Method="{BEARER}"/></saml:Subject>'
    yield told("no data", "unknown parts", subject_xml=hollow)
    yield told("a key in the data", "unknown parts", data_xml=f'<ds:KeyInfo xmlns:ds="{DS}"/>')
    yield told("the same attribute twice", "twice", attributes=(("role", ("a",)), ("role", ("b",))))
    yield told("an attribute without a name", "no name", attributes=(("", ("a",)),))
    yield told("no statement", "exactly one AuthnStatement", statement_xml="")
    statement = f'<saml:AuthnStatement AuthnInstant="{stamp(NOW)}"/>'
    yield told("two statements", "exactly one AuthnStatement", statement_xml=statement * 2)
    condition = (
        f"<saml:Conditions><saml:AudienceRestriction><saml:Audience>{IDP.audience}</saml:Audience>"
        "</saml:AudienceRestriction><saml:Condition/></saml:Conditions>"
    )
    yield told("an unknown condition", "condition is not known", conditions_xml=condition)
    yield told("two assertions", "exactly one|another", extensions_xml=whole.write_assertion())


@of_class(24)
def encrypted() -> Iterator[Hostile]:
    """Encrypted assertions that prove nothing, or try us out."""
    good = Encrypting(OURS.public_key())
    both = ("assertion", "response")
    failed = "can't be decrypted"
    yield Hostile("unsigned inside", IDP.respond(sign=(), encrypting=good), "not signed")
    yield Hostile("signed around only", IDP.respond(sign=("response",), encrypting=good), "not signed")
    allowed = expecting(allow_unsigned_assertion=True)
    yield Hostile("likewise, allowed", IDP.respond(sign=("response",), encrypting=good), "not signed", allowed)
    foreign = Encrypting(FOREIGN.public_key())
    yield Hostile("to another key", IDP.respond(encrypting=foreign), failed)
    yield Hostile("no key of ours", IDP.respond(encrypting=good), "nothing can be", expecting(private_key=None))
    yield Hostile("not encrypted", IDP.respond(), "not encrypted", expecting(encrypted=True))
    yield Hostile("a bit turned", IDP.respond(encrypting=replace(good, spoil=True)), failed)
    for bits in (128, 192, 256):
        cbc = replace(good, method=f"{XENC}aes{bits}-cbc")
        yield Hostile(f"CBC {bits}, not signed around", IDP.respond(encrypting=cbc), "CBC")
        spoil = replace(cbc, spoil=True)
        yield Hostile(
            f"CBC {bits}, a bit turned", IDP.respond(sign=both, encrypting=spoil), failed + "|well-formed|UTF-8|not of"
        )
    for method in (f"{XENC}tripledes-cbc", f"{XENC}kw-aes128", "x", ""):
        other = replace(good, method=method)
        yield Hostile(f"method {method}", IDP.respond(sign=both, encrypting=other), "algorithm is not allowed")
    pkcs1 = replace(good, transport=f"{XENC}rsa-1_5")
    yield Hostile("PKCS 1.5", IDP.respond(encrypting=pkcs1), "algorithm is not allowed")
    lying = IDP.respond(encrypting=good).replace(f"{DS}sha1".encode(), f"{XENC}sha256".encode())
    yield Hostile("another digest", lying, failed)
    evil = IDP.signing(key=FOREIGN)
    yield Hostile("a foreign signature inside", IDP.respond(signing=evil, encrypting=good), NOT_OURS)
    yield from encrypted_oddly(good)


def encrypted_oddly(good: Encrypting) -> Iterator[Hostile]:
    """Something else is in it, or something is beside it."""

    def hold(plain: bytes, name: str, why: str) -> Hostile:
        response = IDP.build(IDP.story(), sign=())
        response.replace(assertion_of(response), etree.fromstring(encrypt(plain, good)))
        return Hostile(name, write(response), why)

    failed = "can't be decrypted"
    whole = IDP.build(IDP.story())
    yield hold(b"", "nothing", failed)
    yield hold(b"not XML", "no XML", failed)
    yield hold(b"<!DOCTYPE x>" + canonicalize(assertion_of(whole)), "a document type", failed)
    yield hold(b"x" * 150_000, "much", failed)
    yield hold(write(whole), "a response", "something else")
    yield hold(encrypt(b"x", good).encode(), "encrypted again", "something else")
    inner = IDP.build(
        IDP.story(assertion_extra_xml=f"<saml:Advice>{IDP.story().write_assertion()}</saml:Advice>"), sign=()
    )
    sign(assertion_of(inner), IDP.signing())
    yield hold(canonicalize(assertion_of(inner)), "one within another", "another Assertion")
    response = IDP.build(IDP.story(), encrypting=good)
    response.append(etree.fromstring(IDP.story(name_id=EVIL).write_assertion()))
    yield Hostile("a plain one beside it", write(response), "exactly one")
    response = IDP.build(IDP.story(), encrypting=good)
    response.append(deepcopy(response[-1]))
    yield Hostile("twice", write(response), "exactly one")
    response = IDP.build(IDP.story(response_id="_same", assertion_id="_same"), encrypting=good)
    yield Hostile("the response's id inside", write(response), "twice")
    for path in ("EncryptedKey", "CipherValue", "EncryptedData", "EncryptionMethod"):
        response = IDP.build(IDP.story(), encrypting=good)
        drop(response, f".//xenc:{path}")
        yield Hostile(f"without {path}", write(response), failed)
    for text in ("", "!!", "AAAA", "A" * 40):
        response = IDP.build(IDP.story(), encrypting=good)
        values = list(response.iter(f"{{{XENC}}}CipherValue"))
        values[-1].text = text
        yield Hostile(f"data {text!r}", write(response), failed)
        values[0].text = text
        yield Hostile(f"key and data {text!r}", write(response), failed)
