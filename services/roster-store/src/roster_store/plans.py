"""What is told of a plan that was looked at or held, and how long (C11).

A report is made once, with the plan, and kept as it was. After some days it is forgotten, its changes with it; what
remains says that there was one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.messages import Purpose
from roster_store.plan_changes import changes_name
from roster_store.tables import SQL

MOST_EXAMPLES = 20
MOST_SCHOOLS = 2_000
CollidingField = Literal["email", "username", "identifier"]
Whereabouts = Literal["elsewhere", "within"]
FORGET_AT_ONCE = 20
"""Plans that are forgotten in one transaction: each drops a table."""


class CollectionPlanned(BaseModel):
    """What would happen to a collection."""

    served: int = Field(description="records the provider served")
    added: int
    changed: int
    removed: int
    by_configuration: int = Field(description="removals because the integration's options leave them out")
    unchanged: int
    filtered: int
    quarantined: int = Field(description="not taken, because they could not be understood or lead nowhere")
    unconfirmed: int = Field(description="not seen, and not proved gone; they stay")
    held: int = Field(description="removals that are kept back")
    removal_reasons: dict[str, int] = Field(description="of the removed and the held ones")
    changed_fields: dict[str, int] = Field(description="how many of the changed records differ in a field")


class SchoolPlanned(BaseModel):
    """What would happen to a collection at one school."""

    held: int = Field(description="records there now")
    added: int
    changed: int
    removed: int
    by_configuration: int


class School(BaseModel):
    """A school that would change."""

    sourced_id: str
    name: str | None
    collections: dict[str, SchoolPlanned]


class Colliding(BaseModel):
    """Two people with the same value."""

    sourced_id: str
    other_sourced_id: str
    other_integration_id: UUID | None = Field(description="null: the same integration")
    by_hand: bool = Field(description="whether the other was made by hand")


class Collision(BaseModel):
    """How many people who would come or change share a value with somebody else."""

    field: CollidingField
    where: Whereabouts = Field(
        description="`elsewhere`: with people of the organization's other integrations, or made by hand; "
        "`within`: with people of the same integration"
    )
    people: int
    examples: list[Colliding]


class Takeover(BaseModel):
    """What a deleted integration hands over to this one because the ids are the same."""

    integration_id: UUID
    records: dict[str, int]


class Reason(BaseModel):
    """Why the guard holds it, or would."""

    code: Code
    sentence: str
    collection: str | None
    school: str | None
    count: int
    of: int


class Finding(BaseModel):
    """Something odd about the roster as it would be."""

    check: str
    count: int
    of: int | None
    sentence: str
    examples: list[str] = Field(description="some of their sourcedIds")


class Report(BaseModel):
    """What a plan comes to."""

    purpose: Purpose
    configuration: int = Field(description="removals that come from the integration's options alone")
    collections: dict[str, CollectionPlanned]
    schools: list[School] = Field(description="the schools with the most changes, at most 2,000")
    schools_changed: int = Field(description="how many schools would change in all")
    collisions: list[Collision]
    takeover: Takeover | None
    reasons: list[Reason]
    sanity: list[Finding]


class PlanReport(Report):
    """The report of a run's plan."""

    run_id: UUID
    integration_id: UUID
    plan: str = Field(description="the plan's hash, which an approval names")
    made_at: datetime


async def forget_old(database: Database, keep: timedelta) -> int:
    """Forget the reports and changes of plans older than that; how many there were."""
    forgotten = 0
    while some := await database.transact(partial(_forget_some, keep=keep)):
        forgotten += some
    return forgotten


async def _forget_some(connection: Connection, keep: timedelta) -> int:
    rows = await connection.fetch(SQL["list_old_reports"], keep.total_seconds(), FORGET_AT_ONCE)
    for row in rows:
        await connection.execute(SQL["forget_report"], row["fetch_no"])
        await connection.execute(SQL["drop_plan_changes"].format(changes=changes_name(row["fetch_no"])))
    return len(rows)
