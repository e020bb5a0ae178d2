"""The two versions of OneRoster the district speaks, and how a 1.1 record of its books looks in each.

Sources: the 1.1 and 1.2 OpenAPI documents of 1EdTech.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sandbox_district.access import SCOPE_PREFIX, SCOPE_PREFIX_1P2
from sandbox_district.curriculum import DISTRICT_ID
from sandbox_district.records import HREF_BASE, Record

BASE_1P1: Final = "/ims/oneroster/v1p1"
BASE_1P2: Final = "/ims/oneroster/rostering/v1p2"
_HREF_BASE_1P2: Final = HREF_BASE.replace(BASE_1P1, BASE_1P2)

_USER_ROLES_1P2: Final = frozenset(
    {
        "aide",
        "counselor",
        "districtAdministrator",
        "guardian",
        "parent",
        "principal",
        "proctor",
        "relative",
        "siteAdministrator",
        "student",
        "systemAdministrator",
        "teacher",
    }
)
_ENROLLMENT_ROLES_1P2: Final = frozenset({"administrator", "proctor", "student", "teacher"})


@dataclass(frozen=True, slots=True)
class Version:
    """One version of OneRoster at the district."""

    number: str
    base: str
    scope_prefix: str
    signed: bool
    """Whether OAuth 1.0a is taken beside OAuth 2."""
    notices: bool
    """Whether a list may carry a notice beside its rows (1.1's success with a warning)."""
    show: Callable[[str, Record], Record]
    """A record of a collection as this version has it."""
    reshaped: frozenset[str]
    """Fields that are not as they are in the books."""


def show_1p2(collection: str, record: Record) -> Record:
    """A record as OneRoster 1.2 has it: roles with their orgs, flags as words, its own names of roles."""
    match collection:
        case "users":
            record = _show_user(record)
        case "enrollments":
            role = record["role"] if record["role"] in _ENROLLMENT_ROLES_1P2 else f"ext:{record['role']}"
            record = record | {"role": role, "primary": _spell_flag(record["primary"])}
        case "demographics":
            record = {name: _spell_flag(value) if isinstance(value, bool) else value for name, value in record.items()}
    return {name: value if name == "metadata" else _move_reference(value) for name, value in record.items()}


def list_roles(user: Record) -> list[Record]:
    """A 1.1 user's role at each of their orgs as 1.2's roles, exactly one of which is the primary one.

    1.2 has no `administrator`: at a school it is a siteAdministrator, elsewhere a districtAdministrator.
    """
    return [
        {
            "roleType": "primary" if number == 0 else "secondary",
            "role": _name_role(user["role"], org["sourcedId"]),
            "org": org,
        }
        for number, org in enumerate(user["orgs"])
    ]


def _name_role(role: str, org: str) -> str:
    if role == "administrator":
        return "districtAdministrator" if org == DISTRICT_ID else "siteAdministrator"
    return role if role in _USER_ROLES_1P2 else f"ext:{role}"


def _show_user(user: Record) -> Record:
    shown = {name: value for name, value in user.items() if name not in {"role", "orgs", "password"}}
    shown["enabledUser"] = _spell_flag(user["enabledUser"])
    shown["roles"] = list_roles(user)
    if user["orgs"]:
        shown["primaryOrg"] = user["orgs"][0]
    if password := user.get("password"):
        shown["userProfiles"] = [
            {
                "profileId": f"{user['sourcedId']}-tablet",
                "profileType": "tablet",
                "vendorId": "lakeverity.example",
                "credentials": [{"type": "picture", "username": user["username"], "password": password}],
            }
        ]
    return shown


def _spell_flag(value: Any) -> Any:
    return ("true" if value else "false") if isinstance(value, bool) else value


def _move_reference(value: Any) -> Any:
    """References name the version they are served in, though their host is of no use in either."""
    if isinstance(value, list):
        return [_move_reference(inner) for inner in value]
    if isinstance(value, dict):
        if "href" in value:
            return value | {"href": value["href"].replace(HREF_BASE, _HREF_BASE_1P2)}
        if isinstance(org := value.get("org"), dict):
            return value | {"org": _move_reference(org)}
    return value


ONEROSTER_1P1: Final = Version(
    "1.1", BASE_1P1, SCOPE_PREFIX, signed=True, notices=True, show=lambda _, record: record, reshaped=frozenset()
)
ONEROSTER_1P2: Final = Version(
    "1.2",
    BASE_1P2,
    SCOPE_PREFIX_1P2,
    signed=False,
    notices=False,
    show=show_1p2,
    reshaped=frozenset({"role", "orgs", "password", "roles", "primaryOrg", "userProfiles"}),
)
VERSIONS: Final = (ONEROSTER_1P1, ONEROSTER_1P2)
