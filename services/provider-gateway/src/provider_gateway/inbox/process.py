"""The inbox as a process: the SFTP server, the watch over what was uploaded, and what is erased in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI

from homeroom.bus import Bus
from homeroom.bus.opening import open_bus
from homeroom.clock import SystemClock
from homeroom.messages import ERASURES, TOPICS
from homeroom.service import Parts
from homeroom.settings import SettingsError
from homeroom.telemetry import get_logger
from provider_gateway.inbox.accounts import Directory
from provider_gateway.inbox.api import Desk
from provider_gateway.inbox.door import Door
from provider_gateway.inbox.erasures import GROUP as ERASURES_GROUP
from provider_gateway.inbox.erasures import Erasures
from provider_gateway.inbox.host_key import fingerprints
from provider_gateway.inbox.retention import Retention
from provider_gateway.inbox.sealing import Sealer, locked_folder
from provider_gateway.inbox.sets import Rules
from provider_gateway.inbox.sftp import Doors, serving
from provider_gateway.inbox.storage import StoredUploads, open_uploads
from provider_gateway.inbox.watching import Spools, Watcher
from provider_gateway.settings import GatewaySettings

OWN_SECONDS = 60.0
"""How long the process before this one may take to end."""
FIRST_SECONDS = 600.0
"""How long it may take to read all integrations."""

log = get_logger(__name__)


def check_inbox(settings: GatewaySettings) -> list[str]:
    """The fingerprints of the host keys; raises SettingsError unless an inbox can be run with these settings."""
    if not settings.uploads_url:
        raise SettingsError(
            "HOMEROOM_UPLOADS_URL is not set, so there is no place to keep uploads. "
            "Set it to a folder, or to s3://bucket/prefix."
        )
    try:
        return fingerprints(settings.sftp_host_key.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"HOMEROOM_SFTP_HOST_KEY can't be used: {error}.") from None


async def take_in(settings: GatewaySettings, parts: Parts, stop: asyncio.Event) -> None:
    """Serve uploaders and seal what they upload until `stop` is set."""
    logging.getLogger("asyncssh").setLevel(logging.WARNING)  # its lines name accounts, addresses and files
    told = check_inbox(settings)
    clock = SystemClock()
    folder = await parts.open("inbox folder", _own(settings.spool_folder))
    bus, directory, uploads = await _open(settings, parts)
    sealer = Sealer(uploads, bus, clock)
    spools = Spools(folder, settings.upload_max_bytes)
    watcher = Watcher(
        spools=spools,
        directory=directory,
        sealer=sealer,
        uploads=uploads,
        clock=clock,
        rules=make_rules(settings),
    )
    watcher.recover()
    if not await _read_all(directory, stop):
        return
    doors = Doors(
        door=Door(directory, clock),
        directory=directory,
        spools=spools,
        clock=clock,
        idle_seconds=settings.sftp_idle_seconds,
    )
    parts.start("watch", watcher.run)
    keep = timedelta(days=settings.uploads_keep_days)
    parts.start("retention", Retention(uploads, spools, directory, clock, keep).run)
    erasing = bus.consumer([ERASURES.name], Erasures(uploads, spools).handle, group=ERASURES_GROUP)
    parts.start("erasures", erasing.run)
    parts.start("idle connections", doors.sweep)
    host = settings.sftp_bind or settings.host
    async with serving(host, settings.sftp_port, settings.sftp_host_key.get_secret_value(), doors) as port:
        log.info("serving SFTP", host=host, port=port, host_keys=told)
        await stop.wait()
    await erasing.stop()


async def open_desk(app: FastAPI, settings: GatewaySettings, parts: Parts) -> None:
    """What the API needs for uploads, on `app.state.desk`; None where there is no inbox."""
    app.state.desk = None
    if not settings.uploads_url:
        return
    bus, directory, uploads = await _open(settings, parts)
    clock = SystemClock()
    app.state.desk = Desk(
        directory=directory,
        uploads=uploads,
        sealer=Sealer(uploads, bus, clock),
        spool=settings.spool_folder,
        max_bytes=settings.upload_max_bytes,
        chunk_seconds=settings.upload_chunk_seconds,
        clock=clock,
    )


def make_rules(settings: GatewaySettings) -> Rules:
    """How patient the settings are."""
    rest = timedelta(seconds=settings.inbox_rest_seconds)
    return Rules(rest=rest, broken_rest=10 * rest, wait=timedelta(hours=settings.inbox_wait_hours))


async def _open(settings: GatewaySettings, parts: Parts) -> tuple[Bus, Directory, StoredUploads]:
    bus = await parts.open("bus", open_bus(settings), ping=lambda bus: bus.ping())
    await bus.ensure_topics(TOPICS)
    uploads = await parts.open("uploads", open_uploads(settings))
    if uploads is None:  # checked by whoever starts the process
        raise SettingsError("HOMEROOM_UPLOADS_URL is not set.")
    directory = Directory(bus)
    parts.start("tenancy", directory.run)
    await parts.open("tenancy", nullcontext(directory), ping=lambda directory: directory.check())
    return bus, directory, uploads


async def _read_all(directory: Directory, stop: asyncio.Event) -> bool:
    """Wait until all integrations are known; False if the process is to end before."""
    reading, stopping = asyncio.create_task(directory.complete()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([reading, stopping], timeout=FIRST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done() and not stop.is_set():
            raise TimeoutError("integrations could not be read")
        return reading.done()
    finally:
        for task in (reading, stopping):
            task.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)


@asynccontextmanager
async def _own(folder: Path) -> AsyncIterator[Path]:
    """The inbox's folder, which one process has at a time: two would take each other's files."""
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    deadline = asyncio.get_running_loop().time() + OWN_SECONDS
    while True:
        with locked_folder(folder) as mine:
            if mine:
                yield folder
                return
        if asyncio.get_running_loop().time() > deadline:
            raise SettingsError("Another process serves the inbox in HOMEROOM_INBOX_DIR; one inbox has one process.")
        await asyncio.sleep(0.2)
