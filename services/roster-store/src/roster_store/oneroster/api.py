"""The roster as a standard OneRoster provider: every rostering path of 1.1 and 1.2 (F1, F3).

docs/oneroster-provider.md describes it to its readers.

Wrappers are named by what they hold, so `/students` answers `{"users": [...]}`. Lists are of active records, unless
their filter is about `status` or `dateLastModified`; a removed record is answered with its last values and the status
`tobedeleted`, as far as they may be seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote, unquote

import msgspec
from fastapi import APIRouter, Depends, Path, Request, Response

from homeroom.auth import DEMOGRAPHICS, ROSTER_CORE_SCOPES, Caller, identify
from homeroom.codes import Code
from homeroom.problems import Problem
from roster_store.oneroster.discovery import write_discovery
from roster_store.oneroster.errors import RESPONSES, OneRosterRoute, describe_status
from roster_store.oneroster.faces import FACES, OF_CLASS_IN_SCHOOL, RELATIONS, RESOURCES, WITH_RESOURCES, Relation
from roster_store.oneroster.fields import write_records
from roster_store.oneroster.listings import Notice, Query, read_fields, read_listing
from roster_store.oneroster.pages import Page, Reader
from roster_store.oneroster.queries import (
    Asked,
    FieldsParameter,
    Narrowing,
    read_anchor,
    read_narrowing,
    read_query,
    write_links,
)
from roster_store.oneroster.versions import V1P1, VERSIONS, Version
from roster_store.sights import Sight, list_sights

DISCOVERY_FILE: Final = "onerosterv1p2rostersservice_openapi3_v1p0.json"
"""The name 1EdTech has given the document."""
REQUEST_SECONDS: Final = 60.0
"""Deadline of a request; what was surveyed until then is kept for the next try."""
_ROSTER: Final = "roster.read"
_CORE: Final = "roster-core.readonly"

_encode = msgspec.json.Encoder().encode
_CallerDependency = Annotated[Caller, Depends(identify)]
_NarrowingDependency = Annotated[Narrowing, Depends(read_narrowing)]


def read_asked(
    query: Annotated[Query, Depends(read_query)],
    narrowing: _NarrowingDependency,
    anchor: Annotated[Any, Depends(read_anchor)],
) -> Asked:
    """A request for a list (FastAPI dependency)."""
    return Asked(query, narrowing, anchor)


_AskedDependency = Annotated[Asked, Depends(read_asked)]


class _Request:
    """A request, and what it is about."""

    def __init__(self, request: Request, caller: Caller, narrowing: Narrowing) -> None:
        self.request = request
        self.caller = caller
        self.narrowing = narrowing
        self.version = _find_version(request)
        self.segments = _split_path(request, self.version)
        state = request.app.state
        self.reader = Reader(state.rosters, state.database, state.surveys)

    @property
    def base(self) -> str:
        """The service's address, as outsiders know it."""
        return f"{self.request.app.state.settings.issuer}{self.version.base}"

    def authorise(self) -> None:
        """Raise a 403 if the token's scopes do not reach this path."""
        scopes = self.caller.scopes
        if self.segments and self.segments[0] == "demographics":
            allowed, asked = DEMOGRAPHICS in scopes, DEMOGRAPHICS
        elif len(self.segments) > 2:  # noqa: PLR2004 - what belongs to a record, beyond collections and single ones
            allowed, asked = _ROSTER in scopes, _ROSTER
        else:
            allowed, asked = _ROSTER in scopes or not scopes.isdisjoint(ROSTER_CORE_SCOPES), f"{_ROSTER} or {_CORE}"
        if not allowed:
            raise Problem(
                Code.SCOPE_MISSING,
                status=403,
                detail=f"The token lacks the scope {asked}.",
                headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'},
            )

    async def list_sights(self) -> list[Sight]:
        """The rosters the caller may look at, as far as they are meant."""
        return await list_sights(
            self.request.app.state.database,
            self.caller,
            organization=self.narrowing.organization,
            integration=self.narrowing.integration,
        )


async def _serve(request: Request, caller: Caller, asked: Asked) -> Response:
    """Answer a request by its path, whichever route has taken it: sourcedIds may hold slashes, which are escaped."""
    asking = _Request(request, caller, asked.narrowing)
    asking.authorise()
    async with asyncio.timeout(REQUEST_SECONDS):
        match asking.segments:
            case [name] if name in FACES:
                return await _answer_list(asking, asked, name, None, await asking.list_sights())
            case [name, sourced_id] if name in FACES:
                return await _answer_single(asking, asked.query.fields, name, sourced_id)
            case ["schools", school, "classes", section, name] if relation := OF_CLASS_IN_SCHOOL.get(name):
                condition = ("held.school_sourced_id = $2", school)
                holders = await _find_holders(asking, "classes", section, *condition)
                return await _answer_list(asking, asked, name, (relation, section), holders)
            case [parent, sourced_id, name] if relation := RELATIONS.get((parent, name)):
                holders = await _find_holders(asking, parent, sourced_id)
                return await _answer_list(asking, asked, name, (relation, sourced_id), holders)
            case ["resources"] if asking.version.resources:
                return _answer_nothing(asking, asked.query)
            case [parent, sourced_id, "resources"] if asking.version.resources and parent in WITH_RESOURCES:
                await _find_holders(asking, parent, sourced_id)
                return _answer_nothing(asking, asked.query)
    raise _nothing_here()


async def _find_holders(
    asking: _Request, parent: str, sourced_id: str, condition: str = "true", *values: str
) -> list[Sight]:
    """The roster that has the record which others are asked for by. Raises 404 if none has."""
    if any("\0" in value for value in (sourced_id, *values)):
        raise _nothing_here()
    sights = await asking.list_sights()
    holder = await asking.reader.find_holder(sights, FACES[parent], sourced_id, condition, *values)
    if holder is None:
        raise _nothing_here()
    return [holder]


async def _answer_list(
    asking: _Request, asked: Asked, name: str, relation: tuple[Relation, str] | None, sights: Sequence[Sight]
) -> Response:
    face = relation[0].face if relation else FACES[name]
    listing = read_listing(asked.query, face, asking.version)
    page = await asking.reader.read_page(
        sights, listing, relation, offset=asked.query.offset, limit=asked.query.limit, anchor=asked.anchor
    )
    records = write_records(page.rows, listing.fields, asking.base)
    return _answer_page(asking, face.collection, records, asked.query, page, listing.notices)


async def _answer_single(asking: _Request, fields_text: str | None, name: str, sourced_id: str) -> Response:
    face, version = FACES[name], asking.version
    fields, notices = read_fields(fields_text, version.shapes[face.collection], version)
    row = None
    if "\0" not in sourced_id:
        row = await asking.reader.find_record(await asking.list_sights(), face, sourced_id, fields)
    if row is None:
        raise _nothing_here()
    (record,) = write_records([row], fields, asking.base)
    return Response(_encode({face.single: record}), media_type="application/json", headers=_tell(notices))


def _answer_page(
    asking: _Request,
    collection: str,
    records: list[dict[str, Any]],
    query: Query,
    page: Page,
    notices: Sequence[Notice] = (),
) -> Response:
    body: dict[str, Any] = {collection: records}
    if notices and asking.version.notices:  # behind the records: some consumers take the first entry, whatever it is
        reference = asking.request.scope.get("state", {}).get("request_id", "")
        body["statusInfoSet"] = [
            describe_status("success", "warning", notice.minor, notice.description, reference) for notice in notices
        ]
    url = asking.base + "".join(f"/{quote(segment, safe='')}" for segment in asking.segments)
    links = write_links(url, asking.request.query_params.multi_items(), query, page)
    headers = {"X-Total-Count": str(page.total), "Link": links, **_tell(notices)}
    return Response(_encode(body), media_type="application/json", headers=headers)


def _answer_nothing(asking: _Request, query: Query) -> Response:
    """Homeroom holds no resources, which is no error."""
    return _answer_page(asking, RESOURCES, [], query, Page([], 0, more=False, end=None))


def _tell(notices: Sequence[Notice]) -> dict[str, str]:
    return {"X-Homeroom-Notice": ", ".join(notice.minor for notice in notices)} if notices else {}


def _nothing_here() -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail="There is no such collection or record.")


def _find_version(request: Request) -> Version:
    return next((one for one in VERSIONS if request.url.path.startswith(one.base)), V1P1)


def _split_path(request: Request, version: Version) -> list[str]:
    """The parts of a path below the base; a slash that was escaped belongs to its part, one at the end to none."""
    raw = request.scope.get("raw_path") or quote(request.url.path).encode()
    below = raw.decode("ascii", "replace").partition("?")[0].removeprefix(version.base).removeprefix("/")
    return [unquote(part) for part in below.removesuffix("/").split("/")]


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────

_Id = Annotated[str, Path(description="a record's sourcedId")]


def _one_of(names: Sequence[str]) -> Any:
    return Path(json_schema_extra={"enum": list(names)})


async def list_records(
    request: Request,
    caller: _CallerDependency,
    asked: _AskedDependency,
    face: Annotated[str, _one_of([name for name in FACES if name != "demographics"])],  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
) -> Response:
    """A page of a collection, with `X-Total-Count` and `Link`."""
    return await _serve(request, caller, asked)


async def list_demographics(request: Request, caller: _CallerDependency, asked: _AskedDependency) -> Response:
    """A page of demographics; they have a scope of their own."""
    return await _serve(request, caller, asked)


async def list_resources(request: Request, caller: _CallerDependency, asked: _AskedDependency) -> Response:
    """Always empty: Homeroom holds no resources."""
    return await _serve(request, caller, asked)


async def get_record(
    request: Request,
    caller: _CallerDependency,
    narrowing: _NarrowingDependency,
    face: Annotated[str, _one_of([name for name in FACES if name != "demographics"])],  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
    sourced_id: _Id,  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
    fields: FieldsParameter = None,
) -> Response:
    """A record by its sourcedId; a removed one has the status `tobedeleted`."""
    return await _serve(request, caller, Asked(Query(fields=fields), narrowing, None))


async def get_demographics(
    request: Request,
    caller: _CallerDependency,
    narrowing: _NarrowingDependency,
    sourced_id: _Id,  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
    fields: FieldsParameter = None,
) -> Response:
    """The demographics of the user with this sourcedId."""
    return await _serve(request, caller, Asked(Query(fields=fields), narrowing, None))


async def list_related_records(
    request: Request,
    caller: _CallerDependency,
    asked: _AskedDependency,
    parent: Annotated[str, _one_of(sorted({parent for parent, _ in RELATIONS}))],  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
    sourced_id: _Id,  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
    related: Annotated[str, _one_of(sorted({name for _, name in RELATIONS} | {RESOURCES}))],  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
) -> Response:
    """A page of what belongs to a record: a school's classes, a class's students, a term's grading periods."""
    return await _serve(request, caller, asked)


async def list_records_of_class_in_school(
    request: Request,
    caller: _CallerDependency,
    asked: _AskedDependency,
    sourced_id: _Id,  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
    class_sourced_id: _Id,  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
    related: Annotated[str, _one_of(sorted(OF_CLASS_IN_SCHOOL))],  # noqa: ARG001 - for OpenAPI; `_serve` reads the path
) -> Response:
    """A page of the enrollments, students or teachers of a class of a school."""
    return await _serve(request, caller, asked)


async def serve_other_paths(request: Request, caller: _CallerDependency, asked: _AskedDependency) -> Response:
    """Paths whose sourcedIds hold escaped slashes, or that end in a slash; all others are answered with 404."""
    return await _serve(request, caller, asked)


async def get_discovery(request: Request) -> Response:
    """What is served here, as an OpenAPI document (OneRoster 1.2's service discovery); it needs no token."""
    return Response(_encode(write_discovery(request.app.state.settings.issuer)), media_type="application/json")


_ROUTES: Final = (
    ("/demographics", list_demographics),
    ("/demographics/{sourced_id}", get_demographics),
    ("/{face}", list_records),
    ("/{face}/{sourced_id}", get_record),
    ("/schools/{sourced_id}/classes/{class_sourced_id}/{related}", list_records_of_class_in_school),
    ("/{parent}/{sourced_id}/{related}", list_related_records),
)


def _make_router() -> APIRouter:
    router = APIRouter(route_class=OneRosterRoute, responses=RESPONSES)
    for version in VERSIONS:
        suffix = f"_{version.number.replace('.', 'p')}"
        common: dict[str, Any] = {"tags": [f"OneRoster {version.number}"], "response_class": Response}
        if version.resources:
            path = f"{version.base}/resources"
            router.add_api_route(path, list_resources, name=f"list_resources{suffix}", **common)
        else:
            for path in ("/discovery", f"/discovery/{DISCOVERY_FILE}"):
                name = f"get_discovery{suffix}"
                shown = path == "/discovery"
                router.add_api_route(version.base + path, get_discovery, name=name, include_in_schema=shown, **common)
        for path, handler in _ROUTES:
            router.add_api_route(version.base + path, handler, name=f"{handler.__name__}{suffix}", **common)
        router.add_api_route(version.base + "/{path:path}", serve_other_paths, include_in_schema=False, **common)
    return router


router = _make_router()
