"""What somebody carries on the way into a product that does not begin with OpenID Connect: used once, soon, by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from homeroom.db import Connection, Database
from sso.launch.flows import hash_token, make_token
from sso.launch.traces import Trace
from sso.statements import SQL

Mode = Literal["ticket", "lti"]
SECONDS: Final = {"ticket": 60.0, "lti": 300.0}
"""How long a pass is good for: a ticket is redeemed at once, a tool's login takes two more steps of the browser."""
LONGEST: Final = 100
"""Characters of a pass; no longer text is looked for."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass stands for.

    Args:
        client_id: the only client it is for.
        session_id: the session in which somebody was let go to the product.
        destination: the name of one of the product's destinations.
        login_hash: for LTI, of the `login_hint` that goes with it.
        deployment_id: for LTI.
    """

    client_id: str
    product_id: UUID
    session_id: UUID
    launch_id: UUID
    support_id: str
    kind: str
    destination: str | None = None
    login_hash: bytes | None = field(default=None, repr=False)
    deployment_id: str | None = None


class Passes:
    """The passes under way, in the database, so that any copy of sso finds them; only hashes are stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, mode: Mode, made: Pass) -> str:
        """A new pass: 256 random bits as text."""
        text = make_token()
        await self._database.fetch(
            SQL["hand_over"],
            hash_token(text),
            mode,
            made.login_hash,
            made.client_id,
            made.product_id,
            made.session_id,
            made.launch_id,
            made.support_id,
            made.kind,
            made.destination,
            made.deployment_id,
            SECONDS[mode],
        )
        return text

    async def find(self, mode: Mode, text: str) -> Pass | None:
        """What a pass stands for, if it is still good; it stays so."""
        if len(text) > LONGEST:
            return None
        row = await self._database.fetchrow(SQL["find_handed_over"], hash_token(text), mode)
        return None if row is None else Pass(**{name: row[name] for name in Pass.__slots__})


async def take_pass(connection: Connection, mode: Mode, text: str, client_id: str) -> bool:
    """Use a pass up, in the transaction of what it is used for; False if it was used before, or is another's."""
    return await connection.fetchval(SQL["take_handed_over"], hash_token(text), mode, client_id) is not None


def begin_pass(client_id: str, product_id: UUID, session_id: UUID, trace: Trace, destination: str | None) -> Pass:
    """A pass that belongs to a launch."""
    return Pass(client_id, product_id, session_id, trace.id, trace.support_id, trace.kind, destination)
