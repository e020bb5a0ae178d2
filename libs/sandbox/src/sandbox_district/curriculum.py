"""What is taught where: the schools, the school year and the courses of the district."""

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from sandbox_district.records import Record, compose, refer

DISTRICT_ID = "100"
_FIRST_MONTH = 8


class Level(NamedTuple):
    """A kind of school: its schools, its grades, how its electives divide the year, and how many a student takes."""

    name: str
    schools: tuple[tuple[str, str], ...]
    grades: tuple[str, ...]
    terms: tuple[str, ...]
    electives: int


class Course(NamedTuple):
    """A course of a level. Electives mix grades and last a term; the others are for one grade at a time, all year."""

    sourced_id: str
    code: str
    title: str
    subject: str
    level: Level
    grades: tuple[str, ...]
    elective: bool


ELEMENTARY = Level(
    "elementary",
    (("101", "Heron Bay Elementary School"), ("102", "Escuela Primaria Peñasco")),
    ("KG", "01", "02", "03", "04", "05"),
    ("year",),
    0,
)
MIDDLE = Level(
    "middle",
    (("103", "Lake Verity Middle School"), ("104", "O'Harrow Academy of Arts & Sciences")),
    ("06", "07", "08"),
    ("t1", "t2", "t3"),
    2,
)
HIGH = Level("high", (("105", "Lake Verity High School"),), ("09", "10", "11", "12"), ("s1", "s2"), 3)
LEVELS = (ELEMENTARY, MIDDLE, HIGH)

_BY_GRADE = {
    ELEMENTARY: {"Homeroom": [f"Homeroom {grade}" for grade in ELEMENTARY.grades]},
    MIDDLE: {
        "Mathematics": ["Mathematics 6", "Mathematics 7", "Pre-Algebra"],
        "English": ["English 6", "English 7", "English 8"],
        "Science": ["Earth Science", "Life Science", "Physical Science"],
        "History": ["Ancient World", "Middle Ages", "The Republic"],
    },
    HIGH: {
        "Mathematics": ["Algebra I", "Geometry", "Algebra II", "Calculus"],
        "English": ["English 9", "English 10", "American Literature", "Rhetoric"],
        "Science": ["Biology", "Chemistry", "Physics", "Environmental Science"],
    },
}
_FOR_ALL = {
    ELEMENTARY: ["Reading", "Arithmetic", "Nature", "Art", "Music", "Physical Education"],
    MIDDLE: ["Physical Education"],
    HIGH: ["Physical Education"],
}
_ELECTIVES = {
    ELEMENTARY: [],
    MIDDLE: ["Coding", "Théâtre", "Español I", "Band"],
    HIGH: ["World History", "Français II", "Robotics", "Painting", "Economics"],
}


def list_courses() -> Iterator[Course]:
    """Every course of every level. Their sourcedIds repeat those of schools: an id is unique in its collection only."""
    number = 100
    for level in LEVELS:
        offers: list[tuple[str, str, tuple[str, ...], bool]] = [
            (title, subject, (grade,), False)
            for subject, titles in _BY_GRADE[level].items()
            for grade, title in zip(level.grades, titles, strict=True)
        ]
        offers += [(title, title, level.grades, False) for title in _FOR_ALL[level]]
        offers += [(title, title, level.grades, True) for title in _ELECTIVES[level]]
        for title, subject, grades, elective in offers:
            number += 1
            yield Course(str(number), f"{level.name[0].upper()}{number}", title, subject, level, grades, elective)


def write_orgs() -> Iterator[Record]:
    """The district and its schools."""
    schools = {school: title for level in LEVELS for school, title in level.schools}
    children = [refer("org", school) for school in schools]
    yield compose(
        DISTRICT_ID,
        {"vendor.region": "north"},
        name="Lake Verity Unified School District",
        type="district",
        identifier="0699999",
        children=children,
    )
    for school, title in schools.items():
        yield compose(
            school,
            {},
            name=title,
            type="school",
            identifier=f"0699999{school}",
            parent=refer("org", DISTRICT_ID),
            children=[],
        )


def write_sessions(today: date) -> Iterator[Record]:
    """The school year around a date, its semesters with two grading periods each, and the middle schools' terms.

    A year runs from August to August without a gap, so that there always is a current term.
    """
    start = today.year if today.month >= _FIRST_MONTH else today.year - 1
    august, november, january = date(start, _FIRST_MONTH, 1), date(start, 11, 1), date(start + 1, 1, 1)
    february, april, summer = date(start + 1, 2, 1), date(start + 1, 4, 1), date(start + 1, _FIRST_MONTH, 1)
    rows = (
        ("year", f"{start}-{start + 1}", "schoolYear", august, summer, None),
        ("s1", "Semester 1", "semester", august, january, "year"),
        ("s2", "Semester 2", "semester", january, summer, "year"),
        ("q1", "Quarter 1", "gradingPeriod", august, november, "s1"),
        ("q2", "Quarter 2", "gradingPeriod", november, january, "s1"),
        ("q3", "Quarter 3", "gradingPeriod", january, april, "s2"),
        ("q4", "Quarter 4", "gradingPeriod", april, summer, "s2"),
        ("t1", "Trimester 1", "term", august, november, "year"),
        ("t2", "Trimester 2", "term", november, february, "year"),
        ("t3", "Trimester 3", "term", february, summer, "year"),
    )
    for sourced_id, title, kind, begin, end, parent in rows:
        yield compose(
            sourced_id,
            {},
            title=title,
            startDate=begin.isoformat(),
            endDate=end.isoformat(),
            type=kind,
            parent=refer("academicSession", parent) if parent else None,
            children=[refer("academicSession", child) for child, *_, above in rows if above == sourced_id],
            schoolYear=str(start + 1),
        )


def write_course(course: Course) -> Record:
    """A course as the provider sends it."""
    return compose(
        course.sourced_id,
        {"vendor.credits": 1.0 if course.level is HIGH else None},
        title=course.title,
        courseCode=course.code,
        schoolYear=refer("academicSession", "year"),
        grades=list(course.grades),
        subjects=[course.subject],
        subjectCodes=[f"0{int(course.sourced_id) % 10}00"],
        org=refer("org", DISTRICT_ID),
        resources=[],
    )
