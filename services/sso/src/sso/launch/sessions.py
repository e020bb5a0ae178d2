"""Who is signed in, in which browser: a random cookie, and a row that can be ended from here.

A new sign-in ends the session the browser had, if it was somebody else's (shared devices), and gets a new cookie
(fixation). The same person's session goes on, for two tabs may launch at once: products that were told of it would
else hear of its end while the person is there. The cookie before is good for one more minute then, because a request
of the other tab may be on its way with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
from fastapi import Request, Response

from homeroom.db import Connection, Database
from homeroom.ids import new_id
from sso.launch.flows import hash_token, make_token
from sso.statements import SQL

IDLE_SECONDS: Final = 2 * 3600
LIFE_SECONDS: Final = 10 * 3600
"""A school day; nobody stays signed in over night."""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser in which somebody is signed in."""

    id: UUID
    person_id: UUID | None
    organization_id: UUID | None
    connection_id: UUID | None
    integration_id: UUID | None
    sourced_id: str | None
    staff_id: UUID | None
    shown_as: str | None = field(repr=False)
    auth_time: datetime
    upstream: Mapping[str, str] | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a session begins with."""

    person_id: UUID | None = None
    organization_id: UUID | None = None
    connection_id: UUID | None = None
    integration_id: UUID | None = None
    sourced_id: str | None = None
    staff_id: UUID | None = None
    shown_as: str | None = field(repr=False, default=None)
    upstream: Mapping[str, Any] | None = field(repr=False, default=None)


class Sessions:
    """The sessions of all browsers, in the database."""

    def __init__(self, database: Database, *, secure: bool) -> None:
        self._database = database
        self._secure = secure
        self.cookie = "__Host-homeroom-session" if secure else "homeroom-session"

    async def begin(self, request: Request, beginning: Beginning) -> tuple[Session, str | None]:
        """A session and the token for its cookie, to be given to `mark`; the one this browser had ends.

        The same person's goes on, with a new token unless it had one a moment ago: then there is none to give.
        """
        token, before = make_token(), self._read_cookie(request)
        new = (new_id(), hash_token(token), *(getattr(beginning, name) for name in Beginning.__slots__), LIFE_SECONDS)
        if before is None:
            row = await self._database.fetchrow(SQL["begin_session"], *new)
            assert row is not None  # noqa: S101 - an INSERT returns what it inserted
        else:
            row = await self._database.transact(partial(_replace, new=new, before=hash_token(before)))
        return _read(row), token if row["token_hash"] == hash_token(token) else None

    async def find(self, request: Request) -> Session | None:
        """The session of the browser that sent a request, if it has one that is not over."""
        token = self._read_cookie(request)
        if token is None:
            return None
        row = await self._database.fetchrow(SQL["find_session"], hash_token(token), IDLE_SECONDS)
        if row is None:
            return None
        if row["unseen"]:
            await self._database.fetch(SQL["see_session"], row["id"])
        return _read(row)

    async def find_by_id(self, session_id: UUID) -> Session | None:
        """The session with this id, if it is not over; for what was begun in it and ends elsewhere."""
        row = await self._database.fetchrow(SQL["find_session_by_id"], session_id, IDLE_SECONDS)
        return None if row is None else _read(row)

    async def end(self, session_id: UUID) -> None:
        """End a session; the products it was told to hear of that."""
        await self._database.transact(partial(_end, where="end_session", value=session_id))

    async def end_person(self, person_id: UUID) -> None:
        """End all sessions of somebody, as when the roster has lost them."""
        await self._database.transact(partial(_end, where="end_sessions_of_person", value=person_id))

    def mark(self, response: Response, token: str | None) -> None:
        """Give the browser its session's cookie, which ends with the browser; None leaves the one it has."""
        if token is not None:
            response.set_cookie(self.cookie, token, path="/", secure=self._secure, httponly=True, samesite="lax")

    def unmark(self, response: Response) -> None:
        """Take the cookie away."""
        response.delete_cookie(self.cookie, path="/", secure=self._secure, httponly=True, samesite="lax")

    def _read_cookie(self, request: Request) -> str | None:
        found = request.cookies.get(self.cookie, "")
        return found if 20 <= len(found) <= 100 else None  # noqa: PLR2004 - about as long as those we give


async def _replace(connection: Connection, new: tuple[Any, ...], before: bytes) -> asyncpg.Record:
    """Go on with the session this browser had, if it is the same person's; else end it and begin a new one."""
    fields = dict(zip(("id", "token_hash", *Beginning.__slots__), new, strict=False))
    same = (fields["person_id"], fields["connection_id"])
    row = await connection.fetchrow(
        SQL["continue_session"], before, fields["token_hash"], *same, fields["upstream"], LIFE_SECONDS
    )
    if row is None:
        await _end(connection, "end_session_of_token", before)
        row = await connection.fetchrow(SQL["begin_session"], *new)
    assert row is not None  # noqa: S101 - an INSERT returns what it inserted
    return row


async def _end(connection: Connection, where: str, value: object) -> None:
    """End sessions, and their parts at products, which are told of it by the worker."""
    for row in await connection.fetch(SQL[where], value):
        await connection.execute(SQL["end_participations"], row["id"])


def _read(row: asyncpg.Record) -> Session:
    return Session(**{name: row[name] for name in Session.__slots__})
