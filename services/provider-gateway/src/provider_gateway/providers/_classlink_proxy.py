"""ClassLink's partner proxy: the list of a partner's applications, one row for each district."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import httpx2
import msgspec

from homeroom.codes import Code
from provider_gateway.client import PoliteClient
from provider_gateway.failures import ProviderError
from provider_gateway.signing import Answer, Bearer

_PATH: Final = "/applications"
_ROWS_AT_ONCE: Final = 1_000
_MOST_ROWS: Final = 200_000
_PLAIN_SEGMENT: Final = re.compile(r"[A-Za-z0-9%._~=+:@!$&'()*,;-]+")
_OFF: Final = frozenset({"false", "0", "no", "off"})
_IDS: Final = ("oneroster_application_id", "application_id", "id")
"""What an admin may have been given as the application's id, the best first."""


@dataclass(frozen=True, slots=True)
class Application:
    """One district's row, as far as it is of use."""

    path: str
    """The id as it stands in paths: percent-escaped already, never to be decoded or escaped again."""
    bearer: str = field(repr=False)


async def find_application(
    client: PoliteClient, proxy: httpx2.URL, partner_key: str, application_id: str
) -> Application:
    """The row of an application, enabled and with a bearer.

    Raises `ProviderError`: PROV_NOT_FOUND if the key sees no such row, PROV_APP_DISABLED if the district switched it
    off, AUTH_INVALID if the key is refused.
    """
    wanted = application_id.strip()
    others: dict[str, list[Mapping[str, Any]]] = {name: [] for name in _IDS}
    offset, before = 0, None
    while offset < _MOST_ROWS:
        rows = await _list(client, proxy, partner_key, offset)
        if rows and rows[0] == before:
            break  # it knows no offset
        before = rows[0] if rows else None
        for row in rows:
            name = match(row, wanted)
            if name == _IDS[0]:
                return read_row(row)
            if name is not None and row not in others[name]:
                others[name].append(row)
        if not rows:
            break
        offset += len(rows)
    for name in _IDS[1:]:
        if len(others[name]) == 1:
            return read_row(others[name][0])
    raise ProviderError(
        Code.PROV_NOT_FOUND,
        "ClassLink's list of applications has no row with this OneRoster application id. Check it, and whether the "
        "district has added the application.",
    )


async def _list(client: PoliteClient, proxy: httpx2.URL, partner_key: str, offset: int) -> Sequence[Mapping[str, Any]]:
    query = f"?limit={_ROWS_AT_ONCE}&offset={offset}"
    url = proxy.copy_with(raw_path=proxy.raw_path.rstrip(b"/") + f"{_PATH}{query}".encode())

    async def read(answer: Answer) -> Sequence[Mapping[str, Any]]:
        return read_rows(answer.body)

    return await client.get(url, path=_PATH, auth=Bearer(partner_key), read=read, quiet=True)


def read_rows(body: bytes) -> Sequence[Mapping[str, Any]]:
    """The rows of an answer, with or without a wrapper; PROV_BAD_PAYLOAD if it holds none (pure)."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if isinstance(found, dict):
        found = found.get("applications")
    if not isinstance(found, list):
        raise ProviderError(Code.PROV_BAD_PAYLOAD, "ClassLink's list of applications could not be understood.")
    return [row for row in found if isinstance(row, dict)]


def match(row: Mapping[str, Any], wanted: str) -> str | None:
    """By which of its ids a row is the wanted one (pure); escaped or not makes no difference."""
    return next((name for name in _IDS if (found := _text(row.get(name))) and unquote(found) == unquote(wanted)), None)


def read_row(row: Mapping[str, Any]) -> Application:
    """What is of use of a row (pure); flags come as texts, numbers or booleans."""
    status = _text(row.get("tenant_status"))
    if _text(row.get("enabled")).lower() in _OFF or (status and status.lower() != "active"):
        why = "the application is not enabled" if _text(row.get("enabled")).lower() in _OFF else "it is not active"
        raise ProviderError(Code.PROV_APP_DISABLED, f"ClassLink lists the district, but {why} there.")
    path, bearer = _text(row.get(_IDS[0])), _text(row.get("bearer"))
    if not _PLAIN_SEGMENT.fullmatch(path) or path in {".", ".."}:
        raise ProviderError(Code.PROV_BAD_PAYLOAD, "ClassLink lists the application without an id that can be used.")
    if not bearer or not bearer.isascii() or not bearer.isprintable():
        raise ProviderError(Code.AUTH_INVALID, "ClassLink lists the application without a bearer token.")
    return Application(path, bearer)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip() if isinstance(value, str | int) else ""
