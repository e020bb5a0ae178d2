"""Writes the documents that are made from code: `python -m homeroom_local.documents [FOLDER]`.

`api/<service>.openapi.json` (OpenAPI 3.1), `asyncapi.json` (AsyncAPI 3), `codes.md`, and in `operations.md` the tables
between the markers. A test compares what is committed with what this would write.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
from fastapi import FastAPI
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import provider_gateway.app
import provider_gateway.settings
import roster_store.app
import roster_store.settings
import sso.app
import sso.settings
import sync_scheduler.app
import sync_scheduler.settings
from homeroom import messages, telemetry
from homeroom.bus import MAX_MESSAGE_BYTES, Topic, deadletter
from homeroom.codes import ACTORS, Code
from homeroom.events import SPEC_VERSION, SYNC_APPLIED, AppliedData, event_type
from homeroom.roster import ENTITY_NAMES, RECORD_TYPES
from homeroom.secrets import generate_key
from homeroom.settings import PREFIX, Settings

DOCS = Path("docs")
S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Service:
    """A service as it is documented and deployed."""

    name: str
    package: str
    roles: Mapping[str, type[Settings]]
    """Its long-running roles, and what each is configured with."""
    make_app: Callable[[], FastAPI]


def _configure(settings: type[S], **own: str) -> S:
    """Settings to make an app with; nothing is opened, and nothing of them gets into a document."""
    return settings.model_validate(
        {"database_url": "postgresql://localhost/homeroom", "issuer": "http://127.0.0.1:8000", **own}
    )


def _make_scheduler() -> FastAPI:
    _, public = generate_key()
    return sync_scheduler.app.make_app(_configure(sync_scheduler.settings.ApiSettings, gateway_public_key=public))


def _make_gateway() -> FastAPI:
    return provider_gateway.app.build(_configure(provider_gateway.settings.GatewaySettings))


def _make_store() -> FastAPI:
    return roster_store.app.make_app(_configure(roster_store.settings.StoreSettings))


def _make_sso() -> FastAPI:
    private, _ = generate_key()
    return sso.app.create(_configure(sso.settings.Settings, sso_key=private))


_GATEWAY, _STORE = provider_gateway.settings.GatewaySettings, roster_store.settings.StoreSettings
SERVICES = (
    Service(
        "sync-scheduler",
        "sync_scheduler",
        {"api": sync_scheduler.settings.ApiSettings, "worker": sync_scheduler.settings.SchedulerSettings},
        _make_scheduler,
    ),
    Service(
        "provider-gateway",
        "provider_gateway",
        {"api": _GATEWAY, "worker": _GATEWAY, "inbox": _GATEWAY},
        _make_gateway,
    ),
    Service("roster-store", "roster_store", {"api": _STORE, "worker": _STORE}, _make_store),
    Service("sso", "sso", {"api": sso.settings.Settings}, _make_sso),
)


def write_documents(folder: Path, source: Path = DOCS) -> list[Path]:
    """Write every generated document into a folder; hand-written parts come from `source`. Returns what was written."""
    texts = {f"api/{service.name}.openapi.json": _to_json(service.make_app().openapi()) for service in SERVICES}
    texts["asyncapi.json"] = _to_json(describe_messages())
    texts["codes.md"] = describe_codes()
    operations = (source / "operations.md").read_text("utf-8")
    for name, table in {"settings": describe_settings(), "metrics": describe_metrics()}.items():
        operations = fill(operations, name, table)
    texts["operations.md"] = operations
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return [folder / name for name in texts]


def fill(text: str, name: str, content: str) -> str:
    """Put content between the markers of that name. Raises ValueError if the text has none."""
    begin, end = f"<!-- {name}: written by `make docs` -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        msg = f"there is no place for {name}: the markers {begin} and {end} are missing"
        raise ValueError(msg)
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


# ── codes, settings, metrics ──────────────────────────────────────────────────────────────────────────────────────


def describe_codes() -> str:
    """Every code with its words, under a heading of its own to be linked to."""
    parts = [
        "# Codes",
        "What runs, records, schedules, answers and dead letters are marked with. A code keeps its meaning for ever.",
        "Written by `make docs` from `homeroom/codes.py`.",
        "| who can act | who that is |\n| --- | --- |\n"
        + "\n".join(f"| {who} | {meaning} |" for who, meaning in ACTORS.items()),
    ]
    for code in Code:
        entry = code.entry
        told = f"**{entry.title}.** {entry.cause}\n\nWho can act: {entry.who}. What to do next: {entry.next_step}"
        parts.append(f"## `{code}`\n\n{told}")
    return "\n\n".join(parts) + "\n"


def describe_settings() -> str:
    """A table of what all services are configured with, and one for each service of what only it is."""
    parts = ["### Every service", _settings_table(Settings.model_fields)]
    for service in SERVICES:
        own: dict[str, tuple[FieldInfo, list[str]]] = {}
        for role, settings in service.roles.items():
            for name, field in settings.model_fields.items():
                common = Settings.model_fields.get(name)
                if common is None or field.description != common.description:  # its own, or not what it is elsewhere
                    own.setdefault(name, (field, []))[1].append(role)
        parts.append(f"### {service.name}")
        only = {name: roles[0] for name, (_, roles) in own.items() if len(roles) < len(service.roles)}
        parts.append(_settings_table({name: field for name, (field, _) in own.items()}, only) if own else "None.")
    return "\n" + "\n\n".join(parts) + "\n"


def _settings_table(fields: Mapping[str, FieldInfo], only: Mapping[str, str] | None = None) -> str:
    def row(name: str, field: FieldInfo) -> tuple[str, str, str]:
        notes = [field.description or "", f"({only[name]} only)" if only and name in only else ""]
        return f"`{PREFIX}{name.upper()}`", _default(field), " ".join(filter(None, notes))

    return _to_table(("variable", "default", "meaning"), (row(name, field) for name, field in fields.items()))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory is not None:
        return "by the machine"
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        value = str(value).lower()
    return "" if value is None or value == "" else f"`{value}`"


def describe_metrics() -> str:
    """Every metric of `homeroom.telemetry` with its labels."""
    rows = []
    for metric in vars(telemetry).values():
        if isinstance(metric, MetricWrapperBase):
            described = next(iter(metric.describe()))
            suffix = "_total" if described.type == "counter" else ""
            labels = ", ".join(metric._labelnames)  # noqa: SLF001 - prometheus-client has no public way to ask
            rows.append((f"`{described.name}{suffix}`", described.type, labels, described.documentation))
    return "\n" + _to_table(("metric", "kind", "labels", "meaning"), rows) + "\n"


def _to_table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(heading)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────


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
        ("provider-gateway", "roster-store"),
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
        "Organizations and integrations as they are now, without secrets.",
        ("sync-scheduler",),
        ("provider-gateway",),
        get_args(messages.TenancyState),
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
    """The AsyncAPI document of every topic."""
    types = [kind for channel in CHANNELS for kind in channel.types]
    shown = [_ChunkInFull if kind is messages.Chunk else kind for kind in types]
    references, schemas = msgspec.json.schema_components(
        [*shown, *RECORD_TYPES.values(), AppliedData], ref_template="#/components/schemas/{name}"
    )
    records = dict(zip(RECORD_TYPES, references[len(types) :], strict=False))
    schemas["Chunk"] = schemas.pop(_ChunkInFull.__name__) | {"title": "Chunk"}
    schemas["Chunk"]["properties"]["records"] = {"type": "array", "items": {"anyOf": list(records.values())}}
    described = {
        kind.__name__: {
            "title": kind.__name__,
            "summary": _first_line(kind.__doc__),
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
        for kind in types
    } | _describe_events(records)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel in CHANNELS:
        names = [kind.__name__ for kind in channel.types] or list(_describe_events(records))
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


def _describe_events(records: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The public events by type: CloudEvents in binary mode, where attributes are headers."""
    events = {
        event_type(collection, change): _describe_event(
            event_type(collection, change),
            f"A record of {collection} was {change}{'; the record is the last one known' * (change == 'removed')}.",
            {
                "type": "object",
                "required": ["sourcedId", "version", "record"],
                "properties": {
                    "sourcedId": {"type": "string"},
                    "version": {"type": "integer", "description": "grows by one with every change of this record"},
                    "record": records[collection],
                },
            },
        )
        for collection in ENTITY_NAMES
        for change in ("added", "updated", "removed")
    }
    applied = {"$ref": f"#/components/schemas/{AppliedData.__name__}"}
    return events | {SYNC_APPLIED: _describe_event(SYNC_APPLIED, "All events of an apply were sent.", applied)}


def _describe_event(name: str, summary: str, payload: dict[str, Any]) -> dict[str, Any]:
    texts = {
        "ce_id": "the same for the same change, however often it is sent",
        "ce_source": "/integrations/{id}",
        "ce_subject": "{collection}/{sourcedId}, or runs/{id}",
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


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def _to_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for written in write_documents(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS):
        sys.stdout.write(f"{written}\n")
