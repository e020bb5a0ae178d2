"""Logout messages: which are believed, and how ours are written (SAML core §3.7, profiles §4.4). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

from lxml import etree

from sso.connections.upstreams import Upstream
from sso.saml.documents import DocumentError, Element, decode_base64, inflate, parse, text_of
from sso.saml.names import SUCCESS, UNSPECIFIED, tag
from sso.saml.profile import SKEW, is_plain
from sso.saml.refusals import Unbelieved, demand
from sso.saml.requests import start_message
from sso.saml.service_provider import ServiceProvider
from sso.saml.signatures import Trust, check_ids, check_places, is_signed, verify, verify_query
from sso.saml.times import read_time

MOST_AGE: Final = timedelta(minutes=10)
"""How old a LogoutRequest may be."""
MOST_SESSIONS: Final = 100
MOST_RELAY_STATE: Final = 80
"""Bytes; SAML bindings §3.4.3. More are not given back."""
MOST_PARAMETERS: Final = 10


@dataclass(frozen=True, slots=True)
class Message:
    """A logout message as it came.

    Args:
        element: its root; what was verified, if it is `signed`.
        response: whether it is a LogoutResponse.
        signed: whether its signature was verified.
        relay_state: what the sender wants back with our answer.
    """

    element: Element
    response: bool
    signed: bool
    relay_state: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LogoutAsked:
    """Whose sessions an identity provider ends.

    Args:
        id: of the request.
        name_id: whose.
        session_indexes: which of them; None for all.
    """

    id: str
    name_id: str = field(repr=False)
    session_indexes: tuple[str, ...] | None = field(repr=False)


def read_query(query: str, trust: Trust, now: datetime) -> Message:
    """A message of the redirect binding; its signature is over the query as it came. Raises Unbelieved."""
    raw = _split(query)
    demand(raw.get("SAMLEncoding") is None, "the message's encoding is not known")
    name = _find_name(raw)
    try:
        root = parse(inflate(decode_base64(unquote_plus(raw[name], errors="strict"))))
        relay_state = None if "RelayState" not in raw else unquote_plus(raw["RelayState"], errors="strict")
        if "Signature" in raw or "SigAlg" in raw:
            demand("Signature" in raw and "SigAlg" in raw, "the signature is not complete")
            parts = [f"{one}={raw[one]}" for one in (name, "RelayState", "SigAlg") if one in raw]
            algorithm, signature = (unquote_plus(raw[one], errors="strict") for one in ("SigAlg", "Signature"))
            verify_query("&".join(parts), algorithm, signature, trust, now)
    except (DocumentError, UnicodeError) as error:
        raise Unbelieved(str(error) if isinstance(error, DocumentError) else "a parameter is not text") from None
    return Message(root, name == "SAMLResponse", "Signature" in raw, relay_state)


def read_form(form: Mapping[str, str], trust: Trust, now: datetime) -> Message:
    """A message of the POST binding, signed within. Raises Unbelieved."""
    name = _find_name(form)
    try:
        root = parse(decode_base64(form[name]))
    except DocumentError as error:
        raise Unbelieved(str(error)) from None
    check_ids([root])
    check_places([root], [root])
    signed = is_signed(root)
    element = verify(root, ".", trust, now).element if signed else root
    return Message(element, name == "SAMLResponse", signed, form.get("RelayState"))


def check_request(message: Message, upstream: Upstream, ours: ServiceProvider, now: datetime) -> LogoutAsked:
    """Whose sessions end by a LogoutRequest that holds. Raises Unbelieved."""
    request = message.element
    demand(request.tag == tag("samlp:LogoutRequest"), "the document is no logout request")
    demand(message.signed, "the logout request is not signed")
    issued = _check_sender(request, upstream, ours, now, destination=True)
    demand(now - issued <= MOST_AGE, "the logout request is too old")
    if "NotOnOrAfter" in request.attrib:
        end = read_time(request.get("NotOnOrAfter", ""))
        demand(end is not None and now - SKEW < end, "the logout request is expired")
    names = request.findall(tag("saml:NameID"))
    demand(len(names) == 1, "there is not exactly one NameID")
    indexes = request.findall(tag("samlp:SessionIndex"))
    demand(len(indexes) <= MOST_SESSIONS, "there are too many sessions")
    identifier = request.get("ID")
    demand(identifier, "the logout request has no id")
    try:
        name_id = text_of(names[0])
        sessions = tuple(text_of(index) for index in indexes)
    except DocumentError as error:
        raise Unbelieved(str(error)) from None
    demand(is_plain(name_id), "the NameID is blank or not plain text")
    return LogoutAsked(identifier or "", name_id, sessions or None)


def check_answer(message: Message, upstream: Upstream, ours: ServiceProvider, now: datetime) -> str:
    """Which request of ours a LogoutResponse answers. Raises Unbelieved.

    The session here ended before we asked, so an answer decides nothing but where the browser goes, to an address that
    was kept here. It may come without a signature; a wrong one is refused.
    """
    response = message.element
    demand(response.tag == tag("samlp:LogoutResponse"), "the document is no logout response")
    _check_sender(response, upstream, ours, now, destination=message.signed)
    answers = response.get("InResponseTo")
    demand(answers, "the logout response answers nothing")
    return answers or ""


def write_request(
    request_id: str, ours: ServiceProvider, upstream: Upstream, logout: Mapping[str, str], now: datetime
) -> bytes:
    """A LogoutRequest for the session that `Arrival.logout` describes."""
    root = start_message("samlp:LogoutRequest", request_id, upstream.saml.slo_url or "", ours, now)
    name = etree.SubElement(root, tag("saml:NameID"))
    if logout.get("name_id_format", UNSPECIFIED) != UNSPECIFIED:
        name.set("Format", logout["name_id_format"])
    name.text = logout["name_id"]
    if "session_index" in logout:
        etree.SubElement(root, tag("samlp:SessionIndex")).text = logout["session_index"]
    return etree.tostring(root)


def write_answer(response_id: str, answers: str, ours: ServiceProvider, upstream: Upstream, now: datetime) -> bytes:
    """Our LogoutResponse: whoever is not signed in here any more is signed out."""
    root = start_message("samlp:LogoutResponse", response_id, upstream.saml.slo_url or "", ours, now)
    root.set("InResponseTo", answers)
    status = etree.SubElement(root, tag("samlp:Status"))
    etree.SubElement(status, tag("samlp:StatusCode"), {"Value": SUCCESS})
    return etree.tostring(root)


def _check_sender(
    root: Element, upstream: Upstream, ours: ServiceProvider, now: datetime, *, destination: bool
) -> datetime:
    """Who says it, to whom, and when. A signed message must say to whom."""
    demand(root.get("Version") == "2.0", "the version is not 2.0")
    issuers = root.findall(tag("saml:Issuer"))
    demand(len(issuers) == 1, "there is not exactly one issuer")
    try:
        demand(text_of(issuers[0]) == upstream.saml.entity_id, "the issuer is another")
    except DocumentError as error:
        raise Unbelieved(str(error)) from None
    said = root.get("Destination")
    demand(said == ours.slo_url or (said is None and not destination), "the destination is another")
    issued = read_time(root.get("IssueInstant", ""))
    if issued is None:
        raise Unbelieved("there is no time of issue")
    demand(issued <= now + SKEW, "it was issued in the future")
    return issued


def _find_name(given: Mapping[str, str]) -> str:
    """Which of the two parameters brings the message."""
    names = [name for name in ("SAMLRequest", "SAMLResponse") if name in given]
    demand(len(names) == 1, "there is not exactly one message")
    return names[0]


def _split(query: str) -> dict[str, str]:
    """The parameters of a query as they came, undecoded; none may stand twice."""
    parts = [part.partition("=") for part in query.split("&") if part]
    demand(len(parts) <= MOST_PARAMETERS, "there are too many parameters")
    names = [unquote_plus(name) for name, _, _ in parts]
    demand(len(set(names)) == len(names), "a parameter stands twice")
    demand(all(name.isascii() for name in names), "a parameter is not known")
    return {name: value for name, _, value in parts}


def parse_form(body: bytes) -> dict[str, str]:
    """The fields of a posted form. Raises Unbelieved if one stands twice or there are too many."""
    try:
        text = body.decode("ascii")
        fields = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_PARAMETERS
        )
    except (ValueError, UnicodeError):
        raise Unbelieved("the form can't be read") from None
    names = [name for name, _ in fields]
    demand(len(set(names)) == len(names), "a field stands twice")
    return dict(fields)
