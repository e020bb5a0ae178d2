"""One district at a OneRoster server: collections read page by page, whole or only what changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx2

from homeroom.codes import Code
from homeroom.messages import Finding, Mode
from homeroom.roster import Class
from homeroom.telemetry import get_logger
from provider_gateway.failures import ProviderError, StartOver
from provider_gateway.paging import read_pages
from provider_gateway.providers import _oneroster_increments as increments
from provider_gateway.providers._oneroster_bases import GONE, Bases
from provider_gateway.providers._oneroster_increments import Increments, Peek
from provider_gateway.providers._oneroster_pages import read_body, read_count, read_single
from provider_gateway.providers._oneroster_schools import NESTED, is_refusal, list_ids, read_by_school
from provider_gateway.providers._oneroster_shapes import ROW_TYPES, list_rows
from provider_gateway.providers.contract import ClassRoster, Opening, Page, Proof, Seen
from provider_gateway.quirks import Quirks
from provider_gateway.scope import Scope
from provider_gateway.signing import Answer, read_clock

T = TypeVar("T")
log = get_logger(__name__)

_SORTING: Final = {"sort": "sourcedId", "orderBy": "asc"}
_FEW_PAGES: Final = 16
"""A district of no more pages is read in the worker itself; handing it over would take longer."""
_SMALLEST_PAGE: Final = 500
"""Pages that are too heavy for a server are asked for smaller, down to this."""
_PLENTY: Final = 1_000
_HEAVY: Final = frozenset({502, 504})


@dataclass(slots=True)
class ListTally:
    """What one collection's list came to."""

    pages: int = 0
    received: int = 0
    first_stated: int | None = None
    last_stated: int | None = None
    by_school: bool = False
    unlimited: bool = False
    """Whether the server sends more than it is asked for."""

    def take(self, page: Page, limit: int) -> None:
        """Count a page."""
        if not self.pages:
            self.first_stated = page.stated
        if page.stated is not None:
            self.last_stated = page.stated
        self.pages += 1
        self.received += page.received
        self.unlimited |= page.received > limit


class District:
    """One district at a OneRoster server.

    Args:
        opening: what the source is opened with.
        bases: where the collections may be, the likeliest first; the first that answers is kept to.
        auth_of: how to sign requests to a base.
        quirks: of the system behind it.
    """

    mode_code: Code | None = None
    collections = tuple(ROW_TYPES)

    def __init__(
        self,
        opening: Opening,
        bases: Sequence[httpx2.URL],
        auth_of: Callable[[httpx2.URL], httpx2.Auth],
        quirks: Quirks,
    ) -> None:
        self._name = uuid4().hex
        self._opening = opening
        self._client = opening.client
        self._bases = Bases(bases)
        self._auth_of = auth_of
        self._page_size = quirks.page_size or opening.page_size
        self._pages_in_flight = min(opening.pages_in_flight, quirks.pages_in_flight or _PLENTY)
        self._turn = asyncio.Semaphore(quirks.requests_in_flight or _PLENTY)
        self._listing = asyncio.Lock()
        self._sizes: dict[str, int] = {}
        self._sorting: dict[str, str] = dict(_SORTING)
        self._pages = 0
        self._skew = 0.0
        self._schools: tuple[str, ...] | None = None
        self._lists: dict[str, ListTally] = {}
        self.refused_schools: dict[str, str] = {}
        self.increments = False
        bookmark = opening.bookmark
        self._before: Increments | None = increments.read_bookmark(bookmark) if bookmark else None
        self.mode: Mode = "delta" if opening.mode == "delta" and self._before and self._before.filtered else "full"
        if self.mode != opening.mode:
            self.mode_code = Code.DELTA_UNSUPPORTED

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """All pages of a collection in order, or of what changed in it."""
        changes = self._changes_filter(collection)
        tally = self._lists[collection] = ListTally()
        refusal: ProviderError | None = None
        try:
            where = {"filter": changes} if changes else {}
            async with aclosing(self._read_list(f"/{collection}", collection, scope, where)) as pages:
                async for page in pages:
                    tally.take(page, self._page_size)
                    yield page
        except ProviderError as error:
            refused = error.status is not None and (
                is_refusal(error) or (bool(changes) and error.status == httpx2.codes.BAD_REQUEST)
            )
            if tally.pages or not refused:
                raise
            refusal = error
        if changes and (refusal is not None or tally.first_stated != tally.last_stated):
            # Either it honours the filter no more, or the list changed under our hands and may have skipped a row.
            raise StartOver(Code.DELTA_UNSUPPORTED if refusal else Code.PROV_CHANGED, whole=True)
        if refusal is not None:
            tally.by_school = True
            async with aclosing(self._read_otherwise(collection, scope, refusal)) as pages:
                async for page in pages:
                    tally.take(page, self._page_size)
                    yield page

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:
        """One record by its id; None if the provider says there is none."""

        async def read(answer: Answer) -> Page:
            return read_single(self._name, collection, answer.body, scope)

        if self._bases.found is None:  # a record that is not there must not be taken for a base that is not
            with suppress(ProviderError):
                await self._peek("orgs", None)
        try:
            return await self._request(f"/{collection}/{quote(sourced_id, safe='')}", f"/{collection}/{{id}}", read)
        except ProviderError as error:
            if error.code is Code.PROV_NOT_FOUND and error.status in GONE:
                return None
            raise

    async def read_class(self, section: Class, scope: Scope) -> ClassRoster:
        """The enrollments of a class; whole if as many different ones came as the server states."""
        path = f"/schools/{quote(section.school_sourced_id, safe='')}/classes/{quote(section.sourced_id, safe='')}"
        label = "/schools/{id}/classes/{id}/enrollments"
        try:
            async with aclosing(self._read_list(f"{path}/enrollments", "enrollments", scope, {}, label)) as found:
                pages = [page async for page in found]
        except ProviderError as error:
            if not is_refusal(error):
                raise
            raise ProviderError(Code.REFRESH_UNSUPPORTED, f"{error.detail} It can't be asked for one class.") from None
        came = {one for page in pages for one in (*page.canonical.list_ids(), *page.left_out, *page.tombstones)}
        whole = {page.stated for page in pages} == {len(came)} and not any(page.refused for page in pages)
        return ClassRoster(pages, whole)

    def proof(self, collection: str) -> Proof:
        """That only changes were asked for, or the counts that OneRoster servers state."""
        return Proof.CHANGES if self._changes_filter(collection) else Proof.COUNTS

    async def remark(self) -> Sequence[Finding]:
        """Nothing beside what the pages show."""
        return ()

    def _changes_filter(self, collection: str) -> str | None:
        """The filter for what changed, where the fetch is of changes and the server honours it for the collection."""
        before = self._before
        if self.mode != "delta" or before is None or collection not in before.filtered:
            return None
        return increments.write_filter(before.since, by_day=collection in before.by_day)

    def _unstamped_before(self, collection: str) -> str | None:
        """The moment before which a record must not say it was modified, if it differs: increments would not bring it.

        Only where everything is read although changes could have been asked for, which is when that can be checked.
        """
        bookmark, before = self._opening.bookmark, self._before
        if self._opening.mode != "full" or not (bookmark and bookmark.increments and before):
            return None
        return increments.write_moment(before.since) if collection in before.filtered else None

    async def _read_otherwise(
        self, collection: str, scope: Scope, refusal: ProviderError
    ) -> AsyncGenerator[Page, None]:
        """A collection that is refused as a whole, school by school; of the orgs at least the schools."""
        if collection == "orgs":
            lists = self._read_list("/schools", collection, scope, {})
        elif collection in NESTED:
            schools = await self._list_schools(scope, refusal)
            lists = read_by_school(self._read_list, schools, collection, scope, self.refused_schools, refusal)
        else:
            raise refusal
        got_any = False
        try:
            async with aclosing(lists) as pages:
                async for page in pages:
                    got_any = True
                    yield replace(page, stated=None)  # a school's count, or the schools', is not the collection's
        except ProviderError as error:
            if got_any or not is_refusal(error):
                raise
            raise refusal from None

    async def _list_schools(self, scope: Scope, refusal: ProviderError) -> Sequence[str]:
        """The ids of all schools, read once; raises `refusal` if they are refused as well."""
        async with self._listing:
            for path in ("/schools", "/orgs"):
                if self._schools is not None:
                    break
                try:
                    async with aclosing(self._read_list(path, "orgs", scope, {})) as pages:
                        self._schools = tuple([one async for page in pages for one in list_ids(page)])
                except ProviderError as error:
                    if not is_refusal(error):
                        raise
            if not self._schools:
                raise refusal
            return self._schools

    def _read_list(
        self, path: str, collection: str, scope: Scope, where: Mapping[str, str], label: str | None = None
    ) -> AsyncGenerator[Page, None]:
        """The pages of a list; `label` is how to call it in errors, where its path holds an id."""

        async def fetch(offset: int, limit: int) -> Page:
            nonlocal scope
            page = await self._fetch_page(path, label or path, collection, where, offset, limit, scope)
            if scope.masked is None and page.masked is not None:
                scope = replace(scope, masked=page.masked)  # the first page is always asked for alone
            return page

        return read_pages(fetch, limit=self._page_size, in_flight=self._pages_in_flight)

    async def _fetch_page(
        self, path: str, label: str, collection: str, where: Mapping[str, str], offset: int, limit: int, scope: Scope
    ) -> Page:
        """One page; asked for without an order where that is refused, and smaller where it is too heavy."""
        while True:
            size = min(limit, self._sizes.get(path, limit))
            sorting = self._sorting
            query = {**where, "limit": str(size), "offset": str(offset), **sorting}
            try:
                return await self._get(path, label, collection, query, scope)
            except ProviderError as error:
                if error.status == httpx2.codes.BAD_REQUEST and sorting:
                    page = await self._get(path, label, collection, {**query} | dict.fromkeys(sorting, ""), scope)
                    self._sorting = {}  # it refuses what it does not know, so we don't ask for an order any more
                    return page
                if not _is_too_heavy(error) or size <= _SMALLEST_PAGE:
                    raise
                self._sizes[path] = min(self._sizes.get(path, limit), max(_SMALLEST_PAGE, size // 2))
                log.info("asking for smaller pages", path=label, size=self._sizes[path], code=str(error.code))

    async def _get(self, path: str, label: str, collection: str, query: Mapping[str, str], scope: Scope) -> Page:
        since = self._unstamped_before(collection)
        limit = int(query["limit"])

        async def read(answer: Answer) -> Page:
            self._pages += 1
            asked = (self._name, collection, answer.body, read_count(answer.headers), scope, since)
            few = self._pages <= _FEW_PAGES
            page = read_body(*asked) if few else await self._opening.readers.run(read_body, *asked)
            return self._observe(collection, answer.headers, page, limit)

        too_heavy = _is_too_heavy if limit > _SMALLEST_PAGE else None
        return await self._request(_with_query(path, query), label, read, quiet=False, passes_on=too_heavy)

    def _observe(self, collection: str, headers: httpx2.Headers, page: Page, limit: int) -> Page:  # noqa: ARG002 - theirs
        """A page as it goes on, after a look at its headers; for servers that say more with them than OneRoster's."""
        return page

    async def _request(
        self,
        address: str,
        label: str,
        read: Callable[[Answer], Awaitable[T]],
        *,
        quiet: bool = True,
        passes_on: Callable[[ProviderError], bool] | None = None,
    ) -> T:
        """Ask below the base; while it is not known which one answers, one request after the other tries them."""

        async def ask(base: httpx2.URL) -> T:
            url = base.copy_with(raw_path=base.raw_path + address.encode())
            auth = self._auth_of(base)
            return await self._client.get(url, path=label, auth=auth, read=note, quiet=quiet, passes_on=passes_on)

        async def note(answer: Answer) -> T:
            self._skew = min(self._skew, read_clock(answer.headers) or 0.0)
            return await read(answer)

        async with self._turn:
            return await self._bases.ask(ask)

    # ── increments ────────────────────────────────────────────────────────────────────────────────────────────────

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:
        """Check that changes led to the roster the server has, or find out whether it can be asked for them.

        Raises `StartOver` with DELTA_DRIFT where its counts do not fit what came.
        """
        state: dict[str, Any] = {"skew": round(self._skew, 1)}
        if (base := self._bases.found) is not None:
            state["base"] = base.path
        if self.mode == "delta" and self._before is not None:
            self.increments = True
            return state | {
                "filtered": sorted(self._before.filtered),
                "byDay": sorted(self._before.by_day),
                "stated": await self._check_counts(self._before, seen),
            }
        lists = {name: tally for name, tally in self._lists.items() if not tally.by_school and tally.received}
        bookmark = self._opening.bookmark
        if (
            Scope(self._opening.options, self._opening.today).tied
            or (bookmark is not None and bookmark.distrusted)
            or any(tally.unlimited for tally in lists.values())
        ):
            return state  # nobody would ask for changes, or each question would bring everything
        probes = await asyncio.gather(*(self._probe(name, tally) for name, tally in lists.items()))
        stamps = {name: stamp for name, probe in zip(lists, probes, strict=True) for stamp in probe}
        self.increments = increments.are_worth_while(stamps, lists)
        steady = {name: one.last_stated for name, one in lists.items() if one.first_stated == one.last_stated}
        return state | {
            "filtered": sorted(stamps),
            "byDay": sorted(name for name, stamp in stamps.items() if increments.is_by_day(stamp)),
            "stated": {name: count for name, count in steady.items() if count is not None},
        }

    async def _probe(self, collection: str, tally: ListTally) -> tuple[str | None, ...]:
        """A stamp of the collection, if the server honours filters by it; nothing if it does not."""
        try:
            far_future = await self._peek(collection, increments.FAR_FUTURE)
            if far_future.rows:
                return ()
            long_ago = await self._peek(collection, increments.LONG_AGO)
        except ProviderError:
            return ()  # most often 400; whatever it is, everything was read already
        return (long_ago.stamp,) if increments.honours(far_future, long_ago, tally.last_stated) else ()

    async def _check_counts(self, before: Increments, seen: Mapping[str, Seen]) -> dict[str, int]:
        """How many rows each collection has now; raises `StartOver` if that is not explained by what came."""
        counts: dict[str, int] = {}
        for collection in sorted(before.filtered.intersection(seen, self._lists)):
            try:
                now = (await self._peek(collection, None)).stated
            except ProviderError:
                continue  # what was asked for has come; the next fetch of everything counts anew
            then = before.stated.get(collection)
            if now is None:
                continue
            if then is not None and not increments.fits(then, now, seen[collection]):
                await self._explain_count(collection)
            counts[collection] = now
        return counts

    async def _explain_count(self, collection: str) -> None:
        """Raise what a count means that does not fit: somebody edited just now, or changes were not told."""
        told = (await self._peek(collection, self._changes_filter(collection))).stated
        if told != self._lists[collection].last_stated:
            raise StartOver(Code.PROV_CHANGED, whole=False)
        log.warning("increments led to another count", collection=collection)
        raise StartOver(Code.DELTA_DRIFT, whole=True)

    async def _peek(self, collection: str, filter_: str | None) -> Peek:
        """Ask for at most one row."""
        query = ({"filter": filter_} if filter_ else {}) | {"limit": "1", "offset": "0"}
        path = f"/{collection}"

        async def read(answer: Answer) -> Peek:
            rows = list_rows(answer.body)
            stamp = rows[0].get("dateLastModified") if rows and isinstance(rows[0], dict) else None
            self._look(answer.headers)
            return Peek(len(rows), read_count(answer.headers), stamp if isinstance(stamp, str) else None)

        return await self._request(_with_query(path, query), path, read)

    def _look(self, headers: httpx2.Headers) -> None:
        """Look at what the headers of an answer to a peek say."""


def _with_query(path: str, query: Mapping[str, str]) -> str:
    given = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(given, quote_via=quote, safe='-._~')}"


def _is_too_heavy(error: ProviderError) -> bool:
    """Whether a smaller page might fare better."""
    return error.code is Code.PROV_TIMEOUT or error.status in _HEAVY
