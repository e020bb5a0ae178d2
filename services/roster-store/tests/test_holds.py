"""What is kept back of a plan, what is applied of it, and how what waits ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from deciding import TOWN, Admin, leave, merge, people
from played_gateway import Gateway, campus, enrollment, school, section, student, together

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Bookmark, Evaluated, GuardLimits, Held, HoldEnded, Terms
from roster_store.answers import decode_facts, encode_facts
from roster_store.changes import ChangeConsumer
from roster_store.completion import Delays
from roster_store.holding import end_forsaken_hold

BOOKMARK = Bookmark(at=datetime(2026, 9, 1, 6, tzinfo=UTC), canonical=1, increments=True)
BULK: dict[str, Any] = {"chunk_records": 500}


@pytest.fixture
def admin(gateway: Gateway, database: Database) -> Admin:
    """Who decides about what the gateway's integration holds."""
    return Admin(gateway, database)


async def hold(gateway: Gateway, *args: Any, **kwargs: Any) -> Held:
    """Send a fetch that must be held, with all its records accounted for (I9)."""
    fact = await gateway.sync(*args, **{**BULK, **kwargs})
    assert isinstance(fact, Held), fact
    for collection, report in fact.collections.items():
        told = report.added + report.changed + report.unchanged + report.filtered + report.quarantined
        assert told == report.served, f"{collection} does not add up: {report}"
    return fact


async def test_removals_wait_and_the_rest_is_applied(gateway: Gateway, admin: Admin) -> None:
    """Too many removals wait; what is added and changed is applied in the same run, and told as that."""
    await gateway.apply(TOWN, **BULK)
    going = merge(leave(1, 11, 1), leave(201, 211, 201))
    fact = await hold(gateway, {"users": [student(2, "Milena"), student(99, "Ida")]}, going, bookmark=BOOKMARK)

    assert (fact.code, fact.everything) == (Code.GUARD_DELETE_HOLD, False)
    assert "22 of 160 people would be removed" in fact.detail
    users, enrollments = fact.collections["users"], fact.collections["enrollments"]
    assert (users.added, users.changed, users.removed, users.held) == (1, 1, 0, 22)
    assert (enrollments.removed, enrollments.held) == (0, 22)
    assert fact.apply is not None
    assert await admin.count() == {"orgs": 2, "classes": 8, "users": 161, "enrollments": 160}
    assert fact.students == 161
    assert await admin.staged() == {"gone"}
    assert fact.expires_at is not None
    assert timedelta(days=6) < fact.expires_at - fact.at < timedelta(days=8)


async def test_a_repeat_gets_the_same_answer(gateway: Gateway, admin: Admin) -> None:
    """A completion that is delivered twice is held once and answered alike."""
    await gateway.apply(TOWN, **BULK)
    messages = gateway.messages({"users": [student(99)]}, leave(1, 22, 1), **BULK)
    first = await gateway.send(messages)
    again = await gateway.send(messages)

    assert isinstance(first, Held)
    assert first == again
    assert await admin.database.fetchval("SELECT count(*) FROM hold") == 1


async def test_one_school_is_held_alone(gateway: Gateway, admin: Admin) -> None:
    """A school that loses too many keeps its people and their enrollments; the other school goes on."""
    await gateway.apply(TOWN, **BULK)
    going = merge(leave(1, 27, 1), leave(201, 203, 201), {"classes": ["class-204"]})
    limits = GuardLimits(remove_share=0.5)
    fact = await hold(gateway, {}, going, terms=Terms(guard=limits))

    assert [reason.school for reason in fact.reasons] == ["org-North"]
    users, enrollments = fact.collections["users"], fact.collections["enrollments"]
    assert (users.removed, users.held) == (3, 27)
    assert (enrollments.removed, enrollments.held) == (3, 27)
    assert fact.collections["classes"].removed == 1
    assert await admin.count() == {"orgs": 2, "classes": 7, "users": 157, "enrollments": 157}
    assert await admin.dangling() == 0


async def test_who_is_of_a_held_school_too_stays_everywhere(gateway: Gateway, admin: Admin) -> None:
    """A student of two schools counts at each; kept at the one that is held, they keep their classes at the other."""
    both = student(300, "Ada", "South", "North")
    await gateway.apply(
        together(TOWN, {"users": [both], "enrollments": [enrollment(300, 1), enrollment(300, 201)]}), **BULK
    )
    # One of their enrollments is told as gone, the other only follows from the person.
    going = merge(leave(1, 26, 1), leave(201, 202, 201), {"users": ["user-300"], "enrollments": ["enrollment-300-201"]})
    fact = await hold(gateway, {}, going, terms=Terms(guard=GuardLimits(remove_share=0.5)))

    assert fact.reasons[0].school == "org-North"
    assert (fact.reasons[0].count, fact.reasons[0].of) == (27, 81)
    assert (fact.collections["users"].removed, fact.collections["users"].held) == (2, 27)
    assert (fact.collections["enrollments"].removed, fact.collections["enrollments"].held) == (2, 28)
    assert await admin.dangling() == 0


async def test_enrollments_held_for_their_quarantine_go_with_who_goes(gateway: Gateway, admin: Admin) -> None:
    """Where enrollments are not believed to be gone, those of people and classes that go still go (I8)."""
    await gateway.apply(TOWN, **BULK)
    going = merge(leave(1, 3, 1), {"enrollments": ["enrollment-10-1", "enrollment-11-1"]})
    lost = [enrollment(number, 999) for number in range(1, 30)]
    fact = await hold(gateway, {"enrollments": lost}, going, served={"users": 160, "enrollments": 160})

    assert fact.code == Code.GUARD_QUARANTINE_RATE
    assert fact.collections["users"].removed == 3
    assert (fact.collections["enrollments"].removed, fact.collections["enrollments"].held) == (3, 2)
    assert await admin.dangling() == 0


async def test_people_held_for_their_quarantine_keep_their_enrollments(gateway: Gateway, admin: Admin) -> None:
    """Where people are not believed to be gone, nor are their enrollments; a class that goes takes its own along."""
    town = together(TOWN, {"enrollments": [enrollment(1, 2), enrollment(20, 2)]})
    await gateway.apply(town, **BULK)
    going = merge(leave(1, 3, 1), {"enrollments": ["enrollment-1-2"], "classes": ["class-2"]})
    messages = gateway.messages({}, going, served={"users": 160}, **BULK)
    fact = await gateway.send(quarantine(messages, "users", 30))

    assert isinstance(fact, Held)
    assert fact.code == Code.GUARD_QUARANTINE_RATE
    assert (fact.collections["users"].removed, fact.collections["users"].held) == (0, 3)
    assert (fact.collections["enrollments"].removed, fact.collections["enrollments"].held) == (2, 3)
    assert await admin.dangling() == 0


def quarantine(messages: list[Any], collection: str, count: int) -> list[Any]:
    """The messages of a fetch, of which the gateway could not understand some records."""
    *others, last = messages
    completed = msgspec.json.decode(last.value)
    report = completed["collections"][collection]
    report |= {"quarantined": count, "unchanged": report["unchanged"] - count}
    return [*others, replace(last, value=msgspec.json.encode(completed))]


async def test_new_ids_for_everybody_change_nothing(gateway: Gateway, admin: Admin) -> None:
    """When the same people come under other ids, nothing is applied, and that is said instead of their number."""
    await gateway.apply(TOWN, **BULK)
    again = [
        student(1_000 + one, f"Mila{one}", "North" if one < 200 else "South", email=f"STUDENT{one}@north.example ")
        for one in (*range(1, 61), *range(201, 261))
    ]
    going = merge(leave(1, 60, 1), leave(201, 260, 201))
    fact = await hold(gateway, {"users": again}, going, served={"users": 160})

    assert (fact.code, fact.everything) == (Code.GUARD_REKEY_SUSPECTED, True)
    assert "120 of 160 people would be removed and 120 added, and 120 of the removed come again" in fact.detail
    assert (fact.collections["users"].added, fact.collections["users"].removed) == (120, 120)
    assert fact.apply is None
    assert await admin.count() == {"orgs": 2, "classes": 8, "users": 160, "enrollments": 160}
    assert await admin.staged() == {"users", "gone"}


async def test_a_new_year_is_no_rekeying(gateway: Gateway) -> None:
    """Others who come when many go are not taken for the same people."""
    await gateway.apply(TOWN, **BULK)
    new = [student(number + 1_000, f"Ida{number}", family_name="Berg") for number in range(60)]
    fact = await hold(gateway, {"users": new}, merge(leave(1, 40, 1), leave(201, 220, 201)))

    assert (fact.code, fact.everything) == (Code.GUARD_DELETE_HOLD, False)


async def test_one_school_under_new_ids_changes_nothing(gateway: Gateway, admin: Admin) -> None:
    """The people of one school that was re-keyed do not come twice."""
    await gateway.apply(TOWN, **BULK)
    again = [
        student(number + 1_000, "Mila", "North", email=f"student{number}@north.example") for number in range(1, 31)
    ]
    fact = await hold(gateway, {"users": again}, leave(1, 30, 1), terms=Terms(guard=GuardLimits(rekey_share=0.5)))

    assert (fact.code, fact.reasons[0].school) == (Code.GUARD_REKEY_SUSPECTED, "org-North")
    assert (await admin.count())["users"] == 160


async def test_nearly_everybody_changed_waits(gateway: Gateway, admin: Admin) -> None:
    """More changes than the limit allows are held as a whole."""
    await gateway.apply(TOWN, **BULK)
    changed = [
        student(number, "Eva", "North" if number < 200 else "South") for number in (*range(1, 81), *range(201, 242))
    ]
    fact = await hold(gateway, {"users": changed}, served={"users": 160})

    assert (fact.code, fact.everything) == (Code.GUARD_UPDATE_HOLD, True)
    assert await admin.database.fetchval("SELECT count(*) FROM users WHERE given_name = 'Eva'") == 0
    assert await admin.staged() == {"users"}


async def test_the_first_picture_waits(gateway: Gateway, admin: Admin) -> None:
    """An integration that is set to wait holds its first picture as a whole, again and again, until it is approved."""
    gateway.terms = Terms(approve_first=True)
    first = await hold(gateway, TOWN)
    second = await hold(gateway, TOWN, bookmark=BOOKMARK)

    assert (second.code, second.everything, second.collections["users"].added) == (Code.FIRST_RUN_APPROVAL, True, 160)
    assert first.plan != second.plan
    assert (await admin.count())["users"] == 0
    (applied,) = await admin.decide(second)
    assert isinstance(applied, Applied)
    assert applied.collections["users"].added == 160
    assert applied.bookmark == BOOKMARK
    assert (applied.run_id, applied.attempt, applied.students) == (second.run_id, second.attempt, 160)
    assert await admin.count() == {"orgs": 2, "classes": 8, "users": 160, "enrollments": 160}
    await gateway.apply({"users": [student(1, "Eva")]})


async def test_who_only_adds_never_removes(gateway: Gateway, admin: Admin) -> None:
    """Additions only: removals are left out and counted, and nothing waits for anybody."""
    await gateway.apply(TOWN, **BULK)
    gateway.terms = Terms(additions_only=True)
    fact = await gateway.apply({"users": [student(99)]}, leave(1, 60, 1), **BULK)

    users = fact.collections["users"]
    assert (users.added, users.removed, users.held) == (1, 0, 60)
    assert await admin.count() == {"orgs": 2, "classes": 8, "users": 161, "enrollments": 160}
    assert await admin.staged() == set()


async def test_an_evaluation_changes_nothing(gateway: Gateway, admin: Admin) -> None:
    """What a picture comes to is found out, with what the guard would hold; nothing is applied, held or replaced."""
    await gateway.apply(together(TOWN, {"users": [student(98, "Ada")]}), **BULK)
    held = await hold(gateway, {}, leave(1, 22, 1))
    fact = await gateway.sync(
        {"users": [student(99)], "classes": [section(9, "West")], "orgs": [school("West")]},
        merge(leave(1, 22, 1)),
        configured={"users": ["user-98"]},
        terms=Terms(purpose="evaluation"),
        **BULK,
    )

    assert isinstance(fact, Evaluated)
    users = fact.collections["users"]
    assert (users.added, users.removed, fact.configuration) == (1, 23, 1)
    assert [reason.code for reason in fact.reasons] == [Code.GUARD_DELETE_HOLD]
    assert len(fact.plan) == 64
    assert await admin.count() == {"orgs": 2, "classes": 8, "users": 161, "enrollments": 160}
    assert await admin.database.fetchval("SELECT count(*) FROM incomplete_school") == 0
    assert await admin.staged() == {"gone"}
    assert isinstance((await admin.decide(held))[-1], Applied)


async def test_a_class_that_empties_waits(gateway: Gateway, admin: Admin) -> None:
    """A refresh of one class is judged by that class, and ends nothing that the integration holds."""
    await gateway.apply(TOWN, **BULK)
    older = await hold(gateway, {}, leave(1, 22, 1))
    going = [f"enrollment-{number}-201" for number in range(201, 205)]
    refresh: dict[str, Any] = {"terms": Terms(purpose="refresh"), "whole": False}
    fact = await hold(gateway, {}, {"enrollments": going}, served={"enrollments": 0}, **refresh)
    calm = await gateway.apply({}, {"enrollments": going[:1]}, served={"enrollments": 76}, **refresh)

    assert (fact.code, fact.everything) == (Code.GUARD_DELETE_HOLD, False)
    assert calm.collections["enrollments"].removed == 1
    assert await admin.database.fetchval("SELECT count(*) FROM hold WHERE state = 'open'") == 2
    assert isinstance((await admin.decide(older))[-1], Applied)


@pytest.mark.parametrize("held_again", [True, False])
async def test_a_newer_plan_takes_the_place_of_a_held_one(gateway: Gateway, admin: Admin, *, held_again: bool) -> None:
    """What a run holds ends when a later run has a plan of its own, held or applied; both are told."""
    await gateway.apply(TOWN, **BULK)
    older = await hold(gateway, {}, leave(1, 22, 1))
    messages = gateway.messages({"users": [student(99)]}, leave(1, 23 if held_again else 3, 1), **BULK)
    before = len(gateway.bus.published)
    newer = await gateway.send(messages)
    ended = admin.facts(before)[0]

    assert isinstance(ended, HoldEnded)
    assert (ended.run_id, ended.plan, ended.code) == (older.run_id, older.plan, Code.HOLD_REPLACED)
    assert isinstance(newer, Held) is held_again
    assert await admin.staged() == ({"gone"} if held_again else set())
    await gateway.send(messages)
    assert [type(fact) for fact in admin.facts(before)] == [HoldEnded, type(newer)] * 2


async def test_a_fetch_that_fails_replaces_nothing(gateway: Gateway, admin: Admin) -> None:
    """A picture that is refused has no plan, so what is held goes on waiting."""
    await gateway.apply(TOWN, **BULK)
    older = await hold(gateway, {}, leave(1, 22, 1))
    await gateway.sync({"users": [student(99)]}, basis=0)

    assert isinstance((await admin.decide(older))[-1], Applied)


async def test_what_is_empty_is_held_with_all_that_would_go(gateway: Gateway, admin: Admin) -> None:
    """An empty collection is held whole, so that approving it does what it says: everybody goes, with all they had."""
    await gateway.apply(TOWN, **BULK)
    going = {"users": people(1, 80) + people(201, 280)}
    fact = await hold(gateway, {}, going, served={"users": 0, "enrollments": 160})

    assert (fact.code, fact.everything) == (Code.GUARD_EMPTY_COLLECTION, True)
    assert (fact.collections["users"].removed, fact.collections["enrollments"].removed) == (160, 160)
    (applied,) = await admin.decide(fact)
    assert isinstance(applied, Applied)
    assert await admin.count() == {"orgs": 2, "classes": 8, "users": 0, "enrollments": 0}


async def test_how_long_something_is_held_is_a_setting(gateway: Gateway, database: Database) -> None:
    """What is held expires after as many days as the store is told."""
    gateway.consumer = ChangeConsumer(database, gateway.bus, Delays(hold_days=2))  # type: ignore[arg-type]  # publish is all it uses
    await gateway.apply(TOWN, **BULK)
    fact = await hold(gateway, {}, leave(1, 22, 1))

    assert fact.expires_at is not None
    assert timedelta(days=1.9) < fact.expires_at - fact.at < timedelta(days=2.1)


async def test_a_school_is_only_remembered_when_its_picture_counts(gateway: Gateway, admin: Admin) -> None:
    """What was found out about schools is kept with the picture that is applied, not with one that waits."""
    gateway.terms = Terms(approve_first=True)
    fact = await hold(gateway, together(TOWN, campus("West", 401, classes=0)))
    known = "SELECT array_agg(sourced_id) FROM incomplete_school"

    assert await admin.database.fetchval(known) is None
    (applied,) = await admin.decide(fact)
    assert isinstance(applied, Applied)
    assert await admin.database.fetchval(known) == ["org-West"]
    assert applied.bookmark is None


def test_answers_of_older_stores_are_understood() -> None:
    """A fetch that was answered before there were holds has one fact alone, and is answered with that."""
    fact = Applied(run_id="r", attempt=1, integration_id="i", at=BOOKMARK.at, fetch_id="f", apply=None, collections={})

    assert list(decode_facts(msgspec.json.encode(fact))) == [fact]
    assert list(decode_facts(encode_facts([fact, fact]))) == [fact, fact]


async def test_a_forsaken_hold_is_thrown_away(gateway: Gateway, admin: Admin) -> None:
    """What waits long after it expired, because nobody is there any more to end it, does not stay for ever."""
    await gateway.apply(TOWN, **BULK)
    await hold(gateway, {}, leave(1, 22, 1))
    assert await admin.database.transact(end_forsaken_hold) == 0
    await admin.database.fetch("UPDATE hold SET expires_at = now() - interval '31 days'")

    assert await admin.database.transact(end_forsaken_hold) == 1
    assert await admin.database.fetchval("SELECT state FROM hold") == "expired"
    assert await admin.staged() == set()
