"""What people of the staff may do, decided on facts alone.

| role | scopes | bound to | given by |
|---|---|---|---|
| platform-admin | `admin` | nothing | platform |
| district-admin | `admin` | its organization | platform, district-admin of the same |
| product-admin | what a product's client may have | its product | platform |
| support | integrations.read, connections.read, launches.read | its organization, or nothing | as far as one reaches |
| teacher | classes.refresh, classes.start | their own classes, as the roster has them | the roster |
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal
from uuid import UUID

from homeroom.auth import ADMIN, PRODUCT_SCOPES, TEACHER_SCOPES, Caller
from homeroom.people import RosterPerson

GivenRole = Literal["platform-admin", "district-admin", "product-admin", "support"]
"""What somebody can be given; that they are a teacher stands in the roster."""
Role = Literal[GivenRole, "teacher"]
Kind = Literal["portal", "rostered", "local"]
"""By what somebody is known: a portal's user id, a record of a roster, a username with a password."""

SCOPES_OF: Final[Mapping[Role, frozenset[str]]] = {
    "platform-admin": frozenset({ADMIN}),
    "district-admin": frozenset({ADMIN}),
    "product-admin": PRODUCT_SCOPES,
    "support": frozenset({"integrations.read", "connections.read", "launches.read"}),
    "teacher": TEACHER_SCOPES,
}
RANKS: Final[tuple[Role, ...]] = ("platform-admin", "district-admin", "product-admin", "support", "teacher")
"""The highest first: who has several roles and names none gets the first of these."""
DISTRICT_ROLES: Final[frozenset[GivenRole]] = frozenset({"district-admin", "support"})
"""Roles there are of a single organization."""
LEARNERS: Final = frozenset({"student", "guardian", "parent", "relative"})
"""Roles of a roster which nobody of the staff has alone (attack 56)."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A role somebody has, and where."""

    role: Role
    organization_id: UUID | None = None
    product_id: UUID | None = None
    teacher: tuple[UUID, str] | None = None
    """Of a teacher: the integration, and what its roster calls them."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token for somebody of the staff says."""

    account_id: UUID
    role: Role
    scopes: frozenset[str]
    organization_id: UUID | None = None
    product_id: UUID | None = None
    teacher: tuple[UUID, str] | None = None

    @property
    def subject(self) -> str:
        """Who it is, in tokens and audit logs: an id of ours, no name."""
        return f"staff:{self.account_id}"


def check_shape(role: GivenRole, organization_id: UUID | None, product_id: UUID | None) -> str | None:
    """What is wrong with a role and what it is bound to; None if nothing is."""
    if role == "district-admin" and organization_id is None:
        return "A district-admin is one of an organization."
    if organization_id is not None and role not in DISTRICT_ROLES:
        return f"A {role} is bound to no organization."
    if (role == "product-admin") != (product_id is not None):
        return "A product-admin, and nobody else, is one of a product."
    return None


def may_grant(caller: Caller, role: GivenRole, organization_id: UUID | None) -> bool:
    """Whether somebody may give a role, or take it: nobody gives more than they have (attack 74)."""
    if ADMIN not in caller.scopes or caller.product_id is not None or caller.teacher is not None:
        return False
    if caller.organization_id is None:
        return True
    return role in DISTRICT_ROLES and organization_id is not None and caller.may_see(organization_id)


def may_hold(
    kind: Kind,
    home: UUID | None,
    role: GivenRole,
    organization_id: UUID | None,
    *,
    platform_organizations: Collection[UUID],
) -> bool:
    """Whether a role counts for an account: a district vouches for its own people, and for nothing beyond itself.

    Whoever looks after a connection, or a roster, can come in as anybody who is known by it. So roles that reach
    further are for local accounts of the platform, and for portal users of the organizations that are the platform's
    own.
    """
    if home is None and kind == "local":
        return True
    if kind != "rostered" and home in platform_organizations:
        return True
    return home is not None and role in DISTRICT_ROLES and organization_id == home


def may_be_staff(person: RosterPerson) -> bool:
    """Whether the roster has somebody as more than a student or a relative of one."""
    return any(one.role not in LEARNERS for one in person.roles)


def teaches(person: RosterPerson) -> bool:
    """Whether somebody is a teacher at any school."""
    return any(one.role == "teacher" for one in person.roles)


def choose(
    account_id: UUID,
    holdings: Iterable[Holding],
    *,
    organization_id: UUID | None = None,
    product_id: UUID | None = None,
) -> Grant | None:
    """The highest of somebody's roles, bound to the organization and to the product that are named; None if none is.

    Who may do something everywhere may do it in one organization: their token then reaches no further.
    """
    bound = [_bind(one, organization_id, product_id) for one in holdings]
    fitting = sorted(
        (one for one in bound if one is not None),
        key=lambda one: (RANKS.index(one.role), str(one.organization_id or ""), str(one.product_id or "")),
    )
    if not fitting:
        return None
    first = fitting[0]
    scopes = SCOPES_OF[first.role]
    return Grant(account_id, first.role, scopes, first.organization_id, first.product_id, first.teacher)


def _bind(holding: Holding, organization_id: UUID | None, product_id: UUID | None) -> Holding | None:
    if product_id not in (None, holding.product_id):
        return None
    if organization_id is None or holding.organization_id == organization_id:
        return holding
    return replace(holding, organization_id=organization_id) if holding.organization_id is None else None
