"""Rows of cells → OneRoster rows as REST has them, so that both ways end in the same canonical records."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from provider_gateway.providers._csv_headers import Layout
from provider_gateway.providers._oneroster_shapes import ROW_TYPES, Ref, Row, UserIdRow
from provider_gateway.providers._oneroster_words import FLAGS

Cells = Sequence[str]
_USER_ID: Final = re.compile(r"\{([^{}]*)\}")


def split_list(cell: str) -> list[str]:
    """The parts of a cell that holds a list; a part with a comma in it is in quotes of its own.

    >>> split_list('04, 05'), split_list('"Art, Music",Latin')
    (['04', '05'], ['Art, Music', 'Latin'])
    """
    if '"' in cell:
        try:
            return [part.strip() for part in next(csv.reader([cell], skipinitialspace=True, strict=True), [])]
        except csv.Error:
            pass
    return [part.strip() for part in cell.split(",")]


def read_user_ids(cell: str) -> list[UserIdRow]:
    """A user's identifiers, written `{type:identifier},{type:identifier}`; one without a type is taken, too."""
    found = _USER_ID.findall(cell)
    if not found:
        found = split_list(cell)
    rows = []
    for text in found:
        kind, colon, identifier = text.partition(":")
        if not colon:
            kind, identifier = "", kind
        rows.append(UserIdRow(kind.strip(), identifier.strip()))
    return rows


def _text(cell: str) -> str:
    return cell


def _flag(cell: str) -> str:
    return cell if cell in FLAGS else cell.strip().lower()


def _ref(cell: str) -> Ref | None:
    return Ref(cell) if cell else None


def _refs(cell: str) -> list[Ref]:
    return [Ref(part) for part in split_list(cell) if part]


def _list(cell: str) -> list[str] | None:
    return split_list(cell) if cell else None


def _user_ids(cell: str) -> list[UserIdRow] | None:
    return read_user_ids(cell) if cell else None


_Readers = dict[str, tuple[str, Callable[[str], Any]]]
_COMMON: Final[_Readers] = {"sourcedId": ("sourced_id", _text), "status": ("status", _text)}
_GRADES: Final[_Readers] = {"grades": ("grades", _list)}
_SUBJECTS: Final[_Readers] = {"subjects": ("subjects", _list), "subjectCodes": ("subject_codes", _list)}
_DATES: Final[_Readers] = {"beginDate": ("begin_date", _text), "endDate": ("end_date", _text)}
_READERS: Final[Mapping[str, _Readers]] = {
    "orgs": _COMMON
    | {
        "name": ("name", _text),
        "type": ("type", _text),
        "identifier": ("identifier", _text),
        "parentSourcedId": ("parent", _ref),
    },
    "academicSessions": _COMMON
    | {
        "title": ("title", _text),
        "type": ("type", _text),
        "startDate": ("start_date", _text),
        "endDate": ("end_date", _text),
        "parentSourcedId": ("parent", _ref),
        "schoolYear": ("school_year", _text),
    },
    "courses": _COMMON
    | _GRADES
    | _SUBJECTS
    | {
        "title": ("title", _text),
        "courseCode": ("course_code", _text),
        "schoolYearSourcedId": ("school_year", _ref),
        "orgSourcedId": ("org", _ref),
    },
    "classes": _COMMON
    | _GRADES
    | _SUBJECTS
    | {
        "title": ("title", _text),
        "classCode": ("class_code", _text),
        "classType": ("class_type", _text),
        "location": ("location", _text),
        "courseSourcedId": ("course", _ref),
        "schoolSourcedId": ("school", _ref),
        "termSourcedIds": ("terms", _refs),
        "periods": ("periods", _list),
    },
    "users": _COMMON
    | _GRADES
    | {
        "enabledUser": ("enabled_user", _flag),
        "username": ("username", _text),
        "userIds": ("user_ids", _user_ids),
        "givenName": ("given_name", _text),
        "familyName": ("family_name", _text),
        "middleName": ("middle_name", _text),
        "identifier": ("identifier", _text),
        "email": ("email", _text),
        "sms": ("sms", _text),
        "phone": ("phone", _text),
        "agentSourcedIds": ("agents", _refs),
        "orgSourcedIds": ("orgs", _refs),
        "role": ("role", _text),
        "userMasterIdentifier": ("user_master_identifier", _text),
        "preferredGivenName": ("preferred_first_name", _text),
        "preferredMiddleName": ("preferred_middle_name", _text),
        "preferredFamilyName": ("preferred_last_name", _text),
        "primaryOrgSourcedId": ("primary_org", _ref),
        "pronouns": ("pronouns", _text),
    },
    "enrollments": _COMMON
    | _DATES
    | {
        "classSourcedId": ("class_", _ref),
        "schoolSourcedId": ("school", _ref),
        "userSourcedId": ("user", _ref),
        "role": ("role", _text),
        "primary": ("primary", _flag),
    },
    "demographics": _COMMON
    | {
        "birthDate": ("birth_date", _text),
        "sex": ("sex", _text),
        "americanIndianOrAlaskaNative": ("american_indian_or_alaska_native", _flag),
        "asian": ("asian", _flag),
        "blackOrAfricanAmerican": ("black_or_african_american", _flag),
        "nativeHawaiianOrOtherPacificIslander": ("native_hawaiian_or_other_pacific_islander", _flag),
        "white": ("white", _flag),
        "demographicRaceTwoOrMoreRaces": ("demographic_race_two_or_more_races", _flag),
        "hispanicOrLatinoEthnicity": ("hispanic_or_latino_ethnicity", _flag),
        "countryOfBirthCode": ("country_of_birth_code", _text),
        "stateOfBirthAbbreviation": ("state_of_birth_abbreviation", _text),
        "cityOfBirth": ("city_of_birth", _text),
        "publicSchoolResidenceStatus": ("public_school_residence_status", _text),
    },
}
"""Column → the attribute of the row type (`_oneroster_shapes`) and how a cell becomes its value."""


@lru_cache(maxsize=256)
def row_maker(layout: Layout) -> Callable[[Cells], Row]:
    """What makes OneRoster rows of a file's cells."""
    row_type: Any = ROW_TYPES[layout.collection]
    readers = _READERS[layout.collection]
    texts, others = [], []
    for name, position in layout.columns:
        if name in readers:
            attribute, read = readers[name]
            if read is _text:
                texts.append((attribute, position))
            else:
                others.append((attribute, position, read))
    metadata = layout.metadata

    def make(cells: Cells) -> Row:
        values: dict[str, Any] = {attribute: cells[position] for attribute, position in texts}
        for attribute, position, read in others:
            if cell := cells[position]:
                values[attribute] = read(cell)
        if metadata:
            values["metadata"] = {key: cell for key, position in metadata if (cell := cells[position])}
        row: Row = row_type(**values)
        return row

    return make
