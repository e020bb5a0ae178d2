"""Plays roster-store to sso, over real HTTP, and puts what `tenancy` would say into sso's tables.

roster.add(district.integration_id, "user-1", role="student")      # somebody the roster knows
roster.away = True                                                  # the store does not answer
district = await make_district(service.database)                    # organization, integration, product, license
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from homeroom.db import Database
from homeroom.people import (
    LinkOrder,
    LinkOutcome,
    PersonAccount,
    PersonAnswer,
    PersonClass,
    PersonQuestion,
    PersonRole,
    RosterPerson,
)

SINCE = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class Pupil:
    """Somebody of a played roster; change it in place, as a night's sync would."""

    integration_id: UUID
    person: RosterPerson
    user_master_identifier: str | None = None
    identifier: str | None = None
    active: bool = True
    hidden_from: set[UUID] = field(default_factory=set)
    """Products whose licenses do not show them."""

    def has(self, question: PersonQuestion) -> bool:
        """Whether they are asked for."""
        own = {
            "sourcedId": self.person.sourced_id,
            "identifier": self.identifier,
            "userMasterIdentifier": self.user_master_identifier,
        }
        return str(self.integration_id) == question.integration_id and own[question.field] == question.value

    def change(self, **fields: Any) -> None:
        """Have the roster say something else of them."""
        self.person = msgspec.structs.replace(self.person, **fields)


@dataclass
class PlayedRoster:
    """A roster-store that knows whom it was told of.

    `away` drops every connection, `status` answers with that, `slow` seconds pass before every answer.
    """

    url: str = ""
    pupils: list[Pupil] = field(default_factory=list)
    accounts: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """(product, external id) → (integration, sourcedId)"""
    applied_at: datetime | None = None
    away: bool = False
    status: int = 200
    slow: float = 0
    questions: list[PersonQuestion] = field(default_factory=list)
    orders: list[LinkOrder] = field(default_factory=list)
    tokens: int = 0

    def add(
        self,
        integration_id: UUID,
        sourced_id: str,
        given: str = "Ada",
        family: str = "Berg",
        *,
        role: str = "student",
        classes: tuple[str, ...] = (),
        identifier: str | None = None,
        user_master_identifier: str | None = None,
        active: bool = True,
        **fields: Any,
    ) -> Pupil:
        """Have somebody in a roster; `fields` are more of `RosterPerson`."""
        person = RosterPerson(
            sourced_id=sourced_id,
            given_name=given,
            family_name=family,
            roles=(PersonRole(role=role, org_sourced_id="school-1", primary=True),),
            classes=tuple(PersonClass(sourced_id=one, title=f"Class {one}", role=role) for one in classes),
            **fields,
        )
        pupil = Pupil(integration_id, person, user_master_identifier, identifier, active)
        self.pupils.append(pupil)
        return pupil

    def resolve(self, question: PersonQuestion) -> PersonAnswer:
        """What the store would answer."""
        found = [one for one in self.pupils if one.has(question)]
        active = [one for one in found if one.active]
        if len(active) > 1:
            return PersonAnswer(outcome="ambiguous", applied_at=self.applied_at)
        if not active:
            gone = RosterPerson(sourced_id=found[0].person.sourced_id, given_name="", family_name="") if found else None
            return PersonAnswer(
                outcome="removed" if found else "unknown",
                person=gone if len(found) == 1 else None,
                applied_at=self.applied_at,
            )
        if question.product_id is not None and UUID(question.product_id) in active[0].hidden_from:
            return PersonAnswer(outcome="hidden", applied_at=self.applied_at)
        person = self._add_account(active[0].person, question)
        return PersonAnswer(outcome="known", person=person, applied_at=self.applied_at)

    def _add_account(self, person: RosterPerson, question: PersonQuestion) -> RosterPerson:
        owner = (question.integration_id, person.sourced_id)
        for (product, external_id), whose in self.accounts.items():
            if product == question.product_id and whose == owner:
                account = PersonAccount(id=f"account-{external_id}", external_id=external_id)
                return msgspec.structs.replace(person, account=account)
        return person

    def link(self, order: LinkOrder) -> LinkOutcome:
        """What the store would do."""
        account, owner = (order.product_id, order.external_id), (order.integration_id, order.sourced_id)
        if order.action == "unlink":
            if self.accounts.get(account) != owner:
                return LinkOutcome(outcome="unknown")
            del self.accounts[account]
            return LinkOutcome(outcome="unlinked")
        if not any(one.active and (str(one.integration_id), one.person.sourced_id) == owner for one in self.pupils):
            return LinkOutcome(outcome="unknown")
        if self.accounts.get(account, owner) != owner:
            return LinkOutcome(outcome="account_linked")
        if any(whose == owner and key[0] == account[0] and key != account for key, whose in self.accounts.items()):
            return LinkOutcome(outcome="person_linked")
        self.accounts[account] = owner
        return LinkOutcome(outcome="linked")

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The answer to a request."""
        if path == "/oauth2/token":
            self.tokens += 1
            return 200, b'{"access_token":"played","token_type":"Bearer","expires_in":3600}'
        if self.status != 200:
            return self.status, b"{}"
        match path:
            case "/v1/people/resolve":
                question = msgspec.json.decode(body, type=PersonQuestion)
                self.questions.append(question)
                return 200, msgspec.json.encode(self.resolve(question))
            case "/v1/people/link":
                order = msgspec.json.decode(body, type=LinkOrder)
                self.orders.append(order)
                return 200, msgspec.json.encode(self.link(order))
        return 404, b"{}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which is closed after the answer."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n"))}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path = head.split(" ", 2)[1]
            if not (self.away and path.startswith("/v1/")):
                status, content = self.answer(path, body)
                if path.startswith("/v1/"):
                    await asyncio.sleep(self.slow)
                writer.write(
                    f"HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + content
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def playing_roster() -> AsyncIterator[PlayedRoster]:
    """A played store on loopback; it gives tokens as well."""
    roster = PlayedRoster(applied_at=datetime(2026, 9, 1, 3, tzinfo=UTC))
    server = await asyncio.start_server(roster.serve, "127.0.0.1", 0)
    roster.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield roster
    finally:
        server.close()


# ── what `tenancy` would say ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class District:
    """An organization with one integration, and a product that is licensed for it."""

    organization_id: UUID
    integration_id: UUID
    product_id: UUID
    license_id: UUID


async def make_district(
    database: Database, name: str = "North District", *, product_id: UUID | None = None, licensed: bool = True
) -> District:
    """Put such a district into sso's tables; a new product unless one is given."""
    district = District(uuid4(), uuid4(), product_id or uuid4(), uuid4())
    await database.fetch("INSERT INTO organization (id, name) VALUES ($1, $2)", district.organization_id, name)
    await add_integration(database, district.organization_id, district.integration_id)
    if product_id is None:
        await database.fetch("INSERT INTO product (id, name) VALUES ($1, 'Reader')", district.product_id)
    if licensed:
        await add_license(database, district.organization_id, district.product_id, license_id=district.license_id)
    return district


async def add_integration(database: Database, organization_id: UUID, integration_id: UUID | None = None) -> UUID:
    """An integration of an organization."""
    integration_id = integration_id or uuid4()
    await database.fetch(
        "INSERT INTO integration (id, organization_id, name, provider) VALUES ($1, $2, 'Roster', 'classlink')",
        integration_id,
        organization_id,
    )
    return integration_id


async def add_license(
    database: Database,
    organization_id: UUID,
    product_id: UUID,
    *,
    license_id: UUID | None = None,
    valid_for: timedelta | None = None,
) -> UUID:
    """A license that is in force since long ago; with `valid_for` it ends then (in the past with a negative one)."""
    license_id = license_id or uuid4()
    await database.fetch(
        "INSERT INTO license (id, product_id, organization_id, valid_from, valid_until) "
        "VALUES ($1, $2, $3, $4, now() + $5::interval)",
        license_id,
        product_id,
        organization_id,
        SINCE,
        valid_for,
    )
    return license_id
