"""What all jobs and inquiries of a worker share, and how each of them gets at its district."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from homeroom.bus import Bus
from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.messages import Bookmark, Inquiry, Mode, SyncJob
from homeroom.secrets import SealingKeys, SecretUnreadable
from provider_gateway.client import PoliteClient
from provider_gateway.failures import ProviderError
from provider_gateway.gates import HostGates
from provider_gateway.inbox.storage import StoredUploads, Uploads
from provider_gateway.providers import PROVIDERS
from provider_gateway.providers.contract import Connection, Opening, Source
from provider_gateway.readers import Readers
from provider_gateway.recording import Recording
from provider_gateway.settings import GatewaySettings
from provider_gateway.store import RosterStore

_SECRETS = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Workshop:
    """What is opened once for a worker."""

    settings: GatewaySettings
    bus: Bus
    store: RosterStore
    keys: SealingKeys
    gates: HostGates
    readers: Readers
    uploads: Uploads
    tls: ssl.SSLContext
    clock: Clock
    worker: str

    @asynccontextmanager
    async def open_source(
        self, errand: SyncJob | Inquiry, *, mode: Mode, bookmark: Bookmark | None, began: datetime
    ) -> AsyncIterator[Source]:
        """The district of a job or an inquiry, ready to be read; everything of it is closed and removed afterwards.

        Raises `ProviderError`, and `SecretUnreadable` if the credentials can't be opened.
        """
        provider = PROVIDERS.get(errand.provider)
        if provider is None:
            raise ProviderError(
                Code.RUN_INTERNAL, f"This gateway knows no provider of the kind {errand.provider[:40]}."
            )
        secrets = self._open_secrets(errand)
        settings = self.settings
        with tempfile.TemporaryDirectory(prefix="homeroom-", dir=settings.workspace or None) as workspace:
            async with (
                PoliteClient.open(
                    self.gates,
                    settings.limits,
                    self.tls,
                    provider=provider.kind,
                    allow_private=settings.allow_private_endpoints,
                ) as client,
                self._recording(errand, client, Path(workspace)),
                provider.open(
                    Opening(
                        integration_id=errand.integration_id,
                        connection=Connection(errand.connection, secrets),
                        options=errand.options,
                        sis=errand.sis,
                        client=client,
                        readers=self.readers,
                        uploads=self.uploads,
                        upload=errand.upload,
                        mode=mode,
                        bookmark=bookmark,
                        began=began,
                        today=errand.today,
                        workspace=Path(workspace),
                        page_size=settings.page_size,
                        pages_in_flight=settings.pages_in_flight,
                    )
                ) as source,
            ):
                yield source

    @asynccontextmanager
    async def _recording(self, errand: SyncJob | Inquiry, client: PoliteClient, workspace: Path) -> AsyncIterator[None]:
        """Keep what the provider sends, if the integration asks for it and there is a place for it."""
        if not (isinstance(errand, SyncJob) and errand.keep_received and isinstance(self.uploads, StoredUploads)):
            yield
            return
        folder = workspace / "received"
        folder.mkdir()
        client.recording = recording = Recording(folder)
        try:
            yield
        finally:  # also of a fetch that failed: that is when somebody wants to see it
            await recording.put_away(self.uploads.received, errand.integration_id, errand.run_id, self.clock.now())

    def _open_secrets(self, errand: SyncJob | Inquiry) -> dict[str, str]:
        opened = self.keys.open(errand.integration_id, errand.sealed_secret)
        try:
            return _SECRETS.decode(opened)
        except msgspec.MsgspecError:
            raise SecretUnreadable("the sealed secrets are not what was sealed") from None
