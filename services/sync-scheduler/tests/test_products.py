"""Products and what their licenses cover: given, changed, taken away, and told to others (D2, D3, D5, F3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import msgspec
import pytest

from homeroom import migrate as migrating
from homeroom.bus import Message, Outgoing
from homeroom.bus.postgres import PostgresBus
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.grants import DEFAULT_GROUPS
from homeroom.messages import (
    TENANCY,
    LicenseState,
    OrganizationState,
    ProductState,
    TenancyState,
    read_tenancy,
)
from homeroom.migrate import load_migrations, migrate
from homeroom.testing.tokens import TestIssuer
from sync_scheduler.app import PACKAGE, SCHEMA
from sync_scheduler.licensing import MAX_SCHOOL_BYTES, MAX_SCHOOLS
from sync_scheduler.runs import Limits
from sync_scheduler.ticking import Ticking

Client = httpx2.AsyncClient
Read = Callable[[str], Awaitable[list[Message]]]
Json = dict[str, Any]


@pytest.fixture
async def product(client: Client) -> Json:
    """A product with all defaults."""
    found: Json = (await client.post("/v1/products", json={"name": "Reading"})).raise_for_status().json()
    return found


@pytest.fixture
def grant(client: Client, organization_id: str, product: Json) -> Callable[..., Awaitable[Json]]:
    """Licenses the product to the district."""

    async def grant(**fields: Any) -> Json:
        body = {"product_id": product["id"], "organization_id": organization_id, **fields}
        found: Json = (await client.post("/v1/licenses", json=body)).raise_for_status().json()
        return found

    return grant


async def _told(read: Read) -> list[TenancyState]:
    return [read_tenancy(message) for message in await read(TENANCY.name)]


async def _audit(client: Client, subject: str) -> list[tuple[str, Json]]:
    """What was done to something, oldest first."""
    entries = (await client.get("/v1/audit", params={"subject": subject})).json()["items"]
    return [(entry["action"], entry["detail"]) for entry in reversed(entries)]


async def test_a_product_says_how_it_wants_classes_and_people(client: Client, product: Json) -> None:
    """Classes are automatic and unmatched people listed unless said otherwise; an edit changes what it names."""
    path = f"/v1/products/{product['id']}"
    assert (product["classes"], product["unmatched"]) == ("automatic", "list")
    edited = (await client.patch(path, json={"classes": "teacher-started", "name": None})).json()
    assert edited == product | {"classes": "teacher-started", "updated_at": edited["updated_at"]}
    assert (await client.patch(path, json={"classes": "teacher-started"})).json() == edited
    assert (await client.get(path)).json() == edited
    assert await _audit(client, f"product:{product['id']}") == [
        ("product.create", {"classes": "automatic", "unmatched": "list"}),
        ("product.edit", {"classes": "teacher-started"}),
    ]
    for body in ({"classes": "manual"}, {"unmatched": "guess"}, {"name": ""}, {"colour": "red"}):
        assert (await client.patch(path, json=body)).json()["code"] == Code.REQUEST_INVALID


async def test_a_license_covers_schools_and_grants_groups(client: Client, grant: Any) -> None:
    """Without more a license covers all schools and the default groups; an edit leaves alone what it does not name."""
    plain = await grant()
    assert (plain["schools"], plain["grants"]) == (None, sorted(DEFAULT_GROUPS))
    one = await grant(
        schools=["s2", "s1"], grants=["metadata", "contacts", "metadata"], valid_until="2090-01-01T00:00Z"
    )
    assert (one["schools"], one["grants"]) == (["s1", "s2"], ["contacts", "metadata"])
    path = f"/v1/licenses/{one['id']}"
    assert (await client.get(path)).json() == one

    async def edit(**fields: Any) -> tuple[Any, Any, Any]:
        found = (await client.patch(path, json=fields)).raise_for_status().json()
        return found["schools"], found["grants"], found["valid_until"]

    end = one["valid_until"]
    assert await edit(grants=[]) == (["s1", "s2"], [], end)
    assert await edit(schools=None, grants=None) == (None, [], end)
    assert await edit(valid_until=None) == (None, [], None)
    listed = (await client.get("/v1/licenses")).json()["items"]
    assert [(found["schools"], found["grants"]) for found in listed] == [(None, sorted(DEFAULT_GROUPS)), (None, [])]
    created, *edits = await _audit(client, f"license:{one['id']}")
    assert (created[0], created[1]["schools"], created[1]["grants"]) == (
        "license.create",
        ["s1", "s2"],
        ["contacts", "metadata"],
    )
    assert edits == [
        ("license.edit", {"grants": []}),
        ("license.edit", {"schools": None}),
        ("license.renew", {"valid_until": None}),
    ]


async def test_terms_that_are_none(client: Client, organization_id: str, product: Json, grant: Any) -> None:
    """No schools, doubles, odd or too many ids and unknown groups are refused, given or edited."""
    path = f"/v1/licenses/{(await grant())['id']}"
    long = [f"{number:04d}".ljust(255, "é") for number in range(MAX_SCHOOL_BYTES // 506 + 1)]
    wrong: list[Json] = [
        {"schools": []},
        {"schools": ["s1", "s1"]},
        {"schools": [""]},
        {"schools": ["x" * 256]},
        {"schools": ["a\0b"]},
        {"schools": [str(number) for number in range(MAX_SCHOOLS + 1)]},
        {"schools": long},
        {"schools": "s1"},
        {"grants": ["everything"]},
        {"grants": ["grades"] * 51},
    ]
    for fields in wrong:
        body = {"product_id": product["id"], "organization_id": organization_id, **fields}
        for answer in (await client.post("/v1/licenses", json=body), await client.patch(path, json=fields)):
            assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID), str(fields)[:60]
    most = await grant(schools=[str(number) for number in range(MAX_SCHOOLS)])
    (created,) = await _audit(client, f"license:{most['id']}")
    assert created[1]["schools"] == "2,000 schools"


async def test_others_are_told(
    client: Client, ticking: Ticking, read: Read, product: Json, grant: Any, organization_id: str
) -> None:
    """Products and licenses go out as states, once for each change, a license after its product and organization."""
    one = await grant(schools=["s1"], grants=["grades"])
    await ticking.send_due()
    await client.patch(f"/v1/products/{product['id']}", json={"unmatched": "create"})
    await client.patch(f"/v1/products/{product['id']}", json={"unmatched": "create"})
    await client.patch(f"/v1/licenses/{one['id']}", json={"grants": ["contacts"]})
    await ticking.send_due()
    await ticking.send_due()
    told = await _told(read)
    assert [type(state) for state in told] == [
        OrganizationState,
        ProductState,
        LicenseState,
        ProductState,
        LicenseState,
    ]
    assert told[3] == ProductState(id=product["id"], name="Reading", classes="automatic", unmatched="create")
    last = told[4]
    assert isinstance(last, LicenseState)
    assert (last.id, last.product_id, last.organization_id) == (one["id"], product["id"], organization_id)
    assert (last.schools, last.grants, last.valid_until, last.revoked_at) == (("s1",), ("contacts",), None, None)
    assert last.valid_from.isoformat().removesuffix("+00:00") == one["valid_from"].removesuffix("Z")


async def test_a_license_waits_for_its_product(database: Database, ticking: Ticking, read: Read, grant: Any) -> None:
    """While another replica still tells of a product, its licenses wait, and go out once that is done."""
    await grant()
    async with database.transaction() as other:
        await other.execute("SELECT 1 FROM product FOR UPDATE")
        await ticking.send_due()
    assert [type(state) for state in await _told(read)] == [OrganizationState]
    await ticking.send_due()
    assert [type(state) for state in await _told(read)] == [OrganizationState, ProductState, LicenseState]


async def test_a_deleted_product_loses_its_licenses(
    client: Client, ticking: Ticking, read: Read, product: Json, grant: Any, integration: Json
) -> None:
    """Its licenses are revoked for good and told so, it is not listed any more, and no sync of the district begins."""
    given = [await grant(), await grant(valid_from="2090-01-01T00:00Z")]
    await client.patch(f"/v1/licenses/{given[0]['id']}", json={"revoked": True})
    given.append(await grant())
    path = f"/v1/products/{product['id']}"
    await ticking.send_due()
    deleted = [(await client.delete(path)).status_code for _ in range(2)]
    await ticking.send_due()

    assert deleted == [204, 204]
    assert (await client.get("/v1/products")).json()["items"] == []
    assert [
        (await client.request(method, path, json={} if method == "PATCH" else None)).status_code
        for method in ("GET", "PATCH")
    ] == [404, 404]
    states = [one["state"] for one in (await client.get("/v1/licenses")).json()["items"]]
    assert states == ["revoked"] * 3
    body = {"product_id": product["id"], "organization_id": integration["organization_id"]}
    assert (await client.post("/v1/licenses", json=body)).status_code == 404
    refused = await client.patch(f"/v1/licenses/{given[1]['id']}", json={"valid_until": None})
    assert refused.json()["code"] == Code.REQUEST_INVALID
    started = await client.post(f"/v1/integrations/{integration['id']}/runs", json={})
    assert started.json()["code"] == Code.LICENSE_INACTIVE

    told = await _told(read)
    ended = {state.id for state in told if isinstance(state, LicenseState) and state.revoked_at}
    assert ended == {one["id"] for one in given}
    assert [state for state in told if isinstance(state, ProductState)] == [
        ProductState(id=product["id"], name="Reading")
    ]
    actions = [await _audit(client, f"license:{one['id']}") for one in given[1:]]
    assert [entries[-1] for entries in actions] == [("license.revoke", {"product_id": product["id"]})] * 2
    assert (await _audit(client, f"product:{product['id']}"))[-1][0] == "product.delete"


async def test_no_license_outlives_its_product(client: Client, product: Json, organization_id: str) -> None:
    """Licenses that are given or renewed while their product is deleted are refused, or revoked with it."""
    body = {"product_id": product["id"], "organization_id": organization_id}
    given = (await client.post("/v1/licenses", json=body)).json()
    await asyncio.gather(
        *(client.post("/v1/licenses", json=body) for _ in range(3)),
        client.patch(f"/v1/licenses/{given['id']}", json={"grants": []}),
        client.delete(f"/v1/products/{product['id']}"),
        *(client.post("/v1/licenses", json=body) for _ in range(3)),
    )
    assert {one["state"] for one in (await client.get("/v1/licenses")).json()["items"]} == {"revoked"}


async def test_who_sees_and_changes_products(
    client: Client, issuer: TestIssuer, product: Json, grant: Any, organization_id: str, unknown_id: str
) -> None:
    """An organization sees its own licenses and their products, and changes neither; what is not there is not found."""
    one = await grant()
    paths = (f"/v1/products/{product['id']}", f"/v1/licenses/{one['id']}")
    own = issuer.headers(["admin"], organization_id=organization_id)
    other = issuer.headers(["admin"], organization_id=unknown_id)
    for path in paths:
        assert (await client.get(path, headers=own)).status_code == 200
        assert (await client.get(path, headers=other)).status_code == 404
        refused = await client.patch(path, json={}, headers=own)
        assert (refused.status_code, refused.json()["code"]) == (403, Code.SCOPE_MISSING)
    assert (await client.delete(paths[0], headers=own)).status_code == 403
    for method, path in (("GET", "products"), ("DELETE", "products"), ("GET", "licenses")):
        assert (await client.request(method, f"/v1/{path}/{unknown_id}")).status_code == 404
    assert (await client.patch(f"/v1/products/{unknown_id}", json={"name": "x"})).status_code == 404


async def test_what_was_there_before_is_told_too(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade, products and licenses from before go out as they would have been given without more."""
    before = [migration for migration in load_migrations(PACKAGE) if migration.name < "0007"]
    with monkeypatch.context() as patch:
        patch.setattr(migrating, "load_migrations", lambda _: before)
        await migrate(database_url, schema=SCHEMA, package=PACKAGE)
    async with Database.open(database_url, schema=SCHEMA) as database:
        async with database.connection() as connection:
            await connection.execute(_BEFORE)
        await migrate(database_url, schema=SCHEMA, package=PACKAGE)
        sent: list[Outgoing] = []

        async def keep(*messages: Outgoing) -> None:
            sent.extend(messages)

        async with PostgresBus.open(database_url) as bus:
            monkeypatch.setattr(bus, "publish", keep)
            await Ticking(database, bus, Limits(), tick_seconds=0.5).send_due()
    told = [msgspec.json.decode(one.value, type=TenancyState) for one in sent]
    assert [state.classes for state in told if isinstance(state, ProductState)] == ["automatic"]
    assert [(state.schools, state.grants) for state in told if isinstance(state, LicenseState)] == [
        (None, DEFAULT_GROUPS)
    ]


_BEFORE = """
    INSERT INTO organization (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'Springfield');
    INSERT INTO product (id, name) VALUES ('00000000-0000-0000-0000-000000000002', 'Reading');
    INSERT INTO license (id, product, organization, valid_from)
    SELECT '00000000-0000-0000-0000-000000000003', product.id, organization.id, now() FROM product, organization;
"""
