"""Sign-ins that try a connection out: a real flow with a real person, after which nobody is signed in or tied (E1).

What is kept of one are the names of what the provider sent, and words of ours; never a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
from fastapi import Request, Response

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from sso.connections.registry import no_connection
from sso.launch.arrivals import Arrival
from sso.launch.flows import Intent, hash_token, make_token
from sso.launch.identification import Door
from sso.launch.launching import Arrived, Launching
from sso.launch.pages import show
from sso.launch.refusals import Refused
from sso.statements import SQL

LIFE_SECONDS: Final = 600
MOST_CLAIMS: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that came, or did not, and whether that is as it must be."""

    what: str
    ok: bool
    detail: str


class Trials:
    """The use cases of test sign-ins."""

    def __init__(self, database: Database, launching: Launching) -> None:
        self._database = database
        self._launching = launching

    async def begin(self, connection_id: UUID, visible: UUID | None, *, by: str) -> tuple[asyncpg.Record, str]:
        """A test sign-in, and the token its address ends with. Problem NOT_FOUND."""
        token, test_id = make_token(), new_id()

        async def add(connection: Connection) -> asyncpg.Record:
            row = await connection.fetchrow(SQL["show_connection"], connection_id, visible)
            if row is None:
                raise no_connection(connection_id)
            made = await connection.fetchrow(
                SQL["begin_test_sign_in"], test_id, connection_id, hash_token(token), by, LIFE_SECONDS
            )
            await audit.note(
                connection,
                by=by,
                action="test-sign-in.begin",
                organization=row["organization_id"],
                subject=f"connection:{connection_id}",
                detail={"test_sign_in": str(test_id)},
            )
            assert made is not None  # noqa: S101 - an INSERT returns what it inserted
            return made

        return await self._database.transact(add), token

    async def read(self, connection_id: UUID, test_id: UUID, visible: UUID | None) -> asyncpg.Record:
        """A test sign-in and how its launch stands. Problem NOT_FOUND."""
        row = await self._database.fetchrow(SQL["show_test_sign_in"], test_id, connection_id, visible)
        if row is None:
            raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no test sign-in {test_id}.")
        return row

    async def open(self, request: Request, token: str) -> Response:
        """Send a browser off to the connection's provider; the address works once. Raises `Refused`."""
        trace = self._launching.launches.begin("test")
        request.state.trace = trace
        row = await self._database.fetchrow(SQL["open_test_sign_in"], hash_token(token), trace.support_id)
        if row is None:
            raise Refused(Code.SIGNIN_FLOW_LOST, "the test's address was used, or is too old", status=410)
        trace.facts |= {"connection_id": row["connection_id"], "organization_id": row["organization_id"]}
        upstream = await self._launching.upstreams.find(row["upstream_id"], fresh=True)
        if upstream is None:
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the connection was deleted")
        trace.kind = upstream.kind
        intent = Intent("test", connection_id=row["connection_id"], resume=str(row["id"]))
        return await self._launching.send(request, upstream, intent, trace)

    async def finish(self, arrived: Arrived) -> Response:
        """Say what came, on a page and for who reads the result; nobody is signed in."""
        intent, arrival, trace = arrived.intent, arrived.arrival, arrived.trace
        if intent.connection_id is None or intent.resume is None:
            raise Refused(Code.SIGNIN_FLOW_LOST, "a test that was not begun here")
        door = await self._launching.identification.find_connection(intent.connection_id, None)
        if door is None or door.upstream_id != arrival.upstream.id:
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the connection was deleted")
        trace.facts |= {"connection_id": door.id, "organization_id": door.organization_id}
        findings = await self._judge(arrival, door)
        claims = sorted(arrival.claims)[:MOST_CLAIMS]
        ok = all(one.ok for one in findings)
        result: dict[str, Any] = {
            "ok": ok,
            "claims": claims,
            "findings": [{"what": one.what, "ok": one.ok, "detail": one.detail} for one in findings],
        }
        await self._database.fetch(SQL["finish_test_sign_in"], UUID(intent.resume), door.id, result)
        trace.note("tested", ok=int(ok))
        await self._launching.launches.write(trace, "completed")
        return show("tested", ok=ok, connection=door.name, claims=claims, findings=findings)

    async def _judge(self, arrival: Arrival, door: Door) -> list[Finding]:
        findings = [Finding("proof", ok=True, detail="The provider's answer passed every check.")]
        if door.tenant is None:
            findings.append(Finding("tenant", ok=True, detail="None is expected."))
        elif arrival.tenant is None:
            findings.append(Finding("tenant", ok=False, detail="The provider did not say which tenant it is."))
        elif arrival.tenant != door.tenant:
            findings.append(Finding("tenant", ok=False, detail="It is another tenant than this connection's."))
        else:
            findings.append(Finding("tenant", ok=True, detail="It is this connection's."))
        needed = door.rostering == "required"
        if arrival.person_key:
            findings.append(Finding("person", ok=True, detail="There is a key to look for in the roster."))
        else:
            detail = "The provider sent nothing that could be looked for in the roster."
            findings.append(Finding("person", ok=not needed, detail=detail))
        return [*findings, await self._ask_roster(arrival, door)]

    async def _ask_roster(self, arrival: Arrival, door: Door) -> Finding:
        try:
            _, verdict = await self._launching.identification.weigh(arrival, door, None)
        except Refused as refused:
            return Finding("roster", ok=False, detail=f"{refused.code.entry.title}.")
        if verdict.refusal is not None:
            return Finding("roster", ok=False, detail=f"{verdict.refusal.entry.title}: {verdict.why}.")
        return Finding("roster", ok=True, detail=f"They would come in: {verdict.why}.")
