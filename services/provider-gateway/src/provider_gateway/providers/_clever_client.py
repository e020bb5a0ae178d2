"""Asking Clever: the district's token, lists by their `next` links, single objects."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import httpx2
import msgspec
import xxhash
from msgspec import Raw

from homeroom.codes import Code
from provider_gateway.client import PoliteClient
from provider_gateway.failures import ProviderError, RecordProblem
from provider_gateway.providers.contract import Opening
from provider_gateway.signing import Answer, Bearer

T = TypeVar("T")

_PER_MINUTE: Final = 1_200
"""Requests of one bearer token in a minute, as Clever counts them."""
_MOST_PER_PAGE: Final = 10_000
_MOST_EMPTY_PAGES: Final = 10
_TOO_LARGE: Final = 413
_BOM: Final = b"\xef\xbb\xbf"


class _Link(msgspec.Struct):
    rel: str | None = None
    uri: str | None = None


class Listing(msgspec.Struct):
    """A page of a list; its objects are decoded one by one, so that a damaged one spoils no other."""

    data: list[Raw]
    links: list[_Link] | None = None


class _Single(msgspec.Struct):
    data: Raw


class _Owner(msgspec.Struct):
    id: str | None = None
    type: str | None = None


class _Token(msgspec.Struct):
    access_token: str
    owner: _Owner | None = None
    created: str | None = None


class _Tokens(msgspec.Struct):
    data: list[_Token]


_LISTING = msgspec.json.Decoder(Listing)
_SINGLE = msgspec.json.Decoder(_Single)
_TOKENS = msgspec.json.Decoder(_Tokens)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class CleverApi:
    """One district at Clever."""

    def __init__(self, client: PoliteClient, base: httpx2.URL, auth: httpx2.Auth, district_id: str, limit: int) -> None:
        self._client = client
        self._base = base
        self._auth = auth
        self._pace = client.pace(f"clever/{base.host}/{district_id}", _PER_MINUTE)
        self._limit = max(1, min(limit, _MOST_PER_PAGE))

    async def bodies(
        self, path: str, query: Mapping[str, str] | None = None, *, name: str | None = None, most: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The pages of a list, in order, the next one being on its way while one is worked on.

        Args:
            path: below the API's base, such as `/users`.
            query: what is asked for beside the limit.
            name: how to call it in errors, where the path holds an id.
            most: how many objects a page may hold at most.

        Raises `ProviderError`: PROV_PAGINATION for pages without an end, and what asking raises.
        """
        label = name or path
        url = self._address(path, query)
        seen: set[int] = set()
        empty = 0
        coming = asyncio.create_task(self._page(url, label, most))
        try:
            while True:
                body, listing = await coming
                following = self._find_next(listing, label)
                if following is None:
                    yield body
                    return
                empty = 0 if listing.data else empty + 1
                mark = xxhash.xxh3_64_intdigest(_without_limit(following))
                if mark in seen or empty > _MOST_EMPTY_PAGES:
                    detail = f"The pages of {label} have no end: the same one came again, or ever more empty ones."
                    raise ProviderError(Code.PROV_PAGINATION, detail)
                seen.add(mark)
                url = following
                coming = asyncio.create_task(self._page(url, label, most))
                yield body
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def first(self, path: str, query: Mapping[str, str]) -> Listing:
        """The first object of a list, as a page of one."""
        return (await self._page(self._address(path, query), path, 1))[1]

    async def single(self, path: str, *, name: str) -> Any:
        """One object; raises `ProviderError` PROV_NOT_FOUND where there is none."""

        async def read(answer: Answer) -> Any:
            try:
                return decode_object(_SINGLE.decode(answer.body.removeprefix(_BOM)).data)[0]
            except (*_UNREADABLE, RecordProblem):
                raise _bad_payload(name) from None

        return await self._get(self._address(path, None), name, read, quiet=True)

    async def _page(self, url: httpx2.URL, label: str, most: int | None) -> tuple[bytes, Listing]:
        """A page; where Clever finds it too large, one of half as many objects."""

        async def read(answer: Answer) -> tuple[bytes, Listing]:
            return answer.body, decode_listing(answer.body, label)

        while True:
            limit = min(self._limit, most or self._limit)
            limited = url.copy_set_param("limit", str(limit))
            try:
                return await self._get(limited, label, read)
            except ProviderError as error:
                if error.status != _TOO_LARGE or limit <= 1:
                    raise
                self._limit = min(self._limit, limit // 2)

    async def _get(
        self, url: httpx2.URL, label: str, read: Callable[[Answer], Awaitable[T]], *, quiet: bool = False
    ) -> T:
        return await self._client.get(url, path=label, auth=self._auth, read=read, quiet=quiet, pace=self._pace)

    def _address(self, path: str, query: Mapping[str, str] | None) -> httpx2.URL:
        text = f"?{urlencode(query, quote_via=quote)}" if query else ""
        return self._base.copy_with(raw_path=self._base.raw_path.rstrip(b"/") + f"{path}{text}".encode())

    def _find_next(self, listing: Listing, label: str) -> httpx2.URL | None:
        """Where the list goes on. A link away from the API is not followed: our token is for nobody else."""
        if listing.links is None:
            if len(listing.data) < self._limit:
                return None
            raise ProviderError(Code.PROV_BAD_PAYLOAD, f"{label} does not say whether there are more pages.")
        uri = next((link.uri for link in listing.links if link.rel == "next" and link.uri), None)
        if uri is None:
            return None
        try:
            found = self._base.join(uri)
        except (httpx2.InvalidURL, ValueError):
            raise _bad_payload(label) from None
        below = self._base.path.rstrip("/") + "/"
        if (found.scheme, found.netloc) != (self._base.scheme, self._base.netloc) or not found.path.startswith(below):
            detail = f"The next page of {label} is said to be outside of Clever's API; it was not asked for."
            raise ProviderError(Code.PROV_PAGINATION, detail)
        return found


def open_api(opening: Opening) -> CleverApi:
    """The way to the district of a connection; a token that was not entered is looked up when it is first needed."""
    values, secrets, client = opening.connection.values, opening.connection.secrets, opening.client
    base = client.address(values["base_url"])
    base = base.copy_with(path=base.path.rstrip("/"), query=None, fragment=None)
    district_id = values["district_id"]
    lookup = None
    if values.get("client_id") and secrets.get("client_secret"):
        lookup = _Lookup(client, values["token_url"], district_id, values["client_id"], secrets["client_secret"])
    auth: httpx2.Auth
    if token := secrets.get("district_token"):
        auth = Bearer(token, lookup.find if lookup else None)
    elif lookup is not None:
        auth = _LookedUp(lookup)
    else:
        raise ProviderError(
            Code.AUTH_INVALID, "Neither a district token nor the application's credentials were entered."
        )
    return CleverApi(client, base, auth, district_id, opening.page_size)


class _Lookup:
    """The list of an application's tokens."""

    def __init__(self, client: PoliteClient, token_url: str, district_id: str, client_id: str, secret: str) -> None:
        self._client = client
        self._url = client.address(token_url).copy_merge_params({"owner_type": "district", "district": district_id})
        self._district_id = district_id
        self._basic = f"Basic {b64encode(f'{client_id}:{secret}'.encode()).decode()}"

    async def find(self) -> str:
        """The newest token of the district; PROV_APP_DISABLED if the application has none."""

        async def read(answer: Answer) -> list[_Token]:
            try:
                return _TOKENS.decode(answer.body.removeprefix(_BOM)).data
            except _UNREADABLE:
                raise _bad_payload("the list of tokens") from None

        headers = {"Authorization": self._basic}
        found = await self._client.get(
            self._url, path="the list of tokens", auth=None, headers=headers, read=read, quiet=True
        )
        tokens = [token for token in found if token.owner is not None and token.owner.id == self._district_id]
        if not tokens:
            detail = "Clever lists no token of this district for the application: the district has not authorized it."
            raise ProviderError(Code.PROV_APP_DISABLED, detail)
        return max(tokens, key=lambda token: token.created or "").access_token


class _LookedUp(httpx2.Auth):
    """A token that is looked up at the first request, and again at a refusal."""

    def __init__(self, lookup: _Lookup) -> None:
        self._lookup = lookup
        self._bearer: Bearer | None = None
        self._turn = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Put the token on a request."""
        async with self._turn:
            if self._bearer is None:
                self._bearer = Bearer(await self._lookup.find(), self._lookup.find)
        async with aclosing(self._bearer.async_auth_flow(request)) as flow:
            response = yield await anext(flow)
            with suppress(StopAsyncIteration):
                yield await flow.asend(response)


def decode_listing(body: bytes, label: str) -> Listing:
    """The envelope of a list; anything else, also an error with a good status, is PROV_BAD_PAYLOAD."""
    body = body.removeprefix(_BOM)
    try:
        return _LISTING.decode(body)
    except _UNREADABLE:
        pass
    try:
        found = json.loads(body)  # takes halves of surrogate pairs, which are refused record by record
        rows = msgspec.convert(found["data"], list[Any])
        return Listing(
            [Raw(json.dumps(row).encode()) for row in rows], msgspec.convert(found.get("links"), list[_Link] | None)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _bad_payload(label) from None


def decode_object(raw: Raw | bytes) -> tuple[Any, bool]:
    """An object, and whether some text in it may hold characters that can't be stored.

    Raises `RecordProblem` where nothing can be made of it.
    """
    try:
        return msgspec.json.decode(raw), b"\\u0000" in bytes(raw)
    except _UNREADABLE:
        pass
    try:
        return json.loads(bytes(raw)), True  # as above
    except (ValueError, RecursionError):
        raise RecordProblem(Code.RECORD_INVALID) from None


def unwrap(raw: Raw | bytes) -> tuple[Any, bool]:
    """An object out of its envelope within a list; as `decode_object`."""
    found, odd = decode_object(raw)
    if not isinstance(found, dict) or not isinstance(found.get("data"), dict):
        raise RecordProblem(Code.RECORD_INVALID)
    return found["data"], odd


def _without_limit(url: httpx2.URL) -> bytes:
    return url.copy_remove_param("limit").raw_path


def _bad_payload(label: str) -> ProviderError:
    return ProviderError(Code.PROV_BAD_PAYLOAD, f"The answer of {label} could not be understood.")
