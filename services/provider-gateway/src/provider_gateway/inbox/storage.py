"""Where complete sets of files are kept until they are read: a folder, or an S3-compatible store."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from homeroom.codes import Code
from provider_gateway.failures import ProviderError


class Uploads(Protocol):
    """The sets of files that were received, as a worker sees them."""

    async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:
        """The set as a folder or a zip on this machine, below `into` if it had to be copied there.

        Raises `ProviderError` UPLOAD_MISSING where there is none, SFTP_IO where it is not as it was received.
        """


class NoUploads:
    """An installation without an inbox."""

    async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:  # noqa: ARG002 - there are none
        """Never finds a set."""
        raise ProviderError(Code.UPLOAD_MISSING, "This installation keeps no uploads.")
