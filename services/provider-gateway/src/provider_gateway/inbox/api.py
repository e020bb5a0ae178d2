"""Uploading by hand, and what became of uploads: `/v1/integrations/{id}/uploads` (A6)."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from homeroom.auth import Caller, require
from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.connections import UPLOADED
from homeroom.ids import new_id
from homeroom.messages import IntegrationState
from homeroom.problems import Problem
from homeroom.telemetry import get_logger
from provider_gateway.inbox.accounts import Directory
from provider_gateway.inbox.sealing import Plan, Sealer, locked_folder, sealing_folder, write_plan
from provider_gateway.inbox.storage import Expected, Seal, StoredUploads
from provider_gateway.inbox.store import StorageFailed
from provider_gateway.inbox.watching import opens

NEWS_SECONDS = 5.0
"""How long news of an integration may travel from the scheduler to here."""
TOTAL_SECONDS = 6 * 3_600.0
AT_ONCE = 8
"""Bodies that are taken in at once."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()-]{0,99}")
_WRITE_BYTES = 1 << 20

log = get_logger(__name__)
router = APIRouter(tags=["uploads"])


@dataclass(slots=True)
class Desk:
    """What uploads over REST need."""

    directory: Directory
    uploads: StoredUploads
    sealer: Sealer
    spool: Path
    max_bytes: int
    chunk_seconds: float
    clock: Clock
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))


class Uploaded(BaseModel):
    """A set that was received."""

    upload_id: str
    bytes: int
    digest: str = Field(description="SHA-256 over the files' names and contents: equal for equal sets")
    received_at: datetime


class UploadDescription(Uploaded):
    """A set as it is listed."""

    via: str = Field(description="`sftp` or `rest`")
    files: int


class IncompleteUpload(BaseModel):
    """Files that are no set yet."""

    folder: str = Field(description="where they lie, from the account's root folder")
    waiting_for: Literal["missing", "arriving", "nights"] = Field(
        description="files that are missing, that are still being written, or that are older than the others"
    )
    files: list[str] = Field(description="which ones")
    present: int = Field(description="how many files are there")
    since: datetime = Field(description="when the last of them arrived")
    code: str | None = Field(description="SFTP_INCOMPLETE_SET once it has taken too long")


class UploadList(BaseModel):
    """What an integration was sent."""

    uploads: list[UploadDescription] = Field(description="newest first")
    incomplete: list[IncompleteUpload]


@router.post(
    "/v1/integrations/{integration_id}/uploads",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(
    integration_id: str,
    request: Request,
    caller: Annotated[Caller, Depends(require("runs.write"))],
    name: Annotated[str, Query(description="what the file is called", max_length=100)] = "upload.zip",
) -> Uploaded:
    """Upload a set of OneRoster CSV files as one zip; a sync starts by itself."""
    with _hanging_up():
        desk = find_desk(request)
        await _find(desk, integration_id, caller)
        _check_head(desk, request, name)
        return await _take(desk, integration_id, caller, request, name)


async def _take(desk: Desk, integration_id: str, caller: Caller, request: Request, name: str) -> Uploaded:
    if desk.free.locked():
        raise Problem(Code.BUSY, status=503, detail="Too many uploads are under way.", headers={"Retry-After": "30"})
    async with desk.free, _draft(desk, integration_id) as draft:
        target = draft / "files" / (name if name.lower().endswith(".zip") else f"{name}.zip")
        await _receive(desk, request, target)
        if not await asyncio.to_thread(opens, target):
            raise Problem(Code.ZIP_UNSAFE, status=422, detail="The body is no zip, or not a whole one.")
        await _find(desk, integration_id, caller)  # it may have been deleted meanwhile
        seal = await _seal(desk, integration_id, draft)
    return Uploaded(upload_id=seal.upload_id, bytes=seal.size, digest=seal.digest, received_at=seal.received_at)


@router.get("/v1/integrations/{integration_id}/uploads")
async def list_uploads(
    integration_id: str,
    request: Request,
    caller: Annotated[Caller, Depends(require("integrations.read"))],
    limit: Annotated[int, Query(ge=1, le=100, description="how many at most")] = 20,
) -> UploadList:
    """The sets that were received and are kept, newest first, and what the inbox waits for."""
    desk = find_desk(request)
    await _find(desk, integration_id, caller, reading=True)
    with storing():
        ids = await desk.uploads.ids(integration_id)
        seals = await asyncio.gather(*(desk.uploads.find(integration_id, one) for one in ids[:limit]))
        expected = await desk.uploads.expected(integration_id)
    return UploadList(
        uploads=[_describe(seal) for seal in seals if seal is not None],
        incomplete=[_describe_incomplete(one) for one in expected],
    )


def find_desk(request: Request) -> Desk:
    """What uploads need. Problem UPLOAD_MISSING where there is no inbox."""
    desk: Desk | None = request.app.state.desk
    if desk is None:
        raise Problem(Code.UPLOAD_MISSING, status=404, detail="This installation has no inbox for uploads.")
    return desk


async def _find(desk: Desk, integration_id: str, caller: Caller, *, reading: bool = False) -> IntegrationState:
    """The integration, if the caller may see it and it takes uploads."""
    state = await desk.directory.wait_for(integration_id, NEWS_SECONDS)
    if state is None or not caller.may_see(state.organization_id):
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such integration.")
    if state.provider not in UPLOADED:
        raise Problem(
            Code.PROVIDER_UNFIT, status=409, detail="This integration is not fed by files; it takes no uploads."
        )
    if state.state == "deleted" and not reading:
        raise Problem(Code.INTEGRATION_DELETED, status=409, detail="The integration takes no more uploads.")
    return state


def _check_head(desk: Desk, request: Request, name: str) -> None:
    """What can be refused before the body is read."""
    if not _NAME.fullmatch(name):
        raise Problem(
            Code.REQUEST_INVALID,
            status=422,
            detail="Not accepted: query.name.",
            errors=[{"field": "query.name", "problem": "letters, digits, spaces and . _ - ( ) only"}],
        )
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > desk.max_bytes:
        raise _too_large(desk)


@asynccontextmanager
async def _draft(desk: Desk, integration_id: str) -> AsyncIterator[Path]:
    """A locked folder for one body, gone afterwards unless it was moved away."""
    draft = desk.spool / integration_id / "posted" / str(new_id())
    (draft / "files").mkdir(mode=0o700, parents=True)
    try:
        with locked_folder(draft) as mine:
            if not mine:
                raise Problem(Code.BUSY, status=503, detail="Try again.", headers={"Retry-After": "1"})
            yield draft
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)


async def _receive(desk: Desk, request: Request, target: Path) -> None:
    """Write the body to a file as it comes."""
    pieces = request.stream()
    size, waiting = 0, bytearray()
    with target.open("xb") as file:
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                while True:
                    async with asyncio.timeout(desk.chunk_seconds):
                        piece = await anext(pieces, None)
                    if piece is not None:
                        waiting += piece
                        size += len(piece)
                    if size > desk.max_bytes:
                        raise _too_large(desk)
                    if piece is None or len(waiting) >= _WRITE_BYTES:
                        await asyncio.to_thread(file.write, bytes(waiting))
                        waiting.clear()
                    if piece is None:
                        return
        except TimeoutError:
            raise Problem(Code.REQUEST_INVALID, status=408, detail="The body stopped arriving.") from None
        except ClientDisconnect:
            raise Problem(Code.REQUEST_INVALID, status=400, detail="The body was cut off.") from None


async def _seal(desk: Desk, integration_id: str, draft: Path) -> Seal:
    """From here on the upload happens, even if this process or its caller goes away: the inbox would go on."""
    folder = sealing_folder(desk.spool / integration_id) / draft.name
    plan = Plan(received_at=desk.clock.now(), via="rest")
    await asyncio.to_thread(_put_aside, draft, folder, plan)
    with storing():
        return await asyncio.shield(desk.sealer.announce(integration_id, folder, plan))


def _put_aside(draft: Path, folder: Path, plan: Plan) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_plan(draft, plan)
    draft.rename(folder)


@contextmanager
def storing() -> Iterator[None]:
    """Around what is asked of the storage. Problem UNAVAILABLE."""
    try:
        yield
    except StorageFailed as error:
        log.warning("the storage of uploads failed", why=str(error))
        raise Problem(
            Code.UNAVAILABLE,
            status=503,
            detail="The storage of uploads did not answer.",
            headers={"Retry-After": "30"},
        ) from None


@contextmanager
def _hanging_up() -> Iterator[None]:
    """What is refused need not be sent to its end: the connection is closed instead of drained."""
    try:
        yield
    except Problem as problem:
        problem.headers["Connection"] = "close"
        raise


def _too_large(desk: Desk) -> Problem:
    return Problem(Code.UPLOAD_TOO_LARGE, status=413, detail=f"An upload may have {desk.max_bytes:,} bytes.")


def _describe(seal: Seal) -> UploadDescription:
    return UploadDescription(
        upload_id=seal.upload_id,
        bytes=seal.size,
        digest=seal.digest,
        received_at=seal.received_at,
        via=seal.via,
        files=len(seal.files),
    )


def _describe_incomplete(one: Expected) -> IncompleteUpload:
    return IncompleteUpload(
        folder=one.folder,
        waiting_for=one.why,
        files=list(one.files),
        present=one.present,
        since=one.since,
        code=str(Code.SFTP_INCOMPLETE_SET) if one.overdue else None,
    )
