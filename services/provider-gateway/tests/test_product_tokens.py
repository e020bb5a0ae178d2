"""A product's token opens nothing here: whatever a provider sent is served by the store alone, by license (F3)."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from pydantic import SecretStr

from homeroom.auth import SCOPES
from homeroom.testing.tokens import TestIssuer, calling
from provider_gateway.app import build
from provider_gateway.settings import GatewaySettings

PUBLIC = ("/livez", "/readyz", "/metrics")


async def test_every_route_refuses_products(database_url: str, tmp_path: Path) -> None:
    """Whatever a product's token claims, each route that takes a token at all answers it 403."""
    issuer = TestIssuer()
    settings = GatewaySettings(database_url=SecretStr(database_url), issuer=issuer.issuer, uploads_url=str(tmp_path))
    app = build(settings, issuer.verifier)
    routes = [
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if not path.startswith(PUBLIC)
    ]
    assert ("POST", "/v1/integrations/{integration_id}/uploads") in routes
    async with calling(app, issuer.token(sorted(SCOPES), product_id=uuid.uuid4())) as client:
        for method, path in routes:
            answer = await client.request(method, re.sub(r"\{\w+\}", str(uuid.uuid4()), path))
            assert answer.status_code == 403, (method, path)
            assert answer.json()["code"] in ("PRODUCT_REFUSED", "SCOPE_MISSING"), (method, path)
