"""Organizations over REST."""

import httpx2
import pytest

from homeroom.testing.tokens import TestIssuer


async def test_create_and_read(client: httpx2.AsyncClient) -> None:
    """An organization that was created can be read and listed."""
    created = (await client.post("/v1/organizations", json={"name": "  Springfield  "})).json()

    assert (await client.get(f"/v1/organizations/{created['id']}")).json() == created
    assert (await client.get("/v1/organizations")).json() == {"items": [created], "cursor": None, "more": False}
    assert created["name"] == "Springfield"


async def test_pages(client: httpx2.AsyncClient) -> None:
    """A list is read to its end by cursors, every item once."""
    names = [f"District {number}" for number in range(5)]
    for name in names:
        await client.post("/v1/organizations", json={"name": name})
    found, cursor, more = [], None, True
    while more:
        params = {"limit": 2, "cursor": cursor} if cursor else {"limit": 2}
        page = (await client.get("/v1/organizations", params=params)).json()
        found += [item["name"] for item in page["items"]]
        cursor, more = page["cursor"], page["more"]

    assert found == names


@pytest.mark.parametrize("cursor", ["x", "YWZ0ZXI6", "YWZ0ZXI6LTE", "é", "YWZ0ZXI6OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
async def test_foreign_cursor(client: httpx2.AsyncClient, cursor: str) -> None:
    """A cursor that is none of ours is refused with CURSOR_INVALID."""
    answer = await client.get("/v1/organizations", params={"cursor": cursor})

    assert (answer.status_code, answer.json()["code"]) == (400, "CURSOR_INVALID")


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a\0b"}, {"name": "a", "x": 1}, {"name": "a" * 201}, []])
async def test_wrong_fields(client: httpx2.AsyncClient, body: object) -> None:
    """An organization with unknown or wrong fields is refused."""
    answer = await client.post("/v1/organizations", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")


async def test_unknown(client: httpx2.AsyncClient, unknown_id: str) -> None:
    """An unknown organization is NOT_FOUND."""
    answer = await client.get(f"/v1/organizations/{unknown_id}")

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_bound_admins_see_their_own(client: httpx2.AsyncClient, issuer: TestIssuer, organization_id: str) -> None:
    """An organization's admin sees that organization alone and can't create another."""
    other = (await client.post("/v1/organizations", json={"name": "Shelbyville"})).json()
    bound = issuer.headers(["admin"], organization_id=organization_id)
    lost = issuer.headers(["admin"], organization_id="no-id-of-ours")

    listed = (await client.get("/v1/organizations", headers=bound)).json()["items"]
    assert [item["id"] for item in listed] == [organization_id]
    assert (await client.get("/v1/organizations", headers=lost)).json()["items"] == []
    assert (await client.get(f"/v1/organizations/{other['id']}", headers=bound)).status_code == 404
    refused = await client.post("/v1/organizations", headers=bound, json={"name": "Ogdenville"})
    assert (refused.status_code, refused.json()["code"]) == (403, "SCOPE_MISSING")
