"""The AsyncAPI document: every topic, what travels on it, and what products are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, get_args
from uuid import UUID

import msgspec

from homeroom import messages
from homeroom.bus import MAX_MESSAGE_BYTES, Topic, deadletter
from homeroom.events import EVENT_TYPES, SPEC_VERSION
from homeroom.roster import RECORD_TYPES
from homeroom_local.event_schemas import (
    describe_cloudevent,
    describe_envelope,
    describe_event,
    list_described,
    list_events,
)
from roster_store.subscriptions.batches import ENVELOPE
from roster_store.subscriptions.outlets import topic_of


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic, or several of one kind, as AsyncAPI describes it."""

    name: str
    topic: Topic
    key: str
    meaning: str
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    types: tuple[type[msgspec.Struct], ...] = ()


CHANNELS = (
    Channel(
        "sync-jobs",
        messages.JOB_TOPICS[0],
        "integration id",
        "Syncs to be done, one topic a region.",
        ("sync-scheduler",),
        ("provider-gateway",),
        (messages.SyncJob,),
    ),
    Channel(
        "inquiries",
        messages.INQUIRY_TOPICS[0],
        "integration id",
        "Questions about a district that are answered beside the jobs, one topic a region.",
        ("sync-scheduler",),
        ("provider-gateway",),
        (messages.Inquiry,),
    ),
    Channel(
        "sync-cancellations",
        messages.CANCELLATIONS,
        "run id",
        "Runs and attempts nobody wants any more, heard by every worker.",
        ("sync-scheduler",),
        ("provider-gateway",),
        (messages.CancelRun,),
    ),
    Channel(
        "roster-changes",
        messages.ROSTER_CHANGES,
        "integration id",
        "What a fetch saw that differs from what is stored.",
        ("provider-gateway",),
        ("roster-store",),
        get_args(messages.RosterChange),
    ),
    Channel(
        "sync-facts",
        messages.SYNC_FACTS,
        "integration id",
        "What became of a job or an inquiry, and which files were received.",
        ("provider-gateway", "roster-store", "sso"),
        ("sync-scheduler",),
        get_args(messages.SyncFact),
    ),
    Channel(
        "roster-commands",
        messages.ROSTER_COMMANDS,
        "integration id",
        "What was decided about a held plan, and runs to be undone.",
        ("sync-scheduler",),
        ("roster-store",),
        get_args(messages.StoreCommand),
    ),
    Channel(
        "tenancy",
        messages.TENANCY,
        "kind:id",
        "Organizations, integrations, products and licenses as they are now, without secrets.",
        ("sync-scheduler",),
        ("provider-gateway", "roster-store", "sso"),
        get_args(messages.TenancyState),
    ),
    Channel(
        "sign-ins",
        messages.SIGN_INS,
        "integration id",
        "Rostered people who came into a product.",
        ("sso",),
        ("roster-store",),
        (messages.SignedIn,),
    ),
    Channel(
        "erasures",
        messages.ERASURES,
        "integration id",
        "People who were erased: whoever keeps anything that names them forgets it.",
        ("roster-store",),
        ("sync-scheduler", "provider-gateway", "sso"),
        (messages.Erased,),
    ),
    Channel(
        "roster-events",
        messages.ROSTER_EVENTS,
        "integration id",
        "What changed in the roster, one CloudEvent a record. This is the topic products read.",
        ("roster-store",),
        (),
    ),
)


class _ChunkInFull(messages.Chunk, frozen=True, kw_only=True, rename="camel", tag="chunk", tag_field="type"):
    """Some changed records of one collection, or the keys of some that are gone."""

    records: tuple[dict[str, Any], ...] = ()  # type: ignore[assignment]  # undecoded in the code, a list on the wire


def describe_messages() -> dict[str, Any]:
    """The AsyncAPI document of every topic, and of webhooks."""
    types = [kind for channel in CHANNELS for kind in channel.types]
    shown = [_ChunkInFull if kind is messages.Chunk else kind for kind in types]
    references, schemas = msgspec.json.schema_components(
        [*shown, *list_described()], ref_template="#/components/schemas/{name}"
    )
    records = references[len(types) : len(types) + len(RECORD_TYPES)]
    schemas["Chunk"] = schemas.pop(_ChunkInFull.__name__) | {"title": "Chunk"}
    schemas["Chunk"]["properties"]["records"] = {"type": "array", "items": {"anyOf": list(records)}}
    described = {
        kind.__name__: {
            "title": kind.__name__,
            "summary": _first_line(kind.__doc__),
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
        for kind in types
    }
    described |= {**_describe_events(), ENVELOPE: _describe_webhook()}
    channels: dict[str, Any] = {"product-events": _describe_product_topic(), "webhooks": _describe_webhooks()}
    operations: dict[str, Any] = {
        f"roster-store.send.{name}": {"action": "send", "channel": {"$ref": f"#/channels/{name}"}} for name in channels
    }
    for channel in CHANNELS:
        names = [kind.__name__ for kind in channel.types] or sorted(EVENT_TYPES)
        channels[channel.name] = _describe_channel(channel, names)
        operations |= {
            f"{service}.{action}.{channel.name}": {"action": action, "channel": {"$ref": f"#/channels/{channel.name}"}}
            for action, services in (("send", channel.senders), ("receive", channel.receivers))
            for service in services
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Homeroom: messages",
            "version": "1",
            "description": (
                "Delivery is at least once; order holds per key. A value has at most "
                f"{MAX_MESSAGE_BYTES:,} bytes. What can't be handled goes to `<topic>{deadletter.SUFFIX}` and is kept "
                f"for {deadletter.RETENTION_SECONDS // 86_400} days. `traceparent` travels in the headers."
            ),
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": described, "schemas": schemas},
    }


def _describe_channel(channel: Channel, names: Iterable[str]) -> dict[str, Any]:
    topic = channel.topic
    kept: dict[str, Any] = (
        {"cleanup.policy": ["compact"]}
        if topic.compacted
        else {"cleanup.policy": ["delete"], "retention.ms": topic.retention_seconds * 1000}
    )
    described: dict[str, Any] = {
        "address": topic.name,
        "description": f"{channel.meaning} Key: {channel.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": kept
                if topic.compacted
                else kept | {"retention.ms": topic.retention_seconds * 1000},
            }
        },
    }
    if topic in (*messages.JOB_TOPICS, *messages.INQUIRY_TOPICS):
        name = messages.jobs_topic if topic in messages.JOB_TOPICS else messages.inquiries_topic
        described["address"] = name("{region}")
        described["parameters"] = {"region": {"enum": list(messages.REGIONS)}}
    return described


def _describe_events() -> dict[str, Any]:
    """The public events by type: CloudEvents in binary mode, where attributes are headers."""
    return {name: _describe_event(name, *describe_event(name, "#/components/schemas/")) for name in list_events()}


def _describe_event(name: str, summary: str, payload: dict[str, Any]) -> dict[str, Any]:
    texts = {
        "ce_id": "the same for the same change, however often it is sent",
        "ce_source": "/integrations/{id}; of a test /subscriptions/{id}",
        "ce_subject": "{collection}/{sourcedId}, or what else it is about",
        "ce_time": "when the change was applied, RFC 3339",
    }
    headers = {key: {"type": "string", "description": text} for key, text in texts.items()}
    fixed = {"ce_specversion": SPEC_VERSION, "ce_type": name, "content-type": "application/json"}
    headers |= {key: {"type": "string", "const": value} for key, value in fixed.items()}
    return {
        "title": name,
        "summary": summary,
        "headers": {"type": "object", "required": list(headers), "properties": headers},
        "payload": payload,
    }


# ── what products are told ────────────────────────────────────────────────────────────────────────────────────────

_PRODUCT: Final = "{product_id}"


def _describe_product_topic() -> dict[str, Any]:
    topic = topic_of(UUID(int=0))
    channel = Channel("product-events", topic, "integration id", "What one product is told, and nobody else.", (), ())
    described = _describe_channel(channel, list_events())
    described["address"] = topic.name.replace(str(UUID(int=0)), _PRODUCT)
    described["parameters"] = {"product_id": {"description": "the product's id"}}
    return described


def _describe_webhooks() -> dict[str, Any]:
    return {
        "address": None,
        "description": "What is posted to the url of a subscription, signed by Standard Webhooks. "
        "Any answer of 200 to 299 within ten seconds takes it; anything else is tried again.",
        "messages": {ENVELOPE: {"$ref": f"#/components/messages/{ENVELOPE}"}},
    }


def _describe_webhook() -> dict[str, Any]:
    texts = {
        "webhook-id": "the same for every try; another one for what was asked for again",
        "webhook-timestamp": "when this try was made, in seconds since 1970",
        "webhook-signature": "one signature, or two for 24 hours after a rotation, with a space between them",
    }
    headers = {key: {"type": "string", "description": text} for key, text in texts.items()}
    events = [describe_cloudevent(name, describe_event(name, "#/components/schemas/")[1]) for name in list_events()]
    return {
        "title": ENVELOPE,
        "summary": "Some events in a row.",
        "headers": {"type": "object", "required": list(headers), "properties": headers},
        "payload": describe_envelope({"oneOf": events}),
        "bindings": {"http": {"bindingVersion": "0.3.0"}},
    }


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]
