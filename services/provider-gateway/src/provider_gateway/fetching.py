"""One fetch of a district: every wanted collection read, compared and published, side by side.

Nothing of the district is kept but counts, keys and what waits for its chunk to be full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np

from homeroom.codes import Code
from homeroom.messages import CollectionReport, Options, RecordIssue, RemovalReason
from homeroom.telemetry import RECORDS, get_logger, span
from provider_gateway import scope
from provider_gateway.canonical import find_problem, keys_of
from provider_gateway.comparer import CHANGED, KEY_BYTES, NEW, REPEATED, Comparer, Known
from provider_gateway.completeness import Picture, can_be_asked_for, judge
from provider_gateway.failures import ProviderError, RecordProblem
from provider_gateway.providers.contract import Page, Source
from provider_gateway.publisher import Publisher
from provider_gateway.store import RosterStore

log = get_logger(__name__)

_MOST_KEPT_ISSUES = 1_000
_UNSEEN_AT_ONCE = 50_000
_ASKED_AT_ONCE = 4


@dataclass(slots=True)
class Counts:
    """What was seen of one collection so far; becomes its `CollectionReport`."""

    wanted: bool = True
    served: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    filtered: int = 0
    quarantined: int = 0
    removed: int = 0
    unconfirmed: int = 0
    stated: int | None = None
    consistent: bool = False
    pages: int = 0

    def report(self) -> CollectionReport:
        """For messages."""
        values = {name: getattr(self, name) for name in CollectionReport.__struct_fields__}
        return CollectionReport(**values)


@dataclass(slots=True)
class Tally:
    """The whole fetch in numbers, and the issues that are told; read while it runs."""

    collections: dict[str, Counts] = field(default_factory=dict)
    issues: list[RecordIssue] = field(default_factory=list)

    @property
    def pages(self) -> int:
        """Pages read so far."""
        return sum(counts.pages for counts in self.collections.values())

    def served(self) -> dict[str, int]:
        """Records read so far, by collection."""
        return {collection: counts.served for collection, counts in self.collections.items()}

    def reports(self) -> dict[str, CollectionReport]:
        """What every collection came to."""
        return {collection: counts.report() for collection, counts in self.collections.items()}

    def note(self, issue: RecordIssue) -> None:
        """Keep an issue, if there is room."""
        if len(self.issues) < _MOST_KEPT_ISSUES:
            self.issues.append(issue)


async def fetch_district(
    integration_id: str,
    options: Options,
    source: Source,
    known: dict[str, Known],
    store: RosterStore,
    publisher: Publisher,
    tally: Tally,
    *,
    confirm_at_most: int,
) -> None:
    """Read all that is wanted and publish what differs; raises the first failure of any collection."""
    wanted = scope.wanted_collections(options)
    for collection, held in known.items():
        if collection not in wanted and len(held):
            counts = tally.collections.setdefault(collection, Counts(wanted=False, consistent=True))
            for keys in Comparer(held).unseen(_UNSEEN_AT_ONCE):
                counts.removed += len(keys) // KEY_BYTES
                await publisher.remove(collection, keys, "configuration")
    fetches = []
    for collection in wanted:
        counts = tally.collections.setdefault(collection, Counts())
        comparer = Comparer(known.pop(collection, Known.nothing()))
        fetches.append(_CollectionFetch(collection, comparer, publisher, counts, tally))
    try:
        async with asyncio.TaskGroup() as group:
            for fetch in fetches:
                group.create_task(fetch.run(source, store, integration_id, confirm_at_most))
    except* Exception as failures:  # noqa: BLE001 - passed on, without the group around it
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    found = failures.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


class _CollectionFetch:
    """One collection on its way."""

    def __init__(self, collection: str, comparer: Comparer, publisher: Publisher, counts: Counts, tally: Tally) -> None:
        self._collection = collection
        self._comparer = comparer
        self._publisher = publisher
        self._counts = counts
        self._tally = tally
        self._first_stated: int | None = None
        self._last_stated: int | None = None
        self._witness: str | None = None
        self._repeats_told = False

    async def run(self, source: Source, store: RosterStore, integration_id: str, confirm_at_most: int) -> None:
        """Read all pages, then settle what became of records that did not come."""
        with span("fetch collection", homeroom_collection=self._collection):
            async with aclosing(source.pages(self._collection)) as pages:
                async for page in pages:
                    if not self._counts.pages:
                        self._first_stated = page.stated
                    if page.stated is not None:
                        self._last_stated = page.stated
                    self._counts.pages += 1
                    await self._take(page)
            await self._publisher.flush(self._collection)
            await self._settle(source, store, integration_id, confirm_at_most)
            await self._publisher.flush(self._collection)
        for kind in ("served", "added", "changed", "unchanged", "removed", "filtered", "quarantined"):
            RECORDS.labels(self._collection, kind).inc(getattr(self._counts, kind))

    async def _take(self, page: Page) -> None:
        counts = self._counts
        counts.served += page.received
        self._quarantine(page.refused)
        if page.tombstones:
            await self._leave_out(page.tombstones, "tombstone")
        if page.left_out:
            await self._leave_out(page.left_out, "configuration")
        canonical = page.canonical
        if not len(canonical):
            return
        self._witness = canonical.sourced_id(len(canonical) - 1)
        kinds = self._comparer.compare(canonical.keys, canonical.fingerprints)
        added, changed, unchanged, repeated = (int(n) for n in np.bincount(kinds, minlength=4))
        counts.added += added
        counts.changed += changed
        counts.unchanged += unchanged
        counts.filtered += repeated
        if repeated:
            self._tell_repeats(canonical.sourced_id(int(np.argmax(kinds == REPEATED))))
        if not added and not changed:
            return
        chosen = np.nonzero((kinds == NEW) | (kinds == CHANGED))[0]
        await self._publisher.put(self._collection, canonical, chosen)

    async def _leave_out(self, sourced_ids: Sequence[str], reason: RemovalReason) -> None:
        """Records that came but don't count: known ones are gone, the others were never there."""
        storable = [sourced_id for sourced_id in sourced_ids if find_problem(sourced_id) is None]
        keys = keys_of(storable)
        known, repeated = self._comparer.mark(keys)
        gone = b"".join(
            [
                keys[number * KEY_BYTES : (number + 1) * KEY_BYTES]
                for number in np.nonzero(known & ~repeated)[0].tolist()
            ]
        )
        self._counts.filtered += len(sourced_ids)
        self._counts.removed += len(gone) // KEY_BYTES
        if gone:
            await self._publisher.remove(self._collection, gone, reason)

    def _quarantine(self, problems: Sequence[RecordProblem]) -> None:
        """Records that could not be taken: they came, so they are not missing, and keep their last good value."""
        if not problems:
            return
        self._counts.quarantined += len(problems)
        ids: list[str] = []
        for problem in problems:
            sourced_id, code, name = problem.sourced_id, problem.code, problem.field
            if sourced_id is not None and (wrong := find_problem(sourced_id)) is not None:
                sourced_id, code, name = None, wrong, "sourcedId"
            if sourced_id is not None:
                ids.append(sourced_id)
            self._tally.note(RecordIssue(collection=self._collection, sourced_id=sourced_id, code=code, field=name))
        self._comparer.mark(keys_of(ids))

    def _tell_repeats(self, sourced_id: str) -> None:
        if not self._repeats_told:
            self._repeats_told = True
            issue = RecordIssue(collection=self._collection, sourced_id=sourced_id, code=Code.DUP_SOURCED_ID)
            self._tally.note(issue)

    async def _settle(self, source: Source, store: RosterStore, integration_id: str, confirm_at_most: int) -> None:
        comparer, counts = self._comparer, self._counts
        picture = Picture(comparer.distinct, self._first_stated, self._last_stated, comparer.unseen_count)
        counts.stated = picture.last_stated
        counts.consistent = picture.consistent
        if picture.shifted:
            issue = RecordIssue(collection=self._collection, sourced_id=None, code=Code.PAGE_SHIFT_DETECTED)
            self._tally.note(issue)
        match judge(picture, confirm_at_most):
            case "absent are gone":
                for keys in comparer.unseen(_UNSEEN_AT_ONCE):
                    counts.removed += len(keys) // KEY_BYTES
                    await self._publisher.remove(self._collection, keys, "absent")
            case "ask for each":
                keys = b"".join(comparer.unseen(_UNSEEN_AT_ONCE))
                ids = await store.sourced_ids(integration_id, self._collection, keys)
                await self._confirm(source, ids)
            case "all stay":
                counts.unconfirmed = picture.unseen

    async def _confirm(self, source: Source, missing: dict[bytes, str]) -> None:
        """Ask for each record that did not come; what the provider can't prove gone stays."""
        counts = self._counts
        turn = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(sourced_id: str) -> Page | ProviderError | None:
            async with turn:
                try:
                    return await source.find(self._collection, sourced_id)
                except ProviderError as error:
                    return error

        asked = {key: one for key, one in missing.items() if can_be_asked_for(one)}
        answers: list[Page | ProviderError | None] = []
        if asked and await self._singles_can_be_trusted(ask):
            answers = await asyncio.gather(*map(ask, asked.values()))
        gone = b""
        for (key, sourced_id), answer in zip(asked.items(), answers, strict=False):
            if isinstance(answer, ProviderError):
                log.warning(
                    "a missing record could not be asked for", collection=self._collection, code=str(answer.code)
                )
            elif answer is None or sourced_id in answer.tombstones:
                self._comparer.mark(key)
                gone += key
            elif key == answer.canonical.keys:
                await self._take(answer)
        counts.removed += len(gone) // KEY_BYTES
        await self._publisher.remove(self._collection, gone, "confirmed")
        counts.unconfirmed = self._comparer.unseen_count

    async def _singles_can_be_trusted(self, ask: Callable[[str], Awaitable[Page | ProviderError | None]]) -> bool:
        """Whether a record that did come is found by its id; if not, that others are not found means nothing."""
        if self._witness is None or not can_be_asked_for(self._witness):
            return False
        answer = await ask(self._witness)
        return isinstance(answer, Page) and answer.canonical.keys == keys_of([self._witness])
