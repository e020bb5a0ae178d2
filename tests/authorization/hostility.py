"""Calls that are valid but for one value, which is chosen to hurt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from authorization.rules import Call, Ids, Rule

IN_PATHS: Final = ("a%00b", "%ED%A0%80", "9" * 400, "..%2F..%2Fx", "x" * 3_000)
IN_QUERIES: Final = ("\0", "9" * 400, "-1", "\u202e\uffff")
IN_BODIES: Final[tuple[Any, ...]] = ("a\0b", "\ud800", 10**400, 2**63, "x" * 40_000, ["\0"], {"\0": "\ud800"})
TIMES: Final = ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59")
"""Moments that lie in no year that can be counted with, once they are in UTC."""
WHOLE_BODIES: Final = (b"", b"{", b"\xff\xfe", b"null", b"[" * 50_000, b'{"a":' * 20_000)
_TIMED: Final = re.compile(r"(at|from|until|since|date|time)$")

Document = dict[str, Any]
Place = tuple[str, ...]


def vary(rule: Rule, ids: Ids, document: Document) -> Iterator[Call]:
    """Calls of a rule's route with hostile values in each place that takes one."""
    operation = document["paths"].get(rule.path.replace(":path}", "}"), {}).get(rule.method.lower(), {})
    for name in _list_parameters(operation, "path"):
        for value in IN_PATHS:
            yield replace(rule, ids={**rule.ids, name: value}).call(ids)
    call = rule.call(ids)
    for name in _list_parameters(operation, "query"):
        for value in IN_QUERIES + (TIMES if _TIMED.search(name) else ()):
            yield replace(call, query={**call.query, name: value})
    if rule.content is not None:
        yield replace(call, content=bytes(10))
    elif "requestBody" in operation:
        yield from _vary_body(call, _list_fields(operation, document, call.body))


def _vary_body(call: Call, fields: set[Place]) -> Iterator[Call]:
    for content in WHOLE_BODIES:
        yield _with_body(call, content)
    body = call.body if isinstance(call.body, dict) else {}
    for place in sorted(fields | set(_list_leaves(body))):
        for value in IN_BODIES + (TIMES if _TIMED.search(place[-1]) else ()):
            yield _with_body(call, json.dumps(_set(body, place, value)).encode())


def _list_parameters(operation: Document, where: str) -> list[str]:
    return [one["name"] for one in operation.get("parameters", ()) if one["in"] == where]


def _list_fields(operation: Document, document: Document, body: Any) -> set[Place]:
    """The fields a body may have, and those of the objects that stand in the valid one."""
    schema = operation["requestBody"]["content"].get("application/json", {}).get("schema", {})
    waiting: list[tuple[Place, Document, Any]] = [((), schema, body)]
    found: set[Place] = set()
    while waiting:
        place, schema, value = waiting.pop()
        if "$ref" in schema:
            waiting.append((place, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], value))
        waiting += [(place, one, value) for one in schema.get("anyOf", [])]
        for name, inner in schema.get("properties", {}).items():
            found.add((*place, name))
            if isinstance(value, dict) and isinstance(value.get(name), dict):
                waiting.append(((*place, name), inner, value[name]))
    return found


def _list_leaves(value: dict[str, Any]) -> Iterator[Place]:
    """Where values stand in a body that is valid, objects in objects included."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from ((name, *below) for below in _list_leaves(inner))
        else:
            yield (name,)


def _set(body: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """The body with another value in one place."""
    name, *below = place
    return {**body, name: _set(body[name], tuple(below), value) if below else value}


def _with_body(call: Call, content: bytes) -> Call:
    return replace(call, body=None, content=content, headers={**call.headers, "Content-Type": "application/json"})
