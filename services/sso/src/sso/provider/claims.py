"""What a product is told of somebody: the same in ID tokens, at userinfo, in tickets and in LTI launches.

Everything but the subject and the organization's name is the roster's, as the store let this product see it: what the
product is not granted is not in the answer, and so not here. Nothing a portal claims gets in.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from typing import Any, Final
from uuid import UUID

from homeroom.people import RosterPerson
from sso.launch.identification import Identified

SCOPE_CLAIMS: Final[Mapping[str, tuple[str, ...]]] = {
    "openid": ("sub", "organization", "rostered"),
    "profile": ("name", "given_name", "family_name", "preferred_username"),
    "email": ("email", "email_verified"),
    "roster": ("sourced_id", "integration_id", "roles", "schools", "classes", "grades", "identifier", "account"),
}
"""Which claims each scope is good for (OpenID Connect Core §5.4)."""
SCOPES: Final = frozenset(SCOPE_CLAIMS)
"""What a product may ask for; what it is granted by its licenses is decided by the store."""
SUBJECT_CHARACTERS: Final = 32


def make_subject(person_id: UUID, product_id: UUID) -> str:
    """What a product calls somebody, for good: no two products have the same name for them (pairwise, OIDC Core §8.1).

    The person's id is 122 random bits that never leave sso, so a hash without a secret of its own tells nothing.
    """
    digest = hashlib.sha256(person_id.bytes + product_id.bytes).digest()
    return urlsafe_b64encode(digest).decode("ascii")[:SUBJECT_CHARACTERS]


def make_claims(identified: Identified, product_id: UUID, scopes: Collection[str] = SCOPES) -> dict[str, Any]:
    """What a product is told of who came in.

    Args:
        identified: who it is, seen as this product may (`Launching.admit` or `.identify` with the product).
        product_id: whose name for them is wanted.
        scopes: what was asked for; everything by default.
    """
    door, person = identified.door, identified.person
    claims: dict[str, Any] = {
        "sub": make_subject(identified.person_id, product_id),
        "organization": {"id": str(door.organization_id), "name": door.organization_name},
        "rostered": person is not None,
    }
    if person is None:
        claims |= {"name": identified.shown_as} if identified.shown_as else {}
    else:
        claims |= _describe(person) | {"integration_id": str(door.integration_id)}
    allowed = {claim for scope in {"openid", *scopes} for claim in SCOPE_CLAIMS.get(scope, ())}
    return {name: value for name, value in claims.items() if name in allowed and value is not None}


def _describe(person: RosterPerson) -> dict[str, Any]:
    """Everything the store let us see; what it left out is None."""
    given = person.preferred_first_name or person.given_name
    account = person.account
    return {
        "name": f"{given} {person.family_name}".strip() or None,
        "given_name": given or None,
        "family_name": person.family_name or None,
        "preferred_username": person.username,
        "email": person.email,
        # A roster's address was typed by somebody at the district; nobody proved that it is theirs.
        "email_verified": None if person.email is None else False,
        "sourced_id": person.sourced_id,
        "roles": list(dict.fromkeys(role.role for role in _sort(person))),
        "schools": [
            {"sourced_id": role.org_sourced_id, "role": role.role, "primary": role.primary} for role in _sort(person)
        ],
        "classes": [{"sourced_id": one.sourced_id, "title": one.title, "role": one.role} for one in person.classes]
        or None,
        "grades": None if person.grades is None else list(person.grades),
        "identifier": person.identifier,
        "account": None
        if account is None
        else {"id": account.id, "external_id": account.external_id, "active": account.active},
    }


def _sort(person: RosterPerson) -> list[Any]:
    """Their roles, the primary ones first."""
    return sorted(person.roles, key=lambda role: not role.primary)
