"""People who were erased from a roster are forgotten by sign-in, too: what portals call them, their names and sessions.

The traces of their launches stay, as nobody's. A product that was told of a session hears that it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

from homeroom.bus import Message, Retry
from homeroom.db import TRANSIENT, Connection, Database, DatabaseBusy
from homeroom.messages import Erased, read_erasure
from homeroom.telemetry import get_logger
from sso.statements import SQL

GROUP: Final = "sso-erasures"
_DELETED: Final = ("erase_staff", "erase_links", "erase_link_requests", "erase_sign_ins", "forget_answers")

log = get_logger(__name__)


class ErasureConsumer:
    """The handler of `erasures`; hearing one twice changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, messages: Sequence[Message]) -> None:
        """Forget the people of a batch. Raises Reject for what can't be read, Retry without database."""
        for message in messages:
            erased = read_erasure(message)
            try:
                await self._database.transact(partial(forget_people, erased=erased))
            except (*TRANSIENT, DatabaseBusy) as error:
                raise Retry from error
            log.info("person.erased", erasure_id=erased.erasure_id)


async def forget_people(connection: Connection, erased: Erased) -> None:
    """Forget whoever has, or had, one of these names."""
    names = (UUID(erased.integration_id), list(erased.sourced_ids))
    rows = await connection.fetch(SQL["list_erased_persons"], *names)
    persons = [row["person_id"] for row in rows]
    await connection.execute(SQL["end_erased_sessions"], *names, persons)
    await connection.execute(SQL["erase_portal_staff"], persons)
    await connection.execute(SQL["erase_persons"], persons)
    for statement in _DELETED:
        await connection.execute(SQL[statement], *names)
    await connection.execute(SQL["blank_launches"], *names)
    await connection.execute(SQL["blank_steps"], *names)
