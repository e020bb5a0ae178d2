"""What a provider declares and yields: everything above it is the same for every kind of provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from homeroom.messages import Options
from homeroom.roster import Record
from provider_gateway.client import PoliteClient
from provider_gateway.failures import RecordProblem


@dataclass(slots=True)
class Page:
    """Some records of one collection, in the order the provider gave them."""

    received: int = 0
    """How many rows the provider sent, whatever became of them."""
    records: list[Record] = field(default_factory=list)
    tombstones: list[str] = field(default_factory=list)
    """The sourcedIds of rows that say of themselves that they are gone."""
    refused: list[RecordProblem] = field(default_factory=list)
    stated: int | None = None
    """How many rows the collection has, if this page says so."""
    suspicious: bool = False
    """Whether some text in it may hold characters that can't be stored."""
    digest: int = 0
    """Equal for equal pages."""


class Source(Protocol):
    """An opened connection to one district at its provider."""

    def pages(self, collection: str) -> AsyncGenerator[Page, None]:
        """All pages of a collection in order; raises `ProviderError` when it can't be read to its end."""

    async def find(self, collection: str, sourced_id: str) -> Page | None:
        """One record by its id, as a page of one; None if the provider says there is none."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What is needed to reach a district: what may be seen, and the secret that only a worker holds."""

    values: Mapping[str, Any]
    secret: str = field(repr=False)


class Provider(Protocol):
    """A kind of provider."""

    kind: str
    title: str
    connection_schema: Mapping[str, Any]
    """JSON schema of an integration's `connection`; secret fields carry `writeOnly`."""
    capabilities: Mapping[str, Any]
    """What it can and can't do, for those who build a form or a plan on it."""

    def open(
        self, connection: Connection, options: Options, client: PoliteClient, *, page_size: int, pages_in_flight: int
    ) -> AbstractAsyncContextManager[Source]:
        """Get ready to read; nothing is asked of the provider yet."""
