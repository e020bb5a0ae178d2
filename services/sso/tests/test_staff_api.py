"""The staff over REST, and the tokens they get for the console."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio
from connecting import make_connection
from roster_stand_in import District, make_district
from staffed import Person, Staffed, opened_browser, running_staff

from homeroom import audit
from homeroom.codes import Code

pytestmark = pytest.mark.asyncio(loop_scope="module")
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0815"
CONSOLE = {"client_id": "homeroom-console", "redirect_uri": "http://homeroom.test/console/signed-in"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(request: pytest.FixtureRequest) -> AsyncIterator[Staffed]:
    """One sso for all these tests, which tell their people apart."""
    async with running_staff(request) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def person(service: Staffed) -> AsyncIterator[Person]:
    """Somebody with a browser."""
    async with opened_browser(service.app) as person:
        yield person


@pytest_asyncio.fixture(loop_scope="module")
async def district(service: Staffed) -> District:
    """A district of this test's own."""
    return await make_district(service.database)


async def call(
    service: Staffed, method: str, path: str, body: Any = None, *, organization: UUID | None = None
) -> httpx2.Response:
    """Call as an admin of the platform, or of an organization."""
    claims = {} if organization is None else {"organization_id": str(organization)}
    headers = await service.headers(**claims)
    return await service.client.request(method, f"/v1/staff{path}", json=body, headers=headers)


async def register(service: Staffed, district: District, sourced_id: str = "admin-1") -> str:
    """The id of an account for somebody of a roster."""
    body = {"integration_id": str(district.integration_id), "sourced_id": sourced_id, "label": "Head of IT"}
    made = await call(service, "POST", "", body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def describe(role: str, organization: UUID | None = None, product: UUID | None = None, **more: Any) -> dict[str, Any]:
    """A role, as a body says it."""
    bound = {"organization_id": organization, "product_id": product}
    return {"role": role, **{name: str(value) for name, value in bound.items() if value}, **more}


async def test_giving_and_taking_roles(service: Staffed, district: District) -> None:
    """A role is given once however often it is asked for, shown with who gave it, written down, and taken away."""
    account = await register(service, district)
    assert await register(service, district) == account
    role = describe("support", district.organization_id)
    given = [(await call(service, "POST", f"/{account}/roles", role)).json() for _ in range(2)]
    assert given[0] == given[1]
    assert (given[0]["granted_by"], given[0]["counts"]) == ("boss", True)
    listed = (await call(service, "GET", "", organization=district.organization_id)).json()["staff"]
    assert [(one["id"], one["label"], len(one["roles"])) for one in listed] == [(account, "Head of IT", 1)]
    assert (await call(service, "DELETE", f"/{account}/roles/{given[0]['id']}")).status_code == 204
    assert (await call(service, "DELETE", f"/{account}/roles/{given[0]['id']}")).status_code == 404
    entries = await audit.list_entries(
        service.database, organization=district.organization_id, subject=f"staff:{account}", before=2**62, limit=9
    )
    assert [row["action"] for row in reversed(entries)] == [
        "staff.register",
        "staff.register",
        "staff-role.grant",
        "staff-role.revoke",
    ]


async def test_attack_74_a_district_admin_of_one_gives_nothing_in_another(service: Staffed, district: District) -> None:
    """Bound to their organization, an admin neither sees, changes, gives nor takes anything of another one."""
    other = await make_district(service.database, "South District")
    ours, theirs = district.organization_id, other.organization_id
    account = await register(service, other)
    role = (await call(service, "POST", f"/{account}/roles", describe("support", theirs))).json()["id"]
    invitation = (await call(service, "POST", "/invitations", describe("support", theirs))).json()["id"]
    mine = await register(service, district)
    tried = [
        ("POST", f"/{account}/roles", describe("support", ours), 404),
        ("POST", f"/{account}/roles", describe("support", theirs), 403),
        ("POST", f"/{mine}/roles", describe("district-admin", theirs), 403),
        ("POST", f"/{mine}/roles", describe("platform-admin"), 403),
        ("POST", f"/{mine}/roles", describe("support"), 403),
        ("POST", f"/{mine}/roles", describe("product-admin", product=district.product_id), 403),
        ("DELETE", f"/{account}/roles/{role}", None, 404),
        ("PATCH", f"/{account}", {"disabled": True}, 404),
        ("DELETE", f"/invitations/{invitation}", None, 404),
        ("POST", "/invitations", describe("district-admin", theirs), 403),
        ("POST", "/invitations", describe("platform-admin", local=True), 403),
        ("POST", "/invitations", describe("support", ours, home_organization_id=str(theirs)), 403),
        ("POST", "", {"integration_id": str(other.integration_id), "sourced_id": "x"}, 404),
    ]
    for method, path, body, status in tried:
        answer = await call(service, method, path, body, organization=ours)
        assert answer.status_code == status, (method, path, body, answer.text)
        assert answer.json()["code"] == (Code.ROLE_REFUSED if status == 403 else Code.NOT_FOUND)
    seen = [(await call(service, "GET", path, organization=ours)).text for path in ("", "/invitations")]
    assert not [one for one in (account, invitation, str(theirs)) if one in "".join(seen)]
    granted = await call(service, "POST", f"/{mine}/roles", describe("district-admin", ours), organization=ours)
    assert granted.status_code == 201


async def test_what_a_district_vouches_for(
    service: Staffed, district: District, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the platform gives nobody of a district more than the district, unless it is the platform's own."""
    account = await register(service, district)
    wanted = describe("platform-admin", home_organization_id=str(district.organization_id))
    assert (await call(service, "POST", f"/{account}/roles", describe("platform-admin"))).status_code == 403
    assert (await call(service, "POST", "/invitations", wanted)).status_code == 403
    monkeypatch.setattr(service.settings, "platform_organizations", [district.organization_id])
    assert (await call(service, "POST", "/invitations", wanted)).status_code == 201


async def test_an_organization_takes_away_what_is_in_it(service: Staffed, district: District) -> None:
    """A district's admin sees who of elsewhere has a role in it, and can take that away, but not their account."""
    account = await service.app.state.staff.accounts.declare("travelling-admin", "scrypt$none")
    role = describe("district-admin", district.organization_id)
    given = (await call(service, "POST", f"/{account.id}/roles", role)).json()["id"]
    ours = district.organization_id
    listed = (await call(service, "GET", "", organization=ours)).json()["staff"]
    assert [one["username"] for one in listed] == ["travelling-admin"]
    assert (await call(service, "PATCH", f"/{account.id}", {"disabled": True}, organization=ours)).status_code == 403
    assert (await call(service, "DELETE", f"/{account.id}/roles/{given}", organization=ours)).status_code == 204
    assert (await call(service, "GET", "", organization=ours)).json()["staff"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/invitations", {"role": "teacher"}),
        ("/invitations", {"role": "district-admin"}),
        ("/invitations", {"role": "platform-admin", "organization_id": str(uuid4())}),
        ("/invitations", {"role": "platform-admin"}),
        ("/invitations", {"role": "district-admin", "organization_id": str(uuid4())}),
        ("/invitations", {"role": "product-admin", "product_id": str(uuid4()), "local": True}),
        ("/invitations", {"role": "platform-admin", "local": True, "label": "a\0b"}),
        ("/invitations", {"role": "platform-admin", "local": True, "expires_in_hours": 10**9}),
        ("", {"integration_id": str(uuid4()), "sourced_id": ""}),
        ("", {"integration_id": str(uuid4()), "sourced_id": "x" * 300}),
    ],
)
async def test_bad_requests_are_explained(service: Staffed, path: str, body: dict[str, Any]) -> None:
    """What can't be a role, an invitation or a person is refused with the field that is wrong."""
    answer = await call(service, "POST", path, body)
    assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID)
    assert answer.json()["errors"][0]["field"].startswith("body")


async def test_staff_are_listed_page_by_page(service: Staffed, district: District) -> None:
    """Each page goes on where the one before ended; a cursor that is none is refused."""
    ours = district.organization_id
    for number in range(3):
        account = await register(service, district, f"admin-{number}")
        await call(service, "POST", f"/{account}/roles", describe("support", ours))
        await call(service, "POST", "/invitations", describe("support", ours))
    await register(service, district, "teacher-without-a-role")
    for path, name in (("", "staff"), ("/invitations", "invitations")):
        first = (await call(service, "GET", f"{path}?limit=2", organization=ours)).json()
        rest = (await call(service, "GET", f"{path}?limit=2&cursor={first['cursor']}", organization=ours)).json()
        assert [len(first[name]), len(rest[name]), rest["cursor"]] == [2, 1, None]
        assert len({one["id"] for one in first[name] + rest[name]}) == 3
        bad = await call(service, "GET", f"{path}?cursor=nonsense")
        assert (bad.status_code, bad.json()["code"]) == (400, Code.CURSOR_INVALID)


# ── tokens for the console ────────────────────────────────────────────────────────────────────────────────────────


def _ask() -> str:
    challenge = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    asked = {"response_type": "code", "scope": "openid", "state": "s", "code_challenge": challenge}
    return f"/oauth2/authorize?{urlencode({**CONSOLE, **asked, 'code_challenge_method': 'S256'})}"


async def _redeem(person: Person, answer: httpx2.Response, **more: str) -> dict[str, Any]:
    said = parse_qs(urlsplit(answer.headers["location"]).query)
    assert answer.headers["location"].startswith(f"{CONSOLE['redirect_uri']}?"), answer.headers["location"]
    form = {"grant_type": "authorization_code", "code": said["code"][0], "code_verifier": VERIFIER, **CONSOLE, **more}
    redeemed = await person.browser.post("/oauth2/token", data=form)
    found: dict[str, Any] = redeemed.json()
    return found


async def test_a_local_admin_gets_a_token_for_rest(service: Staffed, person: Person) -> None:
    """From the console's request over the form to a token: it opens REST, and is renewed while the session lasts."""
    waiting = await person.get(_ask())
    assert waiting.status_code == 303
    form = (await person.get(waiting.headers["location"])).text.partition('href="/sso/staff/local')[2].partition('"')[0]
    request = parse_qs(form.lstrip("?").replace("&amp;", "&"))["request"][0]
    tokens = await _redeem(person, await person.type_password(request=request))
    caller = await service.app.state.verifier.verify(tokens["access_token"])
    assert caller.subject.startswith("staff:")
    assert (caller.client_id, "admin" in caller.scopes, caller.organization_id) == ("homeroom-console", True, None)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await service.client.get("/v1/staff", headers=headers)).status_code == 200
    assert (await service.client.get("/v1/clients", headers=headers)).status_code == 200
    form_again = {"grant_type": "refresh_token", "client_id": "homeroom-console"}
    renewed = await person.browser.post("/oauth2/token", data=form_again | {"refresh_token": tokens["refresh_token"]})
    assert renewed.status_code == 200
    await person.browser.post("/sso/sign-out")
    last = renewed.json()["refresh_token"]
    gone = await person.browser.post("/oauth2/token", data=form_again | {"refresh_token": last})
    assert (gone.status_code, gone.json()["error"]) == (400, "invalid_grant")


async def test_a_token_for_one_organization(service: Staffed, person: Person, district: District) -> None:
    """Who may do everything asks for a token of one organization, which reaches no further; nonsense is refused."""
    await person.type_password()
    tokens = await _redeem(person, await person.get(_ask()), organization=str(district.organization_id))
    caller = await service.app.state.verifier.verify(tokens["access_token"])
    assert caller.organization_id == str(district.organization_id)
    for more in ({"organization": "nonsense"}, {"product": str(uuid4())}):
        refused = await _redeem(person, await person.get(_ask()), **more)
        assert refused["error"] in ("invalid_request", "invalid_grant")


async def test_a_teachers_token_is_theirs(service: Staffed, person: Person, district: District) -> None:
    """A teacher who comes by the portal gets a token that names them and their roster, and opens no other route."""
    service.roster.add(district.integration_id, "teacher-1", role="teacher")
    _, connection_id = await make_connection(
        service.database, service.settings, organization_id=district.organization_id
    )
    waiting = await person.get(_ask())
    answer = await person.come_by(waiting.headers["location"], connection_id, "t-1", key="teacher-1")
    tokens = await _redeem(person, answer)
    caller = await service.app.state.verifier.verify(tokens["access_token"])
    assert caller.teacher == (str(district.integration_id), "teacher-1")
    assert (caller.organization_id, caller.scopes) == (
        str(district.organization_id),
        {"classes.refresh", "classes.start"},
    )
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await service.client.get("/v1/staff", headers=headers)).json()["code"] == Code.SCOPE_MISSING


async def test_a_students_session_is_nobodys_for_the_console(
    service: Staffed, person: Person, district: District
) -> None:
    """Whoever signed in to open a product is asked to sign in as staff, and a student can't."""
    service.roster.add(district.integration_id, "student-1")
    _, connection_id = await make_connection(
        service.database, service.settings, organization_id=district.organization_id, product_id=None
    )
    there = await person.get(f"/sso/launch/{connection_id}")
    state = parse_qs(urlsplit(there.headers["location"]).query)["state"][0]
    said = {"state": state, "subject": "s-1", "key": "student-1"}
    assert (await person.browser.get(f"/played/{connection_id}", params=said)).status_code == 200
    waiting = await person.get(_ask())
    assert waiting.headers["location"].startswith("/sso/staff?request=")
    answer = await person.come_by(waiting.headers["location"], connection_id, "s-1", key="student-1")
    assert (answer.status_code, Code.SIGNIN_ROLE_MISSING in answer.text) == (403, True)
