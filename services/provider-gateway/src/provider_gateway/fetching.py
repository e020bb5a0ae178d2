"""One fetch of a district: every wanted collection read, compared and published, side by side.

Nothing of the district is kept but counts, keys and what waits for its chunk to be full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeroom.codes import Code
from homeroom.messages import RecordIssue, RemovalReason
from homeroom.roster import RECORD_TYPES, Record
from homeroom.rules import find_problem
from homeroom.telemetry import RECORDS, get_logger, span
from provider_gateway import masking
from provider_gateway.canonical import Canonical, keys_of
from provider_gateway.comparer import (
    CHANGED,
    KEY_BYTES,
    KINDS,
    NEW,
    REPEATED,
    RESTORED,
    RIVAL,
    UNCHANGED,
    Comparer,
    Known,
)
from provider_gateway.completeness import Picture, can_be_asked_for, judge
from provider_gateway.failures import ProviderError, RecordProblem
from provider_gateway.providers.contract import Page, Proof, Source
from provider_gateway.publisher import Publisher
from provider_gateway.scope import Scope, list_past_sessions, list_schools, stages, wanted_collections
from provider_gateway.store import RosterStore
from provider_gateway.tally import Counts, Tally
from provider_gateway.ties import Ties

log = get_logger(__name__)

_UNSEEN_AT_ONCE = 50_000
_ASKED_AT_ONCE = 4
_SMALL = frozenset({"orgs", "academicSessions"})


async def fetch_district(
    integration_id: str,
    scope: Scope,
    source: Source,
    known: asyncio.Future[dict[str, Known]],
    store: RosterStore,
    publisher: Publisher,
    tally: Tally,
    *,
    confirm_at_most: int,
) -> None:
    """Read all that is wanted and publish what differs; raises the first failure of any collection.

    What the store holds may still be on its way: the provider's first pages are read meanwhile.
    """
    wanted = wanted_collections(scope.options)
    fetching = _Fetching(integration_id, source, known, store, publisher, tally, Ties(scope), confirm_at_most)
    for stage in stages(scope.options):
        fetches = []
        for collection in stage:
            if collection not in source.collections:
                continue
            counts = tally.collections.setdefault(collection, Counts(wanted=collection in wanted))
            fetches.append(_CollectionFetch(collection, counts, fetching, scope))
        try:
            async with asyncio.TaskGroup() as group:
                for fetch in fetches:
                    group.create_task(fetch.run())
        except* Exception as failures:  # noqa: BLE001 - passed on, without the group around it
            raise _first(failures) from None
        scope = _learn(scope, fetches)
    await _remove_unwanted(await known, wanted, publisher, tally)
    _report_masks(tally)


async def _remove_unwanted(known: dict[str, Known], wanted: Sequence[str], publisher: Publisher, tally: Tally) -> None:
    """What is held of collections that the options switch off goes."""
    for collection, held in known.items():
        if collection not in wanted and len(held):
            counts = tally.collections.setdefault(collection, Counts(wanted=False))
            counts.consistent = True
            for keys in Comparer(held).unseen(_UNSEEN_AT_ONCE):
                counts.removed += len(keys) // KEY_BYTES
                await publisher.remove(collection, keys, "configuration")


def _learn(scope: Scope, fetches: Sequence[_CollectionFetch]) -> Scope:
    """The scope for the next stage, with what this one showed."""
    for fetch in fetches:
        match fetch.collection:
            case "orgs":
                scope = replace(scope, schools=list_schools(fetch.kept))
            case "academicSessions":
                scope = replace(scope, past_sessions=list_past_sessions(fetch.kept, scope.today))
    return scope


def _report_masks(tally: Tally) -> None:
    """Say which fields of users are no values (C13)."""
    for name in sorted(tally.masked or ()):
        detail = "the same for everybody"
        tally.note(_tell_of_users(name, detail))
    for name, count in sorted(tally.masked_values.items()):
        tally.note(_tell_of_users(name, f"masked for {count:,} people"))


def _tell_of_users(name: str, detail: str) -> RecordIssue:
    return RecordIssue(
        collection="users", sourced_id=None, code=Code.FIELD_MASKED, field=masking.FIELDS[name], detail=detail
    )


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    found = failures.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


@dataclass(frozen=True, slots=True)
class _Fetching:
    """What the collections of one fetch share."""

    integration_id: str
    source: Source
    known: asyncio.Future[dict[str, Known]]
    store: RosterStore
    publisher: Publisher
    tally: Tally
    ties: Ties
    confirm_at_most: int


class _CollectionFetch:
    """One collection on its way."""

    def __init__(self, collection: str, counts: Counts, fetching: _Fetching, scope: Scope) -> None:
        self.collection = collection
        self.kept: list[Record] = []
        """The records themselves, of the two collections the scope of others is made from; they are few."""
        self._comparer = Comparer(Known.nothing())
        self._known = fetching.known
        self._counts = counts
        self._source = fetching.source
        self._store = fetching.store
        self._publisher = fetching.publisher
        self._tally = fetching.tally
        self._ties = fetching.ties
        self._integration_id = fetching.integration_id
        self._confirm_at_most = fetching.confirm_at_most
        self._scope = scope
        self._keeps = scope.tied and collection in _SMALL
        self._first_stated: int | None = None
        self._last_stated: int | None = None
        self._witness: str | None = None
        self._repeats_told = False

    async def run(self) -> None:
        """Read all pages, then settle what became of records that did not come."""
        with span("fetch collection", homeroom_collection=self.collection):
            async with aclosing(self._source.pages(self.collection, self._scope)) as pages:
                async for page in pages:
                    if not self._counts.pages:
                        self._first_stated = page.stated
                    if page.stated is not None:
                        self._last_stated = self._counts.expected = page.stated
                    await self._prepare()
                    self._counts.pages += 1
                    await self._take(page)
            self._counts.ended = True
            await self._prepare()
            await self._publisher.flush(self.collection)
            if self._counts.wanted:
                await self._settle()
            await self._publisher.flush(self.collection)
        for kind in ("served", "added", "changed", "unchanged", "removed", "filtered", "quarantined"):
            RECORDS.labels(self.collection, kind).inc(getattr(self._counts, kind))

    async def _prepare(self) -> None:
        """Get ready to compare, once; what is only read to decide about others is compared with nothing."""
        known = await asyncio.shield(self._known)
        if self._counts.wanted and (held := known.pop(self.collection, None)) is not None:
            self._counts.known = len(held)
            self._comparer = Comparer(held)

    async def _take(self, page: Page) -> None:
        counts = self._counts
        counts.served += page.received
        self._quarantine(page.refused)
        self._note(page)
        if page.tombstones:
            await self._leave_out(page.tombstones, "tombstone")
        if page.left_out:
            self._ties.leave_out(self.collection, keys_of(page.left_out))
            await self._leave_out(page.left_out, "configuration")
        canonical, unstamped = page.canonical, page.unstamped
        if self._scope.tied and len(canonical):
            keep = self._ties.judge(self.collection, page)
            if not keep.all():
                await self._leave_out_keys(canonical.only(~keep).keys, "configuration")
                canonical, unstamped = canonical.only(keep), None if unstamped is None else unstamped[keep]
        if not counts.wanted:
            counts.filtered += len(canonical)
        elif len(canonical):
            await self._compare(canonical, unstamped)

    async def _compare(self, canonical: Canonical, unstamped: NDArray[np.bool_] | None) -> None:
        counts = self._counts
        if self._keeps:
            self.kept += map(self._decode, map(canonical.encoded, range(len(canonical))))
        self._witness = canonical.sourced_id(len(canonical) - 1)
        kinds = self._comparer.compare(canonical.keys, canonical.fingerprints)
        number_of = np.bincount(kinds, minlength=KINDS).tolist()
        counts.added += number_of[NEW]
        counts.changed += number_of[CHANGED] + number_of[RESTORED]
        counts.unchanged += number_of[UNCHANGED]
        repeated = number_of[REPEATED] + number_of[RIVAL]
        counts.filtered += repeated
        if repeated:
            self._tell_repeats(canonical.sourced_id(int(np.argmax(kinds >= REPEATED))))
        differs = (kinds == NEW) | (kinds == CHANGED)
        if unstamped is not None:
            self._tally.drifted += int(np.count_nonzero(differs & unstamped))
        chosen = np.nonzero(differs | (kinds == RESTORED) | (kinds == RIVAL))[0]
        if len(chosen):
            self._tally.duplicates |= bool(number_of[RIVAL])
            await self._publisher.put(self.collection, canonical, chosen)

    def _decode(self, encoded: bytes) -> Record:
        return msgspec.json.decode(encoded, type=RECORD_TYPES[self.collection])

    def _note(self, page: Page) -> None:
        """Take note of what is told but keeps nothing back."""
        for note in page.notes:
            sourced_id = note.sourced_id if note.sourced_id and find_problem(note.sourced_id) is None else None
            self._tally.note(
                RecordIssue(collection=self.collection, sourced_id=sourced_id, code=note.code, field=note.field)
            )
        if page.masked is not None:
            self._tally.masked = page.masked
        self._tally.masked_values.update(page.masked_values)

    async def _leave_out(self, sourced_ids: Sequence[str], reason: RemovalReason) -> None:
        """Records that came but don't count: known ones are gone, the others were never there."""
        storable = [sourced_id for sourced_id in sourced_ids if find_problem(sourced_id) is None]
        self._counts.filtered += len(sourced_ids) - len(storable)
        await self._leave_out_keys(keys_of(storable), reason)

    async def _leave_out_keys(self, keys: bytes, reason: RemovalReason) -> None:
        known, repeated = self._comparer.mark(keys)
        gone = b"".join(
            [
                keys[number * KEY_BYTES : (number + 1) * KEY_BYTES]
                for number in np.nonzero(known & ~repeated)[0].tolist()
            ]
        )
        self._counts.filtered += len(keys) // KEY_BYTES
        self._counts.removed += len(gone) // KEY_BYTES
        if gone:
            await self._publisher.remove(self.collection, gone, reason)

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
            self._tally.note(RecordIssue(collection=self.collection, sourced_id=sourced_id, code=code, field=name))
        self._comparer.mark(keys_of(ids))

    def _tell_repeats(self, sourced_id: str) -> None:
        if not self._repeats_told:
            self._repeats_told = True
            issue = RecordIssue(collection=self.collection, sourced_id=sourced_id, code=Code.DUP_SOURCED_ID)
            self._tally.note(issue)

    async def _settle(self) -> None:
        comparer, counts = self._comparer, self._counts
        proof = self._source.proof(self.collection)
        if proof is Proof.CHANGES:
            counts.whole = False
            return
        picture = Picture(
            comparer.distinct, self._first_stated, self._last_stated, comparer.unseen_count, proof is Proof.WHOLE
        )
        counts.stated = picture.last_stated
        counts.consistent = picture.consistent
        if picture.shifted:
            issue = RecordIssue(collection=self.collection, sourced_id=None, code=Code.PAGE_SHIFT_DETECTED)
            self._tally.note(issue)
        match judge(picture, self._confirm_at_most):
            case "absent are gone":
                await self._let_go()
            case "gone unless found":
                # Whoever could not be asked for is proved by nothing but counts, and waits for a second run.
                await (self._leave_unproved() if await self._ask_for_missing() else self._let_go())
            case "ask for each":
                await self._ask_for_missing()
                await self._leave_unproved()
            case "all stay":
                await self._leave_unproved()

    async def _let_go(self) -> None:
        """What did not come is gone, says the picture."""
        for keys in self._comparer.unseen(_UNSEEN_AT_ONCE):
            self._counts.removed += len(keys) // KEY_BYTES
            await self._publisher.remove(self.collection, keys, "absent")

    async def _leave_unproved(self) -> None:
        """Name what was not seen and not proved gone: it stays, unless a second complete run does not see it either."""
        self._counts.unconfirmed = self._comparer.unseen_count
        for keys in self._comparer.unseen(_UNSEEN_AT_ONCE):
            await self._publisher.remove(self.collection, keys, "unproved")

    async def _ask_for_missing(self) -> bool:
        """Ask for each record that did not come: it is gone, or comes after all, or stays unseen without an answer.

        Whether the provider can be asked for single records at all.
        """
        keys = b"".join(self._comparer.unseen(_UNSEEN_AT_ONCE))
        missing = await self._store.sourced_ids(self._integration_id, self.collection, keys)
        turn = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(sourced_id: str) -> Page | ProviderError | None:
            async with turn:
                try:
                    return await self._source.find(self.collection, sourced_id, self._scope)
                except ProviderError as error:
                    return error

        asked = {key: one for key, one in missing.items() if can_be_asked_for(one)}
        if not await self._singles_can_be_trusted(ask):
            return False
        answers = await asyncio.gather(*map(ask, asked.values()))
        gone = b""
        for (key, sourced_id), answer in zip(asked.items(), answers, strict=True):
            if isinstance(answer, ProviderError):
                log.warning(
                    "a missing record could not be asked for", collection=self.collection, code=str(answer.code)
                )
            elif answer is None or sourced_id in answer.tombstones:
                self._comparer.mark(key)
                gone += key
            elif key == answer.canonical.keys:
                await self._take(answer)
        self._counts.removed += len(gone) // KEY_BYTES
        await self._publisher.remove(self.collection, gone, "confirmed")
        return True

    async def _singles_can_be_trusted(self, ask: Callable[[str], Awaitable[Page | ProviderError | None]]) -> bool:
        """Whether a record that did come is found by its id; if not, that others are not found means nothing."""
        if self._witness is None or not can_be_asked_for(self._witness):
            return False
        answer = await ask(self._witness)
        return isinstance(answer, Page) and answer.canonical.keys == keys_of([self._witness])
