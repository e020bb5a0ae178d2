"""Responses that are written so that parsers differ, fetch something, or work for a long time."""

from __future__ import annotations

from collections.abc import Iterator

from hostile import (
    EVIL,
    IDP,
    NOT_OURS,
    Hostile,
    find,
    of_class,
    told,
)
from played_idp import (
    assertion_of,
    write,
)


@of_class(11)
def document_types() -> Iterator[Hostile]:
    """A document type of any kind, before any parser sees it."""
    plain = IDP.respond()
    for name, text in {
        "empty": "<!DOCTYPE x>",
        "internal": "<!DOCTYPE samlp:Response []>",
        "external": '<!DOCTYPE x SYSTEM "http://evil.test/x.dtd">',
        "public": '<!DOCTYPE x PUBLIC "-//x//y" "http://evil.test/x.dtd">',
        "default attribute": '<!DOCTYPE x [<!ATTLIST samlp:Response ID CDATA "_x">]>',
        "entity": '<!DOCTYPE x [<!ENTITY a "b">]>',
        "lower case": "<!doctype x>",
        "behind a comment": "<!-- x --><!DOCTYPE x>",
        "behind space": "\n\n <!DOCTYPE x>",
        "notation": '<!DOCTYPE x [<!NOTATION a SYSTEM "b">]>',
    }.items():
        yield Hostile(name, text.encode() + plain, "document type")
    yield Hostile("behind a mark", b"\xef\xbb\xbf<!DOCTYPE x>" + plain, "document type")
    yield Hostile("behind a declaration", b'<?xml version="1.0"?><!DOCTYPE x>' + plain, "document type")
    yield Hostile("at the end", plain + b"<!DOCTYPE x>", "document type")
    yield Hostile("cut off", plain[:-20], "well-formed")
    yield Hostile("two roots", plain + plain, "well-formed")
    yield Hostile("nothing", b"", "well-formed")
    yield Hostile("no XML", b"{}", "well-formed")
    yield Hostile("another root", plain.replace(b"samlp:Response", b"samlp:Answer"), "no response")
    yield Hostile("an assertion alone", write(assertion_of(IDP.build(IDP.story()))), "no response")
    yield Hostile(
        "two attributes of one name",
        plain.replace(b' Version="2.0"', b' Version="2.0" Version="2.0"', 1),
        "well-formed",
    )


@of_class(12)
def external_entities() -> Iterator[Hostile]:
    """Entities that would fetch something."""
    for name, entity in {
        "file": '<!ENTITY x SYSTEM "file:///etc/passwd">',
        "web": '<!ENTITY x SYSTEM "http://127.0.0.1:9/x">',
        "parameter": '<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;',
        "in base64": '<!ENTITY x PUBLIC "x" "file:///etc/hosts">',
    }.items():
        text = IDP.respond().replace(b">user-1<", b">&x;<")
        yield Hostile(name, f"<!DOCTYPE x [{entity}]>".encode() + text, "document type")
    yield Hostile("undeclared", IDP.respond().replace(b">user-1<", b">&x;<"), "well-formed")
    include = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'
    yield told("XInclude", "more than text", name_id_xml=f"<saml:NameID>{include}</saml:NameID>")


@of_class(13)
def bombs() -> Iterator[Hostile]:
    """What would take long or much."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    yield Hostile("laughs", f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><x>&l9;</x>'.encode(), "document type")
    yield Hostile("deep", b"<a>" * 60_000 + b"</a>" * 60_000, "too large")
    yield Hostile("deep, but small", b"<a>" * 30_000 + b"</a>" * 30_000, "well-formed")
    yield Hostile("rather deep", b"<a>" * 200 + b"</a>" * 200, "too deep")
    yield Hostile("an endless attribute", b'<a b="' + b"x" * 12_000_000 + b'"/>', "too large")
    yield Hostile("an endless text", b"<a>" + b"x" * 300_000 + b"</a>", "too large")
    many = " ".join(f'a{n}="1"' for n in range(20_000))
    yield Hostile("many attributes", f"<a {many}/>".encode(), "too many attributes")
    spaces = " ".join(f'xmlns:n{n}="urn:{n}"' for n in range(9_000))
    yield Hostile("many namespaces", f"<a {spaces}/>".encode(), "too deep or too large")
    yield Hostile("many elements", b"<a>" + b"<b/>" * 50_000 + b"</a>", "too large")
    story = IDP.story(
        attributes_xml="<saml:AttributeStatement>" + '<saml:Attribute Name="a"/>' * 4_000 + "</saml:AttributeStatement>"
    )
    yield Hostile("many attributes of somebody", IDP.respond(story), "twice")
    names = "".join(f'<saml:Attribute Name="a{n}"/>' for n in range(2_000))
    story = IDP.story(attributes_xml=f"<saml:AttributeStatement>{names}</saml:AttributeStatement>")
    yield Hostile("many attributes of different names", IDP.respond(story), "too many attributes")
    nested = "".join(f'<x xmlns:a{n}="urn:{n}" a{n}:b="c">' for n in range(30)) + "</x>" * 30
    story = IDP.story(assertion_extra_xml=f"<saml:Advice>{nested * 60}</saml:Advice>")
    response = IDP.build(story)
    find(response, ".//saml:NameID").text = EVIL
    yield Hostile("dear to canonicalize", write(response), NOT_OURS)


@of_class(14)
def encodings() -> Iterator[Hostile]:
    """Anything but UTF-8."""
    text = IDP.respond().decode()
    for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp500"):
        yield Hostile(name, text.encode(name), "UTF-8")
        yield Hostile(f"{name}, declared", f'<?xml version="1.0" encoding="{name}"?>{text}'.encode(name), "UTF-8")
        yield Hostile(f"{name}, with a type", f"<!DOCTYPE x>{text}".encode(name), "UTF-8")
    for name in ("UTF-7", "ISO-8859-1", "US-ASCII", "UTF-16", "EBCDIC-CP-US", "UCS-4", "x", ""):
        yield Hostile(f"says {name}", f'<?xml version="1.0" encoding="{name}"?>{text}'.encode(), "UTF-8")
    yield Hostile("says it in another way", f"<?xml version='1.0' encoding = 'utf-16' ?>{text}".encode(), "UTF-8")
    yield Hostile("version 1.1", f'<?xml version="1.1" encoding="UTF-8"?>{text}'.encode(), "declaration")
    yield Hostile("broken declaration", f"<?xml encoding='UTF-8'?>{text}".encode(), "declaration")
    yield Hostile("overlong", text.encode().replace(b"user-1", b"user\xc0\xad1"), "UTF-8")
    yield Hostile("surrogates", text.encode().replace(b"user-1", b"user\xed\xa0\x801"), "UTF-8")
    yield Hostile("latin", text.replace("user-1", "usér-1").encode("latin-1"), "UTF-8")
    yield Hostile("a zero", text.encode().replace(b"user-1", b"user\x00-1"), "UTF-8")
