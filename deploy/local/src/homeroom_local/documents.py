"""Writes the documents that are made from code: `python -m homeroom_local.documents [FOLDER]`.

`api/<service>.openapi.json` (OpenAPI 3.1), `asyncapi.json` (AsyncAPI 3), `codes.md`, and in `operations.md` and
`privacy.md` the tables between the markers; `events/` holds the schemas of events, which may only grow. A test
compares what is committed with what this would write.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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
from homeroom import telemetry
from homeroom.codes import ACTORS, Code
from homeroom.secrets import generate_key
from homeroom.settings import PREFIX, Settings
from homeroom_local.asyncapi import describe_messages
from homeroom_local.event_schemas import find_breaks, make_schemas
from homeroom_local.privacy_tables import describe_holdings, describe_retention, describe_sign_in, describe_topics

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
    private, _ = generate_key()
    return roster_store.app.make_app(_configure(roster_store.settings.StoreSettings, store_key=private))


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
    Service("sso", "sso", {"api": sso.settings.Settings, "worker": sso.settings.Settings}, _make_sso),
)


def write_documents(folder: Path, source: Path = DOCS) -> list[Path]:
    """Write every generated document into a folder; hand-written parts come from `source`. Returns what was written."""
    texts = {f"api/{service.name}.openapi.json": _to_json(service.make_app().openapi()) for service in SERVICES}
    texts["asyncapi.json"] = _to_json(describe_messages())
    texts |= {f"events/{name}.schema.json": _to_json(schema) for name, schema in _keep_promises(source).items()}
    texts["codes.md"] = describe_codes()
    operations = (source / "operations.md").read_text("utf-8")
    for name, table in {"settings": describe_settings(), "metrics": describe_metrics()}.items():
        operations = fill(operations, name, table)
    texts["operations.md"] = operations
    privacy = (source / "privacy.md").read_text("utf-8")
    kept = {"holdings": describe_holdings(), "sign-in": describe_sign_in()}
    kept |= {"retention": describe_retention(), "topics": describe_topics()}
    for name, table in kept.items():
        privacy = fill(privacy, name, table)
    texts["privacy.md"] = privacy
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return [folder / name for name in texts]


def _keep_promises(source: Path) -> dict[str, dict[str, Any]]:
    """The schemas of events. Raises ValueError where one would break those who read by the schema that is there."""
    schemas = make_schemas()
    for path in sorted((source / "events").glob("*.schema.json")):
        name = path.name.removesuffix(".schema.json")
        if name not in schemas:
            msg = f"{name} is told no more, but is promised in {path.name}"
            raise ValueError(msg)
        if breaks := find_breaks(json.loads(path.read_text("utf-8")), schemas[name]):
            msg = f"{name} would break those who read it, so it needs a new version: {'; '.join(breaks)}"
            raise ValueError(msg)
    return schemas


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


def _to_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for written in write_documents(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS):
        sys.stdout.write(f"{written}\n")
