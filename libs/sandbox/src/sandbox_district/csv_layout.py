"""What stands where in OneRoster's CSV files, and how a record's values are written into their cells."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sandbox_district.oneroster_versions import ONEROSTER_1P2
from sandbox_district.records import Record

METADATA: Final = "metadata."
_HEAD: Final = "sourcedId,status,dateLastModified,"
_SHARED: Final = {
    "academicSessions": "title,type,startDate,endDate,parentSourcedId,schoolYear",
    "orgs": "name,type,identifier,parentSourcedId",
    "courses": "schoolYearSourcedId,title,courseCode,grades,orgSourcedId,subjects,subjectCodes",
    "classes": (
        "title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,termSourcedIds,subjects,"
        "subjectCodes,periods"
    ),
    "enrollments": "classSourcedId,schoolSourcedId,userSourcedId,role,primary,beginDate,endDate",
    "demographics": (
        "birthDate,sex,americanIndianOrAlaskaNative,asian,blackOrAfricanAmerican,"
        "nativeHawaiianOrOtherPacificIslander,white,demographicRaceTwoOrMoreRaces,hispanicOrLatinoEthnicity,"
        "countryOfBirthCode,stateOfBirthAbbreviation,cityOfBirth,publicSchoolResidenceStatus"
    ),
}
_USERS_1P1: Final = (
    "enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,middleName,identifier,email,sms,phone,"
    "agentSourcedIds,grades,password"
)
_USERS_1P2: Final = (
    "enabledUser,username,userIds,givenName,familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,"
    "password,userMasterIdentifier,preferredGivenName,preferredMiddleName,preferredFamilyName,primaryOrgSourcedId,"
    "pronouns"
)
_ROLES: Final = "userSourcedId,roleType,role,beginDate,endDate,orgSourcedId,userProfileSourcedId"


def _split(headers: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple((_HEAD + header).split(",")) for name, header in headers.items()}


HEADERS: Final = {
    "1.1": _split(_SHARED | {"users": _USERS_1P1}),
    "1.2": _split(_SHARED | {"users": _USERS_1P2, "roles": _ROLES}),
}
"""The columns of each file the district has something for, by version, in the specification's order."""

_FILES_1P1: Final = (
    "academicSessions",
    "categories",
    "classes",
    "classResources",
    "courses",
    "courseResources",
    "demographics",
    "enrollments",
    "lineItems",
    "orgs",
    "resources",
    "results",
    "users",
)
_ONLY_1P2: Final = (
    "lineItemLearningObjectiveIds",
    "lineItemScoreScales",
    "resultLearningObjectiveIds",
    "resultScoreScales",
    "roles",
    "scoreScales",
    "userProfiles",
    "userResources",
)
FILES: Final = {"1.1": _FILES_1P1, "1.2": tuple(sorted((*_FILES_1P1, *_ONLY_1P2), key=str.lower))}
"""Every file a manifest has to name, by version."""


class Row(NamedTuple):
    """The cells of a row by column; its metadata, which no header knows beforehand, by column too."""

    cells: dict[str, str]
    metadata: dict[str, str]


def read_cells(name: str, version: str, record: Record, *, stamped: bool) -> Row:
    """A record's row in a file. Bulk rows have neither status nor date; passwords are left out always."""
    if version == "1.2" and name != "roles":
        record = _show_1p2(name, record)
    cells = {}
    for column in HEADERS[version][name]:
        if column == "password" or (column in {"status", "dateLastModified"} and not stamped):
            continue
        cells[column] = _READERS.get(column, _read_plain)(record, column)
    metadata = {METADATA + key: text for key, value in record.get("metadata", {}).items() if (text := _spell(value))}
    return Row(cells, metadata)


def _show_1p2(name: str, record: Record) -> Record:
    shown = ONEROSTER_1P2.show(name, record)
    renamed = {"First": "Given", "Middle": "Middle", "Last": "Family"}
    names = {f"preferred{new}Name": record.get(f"preferred{old}Name") for old, new in renamed.items()}
    return shown | (names if name == "users" else {})


def _read_plain(record: Record, column: str) -> str:
    return _spell(record.get(column))


def _read_reference(record: Record, column: str) -> str:
    reference = record.get(column.removesuffix("SourcedId"))
    return str(reference["sourcedId"]) if reference else ""


def _read_references(field: str) -> Callable[[Record, str], str]:
    return lambda record, _column: _join([ref["sourcedId"] for ref in record.get(field) or ()])


def _read_user_ids(record: Record, _column: str) -> str:
    return _join([f"{{{one['type']}:{one['identifier']}}}" for one in record.get("userIds") or ()])


_READERS: Final[dict[str, Callable[[Record, str], str]]] = {
    "parentSourcedId": _read_reference,
    "schoolYearSourcedId": _read_reference,
    "orgSourcedId": _read_reference,
    "courseSourcedId": _read_reference,
    "schoolSourcedId": _read_reference,
    "classSourcedId": _read_reference,
    "userSourcedId": _read_reference,
    "primaryOrgSourcedId": _read_reference,
    "termSourcedIds": _read_references("terms"),
    "orgSourcedIds": _read_references("orgs"),
    "agentSourcedIds": _read_references("agents"),
    "userIds": _read_user_ids,
}


def _join(values: Sequence[str]) -> str:
    return ",".join(values)


def _spell(value: Any) -> str:
    """A value as text: lists of words with commas, and what is neither as JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case [*_] if all(isinstance(part, str) for part in value):
            return _join(value)
    return msgspec.json.encode(value, order="deterministic").decode()
