"""What is registered of products' clients, and where they may be answered."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from roster_stand_in import District, PlayedRoster
from signing_in import REDIRECT, Browser, Product, make_product, read_answer, sign_in_pupil

from sso.launch.refusals import Refused
from sso.provider.first_party import make_console
from sso.provider.requests import check_redirect
from sso.settings import Settings

WHOLE = {
    "launches": True,
    "launch_mode": "ticket",
    "redirect_uris": ["https://reader.example/in", "https://reader.example/in?from=homeroom"],
    "post_logout_redirect_uris": ["https://reader.example/out"],
    "initiate_login_uri": "https://reader.example/login",
    "launch_uri": "https://reader.example/launch",
    "backchannel_logout_uri": "https://reader.example/logout",
    "destinations": {"library": "https://reader.example/library"},
    "refresh_tokens": True,
    "public": False,
    "lti": None,
}

ELSEWHERE = [
    "https://reader.example/signed-in/",
    "https://reader.example/signed-in/deeper",
    "https://reader.example/signed",
    "https://reader.example/signed-in?x=1",
    "https://reader.example/signed-in#x",
    "https://reader.example/signed-in/../signed-in",
    "https://reader.example/./signed-in",
    "https://reader.example/%73igned-in",
    "https://reader.example:443/signed-in",
    "https://reader.example:8443/signed-in",
    "http://reader.example/signed-in",
    "HTTPS://reader.example/signed-in",
    "https://READER.example/signed-in",
    "https://reader.example/SIGNED-IN",
    "https://reader.example.evil.example/signed-in",
    "https://reader.example@evil.example/signed-in",
    "https://evil.example/https://reader.example/signed-in",
    "https://evil.example?https://reader.example/signed-in",
    "https://evil.example\\@reader.example/signed-in",
    "//reader.example/signed-in",
    "/signed-in",
    " https://reader.example/signed-in",
    "https://reader.example/signed-in\n",
    "https://reader.example\t/signed-in",
    "https://rеader.example/signed-in",  # noqa: RUF001 - a Cyrillic letter, which looks like a Latin one
    "https://xn--rader-m5e.example/signed-in",
    "javascript:alert(1)//https://reader.example/signed-in",
    "data:text/html,x",
    "",
]


@pytest.fixture
async def product(service: Any, district: District) -> Product:
    """A product of the district, with its client."""
    return await make_product(service, district.product_id)


async def test_attack_59_answers_go_to_registered_addresses_only(
    service: Any, settings: Settings, product: Product, district: District, roster: PlayedRoster
) -> None:
    """An address that is not registered, to the last character, is told to the person there and never gone to."""
    browser = await sign_in_pupil(service, settings, district, roster)
    for elsewhere in ELSEWHERE:
        for more in ({}, {"prompt": "none"}, {"scope": "broken"}):
            answer = await product.ask(browser, redirect_uri=elsewhere, **more)
            assert answer.status_code == 400, elsewhere
            assert "location" not in answer.headers
            assert "SIGNIN_REQUEST_INVALID" in answer.text
            assert "evil" not in answer.text
    for changes in (
        {"redirect_uri": None},
        {"redirect_uri": [REDIRECT, "https://evil.example/"]},
        {"redirect_uri": ["https://evil.example/", REDIRECT]},
        {"client_id": None},
        {"client_id": [product.client_id, "other"]},
        {"client_id": "gateway"},
        {"client_id": "no\0body"},
        {"state": "s" * 9_000},
        {"nonce": ["n"] * 60},
    ):
        answer = await product.ask(browser, **changes)
        assert answer.status_code == 400, changes
        assert "location" not in answer.headers
    await service.client.delete(f"/v1/clients/{product.client_id}", headers=await service.boss())
    service.app.state.relying_parties.forget()
    assert "SIGNIN_PRODUCT_OFF" in (await product.ask(browser)).text


def test_attack_59_no_other_text_is_the_same() -> None:
    """Whatever is changed, added or left out in a registered address, it is another one."""
    party = replace(make_console("https://homeroom.example"), redirect_uris=(REDIRECT,))
    check_redirect(REDIRECT, party)
    chance = random.Random(59)
    for _ in range(500):
        at, letter = chance.randrange(len(REDIRECT)), chr(chance.randrange(32, 0x3000))
        cut = chance.choice((0, 1))
        changed = REDIRECT[:at] + letter + REDIRECT[at + cut :]
        if changed != REDIRECT:
            with pytest.raises(Refused):
                check_redirect(changed, party)


async def test_relying_parties_are_looked_after(service: Any, district: District) -> None:
    """What is put is read again, listed by product page by page, replaced as a whole, and gone when deleted."""
    boss = await service.boss()
    for name in ("reader-a", "reader-b"):
        body = {"id": name, "scopes": ["roster.read"], "product_id": str(district.product_id)}
        await service.client.post("/v1/clients", headers=boss, json=body)
    path = "/v1/relying-parties/reader-a"
    assert (await service.client.get(path, headers=boss)).status_code == 404
    put = await service.client.put(path, headers=boss, json=WHOLE)
    assert put.status_code == 200, put.text
    read = (await service.client.get(path, headers=boss)).json()
    assert read.items() >= WHOLE.items()
    assert (read["client_id"], read["product_id"]) == ("reader-a", str(district.product_id))
    second = await service.client.put("/v1/relying-parties/reader-b", headers=boss, json=WHOLE)
    assert (second.status_code, second.json()["code"]) == (409, "LAUNCH_CLIENT_EXISTS")
    second = await service.client.put("/v1/relying-parties/reader-b", headers=boss, json={"launches": False})
    assert second.status_code == 200
    page = (await service.client.get("/v1/relying-parties?limit=1", headers=boss)).json()
    rest = (await service.client.get(f"/v1/relying-parties?cursor={page['cursor']}", headers=boss)).json()
    names = [one["client_id"] for one in page["relying_parties"] + rest["relying_parties"]]
    assert (names, rest["cursor"]) == (["reader-a", "reader-b"], None)
    none = (await service.client.get(f"/v1/relying-parties?product_id={uuid4()}", headers=boss)).json()
    assert none["relying_parties"] == []
    odd = await service.client.get("/v1/relying-parties?cursor=AA==", headers=boss)
    assert (odd.status_code, odd.json()["code"]) == (400, "CURSOR_INVALID")
    found = await service.app.state.relying_parties.find_of_product(district.product_id)
    assert (found.client_id, found.destinations) == ("reader-a", WHOLE["destinations"])
    assert (await service.client.delete(path, headers=boss)).status_code == 204
    assert (await service.client.delete(path, headers=boss)).status_code == 404
    assert await service.app.state.relying_parties.find_of_product(district.product_id) is None
    noted = await service.database.fetch("SELECT action, subject FROM audit_entry ORDER BY number")
    assert [tuple(row) for row in noted if row["action"].startswith("relying-party")] == [
        ("relying-party.put", "relying-party:reader-a"),
        ("relying-party.put", "relying-party:reader-b"),
        ("relying-party.delete", "relying-party:reader-a"),
    ]


async def test_wrong_relying_parties_are_refused(service: Any, product: Product) -> None:
    """Addresses that browsers or we must not go to, unknown fields and half a launch mode are refused by name."""
    boss, path = await service.boss(), f"/v1/relying-parties/{product.client_id}"
    wrong: list[dict[str, Any]] = [
        {"redirect_uris": [address]}
        for address in (
            "http://reader.example/in",
            "http://localhost/in",
            "https://*.reader.example/in",
            "https://reader.example/in#x",
            "https://me@reader.example/in",
            "reader://in",
            "javascript:alert(1)",
            "https://reader.example/a b",
            "https://reader.example\\@evil.example/",
            "//reader.example/in",
            "",
        )
    ]
    wrong += [
        {"redirect_uris": [f"https://reader.example/{n}" for n in range(21)]},
        {"redirect_uris": ["https://reader.example/in"] * 2},
        {"launch_mode": "ticket"},
        {"launch_mode": "lti"},
        {"launch_mode": "saml"},
        {"lti": {"login_uri": "https://tool.example/"}},
        {"backchannel_logout_uri": "http://127.0.0.1/"},
        {"backchannel_logout_uri": "https://me:x@reader.example/"},
        {"backchannel_logout_uri": "https://reader.example/#x"},
        {"destinations": {"a b": "https://reader.example/"}},
        {"destinations": {"a": "http://reader.example/"}},
        {"redirect_uri": "https://reader.example/"},
    ]
    for body in wrong:
        answer = await service.client.put(path, headers=boss, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID"), body
    kept = (await service.client.get(path, headers=boss)).json()
    assert kept["redirect_uris"] == [REDIRECT]


async def test_laptops_may_use_plain_http(service: Any, product: Product) -> None:
    """Where an installation allows private endpoints, a product on this machine may be answered without TLS."""
    boss, path = await service.boss(), f"/v1/relying-parties/{product.client_id}"
    body = {"redirect_uris": ["http://127.0.0.1:9000/in"], "backchannel_logout_uri": "http://reader:9000/out"}
    assert (await service.client.put(path, headers=boss, json=body)).status_code == 422
    service.app.state.settings.allow_private_endpoints = True
    assert (await service.client.put(path, headers=boss, json=body)).status_code == 200
    body = {"redirect_uris": ["http://reader:9000/in"]}
    assert (await service.client.put(path, headers=boss, json=body)).status_code == 422


async def test_which_clients_can_sign_people_in(service: Any, district: District) -> None:
    """Only a product's client for all its districts can, and only platform admins say so."""
    boss = await service.boss()
    product, organization = str(district.product_id), str(district.organization_id)
    bound = {"id": "bound", "scopes": ["roster.read"], "product_id": product, "organization_id": organization}
    await service.client.post("/v1/clients", headers=boss, json=bound)
    made = {"id": "gone", "scopes": ["roster.read"], "product_id": product}
    gone = (await service.client.post("/v1/clients", headers=boss, json=made)).json()
    theirs = {"Authorization": f"Bearer {await service.token('gone', gone['secret'])}"}
    await service.client.delete("/v1/clients/gone", headers=boss)
    for name, status, code in (
        ("bound", 409, "CLIENT_UNFIT"),
        ("gone", 409, "CLIENT_UNFIT"),
        ("gateway", 409, "CLIENT_UNFIT"),
        ("nobody", 404, "NOT_FOUND"),
    ):
        answer = await service.client.put(f"/v1/relying-parties/{name}", headers=boss, json={})
        assert (answer.status_code, answer.json()["code"]) == (status, code), name
    body = {"scopes": ["admin"], "organization_id": organization}
    local = (await service.client.post("/v1/clients", headers=boss, json=body)).json()
    admin = {"Authorization": f"Bearer {await service.token(local['id'], local['secret'])}"}
    for headers in (admin, theirs):
        answers = [
            await service.client.get("/v1/relying-parties", headers=headers),
            await service.client.put("/v1/relying-parties/bound", headers=headers, json={}),
            await service.client.delete("/v1/relying-parties/bound", headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [403] * 3


async def test_clients_turned_off_sign_nobody_in(
    service: Any, settings: Settings, product: Product, district: District, roster: PlayedRoster
) -> None:
    """A deleted relying party's tokens are worth nothing, and registered addresses keep the query they have."""
    browser = await sign_in_pupil(service, settings, district, roster)
    tokens = await product.sign_in(browser)
    boss = await service.boss()
    path = f"/v1/relying-parties/{product.client_id}"
    await service.client.put(path, headers=boss, json={"redirect_uris": [f"{REDIRECT}?from=homeroom"]})
    answer = read_answer(await product.ask(browser, redirect_uri=f"{REDIRECT}?from=homeroom"))
    assert answer.keys() == {"from", "code", "state", "iss"}
    await service.client.delete(path, headers=boss)
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 401
    asked = await Browser(service).get(f"/oauth2/authorize?{urlencode({'client_id': product.client_id})}")
    assert asked.status_code == 400
