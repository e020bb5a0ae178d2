"""A product's token opens nothing here: products and licenses are decided about them, not by them (F3)."""

from __future__ import annotations

import re
import uuid

from homeroom.auth import SCOPES, Caller
from homeroom.testing.tokens import TestIssuer, calling
from sync_scheduler.app import make_app
from sync_scheduler.callers import NOBODY, seen_by
from sync_scheduler.settings import ApiSettings

PUBLIC = ("/livez", "/readyz", "/metrics", "/connect/")


async def test_every_route_refuses_products(settings: ApiSettings, issuer: TestIssuer) -> None:
    """Whatever a product's token claims, each route that takes a token at all answers it 403."""
    app = make_app(settings, verifier=issuer.verifier)
    routes = [
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if not path.startswith(PUBLIC)
    ]
    assert ("PATCH", "/v1/products/{product_id}") in routes
    token = issuer.token(sorted(SCOPES), product_id=uuid.uuid4())
    async with calling(app, token) as client:
        for method, path in routes:
            answer = await client.request(method, re.sub(r"\{\w+\}", str(uuid.uuid4()), path))
            assert (answer.status_code, answer.json()["code"] in ("PRODUCT_REFUSED", "SCOPE_MISSING")) == (403, True), (
                method,
                path,
            )
        asked = await client.get(f"/v1/inquiries/{uuid.uuid4()}")
        assert asked.json()["code"] == "PRODUCT_REFUSED"


def test_a_product_is_not_everybody() -> None:
    """Where a route forgets to ask, a product's token sees no organization rather than all of them."""
    product = Caller("p", SCOPES, None, "p", str(uuid.uuid4()))
    bound = Caller("p", SCOPES, str(uuid.uuid4()), "p", str(uuid.uuid4()))
    assert [seen_by(product), seen_by(bound)] == [NOBODY, NOBODY]
    assert seen_by(Caller("a", SCOPES)) is None
