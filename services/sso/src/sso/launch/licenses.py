"""What `tenancy` says that sign-in needs: names, integrations, and licenses in force (D5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

from homeroom.bus import Message
from homeroom.db import Connection, Database
from homeroom.messages import (
    IntegrationState,
    LicenseState,
    OrganizationState,
    ProductState,
    TenancyState,
    read_tenancy,
)
from sso.statements import SQL

GROUP: Final = "sso-tenancy"


class TenancyConsumer:
    """The handler of `tenancy`; everything it does may be done twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, messages: Sequence[Message]) -> None:
        """Keep the states."""
        states = [read_tenancy(message) for message in messages]
        await self._database.transact(partial(_keep, states=states))


async def _keep(connection: Connection, states: Sequence[TenancyState]) -> None:
    for state in states:
        match state:
            case OrganizationState():
                await connection.execute(SQL["keep_organization"], UUID(state.id), state.name)
            case IntegrationState():
                deleted = state.state == "deleted"
                place = (UUID(state.id), UUID(state.organization_id))
                await connection.execute(SQL["keep_integration"], *place, state.name, state.provider, deleted)
            case ProductState():
                await connection.execute(SQL["keep_product"], UUID(state.id), state.name)
            case LicenseState():
                ids = (UUID(state.id), UUID(state.product_id), UUID(state.organization_id))
                moments = (state.valid_from, state.valid_until, state.revoked_at)
                await connection.execute(SQL["keep_license"], *ids, *moments)
