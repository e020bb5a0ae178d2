"""Connections over REST: made, listed, changed and ended by admins, each within their own organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx2
import pytest
from connecting import make_certificate, make_connection
from roster_stand_in import District, make_district

from homeroom.codes import Code
from sso.audit_retention import forget_old
from sso.settings import Settings

if TYPE_CHECKING:
    from conftest import Service

SECRET = "a-client-secret-nobody-else-has"
OIDC = {"issuer": "https://idp.example.org", "client_id": "homeroom", "client_secret": SECRET}


def describe(district: District, **more: Any) -> dict[str, Any]:
    """A connection to a plain OpenID provider."""
    place = {"organization_id": str(district.organization_id), "integration_id": str(district.integration_id)}
    return {"kind": "oidc", "name": "School accounts", "oidc": OIDC, **place, **more}


def describe_saml(district: District, **more: Any) -> dict[str, Any]:
    """A connection to a SAML provider, entered field by field."""
    saml = {"entity_id": "https://idp.example.org", "sso_url": "https://idp.example.org/sso"}
    saml |= {"certificates": [make_certificate()]}
    return describe(district, kind="saml", oidc=None, saml={**saml, **more})


async def post(service: Service, body: dict[str, Any], path: str = "/v1/connections") -> httpx2.Response:
    """What the platform's admin is answered."""
    return await service.client.post(path, json=body, headers=await service.boss())


async def patch(service: Service, path: str, body: dict[str, Any]) -> httpx2.Response:
    """What the platform's admin is answered."""
    return await service.client.patch(path, json=body, headers=await service.boss())


async def become_admin(service: Service, organization_id: object) -> dict[str, str]:
    """Headers of an admin of one organization."""
    made = await post(service, {"scopes": ["admin"], "organization_id": str(organization_id)}, "/v1/clients")
    token = await service.token(made.json()["id"], made.json()["secret"])
    return {"Authorization": f"Bearer {token}"}


async def test_a_connection_is_made_read_changed_and_ended(service: Service, district: District) -> None:
    """An admin sees what to enter at the portal, changes settings, and nobody finds a connection that was ended."""
    made = (await post(service, describe(district, kind="classlink", tenant="2284"))).json()
    path = f"/v1/connections/{made['id']}"
    assert made["portal"]["redirect_uri"] == f"http://homeroom.test/sso/callback/{made['id']}"
    assert made["portal"]["launch_url"] == f"http://homeroom.test/sso/launch/{made['id']}"
    assert (made["tenant"], made["warnings"], made["oidc"]["openid"]) == ("2284", [], True)

    changed = await patch(service, path, {"name": "LaunchPad", "max_roster_age_hours": 48, "oidc": {"pkce": True}})
    assert (changed.json()["name"], changed.json()["oidc"]["pkce"]) == ("LaunchPad", True)
    again = await patch(service, path, {"max_roster_age_hours": None, "oidc": {"pkce": None}})
    assert (again.json()["max_roster_age_hours"], again.json()["oidc"]["pkce"]) == (None, None)

    headers = await service.boss()
    assert (await service.client.delete(path, headers=headers)).status_code == 204
    assert (await service.client.get(path, headers=headers)).status_code == 404
    sealed = await service.database.fetchrow("SELECT sealed_secret, enabled FROM upstream")
    assert sealed is not None
    assert (sealed["sealed_secret"], sealed["enabled"]) == (None, False)
    audit = (await service.client.get("/v1/sign-in/audit", headers=headers)).json()["items"]
    assert [one["action"] for one in audit] == [
        f"connection.{verb}" for verb in ("delete", "change", "change", "create")
    ]


async def test_the_audit_is_kept_for_its_time(service: Service) -> None:
    """What was done is told for as long as settings say, and is a chain that verifies before and after."""
    for days in (800, 1):
        await service.database.fetch(
            "INSERT INTO audit_entry (at, by, action, subject) "
            "VALUES (now() - make_interval(days => $1), 'ada', 'connection.create', 'connection:x')",
            days,
        )
    assert await forget_old(service.database, service.app.state.settings.audit_days) == 1
    headers = await service.boss()
    verified = await service.client.post("/v1/sign-in/audit/verifications", headers=headers)
    assert (verified.json()["ok"], verified.json()["entries"], verified.json()["forgotten"]) == (True, 1, 1)


async def test_a_secret_is_sealed_and_shown_to_nobody(
    service: Service, district: District, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client secret opens for a launch; it stands in no answer, no log and no table."""
    made = await post(service, describe(district))
    answers = made.text + (await service.client.get("/v1/connections", headers=await service.boss())).text
    found = await service.launching.upstreams.find(made.json()["id"])
    tables = [
        str(await service.database.fetchval(f"SELECT jsonb_agg(t) FROM {table} AS t"))  # noqa: S608 - names from here
        for table in ("upstream", "connection", "audit_entry")
    ]
    printed = capsys.readouterr()

    assert found is not None
    assert found.secret == SECRET
    assert made.json()["oidc"]["secret_entered_at"] is not None
    assert SECRET not in answers + caplog.text + printed.out + printed.err + "".join(tables)


async def test_another_address_wants_the_secret_again(service: Service, district: District) -> None:
    """Issuer, endpoints and client id are what a secret is bound to; other settings are not."""
    path = f"/v1/connections/{(await post(service, describe(district))).json()['id']}"
    for change in (
        {"issuer": "https://other.example.org"},
        {"client_id": "another"},
        {"token_endpoint": "https://other.example.org/token"},
        {"info_url": "https://other.example.org/me"},
    ):
        refused = await patch(service, path, {"oidc": change})
        assert (refused.status_code, refused.json()["code"]) == (422, Code.SECRET_REQUIRED), change
        assert (await patch(service, path, {"oidc": {**change, "client_secret": SECRET}})).status_code == 200, change
    assert (await patch(service, path, {"oidc": {"person_claim": "employee"}})).status_code == 200


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"integration_id": None}, "body.integration_id"),
    ({"integration_id": str(uuid4())}, "body.integration_id"),
    ({"kind": "classlink"}, "body.tenant"),
    ({"kind": "clever"}, "body.tenant"),
    ({"tenant": "north"}, "body.oidc.tenant_claim"),
    ({"oidc": {**OIDC, "tenant_claim": "hd"}}, "body.tenant"),
    ({"oidc": {**OIDC, "issuer": "https://accounts.google.com"}}, "body.tenant"),
    ({"oidc": {**OIDC, "issuer": None}}, "body.oidc.issuer"),
    ({"oidc": {**OIDC, "client_secret": None}}, "body.oidc.client_secret"),
    ({"oidc": None}, "body.oidc"),
    ({"kind": "saml"}, "body.saml"),
    ({"application_id": str(uuid4())}, "body.application_id"),
    ({"application_id": str(uuid4()), "oidc": None}, "body.application_id"),
    ({"oidc": {**OIDC, "person_claim": "email"}}, "body.oidc"),
    ({"oidc": {**OIDC, "algorithms": ["HS256"]}}, "body.oidc.algorithms.0"),
    ({"oidc": {**OIDC, "algorithms": ["none"]}}, "body.oidc.algorithms.0"),
    ({"person_field": "email"}, "body.person_field"),
    ({"surprise": 1}, "body.surprise"),
    ({"product_id": str(uuid4())}, "body.product_id"),
]


async def test_what_could_not_work_is_refused(service: Service, district: District) -> None:
    """A connection that could let in nobody, or the wrong ones, is not made, and the field is named."""
    for body, field in UNFIT:
        refused = await post(service, describe(district, **body))
        assert (refused.status_code, refused.json()["code"]) == (422, Code.REQUEST_INVALID), body
        assert field in [one["field"] for one in refused.json()["errors"]], body
    assert (await service.client.get("/v1/connections", headers=await service.boss())).json()["items"] == []


async def test_people_of_a_deleted_integration_may_be_connected(service: Service, district: District) -> None:
    """An integration that was deleted still says who people are (C8)."""
    await service.database.fetch("UPDATE integration SET deleted = true")
    made = await post(service, describe(district))

    assert made.status_code == 201
    assert made.json()["integration_deleted"] is True


async def test_attack_28_addresses_inside_are_refused(service: Service, district: District) -> None:
    """No address of a provider leads to plain http, to a file, or into somebody's network."""
    names = ("issuer", "discovery_url", "authorization_endpoint", "token_endpoint", "jwks_uri", "info_url")
    bad = ("http://idp.example.org", "file:///etc/passwd", "https://127.0.0.1/x", "https://10.0.0.8/x")
    bad += ("https://[::1]/x", "https://idp.internal/x", "https://user:pw@idp.example.org/x", "https://2130706433/")
    for number, url in enumerate(bad):
        name = names[number % len(names)]
        refused = await post(service, describe(district, oidc={**OIDC, name: url}))
        assert (refused.status_code, refused.json()["code"]) == (422, Code.ENDPOINT_REFUSED), (name, url)
        refused = await post(service, describe(district, kind="saml", oidc=None, saml={"metadata_url": url}))
        assert (refused.status_code, refused.json()["code"]) == (422, Code.ENDPOINT_REFUSED), url
        refused = await post(service, describe_saml(district, sso_url=url))
        assert (refused.status_code, refused.json()["code"]) == (422, Code.METADATA_REFUSED), url


async def test_attack_74_connections_of_others_do_not_exist(
    service: Service, settings: Settings, district: District
) -> None:
    """An organization's admin reads, changes, tests and ends their own connections; those of others are not there."""
    other = await make_district(service.database, "South District")
    _, theirs = await make_connection(service.database, settings, organization_id=other.organization_id)
    headers = await become_admin(service, district.organization_id)
    mine = await service.client.post("/v1/connections", json=describe(district), headers=headers)
    assert mine.status_code == 201

    path = f"/v1/connections/{theirs}"
    answers = [
        await service.client.get(path, headers=headers),
        await service.client.patch(path, json={"name": "Mine now"}, headers=headers),
        await service.client.patch(path, json={"oidc": {"issuer": "https://evil.example.org"}}, headers=headers),
        await service.client.delete(path, headers=headers),
        await service.client.get(f"{path}/metadata-change", headers=headers),
        await service.client.post(f"{path}/metadata-change/approve", json={"hash": "0" * 64}, headers=headers),
        await service.client.post(f"{path}/metadata-change/discard", json={"hash": "0" * 64}, headers=headers),
        await service.client.post("/v1/connections", json=describe(other), headers=headers),
        await service.client.get(f"/v1/connections?organization_id={other.organization_id}", headers=headers),
    ]
    assert [one.status_code for one in answers] == [404] * len(answers)
    listed = (await service.client.get("/v1/connections", headers=headers)).json()["items"]
    assert [one["id"] for one in listed] == [mine.json()["id"]]
    borrowed = describe(district, integration_id=str(other.integration_id))
    refused = await service.client.post("/v1/connections", json=borrowed, headers=headers)
    assert refused.json()["errors"][0]["field"] == "body.integration_id"


async def test_lists_are_searched_and_paged(service: Service, settings: Settings) -> None:
    """Pages follow each other without gaps; names, kinds, tenants and states narrow what is listed."""
    north, south = [await make_district(service.database, name) for name in ("North District", "South Schools")]
    for number, place in enumerate((north, north, south, south)):
        door = {"name": f"Door {number}", "enabled": number != 3}
        await make_connection(service.database, settings, organization_id=place.organization_id, **door)
    place = {"organization_id": south.organization_id, "name": "Door 4"}
    upstream, _ = await make_connection(service.database, settings, kind="saml", **place)
    soon = "UPDATE upstream SET certificate_ends = ARRAY[now() + interval '20 days'] WHERE id = $1"
    await service.database.fetch(soon, upstream)
    headers = await service.boss()

    async def find(**query: Any) -> set[str]:
        found = (await service.client.get("/v1/connections", params=query, headers=headers)).json()
        return {one["name"] for one in found["items"]}

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await service.client.get("/v1/connections", params=query, headers=headers)).json()
        seen += [one["name"] for one in page["items"]]
        cursor = page["cursor"]
    assert sorted(seen) == [f"Door {number}" for number in range(5)]
    assert await find(search="south") == {"Door 2", "Door 3", "Door 4"}
    assert await find(search="oor 1") == {"Door 1"}
    assert await find(kind="saml") == {"Door 4"}
    assert await find(state="disabled") == {"Door 3"}
    assert await find(state="warned") == {"Door 4"}
    assert await find(organization_id=str(north.organization_id)) == {"Door 0", "Door 1"}
    assert await find(search="%") == set()
    refused = await service.client.get("/v1/connections?cursor=bm9uc2Vuc2U", headers=headers)
    assert refused.json()["code"] == Code.CURSOR_INVALID


async def test_an_application_serves_districts_by_their_tenants(service: Service, district: District) -> None:
    """A portal application is the platform's: districts share it by tenants, of which each is connected once."""
    body = {"kind": "clever", "name": "Clever", "oidc": {"client_id": "app", "client_secret": SECRET}}
    application = (await post(service, body, "/v1/portal-applications")).json()
    other = await make_district(service.database, "South District")
    shared = {"kind": "clever", "oidc": None, "application_id": application["id"]}
    first = await post(service, describe(district, tenant="5", **shared))
    assert (first.status_code, first.json()["oidc"]) == (201, None)
    assert first.json()["portal"] == application["portal"]

    taken = await post(service, describe(other, tenant="5", **shared))
    assert (taken.status_code, taken.json()["code"]) == (409, Code.TENANT_CONNECTED)
    second = (await post(service, describe(other, tenant="6", **shared))).json()
    moved = await patch(service, f"/v1/connections/{second['id']}", {"tenant": "5"})
    assert (moved.status_code, moved.json()["code"]) == (409, Code.TENANT_CONNECTED)
    assert (await post(service, describe(other, **shared))).json()["errors"][0]["field"] == "body.tenant"
    assert (await post(service, describe(other, tenant="7", **{**shared, "kind": "oidc"}))).status_code == 422

    headers = await become_admin(service, other.organization_id)
    reached = [
        await service.client.post("/v1/connections", json=describe(other, tenant="8", **shared), headers=headers),
        await service.client.patch(f"/v1/connections/{second['id']}", json={"tenant": "9"}, headers=headers),
        await service.client.get("/v1/portal-applications", headers=headers),
        await service.client.post("/v1/portal-applications", json=body, headers=headers),
    ]
    assert [(one.status_code, one.json()["code"]) for one in reached] == [(403, Code.SCOPE_MISSING)] * 4
    renamed = await service.client.patch(f"/v1/connections/{second['id']}", json={"name": "Ours"}, headers=headers)
    assert renamed.json()["name"] == "Ours"

    path = f"/v1/portal-applications/{application['id']}"
    in_use = await service.client.delete(path, headers=await service.boss())
    assert (in_use.status_code, in_use.json()["code"]) == (409, Code.APPLICATION_IN_USE)
    rebound = await patch(service, path, {"oidc": {"client_id": "other"}})
    assert rebound.json()["code"] == Code.SECRET_REQUIRED
    assert (await patch(service, path, {"enabled": False})).json()["connections"] == 2
    for connection in (first.json(), second):
        await service.client.delete(f"/v1/connections/{connection['id']}", headers=await service.boss())
    assert (await service.client.delete(path, headers=await service.boss())).status_code == 204
    again = (await service.client.get("/v1/portal-applications", headers=await service.boss())).json()
    assert again["items"] == []


async def test_products_reach_no_connection(service: Service, district: District) -> None:
    """A product's token is refused, whatever it may do elsewhere."""
    made = await post(service, {"scopes": ["roster.read"], "product_id": str(district.product_id)}, "/v1/clients")
    token = await service.token(made.json()["id"], made.json()["secret"])
    refused = await service.client.get("/v1/connections", headers={"Authorization": f"Bearer {token}"})

    assert refused.status_code == 403
