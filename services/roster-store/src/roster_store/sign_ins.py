"""The consumer of `sign-ins`: who comes into a product for the first time joins their classes there (D2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from homeroom.bus import Message, Reject
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import read_sign_in
from homeroom.roster import MAX_TEXT
from roster_store.activation import Arrival, connect_people

GROUP: Final = "roster-store-sign-ins"


class SignInConsumer:
    """The handler of `sign-ins`; everything it does may be done twice, and in any order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, messages: Sequence[Message]) -> None:
        """Connect the people of a batch to the products they came into."""
        await connect_people(self._database, [_read(message) for message in messages])


def _read(message: Message) -> Arrival:
    signed_in = read_sign_in(message)
    user = signed_in.user_sourced_id
    try:
        product, integration = UUID(signed_in.product_id), UUID(signed_in.integration_id)
        organization = UUID(signed_in.organization_id)
    except ValueError as error:
        raise Reject(message, Code.MESSAGE_UNREADABLE) from error
    if not user or len(user) > MAX_TEXT or "\0" in user:
        raise Reject(message, Code.MESSAGE_UNREADABLE)
    return Arrival(product, integration, organization, user, signed_in.at)
