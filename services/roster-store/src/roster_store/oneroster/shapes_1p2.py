"""Records as OneRoster 1.2 has them, from its OpenAPI document: where they differ from 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from roster_store.oneroster.fields import (
    Field,
    Leaf,
    Row,
    Shape,
    common,
    day,
    elements,
    flag_text,
    part,
    refer,
    reference,
    references,
    required_text,
    text,
    texts,
)
from roster_store.oneroster.shapes_1p1 import (
    ACADEMIC_SESSIONS,
    CLASSES,
    COURSES,
    ENROLLMENT_SCHOOL,
    ORGS,
    PRIMARY_ROLE,
    demographics,
    find_primary_role,
    user_ids,
)

USER_ROLES: Final = (
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
)
ENROLLMENT_ROLES: Final = ("administrator", "proctor", "student", "teacher")
_EXTENSION: Final = "ext:"


def extend(word: str, known: tuple[str, ...]) -> str:
    """A word of this version, or what it has for words of others: `ext:aide`."""
    return word if word in known or word.startswith(_EXTENSION) else _EXTENSION + word


def extend_sql(word: str, known: tuple[str, ...]) -> str:
    """SQL for the same."""
    choices = " ".join(f"WHEN '{one}' THEN '{one}'" for one in known)
    other = f"CASE WHEN {word} LIKE '{_EXTENSION}%' THEN {word} ELSE '{_EXTENSION}' || {word} END"
    return f"CASE coalesce({word}, '') WHEN '' THEN NULL {choices} ELSE {other} END"


# 1.2 has no administrators but those of a district or of a school. Somebody of whom 1.1 said no more is the
# district's if the org is one that is known and is no school.
_OVER_SCHOOLS: Final = part("over_schools")
_ROLE: Final = (
    f"CASE WHEN one ->> 'role' <> 'administrator' THEN {extend_sql('''(one ->> 'role')''', USER_ROLES)}"
    f" WHEN {_OVER_SCHOOLS} THEN 'districtAdministrator' ELSE 'siteAdministrator' END"
)
_DISTRICTS: Final = part("district_orgs", over_schools=_OVER_SCHOOLS)


def _write_role(role: Mapping[str, Any], row: Row, base: str) -> dict[str, Any]:
    org, word = role["orgSourcedId"], role["role"]
    if word == "administrator":
        word = "districtAdministrator" if org in row["district_orgs"] else "siteAdministrator"
    shown = {
        "roleType": role.get("roleType", "secondary"),
        "role": extend(word, USER_ROLES),
        "org": refer(base, "org", org),
    }
    return shown | {name: role[name] for name in ("beginDate", "endDate") if role.get(name)}


def _roles() -> Field:
    return Field(
        "roles",
        lambda row, base: [_write_role(role, row, base) for role in row["roles"]],
        {
            "role": Leaf("texts", elements("roles", _ROLE)),
            "roleType": Leaf("texts", elements("roles", "coalesce(one ->> 'roleType', 'secondary')")),
            "org.sourcedId": Leaf("texts", elements("roles", "one ->> 'orgSourcedId'")),
            "beginDate": Leaf("texts", elements("roles", "one ->> 'beginDate'")),
            "endDate": Leaf("texts", elements("roles", "one ->> 'endDate'")),
        },
        {"roles": "held.roles", "district_orgs": _DISTRICTS},
    )


def _primary_org() -> Field:
    def write(row: Row, base: str) -> dict[str, str] | None:
        role = find_primary_role(row["roles"])
        return refer(base, "org", role["orgSourcedId"]) if role else None

    sql = f"(({PRIMARY_ROLE}) ->> 'orgSourcedId')"
    return Field("primaryOrg", write, {"sourcedId": Leaf("text", sql, sql)}, {"roles": "held.roles"})


def _enrollment_role() -> Field:
    sql = extend_sql("held.role", ENROLLMENT_ROLES)
    return Field(
        "role",
        lambda row, _: extend(row["role"], ENROLLMENT_ROLES) if row["role"] else None,
        {"": Leaf("text", sql, sql)},
        {"role": "held.role"},
    )


SHAPES_1P2: Final[Mapping[str, Shape]] = {
    "orgs": ORGS,
    "academicSessions": ACADEMIC_SESSIONS,
    "courses": COURSES,
    "classes": CLASSES,
    "users": Shape(
        *common(),
        text("userMasterIdentifier"),
        text("username"),
        user_ids(),
        flag_text("enabledUser"),
        required_text("givenName"),
        required_text("familyName"),
        text("middleName"),
        text("preferredFirstName"),
        text("preferredMiddleName"),
        text("preferredLastName"),
        text("pronouns"),
        _roles(),
        _primary_org(),
        text("identifier"),
        text("email"),
        text("sms"),
        text("phone"),
        references("agents", "user", "agent_sourced_ids"),
        texts("grades"),
    ),
    "enrollments": Shape(
        *common(),
        reference("user", "user"),
        reference("class", "class"),
        reference("school", "org", sql=ENROLLMENT_SCHOOL),
        _enrollment_role(),
        flag_text("primary"),
        day("beginDate"),
        day("endDate"),
    ),
    "demographics": demographics(("male", "female", "other", "unspecified")),
}
"""By collection."""
