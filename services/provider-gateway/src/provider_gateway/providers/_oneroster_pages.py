"""An answer's body → a page, in whichever process there is."""

from __future__ import annotations

from functools import lru_cache

import httpx2
import xxhash

from provider_gateway.providers._oneroster_records import read_page
from provider_gateway.providers._oneroster_shapes import DecodedPage, PageDecoder
from provider_gateway.providers.contract import Page, RawPage, make_page
from provider_gateway.readers import undisturbed
from provider_gateway.scope import Scope

_DECODERS_KEPT = 256


def read_body(
    district: str, collection: str, body: bytes, stated: int | None, scope: Scope, since: str | None = None
) -> Page:
    """A page out of an answer's body; run in whichever process there is, so it is told all it needs.

    Args:
        district: a name of this fetch's own; what is learned of a provider's fields is kept under it.
        collection: OneRoster's name of it.
        body: as it came.
        stated: how many rows the collection has, if the answer says so.
        scope: which records are wanted.
        since: records that say they were last modified before this moment are marked as unstamped.
    """
    decoder = _find_decoder(district, collection)
    with undisturbed():
        return make_page(collection, _read(decoder, decoder.decode(body), body, stated, since), scope)


def read_single(district: str, collection: str, body: bytes, scope: Scope) -> Page:
    """A page of one out of the answer to a question by id."""
    decoder = _find_decoder(district, collection)
    return make_page(collection, _read(decoder, decoder.decode_single(body), body, None, None), scope)


def read_count(headers: httpx2.Headers, name: str = "x-total-count") -> int | None:
    """A number of rows, as a header states it."""
    text = headers.get(name, "").strip()
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 12 else None  # noqa: PLR2004 - no roster has 10¹² rows


@lru_cache(maxsize=_DECODERS_KEPT)
def _find_decoder(district: str, collection: str) -> PageDecoder:  # noqa: ARG001 - a district's decoders are its own
    return PageDecoder(collection)


def _read(decoder: PageDecoder, decoded: DecodedPage, body: bytes, stated: int | None, since: str | None) -> RawPage:
    page = read_page(decoder.collection, decoded, decoder.learned, since)
    page.stated = stated
    page.digest = xxhash.xxh3_64_intdigest(body)
    page.suspicious = decoded.odd or b"\\u0000" in body
    return page
