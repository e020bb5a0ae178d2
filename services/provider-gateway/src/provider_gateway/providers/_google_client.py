"""Asking Google Classroom: lists by page token, single objects."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx2
import msgspec

from homeroom.codes import Code
from provider_gateway.client import PoliteClient
from provider_gateway.failures import ProviderError
from provider_gateway.providers._google_account import ServiceAccount
from provider_gateway.providers.contract import Opening
from provider_gateway.signing import Answer

_SCOPES: Final = ("classroom.courses.readonly", "classroom.rosters.readonly", "classroom.profile.emails")
_GUARDIANS_SCOPE: Final = "classroom.guardianlinks.students.readonly"
_SCOPE_PREFIX: Final = "https://www.googleapis.com/auth/"
_MOST_EMPTY_PAGES: Final = 10


class ClassroomApi:
    """One domain at Google Classroom."""

    def __init__(self, client: PoliteClient, base: httpx2.URL, auth: httpx2.Auth) -> None:
        self._client = client
        self._base = base
        self._auth = auth

    async def pages(
        self, path: str, key: str, query: Mapping[str, str], *, name: str
    ) -> AsyncGenerator[list[Any], None]:
        """The pages of a list, each as the objects under `key`; a page may be empty and not the last.

        Raises `ProviderError`: PROV_PAGINATION where page tokens come again, and what asking raises.
        """
        seen: set[str] = set()
        empty = 0
        token = ""
        while True:
            found = await self._ask(path, {**query, "pageToken": token} if token else query, name)
            rows = found.get(key) or []
            if not isinstance(rows, list):
                raise _bad_payload(name)
            yield rows
            token = found.get("nextPageToken") or ""
            if not token:
                return
            empty = 0 if rows else empty + 1
            if not isinstance(token, str) or token in seen or empty > _MOST_EMPTY_PAGES:
                detail = f"The pages of {name} have no end: a page token came again, or ever more empty pages."
                raise ProviderError(Code.PROV_PAGINATION, detail)
            seen.add(token)

    async def single(self, path: str, *, name: str) -> Mapping[str, Any]:
        """One object; raises `ProviderError` PROV_NOT_FOUND where there is none."""
        return await self._ask(path, {}, name, quiet=True)

    async def _ask(self, path: str, query: Mapping[str, str], name: str, *, quiet: bool = False) -> Mapping[str, Any]:
        async def read(answer: Answer) -> Mapping[str, Any]:
            return decode_answer(answer.body, name)

        text = f"?{urlencode(query, quote_via=quote)}" if query else ""
        url = self._base.copy_with(raw_path=self._base.raw_path.rstrip(b"/") + f"/v1{path}{text}".encode())
        return await self._client.get(url, path=name, auth=self._auth, read=read, quiet=quiet)


def open_api(opening: Opening) -> ClassroomApi:
    """The way to the domain of a connection."""
    values, client = opening.connection.values, opening.client
    base = client.address(values["base_url"]).copy_with(query=None, fragment=None)
    client.address(values["token_url"])
    names = (*_SCOPES, _GUARDIANS_SCOPE) if opening.options.sync_parents else _SCOPES
    account = ServiceAccount(
        opening.connection.secrets["service_account_key"],
        values["admin_email"],
        tuple(_SCOPE_PREFIX + name for name in names),
        values["token_url"],
        client.post_form,
    )
    return ClassroomApi(client, base, account)


def decode_answer(body: bytes, name: str) -> Mapping[str, Any]:
    """The object an answer holds; anything else, also an error with a good status, is PROV_BAD_PAYLOAD."""
    found: Any
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            found = json.loads(body)  # takes halves of surrogate pairs, which are refused record by record
        except (ValueError, RecursionError):
            raise _bad_payload(name) from None
    if not isinstance(found, dict) or "error" in found:
        raise _bad_payload(name)
    return found


def _bad_payload(name: str) -> ProviderError:
    return ProviderError(Code.PROV_BAD_PAYLOAD, f"The answer of {name} could not be understood.")
