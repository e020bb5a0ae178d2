"""What a provider declares and yields: everything above it is the same for every kind of provider.

A provider declares its kind, its connection's settings (`homeroom.connections`), what it can do, and how to open a
`Source`. A source reads one district once: collection by collection it yields pages of canonical records, and for each
collection it says at the end what proves that nothing was skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from homeroom.codes import Code
from homeroom.messages import Bookmark, Finding, Mode, Options, UploadRef
from homeroom.roster import Class, Record
from provider_gateway import masking
from provider_gateway.canonical import Canonical, prepare
from provider_gateway.failures import RecordProblem
from provider_gateway.scope import Scope

if TYPE_CHECKING:  # reading processes make pages, too, and have no need of clients and forms
    from homeroom.connections import ConnectionModel
    from provider_gateway.client import PoliteClient
    from provider_gateway.inbox.storage import Uploads
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
    notes: list[RecordProblem] = field(default_factory=list)
    """What was wrong with records that were taken all the same, without the value in question."""
    unstamped: set[str] = field(default_factory=set)
    """The sourcedIds of records that say they were not modified since the bookmark; increments would not bring them."""
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
    notes: Sequence[RecordProblem] = ()
    ties: bytes = b""
    """What each record is tied to, where the options ask for it (`scope.tie`)."""
    unstamped: NDArray[np.bool_] | None = None
    """Which of the records say that they were not modified since the bookmark."""
    masked: frozenset[str] | None = None
    """Fields of users that are alike for everybody, decided by the first page of users."""
    masked_values: Mapping[str, int] = field(default_factory=dict)
    """How often a field of users held a mask instead of a value."""


def make_page(collection: str, raw: RawPage, scope: Scope) -> Page:
    """Choose, encode and hash a page's records.

    Done as soon as they are read and in one go: pages may then wait for their turn, but as bytes, and no record is
    touched again after it has left the processor's cache. Runs in whichever process there is.

    The first page of users decides which of their fields are alike for everybody; pass that on to the following pages
    as `scope.masked`.
    """
    masked: frozenset[str] | None = None
    masked_values: Counter[str] = Counter()
    records, left_out = scope.select(collection, raw.records)
    if collection == "users":
        masked = masking.find_uniform(records) if scope.masked is None else scope.masked
        records = masking.clear(records, masked, masked_values)
    canonical, good = prepare(records, suspicious=raw.suspicious)
    return Page(
        received=raw.received,
        canonical=canonical,
        left_out=left_out,
        tombstones=raw.tombstones,
        refused=[*raw.refused, *canonical.refused],
        stated=raw.stated,
        digest=raw.digest,
        notes=raw.notes,
        ties=scope.tie(collection, good),
        unstamped=np.array([one.sourced_id in raw.unstamped for one in good], np.bool_) if raw.unstamped else None,
        masked=masked,
        masked_values=dict(masked_values),
    )


class Proof(Enum):
    """What says that a collection was read to its end (architecture §2, "When is somebody gone?")."""

    COUNTS = "counts"
    """The provider's stated counts, if they fit what came; else records that did not come are asked for by id."""
    WHOLE = "whole"
    """It is complete by nature: a whole file, a stable cursor, a revision that stayed the same."""
    CHANGES = "changes"
    """Only what changed was asked for: a record that did not come is there as before."""


class Source(Protocol):
    """An opened connection to one district at its provider, for one fetch."""

    @property
    def mode(self) -> Mode:
        """What the fetch comes to: `full` also where `delta` was asked for and can't be had."""

    @property
    def mode_code(self) -> Code | None:
        """Why the mode is another than was asked for."""

    @property
    def increments(self) -> bool:
        """Whether the next fetch may ask for changes since this one; final once `finish` has returned."""

    @property
    def refused_schools(self) -> Mapping[str, str]:
        """Schools (sourcedId) whose data the provider refused, with a few words why; final once all pages are read."""

    @property
    def collections(self) -> Collection[str]:
        """What this fetch can read; whatever is held of other collections stays as it is."""

    def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """All pages of a collection in order.

        Raises `ProviderError` when it can't be read to its end, `StartOver` when the fetch has to begin again.
        """

    def proof(self, collection: str) -> Proof:
        """What proves that a collection was read to its end; asked after its last page."""

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:
        """One record by its id, as a page of one; None if the provider says there is none.

        Only asked where a proof by counts does not hold.
        """

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:
        """Everything was read: check what can only be checked now, and return the state of the bookmark.

        Args:
            seen: what came of each collection.

        Raises `StartOver` where the picture does not fit together.
        """

    async def remark(self) -> Sequence[Finding]:
        """What a verification should tell beside what the pages show: an application that is off, a paused district."""


@dataclass(frozen=True, slots=True)
class ClassRoster:
    """Who is in one class."""

    pages: Sequence[Page]
    """Its enrollments."""
    whole: bool
    """Whether they are all of them, so that one that is missing is gone."""


@runtime_checkable
class ClassSource(Source, Protocol):
    """A source that can be asked for one class (C2)."""

    async def read_class(self, section: Class, scope: Scope) -> ClassRoster:
        """The enrollments of a class that was found before. Raises `ProviderError` where they can't be had."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one collection in this fetch, in numbers of records."""

    known: int
    """Held before."""
    added: int
    changed: int
    removed: int
    left_out: int
    """Filtered or quarantined: the provider has them, the store may or may not."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What is needed to reach a district: what may be seen, and the secrets that only a worker holds."""

    values: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a source is opened with."""

    integration_id: str
    connection: Connection
    options: Options
    sis: str | None
    client: PoliteClient
    readers: Readers
    uploads: Uploads
    upload: UploadRef | None
    mode: Mode
    bookmark: Bookmark | None
    began: datetime
    today: date
    workspace: Path
    """An empty directory of this fetch's own, removed afterwards."""
    page_size: int
    pages_in_flight: int


class Provider(Protocol):
    """A kind of provider."""

    @property
    def kind(self) -> str:
        """The name integrations call it by."""

    @property
    def title(self) -> str:
        """The name people call it by."""

    @property
    def connection_model(self) -> type[ConnectionModel]:
        """The settings of a connection: validates REST, makes the form and the documents."""

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """What it can and can't do, for those who build a form or a plan on it."""

    def open(self, opening: Opening) -> AbstractAsyncContextManager[Source]:
        """Get ready to read; raises `ProviderError` if the district can't be read at all."""
