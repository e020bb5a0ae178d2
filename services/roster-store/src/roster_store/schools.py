"""Is a school's part of the picture whole? Pure: facts about a school in, a verdict out (C4; reliability facts P6).

A district is synced school by school in one respect: a school that arrives broken is left as it was and named, and
all others go on. Broken is what no school is on an ordinary day: students without classes, classes without students,
everybody gone at once, enrollments in great number that lead nowhere, an endpoint refused. What an admin's own
options took away (the removal reason `configuration`) is no sign of anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeroom.codes import Code

MOST_DANGLING = 20
DANGLING_SHARE = 0.1
"""More dangling enrollments than both: the number, and the share of the school's staged ones."""
MOST_WORDS = 120


@dataclass(frozen=True, slots=True)
class Presence:
    """Of one kind of record, whether a school has any."""

    before: bool = False
    after: bool = False
    lost: int = 0
    """How many go because the provider does not have them any more."""
    excused: int = 0
    """How many go because of the integration's options."""

    @property
    def emptied(self) -> bool:
        """Whether the last ones go, and not by the options alone."""
        return self.before and not self.after and self.lost > 0


@dataclass(frozen=True, slots=True)
class SchoolFacts:
    """A school as it is and as it would be."""

    sourced_id: str
    students: Presence = Presence()
    classes: Presence = Presence()
    missing: bool = False
    """Whether the school itself is gone from the provider while people or classes belong to it."""
    refused: str | None = None
    """What the provider refused of it, in a few words."""
    enrollments: int = 0
    """Enrollments that came for it; only counted where some dangle."""
    dangling: int = 0


@dataclass(frozen=True, slots=True)
class District:
    """What of the integration matters for all its schools."""

    syncs_classes: bool = True
    had_classes: bool = False
    """Whether classes were ever held."""
    incomplete: frozenset[str] = frozenset()
    """Schools that were left out when they were last looked at."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A school that is left as it was."""

    sourced_id: str
    code: Code
    detail: str


def judge_school(facts: SchoolFacts, district: District) -> Incomplete | None:
    """None for a school that may be applied.

    >>> judge_school(SchoolFacts("s1", students=Presence(after=True)), District()).detail
    'students but no classes'
    """
    if facts.missing:
        return Incomplete(facts.sourced_id, Code.GUARD_SCHOOL_MISSING, "the school is not served any more")
    if detail := _find_lack(facts, district):
        return Incomplete(facts.sourced_id, Code.SCHOOL_INCOMPLETE, detail[:MOST_WORDS])
    return None


def _find_lack(facts: SchoolFacts, district: District) -> str | None:
    students, classes = facts.students, facts.classes
    if facts.refused is not None:
        return facts.refused or "refused by the provider"
    emptied = [
        word
        for word, emptied in (
            ("no students", students.emptied),
            ("no classes", district.syncs_classes and classes.emptied),
        )
        if emptied
    ]
    if emptied:
        return f"{' and '.join(emptied)} any more"
    if district.syncs_classes:
        # What a school was taken with before, it may go on with: the options left it like that, or a person decided.
        settled = facts.sourced_id not in district.incomplete
        if students.after and not classes.after and not classes.excused:
            was_so = settled and district.had_classes and students.before and not classes.before
            if not was_so:
                return "students but no classes"
        if classes.after and not students.after and not students.excused:
            was_so = settled and classes.before and not students.before
            if not was_so:
                return "classes but no students"
    if facts.dangling > MOST_DANGLING and facts.dangling > facts.enrollments * DANGLING_SHARE:
        return f"{facts.dangling:,} of {facts.enrollments:,} enrollments lead nowhere"
    return None
