"""Who somebody is, as sso asks it: exactly them, and no more of them than the product is licensed for (E4, D4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from licensed import license_product
from played_gateway import Gateway, enrollment, school, section, student
from undoing import ANYTHING_GOES

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Terms
from homeroom.people import LinkOrder, PersonAccount, PersonAnswer, PersonClass, PersonField, PersonQuestion, PersonRole
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.activation import Arrival, connect_people, start_class
from roster_store.app import make_app
from roster_store.identities import follow_order, resolve
from roster_store.matching.accounts import AccountFields, Party, put_accounts
from roster_store.settings import StoreSettings
from roster_store.sights import Rosters, list_product_sights

ALL = ("contacts", "identifiers", "grades")


class Asking:
    """Questions about one integration."""

    def __init__(self, database: Database, rosters: Rosters, gateway: Gateway) -> None:
        self.database, self.rosters, self.gateway = database, rosters, gateway

    async def __call__(
        self, value: str, field: PersonField = "sourcedId", *, product: str | None = None, of: Gateway | None = None
    ) -> PersonAnswer:
        """Who has this value?"""
        integration_id = (of or self.gateway).integration_id
        question = PersonQuestion(integration_id=integration_id, field=field, value=value, product_id=product)
        return await resolve(self.database, self.rosters, question)

    async def outcome(self, *args: Any, **kwargs: Any) -> str:
        """The outcome alone."""
        return (await self(*args, **kwargs)).outcome

    async def order(self, action: str, product: str, sourced_id: str, external_id: str, **fields: Any) -> str:
        """What becomes of an order."""
        told = {
            "product_id": product,
            "organization_id": self.gateway.organization_id,
            "integration_id": self.gateway.integration_id,
        } | fields
        order = LinkOrder(action=action, sourced_id=sourced_id, external_id=external_id, **told)  # type: ignore[arg-type]  # one of its words
        return (await follow_order(self.database, self.rosters, order, "sso")).outcome


@pytest.fixture
def ask(database: Database, rosters: Rosters, gateway: Gateway) -> Asking:
    """Asks about the integration of `gateway`."""
    return Asking(database, rosters, gateway)


async def test_people_are_found_exactly_or_not_at_all(ask: Asking, gateway: Gateway, neighbour: Gateway) -> None:
    """Every character counts, in every field; look-alikes, blanks, e-mail addresses and other rosters find nobody."""
    odd = student(7, "Åsa", identifier="007", user_master_identifier="ÉTAT-1")
    await gateway.apply({"orgs": [school()], "users": [odd, student(8, identifier="7"), student(9, identifier=" 7")]})
    await neighbour.apply({"orgs": [school()], "users": [student(7, "Other", identifier="x-1")]})
    found = await ask("007", "identifier")
    assert found.person is not None
    assert (found.person.sourced_id, found.person.given_name) == ("user-7", "Åsa")
    for value, field, expected in (
        ("7", "identifier", "user-8"),
        (" 7", "identifier", "user-9"),
        ("ÉTAT-1", "userMasterIdentifier", "user-7"),
    ):
        answer = await ask(value, field)  # type: ignore[arg-type]  # the fields of a question
        assert answer.person is not None
        assert answer.person.sourced_id == expected
    looks = {"identifier": ["0007", "07", "7 ", "\u0667", "x-1"], "userMasterIdentifier": ["état-1", "E\u0301TAT-1"]}
    looks["sourcedId"] = [
        "USER-7",
        "user-7 ",
        "u\u0455er-7",
        "user-7\0",
        "",
        "u" * 9_000,
        "student7@north.example",
        "%",
    ]
    for field, values in looks.items():
        for value in values:
            assert await ask.outcome(value, field) == "unknown", value
    other = await ask("user-7", of=neighbour)
    assert other.person is not None
    assert other.person.given_name == "Other"
    nobody = Gateway(gateway.consumer, gateway.bus)
    assert await ask("user-7", of=nobody) == PersonAnswer(outcome="unknown")


async def test_an_identifier_that_several_have_is_nobodys(ask: Asking, gateway: Gateway) -> None:
    """Two active people with one identifier are ambiguous, disabled ones among them; who left does not count."""
    twins = [student(1, identifier="1"), student(2, identifier="1", enabled_user=False), student(3, identifier="3")]
    await gateway.apply({"users": [*twins, student(4, identifier="3")]})
    assert await ask.outcome("1", "identifier") == "ambiguous"
    assert await ask.outcome("3", "identifier") == "ambiguous"
    await gateway.apply({}, {"users": ["user-4"]}, terms=Terms(purpose="sync"))
    assert await ask.outcome("3", "identifier") == "known"


async def test_who_left_is_told_from_who_never_was(ask: Asking, gateway: Gateway) -> None:
    """Removed and disabled people are `removed`, without a name; somebody unknown is `unknown`."""
    await gateway.apply({"users": [student(1), student(2, enabled_user=False), student(3)]})
    await gateway.apply({}, {"users": ["user-1"]})
    for one in ("user-1", "user-2"):
        answer = await ask(one)
        assert answer.outcome == "removed"
        assert answer.person is not None
        assert (answer.person.sourced_id, answer.person.given_name, answer.person.roles) == (one, "", ())
    assert await ask.outcome("user-4") == "unknown"


async def test_what_is_told_is_what_is_granted(ask: Asking, gateway: Gateway) -> None:
    """A product gets e-mail, grades and identifiers only with its grants; the platform itself never does."""
    person = student(1, "Mila", identifier="4711", username="mila", preferred_first_name="Mi")
    await gateway.apply(
        {
            "orgs": [school()],
            "users": [person],
            "classes": [section(1), section(2, title="Art")],
            "enrollments": [enrollment(1, 1), enrollment(1, 2)],
        }
    )
    whole = await license_product(ask.database, gateway.organization_id, grants=ALL)
    bare = await license_product(ask.database, gateway.organization_id, grants=())
    seen = (await ask("user-1", product=whole.product_id)).person
    assert seen is not None
    assert (seen.email, seen.grades, seen.identifier, seen.username) == (
        "student1@north.example",
        ("05",),
        "4711",
        "mila",
    )
    for product in (bare.product_id, None):
        masked = (await ask("4711", "identifier", product=product)).person
        assert masked is not None
        assert (masked.email, masked.grades, masked.identifier, masked.username) == (None, None, None, None)
        assert (masked.given_name, masked.family_name, masked.preferred_first_name) == ("Mila", "Ek", "Mi")
        assert masked.roles == (PersonRole(role="student", org_sourced_id="org-North", primary=True),)
        assert masked.classes == (
            PersonClass(sourced_id="class-2", title="Art", role="student"),
            PersonClass(sourced_id="class-1", title="Maths", role="student"),
        )


async def test_who_a_license_does_not_cover_is_hidden(ask: Asking, gateway: Gateway) -> None:
    """Somebody of another school, a guardian, or anybody without a license in force is there, and hidden."""
    people = [student(1, "Ana", "North"), student(2, "Bea", "South"), student(3, "Eva", role="guardian")]
    await gateway.apply({"orgs": [school(), school("South")], "users": people})
    north = await license_product(ask.database, gateway.organization_id, schools=("org-North",), grants=ALL)
    whole = await license_product(ask.database, gateway.organization_id, grants=ALL)
    past = await license_product(
        ask.database, gateway.organization_id, valid_until=datetime.now(UTC) - timedelta(minutes=1), grants=ALL
    )
    assert [await ask.outcome(f"user-{one}", product=north.product_id) for one in (1, 2)] == ["known", "hidden"]
    assert await ask.outcome("user-3", product=whole.product_id) == "hidden"
    for product in (past.product_id, str(uuid4())):
        assert await ask.outcome("user-1", product=product) == "hidden"
        assert await ask.outcome("user-9", product=product) == "unknown"


async def test_signing_in_is_how_people_join(ask: Asking, gateway: Gateway) -> None:
    """A product whose classes wait for their teachers is told of students before they came in, and started classes."""
    teacher = student(9, "Tora", role="teacher")
    teaching = [msgspec.structs.replace(enrollment(9, one), role="teacher") for one in (1, 2)]
    await gateway.apply(
        {
            "orgs": [school()],
            "users": [student(1), teacher],
            "classes": [section(1), section(2)],
            "enrollments": [enrollment(1, 1), enrollment(1, 2), *teaching],
        }
    )
    product = await license_product(ask.database, gateway.organization_id, classes="teacher-started", grants=ALL)
    seen = (await ask("user-1", product=product.product_id)).person
    assert seen is not None
    assert seen.classes == ()
    sights = await list_product_sights(ask.database, UUID(product.product_id))
    await start_class(ask.database, ask.rosters, sights, "class-2", "user-9")
    for _ in range(2):  # before they are connected, and after
        seen = (await ask("user-1", product=product.product_id)).person
        assert seen is not None
        assert [one.sourced_id for one in seen.classes] == ["class-2"]
        arrival = Arrival(
            UUID(product.product_id),
            UUID(gateway.integration_id),
            UUID(gateway.organization_id),
            "user-1",
            datetime.now(UTC),
        )
        await connect_people(ask.database, [arrival])


async def test_attack_58_only_the_same_person_was_formerly_somebody_else(ask: Asking, gateway: Gateway) -> None:
    """Removed records with the same identifier are theirs, unless another has it too, or another number contradicts."""
    first = [
        student(1, identifier="A", user_master_identifier="s-1"),
        student(2, identifier="B", user_master_identifier="s-2"),
        student(3, identifier="C"),
        student(4, identifier=""),
        student(5, identifier="E"),
        student(6, identifier="F", user_master_identifier="s-6"),
    ]
    await gateway.apply({"users": first})
    then = [
        student(11, identifier="A", user_master_identifier="s-1"),
        student(12, identifier="B", user_master_identifier="s-99"),  # a number given to somebody else
        student(13, identifier="C"),
        student(23, identifier="C"),  # two have it now
        student(14, identifier=""),
        student(15, identifier="e"),
        student(16, user_master_identifier="s-6"),
    ]
    await gateway.apply({"users": then}, {"users": [f"user-{number}" for number in range(1, 7)]}, terms=ANYTHING_GOES)
    found = {}
    for number in (11, 12, 13, 14, 15, 16):
        person = (await ask(f"user-{number}")).person
        assert person is not None
        found[number] = person.formerly
    assert found == {11: ("user-1",), 12: (), 13: (), 14: (), 15: (), 16: ("user-6",)}


async def test_a_roster_is_as_old_as_its_last_sync(ask: Asking, gateway: Gateway) -> None:
    """A night that changed nothing counts as up to date; an evaluation and what is done by hand do not."""
    await gateway.apply({"users": [student(1)]})
    await ask.database.fetch("UPDATE integration SET synced_at = synced_at - interval '2 days'")
    old = (await ask("user-1")).applied_at
    assert old is not None
    assert datetime.now(UTC) - old > timedelta(days=1)
    await gateway.sync({"users": [student(2)]}, terms=Terms(purpose="evaluation"))
    assert (await ask("user-1")).applied_at == old
    assert (await ask("user-9")).applied_at == old
    await gateway.apply({}, served={"users": 1})
    fresh = (await ask("user-1")).applied_at
    assert fresh is not None
    assert datetime.now(UTC) - fresh < timedelta(minutes=1)


async def test_accounts_are_told_and_linked(ask: Asking, gateway: Gateway, neighbour: Gateway) -> None:
    """A matched account is told; linking makes one known that was not, and never takes anybody's away (D4)."""
    await gateway.apply({"orgs": [school()], "users": [student(number) for number in (1, 2, 3)]})
    await neighbour.apply({"users": [student(1)]})
    product = (await license_product(ask.database, gateway.organization_id, grants=ALL)).product_id
    party = Party(UUID(product), UUID(gateway.organization_id), "reader")
    theirs = AccountFields("acc-1", "student1@north.example", None, None, None, active=True)
    await put_accounts(ask.database, party, [theirs], matched=True)
    assert await _account(ask, product, "user-1") == "acc-1"
    assert await ask.order("link", product, "user-2", "acc-1") == "account_linked"
    assert await ask.order("link", product, "user-1", "acc-9") == "person_linked"
    assert await ask.database.fetchval("SELECT count(*) FROM account WHERE external_id = 'acc-9'") == 0
    assert await ask.order("link", product, "user-2", "acc-2") == "linked"
    assert await ask.order("link", product, "user-2", "acc-2") == "linked"
    assert await _account(ask, product, "user-2") == "acc-2"
    assert await ask.order("unlink", product, "user-1", "acc-2") == "unknown"
    assert await ask.order("unlink", product, "user-2", "acc-2") == "unlinked"
    assert await _account(ask, product, "user-2") is None
    for sourced_id, told in (
        ("user-9", {}),
        ("user-3", {"organization_id": neighbour.organization_id}),
        ("user-3", {"product_id": str(uuid4())}),
        ("user-1", {"integration_id": neighbour.integration_id}),
    ):
        assert await ask.order("link", product, sourced_id, "acc-3", **told) == "unknown"
    rows = await ask.database.fetch("SELECT action FROM audit_entry WHERE by = 'sso' ORDER BY position")
    assert {row["action"] for row in rows} == {"accounts.put", "account.link", "account.unlink"}


async def test_only_our_own_service_may_ask(settings: StoreSettings, gateway: Gateway) -> None:
    """Neither admins, nor tokens of one organization or product, nor nobody resolve or link; sso's does, exactly."""
    await gateway.apply({"users": [student(1)]})
    issuer = TestIssuer()
    settings.issuer = issuer.issuer
    question = {"integration_id": gateway.integration_id, "value": "user-1"}
    order = question | {
        "action": "link",
        "product_id": str(uuid4()),
        "organization_id": gateway.organization_id,
        "sourced_id": "user-1",
        "external_id": "acc-1",
    }
    del order["value"]
    refused = (
        issuer.headers(["admin"]),
        issuer.headers(["people.resolve"], organization_id=gateway.organization_id),
        issuer.headers(["people.resolve"], product_id=uuid4()),
        issuer.headers(["roster.read", "fingerprints.read"]),
    )
    async with calling(make_app(settings, issuer.verifier)) as client:
        for path, body in (("/v1/people/resolve", question), ("/v1/people/link", order)):
            assert (await client.post(path, json=body)).status_code == 401
            for headers in refused:
                assert (await client.post(path, json=body, headers=headers)).status_code == 403
        own = issuer.headers(["people.resolve"], subject="sso")
        answer = await client.post("/v1/people/resolve", json=question, headers=own)
        assert answer.json()["person"]["sourced_id"] == "user-1"
        assert answer.headers["cache-control"] == "no-store"
        assert (await client.post("/v1/people/link", json=order, headers=own)).json() == {"outcome": "unknown"}
        for wrong in ({"field": "email"}, {"value": 7}, {"more": 1}):
            unfit = await client.post("/v1/people/resolve", json=question | wrong, headers=own)
            assert unfit.status_code == 422
            assert unfit.json()["code"] == Code.REQUEST_INVALID


async def _account(ask: Asking, product: str, sourced_id: str) -> str | None:
    person = (await ask(sourced_id, product=product)).person
    assert person is not None
    account: PersonAccount | None = person.account
    return None if account is None else account.external_id
