"""Two districts next to each other in one installation, and who calls for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
from fastapi import FastAPI
from played_gateway import as_message

from authorization.rules import Call, Kind
from homeroom.db import Database
from homeroom.messages import SyncFact, to_facts
from homeroom.testing.tokens import TestIssuer
from sync_scheduler.facts import Facts

SCHEDULER: Final = "sync-scheduler"
GATEWAY: Final = "provider-gateway"
STORE: Final = "roster-store"
SSO: Final = "sso"
ADMIN_SCOPES: Final = ("admin", "fingerprints.read")


@dataclass
class District:
    """A made-up district, and what others must never see of it."""

    mark: str
    """A word that stands in every name of the district."""
    ids: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Whatever has the mark in it is the district's."""
        self.secrets.add(self.mark)
        self.ids["mark"] = self.mark

    def keep(self, **ids: str) -> dict[str, str]:
        """Note ids that are the district's."""
        self.ids |= ids
        self.secrets |= {value.lower() for value in ids.values()}
        return ids

    def hide(self, **ids: str) -> dict[str, str]:
        """Ids that are the district's, for one call only."""
        self.secrets |= {value.lower() for value in ids.values()}
        return ids


@dataclass
class Neighbourhood:
    """All services, and two districts of which each is the other's outsider."""

    issuer: TestIssuer
    apps: Mapping[str, FastAPI]
    clients: Mapping[str, httpx2.AsyncClient]
    ours: District
    theirs: District
    store: Database | None = None
    facts: Facts | None = None

    async def send(self, service: str, call: Call, token: str | None) -> httpx2.Response:
        """Send a request."""
        headers = {**call.headers} | ({"Authorization": f"Bearer {token}"} if token else {})
        async with asyncio.timeout(20):
            return await self.clients[service].request(
                call.method,
                call.path,
                params=dict(call.query),
                headers=headers,
                **({} if call.content is None else {"content": call.content}),
                **({} if call.body is None else {"json": call.body}),
            )

    async def ask(
        self, service: str, method: str, path: str, body: Any = None, *, token: str | None = None, **more: Any
    ) -> Any:
        """Have the platform, or who has the token, do something that must succeed; the answer."""
        call = Call(method, path, body=body, **more)
        answer = await self.send(service, call, token or self.issuer.token(ADMIN_SCOPES))
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def hear(self, *facts: SyncFact) -> None:
        """Let the scheduler hear facts."""
        assert self.facts is not None
        await self.facts.handle([as_message(to_facts(fact), place) for place, fact in enumerate(facts)])


def issue_token(
    place: Neighbourhood,
    kind: Kind,
    scopes: frozenset[str],
    district: District,
    product: str = "product_id",
    teacher: Mapping[str, str] | None = None,
) -> str:
    """A token of the platform, or of a district's organization, product or teacher; `teacher` says otherwise who."""
    match kind:
        case "platform":
            return place.issuer.token(scopes)
        case "organization":
            return place.issuer.token(scopes, organization_id=district.ids["organization_id"])
        case "product":
            return place.issuer.token(scopes, product_id=district.ids[product])
        case "teacher":
            ids = {**district.ids, **(teacher or {})}
            who = {"integration_id": ids["integration_id"], "sourced_id": ids["teacher_id"]}
            return place.issuer.token(scopes, organization_id=ids["organization_id"], teacher=who)
