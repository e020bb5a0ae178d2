"""How a value stands in a cell of OneRoster CSV (pure; OneRoster CSV binding, 1.1 and 1.2).

Cells are data for machines: what looks like a formula of a spreadsheet stays as it is, so that what was exported can
be read again as it was. Line ends are not allowed within a cell and become blanks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, Final

_LINE_ENDS: Final = str.maketrans({"\r": " ", "\n": " "})
_UNFIT: Final = frozenset("{}")
ROLES_OF_1_1: Final = {
    "districtAdministrator": "administrator",
    "siteAdministrator": "administrator",
    "systemAdministrator": "administrator",
    "principal": "administrator",
    "counselor": "aide",
}
"""Roles of people that only 1.2 has words for."""
_ENROLLMENT_ROLES_OF_1_2: Final = frozenset({"administrator", "proctor", "student", "teacher"})
_SEXES_OF_1_1: Final = frozenset({"male", "female"})


def write_text(value: str | None) -> str:
    """A text on one line.

    >>> write_text("=1+1"), write_text(None)
    ('=1+1', '')
    """
    if value is None:
        return ""
    return value.translate(_LINE_ENDS) if "\n" in value or "\r" in value else value


def write_flag(value: bool | None) -> str:
    """`true`, `false` or nothing."""
    return "" if value is None else "true" if value else "false"


def write_day(value: date | None) -> str:
    """`2026-09-01`."""
    return "" if value is None else value.isoformat()


def write_instant(value: datetime | None) -> str:
    """`2026-09-01T07:30:00.000Z`; the time is UTC."""
    return "" if value is None else value.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def write_list(parts: Iterable[str]) -> str:
    """A list in one cell; a part that holds a comma or a quote is in quotes of its own.

    >>> write_list(["04", "05"]), write_list(["Art, Music", "Latin"])
    ('04,05', '"Art, Music",Latin')
    """
    return ",".join(['"' + part.replace('"', '""') + '"' if "," in part or '"' in part else part for part in
                     map(write_text, parts)])  # fmt: skip


def write_user_ids(ids: Iterable[Mapping[str, str]]) -> str:
    """`{type:identifier},{type:identifier}`; an id with braces in it, or a type with a colon, can't be written.

    >>> write_user_ids([{"type": "SIS", "identifier": "7"}, {"type": "x", "identifier": "{"}])
    '{SIS:7}'
    """
    return ",".join(
        f"{{{write_text(one['type'])}:{write_text(one['identifier'])}}}"
        for one in ids
        if ":" not in one["type"] and _UNFIT.isdisjoint(one["type"]) and _UNFIT.isdisjoint(one["identifier"])
    )


def write_extra(value: Any) -> str:
    """A value of a record's metadata: text as it is, anything else as JSON has it.

    >>> write_extra("x"), write_extra(True), write_extra([1, 2]), write_extra(None)
    ('x', 'true', '[1,2]', '')
    """
    match value:
        case None:
            return ""
        case str():
            return write_text(value)
        case bool():
            return write_flag(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_sex(value: str | None, minor: int) -> str:
    """1.1 has only two words; the others are left out there."""
    return value if value is not None and (minor > 1 or value in _SEXES_OF_1_1) else ""


def write_enrollment_role(role: str, minor: int) -> str:
    """1.2 restricts the words for enrollments; the others are extensions of it."""
    return role if minor == 1 or not role or role in _ENROLLMENT_ROLES_OF_1_2 or ":" in role else f"ext:{role}"


def write_user_role(role: str, minor: int, *, at_school: bool) -> str:
    """A person's role in the words of a version; 1.2 tells administrators of schools and of districts apart."""
    if minor == 1:
        return ROLES_OF_1_1.get(role, role)
    if role == "administrator":
        return "siteAdministrator" if at_school else "districtAdministrator"
    return role


def find_primary(roles: Iterable[Mapping[str, str]]) -> Mapping[str, str] | None:
    """The primary role, else the first; None for nobody's."""
    known = list(roles)
    return next((role for role in known if role.get("roleType") == "primary"), known[0] if known else None)


def list_orgs(roles: Iterable[Mapping[str, str]]) -> list[str]:
    """Where somebody has a role: the primary one's org first, each once."""
    known = list(roles)
    first = find_primary(known)
    return list(dict.fromkeys(role["orgSourcedId"] for role in ([first] if first else []) + known))


def name_role(user: str, role: Mapping[str, str]) -> str:
    """The sourcedId of a row of roles.csv: it follows from what the row says, so it is the same in every set."""
    said = [user, *(role.get(key, "") for key in ("role", "roleType", "orgSourcedId", "beginDate", "endDate"))]
    return hashlib.blake2b("\0".join(said).encode(), digest_size=16).hexdigest()
