"""Licenses as the scheduler would announce them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from played_gateway import as_message

from homeroom.db import Database
from homeroom.messages import LicenseState, OrganizationState, ProductState, TenancyState, to_tenancy
from roster_store.access import TenancyConsumer, settle_licenses

SINCE = datetime(2020, 1, 1, tzinfo=UTC)


async def announce(database: Database, *states: TenancyState) -> None:
    """Let the store hear these states and do what follows from them."""
    messages = [as_message(to_tenancy(state), offset) for offset, state in enumerate(states)]
    await TenancyConsumer(database, asyncio.Event()).handle(messages)
    await settle_licenses(database)


async def license_product(
    database: Database, organization_id: str, *, product_id: UUID | None = None, **terms: Any
) -> LicenseState:
    """A product with a license of an organization, which the store has heard of; `terms` are the license's fields."""
    product = ProductState(id=str(product_id or uuid4()), name="Reader", classes=terms.pop("classes", "automatic"))
    license_state = LicenseState(
        **{
            "id": str(uuid4()),
            "product_id": product.id,
            "organization_id": organization_id,
            "valid_from": SINCE,
        }
        | terms
    )
    await announce(database, OrganizationState(id=organization_id, name="Ekeby"), product, license_state)
    return license_state
