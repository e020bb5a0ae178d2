"""`/v1/canvas`: Canvas files to take along, and Canvases that are kept in step (D6)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.connections import check_secret
from homeroom.db import Database
from homeroom.endpoints import object_to
from homeroom.problems import Problem
from homeroom.service import RequestModel
from roster_store.archives import Archive, take_place, write_archive
from roster_store.canvas.options import CanvasOptions, Courses, Login, Zone
from roster_store.canvas.sets import MOST_PROBLEMS, CanvasSet, list_entries, list_problems, narrow_sight
from roster_store.canvas.targets import (
    Wanted,
    add_target,
    ask_test,
    change_target,
    delete_target,
    find_target,
    list_targets,
    request_push,
)
from roster_store.csv_export.api import ANSWERS, SINCE, confirm_sight, find_sight, read_cursor
from roster_store.csv_export.exports import CURSOR_HEADER, check_cursor, settle_cursor
from roster_store.settings import StoreSettings
from roster_store.tables import SQL

router = APIRouter(prefix="/v1/canvas", tags=["canvas"])

Reader = Annotated[Caller, Depends(require("roster.read", products=True))]
Keeper = Annotated[Caller, Depends(require("subscriptions.write", products=True))]


# ── files to take along ───────────────────────────────────────────────────────────────────────────────────────────


def choose_options(
    login: Login = "email",
    courses: Courses = "class",
    guardians: bool = True,
    time_zone: Zone = "UTC",
) -> CanvasOptions:
    """The options as query parameters."""
    return CanvasOptions(login=login, courses=courses, guardians=guardians, time_zone=time_zone)


Chosen = Annotated[CanvasOptions, Depends(choose_options)]


@router.get("/sis-import.zip", response_class=Response, responses=ANSWERS)
async def export_canvas(
    request: Request,
    caller: Reader,
    options: Chosen,
    since: Annotated[str | None, SINCE] = None,
    integration: UUID | None = None,
    organization: UUID | None = None,
) -> Response:
    """All of a roster as Canvas' SIS import files; with `since` also what was removed since then."""
    database: Database = request.app.state.database
    cursor = read_cursor(since)
    sight = await find_sight(database, caller, integration, organization)
    stack = AsyncExitStack()
    try:
        stack.enter_context(take_place())
        settled = await settle_cursor(database, sight)
        narrowed = narrow_sight(sight, options)
        connection = await stack.enter_async_context(
            request.app.state.rosters.look(narrowed, isolation="repeatable_read")
        )
        if cursor is not None:
            await check_cursor(database, sight, cursor)
        await confirm_sight(database, caller, sight)
        wanted = CanvasSet(narrowed, options, None if cursor is None else cursor.apply_no)
        entries = await stack.enter_async_context(aclosing(list_entries(connection, wanted)))
        made_at = await connection.fetchval("SELECT now()")
        pieces = await stack.enter_async_context(aclosing(write_archive(entries, made_at)))
        return Archive(stack, pieces, "canvas-sis-import.zip", {CURSOR_HEADER: str(settled)})
    except BaseException:
        await stack.aclose()
        raise


class CanvasProblemEntry(BaseModel):
    """Somebody or something that a set leaves out, or that Canvas may refuse."""

    reason: Literal["no_login", "login_shared", "role", "reference"] = Field(
        description="no_login: left out, since the login is not known; login_shared: several people have it, of whom "
        "Canvas takes one; role: an enrollment in a role that Canvas has no word for; reference: an enrollment whose "
        "person or class is not in the roster"
    )
    collection: Literal["users", "enrollments"]
    sourced_id: str


class CanvasProblems(BaseModel):
    """Why a set is smaller than the roster."""

    counts: dict[str, int] = Field(description="how many there are of each reason", examples=[{"no_login": 12}])
    problems: list[CanvasProblemEntry] = Field(description=f"the first {MOST_PROBLEMS}")


@router.get("/problems")
async def list_canvas_problems(
    request: Request,
    caller: Reader,
    options: Chosen,
    integration: UUID | None = None,
    organization: UUID | None = None,
) -> CanvasProblems:
    """Who is left out of the Canvas files with these options, and why."""
    sight = await find_sight(request.app.state.database, caller, integration, organization)
    with take_place():
        async with request.app.state.rosters.look(narrow_sight(sight, options)) as connection:
            rows = await list_problems(connection, sight, options)
    counts = {row["reason"]: row["count"] for row in rows}
    return CanvasProblems(
        counts=counts, problems=[CanvasProblemEntry.model_validate(dict(row), extra="ignore") for row in rows]
    )


# ── targets ───────────────────────────────────────────────────────────────────────────────────────────────────────

BaseUrl = Annotated[str, Field(max_length=300, examples=["https://ekeby.instructure.com"])]
AccountId = Annotated[str, Field(pattern=r"^(self|[0-9]{1,20}(~[0-9]{1,20})?)$", examples=["1"])]
Token = Annotated[SecretStr, AfterValidator(check_secret), Field(min_length=1, max_length=500)]
Threshold = Annotated[int, Field(ge=1, le=100)]
Mode = Literal["diffing", "full"]


class NewTarget(RequestModel):
    """A Canvas to keep in step with a roster."""

    integration: UUID | None = Field(None, description="which roster; needed where several can be seen")
    organization: UUID | None = None
    base_url: BaseUrl
    account_id: AccountId = Field(description="the root account")
    access_token: Token = Field(description="of a user who may import SIS data; it is never shown again")
    options: CanvasOptions = CanvasOptions()
    mode: Mode = Field("diffing", description="`diffing`: Canvas applies what differs from the set before")
    change_threshold: Threshold = Field(10, description="percent; larger changes wait for somebody")
    automatic: bool = Field(default=True, description="push after each change of the roster and once a day")


class TargetChange(RequestModel):
    """What to change about a target; what is left out stays."""

    base_url: BaseUrl | None = None
    account_id: AccountId | None = None
    access_token: Token | None = None
    options: CanvasOptions | None = None
    mode: Mode | None = None
    change_threshold: Threshold | None = None
    automatic: bool | None = None


class Target(BaseModel):
    """A Canvas that is kept in step; its token is not shown."""

    id: UUID
    product_id: UUID | None
    organization_id: UUID
    integration_id: UUID
    base_url: str
    account_id: str
    options: CanvasOptions
    mode: Mode
    change_threshold: int
    automatic: bool
    held: str | None = Field(description="why it is pushed no more by itself; a code of the catalogue")
    created_at: datetime


class PushMessage(BaseModel):
    """What Canvas said, without the names it quoted."""

    severity: Literal["warning", "error"]
    file: str | None
    row: int | None
    message: str


class Push(BaseModel):
    """One push, and what became of it."""

    id: UUID
    state: Literal["waiting", "working", "held", "succeeded", "failed"]
    by_hand: bool
    code: str | None = Field(description="of the catalogue")
    detail: str | None
    counts: dict[str, list[int]] | None = Field(description="file: rows, and how many of them stand for what is there")
    bytes: int | None
    import_id: str | None = Field(description="Canvas' own")
    workflow_state: str | None = Field(description="what Canvas calls the state of the import")
    progress: int | None
    messages: list[PushMessage]
    message_count: int = Field(description="how many messages there were")
    created_at: datetime
    uploaded_at: datetime | None
    finished_at: datetime | None


class PushRequest(RequestModel):
    """A push by hand."""

    confirm: bool = Field(
        default=False,
        description="with a target that is held for CANVAS_HELD or CANVAS_REMASTER: send it all the same, for Canvas "
        "to compare with from now on",
    )


class TestAnswer(BaseModel):
    """What Canvas said to the token."""

    ok: bool
    code: str | None
    detail: str


class PushPage(BaseModel):
    """Pushes, the newest first."""

    pushes: list[Push]


class TargetPage(BaseModel):
    """Targets, the oldest first."""

    targets: list[Target]


def _show(row: asyncpg.Record) -> Target:
    return Target.model_validate({**dict(row), "held": row["held_code"]}, extra="ignore")


def _show_pushes(rows: Sequence[asyncpg.Record]) -> list[Push]:
    return [Push.model_validate(dict(row), extra="ignore") for row in rows]


def _check_url(url: str, settings: StoreSettings) -> str:
    """The origin of a Canvas. Raises `Problem` ENDPOINT_REFUSED."""
    text = url.strip().rstrip("/")
    why = object_to(text, allow_private=settings.allow_private_endpoints)
    if why is None and urlsplit(text).path:
        why = "it has a path; give the address of the Canvas itself"
    if why is not None:
        raise Problem(Code.ENDPOINT_REFUSED, status=422, detail=f"The address is not allowed: {why}.")
    return text


@router.post("/targets", status_code=201)
async def create_target(request: Request, body: NewTarget, caller: Keeper) -> Target:
    """Keep a Canvas in step with a roster."""
    database: Database = request.app.state.database
    settings: StoreSettings = request.app.state.settings
    url = _check_url(body.base_url, settings)
    sight = await find_sight(database, caller, body.integration, body.organization)
    token = body.access_token.get_secret_value()
    wanted = Wanted(url, body.account_id, body.options, body.mode, body.change_threshold, body.automatic, token)
    target = await add_target(database, settings.sealing_keys, caller, sight, wanted)
    return _show(await find_target(database, caller, target))


@router.get("/targets")
async def list_canvas_targets(request: Request, caller: Keeper) -> TargetPage:
    """The Canvases a caller keeps in step."""
    return TargetPage(targets=[_show(row) for row in await list_targets(request.app.state.database, caller)])


@router.get("/targets/{target}")
async def get_canvas_target(request: Request, target: UUID, caller: Keeper) -> Target:
    """One of them."""
    return _show(await find_target(request.app.state.database, caller, target))


@router.patch("/targets/{target}")
async def change_canvas_target(request: Request, target: UUID, body: TargetChange, caller: Keeper) -> Target:
    """Change one. Another address, account or option begins anew, compared with no set before."""
    database: Database = request.app.state.database
    settings: StoreSettings = request.app.state.settings
    row = await find_target(database, caller, target)
    given: dict[str, Any] = {
        name: getattr(body, name) for name in body.model_fields_set if getattr(body, name) is not None
    }
    token = given.pop("access_token", None)
    if "base_url" in given:
        given["base_url"] = _check_url(given["base_url"], settings)
    if token is None and {"base_url"} & given.keys() and given["base_url"] != row["base_url"]:
        detail = "A token is for one address; enter the one for the new address as well."
        raise Problem(Code.SECRET_REQUIRED, status=422, detail=detail)
    known = {name: row[name] for name in ("base_url", "account_id", "mode", "change_threshold", "automatic")}
    known["options"] = CanvasOptions.model_validate(row["options"])
    wanted = Wanted(**{**known, **given}, token=None if token is None else token.get_secret_value())
    await change_target(database, settings.sealing_keys, caller, row, wanted)
    return _show(await find_target(database, caller, target))


@router.delete("/targets/{target}", status_code=204)
async def delete_canvas_target(request: Request, target: UUID, caller: Keeper) -> None:
    """Forget one; nothing in Canvas changes."""
    database: Database = request.app.state.database
    await delete_target(database, caller, await find_target(database, caller, target))


@router.post("/targets/{target}/test")
async def test_canvas_target(request: Request, target: UUID, caller: Keeper) -> TestAnswer:
    """Ask Canvas for the account, with the token."""
    database: Database = request.app.state.database
    row = await find_target(database, caller, target)
    answer = await ask_test(database, row["id"])
    if answer is None:
        raise Problem(
            Code.UNAVAILABLE, status=503, detail="No worker has asked Canvas in time.", headers={"Retry-After": "10"}
        )
    code, detail = answer
    return TestAnswer(ok=code is None, code=code, detail=detail)


@router.post("/targets/{target}/pushes", status_code=202)
async def push_canvas_target(request: Request, target: UUID, caller: Keeper, body: PushRequest | None = None) -> Push:
    """Push now. What waits already takes this one in."""
    database: Database = request.app.state.database
    row = await find_target(database, caller, target)
    push = await request_push(database, caller, row, confirm=body is not None and body.confirm)
    return _show_pushes([push])[0]


@router.get("/targets/{target}/pushes")
async def list_canvas_pushes(
    request: Request, target: UUID, caller: Keeper, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> PushPage:
    """The last pushes of a target."""
    database: Database = request.app.state.database
    row = await find_target(database, caller, target)
    return PushPage(pushes=_show_pushes(await database.fetch(SQL["list_canvas_pushes"], row["id"], None, limit)))


@router.get("/targets/{target}/pushes/{push}")
async def get_canvas_push(request: Request, target: UUID, push: UUID, caller: Keeper) -> Push:
    """One push, with what Canvas said."""
    database: Database = request.app.state.database
    row = await find_target(database, caller, target)
    found = await database.fetch(SQL["list_canvas_pushes"], row["id"], push, 1)
    if not found:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such push.")
    return _show_pushes(found)[0]
