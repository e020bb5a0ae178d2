"""Reads one class again, for a teacher who waits for it (C2): the class, who is in it, and people who are new.

Nothing is left to the provider's whole picture here, so a refresh is careful: people who are known stay as they are
until the next sync, nobody is removed but enrollments of this very class, and only if the list of them is whole or the
provider says of each one that it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from homeroom.codes import Code
from homeroom.messages import Bookmark, ClassRef, RecordIssue
from homeroom.roster import Class, Enrollment
from homeroom.telemetry import span
from provider_gateway.canonical import Canonical, keys_of
from provider_gateway.comparer import CHANGED, KINDS, NEW, RESTORED, UNCHANGED, Comparer, Known, split_keys
from provider_gateway.completeness import can_be_asked_for
from provider_gateway.failures import ProviderError
from provider_gateway.providers.contract import ClassRoster, ClassSource, Page, Source
from provider_gateway.publisher import Publisher
from provider_gateway.scope import Scope
from provider_gateway.store import RosterStore
from provider_gateway.tally import Counts, Tally

T = TypeVar("T")

_MOST_NEW_PEOPLE = 200
"""More new people than this are no matter of one class; they come with the next sync."""


async def refresh_class(
    integration_id: str,
    ref: ClassRef,
    bookmark: Bookmark | None,
    scope: Scope,
    source: Source,
    store: RosterStore,
    publisher: Publisher,
    tally: Tally,
) -> None:
    """Read a class and publish what differs.

    Raises `ProviderError`: REFRESH_UNSUPPORTED, CLASS_NOT_FOUND, CLASS_NOT_TAUGHT, and what reading raises.
    """
    if not isinstance(source, ClassSource) or not scope.options.sync_classes:
        raise ProviderError(Code.REFRESH_UNSUPPORTED, "This integration can't be asked for one class.")
    if bookmark is None:  # then it is not known, either, which fields are masked
        raise ProviderError(Code.REFRESH_UNSUPPORTED, "There is no settled sync that a refresh could build on.")
    with span("read class"):
        found = await _find_class(source, ref.class_sourced_id, scope)
        roster = await source.read_class(_decode(found.canonical, Class)[0], scope)
    enrollments = [one for page in roster.pages for one in _decode(page.canonical, Enrollment)]
    _check_teacher(enrollments, ref.teacher_sourced_id)
    people = sorted({one.user_sourced_id for one in enrollments})
    basis, held = await store.class_members(integration_id, ref.class_sourced_id, people)
    if scope.tied and not held["classes"]:
        # Whether its term or its school is wanted depends on other records.
        raise ProviderError(Code.CLASS_NOT_FOUND, "The class is new; it comes with the next sync, if it is wanted.")
    await publisher.start(basis)
    parts = {name: _Part(name, held[name], publisher, tally) for name in ("classes", "users", "enrollments")}
    await parts["classes"].take(found)
    for sourced_id in [one for one in people if one not in held["users"]][:_MOST_NEW_PEOPLE]:
        if can_be_asked_for(sourced_id) and (page := await source.find("users", sourced_id, scope)) is not None:
            await parts["users"].take(page)
    for page in roster.pages:
        await parts["enrollments"].take(page)
    await _settle(source, parts["enrollments"], roster, scope)
    for part in parts.values():
        await part.finish()


async def _find_class(source: Source, sourced_id: str, scope: Scope) -> Page:
    page = await source.find("classes", sourced_id, scope) if can_be_asked_for(sourced_id) else None
    if page is None or not len(page.canonical):
        raise ProviderError(Code.CLASS_NOT_FOUND, "The provider has no such class, or the options leave it out.")
    return page


def _check_teacher(enrollments: Sequence[Enrollment], teacher: str | None) -> None:
    if teacher is not None and not any(one.user_sourced_id == teacher and one.role == "teacher" for one in enrollments):
        raise ProviderError(Code.CLASS_NOT_TAUGHT, "The provider does not name this teacher for the class.")


async def _settle(source: Source, part: _Part, roster: ClassRoster, scope: Scope) -> None:
    """What is held of the class and was not seen: gone, or asked for one by one."""
    for sourced_id in part.unseen():
        if roster.whole:
            await part.remove(sourced_id, proved_by_id=False)
            continue
        answer = await source.find("enrollments", sourced_id, scope) if can_be_asked_for(sourced_id) else None
        if can_be_asked_for(sourced_id) and (answer is None or sourced_id in answer.tombstones):
            await part.remove(sourced_id, proved_by_id=True)
        else:
            part.counts.unconfirmed += 1


class _Part:
    """One collection's share of a refresh."""

    def __init__(self, collection: str, held: Mapping[str, int], publisher: Publisher, tally: Tally) -> None:
        self._collection = collection
        self._held = held
        self._seen: set[str] = set()
        upper, lower = split_keys(keys_of(list(held)))
        fingerprints = np.array(list(held.values()), np.int64)
        self._comparer = Comparer(Known(upper.copy(), lower.copy(), fingerprints))
        self._publisher = publisher
        self._tally = tally
        self.counts = tally.collections.setdefault(collection, Counts(whole=False))
        self.counts.known = len(held)

    async def take(self, page: Page) -> None:
        """Compare a page and publish what differs; what the options leave out goes, if it is an enrollment."""
        counts, canonical = self.counts, page.canonical
        counts.pages += 1
        counts.served += page.received
        counts.quarantined += len(page.refused)
        counts.filtered += len(page.left_out) + len(page.tombstones)
        for problem in page.refused:
            self._tally.note(
                RecordIssue(
                    collection=self._collection, sourced_id=problem.sourced_id, code=problem.code, field=problem.field
                )
            )
        self._seen |= {one.sourced_id for one in page.refused if one.sourced_id is not None}
        self._seen.update(canonical.list_ids())
        if self._collection == "enrollments":
            for sourced_id in (*page.left_out, *page.tombstones):
                await self._leave_out(sourced_id, configured=sourced_id in page.left_out)
        if not len(canonical):
            return
        kinds = self._comparer.compare(canonical.keys, canonical.fingerprints)
        number_of = np.bincount(kinds, minlength=KINDS).tolist()
        counts.added += number_of[NEW]
        changed = number_of[CHANGED] + number_of[RESTORED]
        counts.changed += changed
        counts.unchanged += number_of[UNCHANGED]
        counts.filtered += len(canonical) - number_of[NEW] - changed - number_of[UNCHANGED]
        differs = np.nonzero((kinds == NEW) | (kinds == CHANGED) | (kinds == RESTORED))[0]
        if len(differs):
            await self._publisher.put(self._collection, canonical, differs)

    def unseen(self) -> list[str]:
        """The sourcedIds of what is held and did not come."""
        return [sourced_id for sourced_id in self._held if sourced_id not in self._seen]

    async def remove(self, sourced_id: str, *, proved_by_id: bool) -> None:
        """Publish that an enrollment is gone."""
        self.counts.removed += 1
        await self._publisher.remove(self._collection, keys_of([sourced_id]), "confirmed" if proved_by_id else "absent")

    async def finish(self) -> None:
        """Send what still waits for its chunk to be full."""
        await self._publisher.flush(self._collection)

    async def _leave_out(self, sourced_id: str, *, configured: bool) -> None:
        if sourced_id in self._held and sourced_id not in self._seen:
            self._seen.add(sourced_id)
            self.counts.removed += 1
            await self._publisher.remove(
                self._collection, keys_of([sourced_id]), "configuration" if configured else "tombstone"
            )


def _decode(canonical: Canonical, kind: type[T]) -> list[T]:
    return [msgspec.json.decode(canonical.encoded(number), type=kind) for number in range(len(canonical))]
