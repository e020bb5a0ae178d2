"""Hostile SAML responses, made from genuine ones: what makes them, and where they are kept by class of attack.

Each carries a pattern of the reason it must be refused for, so that none is refused by mistake alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from played_idp import (
    DS,
    SAML,
    SAMLP,
    XENC,
    Element,
    Idp,
    make_rsa,
    write,
    write_key,
)

from sso.saml.profile import Expectation
from sso.saml.signatures import Trust

IDP = Idp()
OURS = make_rsa("ours")
FOREIGN = make_rsa("foreign")
SIGNATURE = f"{{{DS}}}Signature"
EVIL = "principal"
EXPECTED = Expectation(
    entity_id=IDP.entity_id,
    trust=Trust((IDP.certificate,)),
    audience=IDP.audience,
    acs_url=IDP.acs_url,
    private_key=write_key(OURS),
)
NOT_OURS = "not of the identity provider's key"
CLASSES: dict[int, Callable[[], Iterator[Hostile]]] = {}


@dataclass(frozen=True)
class Hostile:
    """A document that must not be believed, and why."""

    name: str
    document: bytes
    why: str
    """A regular expression."""
    expected: Expectation = field(default=EXPECTED)


def of_class(number: int) -> Callable[[Callable[[], Iterator[Hostile]]], Callable[[], Iterator[Hostile]]]:
    """Enter a generator under its class."""

    def enter(make: Callable[[], Iterator[Hostile]]) -> Callable[[], Iterator[Hostile]]:
        CLASSES[number] = make
        return make

    return enter


def expecting(**other: Any) -> Expectation:
    """Something else is allowed or trusted."""
    return replace(EXPECTED, **other)


def told(name: str, why: str, *, signed: tuple[str, ...] = ("assertion",), **said: Any) -> Hostile:
    """A rightly signed response that says something wrong."""
    return Hostile(name, IDP.respond(IDP.story(**said), sign=signed), why)


def spoilt(name: str, why: str, spoil: Callable[[Element], object], **how: Any) -> Hostile:
    """A genuine response to which something was done afterwards."""
    response = IDP.build(IDP.story(), **how)
    spoil(response)
    return Hostile(name, write(response), why)


def find(root: Element, path: str) -> Element:
    """The first element at a path like `.//ds:DigestValue`."""
    found = root.find(path, {"ds": DS, "saml": SAML, "samlp": SAMLP, "xenc": XENC})
    assert found is not None
    return found


def drop(root: Element, path: str) -> None:
    """Take an element away."""
    found = find(root, path)
    parent = found.getparent()
    assert parent is not None
    parent.remove(found)


def matches(hostile: Hostile, why: str) -> bool:
    """Whether something was refused for what it is."""
    return re.search(hostile.why, why) is not None
