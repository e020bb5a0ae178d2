"""The service discovery document of OneRoster 1.2: an OpenAPI document of what this provider serves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from homeroom.auth import DEMOGRAPHICS_SCOPES, ROSTER_SCOPES
from roster_store.oneroster.errors import RESPONSES
from roster_store.oneroster.faces import FACES, OF_CLASS_IN_SCHOOL, RELATIONS
from roster_store.oneroster.versions import V1P2

_PURL: Final = "https://purl.imsglobal.org/spec/or/v1p2/scope/"
_LIST_PARAMETERS: Final = {
    "limit": "integer",
    "offset": "integer",
    "sort": "string",
    "orderBy": "string",
    "filter": "string",
    "fields": "string",
}


@lru_cache(maxsize=4)
def write_discovery(issuer: str) -> dict[str, Any]:
    """The document, for an installation at this address."""
    scopes = sorted(scope for scope in ROSTER_SCOPES | DEMOGRAPHICS_SCOPES if scope.startswith(_PURL))
    flow = {"tokenUrl": f"{issuer}/oauth2/token", "scopes": {scope: scope.removeprefix(_PURL) for scope in scopes}}
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "OneRoster 1.2 rostering service",
            "description": "The roster as far as the caller may see it, read-only.",
            "version": "1.2",
        },
        "servers": [{"url": f"{issuer}{V1P2.base}"}],
        "paths": dict(_list_paths()),
        "components": {
            "securitySchemes": {"OAuth2CC": {"type": "oauth2", "flows": {"clientCredentials": flow}}},
        },
    }


def _list_paths() -> Iterator[tuple[str, Any]]:
    for name, face in FACES.items():
        demographics = name == "demographics"
        scopes = ["roster-demographics.readonly"] if demographics else ["roster-core.readonly", "roster.readonly"]
        yield f"/{name}", _describe(f"A page of {name}", face.collection, scopes, _LIST_PARAMETERS)
        yield f"/{name}/{{sourcedId}}", _describe(f"One of {name}", face.single, scopes, {"fields": "string"}, 1)
    for (parent, name), relation in RELATIONS.items():
        summary = f"A page of the {name} of one of {parent}"
        path = f"/{parent}/{{sourcedId}}/{name}"
        yield path, _describe(summary, relation.face.collection, ["roster.readonly"], _LIST_PARAMETERS, 1)
    for name, relation in OF_CLASS_IN_SCHOOL.items():
        summary = f"A page of the {name} of a class in a school"
        path = f"/schools/{{sourcedId}}/classes/{{classSourcedId}}/{name}"
        yield path, _describe(summary, relation.face.collection, ["roster.readonly"], _LIST_PARAMETERS, 2)


def _describe(summary: str, wrapper: str, scopes: list[str], asked: dict[str, str], ids: int = 0) -> dict[str, Any]:
    query = [{"name": name, "in": "query", "schema": {"type": kind}} for name, kind in asked.items()]
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("sourcedId", "classSourcedId")[:ids]
    ]
    schema = {"type": "object", "required": [wrapper], "properties": {wrapper: {}}}
    return {
        "get": {
            "summary": summary,
            "parameters": [*path, *query],
            "security": [{"OAuth2CC": [f"{_PURL}{scope}"]} for scope in scopes],
            "responses": {
                "200": {"description": summary, "content": {"application/json": {"schema": schema}}},
                **RESPONSES,
            },
        }
    }
