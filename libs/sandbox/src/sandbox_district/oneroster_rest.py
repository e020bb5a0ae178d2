"""The district as a OneRoster 1.1 REST provider: top-level collections and their single records."""

import asyncio
from collections.abc import Callable
from operator import itemgetter
from typing import Final, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox_district.access import Access
from sandbox_district.district import District
from sandbox_district.faults import Fault, Faults, Listing
from sandbox_district.filters import read_filter, read_path
from sandbox_district.records import Record
from sandbox_district.replies import Reply, describe_status, reply_error, reply_json

BASE: Final = "/ims/oneroster/v1p1"
TOKEN_PATH: Final = "/oauth/token"  # noqa: S105 - a path, no secret
DEFAULT_LIMIT: Final = 100


class Resource(NamedTuple):
    """What a path serves: a collection, or the part of it whose field has one of some values."""

    collection: str
    single: str
    field: str = ""
    values: tuple[str, ...] = ()

    def select(self, records: dict[str, Record]) -> dict[str, Record]:
        """The records of the collection that this path serves."""
        if not self.field:
            return records
        return {key: record for key, record in records.items() if record[self.field] in self.values}


RESOURCES: Final = {
    "orgs": Resource("orgs", "org"),
    "schools": Resource("orgs", "org", "type", ("school",)),
    "academicSessions": Resource("academicSessions", "academicSession"),
    "terms": Resource("academicSessions", "academicSession", "type", ("term", "semester")),
    "gradingPeriods": Resource("academicSessions", "academicSession", "type", ("gradingPeriod",)),
    "courses": Resource("courses", "course"),
    "classes": Resource("classes", "class"),
    "users": Resource("users", "user"),
    "students": Resource("users", "user", "role", ("student",)),
    "teachers": Resource("users", "user", "role", ("teacher",)),
    "enrollments": Resource("enrollments", "enrollment"),
    "demographics": Resource("demographics", "demographics"),
}


class OneRosterFace:
    """The routes of the provider. Faults are applied here and nowhere else."""

    def __init__(self, district: District, faults: Faults, access: Access, max_limit: int = 10_000) -> None:
        self._district, self._faults, self._access, self._max_limit = district, faults, access, max_limit
        self.routes = [
            Route(f"{BASE}/{{path:path}}", self._serve_roster, methods=["GET"]),
            Route(TOKEN_PATH, self._serve_token, methods=["POST"]),
        ]

    async def _serve_token(self, request: Request) -> Response:
        faults = self._faults.strike(TOKEN_PATH)
        reply = await _intervene(faults)
        if reply is None:
            reply = self._access.grant(await request.body(), request.headers.get("authorization", ""))
        return _send(reply, faults)

    async def _serve_roster(self, request: Request) -> Response:
        name, _, sourced_id = request.path_params["path"].partition("/")
        faults = self._faults.strike(f"/{request.path_params['path']}", single=bool(sourced_id))
        reply = await _intervene(faults)
        if reply is None:
            scope = "roster-demographics.readonly" if name == "demographics" else "roster-core.readonly"
            reply = self._access.refuse(request, scope, faults)
        if reply is None:
            reply = self._read(request, name, sourced_id, faults)
        return _send(reply, faults)

    def _read(self, request: Request, name: str, sourced_id: str, faults: list[Fault]) -> Reply:
        resource = RESOURCES.get(name)
        if resource is None:
            return reply_error(404, "unknownobject", "There is no such collection.")
        if sourced_id:
            return self._read_single(resource, sourced_id, faults)
        try:
            return self._read_page(request, resource, faults)
        except ValueError as error:
            return reply_error(400, "invalid_filter_field", str(error))

    def _read_single(self, resource: Resource, sourced_id: str, faults: list[Fault]) -> Reply:
        books = self._district.collections[resource.collection]
        record = resource.select(books).get(sourced_id)
        if record is None:
            return reply_error(404, "unknownobject", "There is no such object.")
        rows = [record]
        for fault in faults:
            rows = fault.reshape(rows, books)
        return reply_json({resource.single: rows[0]})

    def _read_page(self, request: Request, resource: Resource, faults: list[Fault]) -> Reply:
        query = request.query_params
        books = self._district.collections[resource.collection]
        rows = everything = list(resource.select(books).values())

        def is_known(field: str) -> bool:
            return not everything or any(field in row for row in everything)

        if text := query.get("filter"):
            matches = read_filter(text, is_known)
            rows = [row for row in everything if matches(row)]
        notice = None
        if (field := query.get("sort")) and is_known(field):
            rows = _sort(rows, field, reverse=query.get("orderBy") == "desc")
        elif field:
            notice = describe_status("success", "warning", "invalid_sort_field", f"Not sorted: no field {field}.")
        listing = Listing(
            self._district,
            resource.collection,
            resource.collection,
            rows,
            total=len(rows),
            offset=_read_number(request, "offset", 0, least=0),
            limit=min(_read_number(request, "limit", DEFAULT_LIMIT, least=1), self._max_limit),
        )
        for fault in faults:
            fault.arrange(listing)
        page = listing.rows[listing.offset : listing.offset + listing.limit]
        if fields := query.get("fields"):
            page = _select_fields(page, fields, is_known)
        for fault in faults:
            page = fault.reshape(page, books)
        headers = _describe_pages(request, listing) if listing.counted else {}
        if listing.wrapper is None:
            return reply_json(page, headers=headers)
        body = {listing.wrapper: page} | ({"statusInfoSet": [notice]} if notice else {})
        return reply_json(body, headers=headers)


async def _intervene(faults: list[Fault]) -> Reply | None:
    """Wait as long as the faults want, and answer if one of them does."""
    if seconds := sum(fault.delay() for fault in faults):
        await asyncio.sleep(seconds)
    return next((reply for fault in faults if (reply := fault.answer())), None)


def _send(reply: Reply, faults: list[Fault]) -> Response:
    for fault in faults:
        reply = fault.send(reply)
    return reply.response()


def _read_number(request: Request, name: str, default: int, least: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"{name} must be a whole number, {least} or more.")
    return int(text)


def _sort(rows: list[Record], field: str, *, reverse: bool) -> list[Record]:
    """In the order of a field by code points, and of the sourcedId where that is the same."""
    by_id = sorted(rows, key=itemgetter("sourcedId"), reverse=reverse)
    return by_id if field == "sourcedId" else sorted(by_id, key=lambda row: read_path(row, field), reverse=reverse)


def _select_fields(page: list[Record], fields: str, is_known: Callable[[str], bool]) -> list[Record]:
    """The fields asked for; all of them when one is unknown, as the specification has it."""
    wanted = {field.strip() for field in fields.split(",")}
    if not all(map(is_known, wanted)):
        return page
    return [{name: value for name, value in row.items() if name in wanted} for row in page]


def _describe_pages(request: Request, listing: Listing) -> dict[str, str]:
    """X-Total-Count, and Link to the first, previous, next and last page."""
    offset, limit, total = listing.offset, listing.limit, listing.total
    offsets = {"first": 0, "last": max(0, (total - 1) // limit * limit)}
    if offset:
        offsets["prev"] = max(0, offset - limit)
    if offset + limit < total:
        offsets["next"] = offset + limit
    query = {name: value for name, value in request.query_params.items() if name not in {"limit", "offset"}}
    here = str(request.url).partition("?")[0]
    links = [
        f'<{here}?{urlencode({**query, "limit": limit, "offset": start})}>; rel="{rel}"'
        for rel, start in offsets.items()
    ]
    return {"x-total-count": str(total), "link": ", ".join(links)}
