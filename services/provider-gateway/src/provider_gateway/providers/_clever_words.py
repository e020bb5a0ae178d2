"""Clever's words and OneRoster's, side by side, and single values read tolerantly (docs/providers/clever.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final

from homeroom.codes import Code
from provider_gateway.failures import RecordProblem

GRADES: Final[Mapping[str, str]] = {
    "InfantToddler": "IT",
    "Preschool": "PR",
    "PreKindergarten": "PK",
    "TransitionalKindergarten": "TK",
    "Kindergarten": "KG",
    **{str(number): f"{number:02}" for number in range(1, 14)},
    **{f"{number:02}": f"{number:02}" for number in range(1, 14)},
    "PostGraduate": "PS",
    "Ungraded": "UG",
    "Other": "Other",
}
"""Clever's grades → CEDS codes; two digits are taken as they are."""

SEXES: Final[Mapping[str, str]] = {"M": "male", "F": "female", "X": "other"}

RACES: Final[Mapping[str, str | None]] = {
    "Caucasian": "white",
    "Asian": "asian",
    "Black or African American": "black_or_african_american",
    "American Indian": "american_indian_or_alaska_native",
    "Hawaiian or Other Pacific Islander": "native_hawaiian_or_other_pacific_islander",
    "Two or More Races": "demographic_race_two_or_more_races",
    "Unknown": None,
}
"""Clever's one race → the flag of OneRoster's that it sets."""

YES_NO: Final[Mapping[str, bool]] = {"Y": True, "N": False}

HOMEROOM: Final = "homeroom/advisory"
"""The subject that makes a section a homeroom."""

ROLE_ORDER: Final = ("student", "teacher", "staff", "district_admin", "contact")
"""Clever's roles; the first one a user has is the primary one."""

ROLES: Final[Mapping[str, str]] = {
    "student": "student",
    "teacher": "teacher",
    "staff": "administrator",
    "district_admin": "districtAdministrator",
}
"""What a user with one of Clever's roles is in OneRoster; contacts are by their relationship."""

RELATIONSHIPS: Final[Mapping[str, str]] = {
    "Parent": "parent",
    "Grandparent": "relative",
    "Aunt/Uncle": "relative",
    "Sibling": "relative",
    "Other": "relative",
    "Self": "guardian",
}
"""A contact's relationship → role; a relative of the type `Parent/Guardian` is a guardian."""

GUARDING_TYPE: Final = "Parent/Guardian"

DEMOGRAPHIC_FIELDS: Final = (
    "dob",
    "gender",
    "race",
    "hispanic_ethnicity",
    "ell_status",
    "iep_status",
    "frl_status",
    "section_504_status",
    "gifted_status",
    "disability",
    "home_language",
    "home_language_code",
)
"""Of a student's role: what is demographics and never part of the user."""

LONGEST_DEMOGRAPHIC: Final = 255
"""Characters of a demographic text (B5)."""

_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ].*)?\Z", re.DOTALL)
_AMERICAN = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})\Z")


@lru_cache(maxsize=32_768)
def read_date(text: str) -> date | None:
    """A calendar date as Clever writes it now (YYYY-MM-DD) or once did (MM/DD/YYYY); None if it is neither.

    >>> read_date("2014-03-09"), read_date("3/9/2014"), read_date("2014-02-31")
    (datetime.date(2014, 3, 9), datetime.date(2014, 3, 9), None)
    """
    if match := _ISO.match(text):
        year, month, day = match.groups()
    elif match := _AMERICAN.match(text):
        month, day, year = match.groups()
    else:
        return None
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def name_relation(relationship: str | None, kind: str | None) -> str:
    """What a contact is to a student, from Clever's relationship and type.

    >>> name_relation("Parent", ""), name_relation("Sibling", "Parent/Guardian"), name_relation("Sibling", "Emergency")
    ('parent', 'guardian', 'relative')
    """
    role = RELATIONSHIPS.get(relationship or "", "relative")
    return "guardian" if role == "relative" and kind == GUARDING_TYPE else role


class Fields:
    """One object of Clever's, read field by field; what nobody took is left for the metadata (B6)."""

    def __init__(self, found: Any, name: str = "") -> None:
        if not isinstance(found, dict):
            raise RecordProblem(Code.RECORD_INVALID, field=name or None)
        self._left: dict[str, Any] = dict(found)

    def drop(self, *names: str) -> None:
        """Fields that are nobody's business."""
        for name in names:
            self._left.pop(name, None)

    def raw(self, name: str) -> Any:
        """A field as it came."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """A text without blanks around it; None if there is none. Numbers are read as what they look like."""
        return as_text(self._left.pop(name, None), name)

    def texts(self, name: str) -> list[str]:
        """A list of texts, blank ones left out; one text is a list of one."""
        found = self._left.pop(name, None)
        items = found if isinstance(found, list) else [found]
        return [text for item in items if (text := as_text(item, name)) is not None]

    def inner(self, name: str) -> Fields:
        """An object in this one; empty if there is none."""
        return Fields(self._left.pop(name, None) or {}, name)

    def keep(self, name: str, value: Any) -> None:
        """Leave a value for the metadata."""
        self._left[name] = value

    def rest(self) -> dict[str, Any] | None:
        """What was not taken, without what is empty; None if that is nothing."""
        left = {name: value for name, value in self._left.items() if value is not None and value not in ("", [], {})}
        return left or None


def as_text(value: Any, name: str) -> str | None:
    """A text, or RECORD_INVALID where something else stands."""
    match value:
        case None:
            return None
        case str():
            return value.strip() or None
        case int() | float() if not isinstance(value, bool):
            return str(value)
    raise RecordProblem(Code.RECORD_INVALID, field=name)
