"""What a launch gives a product to begin its own sign-in with: a `login_hint` that leads back to the launch, once.

A product that is opened from a portal is sent to its `initiate_login_uri` (OIDC Core §4), asks us to authorize at once,
and hands back the hint. It binds the request to whom the launch signed in: after another pupil has signed in, or in the
browser of somebody else, it is worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from homeroom.db import Database
from sso.launch.flows import hash_token, make_token
from sso.statements import SQL

HINT_SECONDS: Final = 300
PREFIX: Final = "launch-"
"""Tells our hints from what products make up, such as e-mail addresses."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A launch that a product takes up."""

    launch_id: UUID
    support_id: str
    product_id: UUID
    destination: str | None


class Hints:
    """The hints that were given out, in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(
        self, session_id: UUID, launch_id: UUID, support_id: str, product_id: UUID, destination: str | None
    ) -> str:
        """A hint for one use at the authorization endpoint within five minutes, for whom this session is."""
        text = f"{PREFIX}{make_token()}"
        await self._database.fetch(
            SQL["make_hint"],
            hash_token(text),
            session_id,
            launch_id,
            support_id,
            product_id,
            destination,
            HINT_SECONDS,
        )
        return text

    async def take(self, text: str, session_id: UUID) -> Hint | None:
        """What a hint leads to; None if it was used, is too old, or belongs to somebody else (who keeps it)."""
        row = await self._database.fetchrow(SQL["take_hint"], hash_token(text), session_id)
        return None if row is None else Hint(**{name: row[name] for name in Hint.__slots__})
