"""Which responses are believed: the web browser single sign-on profile of SAML 2.0, read strictly (SAML profiles §4.1).

Everything is checked in one pure function. Nothing is read of an assertion but from the bytes its signature covers, as
the verifier gave them back; what an unsigned response says around it is only ever held against what was expected.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from lxml import etree

from sso.saml.documents import DocumentError, Element, parse, text_of
from sso.saml.encryption import decrypt_assertion
from sso.saml.names import BEARER, ENTITY_FORMAT, SUCCESS, UNSPECIFIED, tag
from sso.saml.refusals import Unbelieved, demand
from sso.saml.signatures import Trust, Verified, check_ids, check_places, is_signed, verify
from sso.saml.times import read_time

SKEW: Final = timedelta(seconds=90)
"""How far the identity provider's clock may be off, either way."""
MOST_ID_CHARACTERS: Final = 512
MOST_ATTRIBUTES: Final = 500

_CONDITIONS: Final = frozenset({tag("saml:AudienceRestriction"), tag("saml:OneTimeUse"), tag("saml:ProxyRestriction")})
_DENIALS: Final = frozenset({"AuthnFailed", "RequestDenied", "NoPassive", "NoAuthnContext", "UnknownPrincipal"})


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a response must be to be believed.

    Args:
        entity_id: the identity provider's.
        trust: whose signatures count.
        audience: our entity id.
        acs_url: where the response was posted: Destination and Recipient.
        allow_unsigned_assertion: whether a signature around the whole response is enough.
        encrypted: whether the assertion must be encrypted.
        private_key: ours, PEM; None where nothing can be encrypted to us.
        max_lifetime: the longest an assertion may be valid.
    """

    entity_id: str
    trust: Trust
    audience: str
    acs_url: str
    allow_unsigned_assertion: bool = False
    encrypted: bool = False
    private_key: str | None = field(default=None, repr=False)
    max_lifetime: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an identity provider said of somebody, after every check but those that need a memory.

    Args:
        id: for the replay store.
        in_response_to: which request it answers; None if nobody asked.
        name_id: exactly as sent, without the space around it that pretty-printing adds.
        name_id_format: its Format; "unspecified" by default.
        session_index: what the identity provider calls the session.
        authn_instant: when they signed in there.
        not_on_or_after: from when on it counts nowhere.
        attributes: their values by Name. A value that is not plain text is left out.
        signed: "assertion", "response" or "both".
        algorithm: of the signature; of the assertion's if both are signed.
        sha1: whether SHA-1 was accepted as an exception.
        encrypted: whether it came encrypted.
    """

    id: str
    in_response_to: str | None
    name_id: str = field(repr=False)
    name_id_format: str
    session_index: str | None = field(repr=False)
    authn_instant: datetime
    not_on_or_after: datetime
    attributes: Mapping[str, tuple[str, ...]] = field(repr=False)
    signed: str
    algorithm: str
    sha1: bool
    encrypted: bool


def check_response(document: bytes, expected: Expectation, now: datetime) -> Assertion:
    """The assertion of a response that holds. Raises Unbelieved with the reason for any other."""
    in_response_to: str | None = None
    try:
        response = parse(document)
        in_response_to = response.get("InResponseTo")
        return _check(response, expected, now)
    except Unbelieved as refusal:
        raise Unbelieved(refusal.why, in_response_to=in_response_to, denied=refusal.denied) from None
    except DocumentError as error:
        raise Unbelieved(str(error), in_response_to=in_response_to) from None


def is_plain(text: str) -> bool:
    """Whether a text can be somebody's id: not blank, not endless, and nothing in it that nobody can see."""
    return (
        0 < len(text) <= MOST_ID_CHARACTERS
        and bool(text.strip())
        and not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text)
    )


def _check(response: Element, expected: Expectation, now: datetime) -> Assertion:
    demand(response.tag == tag("samlp:Response"), "the document is no response")
    _check_status(response)
    plain = response.findall(tag("saml:Assertion"))
    sealed = response.findall(tag("saml:EncryptedAssertion"))
    _count(response, "Response", 1)
    _count(response, "Assertion", len(plain))
    _count(response, "EncryptedAssertion", len(sealed))
    demand(len(plain) + len(sealed) == 1, "there is not exactly one assertion")
    check_ids([response])
    check_places([response], [response, *plain])
    outer = verify(response, ".", expected.trust, now) if is_signed(response) else None
    _check_envelope(response if outer is None else outer.element, expected, now, exact=bool(outer or sealed))
    if sealed:
        verified = _open(response, sealed[0], expected, now, outer)
        signed = "assertion" if outer is None else "both"
    else:
        demand(not expected.encrypted, "the assertion is not encrypted")
        verified, signed = _choose(response, plain[0], expected, now, outer)
    said = (outer.element if outer else response).get("InResponseTo")
    return _read(verified, said, expected, now, signed=signed, encrypted=bool(sealed))


def _count(root: Element, name: str, wanted: int) -> None:
    """Raise Unbelieved unless there are as many elements with a name, in whichever namespace, anywhere."""
    found = sum(1 for element in root.iter(etree.Element) if etree.QName(element).localname == name)
    demand(found == wanted, f"there is another {name}")


def _check_status(response: Element) -> None:
    """Success, or why not; a refusal that comes without an assertion is the identity provider's own."""
    statuses = response.findall(tag("samlp:Status"))
    demand(len(statuses) == 1, "there is not exactly one status")
    codes = statuses[0].findall(tag("samlp:StatusCode"))
    demand(len(codes) == 1, "there is not exactly one status")
    if codes[0].get("Value") == SUCCESS:
        return
    inner = codes[0].find(tag("samlp:StatusCode"))
    name = "" if inner is None else inner.get("Value", "").rpartition(":")[2]
    holds = any(etree.QName(one).localname.endswith("Assertion") for one in response.iter(etree.Element))
    raise Unbelieved(f"the status is not success {name if name in _DENIALS else ''}".strip(), denied=not holds)


def _check_envelope(response: Element, expected: Expectation, now: datetime, *, exact: bool) -> None:
    """The response itself. What is signed, or holds something encrypted, must say all of it (profiles §4.1.4.2)."""
    demand(response.get("Version") == "2.0", "the version is not 2.0")
    _check_instant(response, now)
    issuers = response.findall(tag("saml:Issuer"))
    demand(len(issuers) == 1 or (not issuers and not exact), "there is not exactly one issuer")
    for issuer in issuers:
        _check_issuer(issuer, expected)
    destination = response.get("Destination")
    demand(destination is not None or not exact, "there is no destination")
    demand(destination in (None, expected.acs_url), "the destination is another")


def _check_issuer(issuer: Element, expected: Expectation) -> None:
    demand(issuer.get("Format", ENTITY_FORMAT) == ENTITY_FORMAT, "the issuer is no entity")
    demand(text_of(issuer) == expected.entity_id, "the issuer is another")


def _check_instant(element: Element, now: datetime) -> datetime:
    instant = read_time(element.get("IssueInstant", ""))
    demand(instant is not None, "there is no time of issue")
    assert instant is not None  # noqa: S101 - just demanded
    demand(instant <= now + SKEW, "it was issued in the future")
    return instant


def _open(response: Element, sealed: Element, expected: Expectation, now: datetime, outer: Verified | None) -> Verified:
    """An encrypted assertion: its own signature must be inside, whatever is signed around it (CVE-2026-2092)."""
    if expected.private_key is None:
        raise Unbelieved("nothing can be encrypted to this connection")
    assertion = decrypt_assertion(sealed, expected.private_key, authenticated=outer is not None)
    demand(assertion.tag == tag("saml:Assertion"), "something else was encrypted")
    _count(assertion, "Assertion", 1)
    _count(assertion, "EncryptedAssertion", 0)
    check_ids([response, assertion])
    check_places([assertion], [assertion])
    demand(is_signed(assertion), "the assertion is not signed")
    return verify(assertion, ".", expected.trust, now)


def _choose(
    response: Element, assertion: Element, expected: Expectation, now: datetime, outer: Verified | None
) -> tuple[Verified, str]:
    """The assertion as it is signed, and what is signed."""
    if is_signed(assertion):
        verified = verify(response, tag("saml:Assertion"), expected.trust, now)
        return verified, "assertion" if outer is None else "both"
    if outer is None or not expected.allow_unsigned_assertion:
        raise Unbelieved("the assertion is not signed")
    within = outer.element.findall(tag("saml:Assertion"))
    demand(len(within) == 1, "there is not exactly one assertion")
    return Verified(within[0], outer.algorithm, outer.sha1), "response"


def _read(
    verified: Verified,
    in_response_to: str | None,
    expected: Expectation,
    now: datetime,
    *,
    signed: str,
    encrypted: bool,
) -> Assertion:
    """What a verified assertion says, if it is for us, now, and answers what the response says it does."""
    assertion = verified.element
    demand(assertion.get("Version") == "2.0", "the version is not 2.0")
    demand(assertion.get("ID"), "the assertion has no id")
    issued = _check_instant(assertion, now)
    _check_issuer(_one(assertion, "saml:Issuer"), expected)
    _check_conditions(_one(assertion, "saml:Conditions"), expected, now)
    name_id, confirmation = _read_subject(_one(assertion, "saml:Subject"))
    end = _check_confirmation(confirmation, expected, now)
    demand(end - issued <= expected.max_lifetime, "it is valid for longer than the connection allows")
    answers = confirmation.get("InResponseTo")
    demand(answers == in_response_to, "response and assertion answer different requests")
    statement = _one(assertion, "saml:AuthnStatement")
    return Assertion(
        id=assertion.get("ID", ""),
        in_response_to=answers,
        name_id=text_of(name_id),
        name_id_format=name_id.get("Format", UNSPECIFIED),
        session_index=statement.get("SessionIndex"),
        authn_instant=_check_statement(statement, now),
        not_on_or_after=end,
        attributes=_read_attributes(assertion),
        signed=signed,
        algorithm=verified.algorithm,
        sha1=verified.sha1,
        encrypted=encrypted,
    )


def _one(element: Element, name: str) -> Element:
    found = element.findall(tag(name))
    demand(len(found) == 1, f"there is not exactly one {name.partition(':')[2]}")
    return found[0]


def _read_subject(subject: Element) -> tuple[Element, Element]:
    """NameID and the data of the one confirmation, which must be bearer."""
    known = {tag("saml:NameID"), tag("saml:SubjectConfirmation")}
    demand({child.tag for child in subject} == known, "the subject has unknown parts")
    name_id = _one(subject, "saml:NameID")
    demand(is_plain(text_of(name_id)), "the NameID is blank or not plain text")
    confirmation = _one(subject, "saml:SubjectConfirmation")
    demand(confirmation.get("Method") == BEARER, "the confirmation is not bearer")
    demand(len(confirmation) == 1, "the confirmation has unknown parts")
    data = _one(confirmation, "saml:SubjectConfirmationData")
    demand(len(data) == 0, "the confirmation has unknown parts")
    return name_id, data


def _check_confirmation(data: Element, expected: Expectation, now: datetime) -> datetime:
    demand(data.get("Recipient") == expected.acs_url, "the recipient is another")
    demand("NotBefore" not in data.attrib, "a bearer confirmation has NotBefore")
    end = _read_time(data, "NotOnOrAfter")
    if end is None:
        raise Unbelieved("the confirmation has no end")
    demand(now - SKEW < end, "the confirmation is expired")
    return end


def _check_conditions(conditions: Element, expected: Expectation, now: datetime) -> None:
    begin, end = _read_time(conditions, "NotBefore"), _read_time(conditions, "NotOnOrAfter")
    demand(begin is None or begin <= now + SKEW, "the assertion is not valid yet")
    demand(end is None or now - SKEW < end, "the assertion is expired")
    demand(begin is None or end is None or begin < end, "the assertion is never valid")
    demand({child.tag for child in conditions} <= _CONDITIONS, "a condition is not known")
    restrictions = conditions.findall(tag("saml:AudienceRestriction"))
    demand(restrictions, "there is no audience")
    for restriction in restrictions:
        audiences = [text_of(audience) for audience in restriction.findall(tag("saml:Audience"))]
        demand(expected.audience in audiences, "the audience is another")


def _check_statement(statement: Element, now: datetime) -> datetime:
    instant, end = _read_time(statement, "AuthnInstant"), _read_time(statement, "SessionNotOnOrAfter")
    if instant is None:
        raise Unbelieved("there is no time of sign-in")
    demand(instant <= now + SKEW, "the sign-in is in the future")
    demand(end is None or now - SKEW < end, "the session at the identity provider is over")
    return instant


def _read_time(element: Element, name: str) -> datetime | None:
    """A time that may be left out; one that can't be read is no time left out."""
    said = element.get(name)
    if said is None:
        return None
    read = read_time(said)
    demand(read is not None, f"{name} is not a time")
    return read


def _read_attributes(assertion: Element) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for attribute in assertion.iterfind(f"{tag('saml:AttributeStatement')}/{tag('saml:Attribute')}"):
        name = attribute.get("Name", "")
        demand(name and name not in found, "an attribute stands twice, or has no name")
        values = attribute.findall(tag("saml:AttributeValue"))
        found[name] = tuple(text_of(value) for value in values if len(value) == 0)
        demand(len(found) <= MOST_ATTRIBUTES, "there are too many attributes")
    return found
