"""Which files a set has, with which columns in which order (pure; OneRoster CSV binding, headers of 1.1 and 1.2)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from roster_store.archives import Row
from roster_store.csv_export import cells

Version = Literal["1.1", "1.2"]
Mode = Literal["absent", "bulk", "delta"]

Record = Mapping[str, Any]
Cell = Callable[[Record], str]

ROSTER_FILES: Final = ("orgs", "academicSessions", "courses", "classes", "users", "enrollments", "demographics")
"""Parents before children; 1.2 has `roles` besides, which are made of users."""
_OTHERS_OF_1_1: Final = ("categories", "classResources", "courseResources", "lineItems", "resources", "results")
_OTHERS_OF_1_2: Final = (
    "lineItemLearningObjectiveIds", "lineItemScoreScales", "resultLearningObjectiveIds", "resultScoreScales",
    "scoreScales", "userProfiles", "userResources",
)  # fmt: skip
_COMMON: Final = ("sourcedId", "status", "dateLastModified")
PROGRAMS: Final = ("frl_status", "iep_status", "ell_status")
"""Columns of demographics that OneRoster has no field for, and metadata columns by these names have (B5)."""


def minor_of(version: Version) -> int:
    """1 or 2."""
    return int(version[-1])


def list_files(version: Version) -> list[str]:
    """Every name that a manifest of the version must have, in the order of the specification's alphabet."""
    names = [*ROSTER_FILES, *_OTHERS_OF_1_1]
    if minor_of(version) > 1:
        names += ["roles", *_OTHERS_OF_1_2]
    return sorted(names)


def list_manifest(version: Version, modes: Mapping[str, Mode]) -> list[Row]:
    """The rows of manifest.csv below its header; files without a mode are absent."""
    rows: list[Row] = [("manifest.version", "1.0"), ("oneroster.version", version)]
    rows += [(f"file.{name}", modes.get(name, "absent")) for name in list_files(version)]
    return [*rows, ("source.systemName", "Homeroom"), ("source.systemCode", "homeroom")]


@dataclass(frozen=True, slots=True)
class Extra:
    """A metadata column: its key, and every spelling of that key, the most frequent first."""

    key: str
    spellings: tuple[str, ...]


def gather_extras(keys: Iterable[str], fixed: Sequence[str] = ()) -> list[Extra]:
    """Metadata columns for these keys, the most frequent first.

    Readers are not asked to tell columns by case alone: keys that differ in nothing else share one.

    >>> [(extra.key, extra.spellings) for extra in gather_extras(["sped", "house", "Sped", " "])]
    [('sped', ('sped', 'Sped')), ('house', ('house',))]
    """
    found: dict[str, list[str]] = {name: [name] for name in fixed}
    for key in keys:
        shown = cells.write_text(key).strip()
        spellings = found.setdefault(shown.lower(), []) if shown else []
        if key not in spellings:
            spellings.append(key)
    return [Extra(cells.write_text(spellings[0]).strip(), tuple(spellings)) for spellings in found.values()]


@dataclass(frozen=True, slots=True)
class Layout:
    """A file's header, and how its rows are made of records."""

    name: str
    header: tuple[str, ...]
    render: Callable[[Sequence[Record]], Iterator[Row]]


def make_layout(
    name: str, version: Version, mode: Mode, extras: Sequence[Extra] = (), schools: Collection[str] = ()
) -> Layout:
    """The layout of a file of a set.

    Args:
        name: OneRoster's name of the file.
        version: of OneRoster.
        mode: rows of a bulk file say neither status nor date.
        extras: its metadata columns, which come last.
        schools: the sourcedIds of orgs that are schools; only roles of 1.2 ask.
    """
    minor = minor_of(version)
    if name == "roles":
        return Layout(name, (*_COMMON, *_ROLES), partial(_list_roles, schools=frozenset(schools)))
    columns = _list_columns(name, minor)
    writers = [*columns.values(), *(_extra_writer(name, extra) for extra in extras)]
    header = (*_COMMON, *columns, *(f"metadata.{extra.key}" for extra in extras))
    return Layout(name, header, partial(_list_rows, writers=writers, dated=mode == "delta"))


def _list_rows(records: Sequence[Record], writers: Sequence[Cell], *, dated: bool) -> Iterator[Row]:
    for record in records:
        marks = ("", "")
        if dated:
            marks = ("active" if record["active"] else "tobedeleted", cells.write_instant(record["changed_at"]))
        yield [record["sourced_id"], *marks, *[write(record) for write in writers]]


def _list_roles(records: Sequence[Record], schools: frozenset[str]) -> Iterator[Row]:
    """Several rows a person; always a bulk file, since only all roles of people say what they are."""
    for record in records:
        user = record["sourced_id"]
        for role in record["roles"]:
            org = role["orgSourcedId"]
            word = cells.write_user_role(role["role"], 2, at_school=org in schools)
            kind = role.get("roleType", "secondary")
            days = (role.get("beginDate") or "", role.get("endDate") or "")
            yield [cells.name_role(user, role), "", "", user, kind, word, *days, org, ""]


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _text(column: str) -> Cell:
    return lambda record: cells.write_text(record[column])


def _flag(column: str) -> Cell:
    return lambda record: cells.write_flag(record[column])


def _day(column: str) -> Cell:
    return lambda record: cells.write_day(record[column])


def _list(column: str) -> Cell:
    return lambda record: cells.write_list(record[column])


def _nothing(record: Record) -> str:
    del record
    return ""


def _orgs(record: Record) -> str:
    return cells.write_list(cells.list_orgs(record["roles"]))


def _role(record: Record) -> str:
    primary = cells.find_primary(record["roles"])
    return "" if primary is None else cells.write_user_role(primary["role"], 1, at_school=False)


def _primary_org(record: Record) -> str:
    primary = cells.find_primary(record["roles"])
    return "" if primary is None else primary["orgSourcedId"]


def _user_ids(record: Record) -> str:
    return cells.write_user_ids(record["user_ids"])


def _extra_writer(name: str, extra: Extra) -> Cell:
    """A metadata cell; for what a program says of a student, the field that is always the same comes first."""
    program = extra.key if name == "demographics" and extra.key in PROGRAMS else None

    def write(record: Record) -> str:
        if program is not None and record[program] is not None:
            return cells.write_extra(record[program])
        metadata = record["metadata"] or {}
        return next((cells.write_extra(metadata[key]) for key in extra.spellings if metadata.get(key) is not None), "")

    return write


_ROLES: Final = (
    "userSourcedId", "roleType", "role", "beginDate", "endDate", "orgSourcedId", "userProfileSourcedId",
)  # fmt: skip
_COLUMNS: Final[Mapping[str, Mapping[str, Cell]]] = {
    "academicSessions": {
        "title": _text("title"),
        "type": _text("type"),
        "startDate": _day("start_date"),
        "endDate": _day("end_date"),
        "parentSourcedId": _text("parent_sourced_id"),
        "schoolYear": _text("school_year"),
    },
    "orgs": {
        "name": _text("name"),
        "type": _text("type"),
        "identifier": _text("identifier"),
        "parentSourcedId": _text("parent_sourced_id"),
    },
    "courses": {
        "schoolYearSourcedId": _text("school_year_sourced_id"),
        "title": _text("title"),
        "courseCode": _text("course_code"),
        "grades": _list("grades"),
        "orgSourcedId": _text("org_sourced_id"),
        "subjects": _list("subjects"),
        "subjectCodes": _list("subject_codes"),
    },
    "classes": {
        "title": _text("title"),
        "grades": _list("grades"),
        "courseSourcedId": _text("course_sourced_id"),
        "classCode": _text("class_code"),
        "classType": _text("class_type"),
        "location": _text("location"),
        "schoolSourcedId": _text("school_sourced_id"),
        "termSourcedIds": _list("term_sourced_ids"),
        "subjects": _list("subjects"),
        "subjectCodes": _list("subject_codes"),
        "periods": _list("periods"),
    },
    "demographics": {
        "birthDate": _day("birth_date"),
        "sex": _text("sex"),
        "americanIndianOrAlaskaNative": _flag("american_indian_or_alaska_native"),
        "asian": _flag("asian"),
        "blackOrAfricanAmerican": _flag("black_or_african_american"),
        "nativeHawaiianOrOtherPacificIslander": _flag("native_hawaiian_or_other_pacific_islander"),
        "white": _flag("white"),
        "demographicRaceTwoOrMoreRaces": _flag("demographic_race_two_or_more_races"),
        "hispanicOrLatinoEthnicity": _flag("hispanic_or_latino_ethnicity"),
        "countryOfBirthCode": _text("country_of_birth_code"),
        "stateOfBirthAbbreviation": _text("state_of_birth_abbreviation"),
        "cityOfBirth": _text("city_of_birth"),
        "publicSchoolResidenceStatus": _text("public_school_residence_status"),
    },
}
_NAMES: Final[Mapping[str, Cell]] = {
    "username": _text("username"),
    "userIds": _user_ids,
    "givenName": _text("given_name"),
    "familyName": _text("family_name"),
    "middleName": _text("middle_name"),
    "identifier": _text("identifier"),
    "email": _text("email"),
    "sms": _text("sms"),
    "phone": _text("phone"),
    "agentSourcedIds": _list("agent_sourced_ids"),
    "grades": _list("grades"),
    "password": _nothing,
}


def _list_columns(name: str, minor: int) -> Mapping[str, Cell]:
    """A file's columns after the first three, by their headers."""
    match name:
        case "users" if minor == 1:
            return {"enabledUser": _flag("enabled_user"), "orgSourcedIds": _orgs, "role": _role, **_NAMES}
        case "users":
            return {
                "enabledUser": _flag("enabled_user"),
                **_NAMES,
                "userMasterIdentifier": _text("user_master_identifier"),
                "preferredGivenName": _text("preferred_first_name"),
                "preferredMiddleName": _text("preferred_middle_name"),
                "preferredFamilyName": _text("preferred_last_name"),
                "primaryOrgSourcedId": _primary_org,
                "pronouns": _text("pronouns"),
            }
        case "enrollments":
            return {
                "classSourcedId": _text("class_sourced_id"),
                "schoolSourcedId": _text("school_sourced_id"),
                "userSourcedId": _text("user_sourced_id"),
                "role": lambda record: cells.write_enrollment_role(record["role"], minor),
                "primary": _flag("primary"),
                "beginDate": _day("begin_date"),
                "endDate": _day("end_date"),
            }
        case "demographics":
            return {**_COLUMNS[name], "sex": lambda record: cells.write_sex(record["sex"], minor)}
    return _COLUMNS[name]
