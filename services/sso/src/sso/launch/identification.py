"""Gathers the facts a verdict is made of, and writes down what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal
from uuid import UUID

import asyncpg

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.people import PersonAnswer, PersonField, RosterPerson
from sso.connections.upstreams import Upstream
from sso.launch.arrivals import Arrival
from sso.launch.people import People
from sso.launch.refusals import Refused
from sso.launch.traces import Trace, holds
from sso.launch.verdict import Known, Verdict, check_age, identify, refuse
from sso.statements import SQL

MOST_SUBJECT: int = 512
"""Characters of a portal's user id; longer ones are nobody's."""
MOST_KEY: int = 2_000
"""Characters of what is compared with the roster, and of a tenant."""


@dataclass(frozen=True, slots=True)
class Door:
    """A connection as a launch needs it, with whether its district licenses the product that is wanted."""

    id: UUID
    upstream_id: UUID
    organization_id: UUID
    organization_name: str
    name: str
    tenant: str | None
    integration_id: UUID | None
    integration_deleted: bool
    person_field: PersonField
    rostering: Literal["required", "optional"]
    max_roster_age_hours: int | None
    enabled: bool
    licensed: bool


@dataclass(frozen=True, slots=True)
class Identified:
    """Who came in, by which door.

    Args:
        person_id: sso's own id of them; it never leaves sso.
        person: as the roster has them and the product may see them; None for whom no roster knows.
        shown_as: the portal's name for whom no roster knows.
    """

    door: Door
    person_id: UUID
    person: RosterPerson | None
    shown_as: str | None

    @property
    def name(self) -> str:
        """What to call them on a page."""
        if self.person is None:
            return self.shown_as or ""
        return f"{self.person.preferred_first_name or self.person.given_name} {self.person.family_name}".strip()


class Identification:
    """Says who somebody is whom an upstream vouched for."""

    def __init__(self, database: Database, people: People, clock: Clock) -> None:
        self._database = database
        self._people = people
        self._clock = clock

    async def find_door(self, upstream: Upstream, tenant: str | None, product_id: UUID | None) -> Door:
        """The connection somebody came through. Raises `Refused` SIGNIN_TENANT_UNKNOWN or SIGNIN_CONNECTION_OFF."""
        row = await self._database.fetchrow(SQL["find_door"], upstream.id, tenant, product_id)
        if row is None:
            raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "no connection has this tenant")
        return self._admit_door(_read_door(row), upstream)

    async def find_connection(self, connection_id: UUID, product_id: UUID | None) -> Door | None:
        """The connection with this id, disabled or not."""
        row = await self._database.fetchrow(SQL["find_connection"], connection_id, product_id)
        return None if row is None else _read_door(row)

    @staticmethod
    def _admit_door(door: Door, upstream: Upstream) -> Door:
        if not upstream.enabled or not door.enabled:
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the connection is disabled")
        return door

    async def identify(self, arrival: Arrival, door: Door, product_id: UUID | None, trace: Trace) -> Identified:
        """Who it is. Raises `Refused`; what is new about them is written down.

        With a product they are seen as it may see them, and its license must be in force.
        """
        if not door.licensed:
            raise Refused(Code.SIGNIN_UNLICENSED, "no license of the product is in force for the organization")
        known, verdict = await self.weigh(arrival, door, product_id)
        _note(trace, door, known, verdict)
        if verdict.refusal is not None:
            raise Refused(verdict.refusal, verdict.why)
        person_id = await self._write(arrival, door, known, verdict)
        return Identified(door, person_id, verdict.person, None if verdict.person else arrival.shown_as)

    async def weigh(self, arrival: Arrival, door: Door, product_id: UUID | None) -> tuple[Known | None, Verdict]:
        """Whom we knew them as, and what is to be said of them now; nothing is written down. Raises `Refused`."""
        check_texts(arrival)
        known = await self._find_known(arrival, door)
        by_key = await self._ask(door, door.person_field, arrival.person_key, product_id)
        by_tie = await self._ask_tie(door, known, by_key, product_id)
        key, policy = arrival.person_key or None, door.rostering
        verdict = identify(known, key, by_key, by_tie, field=door.person_field, rostering=policy)
        if verdict.refusal is None and not self.is_recent(door, by_key, by_tie):
            verdict = refuse(Code.SIGNIN_ROSTER_OLD, "the roster is older than the connection allows")
        return known, verdict

    async def _find_known(self, arrival: Arrival, door: Door) -> Known | None:
        place = (door.id, arrival.tenant or "", arrival.subject)
        row = await self._database.fetchrow(SQL["find_identity"], *place, door.integration_id)
        if row is None:
            return None
        if row["unused"]:
            await self._database.fetch(SQL["use_identity"], *place)
        return Known(row["person_id"], row["sourced_id"], frozenset(row["aliases"]), elsewhere=row["elsewhere"])

    async def find_person(self, connection_id: UUID, tenant: str | None, subject: str) -> UUID | None:
        """Whom a portal's user is tied to; None if nobody."""
        person_id: UUID | None = await self._database.fetchval(
            SQL["find_tied_person"], connection_id, tenant or "", subject
        )
        return person_id

    async def _ask(
        self, door: Door, field: PersonField, value: str | None, product_id: UUID | None
    ) -> PersonAnswer | None:
        if not value or door.integration_id is None:
            return None
        return await self._people.find(door.integration_id, field, value, product_id)

    async def _ask_tie(
        self, door: Door, known: Known | None, by_key: PersonAnswer | None, product_id: UUID | None
    ) -> PersonAnswer | None:
        """What the roster says of whom we tied before, where the portal's key does not already lead there."""
        if known is None or known.sourced_id is None:
            return None
        if by_key is not None and by_key.person is not None and by_key.person.sourced_id == known.sourced_id:
            return by_key
        return await self._ask(door, "sourcedId", known.sourced_id, product_id)

    def is_recent(self, door: Door, *answers: PersonAnswer | None) -> bool:
        """Whether the roster these answers are from is as new as the connection wants it."""
        if door.integration_id is None or all(answer is None for answer in answers):
            return True
        applied = max((answer.applied_at for answer in answers if answer and answer.applied_at), default=None)
        return check_age(applied, self._clock.now(), door.max_roster_age_hours, deleted=door.integration_deleted)

    async def _write(self, arrival: Arrival, door: Door, known: Known | None, verdict: Verdict) -> UUID:
        """Write down what is new; the person's id."""
        place = (door.id, arrival.tenant or "", arrival.subject)
        if known is not None and verdict.tie == "kept":
            return known.person_id
        return await self._database.transact(partial(_tie, place=place, door=door, known=known, verdict=verdict))


def _note(trace: Trace, door: Door, known: Known | None, verdict: Verdict) -> None:
    """Write a verdict into the launch's trace.

    Where two people claim a portal's user the trace says which two, so that an admin can settle it: whom it is tied to
    as the launch's person, and in the step whom the key leads to. An erasure takes both out, which it can do only with
    ids that steps hold as they are.
    """
    found: dict[str, object] = {"why": verdict.why, "tie": verdict.tie}
    if verdict.leads_to is not None and known is not None:
        trace.facts |= {"integration_id": door.integration_id, "sourced_id": known.sourced_id}
        if holds(verdict.leads_to):
            found["leads_to"] = verdict.leads_to
    trace.note("identified" if verdict.refusal is None else "not identified", **found)


async def _tie(
    connection: Connection, place: tuple[UUID, str, str], door: Door, known: Known | None, verdict: Verdict
) -> UUID:
    """Tie a portal's user to a person: one we have by this name, the one it was before, or a new one.

    Whoever clicks in two tabs at once is one person: both wait for each other here.
    """
    person = verdict.person
    person_id: UUID | None = None
    name = None if person is None else (door.integration_id, person.sourced_id)
    await connection.execute(SQL["lock_tie"], "\n".join(map(str, name or place)))
    if person is not None and name is not None:
        person_id = await connection.fetchval(SQL["find_named_person"], *name, list(person.formerly))
    elif known is None:
        person_id = await connection.fetchval(SQL["find_tied_person"], *place)
    if person_id is None and known is not None and verdict.tie == "renamed":
        person_id = known.person_id
    if person_id is None:
        person_id = await connection.fetchval(SQL["make_person"], door.organization_id)
    assert person_id is not None  # noqa: S101 - it was found or made
    if name is not None:
        await connection.execute(SQL["retire_names"], *name, person_id)
        await connection.execute(SQL["name_person"], *name, person_id)
    await connection.execute(SQL["tie_identity"], *place, person_id)
    return person_id


def check_texts(arrival: Arrival) -> None:
    """Raise `Refused` SIGNIN_TOKEN_INVALID for what can be nobody's id: empty, invisible, endless, not text."""
    texts = ((arrival.subject, MOST_SUBJECT), (arrival.tenant or "", MOST_KEY), (arrival.person_key or "", MOST_KEY))
    fit = all(len(text) <= most and "\0" not in text and _is_text(text) for text, most in texts)
    if not fit or not any(one.isprintable() and not one.isspace() for one in arrival.subject):
        raise Refused(Code.SIGNIN_TOKEN_INVALID, "no usable user id")


def _is_text(text: str) -> bool:
    """Whether it is Unicode, without halves of characters that JSON lets pass."""
    return not any("\ud800" <= one <= "\udfff" for one in text)


def _read_door(row: asyncpg.Record) -> Door:
    return Door(
        **{name: row[name] for name in Door.__slots__ if name != "organization_name"},
        organization_name=row["organization_name"] or "",
    )
