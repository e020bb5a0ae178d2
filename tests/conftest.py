"""One installation for all end-to-end tests, and one more on Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from installation import Installation, running_installation

from homeroom.testing.kafka import Broker


@pytest.fixture(scope="session")
def on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The embedded default: the bus on Postgres."""
    with running_installation(tmp_path_factory.mktemp("embedded")) as installation:
        yield installation


@pytest.fixture(scope="session")
def on_kafka(tmp_path_factory: pytest.TempPathFactory, kafka: Broker) -> Iterator[Installation]:
    """The same on a real Apache Kafka."""
    with running_installation(tmp_path_factory.mktemp("kafka"), kafka.bootstrap) as installation:
        yield installation


@pytest.fixture(params=["on_postgres", pytest.param("on_kafka", marks=pytest.mark.kafka)])
def installation(request: pytest.FixtureRequest) -> Installation:
    """Every test that asks for it runs on both buses."""
    found: Installation = request.getfixturevalue(request.param)
    return found
