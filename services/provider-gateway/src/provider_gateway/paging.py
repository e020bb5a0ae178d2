"""Reading a list that is served in pages by offset, from providers that keep few promises.

What is certain about a page is how many rows it holds. So the position advances by rows received, and only an empty
page is the end. The count a provider states serves to ask for several pages ahead of their turn, and for nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing

from homeroom.codes import Code
from provider_gateway.failures import ProviderError
from provider_gateway.providers.contract import Page

_FAR_BEYOND = 2
_SLACK_PAGES = 10
_MOST_ROWS = 50_000_000

FetchPage = Callable[[int, int], Coroutine[None, None, Page]]
"""Asks for one page: offset, limit."""


async def read_pages(fetch: FetchPage, *, limit: int, in_flight: int) -> AsyncGenerator[Page, None]:
    """Yield the pages of a list in order, asking for up to `in_flight` at once; the last one is empty.

    Raises `ProviderError`: PROV_PAGINATION if pages come again or go far beyond the stated count, and what `fetch`
    raises.
    """
    position = 0
    seen: set[int] = set()
    async with aclosing(_fetch_along(fetch, limit, in_flight)) as pages:
        async for page in pages:
            if not page.received:
                yield page
                return
            if page.digest in seen:
                if page.received > limit or page.stated == position:
                    return  # it serves everything at once, whatever page it is asked for
                raise _endless("the same page came again")
            seen.add(page.digest)
            position += page.received
            if position > _MOST_ROWS or (page.stated and position > _FAR_BEYOND * page.stated + _SLACK_PAGES * limit):
                raise _endless(f"{position:,} rows came, {page.stated or 0:,} were stated")
            yield page


async def _fetch_along(fetch: FetchPage, limit: int, in_flight: int) -> AsyncGenerator[Page, None]:
    """Pages one after the other, without end; some asked for ahead where the count says that they are there."""
    position = 0
    while True:
        # A page asked for by itself shows how long pages really are, and how many there might be.
        page = await fetch(position, limit)
        yield page
        position += page.received
        plan = _plan(position, page)
        async with aclosing(_prefetch(fetch, plan, limit, in_flight)) as ahead:
            for offset in plan:
                if offset != position:
                    break  # what was asked for ahead does not fit what came
                page = await anext(ahead)
                yield page
                position += page.received


def _plan(position: int, page: Page) -> Sequence[int]:
    """The offsets of the pages to come if they are as long as this one, and of the empty page after them."""
    if page.stated is None or page.stated <= position or not page.received:
        return ()
    return (*range(position, page.stated, page.received), page.stated)


async def _prefetch(fetch: FetchPage, plan: Sequence[int], limit: int, in_flight: int) -> AsyncGenerator[Page, None]:
    """Fetch what is planned, several at once, and yield it in the order of the plan."""
    offsets = iter(plan)
    waiting: deque[asyncio.Task[Page]] = deque()
    try:
        while True:
            while len(waiting) < in_flight and (offset := next(offsets, None)) is not None:
                waiting.append(asyncio.create_task(fetch(offset, limit)))
            if not waiting:
                return
            yield await waiting[0]
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _endless(how: str) -> ProviderError:
    return ProviderError(Code.PROV_PAGINATION, f"The provider's pages have no end: {how}.")
