"""What is said and answered about subscriptions over REST."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic.config import JsonDict

from homeroom.codes import Code
from homeroom.connections import Address
from homeroom.events import EVENT_TYPES
from homeroom.service import RequestModel
from roster_store.subscriptions.outlets import topic_of

DEFAULT_BATCH = 100
MAX_BATCH = 500


def _check_type(name: str) -> str:
    if name not in EVENT_TYPES:
        msg = "there is no such type of events"
        raise ValueError(msg)
    return name


SourcedId = Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"^[^\x00]+$")]
EventType = Annotated[str, Field(max_length=100), AfterValidator(_check_type)]
Types = Annotated[list[EventType], Field(min_length=1, max_length=100)]
Schools = Annotated[list[SourcedId], Field(min_length=1, max_length=500)]
Batch = Annotated[int, Field(ge=1, le=MAX_BATCH, description="events in one webhook, at most")]

_BODY: JsonDict = {
    "kind": "webhook",
    "url": "https://reader.example.com/homeroom/events",
    "types": ["homeroom.user.added.v1", "homeroom.user.updated.v1", "homeroom.user.removed.v1"],
    "batch": 100,
}
_SHOWN: JsonDict = {
    "id": "0199a1de-7f63-7c41-9a5e-2f60b8f5c0d1",
    "kind": "webhook",
    "product_id": "0199a1dd-0a52-7b11-8d0e-6c1f0a9b2e77",
    "organization_id": None,
    "integration_id": None,
    "url": "https://reader.example.com/homeroom/events",
    "topic": None,
    "types": None,
    "schools": None,
    "demographics": False,
    "batch": 100,
    "state": "active",
    "disabled_at": None,
    "disabled_code": None,
    "cursor": "AAAAAAAAABl_____",
    "lag": {"steps": 0, "seconds": 0.0},
    "delivered": 48213,
    "failures": 0,
    "failing_since": None,
    "next_try_at": None,
    "last_try_at": "2026-09-01T06:04:11Z",
    "last_success_at": "2026-09-01T06:04:11Z",
    "last_status": 204,
    "last_problem": None,
    "created_at": "2026-08-20T09:00:00Z",
    "rotated_at": None,
}


class SubscriptionBody(RequestModel):
    """A subscription to be."""

    model_config = ConfigDict(json_schema_extra={"examples": [_BODY]})

    kind: Literal["webhook", "kafka"] = Field(
        description="`webhook`: events are posted to `url`; `kafka`: they are put on a topic of the product's own"
    )
    url: Address | None = Field(default=None, description="of a webhook: https, on the public internet")
    product_id: UUID | None = Field(
        default=None, description="whose licenses decide what is told; with a product's token it need not be said"
    )
    organization_id: UUID | None = Field(
        default=None, description="only what concerns this organization; without a product, whose subscription it is"
    )
    integration_id: UUID | None = Field(default=None, description="only what concerns this integration")
    types: Types | None = Field(
        default=None,
        description="only events of these types; a product is told of licenses that begin and end besides",
    )
    schools: Schools | None = Field(default=None, description="sourcedIds: only records that belong to these schools")
    batch: Batch = DEFAULT_BATCH
    start: Literal["beginning", "now"] = Field(
        default="beginning", description="`beginning`: all there is comes first; `now`: only what changes from now on"
    )

    @model_validator(mode="after")
    def _fit_kind(self) -> Self:
        if (self.kind == "webhook") != (self.url is not None):
            raise ValueError("a webhook has a url, a topic has none")
        return self


class SubscriptionChanges(RequestModel):
    """What is to be different; what is not said stays as it is. Only with other schools everything comes anew."""

    url: Address | None = None
    types: Types | None = Field(default=None, description="null for all types")
    schools: Schools | None = Field(default=None, description="null for all schools")
    batch: Batch = DEFAULT_BATCH
    enabled: StrictBool = Field(default=True, description="false stops it until it is enabled again")

    @model_validator(mode="after")
    def _keep_url(self) -> Self:
        if "url" in self.model_fields_set and self.url is None:
            raise ValueError("a webhook can't be without a url")
        return self


class RedeliveryBody(RequestModel):
    """From where on everything is to be sent once more: exactly one of these."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"since": "2026-09-01T00:00:00Z"}]})

    cursor: Annotated[str, Field(max_length=11_000)] | None = Field(
        default=None, description="after this place, as a webhook or the pull feed gave it"
    )
    since: AwareDatetime | None = Field(default=None, description="what changed at this moment or later")
    start: Literal["beginning"] | None = Field(
        default=None, description="everything there is, as for a new subscription"
    )

    @model_validator(mode="after")
    def _need_one(self) -> Self:
        if sum(value is not None for value in (self.cursor, self.since, self.start)) != 1:
            raise ValueError("say one of cursor, since and start")
        return self


class Lag(BaseModel):
    """How far behind a subscription is."""

    steps: int = Field(description="applies of syncs and other steps it was not told of yet; 1000 stands for more")
    seconds: float = Field(description="age of the oldest of them")


class Subscription(BaseModel):
    """A subscription, and how it fares."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: UUID
    kind: Literal["webhook", "kafka"]
    product_id: UUID | None
    organization_id: UUID | None
    integration_id: UUID | None
    url: str | None
    topic: str | None = Field(description="of the kind `kafka`: where the events are")
    types: list[str] | None
    schools: list[str] | None
    demographics: bool = Field(description="whether the token it was made with may see demographics")
    batch: int
    state: Literal["active", "disabled"]
    disabled_at: datetime | None
    disabled_code: Code | None = Field(description="why it is disabled; null where somebody wanted that")
    cursor: str = Field(description="everything up to here was taken")
    lag: Lag
    delivered: int = Field(description="events that were taken, repeats included")
    failures: int = Field(description="tries in a row that failed")
    failing_since: datetime | None
    next_try_at: datetime | None = Field(description="after a failure")
    last_try_at: datetime | None
    last_success_at: datetime | None
    last_status: int | None = Field(description="what the endpoint answered the last time, if it did")
    last_problem: str | None
    created_at: datetime
    rotated_at: datetime | None


class SubscriptionWithSecret(Subscription):
    """A subscription and what its webhooks are signed with, which is shown this once."""

    secret: str | None = Field(description="for any library of Standard Webhooks; null for a topic")


class SubscriptionPage(BaseModel):
    """Some subscriptions, oldest first."""

    items: list[Subscription]
    next_cursor: str | None


class TestResult(BaseModel):
    """What came of a test."""

    __test__ = False  # pytest would take the class for a test by its name

    delivered: bool
    status: int | None = Field(description="what the endpoint answered, if it did")
    seconds: float | None = Field(description="how long the answer took")
    problem: str | None


def show(row: asyncpg.Record) -> dict[str, Any]:
    """A subscription by its row of `list_subscriptions`."""
    same = {name: row[name] for name in Subscription.model_fields.keys() & row.keys()}
    failing = row["state"] == "active" and row["failures"] > 0
    return same | {
        "topic": topic_of(row["product_id"]).name if row["kind"] == "kafka" else None,
        "lag": {"steps": row["steps"], "seconds": row["seconds"]},
        "next_try_at": row["due_at"] if failing else None,
    }
