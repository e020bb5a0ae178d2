"""Logs, traces and metrics, and that none of them holds a person or a secret.

Logs are JSON on stderr, one object a line, through structlog; the standard library's logging goes the same way.
Spans run through HTTP, the bus (`inject_headers`, `span_from`) and SQL (`traced_sql`) and are exported only where a
collector is configured. Metrics are declared here, once, and nowhere else.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

from homeroom.bus import Message

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from homeroom.settings import Settings

# ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────
# Labels are few and bounded: routes, states, collections; never an id.

HTTP_SECONDS = Histogram(
    "homeroom_http_request_seconds",
    "HTTP requests answered, and how long it took",
    ("method", "route", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BUS_MESSAGES = Counter(
    "homeroom_bus_messages", "Messages by what became of them: handled, failed, dead", ("topic", "outcome")
)
BUS_LAG = Gauge("homeroom_bus_lag", "Messages not yet committed by a consumer group", ("group",))
SYNC_RUNS = Counter("homeroom_sync_runs", "Sync runs by the state they ended in", ("state",))
RUN_SECONDS = Histogram(
    "homeroom_sync_run_seconds",
    "How long sync runs took from start to end",
    ("state",),
    buckets=(1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600),
)
HEARTBEAT_AGE = Gauge("homeroom_sync_heartbeat_age_seconds", "Age of the oldest heartbeat among runs under way")
RECORDS = Counter(
    "homeroom_records",
    "Records by collection and kind: served, added, changed, unchanged, removed, filtered, quarantined",
    ("collection", "kind"),
)
APPLY_SECONDS = Histogram(
    "homeroom_apply_seconds", "How long applying a plan took", buckets=(0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900)
)
HOLDS = Counter("homeroom_holds", "Plans held for a person by the guard")
RELAY_EVENTS = Counter("homeroom_relay_events", "Roster events put on the bus", ("type",))
SUBSCRIPTION_SENDINGS = Counter(
    "homeroom_subscription_sendings",
    "Batches sent to subscriptions by what became of them: taken, refused, disabled",
    ("kind", "outcome"),
)
SUBSCRIPTION_EVENTS = Counter("homeroom_subscription_events", "Events that subscriptions took", ("kind",))
SUBSCRIPTION_LAG = Gauge(
    "homeroom_subscription_lag_seconds", "Age of the oldest step that an active subscription has not been told"
)
SUBSCRIPTIONS_DISABLED = Gauge("homeroom_subscriptions_disabled", "Subscriptions that are not told anything now")
FETCH_PAGES = Counter("homeroom_fetch_pages", "Pages fetched from providers", ("provider",))
FETCH_BYTES = Counter("homeroom_fetch_bytes", "Bytes fetched from providers, as they came over the wire", ("provider",))
FETCH_RETRIES = Counter("homeroom_fetch_retries", "Requests to providers that had to be repeated", ("provider",))
LAUNCHES = Counter(
    "homeroom_launches",
    "Launches that ended, by kind of upstream, purpose, and outcome: completed, abandoned, or a refusal's code",
    ("kind", "purpose", "outcome"),
)
CERTIFICATE_DAYS = Gauge(
    "homeroom_connection_certificate_days",
    "Days until the next certificate of an identity connection runs out; negative where the last one has",
)
TOKENS = Counter("homeroom_tokens", "Access tokens asked for, by outcome: issued, refused", ("outcome",))

# ── logs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# fmt: off
REFUSED_KEYS: Final = frozenset({
    "access_token", "address", "agents", "api_key", "assertion", "authorization", "birth_date", "birthdate", "body",
    "client_secret", "connection", "cookie", "credentials", "demographics", "display_name", "district_token", "dob",
    "email", "emails", "family_name", "first_name", "full_name", "given_name", "headers", "id_token", "identifier",
    "last_name", "middle_name", "name", "nickname", "oauth_token", "params", "parent", "password", "payload",
    "person", "phone", "phones", "preferred_first_name", "preferred_given_name", "private_key", "query", "record",
    "records", "refresh_token", "sealed_secret", "secret", "secrets", "set_cookie", "signature", "sms", "student",
    "token", "username", "value",
})
# fmt: on
"""What may hold a person or a secret. Keys are compared in snake_case, so `givenName` is refused as well."""

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]")
_TELLTALE = re.compile(
    r"(?P<mail>[\w.+-]+@[\w-]+\.[\w.-]+)|(?P<bearer>\b(?:bearer|basic)\s+[\w.~+/=-]{8,})"
    r"|(?P<jwt>\beyJ[\w-]+\.[\w.-]+)|(?<=://)(?P<login>[^/\s:@]+:[^/\s@]+)(?=@)|(?<=\?)(?P<query>[^\s\"']*=[^\s\"']*)",
    re.IGNORECASE,
)
_MARKS, _WORDS = ("@", "?"), ("eyj", "bearer", "basic")
"""Without any of these nothing of `_TELLTALE` can be in a text."""
_TELLING = (AssertionError, AttributeError, ImportError, NameError, OSError, RuntimeError, TypeError)
"""Built-in errors whose texts speak of code and machines, not of values; others are told by their type only."""

_our_packages = {"homeroom"}
"""Whose errors are told in full: by convention their texts hold no personal data. `configure` adds the service's."""

get_logger = structlog.stdlib.get_logger


def mask(text: str) -> str:
    """The text with e-mail addresses, tokens, passwords in URLs and query strings taken out."""
    if not any(mark in text for mark in _MARKS) and not any(mark in text.lower() for mark in _WORDS):
        return text  # quicker than looking for each, and most texts are ids
    return _TELLTALE.sub(lambda found: f"[{found.lastgroup}]", text)


def refuse_personal(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A log processor: whatever is passed under a refused key is dropped, and that it was is kept."""
    refused: set[str] = set()
    cleaned = {
        key: value if key[:1] == "_" else _clean(value, refused) for key, value in event.items() if _may(key, refused)
    }
    if refused:
        cleaned["refused"] = sorted(refused)
    return cleaned


def _may(key: str, refused: set[str]) -> bool:
    if _WORD.sub("_", key).lower() in REFUSED_KEYS:
        refused.add(key)
        return False
    return True


def _clean(value: Any, refused: set[str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {str(key): _clean(inner, refused) for key, inner in value.items() if _may(str(key), refused)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(inner, refused) for inner in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return mask(str(value))


def explain_error(error: BaseException) -> dict[str, Any]:
    """An exception as it may be logged: its type and where it came from; its text only if that can't hold a value.

    A `ValueError` quotes what it could not read and Postgres quotes the row it refused, so those stay away.
    """
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    told: dict[str, Any] = {
        "type": type(error).__name__,
        "at": [f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, _TELLING) or type(error).__module__.partition(".")[0] in _our_packages:
        told["text"] = str(error)
    if state := getattr(error, "sqlstate", None):
        told |= {"sqlstate": state, "constraint": getattr(error, "constraint_name", None)}
    if isinstance(error, BaseExceptionGroup):
        told["errors"] = [explain_error(inner) for inner in error.exceptions]
    elif cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        told["cause"] = explain_error(cause)
    return told


def _explain(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    found = event.pop("exc_info", None)
    if found:
        error = (
            found if isinstance(found, BaseException) else found[1] if isinstance(found, tuple) else sys.exc_info()[1]
        )
        if error is not None:
            event["error"] = explain_error(error)
    return event


def _add_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event


def _encode(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


_SHARED: Final[list[structlog.typing.Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _add_trace,
    _explain,
    refuse_personal,
]

structlog.configure(
    processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)


class _OneLine(structlog.stdlib.ProcessorFormatter):
    """Every log record, ours or a library's, as one JSON object without anything personal."""

    def __init__(self, service: str) -> None:
        super().__init__(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *_SHARED],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda _, __, event: {"service": service, **event},
                structlog.processors.JSONRenderer(serializer=_encode),
            ],
        )


LOUD: Final = {"httpx2": logging.WARNING, "httpcore2": logging.WARNING, "uvicorn.access": logging.CRITICAL}
"""Libraries that name URLs in ordinary log lines, and the level they are heard from."""


def configure(name: str, settings: Settings) -> None:
    """Set up logs and traces of this process. To be called once, first of all."""
    _our_packages.add(name.replace("-", "_"))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for library, level in LOUD.items():
        logging.getLogger(library).setLevel(level)
    _configure_traces(name, settings)


# ── traces ────────────────────────────────────────────────────────────────────────────────────────────────────────

_tracer = trace.get_tracer("homeroom")
_w3c = TraceContextTextMapPropagator()


def _configure_traces(name: str, settings: Settings) -> None:
    """Export spans where a collector is configured; otherwise only make the trace ids that logs are tied by."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

    resource = Resource.create({"service.name": name, "service.namespace": "homeroom"})
    if not settings.otlp_endpoint:
        trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF, resource=resource))
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{settings.otlp_endpoint}/v1/traces", timeout=5)))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int) -> Iterator[Span]:
    """A span around what is done inside; a failure is kept by its type only, for its text may quote a record.

    An attribute's underscores stand for the dots of OpenTelemetry's names: `db_system_name="postgresql"`.
    """
    named = {key.replace("_", "."): value for key, value in attributes.items()}
    with _tracer.start_as_current_span(
        name, kind=kind, attributes=named, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def inject_headers() -> dict[str, str]:
    """The headers that tie a message to the present trace (`traceparent`)."""
    headers: dict[str, str] = {}
    _w3c.inject(headers)
    return headers


@contextmanager
def span_from(message: Message, name: str) -> Iterator[Span]:
    """A span for handling a message, as part of the trace its sender was in."""
    token = attach(_w3c.extract(message.headers))
    try:
        with span(
            name,
            SpanKind.CONSUMER,
            messaging_operation_type="process",
            messaging_destination_name=message.topic,
            messaging_destination_partition_id=str(message.partition),
        ) as current:
            yield current
    finally:
        detach(token)


def traced_sql(name: str) -> AbstractContextManager[Span]:
    """A span around the work of one named statement; only its name is kept, never its values.

    `with traced_sql("claim_run"): await database.fetch(SQL["claim_run"], run_id)`
    """
    return span(f"sql {name}", SpanKind.CLIENT, db_system_name="postgresql", db_query_summary=name)


def trace_requests(app: FastAPI, *, exported: bool) -> None:
    """Give every HTTP request of an app a span, but for probes.

    Where no spans are exported a request only gets its trace's id, by which logs are tied: the instrumentation looks
    each route up a second time, which costs as much as a small answer.
    """
    if not exported:
        app.add_middleware(_TraceIds)
        return
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(
        app, excluded_urls="/livez$,/readyz$,/metrics$", exclude_spans=["send", "receive"], server_request_hook=_hush
    )


class _TraceIds:
    """Around every request: the trace its sender was in, or a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        context = _w3c.extract({"traceparent": sent.decode("latin-1")}) if sent else None
        with _tracer.start_as_current_span("request", context):
            await self._app(scope, receive, send)


def _hush(current: Span, _: Mapping[str, Any]) -> None:
    """Take out of a request's span what may name a person: ids in the path, filters in the query, the caller."""
    for attribute in ("url.path", "url.query", "client.address", "user_agent.original"):
        current.set_attribute(attribute, "")
