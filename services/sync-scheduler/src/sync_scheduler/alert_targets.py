"""Who is told of alerts: webhooks and e-mail addresses, of one organization, one integration, or of all."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from homeroom.codes import Code
from homeroom.connections import Address
from homeroom.db import Connection, Database
from homeroom.endpoints import object_to
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.service import RequestModel
from homeroom.webhooks import to_secret
from sync_scheduler import alerting, audit, integrations, ledger
from sync_scheduler.alert_messages import Subject
from sync_scheduler.alerts import Kind
from sync_scheduler.ledger import SQL
from sync_scheduler.mail import check_address

BOTH_VALID = timedelta(hours=24)
"""So long after a rotation webhooks are signed with the earlier secret, too."""

MailAddress = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254),
    AfterValidator(check_address),
    Field(json_schema_extra={"format": "email"}),
]


class TargetBody(RequestModel):
    """A target to be."""

    organization_id: UUID | None = Field(description="null for the alerts of all organizations")
    integration_id: UUID | None = Field(default=None, description="only the alerts of this integration")
    kind: Literal["webhook", "email"]
    url: Address | None = Field(default=None, description="of a webhook")
    address: MailAddress | None = Field(default=None, description="of an e-mail target")

    @model_validator(mode="after")
    def _fit_kind(self) -> Self:
        needed, other = (self.url, self.address) if self.kind == "webhook" else (self.address, self.url)
        if needed is None or other is not None:
            raise ValueError("a webhook has a url, an e-mail target an address, and neither has both")
        if self.integration_id is not None and self.organization_id is None:
            raise ValueError("integration_id goes with the organization_id of its organization")
        return self


@dataclass(frozen=True, slots=True)
class Targets:
    """The use cases. `visible` is the one organization a caller may see, or None for all."""

    database: Database
    origin: str
    signing_key: str
    mails: bool
    """Whether a mail server is set up."""
    allow_private: bool

    async def create(self, body: TargetBody, visible: UUID | None, *, by: str) -> asyncpg.Record:
        """Add a target. Problems ENDPOINT_REFUSED, NOT_FOUND, REQUEST_INVALID, SCOPE_MISSING."""
        _check_organization(body.organization_id, visible)
        self._check_means(body)
        target = new_id()

        async def add(connection: Connection) -> asyncpg.Record:
            if body.organization_id and await connection.fetchrow(SQL["organization"], body.organization_id) is None:
                raise integrations.refuse_field("organization_id", "there is no such organization")
            if body.integration_id is not None:
                found = await connection.fetchrow(SQL["integration"], body.integration_id, body.organization_id)
                if found is None:
                    raise integrations.no_integration(body.integration_id)
            await connection.execute(
                SQL["add_target"],
                target,
                body.organization_id,
                body.integration_id,
                body.kind,
                body.url,
                body.address,
                by,
            )
            await _note(connection, by, "create", body.organization_id, target)
            row = await connection.fetchrow(SQL["target"], target, None)
            assert row is not None  # noqa: S101 - it was added above, in the same transaction
            return row

        return await self.database.transact(add)

    async def delete(self, target: UUID, visible: UUID | None, *, by: str) -> None:
        """Forget a target and where it was; what it was still to get is dropped. Problem NOT_FOUND."""

        async def end(connection: Connection) -> None:
            row = await connection.fetchrow(SQL["delete_target"], target, visible)
            if row is None:
                raise _no_target(target)
            await connection.execute(SQL["drop_deliveries"], target)
            await _note(connection, by, "delete", row["organization"], target)

        await self.database.transact(end)

    async def rotate(self, target: UUID, visible: UUID | None, *, by: str) -> asyncpg.Record:
        """Give a webhook a new secret; for a day it is signed with the earlier one, too. Problem NOT_FOUND."""

        async def turn(connection: Connection) -> asyncpg.Record:
            row = await connection.fetchrow(SQL["target"], target, visible)
            if row is None:
                raise _no_target(target)
            if row["kind"] != "webhook":
                raise integrations.refuse_field("kind", "only webhooks are signed")
            await _note(connection, by, "rotate", row["organization"], target)
            rotated = await connection.fetchrow(SQL["rotate_target"], target)
            assert rotated is not None  # noqa: S101 - it was read above
            return rotated

        return await self.database.transact(turn)

    async def test(self, target: UUID, visible: UUID | None) -> UUID:
        """Send a target a test, and return its id among the alerts. Problem NOT_FOUND."""
        alert = new_id()

        async def send(connection: Connection) -> None:
            row = await connection.fetchrow(SQL["target"], target, visible)
            if row is None:
                raise _no_target(target)
            now = await ledger.read_time(connection)
            about = Subject(alert_id=alert, kind=Kind.TEST, at=now, organization_id=row["organization"])
            await alerting.write(connection, about, origin=self.origin, to=target)

        await self.database.transact(send)
        return alert

    def secret(self, row: asyncpg.Record) -> str | None:
        """What a webhook's signatures are checked with; to be shown once."""
        if row["kind"] != "webhook":
            return None
        return derive_secret(self.signing_key, row["id"], row["generation"])

    def _check_means(self, body: TargetBody) -> None:
        if body.kind == "email" and not self.mails:
            raise integrations.refuse_field("kind", "no mail server is set up here; HOMEROOM_SMTP_HOST names one")
        if body.kind == "webhook" and not self.signing_key:
            raise integrations.refuse_field("kind", "webhooks need a signing key; set HOMEROOM_ALERT_SIGNING_KEY")
        if body.url is not None and (objection := object_to(body.url, allow_private=self.allow_private)):
            raise Problem(Code.ENDPOINT_REFUSED, status=422, detail=f"url can't be used: {objection}.")


def list_secrets(key: str, target: asyncpg.Record, now: datetime) -> Sequence[str]:
    """What a webhook is signed with: its secret, and for a while the one before it."""
    generations = [target["generation"]]
    if target["rotated_at"] is not None and now < target["rotated_at"] + BOTH_VALID:
        generations.append(target["generation"] - 1)
    return [derive_secret(key, target["id"], generation) for generation in generations]


def derive_secret(key: str, target: UUID, generation: int) -> str:
    """The signing secret of a target, as its receiver enters it.

    Secrets are not kept: each follows from a key of ours, the target's id and a generation that grows with rotations.
    """
    return to_secret(hmac.digest(key.encode(), f"alert-target:{target}:{generation}".encode(), hashlib.sha256))


def _check_organization(organization: UUID | None, visible: UUID | None) -> None:
    if organization is None and visible is not None:
        detail = "A target for all organizations takes a token that is not bound to one."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    if visible not in (None, organization):
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization}.")


def _no_target(target: UUID) -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no alert target {target}.")


async def _note(connection: Connection, by: str, verb: str, organization: UUID | None, target: UUID) -> None:
    subject = f"alert_target:{target}"
    await audit.note(connection, by=by, action=f"alert_target.{verb}", organization=organization, subject=subject)
