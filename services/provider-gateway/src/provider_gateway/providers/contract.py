"""What a provider declares and yields: everything above it is the same for every kind of provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from homeroom.messages import Options
from homeroom.roster import Record
from provider_gateway import scope
from provider_gateway.canonical import Canonical, prepare
from provider_gateway.client import PoliteClient
from provider_gateway.failures import RecordProblem
from provider_gateway.readers import Readers


@dataclass(slots=True)
class RawPage:
    """Some records of one collection as a provider's own code reads them, in the order the provider gave them."""

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


@dataclass(frozen=True, slots=True)
class Page:
    """A page ready to be compared: only what the integration wants, in canonical bytes."""

    received: int
    canonical: Canonical
    left_out: Sequence[str]
    """The sourcedIds of records the integration's options leave out."""
    tombstones: Sequence[str]
    refused: Sequence[RecordProblem]
    stated: int | None
    digest: int


def make_page(collection: str, raw: RawPage, options: Options) -> Page:
    """Choose, encode and hash a page's records.

    Done as soon as they are read and in one go: pages may then wait for their turn, but as bytes, and no record is
    touched again after it has left the processor's cache.
    """
    records, left_out = scope.select(collection, raw.records, options)
    canonical = prepare(records, suspicious=raw.suspicious)
    refused = [*raw.refused, *canonical.refused]
    return Page(raw.received, canonical, left_out, raw.tombstones, refused, raw.stated, raw.digest)


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
        self,
        connection: Connection,
        options: Options,
        client: PoliteClient,
        readers: Readers,
        *,
        page_size: int,
        pages_in_flight: int,
    ) -> AbstractAsyncContextManager[Source]:
        """Get ready to read; nothing is asked of the provider yet."""
