"""Classes that wait for their teachers, and students who join when they first come in (D2)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest
from folded import Reader, product_scope
from licensed import announce, license_product
from played_gateway import ROSTER, Gateway, as_message, student
from undoing import ANYTHING_GOES

from homeroom.bus import Reject
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import LicenseState, ProductState, SignedIn, to_sign_ins
from homeroom.roster import Enrollment
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.access import settle_licenses
from roster_store.app import make_app
from roster_store.feed import Cursor, read_page
from roster_store.settings import StoreSettings
from roster_store.sights import Rosters
from roster_store.sign_ins import SignInConsumer

ISSUER = TestIssuer()
TEACHERS = {
    "users": [student(8, "Tove", role="teacher"), student(9, "Ada", role="teacher")],
    "enrollments": [
        Enrollment(
            sourced_id=f"teaching-{number}",
            user_sourced_id=f"user-{number}",
            class_sourced_id="class-1",
            role="teacher",
        )
        for number in (8, 9)
    ],
}


@pytest.fixture
async def client(settings: StoreSettings, database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller without a token."""
    assert database is not None
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        yield client


@pytest.fixture
async def license_state(gateway: Gateway, database: Database) -> LicenseState:
    """A license of a product whose classes wait; the class has students and two teachers."""
    await gateway.sync({name: [*ROSTER[name], *TEACHERS.get(name, ())] for name in ROSTER})
    return await license_product(database, gateway.organization_id, classes="teacher-started")


async def start(
    client: httpx2.AsyncClient, held: LicenseState, teacher: str = "user-8", sourced_id: str = "class-1"
) -> httpx2.Response:
    """Start a class with the product's token."""
    return await client.post(
        f"/v1/roster/classes/{sourced_id}/start",
        json={"teacher_sourced_id": teacher},
        headers=ISSUER.headers(["classes.start"], product_id=held.product_id),
    )


async def sign_in(database: Database, gateway: Gateway, held: LicenseState, user: str, times: int = 1) -> None:
    """Let sso tell that somebody came into the product."""
    come = SignedIn(
        sign_in_id=str(uuid4()),
        integration_id=gateway.integration_id,
        organization_id=gateway.organization_id,
        product_id=held.product_id,
        user_sourced_id=user,
        at=datetime.now(UTC),
    )
    await SignInConsumer(database).handle([as_message(to_sign_ins(come), 0)] * times)


async def read_news(
    database: Database, rosters: Rosters, held: LicenseState, cursor: Cursor
) -> tuple[list[str], Cursor]:
    """What the product is told after a cursor, shortened; and how far that is."""
    page = await read_page(database, rosters, cursor, 100, product_scope(held.product_id))
    told = [f"{one.event.type.split('.', 1)[1].removesuffix('.v1')} {one.event.subject}" for one in page.events]
    return told, page.cursor


async def test_a_class_wakes_and_its_students_join_one_by_one(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database, rosters: Rosters, license_state: LicenseState
) -> None:
    """The product sees a class once it is started, and of its people those who came in; nobody twice."""
    first, cursor = await read_news(database, rosters, license_state, Cursor())
    started = await start(client, license_state)
    awake, cursor = await read_news(database, rosters, license_state, cursor)
    await sign_in(database, gateway, license_state, "user-1", times=2)
    joined, cursor = await read_news(database, rosters, license_state, cursor)
    await sign_in(database, gateway, license_state, "user-1")

    assert (started.status_code, started.json()["started_by"]) == (200, "user-8")
    assert first[1:] == ["org.added orgs/org-North", "user.added users/user-8", "user.added users/user-9"]
    assert awake == [
        "class.activated classes/class-1",
        "user.updated users/user-8",
        "enrollment.activated enrollments/teaching-8",
    ]
    assert joined == ["user.added users/user-1", "enrollment.activated enrollments/enrollment-1-1"]
    assert (await read_news(database, rosters, license_state, cursor))[0] == []


async def test_starting_again_gives_the_same_answer(
    client: httpx2.AsyncClient, database: Database, license_state: LicenseState
) -> None:
    """A second start changes nothing but that a co-teacher who asks for it has come in."""
    first, again, colleague = [await start(client, license_state, one) for one in ("user-8", "user-8", "user-9")]
    steps = await database.fetch(
        "SELECT kind FROM apply WHERE product_id IS NOT NULL AND kind <> 'license' ORDER BY no"
    )

    assert first.json() == again.json() == colleague.json()
    assert [step["kind"] for step in steps] == ["class-started", "signed-in"]


@pytest.mark.parametrize(
    ("teacher", "sourced_id", "status", "code"),
    [
        ("user-1", "class-1", 403, Code.CLASS_NOT_TAUGHT),
        ("nobody", "class-1", 403, Code.CLASS_NOT_TAUGHT),
        ("user-8", "class-7", 404, Code.NOT_FOUND),
        ("user-8\ud800", "class-1", 422, Code.REQUEST_INVALID),
    ],
)
async def test_only_teachers_start_their_classes(
    client: httpx2.AsyncClient, license_state: LicenseState, teacher: str, sourced_id: str, status: int, code: Code
) -> None:
    """Students, strangers and classes that are not there are refused."""
    body = msgspec.json.encode({"teacher_sourced_id": teacher.replace("\ud800", "?")}).replace(b"?", rb"\ud800")
    answer = await client.post(
        f"/v1/roster/classes/{sourced_id}/start",
        content=body,
        headers={
            **ISSUER.headers(["classes.start"], product_id=license_state.product_id),
            "Content-Type": "application/json",
        },
    )

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_automatic_products_start_nothing(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database, license_state: LicenseState
) -> None:
    """Where classes don't wait there is nothing to start; who came in meanwhile is known once they do."""
    product = ProductState(id=license_state.product_id, name="Reader")
    await announce(database, product)
    await sign_in(database, gateway, license_state, "user-1")
    refused = await start(client, license_state)
    steps = await database.fetchval("SELECT count(*) FROM apply WHERE kind = 'signed-in'")
    await announce(database, msgspec.structs.replace(product, classes="teacher-started"))

    assert (refused.status_code, refused.json()["code"]) == (409, Code.CLASSES_AUTOMATIC)
    assert steps == 0
    assert await database.fetchval("SELECT apply_no FROM activation WHERE sourced_id = 'user-1'") == 0


async def test_who_comes_in_first_and_is_synced_later_is_connected(
    gateway: Gateway, database: Database, rosters: Rosters, license_state: LicenseState
) -> None:
    """A person of whom the roster hears only later is seen with their first record, without another sign-in."""
    await sign_in(database, gateway, license_state, "user-4")
    before, cursor = await read_news(database, rosters, license_state, Cursor())
    await gateway.sync({"users": [student(4)]}, served={"users": 6})

    assert "user.added users/user-4" not in before
    after, _ = await read_news(database, rosters, license_state, cursor)
    assert [line.split()[0] for line in after] == ["user.added", "sync.applied"]


async def test_an_unreadable_sign_in_is_put_aside(database: Database, gateway: Gateway) -> None:
    """What names no product by its id can't be taken, ever."""
    come = SignedIn(
        sign_in_id="1",
        integration_id=gateway.integration_id,
        organization_id=gateway.organization_id,
        product_id="reader",
        user_sourced_id="user-1",
        at=datetime.now(UTC),
    )
    with pytest.raises(Reject):
        await SignInConsumer(database).handle([as_message(to_sign_ins(come), 0)])


async def test_teachers_choose_among_their_own_classes(client: httpx2.AsyncClient, license_state: LicenseState) -> None:
    """A teacher's classes are listed whether they wait or not, with nothing about who else is in them."""
    headers = ISSUER.headers(["classes.start"], product_id=license_state.product_id)
    before = (await client.get("/v1/roster/teachers/user-8/classes", headers=headers)).json()["classes"]
    await start(client, license_state)
    after = (await client.get("/v1/roster/teachers/user-8/classes", headers=headers)).json()["classes"]
    students = (await client.get("/v1/roster/teachers/user-1/classes", headers=headers)).json()["classes"]

    assert [(one["sourced_id"], one["state"]) for one in before] == [("class-1", "dormant")]
    assert [(one["state"], one["started_by"]) for one in after] == [("started", "user-8")]
    assert students == []
    assert "user-1" not in str(after)


async def test_whoever_is_no_product_names_one(client: httpx2.AsyncClient, license_state: LicenseState) -> None:
    """An organization starts classes for a product it names, of its own rosters alone."""
    url = "/v1/roster/classes/class-1/start"
    body: dict[str, Any] = {"teacher_sourced_id": "user-8"}
    named = {**body, "product_id": license_state.product_id}
    own = ISSUER.headers(["classes.start"], organization_id=license_state.organization_id)
    other = ISSUER.headers(["classes.start"], organization_id=uuid4())
    answers = [
        await client.post(url, json=sent, headers=headers)
        for sent, headers in ((body, own), (named, other), (named, own))
    ]

    assert [answer.status_code for answer in answers] == [422, 404, 200]


async def test_a_teacher_with_a_token_of_their_own(
    client: httpx2.AsyncClient, gateway: Gateway, license_state: LicenseState
) -> None:
    """A teacher's token lists and starts their own classes, in their own roster, for a product they name."""

    def sign(sourced_id: str, integration_id: str = gateway.integration_id) -> dict[str, str]:
        who = {"integration_id": integration_id, "sourced_id": sourced_id}
        return ISSUER.headers(["classes.start", "roster.read"], organization_id=gateway.organization_id, teacher=who)

    product, own = license_state.product_id, sign("user-8")
    listing, starting = "/v1/roster/teachers/user-8/classes", "/v1/roster/classes/class-1/start"
    body = {"teacher_sourced_id": "user-8", "product_id": product}
    listed = await client.get(listing, params={"product": product}, headers=own)
    started = await client.post(starting, json=body, headers=own)
    refused = [
        await client.get(listing, params={"product": product}, headers=sign("user-9")),
        await client.post(starting, json=body | {"teacher_sourced_id": "user-9"}, headers=own),
        await client.get(listing, params={"product": product, "integration": str(uuid4())}, headers=own),
        await client.post(starting, json=body, headers=sign("user-8", str(uuid4()))),
        await client.post(starting, json=body | {"product_id": str(uuid4())}, headers=own),
        await client.get(listing, headers=own),
        await client.get("/v1/roster/classes/class-1/people", headers=own),
    ]

    assert [one["sourced_id"] for one in listed.json()["classes"]] == ["class-1"]
    assert (started.status_code, started.json()["started_by"]) == (200, "user-8")
    assert [answer.json()["code"] for answer in refused] == [
        "TEACHER_REFUSED",
        "TEACHER_REFUSED",
        "TEACHER_REFUSED",
        "NOT_FOUND",
        "NOT_FOUND",
        "REQUEST_INVALID",
        "SCOPE_MISSING",
    ]


async def test_a_moved_enrollment_goes_back_to_sleep(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database, rosters: Rosters, license_state: LicenseState
) -> None:
    """An enrollment that goes on under the same id in a class that waits is told as removed, by nothing but its id."""
    await gateway.sync({"classes": [msgspec.structs.replace(ROSTER["classes"][0], sourced_id="class-2")]})
    await start(client, license_state)
    await sign_in(database, gateway, license_state, "user-1")
    reader = Reader(database, rosters, product_scope(license_state.product_id), random.Random(1))
    await reader.catch_up()
    await gateway.sync(
        {"enrollments": [msgspec.structs.replace(ROSTER["enrollments"][0], class_sourced_id="class-2")]},
        served={"enrollments": 5},
    )
    page = await read_page(database, rosters, reader.cursor, 10, reader.scope)

    (event,) = [one.event for one in page.events if one.event.type == "homeroom.enrollment.removed.v1"]
    assert msgspec.to_builtins(event.data)["record"] == {"sourcedId": "enrollment-1-1"}


async def test_what_is_awake_stays_awake_when_it_is_taken_over(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database, rosters: Rosters, license_state: LicenseState
) -> None:
    """A district that comes back by another integration need not start its classes anew (C8)."""
    await start(client, license_state)
    terms = msgspec.structs.replace(ANYTHING_GOES, takes_over=gateway.integration_id)
    heir = Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id, run_number=10, terms=terms)
    await heir.sync({name: [*ROSTER[name], *TEACHERS.get(name, ())] for name in ROSTER})
    await settle_licenses(database)
    told, _ = await read_news(database, rosters, license_state, Cursor())

    assert {"class.added classes/class-1", "enrollment.added enrollments/teaching-8"} <= set(told)
    assert "class.activated classes/class-1" not in told
