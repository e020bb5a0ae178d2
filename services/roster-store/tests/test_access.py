"""Licenses in force: what they come to, and how products are told (D5, F3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from licensed import SINCE, announce, license_product
from msgspec.structs import replace
from played_gateway import ROSTER, Gateway

from homeroom.db import Database
from homeroom.grants import DEFAULT_GROUPS, FIELD_GROUPS
from homeroom.messages import LicenseState, ProductState
from roster_store.access import settle_licenses
from roster_store.sights import list_product_sights
from roster_store.terms import Access, AccessTerms, combine

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)


def licensed(**fields: Any) -> LicenseState:
    """A license that has been in force for a while."""
    return LicenseState(**{"id": "1", "product_id": "p", "organization_id": "o", "valid_from": NOW - DAY} | fields)


@pytest.mark.parametrize(
    ("licenses", "terms", "until"),
    [
        ([], None, None),
        ([licensed()], AccessTerms(None, DEFAULT_GROUPS), None),
        ([licensed(valid_until=NOW)], None, None),
        ([licensed(valid_until=NOW + DAY)], AccessTerms(None, DEFAULT_GROUPS), NOW + DAY),
        ([licensed(valid_from=NOW + DAY)], None, NOW + DAY),
        ([licensed(revoked_at=NOW - DAY)], None, None),
        ([licensed(valid_from=NOW + DAY, revoked_at=NOW - DAY)], None, None),
        (
            [licensed(valid_until=NOW + DAY), licensed(valid_from=NOW + DAY)],
            AccessTerms(None, DEFAULT_GROUPS),
            NOW + DAY,
        ),
        (
            [licensed(schools=("b", "a"), grants=FIELD_GROUPS), licensed(schools=("c",), grants=("contacts",))],
            AccessTerms(("a", "b", "c"), ("contacts",)),
            None,
        ),
        ([licensed(schools=("a",)), licensed()], AccessTerms(None, DEFAULT_GROUPS), None),
    ],
)
def test_licenses_taken_together(
    licenses: list[LicenseState], terms: AccessTerms | None, until: datetime | None
) -> None:
    """Schools of licenses in force add up, fields count only where all grant them, and the next turn is known."""
    assert combine(licenses, NOW) == Access(terms, until)


async def list_steps(database: Database, license_state: LicenseState) -> list[Any]:
    """What the product was told, in order."""
    rows = await database.fetch(
        "SELECT detail FROM apply WHERE product_id = $1 AND kind = 'license' ORDER BY no",
        UUID(license_state.product_id),
    )
    return [row["detail"]["state"] for row in rows]


async def test_license_begins_changes_and_ends(database: Database, gateway: Gateway) -> None:
    """A product sees a district while its license is in force, and is told once of every change of what it sees."""
    await gateway.apply(ROSTER)
    granted = await license_product(database, gateway.organization_id)
    [sight] = await list_product_sights(database, UUID(granted.product_id))
    assert (sight.schools, sight.grants, sight.teacher_started) == (None, frozenset(DEFAULT_GROUPS), False)
    await announce(database, granted)
    assert await list_steps(database, granted) == ["started"]

    await announce(database, replace(granted, schools=("org-North",), grants=("contacts",)))
    [sight] = await list_product_sights(database, UUID(granted.product_id))
    assert (sight.schools, sight.grants) == (("org-North",), frozenset({"contacts"}))
    await announce(database, ProductState(id=granted.product_id, name="Reader", classes="teacher-started"))
    [sight] = await list_product_sights(database, UUID(granted.product_id))
    assert sight.teacher_started
    await announce(database, replace(granted, revoked_at=SINCE))
    assert await list_product_sights(database, UUID(granted.product_id)) == []
    assert await list_steps(database, granted) == ["started"] * 3 + ["ended"]


async def test_license_ends_by_itself(database: Database, gateway: Gateway) -> None:
    """From its last moment on a license shows nothing, also before anybody has noticed; then the product is told."""
    await gateway.apply(ROSTER)
    granted = await license_product(database, gateway.organization_id, valid_until=datetime(9000, 1, 1, tzinfo=UTC))
    product = UUID(granted.product_id)
    assert len(await list_product_sights(database, product)) == 1
    await database.fetch("UPDATE access SET until = now()")
    assert await list_product_sights(database, product) == []
    await database.fetch("UPDATE license SET valid_until = now()")
    await database.fetch("UPDATE access SET look_at = now()")
    await settle_licenses(database)
    assert await list_steps(database, granted) == ["started", "ended"]


async def test_new_integration_is_told(database: Database, gateway: Gateway) -> None:
    """An integration that comes to a licensed organization later is told to the product as well, once."""
    granted = await license_product(database, gateway.organization_id)
    assert await list_steps(database, granted) == []
    await gateway.apply(ROSTER)
    assert await settle_licenses(database) == 1
    assert await settle_licenses(database) == 0
    assert await list_steps(database, granted) == ["started"]


async def test_license_of_unknown_product_shows_nothing(database: Database, gateway: Gateway) -> None:
    """A license that arrives before its product counts as soon as the product is known, and not before."""
    await gateway.apply(ROSTER)
    early = licensed(
        id=str(UUID(int=1)), product_id=str(UUID(int=2)), organization_id=gateway.organization_id, valid_from=SINCE
    )
    await announce(database, early)
    assert await list_product_sights(database, UUID(early.product_id)) == []
    await announce(database, ProductState(id=early.product_id, name="Reader"))
    assert len(await list_product_sights(database, UUID(early.product_id))) == 1
