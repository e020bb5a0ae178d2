"""What the gateway's processes are put together from: `python -m provider_gateway api|worker|inbox|migrate`."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys

import httpx2
from fastapi import FastAPI

from homeroom.auth import TokenSource, Verifier
from homeroom.bus.opening import open_bus
from homeroom.clock import SystemClock
from homeroom.secrets import SealingKeys
from homeroom.service import STOP_SECONDS, Parts, create_app, run_api, run_roles, run_worker
from homeroom.settings import SettingsError
from provider_gateway.api import router
from provider_gateway.gates import HostGates
from provider_gateway.inbox.api import router as uploads_router
from provider_gateway.inbox.downloads import router as downloads_router
from provider_gateway.inbox.host_key import make_host_keys
from provider_gateway.inbox.process import check_inbox, open_desk, take_in
from provider_gateway.inbox.storage import NoUploads, open_uploads
from provider_gateway.readers import Readers
from provider_gateway.settings import GatewaySettings
from provider_gateway.store import SCOPE, RosterStore
from provider_gateway.worker import Worker, name_worker
from provider_gateway.workshop import Workshop

NAME = "provider-gateway"
_SLACK_BYTES = 10_000_000


def build(settings: GatewaySettings, verifier: Verifier | None = None) -> FastAPI:
    """The API; it keeps nothing but what is uploaded."""

    async def open_parts(app: FastAPI, parts: Parts) -> None:
        await open_desk(app, settings, parts)

    # Uploads look to their own limit as they come, and before this one; nothing else of this API reads a body.
    body_bytes = max(settings.max_body_bytes, settings.upload_max_bytes + _SLACK_BYTES)
    return create_app(
        name=NAME,
        title="Homeroom provider gateway",
        settings=settings.model_copy(update={"max_body_bytes": body_bytes}),
        routers=[router, uploads_router, downloads_router],
        open_parts=open_parts,
        verifier=verifier,
    )


async def work(settings: GatewaySettings, parts: Parts, stop: asyncio.Event) -> None:
    """Take jobs until `stop` is set."""
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # their lines hold whole addresses, and so people's ids
    keys = read_keys(settings)
    bus = await parts.open("bus", open_bus(settings), ping=lambda bus: bus.ping())
    tokens = await parts.open("tokens", TokenSource.open(settings, [SCOPE]))
    store = await parts.open("store", RosterStore.open(settings.store_url, tokens))
    readers = await parts.open("readers", Readers.open(settings.page_processes))
    uploads = await parts.open("uploads", open_uploads(settings))
    workshop = Workshop(
        settings=settings,
        bus=bus,
        store=store,
        keys=keys,
        gates=HostGates(settings.host_in_flight),
        readers=readers,
        uploads=uploads or NoUploads(),
        tls=httpx2.create_ssl_context(trust_env=False),
        clock=SystemClock(),
        worker=name_worker(),
    )
    gc.collect()
    gc.freeze()  # what is loaded by now stays; pages are many short-lived objects that need no walk over it
    await Worker(workshop).run(stop)


def read_keys(settings: GatewaySettings) -> SealingKeys:
    """The keys that open sealed credentials; a worker without them could do nothing."""
    try:
        return SealingKeys(settings.gateway_private_keys.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"HOMEROOM_GATEWAY_PRIVATE_KEYS can't be used: {error}.") from None


def check_bus(settings: GatewaySettings) -> None:
    """Raise SettingsError unless there is a bus to take jobs from; with Kafka, no database's password is needed."""
    if not settings.kafka and not settings.database_url.get_secret_value():
        raise SettingsError(
            "Neither HOMEROOM_KAFKA nor HOMEROOM_DATABASE_URL is set, so there is no bus to take jobs from. "
            "Set HOMEROOM_KAFKA to Kafka's bootstrap servers, or HOMEROOM_DATABASE_URL if the bus runs on Postgres."
        )


def _run_worker() -> None:
    settings = GatewaySettings.load()
    check_bus(settings)
    read_keys(settings)
    run_worker(
        NAME,
        settings,
        lambda parts, stop: work(settings, parts, stop),
        stop_seconds=settings.grace_seconds + STOP_SECONDS,
    )


def _run_inbox() -> None:
    settings = GatewaySettings.load()
    check_bus(settings)
    check_inbox(settings)
    run_worker(NAME, settings, lambda parts, stop: take_in(settings, parts, stop))


def _run_api() -> None:
    settings = GatewaySettings.load()
    if settings.uploads_url:
        check_bus(settings)
    run_api(build(settings), settings)


def _migrate() -> None:
    sys.stdout.write("provider-gateway has no database of its own; there is nothing to migrate.\n")


def _make_host_key() -> None:
    sys.stdout.write(make_host_keys())


def main() -> None:
    """Run the role the command line names."""
    roles = {
        "api": _run_api,
        "worker": _run_worker,
        "inbox": _run_inbox,
        "host-key": _make_host_key,
        "migrate": _migrate,
    }
    run_roles("provider_gateway", roles)
