"""What is odd about a roster as it would be (C11): no error anywhere, but what a product would be asked about.

Each check is one statement that gives the sourcedIds it finds; only the number and a few ids are kept, never a name.
A check that makes no sense for a roster (no classes are synced, no orgs shared) is left out rather than found whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.messages import RecordIssue
from roster_store.picture import PICTURE_SECONDS
from roster_store.plans import MOST_EXAMPLES, Finding
from roster_store.tables import SQL


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look for among `of`; `needs` names what the roster must have any of."""

    name: str
    of: str
    sentence: str
    needs: Sequence[str] = ()


CHECKS = (
    Check("students_without_classes", "students", "students are in no class", ("enrollments",)),
    Check("teachers_without_classes", "teachers", "teachers teach no class", ("enrollments",)),
    Check("classes_without_students", "classes", "classes have no students"),
    Check("classes_without_teachers", "classes", "classes have no teacher"),
    Check("classes_at_unknown_schools", "classes", "classes name a school that is not there", ("orgs",)),
    Check("classes_whose_terms_ended", "classes", "classes meet in terms that have all ended", ("sessions",)),
    Check("people_at_unknown_orgs", "people", "people have a role at an org that is not there", ("orgs",)),
    Check("people_without_school", "people", "people are students or teachers of no school", ("schools",)),
    Check("schools_without_classes", "schools", "schools have no classes", ("classes",)),
    Check("schools_without_students", "schools", "schools have no students", ("students",)),
    Check("duplicate_emails", "emails", "e-mail addresses belong to more than one person"),
    Check("duplicate_usernames", "usernames", "usernames belong to more than one person"),
    Check("duplicate_identifiers", "identifiers", "identifiers belong to more than one person"),
    Check("students_without_email", "students", "students have no e-mail address"),
    Check("staff_without_email", "staff", "teachers and other staff have no e-mail address"),
    Check("students_without_grade", "students", "students have no grade level"),
    Check("guardians_without_students", "guardians", "guardians are tied to no student"),
    Check("enrollments_outside_terms", "enrollments", "enrollments begin after, or end before, their class's terms"),
    Check("no_current_session", "sessions", "academic sessions are not current, and no other is"),
)


async def examine(
    connection: Connection, issues: Iterable[RecordIssue], dangling: int, enrollments: int
) -> list[Finding]:
    """Everything odd about the open prospect, the checks in their order; what is in order is not mentioned.

    `dangling` of the `enrollments` that were served lead nowhere, and were taken out of the picture before.
    """
    row = await connection.fetchrow(SQL["count_prospect"], timeout=PICTURE_SECONDS)
    assert row is not None  # noqa: S101 - aggregates always give a row
    population: Mapping[str, int] = dict(row)
    findings = []
    for check in CHECKS:
        if not all(population[one] for one in (check.of, *check.needs)):
            continue
        statement = SQL["examine"].format(offenders=SQL[f"find_{check.name}"])
        found = await connection.fetchrow(statement, MOST_EXAMPLES, timeout=PICTURE_SECONDS)
        assert found is not None  # noqa: S101 - aggregates always give a row
        if found["count"]:
            findings.append(_report(check, found["count"], population[check.of], found["examples"]))
    return [*findings, *_read_issues(issues, dangling, enrollments, population["schools"])]


def _report(check: Check, count: int, of: int, examples: Sequence[str]) -> Finding:
    sentence = f"{count:,} of {of:,} {check.sentence}."
    return Finding(check=check.name, count=count, of=of, sentence=sentence, examples=list(examples))


def _read_issues(issues: Iterable[RecordIssue], dangling: int, enrollments: int, schools: int) -> list[Finding]:
    """What was found out on the way here: masked fields, schools left out, enrollments that lead nowhere."""
    told = list(issues)
    findings = []
    if masked := sorted({issue.field for issue in told if issue.code == Code.FIELD_MASKED and issue.field}):
        listed = ", ".join(masked)
        findings.append(
            Finding(
                check="masked_fields",
                count=len(masked),
                of=None,
                sentence=f"Masked or the same for everybody, and so taken for absent: {listed}.",
                examples=[],
            )
        )
    left_out = [
        issue.sourced_id
        for issue in told
        if issue.code in (Code.SCHOOL_INCOMPLETE, Code.GUARD_SCHOOL_MISSING) and issue.sourced_id
    ]
    if left_out:
        check = Check("incomplete_schools", "schools", "schools arrived incomplete and would stay as they are")
        findings.append(_report(check, len(left_out), max(schools, len(left_out)), left_out[:MOST_EXAMPLES]))
    if dangling:
        lost = [one.sourced_id for one in told if one.code == Code.REF_MISSING and one.sourced_id]
        check = Check("enrollments_leading_nowhere", "", "enrollments name a person, class or school that is not there")
        findings.append(_report(check, dangling, enrollments, lost[:MOST_EXAMPLES]))
    return findings
