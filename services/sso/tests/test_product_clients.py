"""Clients that belong to products: what they may be given, and what their tokens say (F3)."""

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from homeroom.auth import ONEROSTER_SCOPES, PRODUCT_SCOPES, Caller, Verifier
from homeroom.clock import MovingClock
from sso.clients import Declaration, check, may_create

PRODUCT, DISTRICT = str(uuid.uuid4()), str(uuid.uuid4())


async def _create(service: Any, **body: Any) -> Any:
    return await service.client.post("/v1/clients", headers=await service.boss(), json=body)


async def test_tokens_name_their_product(service: Any, clock: MovingClock) -> None:
    """A product's token carries the product and, where the client is bound to one, the organization; others neither."""

    async def fetch() -> Mapping[str, Any]:
        document: Mapping[str, Any] = (await service.client.get("/oauth2/jwks")).json()
        return document

    verifier = Verifier("http://homeroom.test", fetch, clock)
    found = []
    for body in ({"product_id": PRODUCT}, {"product_id": PRODUCT, "organization_id": DISTRICT}, {}):
        created = (await _create(service, scopes=["roster.read", "accounts.write"], **body)).json()
        assert created["product_id"] == body.get("product_id")
        caller = await verifier.verify(await service.token(created["id"], created["secret"]))
        found.append((caller.product_id, caller.organization_id))
    assert found == [(PRODUCT, None), (PRODUCT, DISTRICT), (None, None)]


async def test_products_get_products_scopes_only(service: Any) -> None:
    """A product's client gets what products may have, OneRoster's demographics among it, and nothing else."""
    every = sorted(PRODUCT_SCOPES | ONEROSTER_SCOPES)
    allowed = await _create(service, scopes=every, product_id=PRODUCT)
    assert (allowed.status_code, allowed.json()["scopes"]) == (201, every)
    assert any("demographics.readonly" in scope for scope in every)
    for scope in ("admin", "integrations.read", "fingerprints.read", "roster.write"):
        refused = await _create(service, scopes=["roster.read", scope], product_id=PRODUCT)
        assert (refused.status_code, refused.json()["code"]) == (403, "SCOPE_REFUSED"), scope
        with pytest.raises(ValueError, match="is a product's"):
            check(Declaration("reading", "x" * 30, ["roster.read", scope], None, uuid.UUID(PRODUCT)))


async def test_only_the_platform_speaks_for_products(service: Any) -> None:
    """An organization's admin neither makes a product's client nor gets its secret, and a product makes no clients."""
    local = (await _create(service, scopes=["admin"], organization_id=DISTRICT)).json()
    theirs = (await _create(service, scopes=["roster.read"], organization_id=DISTRICT, product_id=PRODUCT)).json()
    headers = {"Authorization": f"Bearer {await service.token(local['id'], local['secret'])}"}
    body = {"scopes": ["roster.read"], "organization_id": DISTRICT, "product_id": PRODUCT}
    refused = [
        await service.client.post("/v1/clients", headers=headers, json=body),
        await service.client.post(f"/v1/clients/{theirs['id']}/secrets", headers=headers),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(403, "SCOPE_REFUSED")] * 2

    product = {"Authorization": f"Bearer {await service.token(theirs['id'], theirs['secret'])}"}
    for method, path in (("POST", "/v1/clients"), ("GET", "/v1/clients"), ("POST", "/v1/clients/boss/secrets")):
        answer = await service.client.request(
            method, path, headers=product, json=body if path.endswith("clients") else None
        )
        assert answer.status_code == 403, path
    assert not may_create(Caller("p", frozenset({"admin"}), None, "p", PRODUCT), ["roster.read"], None, None)


async def test_clients_are_listed_by_product(service: Any) -> None:
    """The list can be narrowed to the clients of one product."""
    mine = (await _create(service, scopes=["roster.read"], product_id=PRODUCT)).json()["id"]
    await _create(service, scopes=["roster.read"], product_id=DISTRICT)
    listed = await service.client.get("/v1/clients", headers=await service.boss(), params={"product_id": PRODUCT})
    assert [(one["id"], one["product_id"]) for one in listed.json()["clients"]] == [(mine, PRODUCT)]
