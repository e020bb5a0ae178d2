"""Evaluations of made-up pictures, and a roster with nothing odd about it."""

from __future__ import annotations

from datetime import date
from typing import Any

from played_gateway import Gateway, campus, enrollment, student, together

from homeroom.db import Database
from homeroom.messages import Evaluated, Terms
from homeroom.roster import AcademicSession, Enrollment
from roster_store.plans import Report

EVALUATION = Terms(purpose="evaluation")
PAST = AcademicSession(
    sourced_id="t0", title="Past", type="term", start_date=date(2020, 8, 1), end_date=date(2021, 1, 1)
)
NOW = AcademicSession(sourced_id="t1", title="Now", type="term", start_date=date(2020, 8, 1), end_date=date(2999, 1, 1))


async def look(
    gateway: Gateway, database: Database, *args: Any, terms: Terms = EVALUATION, **kwargs: Any
) -> tuple[Evaluated, Report]:
    """Evaluate a picture; what is told of it and what is kept."""
    fact = await gateway.sync(*args, terms=terms, **kwargs)
    assert isinstance(fact, Evaluated)
    kept = await database.fetchval("SELECT report FROM plan_report ORDER BY fetch_no DESC LIMIT 1")
    return fact, Report(**kept)


def sanity(report: Report) -> dict[str, tuple[int, int | None, list[str]]]:
    """What is odd: check → how many, of how many, and which."""
    return {finding.check: (finding.count, finding.of, finding.examples) for finding in report.sanity}


def teacher(number: int, *schools: str, **fields: Any) -> Any:
    """A teacher."""
    return student(number, "Tom", *schools, role="teacher", **{"grades": ()} | fields)


def teaching(user: int, group: int) -> Enrollment:
    """A teacher in a class."""
    made = enrollment(user, group)
    return Enrollment(
        sourced_id=made.sourced_id,
        user_sourced_id=made.user_sourced_id,
        class_sourced_id=made.class_sourced_id,
        role="teacher",
    )


def placed(sourced_id: str, begin: date | None = None, end: date | None = None) -> Enrollment:
    """A student in a class for some time."""
    return Enrollment(
        sourced_id=sourced_id,
        user_sourced_id="user-1",
        class_sourced_id="class-1",
        role="student",
        begin_date=begin,
        end_date=end,
    )


def sound() -> dict[str, list[Any]]:
    """A roster with nothing odd about it."""
    return together(
        campus("North", 1),
        {
            "academicSessions": [NOW],
            "users": [teacher(50), student(60, "Pat", role="guardian", agent_sourced_ids=("user-1",), grades=())],
            "enrollments": [teaching(50, 1)],
        },
    )
