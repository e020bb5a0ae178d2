"""The district as a OneRoster REST provider, 1.1 and 1.2: collections, single records, and what belongs to them."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Final
from urllib.parse import unquote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox_district.access import Access
from sandbox_district.district import District
from sandbox_district.faults import Fault, Faults, Listing
from sandbox_district.filters import list_fields, read_filter, read_path
from sandbox_district.oneroster_resources import RESOURCES, find_nested, find_of_class
from sandbox_district.oneroster_versions import ONEROSTER_1P1, Version
from sandbox_district.records import Record
from sandbox_district.replies import Reply, describe_status, reply_error, reply_json

TOKEN_PATH: Final = "/oauth/token"  # noqa: S105 - a path, no secret
DEFAULT_LIMIT: Final = 100
_NESTED: Final = (3, 5)


class TokenFace:
    """The route that gives OAuth 2 tokens, for whichever version their scopes are."""

    def __init__(self, faults: Faults, access: Access) -> None:
        self._faults, self._access = faults, access
        self.routes = [Route(TOKEN_PATH, self._serve_token, methods=["POST"])]

    async def _serve_token(self, request: Request) -> Response:
        faults = self._faults.strike(TOKEN_PATH)
        reply = await _intervene(faults)
        if reply is None:
            reply = self._access.grant(await request.body(), request.headers.get("authorization", ""))
        return _send(reply, faults)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some records of the books, and how this version of OneRoster and the faults show them."""

    collection: str
    records: list[Record]
    show: Callable[[str, Record], Record]
    reshaped: frozenset[str]

    def has(self, field: str) -> bool:
        """Whether a field is one that these records have; of none it can't be said."""
        return not self.records or any(field in shown for shown in self._shown())

    def matching(self, text: str) -> list[Record]:
        """Those that a filter describes; `ValueError` if it is none."""
        matches = read_filter(text, self.has)
        if list_fields(text).isdisjoint(self.reshaped):
            return [record for record in self.records if matches(record)]
        return [record for record in self.records if matches(self.show(self.collection, record))]

    def _shown(self) -> Iterator[Record]:
        return (self.show(self.collection, record) for record in self.records)


class OneRosterFace:
    """The routes of one version of OneRoster. Faults are applied here and nowhere else."""

    def __init__(
        self,
        district: District,
        faults: Faults,
        access: Access,
        max_limit: int = 10_000,
        version: Version = ONEROSTER_1P1,
    ) -> None:
        self._district, self._faults, self._access, self._max_limit = district, faults, access, max_limit
        self._version = version
        self.routes = [Route(f"{version.base}/{{path:path}}", self._serve_roster, methods=["GET"])]

    async def _serve_roster(self, request: Request) -> Response:
        segments = _split_path(request, self._version.base)
        nested = len(segments) in _NESTED
        name = segments[-1 if nested else 0]
        faults = self._faults.strike(f"/{request.path_params['path']}", single=len(segments) > 1 and not nested)
        reply = await _intervene(faults)
        if reply is None:
            scope = "roster.readonly" if nested else "roster-core.readonly"
            scope = "roster-demographics.readonly" if name == "demographics" else scope
            reply = self._access.refuse(
                request, scope, faults, prefix=self._version.scope_prefix, signed=self._version.signed
            )
        if reply is None:
            reply = self.read(request, segments, faults)
        return _send(reply, faults)

    def read(self, request: Request, segments: list[str], faults: list[Fault]) -> Reply:
        """Answer a request that may be answered; `segments` are the parts of the path below the version's base."""
        match segments:
            case [name] if resource := RESOURCES.get(name):
                records = resource.select(self._district.collections[resource.collection])
                return self._read_page(request, resource.collection, records, faults)
            case [name, sourced_id] if resource := RESOURCES.get(name):
                records = resource.select(self._district.collections[resource.collection])
                return self._read_single(resource.collection, resource.single, records.get(sourced_id), faults)
            case [parent, sourced_id, name] if (
                found := find_nested(self._district, parent, sourced_id, name)
            ) is not None:
                return self._read_page(request, RESOURCES[name].collection, found, faults)
            case ["schools", school, "classes", section, name] if (
                found := find_of_class(self._district, school, section, name)
            ) is not None:
                return self._read_page(request, RESOURCES[name].collection, found, faults)
        return reply_error(404, "unknownobject", "There is no such collection or object.")

    def _read_single(self, collection: str, wrapper: str, record: Record | None, faults: list[Fault]) -> Reply:
        record = self._look_through(faults, collection, record) if record else None
        if record is None:
            return reply_error(404, "unknownobject", "There is no such object.")
        rows = [self._version.show(collection, record)]
        for fault in faults:
            rows = fault.reshape(rows, self._district.collections[collection])
        return reply_json({wrapper: rows[0]})

    def _read_page(self, request: Request, collection: str, records: dict[str, Record], faults: list[Fault]) -> Reply:
        try:
            return self._cut_page(request, collection, records, faults)
        except ValueError as error:
            return reply_error(400, "invalid_filter_field", str(error))

    def _cut_page(self, request: Request, collection: str, records: dict[str, Record], faults: list[Fault]) -> Reply:
        query, version = request.query_params, self._version
        known = _Rows(collection, self._look_at(faults, collection, records), version.show, version.reshaped)
        rows, notice = self._select(query.get("filter"), known, faults), None
        if (field := query.get("sort")) and known.has(field.partition(".")[0]):
            shown = known.show if field.partition(".")[0] in version.reshaped else _as_it_is
            rows = _sort(rows, field, lambda row: shown(collection, row), reverse=query.get("orderBy") == "desc")
        elif field and version.notices:
            notice = describe_status("success", "warning", "invalid_sort_field", f"Not sorted: no field {field}.")
        listing = Listing(
            self._district,
            collection,
            collection,
            rows,
            total=len(rows),
            offset=_read_number(request, "offset", 0, least=0),
            limit=min(_read_number(request, "limit", DEFAULT_LIMIT, least=1), self._max_limit),
        )
        for fault in faults:
            fault.arrange(listing)
        page = [version.show(collection, row) for row in listing.rows[listing.offset : listing.offset + listing.limit]]
        if fields := query.get("fields"):
            page = _select_fields(page, fields, known.has)
        for fault in faults:
            page = fault.reshape(page, self._district.collections[collection])
        headers = _describe_pages(request, listing) if listing.counted else {}
        if listing.wrapper is None:
            return reply_json(page, headers=headers)
        body = {listing.wrapper: page} | ({"statusInfoSet": [notice]} if notice else {})
        return reply_json(body, headers=headers)

    def _look_at(self, faults: list[Fault], collection: str, records: dict[str, Record]) -> list[Record]:
        """The records as the faults have the provider know them."""
        shown = list(records.values())
        for fault in faults:
            if type(fault).show is not Fault.show:  # most faults don't, and collections are large
                shown = [row for record in shown if (row := fault.show(collection, record, self._district))]
        return shown

    def _look_through(self, faults: list[Fault], collection: str, record: Record) -> Record | None:
        return next(iter(self._look_at(faults, collection, {"": record})), None)

    def _select(self, text: str | None, known: _Rows, faults: list[Fault]) -> list[Record]:
        """The rows a filter describes, or what the faults make of it."""
        if not text:
            return known.records
        verdicts = [verdict for fault in faults if (verdict := fault.judge_filter(text)) != "honour"]
        match verdicts[0] if verdicts else "honour":
            case "ignore":
                return known.records
            case "empty":
                return []
            case "refuse":
                raise ValueError("It can't be filtered by that.")
        return known.matching(text)


def _split_path(request: Request, base: str) -> list[str]:
    """The parts of a path below the base; a slash that was escaped belongs to its part."""
    raw = request.scope.get("raw_path", b"").decode("ascii").partition("?")[0]
    return [unquote(part) for part in raw[raw.index(base) + len(base) + 1 :].split("/")]


def _as_it_is(_collection: str, record: Record) -> Record:
    return record


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


def _sort(rows: list[Record], field: str, show: Callable[[Record], Record], *, reverse: bool) -> list[Record]:
    """In the order of a field by code points, and of the sourcedId where that is the same."""
    by_id = sorted(rows, key=itemgetter("sourcedId"), reverse=reverse)
    if field == "sourcedId":
        return by_id
    return sorted(by_id, key=lambda row: read_path(show(row), field), reverse=reverse)


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
