"""Reading lists from servers that keep few promises."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from homeroom.codes import Code
from provider_gateway.canonical import Canonical
from provider_gateway.failures import ProviderError
from provider_gateway.paging import read_pages
from provider_gateway.providers.contract import Page


class Server:
    """Serves numbers; how it misbehaves is up to the test."""

    def __init__(self, rows: int, *, stated: int | None = None, most: int = 10**9) -> None:
        self.rows, self.stated, self.most = rows, stated, most
        self.asked: list[int] = []
        self.in_flight = self.most_in_flight = 0

    async def fetch(self, offset: int, limit: int) -> Page:
        """Serve a page."""
        self.asked.append(offset)
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        await asyncio.sleep(0.001 * (7 - offset % 7))  # answers overtake each other
        self.in_flight -= 1
        count = max(0, min(limit, self.most, self.rows - offset))
        rows = [str(offset + n) for n in range(count)]
        return Page(count, Canonical(), (), rows, (), self.stated, digest=offset)


async def read_all(server: Any, limit: int = 10, in_flight: int = 4) -> list[int]:
    pages = [page async for page in read_pages(server.fetch, limit=limit, in_flight=in_flight)]
    return [int(row) for page in pages for row in page.tombstones]


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 95, 100])
@pytest.mark.parametrize("wrong", [None, -1000, -15, -1, 0, 1, 15, 90])
@pytest.mark.parametrize("most", [3, 10, 10**9])
async def test_all_rows_in_order(rows: int, wrong: int | None, most: int) -> None:
    """Every row comes once and in order, however long pages are and whatever count is stated."""
    server = Server(rows, stated=None if wrong is None else max(0, rows + wrong), most=most)
    assert await read_all(server) == list(range(rows))


async def test_pages_ahead() -> None:
    """With a count, several pages are asked for at once, none of them twice."""
    server = Server(1000, stated=1000)
    await read_all(server)
    assert server.most_in_flight == 4
    assert sorted(server.asked) == list(range(0, 1001, 10))


async def test_a_page_shorter_than_the_others() -> None:
    """A page that is short in the middle ends nothing and skips nothing."""

    class Holey(Server):
        async def fetch(self, offset: int, limit: int) -> Page:
            return await super().fetch(offset, 4 if offset == 30 else limit)

    server = Holey(100, stated=100)
    assert await read_all(server) == list(range(100))


async def test_everything_at_once() -> None:
    """A server that ignores limit and offset is read once."""

    class Whole(Server):
        async def fetch(self, offset: int, limit: int) -> Page:
            return replace(await super().fetch(0 * offset, 10**9 + limit), digest=1)

    for stated in (25, None):
        assert await read_all(Whole(25, stated=stated)) == list(range(25))


async def test_the_same_page_for_ever() -> None:
    """A server that serves one page again and again is told apart from one that has more."""

    class Stuck(Server):
        async def fetch(self, offset: int, limit: int) -> Page:
            return replace(await super().fetch(0 * offset, limit), digest=1)

    for stated in (100, None):
        with pytest.raises(ProviderError) as caught:
            await read_all(Stuck(10, stated=stated))
        assert caught.value.code == Code.PROV_PAGINATION


async def test_far_beyond_the_count() -> None:
    """Pages that go on far beyond the stated count end with an error."""
    with pytest.raises(ProviderError) as caught:
        await read_all(Server(10**6, stated=50))
    assert caught.value.code == Code.PROV_PAGINATION


async def test_failures_leave_nothing_behind() -> None:
    """When a page fails, those asked for ahead are cancelled."""

    class Failing(Server):
        async def fetch(self, offset: int, limit: int) -> Page:
            if offset == 30:
                raise ProviderError(Code.PROV_5XX, "no")
            return await super().fetch(offset, limit)

    with pytest.raises(ProviderError):
        await read_all(Failing(1000, stated=1000))
    assert len(asyncio.all_tasks()) == 1


async def test_refused_sorting(gateway: Any, provider: Any, user: Any) -> None:
    """A server that refuses unknown parameters is asked without an order, and only once with it."""
    provider.collections["users"] = [user(n) for n in range(20)]

    def answer(_collection: str, query: dict[str, str], _rows: list[Any]) -> Response | None:
        return JSONResponse({"imsx_codeMinor": "invalid_data"}, 400) if "sort" in query else None

    provider.answer = answer
    await gateway.sync(page_size=5)
    assert len(gateway.store.ids("users")) == 20
    assert len([query for path, query in provider.queries if "sort" in query and path.endswith("/users")]) <= 1


async def test_rows_that_come_twice(gateway: Any, provider: Any, user: Any) -> None:
    """Of several records with one id the one with the greatest fingerprint wins in any order; it is told once."""
    provider.collections["users"] = [user(n % 10, familyName=f"F{n}") for n in range(30)]
    outcome = await gateway.sync(page_size=7)

    report = outcome.reports["users"]
    assert (report.served, report.added, report.filtered) == (30, 10, 20)
    assert [issue.code for issue in outcome.completed.issues] == [Code.DUP_SOURCED_ID]
    won = dict(gateway.store.records["users"])
    provider.collections["users"].reverse()
    again = await gateway.sync(page_size=7)
    assert gateway.store.records["users"] == won
    assert again.reports["users"].filtered == 20
