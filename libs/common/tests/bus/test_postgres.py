"""The bus inside Postgres keeps the contract, and what only it promises."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from homeroom.bus import Bus
from homeroom.embedded import EmbeddedPostgres
from homeroom.testing.bus_contract import BusContract, open_short


class TestPostgresBus(BusContract):
    """The contract on the embedded default."""

    kind = "postgres"

    @pytest.fixture
    def server(self, postgres: EmbeddedPostgres) -> EmbeddedPostgres:
        """The server that tests kill."""
        return postgres

    @pytest.fixture
    def address(self, database_url: str) -> str:
        """A database of its own for each test."""
        return database_url

    def open(self, address: str, **settings: Any) -> AbstractAsyncContextManager[Bus]:
        """Open with short sessions."""
        return open_short(self.kind, address, **settings)
