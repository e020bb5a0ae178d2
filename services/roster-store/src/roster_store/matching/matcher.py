"""Matches people with accounts in the database: everybody of a product, or only those a change may concern (D3).

Matchings of an organization take turns, by a lock that is held until the transaction ends and is taken last of all
locks. What a change concerns is found in a few steps: the people it changed, whoever has an address or an id that they
or changed accounts have or had, and the accounts that have these. Judging those few comes to the same as judging
everybody, which a test compares; organizations without accounts pay one question.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final
from uuid import UUID

import asyncpg

from homeroom.db import Connection
from homeroom.messages import ProductMatching
from roster_store.people import JOINED_PROVIDER
from roster_store.picture import forbid_nested_loops
from roster_store.plan import Plan
from roster_store.tables import SQL
from roster_store.takeover import TAKEN

SECONDS: Final = 600.0

_SEEN: Final = SQL["seen_person"]


async def match_applied(connection: Connection, integration_no: int, organization: UUID, number: int) -> None:
    """After a step was written: match whoever it changed, with every product of the organization.

    Args:
        connection: of the transaction that writes the step, after everything else the step does to people.
        integration_no: whose roster it changed.
        organization: whose integration that is.
        number: the step's number; people changed by it, and moved between schools by it, are found by that.
    """

    async def concern() -> None:
        await connection.execute(SQL["concern_changed"], integration_no, number, timeout=SECONDS)

    await _match_concerned(connection, organization, concern)


async def match_step(
    connection: Connection, integration_no: int, number: int, sourced_ids: Collection[str] = ()
) -> None:
    """After a step that no sync made: match whoever it changed, and people it woke up without changing their rows."""
    organization = await connection.fetchval(SQL["find_organization_of"], integration_no)
    if organization is None:
        return

    async def concern() -> None:
        await connection.execute(SQL["concern_changed"], integration_no, number, timeout=SECONDS)
        await connection.execute(SQL["concern_people"], integration_no, list(sourced_ids))

    await _match_concerned(connection, organization, concern)


async def follow_takeover(connection: Connection, plan: Plan) -> None:
    """After a plan was applied: people who changed hands keep their accounts. `match_applied` comes afterwards."""
    if TAKEN not in plan.picture.staged:
        return
    await connection.execute(SQL["make_matching"])
    taken = plan.picture.name(TAKEN)
    await connection.execute(SQL["concern_taken"].format(taken=taken))
    await connection.execute(SQL["take_links_over"].format(taken=taken), plan.picture.integration_no, timeout=SECONDS)


async def rematch(connection: Connection, product: UUID, organization: UUID) -> None:
    """Match everybody of an organization with a product: after its access changed, or when somebody asks for it.

    Where the product sees nothing any more, its links stay for a later license, and nobody counts as unmatched.
    """
    await lock_accounts(connection, organization)
    wanted = await _list_products(connection, organization)
    if product not in wanted:
        await connection.execute(SQL["forget_all_unmatched"], product, organization)
        return
    await _refresh_everybody(connection, organization)
    await _match_everybody(connection, product, organization, make=wanted[product])


async def lock_accounts(connection: Connection, organization: UUID) -> None:
    """Wait for the organization's other matchings to end, and have later ones wait until this transaction does."""
    await connection.execute(SQL["lock_accounts"], organization)


async def is_matching(connection: Connection, product: UUID, organization: UUID) -> bool:
    """Whether the people of an organization are matched for a product: it has accounts there, or wants them made."""
    return product in await _list_products(connection, organization)


async def note_accounts(connection: Connection, accounts: Sequence[int]) -> None:
    """Note what accounts are matched by, before and after they are changed; `match_accounts` goes by it."""
    await connection.execute(SQL["make_matching"])
    await connection.execute(SQL["concern_accounts"], list(accounts))


async def match_accounts(connection: Connection, product: UUID, organization: UUID) -> None:
    """After accounts were changed under the organization's lock: match whomever that concerns."""
    products = await _list_products(connection, organization)
    if product not in products:  # its last account went
        await connection.execute(SQL["forget_all_unmatched"], product, organization)
        await connection.execute(SQL["clear_concern"])
        return
    await connection.execute(SQL["concern_names"])
    await connection.execute(SQL["concern_addresses"])
    await _match_some(connection, product, organization, make=products[product])
    await connection.execute(SQL["clear_concern"])


async def count_matching(
    connection: Connection, integration_no: int, organization: UUID
) -> tuple[ProductMatching, ...]:
    """How the people of an integration stand with each product that matches there (C5)."""
    return tuple(
        [
            await count_product(connection, product, organization, integration_no)
            for product in await _list_products(connection, organization)
        ]
    )


async def count_product(
    connection: Connection, product: UUID, organization: UUID, integration_no: int
) -> ProductMatching:
    """How the people of an integration stand with one product."""
    row = await connection.fetchrow(
        SQL["count_matching"].format(seen_person=_SEEN), product, organization, integration_no, timeout=SECONDS
    )
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    return ProductMatching(product_id=str(product), **dict(row))


async def _list_products(connection: Connection, organization: UUID) -> dict[UUID, bool]:
    """The products people are matched for → whether accounts are made for those without."""
    rows: list[asyncpg.Record] = await connection.fetch(SQL["list_matching_products"], organization)
    return {row["product_id"]: row["unmatched"] == "create" for row in rows}


async def _match_concerned(connection: Connection, organization: UUID, concern: Callable[[], Awaitable[None]]) -> None:
    await lock_accounts(connection, organization)
    products = await _list_products(connection, organization)
    kept = await connection.fetchval(SQL["find_matched_organization"], organization)
    if not products and not kept:
        return
    await connection.execute(SQL["make_matching"])
    joins = await connection.fetchval(SQL["read_joins"])
    await concern()
    if not kept:
        await _refresh_everybody(connection, organization)
        for product, make in products.items():
            await _match_everybody(connection, product, organization, make=make)
    elif await _refresh_concerned(connection, organization):
        for product, make in products.items():
            await _match_some(connection, product, organization, make=make)
    await connection.execute(SQL["clear_concern"])
    await connection.fetchval(SQL["write_joins"], joins)  # what follows in the transaction has its own needs


async def _refresh_everybody(connection: Connection, organization: UUID) -> None:
    await connection.execute(SQL["begin_matching_organization"], organization)
    await forbid_nested_loops(connection)
    everybody = SQL["refresh_people"].format(of_concern="", if_concerned="")
    await connection.execute(everybody, organization, timeout=SECONDS)


async def _refresh_concerned(connection: Connection, organization: UUID) -> bool:
    """Bring the people concerned up to date; whether there are any."""
    if await connection.fetchval(SQL["find_joined"], organization, JOINED_PROVIDER):
        await connection.execute(SQL["concern_joined"], organization, timeout=SECONDS)
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM match_concern)"):
        return False
    await connection.execute(SQL["concern_addresses"])
    await connection.execute(SQL["analyze_concern"])
    await connection.execute(SQL["allow_nested_loops"])
    parts = {"of_concern": SQL["of_concern"], "if_concerned": SQL["if_concerned"]}
    await connection.execute(SQL["refresh_people"].format(**parts), organization, timeout=SECONDS)
    await connection.execute(SQL["concern_addresses"])
    await connection.execute(SQL["concern_names"])
    return True


async def _match_everybody(connection: Connection, product: UUID, organization: UUID, *, make: bool) -> None:
    await connection.execute(SQL["make_matching"])
    await connection.execute(SQL["clear_matching"])
    await forbid_nested_loops(connection)
    both = product, organization
    await _move_joined_links(connection, *both)
    await connection.execute(_with_seen("load_all_people"), *both, timeout=SECONDS)
    await connection.execute(SQL["analyze_people"])
    await connection.execute(SQL["load_accounts"].format(which=SQL["all_accounts"]), *both, timeout=SECONDS)
    await connection.execute(SQL["analyze_accounts"])
    await _judge(connection, *both)
    await _write(connection, *both, make=make, scope="all_unmatched")


async def _match_some(connection: Connection, product: UUID, organization: UUID, *, make: bool) -> None:
    both = product, organization
    await connection.execute(SQL["clear_matching"])
    await connection.execute(SQL["allow_nested_loops"])
    await connection.execute(SQL["widen_concern"], *both, timeout=SECONDS)
    await connection.execute(SQL["analyze_concern"])
    await _move_joined_links(connection, *both)
    await connection.execute(_with_seen("load_concerned_people"), *both, timeout=SECONDS)
    await connection.execute(SQL["widen_addresses"])
    await connection.execute(SQL["widen_names"])
    await connection.execute(SQL["analyze_people"])
    await connection.execute(SQL["analyze_concern"])
    await connection.execute(SQL["load_candidates"], *both, timeout=SECONDS)
    await connection.execute(SQL["analyze_candidates"])
    await connection.execute(SQL["load_accounts"].format(which=SQL["candidate_accounts"]), timeout=SECONDS)
    await connection.execute(SQL["analyze_accounts"])
    await connection.execute(_with_seen("load_context"), *both, timeout=SECONDS)
    await _judge(connection, *both)
    await connection.execute(SQL["allow_nested_loops"])
    await _write(connection, *both, make=make, scope="concerned_unmatched")


async def _move_joined_links(connection: Connection, product: UUID, organization: UUID) -> None:
    if await connection.fetchval(SQL["find_joined"], organization, JOINED_PROVIDER):
        await connection.execute(SQL["move_joined_links"], product, organization, timeout=SECONDS)


async def _judge(connection: Connection, product: UUID, organization: UUID) -> None:
    """Judge the people who were loaded."""
    await connection.execute(SQL["load_named"], organization, timeout=SECONDS)
    await connection.execute(SQL["analyze_named"])
    await forbid_nested_loops(connection)  # from here on what was loaded is compared with itself
    await connection.execute(SQL["judge_people"], product, timeout=SECONDS)
    await connection.execute(SQL["analyze_verdicts"])


async def _write(connection: Connection, product: UUID, organization: UUID, *, make: bool, scope: str) -> None:
    """Write down what came of it."""
    await connection.execute(SQL["end_moved_links"], product)
    await connection.execute(SQL["replace_made_accounts"], product)
    await connection.execute(SQL["write_links"], product, timeout=SECONDS)
    if make:
        await connection.execute(SQL["make_accounts"], product, organization, timeout=SECONDS)
    forget = SQL["forget_unmatched"].format(scope=SQL[scope])
    await connection.execute(forget, product, organization, timeout=SECONDS)
    await connection.execute(SQL["write_unmatched"], product, timeout=SECONDS)


def _with_seen(statement: str) -> str:
    return SQL[statement].format(seen_person=_SEEN)
