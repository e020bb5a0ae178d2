"""What products are told of people, decided on facts alone; and what the metadata promises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from homeroom.people import PersonAccount, PersonClass, PersonRole, RosterPerson
from sso.launch.identification import Door, Identified
from sso.provider.claims import make_claims, make_subject
from sso.provider.grants import make_challenge, make_staff_claims
from sso.provider.requests import AuthorizationRequest, Declined, decide
from sso.staff.roles import Grant

PRODUCT, PERSON = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 9, 1, tzinfo=UTC)


def _identify(person: RosterPerson | None, shown_as: str | None = None) -> Identified:
    door = Door(
        id=uuid4(),
        upstream_id=uuid4(),
        organization_id=UUID(int=7),
        organization_name="North",
        name="Sign-in",
        tenant=None,
        integration_id=UUID(int=8),
        integration_deleted=False,
        person_field="sourcedId",
        rostering="optional",
        max_roster_age_hours=None,
        enabled=True,
        licensed=True,
    )
    return Identified(door, PERSON, person, shown_as)


def test_subjects_are_stable_and_pairwise() -> None:
    """A product always calls somebody the same, and no two products do."""
    subject = make_subject(PERSON, PRODUCT)
    assert subject == make_subject(PERSON, PRODUCT)
    assert len({subject, make_subject(PERSON, UUID(int=3)), make_subject(UUID(int=4), PRODUCT)}) == 3
    assert (len(subject), PERSON.hex in subject) == (32, False)


def test_claims_are_the_rosters() -> None:
    """Whoever has several roles has the primary one first, the name they prefer, and their account at the product."""
    person = RosterPerson(
        sourced_id="t1",
        given_name="Robert",
        family_name="O'Neil",
        preferred_first_name="Bob",
        roles=(
            PersonRole(role="teacher", org_sourced_id="s1"),
            PersonRole(role="administrator", org_sourced_id="s2", primary=True),
            PersonRole(role="teacher", org_sourced_id="s2"),
        ),
        classes=(PersonClass(sourced_id="c1", title="Maths", role="teacher"),),
        account=PersonAccount(id="a1", external_id="bob"),
        username="bob.o",
    )
    claims = make_claims(_identify(person), PRODUCT)
    assert (claims["name"], claims["given_name"]) == ("Bob O'Neil", "Bob")
    assert claims["roles"] == ["administrator", "teacher"]
    assert claims["account"] == {"id": "a1", "external_id": "bob", "active": True}
    assert "email" not in claims
    assert "grades" not in claims
    assert set(make_claims(_identify(person), PRODUCT, ("openid",))) == {"sub", "organization", "rostered"}


def test_strangers_are_told_as_such() -> None:
    """Of somebody no roster knows a product learns the portal's name for them, that they are not rostered, no role."""
    claims = make_claims(_identify(None, "Ada"), PRODUCT)
    assert claims == {
        "sub": make_subject(PERSON, PRODUCT),
        "organization": {"id": str(UUID(int=7)), "name": "North"},
        "rostered": False,
        "name": "Ada",
    }


def _ask(**more: Any) -> AuthorizationRequest:
    return AuthorizationRequest(client_id="c", redirect_uri="https://c.example/", scopes=(), challenge="x", **more)


def test_what_comes_next() -> None:
    """Who is signed in is answered, unless the product wants them anew, another one, or to be chosen."""
    before = NOW - timedelta(minutes=10)
    assert decide(_ask(), before, NOW) == "answer"
    assert decide(_ask(), None, NOW) == "sign in"
    assert decide(_ask(prompts=("login",)), before, NOW) == "sign in anew"
    assert decide(_ask(max_age=600), before, NOW) == "answer"
    assert decide(_ask(max_age=599), before, NOW) == "sign in anew"
    assert decide(_ask(max_age=0), NOW + timedelta(minutes=1), NOW) == "sign in anew"
    assert decide(_ask(), before, NOW, somebody_else=True) == "sign in anew"
    assert decide(_ask(prompts=("select_account",)), before, NOW) == "choose"
    for request, auth_time, other in (
        (_ask(prompts=("none",)), None, False),
        (_ask(prompts=("none",), max_age=60), before, False),
        (_ask(prompts=("none",)), before, True),
    ):
        with pytest.raises(Declined, match="login_required"):
            decide(request, auth_time, NOW, somebody_else=other)


def test_the_standards_own_example_of_pkce() -> None:
    """RFC 7636's example is taken, and nothing beside it."""
    verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert make_challenge(verifier) == challenge
    for wrong in (verifier[:-1], verifier + "A", verifier + "\n", challenge, "", "é" * 43):
        assert make_challenge(wrong) != challenge


def test_staff_tokens_say_what_they_are_bound_to() -> None:
    """An access token for the console names whom and what it is for, and leaves out what it is not bound to."""
    teacher = Grant(
        PERSON, "teacher", frozenset({"classes.start", "classes.refresh"}), UUID(int=7), None, (UUID(int=8), "t1")
    )
    claims = make_staff_claims("homeroom-console", teacher)
    assert claims["sub"] == f"staff:{PERSON}"
    assert claims["scope"] == "classes.refresh classes.start"
    assert claims["organization_id"] == str(UUID(int=7))
    assert claims["teacher"] == {"integration_id": str(UUID(int=8)), "sourced_id": "t1"}
    assert claims["product_id"] is None


async def test_the_metadata_is_true(service: Any) -> None:
    """What products look up first names every endpoint, and nothing that is not offered."""
    found = (await service.client.get("/.well-known/openid-configuration")).json()
    for name, address in found.items():
        if name.endswith("_endpoint"):
            path = address.removeprefix("http://homeroom.test")
            method = (
                "GET" if name in ("authorization_endpoint", "userinfo_endpoint", "end_session_endpoint") else "POST"
            )
            assert (await service.client.request(method, path)).status_code not in (404, 405), name
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["response_types_supported"] == ["code"]
    assert found["subject_types_supported"] == ["pairwise"]
    assert found["authorization_response_iss_parameter_supported"] is True
    assert found["backchannel_logout_session_supported"] is True
    assert {"openid", "profile", "email", "roster", "roster.read"} <= set(found["scopes_supported"])
    assert {"sub", "organization", "sid", "classes"} <= set(found["claims_supported"])
