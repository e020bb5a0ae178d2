"""Downloads of what was received: the files a district uploaded, or what its provider sent in the course of a run."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.problems import Problem
from homeroom.telemetry import get_logger
from provider_gateway.failures import ProviderError
from provider_gateway.inbox.api import NEWS_SECONDS, Desk, find_desk, storing

router = APIRouter(tags=["received"])
log = get_logger(__name__)


@router.get(
    "/v1/received/{integration_id}/{set_id}",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "a zip with the files as they came"}},
)
async def download_received(
    integration_id: UUID, set_id: UUID, request: Request, caller: Annotated[Caller, Depends(require("roster.read"))]
) -> FileResponse:
    """What was received, as a zip: by the id of an upload, or of a run whose integration keeps what it receives."""
    desk = find_desk(request)
    state = await desk.directory.wait_for(str(integration_id), NEWS_SECONDS)
    if state is None or not caller.may_see(state.organization_id):
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such integration.")
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="homeroom-received-"))
    try:
        path = await _fetch(desk, str(integration_id), str(set_id), folder)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        raise
    log.info("received files were downloaded", integration_id=str(integration_id), set_id=str(set_id))
    return FileResponse(
        path,
        media_type="application/zip",
        filename=f"received-{set_id}.zip",
        headers={"Cache-Control": "no-store"},
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )


async def _fetch(desk: Desk, integration_id: str, set_id: str, folder: Path) -> Path:
    """A zip of the set on this machine."""
    with storing():
        for uploads in (desk.uploads, desk.uploads.received):
            if await uploads.find(integration_id, set_id) is None:
                continue
            try:
                found = await uploads.fetch(integration_id, set_id, folder)
            except ProviderError as error:
                raise Problem(Code.UNAVAILABLE, status=503, detail=error.detail) from None
            return found if found.is_file() else await asyncio.to_thread(_pack, found, folder / "received.zip")
    detail = "Nothing that was received is kept under this id: it is too old, or it was not asked to be kept."
    raise Problem(Code.NOT_FOUND, status=404, detail=detail)


def _pack(files: Path, into: Path) -> Path:
    with zipfile.ZipFile(into, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(files.iterdir()):
            if path.is_file() and path != into:
                archive.write(path, path.name)
    return into
