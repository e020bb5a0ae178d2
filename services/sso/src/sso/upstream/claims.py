"""What is read out of ID tokens, userinfo and portals' own answers: who it is, in which district, who in the roster.

There is one normalisation, made here and nowhere else: a number counts as its decimal text, a text as it is ("007" is
not "7", and case counts), an empty text as not there. Anything else where an id should be is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sso.connections.quirks import Info, Quirks
from sso.connections.upstreams import OidcConfig

MOST_ID: Final = 255
"""Characters of an id; OpenID's limit for `sub`."""
MOST_NAME: Final = 100
MOST_NAMES_OF_CLAIMS: Final = 60
MOST_DIGITS: Final = 30


class ClaimUnusable(Exception):  # noqa: N818 - what happened to the claim
    """A value is not what can be an id; `why` says which, without the value."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Fields:
    """Where to look; of several names the first that is there counts."""

    subject: tuple[str, ...]
    tenant: tuple[str, ...]
    person: tuple[str, ...]
    name: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer said of somebody."""

    subject: str | None = field(default=None, repr=False)
    tenant: str | None = None
    person_key: str | None = field(default=None, repr=False)
    shown_as: str | None = field(default=None, repr=False)
    names: frozenset[str] = frozenset()
    """The names of all that came with it."""

    def fill(self, other: Told) -> Told:
        """With what another answer said besides. Raises `ClaimUnusable` if they are not about the same person."""
        if other.subject is None or self.subject not in (None, other.subject):
            raise ClaimUnusable("the answers are about different people")
        if self.tenant is not None and other.tenant not in (None, self.tenant):
            raise ClaimUnusable("the answers are about different tenants")
        return Told(
            subject=other.subject,
            tenant=self.tenant or other.tenant,
            person_key=self.person_key or other.person_key,
            shown_as=self.shown_as or other.shown_as,
            names=self.names | other.names,
        )


def list_token_fields(config: OidcConfig, quirks: Quirks) -> Fields:
    """Where ID tokens and userinfo say it."""
    return Fields(
        subject=("sub",),
        tenant=quirks.tenant_claims if config.tenant_claim is None else (config.tenant_claim,),
        person=quirks.person_claims if config.person_claim is None else (config.person_claim,),
        name=quirks.name_claims,
    )


def list_info_fields(config: OidcConfig, quirks: Quirks, info: Info | None) -> Fields:
    """Where a portal's own answer about its user says it; a claim the connection names may be there as well."""
    claims = list_token_fields(config, quirks)
    if info is None:
        return Fields(("sub", "id"), claims.tenant, claims.person, claims.name)
    return Fields(
        subject=info.subject,
        tenant=info.tenant if config.tenant_claim is None else claims.tenant,
        person=info.person if config.person_claim is None else claims.person,
        name=info.name,
    )


def read(said: Mapping[str, Any], fields: Fields) -> Told:
    """What an answer says of somebody. Raises `ClaimUnusable` where something is there that can't be an id."""
    return Told(
        subject=_find_id(said, fields.subject, "subject"),
        tenant=_find_id(said, fields.tenant, "tenant"),
        person_key=_find_id(said, fields.person, "roster key"),
        shown_as=_find_name(said, fields.name),
        names=frozenset(
            name for name in list(said)[:MOST_NAMES_OF_CLAIMS] if len(name) <= MOST_NAME and name.isprintable()
        ),
    )


def normalise(value: object, what: str) -> str | None:
    """An id as it is kept and compared; None where there is none. Raises `ClaimUnusable`.

    Args:
        value: as it came out of JSON.
        what: what it is, for the trace.
    """
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MOST_DIGITS:
        return str(value)
    if not isinstance(value, str) or len(value) > MOST_ID or not value.strip() or not value.isprintable():
        raise ClaimUnusable(f"the {what} is no usable text")
    return value


def _find_id(said: Mapping[str, Any], names: tuple[str, ...], what: str) -> str | None:
    found = (normalise(_look_up(said, name), what) for name in names)
    return next((value for value in found if value is not None), None)


def _find_name(said: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """A name to show: given and family name, or whatever name there is."""
    parts = [_clean(said.get(name)) for name in ("given_name", "family_name")]
    if all(parts):
        return " ".join(parts)[:MOST_NAME]
    return next((name for name in (_clean(_look_up(said, one)) for one in names) if name), None)


def _look_up(said: Mapping[str, Any], name: str) -> object:
    """The value of a claim; a dot in its name goes into an object, unless the claim itself is called so."""
    if name in said:
        return said[name]
    found: object = said
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _clean(value: object) -> str:
    """A name on one line, of no great length; nothing where it is no text."""
    if not isinstance(value, str):
        return ""
    return " ".join("".join(one if one.isprintable() else " " for one in value[: 4 * MOST_NAME]).split())[:MOST_NAME]
