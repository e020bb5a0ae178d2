"""What a tool is told in LTI 1.3: who comes, as what, and where to (Core 1.3.0 §5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from sso.launch.identification import Identified
from sso.provider.claims import make_claims

CLAIM: Final = "https://purl.imsglobal.org/spec/lti/claim/"
MESSAGE_SECONDS: Final = 300
_PERSON: Final = "http://purl.imsglobal.org/vocab/lis/v2/institution/person#"
_MEMBER: Final = "http://purl.imsglobal.org/vocab/lis/v2/membership"

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "student": (f"{_PERSON}Student", f"{_MEMBER}#Learner"),
    "teacher": (f"{_PERSON}Instructor", f"{_MEMBER}#Instructor"),
    "aide": (f"{_PERSON}Staff", f"{_MEMBER}/Instructor#TeachingAssistant"),
    "proctor": (f"{_PERSON}Staff",),
    "counselor": (f"{_PERSON}Staff",),
    "guardian": (f"{_PERSON}Observer",),
    "parent": (f"{_PERSON}Observer",),
    "relative": (f"{_PERSON}Observer",),
    "principal": (f"{_PERSON}Administrator",),
    "administrator": (f"{_PERSON}Administrator",),
    "siteAdministrator": (f"{_PERSON}Administrator",),
    "districtAdministrator": (f"{_PERSON}Administrator",),
    "systemAdministrator": (f"{_PERSON}Administrator",),
}
"""OneRoster's roles (1.1 and 1.2) in the vocabulary of LIS 2.

Nobody gets more by it than the roster says: an aide is not named an instructor beside the sub-role, and whoever looks
after a district's system is an administrator of the institution, not of the tool's.
"""
PERSON_CLAIMS: Final = ("sub", "name", "given_name", "family_name", "email")
_OTHER: Final = (f"{_PERSON}Other",)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a message leads.

    Args:
        audience: what the tool calls itself.
        target_link_uri: as registered.
        destination: the name of that, if it has one.
    """

    product_id: UUID
    audience: str
    deployment_id: str
    target_link_uri: str
    destination: str | None

    @property
    def resource_link_id(self) -> str:
        """The same for everybody at each launch to this destination (Core §5.3.5)."""
        return str(uuid5(self.product_id, self.destination or ""))


def map_roles(identified: Identified) -> list[str]:
    """Somebody's roles in the vocabulary of LIS; nothing for whom no roster knows."""
    if identified.person is None:
        return []
    found = [uri for role in identified.person.roles for uri in ROLES.get(role.role, _OTHER)]
    return list(dict.fromkeys(found))


def make_message(
    placement: Placement, identified: Identified, *, sid: UUID, issuer: str, nonce: str, now: datetime
) -> dict[str, Any]:
    """The claims of an LtiResourceLinkRequest: names as the roster has them, an address only where that is granted."""
    issued = int(now.timestamp())
    return {
        "iss": issuer,
        **_name(identified, placement.product_id),
        "aud": placement.audience,
        "iat": issued,
        "exp": issued + MESSAGE_SECONDS,
        "nonce": nonce,
        "sid": str(sid),
        f"{CLAIM}message_type": "LtiResourceLinkRequest",
        f"{CLAIM}version": "1.3.0",
        f"{CLAIM}deployment_id": placement.deployment_id,
        f"{CLAIM}target_link_uri": placement.target_link_uri,
        f"{CLAIM}resource_link": {"id": placement.resource_link_id},
        f"{CLAIM}roles": map_roles(identified),
        f"{CLAIM}tool_platform": {"guid": issuer, "name": "Homeroom", "product_family_code": "homeroom"},
        f"{CLAIM}launch_presentation": {"document_target": "window"},
        f"{CLAIM}custom": _custom(placement, identified),
        **_lis(identified),
    }


def _name(identified: Identified, product_id: UUID) -> dict[str, Any]:
    """Who it is, as this product is told in every other way, too."""
    claims = make_claims(identified, product_id, ("profile", "email"))
    return {name: claims[name] for name in PERSON_CLAIMS if name in claims}


def _lis(identified: Identified) -> dict[str, Any]:
    if identified.person is None:
        return {}
    return {f"{CLAIM}lis": {"person_sourcedid": identified.person.sourced_id}}


def _custom(placement: Placement, identified: Identified) -> dict[str, str]:
    """What LTI has no claim for; all of it texts, as the standard wants."""
    door, person = identified.door, identified.person
    account = None if person is None or person.account is None else person.account.external_id
    said = {
        "homeroom_organization_id": str(door.organization_id),
        "homeroom_integration_id": None if door.integration_id is None else str(door.integration_id),
        "homeroom_account_id": account,
        "destination": placement.destination,
    }
    return {name: value for name, value in said.items() if value is not None}
