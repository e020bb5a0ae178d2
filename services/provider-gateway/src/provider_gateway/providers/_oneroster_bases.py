"""Where a OneRoster server has its collections: one path for each version, and some servers have several."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import httpx2

from provider_gateway.failures import ProviderError

T = TypeVar("T")

GONE: Final = frozenset({404, 410})
_BASES: Final = ("/ims/oneroster/v1p1", "/ims/oneroster/rostering/v1p2", "/ims/oneroster/v1p2")


class Bases:
    """The bases a server may have, until one has answered."""

    def __init__(self, bases: Sequence[httpx2.URL]) -> None:
        """Take the bases, the likeliest first."""
        self._bases = tuple(bases)
        self._finding = asyncio.Lock()

    @property
    def found(self) -> httpx2.URL | None:
        """The base that is kept to; None while several are possible."""
        return self._bases[0] if len(self._bases) == 1 else None

    async def ask(self, question: Callable[[httpx2.URL], Awaitable[T]]) -> T:
        """Put a question to the base; while it is not known, one question after the other is put to all of them.

        The first base that does not say 404 or 410 is kept to from then on.
        """
        if self.found is None:
            async with self._finding:
                if self.found is None:
                    return await self._find(question)
        return await question(self._bases[0])

    async def _find(self, question: Callable[[httpx2.URL], Awaitable[T]]) -> T:
        first: ProviderError | None = None
        for base in self._bases:
            try:
                result = await question(base)
            except ProviderError as error:
                if error.status in GONE:
                    first = first or error
                    continue
                self._bases = (base,)
                raise
            self._bases = (base,)
            return result
        assert first is not None  # noqa: S101 - there are several bases
        raise first


def find_bases(url: httpx2.URL, remembered: object = None) -> Sequence[httpx2.URL]:
    """Where the collections may be: an endpoint may be entered as a root or with a version's path, in any case.

    Args:
        url: the endpoint as it was entered.
        remembered: the path of the base that answered before; it comes first if it is one of those.

    >>> find_bases(httpx2.URL("https://roster.example/x/ims/oneroster/rostering/v1p2/"))
    (URL('https://roster.example/x/ims/oneroster/rostering/v1p2'),)
    >>> [base.path for base in find_bases(httpx2.URL("https://roster.example"))]
    ['/ims/oneroster/v1p1', '/ims/oneroster/rostering/v1p2', '/ims/oneroster/v1p2']
    """
    path = url.path.rstrip("/")
    url = url.copy_with(query=None, fragment=None)
    if path.lower().endswith(_BASES):
        return (url.copy_with(path=path),)
    root = path[: -len("/ims/oneroster")] if path.lower().endswith("/ims/oneroster") else path
    paths = sorted((root + base for base in _BASES), key=lambda one: one != remembered)  # stable, so the order stays
    return tuple(url.copy_with(path=one) for one in paths)
