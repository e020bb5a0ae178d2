"""Header rows of OneRoster CSV files: which column is which (pure; OneRoster CSV §2.3 and §2.4, traps §7.8).

The specification wants its columns in its order and its case. Files differ in order, case, blanks and a byte order
mark, so names are looked for wherever they stand; what the specification does not name is kept as metadata.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from homeroom.codes import Code
from provider_gateway.failures import ProviderError
from provider_gateway.providers._csv_blocks import MAX_HEADER

_COMMON: Final = ("sourcedId", "status", "dateLastModified")
_USERS: Final = (
    "enabledUser", "username", "userIds", "givenName", "familyName", "middleName", "identifier", "email", "sms",
    "phone", "agentSourcedIds", "grades", "password",
)  # fmt: skip
_USERS_1_1: Final = ("orgSourcedIds", "role")
_USERS_1_2: Final = (
    "userMasterIdentifier", "resourceSourcedIds", "preferredGivenName", "preferredMiddleName", "preferredFamilyName",
    "primaryOrgSourcedId", "pronouns",
)  # fmt: skip
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "academicSessions": (*_COMMON, "title", "type", "startDate", "endDate", "parentSourcedId", "schoolYear"),
    "orgs": (*_COMMON, "name", "type", "identifier", "parentSourcedId"),
    "courses": (
        *_COMMON, "schoolYearSourcedId", "title", "courseCode", "grades", "orgSourcedId", "subjects", "subjectCodes",
    ),
    "classes": (
        *_COMMON, "title", "grades", "courseSourcedId", "classCode", "classType", "location", "schoolSourcedId",
        "termSourcedIds", "subjects", "subjectCodes", "periods",
    ),
    "users": (*_COMMON, *_USERS, *_USERS_1_1, *_USERS_1_2),
    "roles": (
        *_COMMON, "userSourcedId", "roleType", "role", "beginDate", "endDate", "orgSourcedId", "userProfileSourcedId",
    ),
    "enrollments": (
        *_COMMON, "classSourcedId", "schoolSourcedId", "userSourcedId", "role", "primary", "beginDate", "endDate",
    ),
    "demographics": (
        *_COMMON, "birthDate", "sex", "americanIndianOrAlaskaNative", "asian", "blackOrAfricanAmerican",
        "nativeHawaiianOrOtherPacificIslander", "white", "demographicRaceTwoOrMoreRaces", "hispanicOrLatinoEthnicity",
        "countryOfBirthCode", "stateOfBirthAbbreviation", "cityOfBirth", "publicSchoolResidenceStatus",
    ),
}  # fmt: skip
"""Every column of the files that are read, in 1.1, 1.2 and 1.2.1."""
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "academicSessions": ("sourcedId", "title", "type", "startDate", "endDate"),
    "orgs": ("sourcedId", "name", "type"),
    "courses": ("sourcedId", "title"),
    "classes": ("sourcedId", "title", "schoolSourcedId", "termSourcedIds"),
    "users": ("sourcedId", "username", "givenName", "familyName"),
    "roles": ("userSourcedId", "role", "orgSourcedId"),
    "enrollments": ("classSourcedId", "schoolSourcedId", "userSourcedId", "role"),
    "demographics": ("sourcedId",),
}
"""Columns without which a file is not read: those that must have values, but for a few that exporters leave out."""
_SYNONYMS: Final[Mapping[str, Mapping[str, str]]] = {
    "academicSessions": {"parentId": "parentSourcedId"},
    "orgs": {"parentId": "parentSourcedId"},
    "courses": {"schoolYearId": "schoolYearSourcedId", "orgId": "orgSourcedId", "orgSourcedIds": "orgSourcedId"},
    "classes": {
        "courseId": "courseSourcedId",
        "schoolId": "schoolSourcedId",
        "termSourcedId": "termSourcedIds",
        "termIds": "termSourcedIds",
        "period": "periods",
    },
    "users": {
        "orgSourcedId": "orgSourcedIds",
        "orgIds": "orgSourcedIds",
        "userId": "userIds",
        "agents": "agentSourcedIds",
        "agentSourceIds": "agentSourcedIds",
        "preferredFirstName": "preferredGivenName",
        "preferredLastName": "preferredFamilyName",
    },
    "roles": {"userId": "userSourcedId", "orgSourcedIds": "orgSourcedId"},
    "enrollments": {"classId": "classSourcedId", "schoolId": "schoolSourcedId", "userId": "userSourcedId"},
    "demographics": {"userSourcedId": "sourcedId"},
}
"""Names of OneRoster 1.0 and of its first drafts, taken only where the real one is not there."""
_NEVER_KEPT: Final = frozenset({"password", "userprofilesourcedid", "resourcesourcedids"})
_METADATA: Final = "metadata."
_BYTE_ORDER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_MAX_QUOTED: Final = 80


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a file has what; one for each file, so that it can be looked up by."""

    collection: str
    width: int
    """Cells in a row."""
    columns: tuple[tuple[str, int], ...]
    """OneRoster's name and the position of each column that is known and of use."""
    metadata: tuple[tuple[str, int], ...] = ()
    """The key in the record's metadata and the position of every further column."""

    def find(self, name: str) -> int | None:
        """The position of a column."""
        return next((position for known, position in self.columns if known == name), None)


def read_header(collection: str, line: bytes) -> Layout:
    """The layout a file's first line gives it.

    Args:
        collection: the file's name without `.csv`.
        line: with or without its end.

    Raises `ProviderError`: CSV_ENCODING, or CSV_HEADER naming the file and the column.
    """
    if len(line) > MAX_HEADER:
        raise _wrong(collection, "it is longer than any header")
    if line.startswith(_BYTE_ORDER_MARKS) or b"\0" in line:
        raise not_utf8(collection)
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise not_utf8(collection) from None
    try:
        names = [name.strip() for name in next(csv.reader([text], strict=True), [])]
    except csv.Error:
        raise _wrong(collection, "a quote in it is never closed, or closed too early") from None
    if not any(names):
        raise _wrong(collection, "there is none")
    lowered = [name.lower() for name in names]
    for name in names:
        if name and lowered.count(name.lower()) > 1:
            raise _wrong(collection, f"the column {name[:_MAX_QUOTED]} is there twice")
    columns = _find_columns(collection, lowered)
    missing = [name for name in REQUIRED[collection] if name not in columns]
    if missing:
        hint = " (are the cells separated by something else than commas?)" if len(names) == 1 else ""
        raise _wrong(collection, f"{_join(missing)} missing{hint}")
    taken = set(columns.values())
    kept = [
        (name[len(_METADATA) :] if name.lower().startswith(_METADATA) else name, position)
        for position, name in enumerate(names)
        if name and position not in taken and name.lower() not in _NEVER_KEPT
    ]
    used = [(name, position) for name, position in columns.items() if name.lower() not in _NEVER_KEPT]
    return Layout(collection, len(names), tuple(used), tuple((key, position) for key, position in kept if key))


def not_utf8(collection: str) -> ProviderError:
    """The error that a file is in another encoding."""
    return ProviderError(Code.CSV_ENCODING, f"{collection}.csv is not UTF-8.")


def _find_columns(collection: str, lowered: list[str]) -> dict[str, int]:
    columns = {name: lowered.index(name.lower()) for name in COLUMNS[collection] if name.lower() in lowered}
    for synonym, name in _SYNONYMS[collection].items():
        if name not in columns and synonym.lower() in lowered:
            columns[name] = lowered.index(synonym.lower())
    return columns


def _join(names: list[str]) -> str:
    return f"the column{'s' if len(names) > 1 else ''} {', '.join(names)} {'are' if len(names) > 1 else 'is'}"


def _wrong(collection: str, why: str) -> ProviderError:
    return ProviderError(Code.CSV_HEADER, f"The header of {collection}.csv can't be used: {why}.")
