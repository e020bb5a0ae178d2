"""The REST face of accounts and matching: what products and people do by hand."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import pytest
from matching_worlds import license_product
from played_gateway import Gateway, student

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.settings import StoreSettings

ISSUER = TestIssuer()
PRODUCT, RIVAL = uuid.uuid4(), uuid.uuid4()
NOBODY = "00000000-0000-4000-8000-000000000000"
OWN = ISSUER.headers(["roster.read", "accounts.write"], product_id=PRODUCT, subject="reader")
OTHER = ISSUER.headers(["roster.read", "accounts.write"], product_id=RIVAL)
PLATFORM = ISSUER.headers(["admin"], subject="ada")


class Calls:
    """Calls about one organization, with the product's token unless another is given."""

    def __init__(self, client: httpx2.AsyncClient, organization: str) -> None:
        self.client = client
        self.organization = organization

    async def __call__(
        self, method: str, path: str, json: Any = None, *, headers: dict[str, str] = OWN, **query: Any
    ) -> httpx2.Response:
        """Call a route below /v1, naming the organization."""
        path, _, more = path.partition("?")
        query = {"organization": self.organization, **dict(parse_qsl(more)), **query}
        return await self.client.request(method, f"/v1{path}", json=json, headers=headers, params=query)

    async def get(self, path: str, **query: Any) -> Any:
        """What a route answers."""
        answer = await self("GET", path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def put(self, *accounts: dict[str, Any], **body: Any) -> Any:
        """Put accounts."""
        answer = await self("PUT", "/accounts", {"accounts": accounts, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def reasons(self) -> dict[str, str]:
        """Who is unmatched, and why."""
        return {one["sourced_id"]: one["reason"] for one in (await self.get("/matching/unmatched"))["items"]}

    async def whose(self) -> dict[str, str]:
        """Account → person."""
        return {one["external_id"]: one["sourced_id"] for one in (await self.get("/matching/links"))["items"]}


@pytest.fixture
async def calls(database: Database, settings: StoreSettings, gateway: Gateway) -> AsyncIterator[Calls]:
    """Four people, and two products that are licensed for them."""
    for product in (PRODUCT, RIVAL):
        await license_product(database, product, uuid.UUID(gateway.organization_id))
    twins = [student(number, "Bo", email="twins@north.example") for number in (3, 4)]
    await gateway.apply({"users": [student(1, "Ada"), student(2, email=None), *twins]})
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        yield Calls(client, gateway.organization_id)


def account(external_id: str, email: str | None = None, **fields: Any) -> dict[str, Any]:
    """An account in a request."""
    return {"external_id": external_id, "email": email, **fields}


async def test_accounts_are_put_listed_and_deleted(calls: Calls, gateway: Gateway) -> None:
    """What is put is there as given, doubles are refused by themselves, and the same again changes nothing."""
    two = [account("u1", " Student1@North.example"), account("u2", "x@north.example", role="student", active=False)]
    put = await calls.put(*two, account("u3"), account("u3"))
    assert [one["result"] for one in put["accounts"]] == ["created", "created", "refused", "refused"]
    assert [one["code"] for one in put["accounts"]] == [None, None, Code.ACCOUNT_DOUBLE, Code.ACCOUNT_DOUBLE]
    again = await calls.put(two[0], two[1] | {"role": "teacher"})
    assert (again["unchanged"], again["updated"], again["refused"]) == (1, 1, 0)
    assert [one["id"] for one in again["accounts"]] == [one["id"] for one in put["accounts"][:2]]

    first = await calls.get("/accounts", limit=1)
    assert first["more"]
    assert first["items"][0]["email"] == " Student1@North.example"
    assert first["items"][0]["link"]["sourced_id"] == "user-1"
    assert first["items"][0]["link"]["integration"] == gateway.integration_id
    rest = await calls.get("/accounts", cursor=first["cursor"])
    assert [(one["external_id"], one["role"], one["active"]) for one in rest["items"]] == [("u2", "teacher", False)]
    assert [one["external_id"] for one in (await calls.get("/accounts", linked=False))["items"]] == ["u2"]

    path = f"/accounts/{put['accounts'][0]['id']}"
    assert (await calls("DELETE", path)).status_code == 204
    assert (await calls("GET", path)).json()["code"] == Code.NOT_FOUND
    assert (await calls.reasons())["user-1"] == "unknown"
    await calls.put(two[0])
    assert await calls.whose() == {"u1": "user-1"}


async def test_a_product_works_through_the_unmatched(calls: Calls, gateway: Gateway) -> None:
    """Each has a name, a reason and candidates; a link by hand settles it and stays, and unlinking stays too."""
    await calls.put(account("u1", "student1@north.example"), account("u3", "twins@north.example"))
    page = await calls.get("/matching/unmatched", reason="ambiguous", limit=1)
    (one,) = page["items"]
    assert (one["given_name"], one["roles"], one["sourced_id"]) == ("Bo", ["student"], "user-3")
    assert [candidate["external_id"] for candidate in one["candidates"]] == ["u3"]
    rest = await calls.get("/matching/unmatched", reason="ambiguous", cursor=page["cursor"])
    assert [other["sourced_id"] for other in rest["items"]] == ["user-4"]

    tie = {"external_id": "u3", "integration": gateway.integration_id, "sourced_id": "user-4"}
    tied = await calls("PUT", "/matching/links", tie)
    assert tied.status_code == 200
    assert await calls.reasons() == {"user-2": "no_email", "user-3": "shared_email"}
    path = f"/matching/links/{tied.json()['account_id']}"
    assert (await calls("DELETE", path)).status_code == 204
    assert (await calls("DELETE", path)).json()["code"] == Code.NOT_FOUND
    await gateway.apply({}, {"users": ["user-3"]})
    assert (await calls("POST", "/matching/runs")).status_code == 200
    assert await calls.reasons() == {"user-2": "no_email", "user-4": "unlinked"}

    history = await calls.get(f"/accounts/{tied.json()['account_id']}/history")
    assert [(event["event"], event["how"], event["by"]) for event in history["items"]] == [
        ("linked", "manual", "reader"), ("unlinked", "manual", "reader"),
    ]  # fmt: skip


async def test_links_in_the_way_end_only_when_that_is_said(calls: Calls, gateway: Gateway, database: Database) -> None:
    """An account of somebody else and a person with another account are conflicts, unless they are to be replaced."""
    await calls.put(account("u1", "student1@north.example"), account("u2"))
    tie = {"integration": gateway.integration_id, "sourced_id": "user-1"}
    person = await calls("PUT", "/matching/links", {"external_id": "u2", **tie})
    assert (person.status_code, person.json()["code"]) == (409, Code.PERSON_LINKED)
    taken = await calls("PUT", "/matching/links", {"external_id": "u1", **tie, "sourced_id": "user-2"})
    assert (taken.status_code, taken.json()["code"]) == (409, Code.ACCOUNT_LINKED)

    assert (await calls("PUT", "/matching/links", {"external_id": "u2", **tie, "replace": True})).status_code == 200
    assert (await calls("PUT", "/matching/links", {"external_id": "u2", **tie})).status_code == 200
    await calls("POST", "/matching/runs")
    assert await calls.whose() == {"u2": "user-1"}
    noted = await database.fetch("SELECT by, action, product, detail FROM audit_entry WHERE action = 'account.link'")
    assert [tuple(row) for row in noted] == [("reader", "account.link", PRODUCT, {})] * 2
    left = await gateway.apply({}, {"users": ["user-1"]})
    assert left.apply
    assert [one["active"] for one in (await calls.get("/matching/links"))["items"]] == [False]
    gone = await calls("PUT", "/matching/links", {"external_id": "u1", **tie, "replace": True})
    assert gone.json()["code"] == Code.NOT_FOUND


async def test_made_accounts_are_taken_up(calls: Calls, database: Database, gateway: Gateway) -> None:
    """The product gives an account that was made its own id; one that is in use is refused."""
    await license_product(database, PRODUCT, uuid.UUID(gateway.organization_id), unmatched="create")
    summary = (await calls("POST", "/matching/runs")).json()
    assert (summary["accounts"], summary["linked"], summary["waiting"]) == (4, 4, 4)
    (standing,) = summary["integrations"]
    assert (standing["matched_students"], standing["created"], standing["unmatched"]) == (4, 4, 0)
    made = (await calls.get("/accounts", origin="roster"))["items"]

    answer = await calls("PATCH", f"/accounts/{made[0]['id']}", {"external_id": "mine"})
    assert answer.json()["external_id"] == "mine"
    answer = await calls("PATCH", f"/accounts/{made[1]['id']}", {"external_id": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (409, Code.ACCOUNT_EXISTS)
    assert (await calls.get("/matching/summary"))["waiting"] == 3


async def test_an_upload_in_parts_is_matched_at_its_end(calls: Calls) -> None:
    """With `match: false` nobody is matched until that is asked for."""
    await calls.put(account("u1", "student1@north.example"), match=False)
    assert await calls.whose() == {}
    await calls("POST", "/matching/runs")
    assert await calls.whose() == {"u1": "user-1"}


async def test_products_see_nothing_of_each_other(calls: Calls, gateway: Gateway, database: Database) -> None:
    """Accounts, links and lists are a product's own; the platform names the product, and licenses must be in force."""
    put = await calls.put(account("u1", "student1@north.example"))
    ours = put["accounts"][0]["id"]
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/history")):
        answer = await calls(method, f"/accounts/{ours}{path}", headers=OTHER)
        assert answer.status_code == 404
    assert (await calls("DELETE", f"/matching/links/{ours}", headers=OTHER)).status_code == 404
    for path in ("/accounts", "/matching/links", "/matching/unmatched"):
        assert (await calls("GET", path, headers=OTHER)).json()["items"] == []
        assert (await calls("GET", path, headers=OTHER, product_id=PRODUCT)).status_code == 404
        assert (await calls("GET", path, headers=PLATFORM, product_id=PRODUCT)).json()["items"]
        assert (await calls("GET", path, headers=PLATFORM)).json()["code"] == Code.REQUEST_INVALID
    tie = {"account_id": ours, "integration": gateway.integration_id, "sourced_id": "user-1", "replace": True}
    assert (await calls("PUT", "/matching/links", tie, headers=OTHER)).status_code == 404

    neighbours = ISSUER.headers(["admin"], organization_id=NOBODY)
    assert (await calls("GET", f"/accounts/{ours}", headers=neighbours)).status_code == 404
    await database.fetch("UPDATE access SET until = now() - interval '1 second' WHERE product_id = $1", PRODUCT)
    assert (await calls("GET", f"/accounts/{ours}")).status_code == 404
    assert (await calls("PUT", "/accounts", {"accounts": [account("u2")]})).status_code == 404


async def test_nobody_is_tied_to_a_product_that_may_not_know_them(
    calls: Calls, gateway: Gateway, database: Database
) -> None:
    """Who is outside of the product's license can't be linked by anybody, nor is seen in its lists."""
    await database.fetch("UPDATE access SET schools = '{org-South}' WHERE product_id = $1", PRODUCT)
    await calls.put(account("u1", "student1@north.example"))
    tie = {"external_id": "u1", "integration": gateway.integration_id, "sourced_id": "user-1"}
    for headers in (OWN, PLATFORM):
        answer = await calls("PUT", "/matching/links", tie, headers=headers, product_id=PRODUCT)
        assert answer.json()["code"] == Code.NOT_FOUND
    assert (await calls.whose(), await calls.reasons()) == ({}, {})


WRONG: list[tuple[str, str, Any, int]] = [
    ("PUT", "/accounts", {"accounts": []}, 422),
    ("PUT", "/accounts", {"accounts": [account("u")] * 5_001}, 422),
    ("PUT", "/accounts", {"accounts": [account("")]}, 422),
    ("PUT", "/accounts", {"accounts": [account("u\0")]}, 422),
    ("PUT", "/accounts", {"accounts": [account("u", "a\0@b")]}, 422),
    ("PUT", "/accounts", {"accounts": [account("u", "a" * 400)]}, 422),
    ("PUT", "/accounts", {"accounts": [account("u", role="king")]}, 422),
    ("PUT", "/accounts", {"accounts": [account("u", name="Ada")]}, 422),
    ("PUT", "/accounts", {"accounts": [account("u", integration=NOBODY)]}, 422),
    ("GET", "/accounts?cursor=%25", None, 400),
    ("GET", "/accounts?cursor=Wy0xXQ", None, 400),
    ("GET", "/matching/links?cursor=WzEsIlx1MDAwMCJd", None, 400),
    ("GET", "/matching/unmatched?cursor=Wzk5OTk5OTk5OTk5LCIiXQ", None, 400),
    ("GET", "/matching/unmatched?reason=because", None, 422),
    ("PUT", "/matching/links", {"integration": NOBODY, "sourced_id": "x"}, 422),
    ("PUT", "/matching/links", {"external_id": "u", "integration": NOBODY, "sourced_id": "x"}, 404),
    ("PATCH", f"/accounts/{NOBODY}", {"external_id": "x"}, 404),
    ("DELETE", f"/accounts/{NOBODY}", None, 404),
]


async def test_a_wrong_call_gets_a_reason(calls: Calls) -> None:
    """What can't be done gets a code and a next step, and no value of the request."""
    for method, path, body, status in WRONG:
        answer = await calls(method, path, body)
        assert answer.status_code == status, (method, path, answer.text)
        assert answer.json()["next_step"]
        assert "aaaa" not in answer.text
