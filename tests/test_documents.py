"""The generated documents are those of the code, and valid."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import msgspec
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from homeroom import messages
from homeroom.codes import Code
from homeroom.events import EVENT_TYPES, Event, RecordData, to_message
from homeroom.roster import Class, encode_record
from homeroom_local.asyncapi import CHANNELS
from homeroom_local.documents import SERVICES, fill, write_documents
from roster_store.feed import Cursor, FeedEvent, Page
from roster_store.subscriptions.batches import ENVELOPE, TEST, cut, make_test, write_body, write_test

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
AT = datetime(2026, 9, 1, 6, tzinfo=UTC)

Json = dict[str, Any]


def _load(name: str) -> Json:
    found: Json = json.loads((DOCS / name).read_text("utf-8"))
    return found


def _check(document: Json, schema: Json, value: object) -> None:
    """Validate a value against a schema that may point into the document's components."""
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_documents_are_up_to_date(tmp_path: Path) -> None:
    """What is committed is what `make docs` would write."""
    for written in write_documents(tmp_path, DOCS):
        committed = DOCS / written.relative_to(tmp_path)
        assert committed.exists(), f"{committed.name} is missing; run `make docs`"
        assert committed.read_text("utf-8") == written.read_text("utf-8"), f"run `make docs` for {committed.name}"


def test_a_table_without_its_place_is_refused() -> None:
    """A hand-written document that lost its markers is noticed, not skipped."""
    with pytest.raises(ValueError, match="no place for settings"):
        fill("# Operations", "settings", "…")


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_openapi_documents_are_valid(service: Any) -> None:
    """Each API is described by a valid OpenAPI 3.1 document, every operation with a name, a summary and a tag."""
    document = _load(f"api/{service.name}.openapi.json")
    jsonschema.Draft202012Validator(OPENAPI_31).validate(document)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert sorted(set(names)) == sorted(names)
    assert all(operation["summary"] and operation["tags"] for operation in operations)


def test_every_setting_says_what_it_is() -> None:
    """No setting has to be looked up in the code."""
    for service in SERVICES:
        for settings in service.roles.values():
            assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_every_code_is_described() -> None:
    """The list of codes has each of them once, with its words."""
    listed = re.findall(r"^## `([A-Z_0-9]+)`$", (DOCS / "codes.md").read_text("utf-8"), re.MULTILINE)
    assert listed == list(Code)


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────


BY_REGION = {*messages.JOB_TOPICS, *messages.INQUIRY_TOPICS}


def test_every_topic_is_described() -> None:
    """Each topic has a channel, and each reference in the document leads somewhere."""
    document = _load("asyncapi.json")
    described = {channel["address"] for channel in document["channels"].values()}
    topics = {topic.name for topic in messages.TOPICS if topic not in BY_REGION}
    of_many = {messages.jobs_topic("{region}"), messages.inquiries_topic("{region}"), "product-events.{product_id}"}
    assert described == topics | of_many | {None}  # webhooks go to addresses of others
    for reference in re.findall(r'"#/([^"]+)"', json.dumps(document)):
        place: Any = document
        for part in reference.split("/"):
            place = place[part]


def test_every_event_is_described() -> None:
    """Every type of events there is stands in the channels that tell of it, and a test besides in a product's own."""
    document = _load("asyncapi.json")
    assert set(document["channels"]["roster-events"]["messages"]) == EVENT_TYPES
    assert set(document["channels"]["product-events"]["messages"]) == EVENT_TYPES | {TEST}


def test_messages_are_what_the_document_says() -> None:
    """Messages as they are sent fit the schemas they are described by."""
    document = _load("asyncapi.json")
    record = Class(sourced_id="c1", title="Maths", school_sourced_id="s1", term_sourced_ids=("t1",))
    common: Json = {"run_id": "r", "attempt": 1, "integration_id": "i"}
    sent = (
        messages.to_jobs(
            messages.SyncJob(
                **common,
                run_number=1,
                organization_id="o",
                provider="oneroster",
                connection={"endpoint_url": "https://sis.example"},
                sealed_secret="sealed",
                options=messages.Options(),
                deadline=AT,
                today=AT.date(),
            ),
            "us",
        ),
        messages.to_changes(
            messages.Chunk(
                fetch_id="f",
                integration_id="i",
                seq=0,
                collection="classes",
                records=msgspec.Raw(b"[" + encode_record(record) + b"]"),
                fingerprints=bytes(8),
            )
        ),
        messages.to_facts(messages.Failed(**common, at=AT, code=Code.PROV_TIMEOUT, detail="It was late.", again=True)),
        messages.to_tenancy(messages.OrganizationState(id="o", name="Willow Creek")),
    )
    names = ("SyncJob", "Chunk", "Failed", "OrganizationState")
    for name, message in zip(names, sent, strict=True):
        value = json.loads(message.value)
        _check(document, document["components"]["messages"][name]["payload"], value)
        with pytest.raises(jsonschema.ValidationError):
            _check(document, document["components"]["messages"][name]["payload"], {**value, "type": "else"})


def test_events_are_what_the_document_says() -> None:
    """An event as products get it fits the headers and the payload it is described by."""
    document = _load("asyncapi.json")
    event = Event(
        id="7-1",
        source="/integrations/i",
        type="homeroom.class.added.v1",
        subject="classes/c1",
        time=AT,
        data=RecordData(
            sourced_id="c1", version=1, record=Class(sourced_id="c1", title="Maths", school_sourced_id="s1")
        ),
    )
    message = to_message(event, "i")
    described = document["components"]["messages"][event.type]
    _check(document, described["headers"], dict(message.headers))
    _check(document, described["payload"], json.loads(message.value))
    page = Page([FeedEvent(event, "i", Cursor(7, 1))], Cursor(7), more=False)
    webhook = document["components"]["messages"][ENVELOPE]["payload"]
    posted = json.loads(write_body(UUID(int=1), cut(page)))
    _check(document, webhook, posted)
    _check(document, webhook, json.loads(write_test(UUID(int=1), make_test(UUID(int=1), UUID(int=2), AT))))
    del posted["data"]["events"][0]["data"]["record"]["title"]
    with pytest.raises(jsonschema.ValidationError):
        _check(document, webhook, posted)


def test_senders_and_receivers_are_services() -> None:
    """The document names no service that does not exist."""
    known = {service.name for service in SERVICES}
    assert {name for channel in CHANNELS for name in (*channel.senders, *channel.receivers)} <= known
