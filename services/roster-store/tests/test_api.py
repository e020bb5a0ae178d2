"""The store over HTTP: fingerprints, the change feed, OneRoster."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from datetime import date

import httpx2
import pytest
from played_gateway import ROSTER, Gateway, enrollment, student

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.roster import Demographics, encode_record, fingerprint, record_key
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.settings import StoreSettings

ONEROSTER = "/ims/oneroster/v1p1"
ISSUER = TestIssuer()


@pytest.fixture
async def client(database: Database, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller without a token."""
    assert database is not None
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        yield client


def as_reader(organization_id: str | None = None) -> dict[str, str]:
    """The headers of somebody who may read rosters."""
    return ISSUER.headers(["roster.read"], organization_id=organization_id)


async def test_fingerprints_stream_what_is_held(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Key and fingerprint of every active record arrive as binary COPY, with the apply they show."""
    await gateway.sync(ROSTER)
    await gateway.sync({}, {"users": ["user-2"]})
    answer = await client.get(
        f"/v1/fingerprints/{gateway.integration_id}/users", headers=ISSUER.headers(["fingerprints.read"])
    )

    body = answer.content[19:-2]
    entries = {key: mark for _, _, key, _, mark in struct.iter_unpack(">hi16siq", body)}
    assert answer.headers["x-homeroom-apply"] == str(gateway.basis)
    assert answer.content[-2:] == b"\xff\xff"
    assert entries == {
        record_key(user.sourced_id): fingerprint(encode_record(user)) for user in (student(1), student(3))
    }


async def test_unknown_integration_has_no_fingerprints(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Before the first sync there is an empty stream with basis 0, not an error."""
    answer = await client.get(
        f"/v1/fingerprints/{gateway.integration_id}/users", headers=ISSUER.headers(["fingerprints.read"])
    )

    assert (answer.status_code, answer.headers["x-homeroom-apply"], len(answer.content)) == (200, "0", 21)


async def test_keys_are_told_apart(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """The gateway learns the sourcedIds behind keys it could not see at the provider."""
    await gateway.sync(ROSTER)
    known, unknown = record_key("user-1").hex(), record_key("nobody").hex()
    answer = await client.post(
        f"/v1/fingerprints/{gateway.integration_id}/users/ids",
        json={"keys": [known, unknown]},
        headers=ISSUER.headers(["fingerprints.read"]),
    )

    assert answer.json() == {"ids": {known: "user-1"}}


@pytest.mark.parametrize("path", ["/v1/fingerprints/{id}/users", "/v1/changes", f"{ONEROSTER}/users"])
async def test_every_path_wants_a_token(client: httpx2.AsyncClient, gateway: Gateway, path: str) -> None:
    """Without a token nothing is served, and with the wrong scope neither."""
    url = path.format(id=gateway.integration_id)
    nobody = await client.get(url)
    wrong = await client.get(url, headers=ISSUER.headers(["integrations.read"]))

    assert (nobody.status_code, nobody.json()["code"]) == (401, Code.TOKEN_MISSING)
    assert (wrong.status_code, wrong.json()["code"]) == (403, Code.SCOPE_MISSING)


async def test_admins_can_not_read_fingerprints(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Fingerprints are between gateway and store; the admin scope does not include them."""
    answer = await client.get(f"/v1/fingerprints/{gateway.integration_id}/users", headers=ISSUER.headers(["admin"]))

    assert answer.status_code == 403


async def test_pull_feed_goes_on_where_it_stopped(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """A cursor gives exactly what came after it, as CloudEvents."""
    await gateway.sync(ROSTER)
    first = (await client.get("/v1/changes", headers=as_reader())).json()
    await gateway.sync({"enrollments": [enrollment(1, 1, primary=True)]})
    second = (await client.get("/v1/changes", params={"cursor": first["cursor"]}, headers=as_reader())).json()

    changed, applied = second["events"]
    assert changed["type"] == "homeroom.enrollment.updated.v1"
    assert changed["source"] == f"/integrations/{gateway.integration_id}"
    assert changed["data"]["record"]["userSourcedId"] == "user-1"
    assert (changed["specversion"], changed["subject"]) == ("1.0", "enrollments/enrollment-1-1")
    assert applied["type"] == "homeroom.sync.applied.v1"
    assert second["more"] is False


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"cursor": "nonsense"}, 400, Code.CURSOR_INVALID),
        ({"types": "homeroom.wizard.added.v1"}, 422, Code.REQUEST_INVALID),
        ({"limit": "0"}, 422, Code.REQUEST_INVALID),
        ({"integration": "x"}, 422, Code.REQUEST_INVALID),
    ],
)
async def test_feed_says_what_is_wrong(
    client: httpx2.AsyncClient, query: dict[str, str], status: int, code: Code
) -> None:
    """A question the feed can't answer gets a code and a next step."""
    answer = await client.get("/v1/changes", params=query, headers=as_reader())

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["next_step"]


async def test_oneroster_pages_through_everything(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Limit and offset walk through a collection; count and links fit."""
    await gateway.sync(ROSTER)
    seen, url = [], f"{ONEROSTER}/users?limit=2&offset=0"
    while url:
        answer = await client.get(url, headers=as_reader())
        seen += [user["sourcedId"] for user in answer.json()["users"]]
        assert answer.headers["x-total-count"] == "3"
        url = answer.links.get("next", {}).get("url", "")

    assert seen == ["user-1", "user-2", "user-3"]


async def test_links_stay_within_what_was_asked_for(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """A caller that narrows to one integration and follows the links stays in it."""
    await gateway.sync(ROSTER)
    answer = await client.get(
        f"{ONEROSTER}/users", params={"limit": 2, "integration": gateway.integration_id}, headers=as_reader()
    )

    assert f"integration={gateway.integration_id}" in answer.links["next"]["url"]


async def test_oneroster_shapes(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Records come in OneRoster 1.1's shapes, wrapped by what they are."""
    await gateway.sync(ROSTER)
    students = (await client.get(f"{ONEROSTER}/students", headers=as_reader())).json()
    single = (await client.get(f"{ONEROSTER}/enrollments/enrollment-1-1", headers=as_reader())).json()

    user = students["users"][0]
    assert (user["role"], user["grades"], user["metadata"]) == ("student", ["05"], {"house": "blue"})
    assert user["orgs"][0]["href"].endswith("/orgs/org-North")
    assert single["enrollment"]["class"]["sourcedId"] == "class-1"
    assert "beginDate" not in single["enrollment"]
    assert (await client.get(f"{ONEROSTER}/teachers", headers=as_reader())).json() == {"users": []}


async def test_organizations_see_only_themselves(
    client: httpx2.AsyncClient, gateway: Gateway, neighbour: Gateway
) -> None:
    """With a token of one organization nothing of another is listed, found or fed, whatever is asked for."""
    await gateway.sync(ROSTER)
    await neighbour.sync({"users": [student(8)]})
    headers = as_reader(neighbour.organization_id)

    listed = await client.get(f"{ONEROSTER}/users", headers=headers)
    assert [user["sourcedId"] for user in listed.json()["users"]] == ["user-8"]
    assert listed.headers["x-total-count"] == "1"
    assert (await client.get(f"{ONEROSTER}/users/user-1", headers=headers)).status_code == 404
    other = {"integration": gateway.integration_id}
    assert (await client.get(f"{ONEROSTER}/users", params=other, headers=headers)).json() == {"users": []}
    assert (await client.get("/v1/changes", params=other, headers=headers)).json()["events"] == []


async def test_demographics_are_served_with_programs_as_metadata(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Program demographics stand in the metadata as text, unless the provider's own keys stand there already."""
    told = Demographics(
        sourced_id="user-1",
        metadata={"iep_status": "Y", "house": "blue"},
        birth_date=date(2015, 2, 3),
        sex="other",
        asian=True,
        white=False,
        frl_status="Reduced",
        iep_status=True,
        ell_status=False,
    )
    await gateway.sync({**ROSTER, "demographics": [told, Demographics(sourced_id="user-2")]})
    headers = ISSUER.headers(["demographics.read"])
    listed = (await client.get(f"{ONEROSTER}/demographics", headers=headers)).json()["demographics"]
    single = (await client.get(f"{ONEROSTER}/demographics/user-1", headers=headers)).json()["demographics"]

    assert listed[0] == single
    assert single.pop("dateLastModified")
    assert single == {
        "sourcedId": "user-1",
        "status": "active",
        "metadata": {"frl_status": "Reduced", "iep_status": "Y", "ell_status": "false", "house": "blue"},
        "birthDate": "2015-02-03",
        "asian": "true",
        "white": "false",
    }
    assert listed[1]["metadata"] == {}


async def test_events_carry_program_demographics(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """The feed carries them as canonical fields."""
    told = Demographics(sourced_id="user-1", frl_status="Reduced", iep_status=True, ell_status=False)
    await gateway.sync({**ROSTER, "demographics": [told]})
    query = {"types": "homeroom.demographics.added.v1"}
    headers = ISSUER.headers(["roster.read", "demographics.read"])
    (event,) = (await client.get("/v1/changes", params=query, headers=headers)).json()["events"]

    record = event["data"]["record"]
    assert (record["frlStatus"], record["iepStatus"], record["ellStatus"]) == ("Reduced", True, False)
