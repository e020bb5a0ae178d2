"""The REST face of accounts in the SFTP inbox (A2)."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from sync_scheduler import sftp_accounts
from sync_scheduler.callers import Configuration, Data, Writer, seen_by
from sync_scheduler.sftp_accounts import AccountBody

router = APIRouter(prefix="/v1", tags=["sftp"])


class Account(BaseModel):
    """How to sign in to the inbox. The password is shown this once."""

    username: str
    auth: Literal["password", "key"]
    password: str | None
    host: str
    port: int
    host_key_fingerprint: str | None


@router.post("/integrations/{integration_id}/sftp-account", status_code=201)
async def make_sftp_account(
    integration_id: UUID, body: AccountBody, caller: Writer, data: Data, settings: Configuration
) -> Account:
    """Make the integration's account; one that is there is replaced, and its password or key no longer opens it."""
    made = await sftp_accounts.make(data, integration_id, seen_by(caller), body)
    return Account(
        username=made.username,
        auth=body.auth,
        password=made.password,
        host=settings.sftp_host,
        port=settings.sftp_port,
        host_key_fingerprint=settings.sftp_host_key_fingerprint or None,
    )


@router.delete("/integrations/{integration_id}/sftp-account", status_code=204)
async def remove_sftp_account(integration_id: UUID, caller: Writer, data: Data) -> None:
    """Take the account away; what was received stays."""
    await sftp_accounts.remove(data, integration_id, seen_by(caller))
