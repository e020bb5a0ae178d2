"""Does a connection work? Looked at from here, and tried with a person (E1)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from homeroom.codes import Code
from sso.callers import Reader, Writer, seen_by
from sso.connections.api import UseConnections
from sso.connections.checks import SelfTest
from sso.connections.registry import no_connection
from sso.connections.trials import Trials
from sso.launch.browser_routes import BrowserRoute
from sso.launch.launching import Arrived, Launching

router = APIRouter(prefix="/v1/connections", tags=["connections"])
browser_router = APIRouter(prefix="/sso", route_class=BrowserRoute, include_in_schema=False)


class CheckRead(BaseModel):
    """Something that was looked at."""

    check: str = Field(examples=["issuer"])
    ok: bool | None = Field(description="null: that can't be said from here")
    detail: str = Field(examples=["The issuer is the one that was entered."])
    next_step: str | None


class SelfTestRead(BaseModel):
    """How a connection looks from here."""

    ok: bool = Field(description="whether nothing is wrong")
    checks: list[CheckRead]


class TestSignInMade(BaseModel):
    """Where to sign in, once."""

    id: UUID
    url: str = Field(description="for one browser, within ten minutes")
    expires_at: datetime


class FindingRead(BaseModel):
    """Something that came, or did not."""

    what: str = Field(description="proof, tenant, person or roster", examples=["tenant"])
    ok: bool
    detail: str


class TestSignInRead(BaseModel):
    """What became of a test sign-in."""

    id: UUID
    state: Literal["waiting", "opened", "refused", "expired", "done"]
    ok: bool | None = Field(description="whether they would have come in; null while that is not known")
    claims: list[str] = Field(description="the names of what the provider sent, never what is in them")
    findings: list[FindingRead]
    support_id: str | None = Field(description="of the launch", examples=["HR-7K3M-92QX"])
    code: str | None = Field(description="why it was refused on the way")
    detail: str | None = Field(description="the finer reason")
    next_step: str | None


def _get_self_test(request: Request) -> SelfTest:
    found: SelfTest = request.app.state.self_test
    return found


def _get_trials(request: Request) -> Trials:
    found: Trials = request.app.state.trials
    return found


UseTrials = Annotated[Trials, Depends(_get_trials)]


@router.post("/{connection_id}/test")
async def test_connection(
    request: Request,
    connection_id: UUID,
    caller: Writer,
    connections: UseConnections,
    self_test: Annotated[SelfTest, Depends(_get_self_test)],
) -> SelfTestRead:
    """Look at all that can be seen without a person, and say in words what is wrong and what to do."""
    row = await connections.read(connection_id, seen_by(caller))
    launching: Launching = request.app.state.launching
    upstream = await launching.upstreams.find(row["upstream_id"], fresh=True)
    if upstream is None:
        raise no_connection(connection_id)
    checks = await self_test.run(row, upstream)
    return SelfTestRead(
        ok=all(one.ok is not False for one in checks),
        checks=[CheckRead(check=one.check, ok=one.ok, detail=one.detail, next_step=one.next_step) for one in checks],
    )


@router.post("/{connection_id}/test-sign-ins", status_code=201)
async def begin_test_sign_in(
    request: Request, connection_id: UUID, caller: Writer, trials: UseTrials
) -> TestSignInMade:
    """Get an address at which somebody signs in once, to see what the provider sends and the roster says."""
    row, token = await trials.begin(connection_id, seen_by(caller), by=caller.subject)
    url = f"{request.app.state.settings.issuer}/sso/test/{token}"
    return TestSignInMade(id=row["id"], url=url, expires_at=row["expires_at"])


@router.get("/{connection_id}/test-sign-ins/{test_id}")
async def read_test_sign_in(connection_id: UUID, test_id: UUID, caller: Reader, trials: UseTrials) -> TestSignInRead:
    """What became of a test sign-in."""
    return _show(await trials.read(connection_id, test_id, seen_by(caller)))


@browser_router.get("/test/{token}")
async def open_test_sign_in(
    request: Request, token: Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]
) -> Response:
    """Where an admin's browser goes to try a connection."""
    trials: Trials = request.app.state.trials
    return await trials.open(request, token)


async def continue_test(request: Request, arrived: Arrived) -> Response:
    """The continuation of `test`: show what came."""
    trials: Trials = request.app.state.trials
    return await trials.finish(arrived)


def _show(row: asyncpg.Record) -> TestSignInRead:
    result: dict[str, Any] = row["result"] or {}
    refused = row["ended_at"] is None and row["launch_state"] == "refused"
    code = Code(row["launch_code"]) if refused and row["launch_code"] in Code.__members__ else None
    reasons = [step.get("why") for step in row["launch_steps"] or [] if step.get("what") == "refused"]
    return TestSignInRead(
        id=row["id"],
        state=_name_state(row, refused=refused),
        ok=False if refused else result.get("ok"),
        claims=result.get("claims", []),
        findings=[FindingRead(**one) for one in result.get("findings", [])],
        support_id=row["support_id"],
        code=code,
        detail=reasons[-1] if refused and reasons else None,
        next_step=None if code is None else code.entry.next_step,
    )


def _name_state(row: asyncpg.Record, *, refused: bool) -> Literal["waiting", "opened", "refused", "expired", "done"]:
    if row["ended_at"] is not None:
        return "done"
    if refused:
        return "refused"
    if row["expired"]:
        return "expired"
    return "waiting" if row["opened_at"] is None else "opened"
