"""What products are promised of events: schemas that only grow, and a rule that notices when they don't."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from homeroom_local.documents import write_documents
from homeroom_local.event_schemas import find_breaks, make_schemas

PROMISED = Path(__file__).parents[1] / "docs/events"
Json = dict[str, Any]

BEFORE: Json = {
    "type": "object",
    "required": ["sourcedId", "record"],
    "properties": {"sourcedId": {"type": "string"}, "record": {"$ref": "#/$defs/User"}},
    "$defs": {
        "User": {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"enum": ["student", "teacher"]},
                "born": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
                "roles": {"type": "array", "items": {"$ref": "#/$defs/Role"}},
            },
        },
        "Role": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}


def _user(schema: Json) -> Json:
    found: Json = schema["$defs"]["User"]
    return found


def _rename(schema: Json) -> None:
    fields = _user(schema)["properties"]
    fields["birthDate"] = fields.pop("born")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one["properties"].pop("sourcedId"), "data.sourcedId is gone"),
        (_rename, "data.record.born is gone"),
        (lambda one: one["properties"].update(sourcedId={"type": "integer"}), "data.sourcedId has another type"),
        (lambda one: _user(one)["properties"]["born"]["anyOf"].pop(), "data.record.born is of other types"),
        (lambda one: _user(one)["properties"]["born"]["anyOf"][0].update(format="date-time"), "another format"),
        (lambda one: _user(one)["properties"]["role"]["enum"].remove("teacher"), "has lost values: teacher"),
        (lambda one: one["required"].remove("record"), "data.record may be missing now"),
        (lambda one: _user(one)["required"].append("born"), "data.record.born must be there now"),
        (lambda one: one["$defs"]["Role"]["properties"].update(at={"enum": ["a"]}), "data.record.roles[].at"),
        (lambda one: _user(one)["properties"]["roles"].pop("items"), "data.record.roles[] is of another type"),
    ],
)
def test_what_breaks_readers(change: Callable[[Json], object], said: str) -> None:
    """What is gone, renamed, of another type or newly required is noticed, however deep it lies."""
    after = copy.deepcopy(BEFORE)
    change(after)
    assert said in "; ".join(find_breaks(BEFORE, after))


def test_what_breaks_nobody() -> None:
    """New optional fields, new values, new definitions and other descriptions are fine."""
    after = copy.deepcopy(BEFORE)
    after["description"] = "said better"
    _user(after)["properties"]["nickname"] = {"type": "string"}
    _user(after)["properties"]["role"]["enum"].append("aide")
    after["$defs"]["Human"] = after["$defs"].pop("User")
    after["properties"]["record"] = {"$ref": "#/$defs/Human"}
    assert find_breaks(BEFORE, BEFORE) == []
    assert find_breaks(BEFORE, after) == []


def test_promises_are_kept() -> None:
    """Whoever reads by the schemas that are published can read all that is sent, and no type is told no more."""
    made = make_schemas()
    published = {path.name.removesuffix(".schema.json"): path for path in PROMISED.glob("*.schema.json")}
    assert published.keys() == made.keys()
    for name, path in published.items():
        schema = json.loads(path.read_text("utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        assert find_breaks(schema, made[name]) == [], name


@pytest.mark.parametrize(
    ("name", "schema", "why"),
    [
        ("homeroom.test.v1", {"type": "object", "properties": {"told": {"type": "string"}}}, "data.told is gone"),
        ("homeroom.user.adopted.v1", {}, "homeroom.user.adopted.v1 is told no more"),
    ],
)
def test_a_promise_is_not_written_over(tmp_path: Path, name: str, schema: Json, why: str) -> None:
    """`make docs` refuses to write a schema that would break somebody."""
    source = tmp_path / "events"
    source.mkdir()
    (source / f"{name}.schema.json").write_text(json.dumps(schema))
    with pytest.raises(ValueError, match=why):
        write_documents(tmp_path / "written", tmp_path)
