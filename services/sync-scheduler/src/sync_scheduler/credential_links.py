"""Links by which a district hands over its credentials itself: once, for a while, and verified (C12).

The token is the key to a page and to nothing else; only its hash is kept. What is entered is tried before it is saved:
a failed verification leaves nothing behind, and the first good one saves, uses the link up and tells who asked for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from pydantic import Field, StringConstraints, ValidationError

from homeroom.codes import Code
from homeroom.connections import CONNECTIONS, UPLOADED, ConnectionModel
from homeroom.db import Connection, Database
from homeroom.endpoints import object_to
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sync_scheduler import alerting, audit, credentials, inquiries, integrations, ledger, slots
from sync_scheduler.alert_messages import Subject
from sync_scheduler.alert_targets import MailAddress
from sync_scheduler.alerts import Kind
from sync_scheduler.credentials import Entered
from sync_scheduler.inquiries import Asking, Draft
from sync_scheduler.ledger import SQL

MOST_TRIES = 10
"""So often a link may have the provider asked; then it is locked."""
_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class LinkInvalid(Exception):  # noqa: N818 - what happened to the link; becomes the code LINK_INVALID
    """The link can't be used, for whatever reason: nobody is told which."""


Note = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class LinkBody(RequestModel):
    """A link to be."""

    expires_in_hours: int = Field(default=72, ge=1, le=336, strict=True)
    note: Note | None = Field(default=None, description="shown on the page")
    notify: MailAddress | None = Field(default=None, description="an e-mail address that is told once it was used")


class Refused(Exception):  # noqa: N818 - what became of what was entered
    """What was entered was not saved: `fields` says what is wrong with which, or `row` is the inquiry that failed."""

    def __init__(self, fields: Mapping[str, str], row: asyncpg.Record | None = None) -> None:
        super().__init__("refused")
        self.fields = fields
        self.row = row


@dataclass(frozen=True, slots=True)
class Links:
    """The use cases. `visible` is the one organization a caller may see, or None for all."""

    database: Database
    origin: str
    public_key: str
    """Of the gateways: what credentials are sealed to."""
    allow_private: bool
    mails: bool
    """Whether a mail server is set up."""
    verify_seconds: float
    """How long the page waits for the provider."""

    async def create(
        self, integration: UUID, body: LinkBody, visible: UUID | None, *, by: str
    ) -> tuple[asyncpg.Record, str]:
        """Make a link; returns its row and its address, which is told this once.

        Problems NOT_FOUND, INTEGRATION_DELETED, PROVIDER_UNFIT, REQUEST_INVALID.
        """
        if body.notify is not None and not self.mails:
            raise integrations.refuse_field("notify", "no mail server is set up here; HOMEROOM_SMTP_HOST names one")
        link, token = new_id(), secrets.token_urlsafe(_TOKEN_BYTES)

        async def add(connection: Connection) -> asyncpg.Record:
            row = await integrations.lock(connection, integration, visible)
            if row["provider"] in UPLOADED:
                detail = f"{row['provider']} has no credentials to enter; it has an account in the inbox."
                raise Problem(Code.PROVIDER_UNFIT, status=409, detail=detail)
            lasts = timedelta(hours=body.expires_in_hours)
            await connection.execute(
                SQL["add_link"], link, integration, _hash(token), body.note, body.notify, by, lasts
            )
            await _note(connection, by, "create", row["organization"], link, integration)
            return await _read(connection, link, visible)

        return await self.database.transact(add), f"{self.origin}/connect/{token}"

    async def revoke(self, link: UUID, visible: UUID | None, *, by: str) -> None:
        """Take a link back; one that was used stays so. Problem NOT_FOUND."""

        async def end(connection: Connection) -> None:
            row = await _read(connection, link, visible)
            await connection.execute(SQL["revoke_link"], link)
            await _note(connection, by, "revoke", row["organization"], link, row["integration"])

        await self.database.transact(end)

    async def open(self, token: str) -> asyncpg.Record:
        """The integration a link is for, and the link. Raises LinkInvalid."""
        row = await self.database.fetchrow(SQL["usable_link"], _hash(token), MOST_TRIES)
        if row is None or not _TOKEN.fullmatch(token):
            raise LinkInvalid
        return row

    async def enter(self, token: str, form: Mapping[str, str], stop: asyncio.Event) -> asyncpg.Record:
        """Check, verify and save what was entered, and use the link up; returns the answered inquiry.

        Raises LinkInvalid, and Refused where something is wrong with what was entered; then nothing was saved.
        """
        row = await self.open(token)
        entered = self._check(row, form)
        sealed = entered.seal(self.public_key, row["id"])
        if await self.database.fetchval(SQL["count_try"], row["link"], MOST_TRIES) is None:
            raise LinkInvalid
        asking = Asking("verify", draft=Draft(entered.shown, sealed))
        try:
            answer = await inquiries.ask(
                self.database, row["id"], None, asking, wait_seconds=self.verify_seconds, stop=stop
            )
        except Problem as problem:  # the integration was deleted in between
            raise LinkInvalid from problem
        code = None if answer["answered_at"] is None else answer["code"]
        if answer["answered_at"] is None or code is not None:
            told = code or Code.ANSWER_PENDING.value
            await self.database.fetch(SQL["note_link_outcome"], row["link"], told)
            raise Refused({}, answer)
        await self.database.transact(lambda connection: self._save(connection, row, entered, sealed))
        return answer

    def _check(self, row: asyncpg.Record, form: Mapping[str, str]) -> Entered:
        """What was entered, as a connection of the integration's kind. Raises Refused naming the fields."""
        model = CONNECTIONS[row["provider"]]
        asked = list_fields(model)
        given = {name: form[name].strip() for name in asked if form.get(name, "").strip()}
        kept = {name: value for name, value in row["connection"].items() if name not in asked}
        try:
            entered = credentials.enter(credentials.check_kind(row["provider"], {**kept, **given}))
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            raise Refused({str(one["loc"][0] if one["loc"] else ""): _word(one) for one in found}) from None
        objections = {
            name: object_to(entered.shown[name], allow_private=self.allow_private)
            for name in model.address_fields()
            if name in asked and entered.shown.get(name)
        }
        if refused := {name: f"This address can't be used: {why}." for name, why in objections.items() if why}:
            raise Refused(refused)
        return entered

    async def _save(self, connection: Connection, row: asyncpg.Record, entered: Entered, sealed: str) -> None:
        """Save what was verified and use the link up, or raise LinkInvalid where somebody else did."""
        try:
            await integrations.lock(connection, row["id"], None)
        except Problem as problem:
            raise LinkInvalid from problem
        if await connection.fetchval(SQL["use_link"], row["link"]) is None:
            raise LinkInvalid
        names = sorted(entered.secrets or ())
        saved = await connection.fetchrow(SQL["save_connection"], row["id"], entered.shown, sealed, names)
        assert saved is not None  # noqa: S101 - the row is locked
        now = await ledger.read_time(connection)
        await connection.execute(SQL["plan_slot"], row["id"], *slots.bring_forward(saved, now))
        await connection.execute(SQL["wake"])
        by = f"credential_link:{row['link']}"
        await _note(connection, by, "use", row["organization"], row["link"], row["id"])
        about = Subject(
            alert_id=new_id(),
            kind=Kind.CREDENTIALS_ENTERED,
            at=now,
            organization_id=row["organization"],
            organization=row["organization_name"],
            integration_id=row["id"],
            integration=row["name"],
        )
        await alerting.write(connection, about, origin=self.origin, address=row["notify"] or "")


def list_fields(model: type[ConnectionModel]) -> list[str]:
    """What a district is asked for. Addresses with a value of their own are the provider's, and stay as they are."""
    fixed = {name for name in model.address_fields() if model.model_fields[name].default is not None}
    required = {name for name in fixed if model.model_fields[name].is_required()}
    return [name for name in model.model_fields if name not in fixed - required]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _word(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return "Please fill this in." if error["type"] == "missing" else f"{message[:1].upper()}{message[1:]}."


async def _read(connection: Connection, link: UUID, visible: UUID | None) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["link"], link, visible)
    if row is None:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no credential link {link}.")
    return row


async def _note(connection: Connection, by: str, verb: str, organization: UUID, link: UUID, integration: UUID) -> None:
    detail = {"integration_id": str(integration)}
    subject = f"credential_link:{link}"
    await audit.note(
        connection, by=by, action=f"credential_link.{verb}", organization=organization, subject=subject, detail=detail
    )
