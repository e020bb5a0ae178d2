"""Clever's words for what OneRoster says otherwise: grades, subjects, race, meals, support and language.

Source: Clever's Swagger documents of Data API v3.0 and v3.1.
"""

from collections.abc import Iterable
from typing import Final

from sandbox_district.records import Record

_GRADES: Final = {
    "IT": "InfantToddler",
    "PR": "Preschool",
    "PK": "PreKindergarten",
    "TK": "TransitionalKindergarten",
    "KG": "Kindergarten",
    "PS": "PostGraduate",
    "UG": "Ungraded",
} | {f"{grade:02}": str(grade) for grade in range(1, 14)}
_SUBJECTS: Final = {
    "Homeroom": "homeroom/advisory",
    "Reading": "english/language arts",
    "English": "english/language arts",
    "Rhetoric": "english/language arts",
    "Arithmetic": "math",
    "Mathematics": "math",
    "Science": "science",
    "Nature": "science",
    "History": "social studies",
    "World History": "social studies",
    "Economics": "social studies",
    "Español I": "language",
    "Français II": "language",
    "Coding": "technology and engineering",
    "Robotics": "technology and engineering",
    "Physical Education": "PE and health",
    "Art": "arts and music",
    "Music": "arts and music",
    "Band": "arts and music",
    "Painting": "arts and music",
    "Théâtre": "arts and music",
}
_RACES: Final = {
    "americanIndianOrAlaskaNative": "American Indian",
    "asian": "Asian",
    "blackOrAfricanAmerican": "Black or African American",
    "nativeHawaiianOrOtherPacificIslander": "Hawaiian or Other Pacific Islander",
    "white": "Caucasian",
    "demographicRaceTwoOrMoreRaces": "Two or More Races",
}
_SEXES: Final = {"male": "M", "female": "F"}
_MEAL_KEYS: Final = ("frl", "frl_status", "frl-status")
_SUPPORT_KEYS: Final = ("iep", "iep_status", "iep-status", "sped", "CL.sped")
_LANGUAGE_KEYS: Final = ("ell", "ell_status", "ell-status", "emergentBilingual", "CL.lep")
_MEALS: Final = frozenset({"Free", "Reduced", "Paid", "Other"})
_LAST_GRADE: Final = 12


def name_grade(grades: Iterable[str]) -> str:
    """Clever's single grade: of a class for several grades there is none."""
    named = list(grades)
    return _GRADES.get(named[0], "Other") if len(named) == 1 else ""


def name_subject(subjects: Iterable[str]) -> str:
    """The first subject in Clever's list of twelve."""
    return next((_SUBJECTS.get(subject, "other") for subject in subjects), "")


def tell_graduation(grade: str, school_year: str) -> str:
    """The year a student of a grade leaves school; nothing for those who are in none of the numbered grades."""
    number = "0" if grade == "Kindergarten" else grade
    return str(int(school_year) + _LAST_GRADE - int(number)) if number.isdecimal() and school_year.isdecimal() else ""


def describe_student(demographics: Record | None) -> Record:
    """A student's demographics as Clever has them; everything is "" when none are shared."""
    if demographics is None:
        names = ("dob", "gender", "race", "hispanic_ethnicity", "ell_status", "frl_status", "iep_status")
        return dict.fromkeys(names, "")
    metadata = demographics.get("metadata") or {}
    meals = _read(metadata, _MEAL_KEYS)
    return {
        "dob": demographics.get("birthDate") or "",
        "gender": _SEXES.get(demographics.get("sex") or "", ""),
        "race": _name_race(demographics),
        "hispanic_ethnicity": _say(demographics.get("hispanicOrLatinoEthnicity")),
        "ell_status": _say(_read(metadata, _LANGUAGE_KEYS)),
        "frl_status": meals if meals in _MEALS else "",
        "iep_status": _say(_read(metadata, _SUPPORT_KEYS)),
    }


def _name_race(demographics: Record) -> str:
    """One race, or that there are several. Being Hispanic is told apart and leaves the race unknown."""
    named = [race for flag, race in _RACES.items() if demographics.get(flag)]
    return named[0] if len(named) == 1 else "Two or More Races" if named else "Unknown"


def _read(metadata: Record, names: tuple[str, ...]) -> str:
    return next((str(metadata[name]) for name in names if name in metadata), "")


def _say(flag: object) -> str:
    return {"true": "Y", "false": "N"}.get(str(flag).lower(), "")
