"""The bus over Apache Kafka keeps the contract, on a real broker."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from homeroom.bus import Bus
from homeroom.testing.bus_contract import BusContract, open_short
from homeroom.testing.kafka import Broker


@pytest.mark.kafka
class TestKafkaBus(BusContract):
    """The contract on Kafka."""

    kind = "kafka"

    @pytest.fixture
    def server(self, kafka: Broker) -> Broker:
        """The broker that tests kill."""
        return kafka

    @pytest.fixture
    def address(self, kafka: Broker) -> str:
        """One broker for all tests; they use topics of their own."""
        return kafka.bootstrap

    def open(self, address: str, **settings: Any) -> AbstractAsyncContextManager[Bus]:
        """Open with short sessions."""
        return open_short(self.kind, address, **settings)
