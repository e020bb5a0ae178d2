"""Records as OneRoster 1.1 has them, from its OpenAPI document."""

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
    flag,
    flag_text,
    part,
    refer,
    reference,
    references,
    required_text,
    text,
    texts,
    word,
)

ROLES: Final = ("administrator", "aide", "guardian", "parent", "proctor", "relative", "student", "teacher")
"""All that 1.1 has words for."""
_ADMINISTRATORS: Final = ("districtAdministrator", "siteAdministrator", "systemAdministrator", "principal")


def narrow_role(role: str) -> str:
    """A role of 1.2 in 1.1's words. Whoever is neither of them nor some administrator is an aide."""
    if role in _ADMINISTRATORS:
        return "administrator"
    return role if role in ROLES else "aide"


def narrow_role_sql(role: str) -> str:
    """SQL for the same; it looks at the role once, which may be dear to find."""
    known = [*((one, "administrator") for one in _ADMINISTRATORS), *((one, one) for one in ROLES)]
    choices = " ".join(f"WHEN '{word_}' THEN '{meaning}'" for word_, meaning in known)
    return f"CASE coalesce({role}, '') WHEN '' THEN NULL {choices} ELSE 'aide' END"


def find_primary_role(roles: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The primary role of a person, or the first; people may have none, as far as a license shows them."""
    return next((role for role in roles if role.get("roleType") == "primary"), roles[0] if roles else None)


PRIMARY_ROLE: Final = part("primary_role")
"""SQL for the same."""


def _write_role(row: Row, _base: str) -> str | None:
    role = find_primary_role(row["roles"])
    return narrow_role(role["role"]) if role else None


def _role() -> Field:
    """1.1 knows one role a person."""
    sql = narrow_role_sql(f"(({PRIMARY_ROLE}) ->> 'role')")
    return Field("role", _write_role, {"": Leaf("text", sql, sql)}, {"roles": "held.roles"})


def _orgs() -> Field:
    """Every org a person has a role at, once."""

    def write(row: Row, base: str) -> list[dict[str, str] | None]:
        return [refer(base, "org", org) for org in dict.fromkeys(role["orgSourcedId"] for role in row["roles"])]

    leaf = Leaf("texts", elements("roles", "one ->> 'orgSourcedId'"))
    return Field("orgs", write, {"sourcedId": leaf}, {"roles": "held.roles"})


def user_ids() -> Field:
    """Identifiers in other systems."""
    leaves = {name: Leaf("texts", elements("user_ids", f"one ->> '{name}'")) for name in ("type", "identifier")}
    return Field("userIds", lambda row, _: row["user_ids"], leaves, {"user_ids": "held.user_ids"})


def _enrollment_role() -> Field:
    sql = narrow_role_sql("held.role")
    return Field(
        "role",
        lambda row, _: narrow_role(row["role"]) if row["role"] else None,
        {"": Leaf("text", sql, sql)},
        {"role": "held.role"},
    )


ENROLLMENT_SCHOOL: Final = part("enrollment_school")
"""SQL for an enrollment's school."""


def _write_programs(row: Row) -> dict[str, Any]:
    """What OneRoster has no field for stands in `metadata`, under the names products know it by (B5)."""
    flags = {True: "true", False: "false", None: None}
    programs = {
        "frl_status": row["frl_status"],
        "iep_status": flags[row["iep_status"]],
        "ell_status": flags[row["ell_status"]],
    }
    return {name: value for name, value in programs.items() if value is not None}


def demographics(sexes: tuple[str, ...]) -> Shape:
    """Demographics; the versions differ in the words for a person's sex."""
    fields = common(metadata=part("program_metadata"), programs=_write_programs)
    programs = {name: f"held.{name}" for name in ("frl_status", "iep_status", "ell_status")}
    metadata = fields[-1]
    return Shape(
        *fields[:-1],
        Field(metadata.name, metadata.write, metadata.leaves, {**metadata.columns, **programs}),
        day("birthDate"),
        word("sex", known=sexes),
        flag_text("americanIndianOrAlaskaNative"),
        flag_text("asian"),
        flag_text("blackOrAfricanAmerican"),
        flag_text("nativeHawaiianOrOtherPacificIslander"),
        flag_text("white"),
        flag_text("demographicRaceTwoOrMoreRaces"),
        flag_text("hispanicOrLatinoEthnicity"),
        text("countryOfBirthCode"),
        text("stateOfBirthAbbreviation"),
        text("cityOfBirth"),
        text("publicSchoolResidenceStatus"),
    )


ORGS: Final = Shape(
    *common(), required_text("name"), word("type"), required_text("identifier"), reference("parent", "org")
)
ACADEMIC_SESSIONS: Final = Shape(
    *common(),
    required_text("title"),
    word("type"),
    day("startDate"),
    day("endDate"),
    reference("parent", "academicSession"),
    text("schoolYear"),
)
COURSES: Final = Shape(
    *common(),
    required_text("title"),
    required_text("courseCode"),
    reference("schoolYear", "academicSession"),
    reference("org", "org"),
    texts("grades"),
    texts("subjects"),
    texts("subjectCodes"),
)
CLASSES: Final = Shape(
    *common(),
    required_text("title"),
    text("classCode"),
    word("classType"),
    text("location"),
    texts("grades"),
    texts("subjects"),
    texts("subjectCodes"),
    texts("periods"),
    reference("course", "course"),
    reference("school", "org"),
    references("terms", "academicSession", "term_sourced_ids"),
)

SHAPES_1P1: Final[Mapping[str, Shape]] = {
    "orgs": ORGS,
    "academicSessions": ACADEMIC_SESSIONS,
    "courses": COURSES,
    "classes": CLASSES,
    "users": Shape(
        *common(),
        required_text("username"),
        user_ids(),
        flag("enabledUser"),
        required_text("givenName"),
        required_text("familyName"),
        text("middleName"),
        _role(),
        text("identifier"),
        text("email"),
        text("sms"),
        text("phone"),
        references("agents", "user", "agent_sourced_ids"),
        _orgs(),
        texts("grades"),
    ),
    "enrollments": Shape(
        *common(),
        reference("user", "user"),
        reference("class", "class"),
        reference("school", "org", sql=ENROLLMENT_SCHOOL),
        _enrollment_role(),
        flag("primary"),
        day("beginDate"),
        day("endDate"),
    ),
    "demographics": demographics(("male", "female")),
}
"""By collection."""
