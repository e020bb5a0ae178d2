"""OneRoster 1.1 over REST, from any server that speaks it more or less (docs/providers/oneroster.md)."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx2
import xxhash

from homeroom.codes import Code
from homeroom.connections import OneRosterConnection
from homeroom.messages import Finding, Mode
from provider_gateway.failures import ProviderError
from provider_gateway.paging import read_pages
from provider_gateway.providers._oneroster_records import read_page
from provider_gateway.providers._oneroster_shapes import ROW_TYPES, DecodedPage, PageDecoder
from provider_gateway.providers.contract import Opening, Page, Proof, RawPage, Seen, Source, make_page
from provider_gateway.scope import Scope
from provider_gateway.signing import Answer, OAuth1, OAuth2

_BASES = ("/ims/oneroster/v1p1", "/ims/oneroster/v1p2", "/ims/oneroster/rostering/v1p2")
_SORTING = {"sort": "sourcedId", "orderBy": "asc"}
_CORE_SCOPES = ("roster-core.readonly", "roster.readonly")
_FEW_PAGES = 16
"""A district of no more pages is read in the worker itself; handing it over would take longer."""
_DECODERS_KEPT = 256
_DEMOGRAPHICS_SCOPE = "roster-demographics.readonly"


class OneRoster:
    """Declares the provider and opens connections to it."""

    kind = "oneroster"
    title = "OneRoster 1.1 REST"
    connection_model = OneRosterConnection
    capabilities: Mapping[str, Any] = {
        "collections": list(ROW_TYPES),
        "modes": ["full"],
        "states_counts": True,
        "single_records": True,
    }

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncIterator[Source]:
        """Get ready to read one district."""
        values, client = opening.connection.values, opening.client
        base = find_base(client.address(values["endpoint_url"]))
        auth: httpx2.Auth
        if values["auth"] == "oauth2":
            if not values.get("token_url"):
                raise ProviderError(Code.AUTH_INVALID, "OAuth 2 needs the address of the token endpoint.")
            client.address(values["token_url"])
            scopes = (*_CORE_SCOPES, _DEMOGRAPHICS_SCOPE) if opening.options.sync_demographics else _CORE_SCOPES
            secret = opening.connection.secrets["client_secret"]
            auth = OAuth2(values["client_id"], secret, values["token_url"], scopes, client.post_form)
        else:
            method = values.get("signature_method", "HMAC-SHA256")
            auth = OAuth1(values["client_id"], opening.connection.secrets["client_secret"], method)
        yield _District(opening, base, auth)


class _District:
    """One district at a OneRoster server."""

    mode: Mode = "full"
    mode_code: Code | None = None
    increments = False
    collections = tuple(ROW_TYPES)

    def __init__(self, opening: Opening, base: httpx2.URL, auth: httpx2.Auth) -> None:
        self._name = uuid4().hex
        self._client = opening.client
        self._readers = opening.readers
        self._base = base
        self._auth = auth
        self._page_size = opening.page_size
        self._pages_in_flight = opening.pages_in_flight
        self._sorting: dict[str, str] = _SORTING
        self._pages = 0
        self.refused_schools: dict[str, str] = {}

    def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """All pages of a collection in order."""

        async def fetch(offset: int, limit: int) -> Page:
            nonlocal scope
            where = {"limit": str(limit), "offset": str(offset)}
            sorting = self._sorting
            try:
                page = await self._get(collection, where | sorting, scope)
            except ProviderError as error:
                if error.status != httpx2.codes.BAD_REQUEST or not sorting:
                    raise
                page = await self._get(collection, where, scope)
                self._sorting = {}  # it refuses what it does not know, so we don't ask for an order any more
            if scope.masked is None and page.masked is not None:
                scope = replace(scope, masked=page.masked)  # the first page is always asked for alone
            return page

        return read_pages(fetch, limit=self._page_size, in_flight=self._pages_in_flight)

    def proof(self, collection: str) -> Proof:  # noqa: ARG002 - the same for all of them
        """The counts that OneRoster servers state."""
        return Proof.COUNTS

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:  # noqa: ARG002 - nothing is checked with it
        """Nothing is left to check."""
        return {}

    async def remark(self) -> Sequence[Finding]:
        """Nothing beside what the pages show."""
        return ()

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:
        """One record by its id; None if the provider says there is none."""
        url = self._address(f"/{collection}/{quote(sourced_id, safe='')}")

        async def read(answer: Answer) -> Page:
            decoder = _find_decoder(self._name, collection)
            raw = _read(decoder, decoder.decode_single(answer.body), answer.body, None)
            return make_page(collection, raw, scope)

        try:
            return await self._client.get(
                url,
                path=f"/{collection}/{{id}}",
                auth=self._auth,
                read=read,
                quiet=True,
            )
        except ProviderError as error:
            if error.code is Code.PROV_NOT_FOUND and error.status in {404, 410}:
                return None
            raise

    async def _get(self, collection: str, query: Mapping[str, str], scope: Scope) -> Page:
        text = urlencode(query, quote_via=quote, safe="-._~")
        url = self._address(f"/{collection}?{text}")

        async def read(answer: Answer) -> Page:
            self._pages += 1
            asked = (self._name, collection, answer.body, _read_count(answer.headers), scope)
            return read_body(*asked) if self._pages <= _FEW_PAGES else await self._readers.run(read_body, *asked)

        return await self._client.get(url, path=f"/{collection}", auth=self._auth, read=read)

    def _address(self, path: str) -> httpx2.URL:
        return self._base.copy_with(raw_path=self._base.raw_path + path.encode())


def find_base(url: httpx2.URL) -> httpx2.URL:
    """Where the collections are: an endpoint may be entered as a root or with OneRoster's path, in any case of letters.

    >>> find_base(httpx2.URL("https://roster.example/"))
    URL('https://roster.example/ims/oneroster/v1p1')
    >>> find_base(httpx2.URL("https://roster.example/x/ims/oneroster/rostering/v1p2/"))
    URL('https://roster.example/x/ims/oneroster/rostering/v1p2')
    """
    path = url.path.rstrip("/")
    if path.lower().endswith("/ims/oneroster"):
        path += "/v1p1"
    elif not path.lower().endswith(_BASES):
        path += _BASES[0]
    return url.copy_with(path=path, query=None, fragment=None)


def read_body(district: str, collection: str, body: bytes, stated: int | None, scope: Scope) -> Page:
    """A page out of an answer's body; run in whichever process there is, so it is told all it needs."""
    decoder = _find_decoder(district, collection)
    with _undisturbed():
        return make_page(collection, _read(decoder, decoder.decode(body), body, stated), scope)


@lru_cache(maxsize=_DECODERS_KEPT)
def _find_decoder(district: str, collection: str) -> PageDecoder:  # noqa: ARG001 - a district's decoders are its own
    return PageDecoder(collection)


def _read(decoder: PageDecoder, decoded: DecodedPage, body: bytes, stated: int | None) -> RawPage:
    page = read_page(decoder.collection, decoded, decoder.learned)
    page.stated = stated
    page.digest = xxhash.xxh3_64_intdigest(body)
    page.suspicious = decoded.odd or b"\\u0000" in body
    return page


def _read_count(headers: httpx2.Headers) -> int | None:
    text = headers.get("x-total-count", "").strip()
    return int(text) if text.isdecimal() and len(text) < 12 else None  # noqa: PLR2004 - no roster has 10¹² rows


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection while a page is made into records: none of it is garbage yet."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
