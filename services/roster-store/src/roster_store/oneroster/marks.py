"""What is remembered of listings, so that a page at any depth is found as fast as the first (F1).

A listing is surveyed once for as long as nothing of it changes: its length, and where its pages begin. Of a whole
collection in the order of ids that is every `DISTANCE`th id, between two of which an index finds a page. In any other
order, of what a filter leaves and of short listings it is all ids, packed in blocks of `DISTANCE`, and a page is read
by them. Nothing is ever skipped row by row
over more than one distance.

The memory is a process's own and bounded; what was not asked for longest goes first. Requests for a listing that is
being surveyed wait for that survey.
"""

from __future__ import annotations

import asyncio
import zlib
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

DISTANCE: Final = 1_000
"""Records between two marks."""
MAX_REMEMBERED_BYTES: Final = 64 * 2**20
"""What all surveys of a process may weigh together, and so what one may."""
_ENTRY_BYTES: Final = 1_000
"""What a survey weighs besides its ids: keys, objects."""
_ID_BYTES: Final = 57
"""What a text weighs besides its characters."""


class SurveyTooLarge(Exception):  # noqa: N818 - what the listing is
    """The order of a listing can't be remembered, for there is too much of it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where some records of a listing are: between two ids, the first excluded, after some to leave out."""

    after: str | None
    until: str
    skip: int


@dataclass(slots=True)
class Survey:
    """The length of a listing, and either marks (in the order of ids) or all ids in blocks."""

    total: int = 0
    descending: bool = False
    marks: list[str] = field(default_factory=list)
    """The last ids of each stretch of `DISTANCE`, and of the listing."""
    blocks: list[bytes] | None = None
    weight: int = _ENTRY_BYTES

    def find_stretch(self, place: int, count: int) -> Stretch | None:
        """Where the records from a place on are, `count` of them; None past the end."""
        if place >= self.total:
            return None
        first = place // DISTANCE
        last = min((place + count - 1) // DISTANCE, len(self.marks) - 1)
        return Stretch(self.marks[first - 1] if first else None, self.marks[last], place % DISTANCE)

    def find_stretch_after(self, sourced_id: str, count: int) -> Stretch | None:
        """Where at least `count` records after an id are, or all that are left."""
        first = self._find_mark(sourced_id)
        if first == len(self.marks):
            return None
        return Stretch(sourced_id, self.marks[min(first + -(-count // DISTANCE), len(self.marks) - 1)], 0)

    def list_ids(self, place: int, count: int) -> list[str]:
        """The ids from a place on, of a survey that has them all."""
        ids: list[str] = []
        for block in (self.blocks or [])[place // DISTANCE : (place + count - 1) // DISTANCE + 1]:
            ids += msgspec.msgpack.decode(zlib.decompress(block), type=list[str])
        return ids[place % DISTANCE :][:count]

    def list_ids_after(self, sourced_id: str, count: int) -> list[str]:
        """The ids behind an id, of a survey that has them all in the order of ids."""
        ids: list[str] = []
        for number in range(len(self.blocks or ())):
            block = self.list_ids(number * DISTANCE, DISTANCE)
            ids += [one for one in block if (one < sourced_id if self.descending else one > sourced_id)]
            if len(ids) >= count:
                break
        return ids[:count]

    def _find_mark(self, sourced_id: str) -> int:
        """The first mark behind an id."""
        if self.descending:
            return len(self.marks) - bisect_left(self.marks[::-1], sourced_id)
        return bisect_right(self.marks, sourced_id)


def survey_marks(rows: Sequence[tuple[int, str]], *, descending: bool) -> Survey:
    """A survey out of (place, id): the first `DISTANCE` records, each one that many places on, and the last one."""
    total = rows[-1][0] if rows else 0
    if total <= DISTANCE:
        block = _pack([sourced_id for _, sourced_id in rows])
        return Survey(total=total, descending=descending, blocks=[block], weight=_ENTRY_BYTES + len(block))
    marks = [sourced_id for place, sourced_id in rows if place % DISTANCE == 0 or place == total]
    weight = _ENTRY_BYTES + sum(len(mark) + _ID_BYTES for mark in marks)
    if weight > MAX_REMEMBERED_BYTES:
        raise SurveyTooLarge
    return Survey(total=total, descending=descending, marks=marks, weight=weight)


def _pack(ids: list[str]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(ids), 1)


async def survey_order(ids: AsyncIterator[str], *, descending: bool) -> Survey:
    """A survey of all ids in their order. Raises `SurveyTooLarge`."""
    survey, pending = Survey(blocks=[], descending=descending), list[str]()
    async for sourced_id in ids:
        pending.append(sourced_id)
        if len(pending) == DISTANCE:
            _add_block(survey, pending)
            pending = []
    if pending:
        _add_block(survey, pending)
    return survey


def _add_block(survey: Survey, ids: list[str]) -> None:
    block = _pack(ids)
    survey.total += len(ids)
    survey.weight += len(block) + _ID_BYTES
    if survey.blocks is not None:
        survey.blocks.append(block)
    if survey.weight > MAX_REMEMBERED_BYTES:
        raise SurveyTooLarge


class Surveys:
    """The surveys a process remembers."""

    def __init__(self, max_bytes: int = MAX_REMEMBERED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._known: OrderedDict[Hashable, tuple[int, Survey]] = OrderedDict()
        self._under_way: dict[Hashable, asyncio.Task[Survey]] = {}
        self.weight = 0

    async def get(self, listing: Hashable, newest: int, make: Callable[[], Awaitable[Survey]]) -> Survey:
        """The survey of a listing as of some step, made if need be, once for all who ask at the same time."""
        known = self._known.get(listing)
        if known is not None and known[0] >= newest:
            self._known.move_to_end(listing)
            return known[1]
        key = (listing, newest)
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.ensure_future(self._make(listing, newest, make))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._finish(key, done))
        return await asyncio.shield(task)  # whoever stops waiting must not end it for the others

    def _finish(self, key: Hashable, task: asyncio.Task[Survey]) -> None:
        self._under_way.pop(key, None)
        with suppress(asyncio.CancelledError):
            task.exception()  # everybody who waited has it; if nobody did, it is nobody's

    async def _make(self, listing: Hashable, newest: int, make: Callable[[], Awaitable[Survey]]) -> Survey:
        survey = await make()
        self._forget(listing)
        self._known[listing] = (newest, survey)
        self.weight += survey.weight
        while self.weight > self._max_bytes and self._known:
            self._forget(next(iter(self._known)))
        return survey

    def _forget(self, listing: Hashable) -> None:
        known = self._known.pop(listing, None)
        if known is not None:
            self.weight -= known[1].weight
