"""Staff sign in: with a password of ours, by a connection, by an invitation, and as teachers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from connecting import make_connection
from pydantic import SecretStr
from roster_stand_in import District, PlayedRoster, add_integration, make_district
from staffed import PASSWORD, Person, Staffed, hash_once, opened_browser, running_staff

from homeroom.codes import Code
from homeroom.testing.tokens import calling
from sso.app import create
from sso.launch.flows import hash_token
from sso.launch.refusals import Refused
from sso.launch.sessions import Beginning, Session
from sso.settings import Settings
from sso.staff import passwords
from sso.staff.passwords import Passwords
from sso.staff.roles import Grant

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(request: pytest.FixtureRequest) -> AsyncIterator[Staffed]:
    """One sso for all these tests, which tell their people apart."""
    async with running_staff(request) as service:
        yield service


@pytest.fixture
def roster(service: Staffed) -> PlayedRoster:
    """The played roster-store."""
    return service.roster


@pytest.fixture
def settings(service: Staffed) -> Settings:
    """With local accounts, and an admin who is declared."""
    return service.settings


@pytest_asyncio.fixture(loop_scope="module")
async def person(service: Staffed) -> AsyncIterator[Person]:
    """Somebody with a browser."""
    async with opened_browser(service.app) as person:
        yield person


@pytest_asyncio.fixture(loop_scope="module")
async def district(service: Staffed) -> District:
    """A district of this test's own."""
    return await make_district(service.database)


@pytest_asyncio.fixture(loop_scope="module")
async def connection_id(service: Staffed, settings: Settings, district: District) -> UUID:
    """The district's connection, to a portal that vouches for whomever a test says."""
    found = await make_connection(service.database, settings, organization_id=district.organization_id)
    return found[1]


async def find_session(service: Staffed, person: Person) -> Session | None:
    """The session of somebody's browser, as sso has it."""
    row = await service.database.fetchrow(
        "SELECT id FROM session WHERE token_hash = $1", hash_token(person.session() or "")
    )
    return None if row is None else await service.launching.sessions.find_by_id(row["id"])


async def find_grant(service: Staffed, person: Person, **named: UUID) -> Grant:
    """What a token of somebody who has signed in would say."""
    session = await find_session(service, person)
    assert session is not None
    found: Grant = await service.app.state.staff.find_scopes(session, **named)
    return found


async def invite(service: Staffed, **body: Any) -> str:
    """The path of a new invitation."""
    body = {name: str(value) if isinstance(value, UUID) else value for name, value in body.items()}
    made = await service.client.post("/v1/staff/invitations", json=body, headers=await service.boss())
    assert made.status_code == 201, made.text
    return str(made.json()["url"]).removeprefix("http://homeroom.test")


# ── with a password ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_local_admin_signs_in(service: Staffed, person: Person) -> None:
    """The declared admin's password opens a session of the staff, which a page shows and signing out ends."""
    signed_in = await person.type_password(username=" Admin ")
    assert signed_in.status_code == 200
    assert "signed in as admin" in signed_in.text
    assert "Admin of Homeroom" in (await person.get("/sso/staff")).text
    grant = await find_grant(service, person)
    assert (grant.scopes, grant.organization_id, grant.product_id) == ({"admin"}, None, None)
    assert (await person.get("/sso/session")).headers["location"] == "/sso/staff"
    ended = await service.database.fetchrow("SELECT state, purpose FROM launch ORDER BY id DESC LIMIT 1")
    assert ended is not None
    assert (ended["state"], ended["purpose"]) == ("completed", "staff")
    await person.browser.post("/sso/sign-out")
    assert "Find your school" in (await person.get("/sso/staff")).text


async def test_what_is_wrong_is_not_told(service: Staffed, person: Person) -> None:
    """A wrong password, an unknown name and a disabled account are answered alike, after the same work."""
    await service.database.fetch(
        "INSERT INTO staff_account (id, kind, username, password_hash, disabled_at) "
        "VALUES ($1, 'local', 'gone', $2, now())",
        uuid4(),
        hash_once(),
    )
    checked = []
    whole = passwords.verify_password

    def count(password: str, hashed: str) -> bool:
        checked.append(hashed.split("$")[:4])
        return whole(password, hashed)

    with patch.object(passwords, "verify_password", count):
        answers = [
            await person.type_password("admin", "another password"),
            await person.type_password("nobody"),
            await person.type_password("gone"),
            await person.type_password("no name!"),
        ]
    texts = {answer.text.partition("Support id")[0].partition('"csrf"')[2] for answer in answers}
    assert ([answer.status_code for answer in answers], len(texts)) == ([401] * 4, 1)
    assert len(checked) == 4
    assert all(one == checked[0] for one in checked)
    assert "HR-" in answers[0].text
    assert "another password" not in answers[0].text
    assert person.session() is None
    support_ids = [answer.text.partition('support-id">')[2][:12] for answer in answers]
    traced = await service.database.fetch("SELECT state, code FROM launch WHERE support_id = ANY ($1)", support_ids)
    assert [(row["state"], row["code"]) for row in traced] == [("refused", Code.SIGNIN_PASSWORD_WRONG)] * 4


async def test_attack_72_guessing_is_slowed_and_locks_nobody_out(service: Staffed, person: Person) -> None:
    """After ten failures a name is refused unchecked from there, while its owner's own browser still gets in."""
    await service.app.state.staff.accounts.declare("guessed", hash_once())
    assert (await person.type_password("guessed")).status_code == 200
    async with opened_browser(service.app) as guesser:
        with patch.object(Passwords, "verify", autospec=True, return_value=False):
            statuses = [
                (await guesser.type_password("guessed", f"guess number {one}")).status_code for one in range(12)
            ]
        assert statuses == [401] * 10 + [429] * 2
        throttled = await guesser.type_password("guessed")
        assert (throttled.status_code, "SIGNIN_THROTTLED" in throttled.text) == (429, True)
        assert (await person.type_password("guessed")).status_code == 200
        service.clock.move(seconds=120)
        assert (await guesser.type_password("guessed")).status_code == 200


async def test_many_passwords_at_once_hold_up_nobody() -> None:
    """Only so many passwords wait to be checked; who comes after them is told to wait, at once."""
    busy = Passwords()
    with patch.object(passwords, "MOST_WAITING", 3):
        ends = await asyncio.gather(*(busy.verify("a password", hash_once()) for _ in range(6)), return_exceptions=True)
    refused = [one for one in ends if isinstance(one, Refused)]
    assert (len(refused), {one.code for one in refused}) == (3, {Code.SIGNIN_THROTTLED})
    assert ends.count(False) == 3


async def test_forms_of_others_are_refused(service: Staffed, person: Person) -> None:
    """A form without our token, with another browser's, or sent by another site signs nobody in."""
    async with opened_browser(service.app) as other:
        page = await other.get("/sso/staff/local")
        theirs = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    fields = {"username": "admin", "password": PASSWORD}
    assert (await person.browser.post("/sso/staff/local", data=fields)).status_code == 400
    await person.get("/sso/staff/local")
    for more in ({}, {"csrf": ""}, {"csrf": theirs}):
        answer = await person.browser.post("/sso/staff/local", data=fields | more)
        assert (answer.status_code, "SIGNIN_REQUEST_INVALID" in answer.text) == (400, True)
    person.browser.headers["Sec-Fetch-Site"] = "cross-site"
    assert (await person.type_password()).status_code == 400
    assert person.session() is None


async def test_local_accounts_can_be_off(service: Staffed, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where local accounts are off there is no form, no way to post one, and no invitation to choose a password."""
    monkeypatch.setattr(service.app.state.settings, "local_accounts", False)
    assert "/sso/staff/local" not in (await person.get("/sso/staff")).text
    assert [(await person.get("/sso/staff/local")).status_code, (await person.type_password()).status_code] == [
        404,
        404,
    ]
    body = {"role": "platform-admin", "local": True}
    refused = await service.client.post("/v1/staff/invitations", json=body, headers=await service.boss())
    assert (refused.status_code, refused.json()["code"]) == (409, Code.LOCAL_ACCOUNTS_OFF)


async def test_who_is_declared_no_more_is_out(settings: Settings, service: Staffed, person: Person) -> None:
    """Once the settings declare no admin, the one they declared can't sign in; declared again, they can."""
    assert (await person.type_password()).status_code == 200
    session = await find_session(service, person)
    assert session is not None
    undeclared = Settings(**settings.model_dump() | {"local_admin": SecretStr("")})
    async with calling(create(undeclared)):
        assert (await person.type_password()).status_code == 401
        assert await service.launching.sessions.find_by_id(session.id) is None
    async with calling(create(settings)):
        assert (await person.type_password()).status_code == 200


@pytest.mark.parametrize("text", ["admin", "Admin:scrypt$1$2$3$4$5", ":scrypt$1$2$3$4$5", "admin:secret"])
async def test_a_declared_admin_must_be_readable(settings: Settings, text: str) -> None:
    """What is no username with a hash is told at start, without what it says."""
    with pytest.raises(ValueError, match="HOMEROOM_LOCAL_ADMIN") as told:
        Settings(**settings.model_dump() | {"local_admin": SecretStr(text)})
    assert "scrypt$" not in str(told.value)
    assert "secret" not in str(told.value).partition("[type")[0]


async def test_an_account_is_registered_from_a_file(
    service: Staffed, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m sso account` gives a username the password that stands in a file."""
    file = tmp_path / "password"
    settings = service.settings
    environment = {"DATABASE_URL": settings.database_url, "SSO_KEY": settings.sso_key}
    for name, secret in environment.items():
        monkeypatch.setenv(f"HOMEROOM_{name}", secret.get_secret_value())
    monkeypatch.setenv("HOMEROOM_ISSUER", settings.issuer)
    file.write_text(f"{PASSWORD}\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "sso", "account"),
        *("--username", "operator", "--password-file", str(file)),
    )
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert (await person.type_password("operator")).status_code == 200


# ── by a connection ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_district_admin_comes_by_the_portal(
    service: Staffed, person: Person, connection_id: UUID, district: District
) -> None:
    """Invited, somebody no roster knows signs in at the portal once and from then on is admin of that district."""
    path = await invite(service, role="district-admin", organization_id=district.organization_id, label="IT")
    assert "North District" in (await person.get(path)).text
    welcomed = await person.come_by(path, connection_id, "u-1")
    assert (welcomed.status_code, "District admin" in welcomed.text) == (200, True)
    grant = await find_grant(service, person)
    assert (grant.scopes, grant.organization_id) == ({"admin"}, district.organization_id)
    again = await person.come_by("/sso/staff?next=/console/runs&fresh=true", connection_id, "u-1")
    assert (again.status_code, again.headers["location"]) == (303, "/console/runs")


async def test_an_invitation_works_once(
    service: Staffed, person: Person, connection_id: UUID, district: District
) -> None:
    """Who opens a used, withdrawn or invented invitation is refused, also if sent off before it was used."""
    path = await invite(service, role="support", organization_id=district.organization_id)
    async with opened_browser(service.app) as slower:
        sent = await slower.get(f"{path}?connection={connection_id}")
        assert (await person.come_by(path, connection_id, "u-1")).status_code == 200
        state = sent.headers["location"].partition("state=")[2]
        late = await slower.browser.get(f"/played/{connection_id}", params={"state": state, "subject": "u-2"})
        assert (late.status_code, Code.SIGNIN_INVITATION_OVER in late.text, slower.session()) == (403, True, None)
        other = await invite(service, role="support", organization_id=district.organization_id)
        listed = await service.client.get("/v1/staff/invitations?limit=500", headers=await service.boss())
        states = [one["state"] for one in listed.json()["invitations"]][-2:]
        gone = f"/v1/staff/invitations/{listed.json()['invitations'][-1]['id']}"
        assert (await service.client.delete(gone, headers=await service.boss())).status_code == 204
        for one in (path, other, "/sso/staff/invitations/" + "x" * 43, "/sso/staff/invitations/x"):
            assert (await slower.get(one)).status_code == 403, one
    assert states == ["accepted", "open"]


async def test_an_invitation_is_for_the_people_of_its_organization(
    service: Staffed, settings: Settings, person: Person, connection_id: UUID, district: District
) -> None:
    """By another district's connection an invitation is refused, and it is still there for whom it is meant."""
    _, elsewhere = await make_connection(service.database, settings, kind="oidc", name="Elsewhere")
    path = await invite(service, role="district-admin", organization_id=district.organization_id)
    assert (await person.get(f"{path}?connection={elsewhere}")).status_code == 403
    assert (await person.come_by(path, connection_id, "u-1")).status_code == 200


async def test_choosing_a_password(service: Staffed, person: Person, district: District) -> None:
    """Where an invitation says so a password can be chosen; a weak one or a taken name uses nothing up."""
    path = await invite(service, role="district-admin", organization_id=district.organization_id, local=True)
    weak = await person.type_password("ada", "too short", path=path)
    taken = await person.type_password("admin", path=path)
    assert [(one.status_code, "Error:" in one.text) for one in (weak, taken)] == [(422, True)] * 2
    assert (await person.type_password("ada", path=path)).status_code == 200
    assert (await find_grant(service, person)).organization_id == district.organization_id
    assert (await person.type_password("ada")).status_code == 200
    only_portal = await invite(service, role="support", organization_id=district.organization_id)
    assert 'name="password"' not in (await person.get(only_portal)).text


async def test_known_to_the_portal_is_not_enough(
    person: Person, connection_id: UUID, district: District, roster: PlayedRoster
) -> None:
    """Strangers and students end on a page that says they have no role, without a session."""
    roster.add(district.integration_id, "student-1")
    stranger = await person.come_by("/sso/staff", connection_id, "u-9")
    student = await person.come_by("/sso/staff", connection_id, "u-1", key="student-1")
    assert [one.status_code for one in (stranger, student)] == [403, 403]
    assert (Code.SIGNIN_ROLE_MISSING in student.text, "HR-" in student.text) == (True, True)
    assert person.session() is None


async def test_attack_56_students_accept_no_invitation(
    service: Staffed, person: Person, connection_id: UUID, district: District, roster: PlayedRoster
) -> None:
    """A student who gets hold of an invitation is refused, and so is an account for one until the roster says more."""
    pupil = roster.add(district.integration_id, "student-1")
    path = await invite(service, role="district-admin", organization_id=district.organization_id)
    assert (await person.come_by(path, connection_id, "u-1", key="student-1")).status_code == 403
    body = {"integration_id": str(district.integration_id), "sourced_id": "student-1"}
    made = await service.client.post("/v1/staff", json=body, headers=await service.boss())
    role = {"role": "district-admin", "organization_id": str(district.organization_id)}
    where = f"/v1/staff/{made.json()['id']}/roles"
    assert (await service.client.post(where, json=role, headers=await service.boss())).status_code == 201
    assert (await person.come_by("/sso/staff", connection_id, "u-1", key="student-1")).status_code == 403
    pupil.change(roles=tuple(role for role in roster.add(uuid4(), "x", role="administrator").person.roles))
    assert (await person.come_by("/sso/staff", connection_id, "u-1", key="student-1")).status_code == 200


async def test_teachers_come_in_by_the_roster(
    service: Staffed, person: Person, connection_id: UUID, district: District, roster: PlayedRoster
) -> None:
    """A teacher needs no invitation, may do what teachers may, and nothing once the roster has lost them."""
    teacher = roster.add(district.integration_id, "teacher-1", "Tove", "Dahl", role="teacher")
    came = await person.come_by("/sso/staff", connection_id, "t-1", key="teacher-1")
    assert ("Tove Dahl" in came.text, "Teacher" in came.text) == (True, True)
    grant = await find_grant(service, person)
    assert grant.scopes == {"classes.refresh", "classes.start"}
    assert grant.teacher == (district.integration_id, "teacher-1")
    assert grant.organization_id == district.organization_id
    again = await person.come_by("/sso/staff?fresh=true", connection_id, "t-1", key="teacher-1")
    assert again.status_code == 200
    assert (await find_grant(service, person)).subject == grant.subject
    teacher.active = False
    with pytest.raises(Refused, match=Code.SIGNIN_ROLE_MISSING):
        await find_grant(service, person)
    assert (await person.get("/sso/staff")).status_code == 403


async def test_the_store_may_be_away(
    service: Staffed,
    person: Person,
    connection_id: UUID,
    district: District,
    roster: PlayedRoster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Admins who were invited get in while the store is away, for it plays no part; teachers nobody knows are told."""
    path = await invite(service, role="district-admin", organization_id=district.organization_id)
    await person.come_by(path, connection_id, "u-1", key="admin-1")
    monkeypatch.setattr(roster, "away", True)
    assert (await person.come_by("/sso/staff?fresh=true", connection_id, "u-1", key="admin-2")).status_code == 200
    teacher = await person.come_by("/sso/staff?fresh=true", connection_id, "t-1", key="teacher-1")
    assert (teacher.status_code, Code.SIGNIN_STORE_AWAY in teacher.text) == (503, True)


async def test_a_disabled_account_is_out_at_once(
    service: Staffed, person: Person, connection_id: UUID, district: District
) -> None:
    """Disabling somebody ends their sessions, and they can't come back until they are enabled."""
    path = await invite(service, role="support", organization_id=district.organization_id)
    await person.come_by(path, connection_id, "u-1")
    account = (await find_grant(service, person)).account_id
    headers = await service.boss()
    await service.client.patch(f"/v1/staff/{account}", json={"disabled": True}, headers=headers)
    assert await find_session(service, person) is None or "Find your school" in (await person.get("/sso/staff")).text
    assert (await person.come_by("/sso/staff", connection_id, "u-1")).status_code == 403
    await service.client.patch(f"/v1/staff/{account}", json={"disabled": False}, headers=headers)
    assert (await person.come_by("/sso/staff", connection_id, "u-1")).status_code == 200


async def test_a_revoked_role_and_a_closed_door(
    service: Staffed, person: Person, connection_id: UUID, district: District
) -> None:
    """A session is worth nothing once its role was taken, or its connection was switched off."""
    path = await invite(service, role="support", organization_id=district.organization_id)
    await person.come_by(path, connection_id, "u-1")
    assert await find_grant(service, person)
    await service.database.fetch("UPDATE connection SET enabled = false WHERE id = $1", connection_id)
    with pytest.raises(Refused, match=Code.SIGNIN_CONNECTION_OFF):
        await find_grant(service, person)
    assert (await person.get(f"/sso/staff?connection={connection_id}")).status_code == 403
    await service.database.fetch("UPDATE connection SET enabled = true WHERE id = $1", connection_id)
    headers = await service.boss()
    listed = (await service.client.get("/v1/staff?limit=500", headers=headers)).json()["staff"]
    mine = next(one for one in listed if one["connection_id"] == str(connection_id))
    where = f"/v1/staff/{mine['id']}/roles/{mine['roles'][0]['id']}"
    assert (await service.client.delete(where, headers=headers)).status_code == 204
    with pytest.raises(Refused, match=Code.SIGNIN_ROLE_MISSING):
        await find_grant(service, person)


# ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_attack_47_a_new_session_for_whoever_signs_in(service: Staffed, person: Person) -> None:
    """Signing in gives a new cookie and ends the session there was: a cookie from before is worth nothing."""
    person.browser.cookies.set("homeroom-session", "planted-by-somebody-else-0123456789", domain="homeroom.test")
    await person.type_password()
    first = {name: value for name, value in person.browser.cookies.items() if name == "homeroom-session"}
    session = await find_session(service, person)
    assert session is not None
    assert "planted-by-somebody-else-0123456789" not in first.values()
    await person.type_password()
    assert await service.launching.sessions.find_by_id(session.id) is None
    async with opened_browser(service.app) as thief:
        thief.browser.cookies.update(first)
        assert "Find your school" in (await thief.get("/sso/staff")).text


async def test_attack_48_staff_replace_whoever_was_there(service: Staffed, person: Person) -> None:
    """On a shared device the session of a student ends when staff sign in, and a student's never counts as staff's."""
    launching = service.launching

    class Bare:
        cookies: dict[str, str] = {}  # noqa: RUF012 - a request that never changes

    person_id = await service.database.fetchval(
        "INSERT INTO person (organization_id) VALUES ($1) RETURNING id", uuid4()
    )
    session, token = await launching.sessions.begin(Bare(), Beginning(person_id=person_id))  # type: ignore[arg-type]  # its cookies are all that is read
    person.browser.cookies.set("homeroom-session", token, domain="homeroom.test")
    with pytest.raises(Refused, match=Code.SIGNIN_ROLE_MISSING):
        await service.app.state.staff.find_scopes(session)
    assert "Find your school" in (await person.get("/sso/staff")).text
    await person.type_password()
    assert await launching.sessions.find_by_id(session.id) is None


async def test_attack_70_next_leads_nowhere_else(person: Person) -> None:
    """After signing in somebody goes on to a path of ours, and to nowhere that a link in an e-mail says."""
    await person.type_password()
    for bad in ("https://evil.test", "//evil.test", "/\\evil.test", "/console/..//evil.test"):
        answer = await person.browser.get("/sso/staff", params={"next": bad})
        assert (answer.status_code, "signed in as" in answer.text) == (200, True), bad
    answer = await person.browser.get("/sso/staff", params={"next": "/console?x=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console?x=1")


async def test_attack_50_portal_ids_are_of_one_connection(
    service: Staffed, settings: Settings, person: Person, connection_id: UUID, district: District
) -> None:
    """The same user id at another district's portal, or in another roster, is somebody else."""
    path = await invite(service, role="district-admin", organization_id=district.organization_id)
    await person.come_by(path, connection_id, "u-1")
    await add_integration(service.database, district.organization_id)
    _, elsewhere = await make_connection(service.database, settings, name="Elsewhere")
    assert (await person.come_by("/sso/staff?fresh=true", elsewhere, "u-1")).status_code == 403
