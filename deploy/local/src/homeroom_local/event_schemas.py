"""What each event that products are told carries, as JSON Schema, and whether a change of that breaks anybody.

The schemas are written to `docs/events/` and stay there: whoever reads events of a type by today's schema must be able
to read all that are sent later, and those that are kept from before. What can't be changed so needs a new type (`.v2`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from homeroom.events import EVENT_DATA, RECORD_EVENTS, SPEC_VERSION, RecordData
from homeroom.roster import RECORD_TYPES
from roster_store.subscriptions.batches import ENVELOPE, TEST, TestData

Schema = Mapping[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MEANINGS: Final = {
    "added": "A record of {collection} is new, or is seen for the first time.",
    "updated": "A record of {collection} has changed; whoever does not know it takes it for new.",
    "removed": "A record of {collection} is gone; the record is the last one known, or its sourcedId alone.",
    "activated": "A record of {collection} has woken up, because its class was started or its person came in.",
}


def list_events() -> list[str]:
    """The types of events that products are told, in alphabetical order."""
    return sorted({*EVENT_DATA, TEST})


def list_described() -> list[type[msgspec.Struct]]:
    """The structs that the descriptions of events point to."""
    others: list[type[msgspec.Struct]] = [TestData]
    for kind in EVENT_DATA.values():
        if kind is not RecordData and kind not in others:
            others.append(kind)
    return [*RECORD_TYPES.values(), *others]


def describe_event(name: str, place: str) -> tuple[str, dict[str, Any]]:
    """An event's meaning, and the schema of its data, which points to structs at `place` + their name."""
    collection = RECORD_EVENTS.get(name)
    if collection is None:
        data = EVENT_DATA.get(name, TestData)
        return (data.__doc__ or "").strip().partition("\n")[0], {"$ref": f"{place}{data.__name__}"}
    change = name.split(".")[2]
    record: dict[str, Any] = {"$ref": f"{place}{RECORD_TYPES[collection].__name__}"}
    if change == "removed":
        alone = {"type": "object", "required": ["sourcedId"], "properties": {"sourcedId": {"type": "string"}}}
        record = {"anyOf": [record, alone]}
    return _MEANINGS[change].format(collection=collection), {
        "type": "object",
        "required": ["sourcedId", "version", "record"],
        "properties": {
            "sourcedId": {"type": "string"},
            "version": {"type": "integer", "description": "grows with every change of this record that is told"},
            "record": record,
        },
    }


def describe_envelope(events: Schema) -> dict[str, Any]:
    """The schema of a webhook's body; `events` describes one of its events."""
    return {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": ENVELOPE},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": {
                "type": "object",
                "required": ["subscription_id", "events", "cursor"],
                "properties": {
                    "subscription_id": {"type": "string", "format": "uuid"},
                    "events": {"type": "array", "items": dict(events)},
                    "cursor": {
                        "anyOf": [{"type": "string"}, {"type": "null"}],
                        "description": "the place in the feed after these events; null for a test",
                    },
                },
            },
        },
    }


def describe_cloudevent(name: str | None = None, data: Schema | None = None) -> dict[str, Any]:
    """The schema of an event as webhooks and the pull feed give it: a CloudEvent in structured form, of any type."""
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "time", "data"],
        "properties": {
            "specversion": {"const": SPEC_VERSION},
            "id": text,
            "source": text,
            "type": text if name is None else {"const": name},
            "subject": text,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": text,
            "data": dict(data or {"type": "object", "description": "what events of this type carry"}),
        },
    }


def make_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each event's data by its type, complete in itself, and that of a webhook's body."""
    _, components = msgspec.json.schema_components(list_described(), ref_template="#/$defs/{name}")
    found = {}
    for name in list_events():
        meaning, schema = describe_event(name, "#/$defs/")
        found[name] = {"$schema": _DIALECT, "title": name, "description": meaning, **schema}
        if needed := sorted(_follow(schema, components)):
            found[name]["$defs"] = {one: components[one] for one in needed}
    meaning = "The body of a webhook: some events in a row (Standard Webhooks)."
    envelope = describe_envelope(describe_cloudevent())
    found[ENVELOPE] = {"$schema": _DIALECT, "title": ENVELOPE, "description": meaning, **envelope}
    return copy.deepcopy(found)


def _follow(schema: object, components: Schema) -> set[str]:
    """The names of all the definitions that a schema leads to."""
    found: set[str] = set()
    waiting: list[object] = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                waiting.append(components[name])
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


# ── what may change ───────────────────────────────────────────────────────────────────────────────────────────────


def find_breaks(before: Schema, after: Schema) -> list[str]:
    """Why readers of events by the schema `before` could not read by the schema `after`; empty where they can.

    New optional fields and new values of an enumeration break nobody: readers let by what they don't know. A field that
    is gone, is of another type or format, may be missing now, or must be there now (kept events lack it) does; so does
    a value of an enumeration that is gone, for it has another name now.
    """
    return list(_compare("data", before, before, after, after))


def _compare(place: str, before: Schema, all_before: Schema, after: Schema, all_after: Schema) -> Iterator[str]:
    before, after = _resolve(before, all_before), _resolve(after, all_after)
    for word in ("type", "const", "format", "contentEncoding"):
        if before.get(word) != after.get(word):
            yield f"{place} has another {word}: {before.get(word)} is {after.get(word)} now"
    if gone := [value for value in before.get("enum", ()) if value not in after.get("enum", ())]:
        yield f"{place} has lost values: {', '.join(map(str, gone))}"
    if "enum" in after and "enum" not in before:
        yield f"{place} is limited to some values now"
    yield from _compare_fields(place, before, all_before, after, all_after)
    for word in ("items", "additionalProperties"):
        part, part_after = before.get(word), after.get(word)
        if isinstance(part, Mapping) and isinstance(part_after, Mapping):
            yield from _compare(f"{place}[]", part, all_before, part_after, all_after)
        elif part != part_after:
            yield f"{place}[] is of another type"
    yield from _compare_ways(place, before, all_before, after, all_after)


def _compare_fields(place: str, before: Schema, all_before: Schema, after: Schema, all_after: Schema) -> Iterator[str]:
    fields, fields_after = before.get("properties", {}), after.get("properties", {})
    for name, field in fields.items():
        if name in fields_after:
            yield from _compare(f"{place}.{name}", field, all_before, fields_after[name], all_after)
        else:
            yield f"{place}.{name} is gone"
    needed, needed_after = set(before.get("required", ())), set(after.get("required", ()))
    for name in sorted(needed & fields_after.keys() - needed_after):
        yield f"{place}.{name} may be missing now"
    for name in sorted(needed_after - needed):
        yield f"{place}.{name} must be there now, and events that are kept lack it"


def _compare_ways(place: str, before: Schema, all_before: Schema, after: Schema, all_after: Schema) -> Iterator[str]:
    ways, ways_after = before.get("anyOf", []), after.get("anyOf", [])
    if len(ways) != len(ways_after):
        yield f"{place} is of other types"
    else:
        for way, way_after in zip(ways, ways_after, strict=True):
            yield from _compare(place, way, all_before, way_after, all_after)


def _resolve(schema: Schema, everything: Schema) -> Schema:
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if not name:
        return schema
    found: Schema = everything["$defs"][name]
    return found
