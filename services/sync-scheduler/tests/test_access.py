"""Who may do what: every route with every kind of caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from homeroom.testing.tokens import TestIssuer

ROUTES = [
    ("POST", "/v1/organizations", "integrations.write"),
    ("GET", "/v1/organizations", "integrations.read"),
    ("GET", "/v1/organizations/{organization}", "integrations.read"),
    ("POST", "/v1/integrations", "integrations.write"),
    ("GET", "/v1/integrations", "integrations.read"),
    ("GET", "/v1/integrations/{integration}", "integrations.read"),
    ("PATCH", "/v1/integrations/{integration}", "integrations.write"),
    ("POST", "/v1/integrations/{integration}/reset", "integrations.write"),
    ("POST", "/v1/integrations/{integration}/runs", "runs.write"),
    ("GET", "/v1/integrations/{integration}/runs", "integrations.read"),
    ("GET", "/v1/runs/{run}", "integrations.read"),
    ("GET", "/v1/runs/{run}/log", "integrations.read"),
    ("POST", "/v1/runs/{run}/cancel", "runs.write"),
    ("POST", "/v1/integrations/{integration}/verify", "runs.write"),
    ("GET", "/v1/integrations/{integration}/schools", "integrations.read"),
    ("POST", "/v1/integrations/{integration}/sftp-account", "integrations.write"),
    ("DELETE", "/v1/integrations/{integration}/sftp-account", "integrations.write"),
    ("DELETE", "/v1/integrations/{integration}", "integrations.write"),
]
SCOPES = ("integrations.read", "integrations.write", "runs.write")


@pytest.fixture
def inquiry_wait_seconds() -> float:
    """No worker answers here."""
    return 0.0


@pytest.fixture
def call(
    client: httpx2.AsyncClient,
    organization_id: str,
    integration: dict[str, Any],
    run_id: str,
    wanted: Callable[..., dict[str, Any]],
) -> Callable[..., Any]:
    """Calls a route with a body it accepts."""
    bodies: dict[tuple[str, str], object] = {
        ("POST", "/v1/organizations"): {"name": "Another"},
        ("POST", "/v1/integrations"): wanted(organization_id),
        ("PATCH", "/v1/integrations/{integration}"): {"name": "Another"},
        ("POST", "/v1/integrations/{integration}/reset"): {"confirm": True},
        ("POST", "/v1/integrations/{integration}/sftp-account"): {"auth": "password"},
    }

    async def call(method: str, path: str, headers: dict[str, str]) -> httpx2.Response:
        filled = path.format(organization=organization_id, integration=integration["id"], run=run_id)
        return await client.request(method, filled, json=bodies.get((method, path)), headers=headers)

    return call


async def test_scopes(call: Callable[..., Any], issuer: TestIssuer) -> None:
    """A route opens to its own scope, and answers all others and strangers with 403 and 401."""
    for method, path, scope in ROUTES:
        others = [other for other in SCOPES if other != scope]
        assert (await call(method, path, {"Authorization": ""})).status_code == 401
        assert (await call(method, path, issuer.headers(others))).status_code == 403
        allowed = await call(method, path, issuer.headers([scope]))
        assert allowed.status_code not in (401, 403), (method, path)


async def test_other_organizations(client: httpx2.AsyncClient, call: Callable[..., Any], issuer: TestIssuer) -> None:
    """To an admin of another organization nothing is there, on any route."""
    other = (await client.post("/v1/organizations", json={"name": "Shelbyville"})).json()["id"]
    stranger = issuer.headers(["admin"], organization_id=other)
    for method, path, _ in ROUTES:
        answer = await call(method, path, stranger)
        match method, path:
            case "POST", "/v1/organizations":
                assert answer.status_code == 403
            case "GET", "/v1/organizations":
                assert [item["id"] for item in answer.json()["items"]] == [other]
            case "GET", "/v1/integrations":
                assert answer.json()["items"] == []
            case _:
                assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), (method, path)


async def test_own_organization(
    client: httpx2.AsyncClient, issuer: TestIssuer, organization_id: str, integration: dict[str, Any], run_id: str
) -> None:
    """An admin of an organization sees what belongs to it, and asking for another's list finds nothing."""
    other = (await client.post("/v1/organizations", json={"name": "Shelbyville"})).json()["id"]
    bound = issuer.headers(["admin"], organization_id=organization_id)
    listed = (await client.get("/v1/integrations", headers=bound)).json()["items"]
    foreign = await client.get("/v1/integrations", headers=bound, params={"organization_id": other})

    assert [item["id"] for item in listed] == [integration["id"]]
    assert foreign.json()["items"] == []
    assert (await client.get(f"/v1/runs/{run_id}", headers=bound)).status_code == 200
