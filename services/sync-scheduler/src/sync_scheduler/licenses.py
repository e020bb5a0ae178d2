"""Licenses: who may be synced, and what follows when that changes (D5).

The rule stands here, once and pure; whoever begins a run asks `is_active`. A run that has begun ends as any other,
also when its license ends meanwhile: half a run would help nobody, and its deadline bounds how long it takes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import asyncpg

from homeroom.db import Connection
from sync_scheduler.ledger import SQL

INSTANT = timedelta(microseconds=1)
"""The database's smallest step."""


class Standing(StrEnum):
    """Where a license is in its life."""

    UPCOMING = "upcoming"
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class License:
    """When a license counts: from the first moment on, and no longer at the last."""

    valid_from: datetime
    valid_until: datetime | None = None
    revoked_at: datetime | None = None

    def stand(self, now: datetime) -> Standing:
        """Where it is at a moment."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return Standing.REVOKED
        if now < self.valid_from:
            return Standing.UPCOMING
        if self.valid_until is not None and self.valid_until <= now:
            return Standing.EXPIRED
        return Standing.ACTIVE

    def has_counted(self, now: datetime) -> bool:
        """Whether it ever was active until a moment; one that was revoked before its beginning never was."""
        return self.valid_from <= now and (self.revoked_at is None or self.valid_from < self.revoked_at)


def judge(licenses: Collection[License], now: datetime, *, required: bool) -> bool:
    """Whether an organization with these licenses may be synced (D5).

    Args:
        licenses: all it was ever given.
        now: the moment to judge.
        required: whether every organization needs one. Otherwise one that never had any is free to sync, and one
            that had is held to it.
    """
    if any(one.stand(now) is Standing.ACTIVE for one in licenses):
        return True
    return not required and not any(one.has_counted(now) for one in licenses)


async def is_active(connection: Connection, organization: UUID, now: datetime, *, required: bool = False) -> bool:
    """Whether an organization may be synced; `required` is the setting `license_required`."""
    rows = await connection.fetch(SQL["licenses_of"], organization)
    return judge(list(map(read, rows)), now, required=required)


def read(row: asyncpg.Record) -> License:
    """A row's part in the rule."""
    return License(row["valid_from"], row["valid_until"], row["revoked_at"])
