"""Who is this? What sso asks of the store when somebody comes in, and what it is answered (E4).

`POST /v1/people/resolve` and `/v1/people/link` are between sso and the store: they are on no origin, and want a token
with the scope `people.resolve` that is bound to no organization and no product.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

PersonField = Literal["sourcedId", "identifier", "userMasterIdentifier"]
"""By which field of OneRoster's users somebody is looked for; never by an e-mail address."""


class PersonQuestion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who has this value in this field, in the roster of one integration?

    Args:
        integration_id: whose roster.
        field: compared exactly, character by character.
        value: what the portal said.
        product_id: as which product sees them, with what its licenses grant; None as the platform does.
    """

    integration_id: str
    field: PersonField = "sourcedId"
    value: str
    product_id: str | None = None


class PersonRole(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A role of somebody at an org, in OneRoster's words."""

    role: str
    org_sourced_id: str
    primary: bool = False


class PersonClass(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A class somebody is enrolled in, and as what."""

    sourced_id: str
    title: str
    role: str


class PersonAccount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The account of the product that is theirs, as matched or linked (D1, D3, D4)."""

    id: str
    external_id: str | None = None
    active: bool = True


class RosterPerson(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody, as the roster has them and the one who asks may see them; what is not granted is left out.

    Args:
        formerly: sourcedIds of removed records of the same integration that have the same identifier or
            userMasterIdentifier and are nobody else's: the provider calls this person by another sourcedId now.
        classes: for a product whose classes wait for their teachers, those that were started.
        email: only where the product is granted `contacts`.
        grades: only where it is granted `grades`.
        identifier: likewise for `identifiers`.
    """

    sourced_id: str
    given_name: str
    family_name: str
    preferred_first_name: str | None = None
    roles: tuple[PersonRole, ...] = ()
    formerly: tuple[str, ...] = ()
    classes: tuple[PersonClass, ...] = ()
    account: PersonAccount | None = None
    email: str | None = None
    username: str | None = None
    grades: tuple[str, ...] | None = None
    identifier: str | None = None


Outcome = Literal["known", "removed", "unknown", "ambiguous", "hidden"]


class PersonAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the store knows.

    Args:
        outcome: `known`: active, and visible to who asks; `removed`: not active any more, or not enabled; `unknown`:
            never was; `ambiguous`: several have the value; `hidden`: there, but outside what the product is licensed
            for (other schools, or no license at all).
        person: with `known`; with `removed` only their sourcedId is true and names are blank.
        applied_at: when the integration's roster was last brought up to date; None if never.
    """

    outcome: Outcome
    person: RosterPerson | None = None
    applied_at: datetime | None = None


class LinkOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Tie an account of a product to somebody, or take them apart (D4).

    Args:
        external_id: the product's own id of the account; it is made known where it is not yet.
        sourced_id: whom it is tied to; for `unlink` whom it must be tied to.
    """

    action: Literal["link", "unlink"]
    product_id: str
    organization_id: str
    integration_id: str
    sourced_id: str
    external_id: str


class LinkOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it; a refusal is no error of the request."""

    outcome: Literal["linked", "unlinked", "account_linked", "person_linked", "unknown"]
