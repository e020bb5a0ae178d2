"""What stands after the question mark of a OneRoster request, read and checked; and the links that lead on."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query as Parameter
from fastapi import Request

from homeroom.codes import Code
from roster_store.oneroster.errors import Refusal, refuse_parameter
from roster_store.oneroster.filters import MAX_FILTER
from roster_store.oneroster.listings import DEFAULT_LIMIT, MAX_LIMIT, Query
from roster_store.oneroster.pages import Anchor, Page

_ONCE: Final = ("limit", "offset", "sort", "orderBy", "filter", "fields", "integration", "organization", "after")
_PAGING: Final = frozenset({"limit", "offset", "after"})
_UUID_BYTES: Final = 16
_MAX_TEXT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Which of the rosters a caller may see are meant."""

    organization: UUID | None
    integration: UUID | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a list."""

    query: Query
    narrowing: Narrowing
    anchor: Anchor | None


_IntegrationParameter = Annotated[UUID | None, Parameter(description="only this integration's roster")]
_OrganizationParameter = Annotated[UUID | None, Parameter(description="only this organization's rosters")]
FieldsParameter = Annotated[
    str | None,
    Parameter(
        description="top-level fields to answer with, separated by commas; all of them if one is unknown",
        max_length=_MAX_TEXT,
        examples=["sourcedId,familyName"],
    ),
]


def read_narrowing(
    request: Request, integration: _IntegrationParameter = None, organization: _OrganizationParameter = None
) -> Narrowing:
    """What narrows a request (FastAPI dependency). Raises `Refusal` if something is said twice."""
    for name in _ONCE:
        if len(request.query_params.getlist(name)) > 1:
            raise refuse_parameter(name, "it is given twice.")
    return Narrowing(organization, integration)


def read_query(
    limit: Annotated[int, Parameter(ge=1, le=MAX_LIMIT, description="records on a page")] = DEFAULT_LIMIT,
    offset: Annotated[int, Parameter(ge=0, description="records before the page")] = 0,
    sort: Annotated[
        str | None,
        Parameter(
            description="the field to sort by: sourcedId unless another is named. By an unknown one nothing is sorted, "
            "and the answer says so",
            max_length=_MAX_TEXT,
            examples=["familyName"],
        ),
    ] = None,
    orderBy: Annotated[str, Parameter(description="asc or desc", max_length=10, examples=["asc"])] = "",  # noqa: N803 - OneRoster's name
    filter: Annotated[  # noqa: A002 - OneRoster's name
        str | None,
        Parameter(
            description=f"comparisons like familyName='Ek', joined by AND or OR; up to {MAX_FILTER} characters. "
            "Removed records are in the list only if the filter is about status or dateLastModified",
            examples=["dateLastModified>='2026-01-31T05:00:00.000Z'"],
        ),
    ] = None,
    fields: FieldsParameter = None,
) -> Query:
    """What is asked for, before it is looked at closer (FastAPI dependency)."""
    return Query(limit, offset, sort, orderBy, filter, fields)


def read_anchor(
    after: Annotated[
        str | None,
        Parameter(description="from a `next` link: goes on behind the page it was on", max_length=4 * _MAX_TEXT),
    ] = None,
) -> Anchor | None:
    """Where a `next` link goes on (FastAPI dependency). Raises `Refusal`."""
    if after is None:
        return None
    try:
        packed = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True)
        anchor = Anchor(UUID(bytes=packed[:_UUID_BYTES]), packed[_UUID_BYTES:].decode())
    except (binascii.Error, ValueError):
        raise _unreadable() from None
    if not anchor.sourced_id or "\0" in anchor.sourced_id:
        raise _unreadable()
    return anchor


def _unreadable() -> Refusal:
    return Refusal(Code.CURSOR_INVALID, status=400, detail="The parameter after can't be read.")


def write_anchor(anchor: Anchor) -> str:
    """A record's place, as `after` names it: no more than its integration and its id."""
    packed = anchor.integration_id.bytes + anchor.sourced_id.encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def write_links(url: str, parameters: list[tuple[str, str]], query: Query, page: Page) -> str:
    """The `Link` header (RFC 8288): first, prev, next and last page, all other parameters kept."""
    kept = [(name, value) for name, value in parameters if name not in _PAGING]
    last = max(0, (page.total - 1) // query.limit * query.limit)
    places = [("first", 0), ("last", last)]
    if page.more:
        places.append(("next", query.offset + query.limit))
    if query.offset > 0:
        places.append(("prev", max(0, min(query.offset - query.limit, last))))
    links = []
    for relation, place in places:
        asked = [*kept, ("limit", str(query.limit)), ("offset", str(place))]
        if relation == "next" and page.end is not None:
            asked.append(("after", write_anchor(page.end)))
        links.append(f'<{url}?{urlencode(asked)}>; rel="{relation}"')
    return ", ".join(links)
