"""Who did what: a line beside everything a person decides, added in the same transaction and never changed.

An action is `thing.verb` (`run.approve`), a subject `thing:id` (`run:0190…`). Details are ids, codes and settings:
no personal data and no secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from homeroom.db import Connection
from sync_scheduler.ledger import SQL


async def note(
    connection: Connection,
    *,
    by: str,
    action: str,
    organization: UUID | None,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write down what was done; it stands if the transaction does. `by` is the subject of the caller's token."""
    await connection.execute(SQL["add_audit"], organization, by, action, subject, dict(detail or {}))
