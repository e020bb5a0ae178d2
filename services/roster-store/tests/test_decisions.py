"""Decisions about what is held: each counts once, for the plan that was looked at, and never for another."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from deciding import TOWN, Admin, leave
from played_gateway import Gateway, RecordingBus, as_message, enrollment, student

from homeroom.bus import Outgoing
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import (
    Applied,
    Bookmark,
    DecisionRefused,
    Fact,
    Failed,
    Held,
    HoldEnded,
    Terms,
    to_commands,
)
from roster_store.commands import CommandConsumer

BOOKMARK = Bookmark(at=datetime(2026, 9, 1, 6, tzinfo=UTC), canonical=1, increments=True)
BULK: dict[str, Any] = {"chunk_records": 500}
REFRESH: dict[str, Any] = {"terms": Terms(purpose="refresh"), "whole": False}
ALL = {"orgs": 2, "classes": 8, "users": 160, "enrollments": 160}


@pytest.fixture
async def admin(gateway: Gateway, database: Database) -> Admin:
    """Who decides about a district of two schools."""
    await gateway.apply(TOWN, **BULK)
    return Admin(gateway, database)


@pytest.fixture
async def held(gateway: Gateway, admin: Admin) -> Held:
    """Removals of 22 students and their enrollments that wait; a new student came in the same run."""
    assert admin.gateway is gateway
    return await hold_removals(gateway)


@pytest.fixture
async def rekeyed(gateway: Gateway, admin: Admin) -> Held:
    """A whole plan that waits: 40 students go, and come again under other ids."""
    assert admin.gateway is gateway
    return await hold_everything(gateway)


async def hold_removals(gateway: Gateway) -> Held:
    """Too many students go."""
    fact = await gateway.sync({"users": [student(99)]}, leave(1, 22, 1), bookmark=BOOKMARK, **BULK)
    assert isinstance(fact, Held)
    return fact


async def hold_everything(gateway: Gateway) -> Held:
    """Many students go, and come again under other ids."""
    again = [student(number + 1_000, email=f"student{number}@north.example") for number in range(1, 41)]
    fact = await gateway.sync(
        {"users": again, "enrollments": [enrollment(1_001, 1)]}, leave(1, 40, 1), bookmark=BOOKMARK, **BULK
    )
    assert isinstance(fact, Held)
    return fact


def only(facts: list[Fact]) -> Fact:
    """The one fact there is."""
    (fact,) = facts
    return fact


async def test_approved_removals_are_carried_out(gateway: Gateway, admin: Admin, held: Held) -> None:
    """What waited goes, as an apply of its own, and the run's counts are those of both applies."""
    fact = only(await admin.decide(held))

    assert isinstance(fact, Applied)
    assert (fact.run_id, fact.attempt, fact.fetch_id) == (held.run_id, held.attempt, held.fetch_id)
    assert held.apply is not None
    assert fact.apply is not None
    assert fact.apply > held.apply
    users = fact.collections["users"]
    assert (users.added, users.removed, users.held) == (1, 22, 0)
    assert fact.collections["enrollments"].removed == 22
    assert (fact.bookmark, fact.students) == (BOOKMARK, 139)
    assert await admin.count() == {"orgs": 2, "classes": 8, "users": 139, "enrollments": 138}
    assert await admin.staged() == set()
    change = await admin.database.fetchrow("SELECT change::text, changed_by FROM users WHERE sourced_id = 'user-1'")
    assert change is not None
    assert tuple(change) == ("removed", fact.apply)
    await gateway.apply({"users": [student(5, "Eva")]})


async def test_approved_whole_plans_are_carried_out(admin: Admin, rekeyed: Held) -> None:
    """A plan that waited as a whole is applied as a whole, and the next fetch may go on from it."""
    fact = only(await admin.decide(rekeyed))

    assert isinstance(fact, Applied)
    users, enrollments = fact.collections["users"], fact.collections["enrollments"]
    assert (users.added, users.removed, users.held) == (40, 40, 0)
    assert (enrollments.added, enrollments.removed) == (1, 40)
    assert fact.bookmark == BOOKMARK
    assert await admin.count() == ALL | {"enrollments": 121}
    assert await admin.dangling() == 0
    assert await admin.staged() == set()


@pytest.mark.parametrize("whole", [True, False])
async def test_approved_additions_remove_nobody(gateway: Gateway, admin: Admin, *, whole: bool) -> None:
    """Additions only: what comes is there, what would go stays and is told, and the next run compares everything."""
    waiting = await (hold_everything if whole else hold_removals)(gateway)
    fact = only(await admin.decide(waiting, "additions"))

    assert isinstance(fact, Applied)
    users = fact.collections["users"]
    assert (users.added, users.removed, users.held) == ((40, 0, 40) if whole else (1, 0, 22))
    assert (fact.apply is None) is not whole
    assert fact.bookmark is None
    assert (await admin.count())["users"] == (200 if whole else 161)
    assert await admin.staged() == set()


@pytest.mark.parametrize(("action", "code"), [("discard", Code.HOLD_DISCARDED), ("expire", Code.HOLD_EXPIRED)])
async def test_what_is_let_go_changes_nothing(
    gateway: Gateway, admin: Admin, held: Held, action: str, code: Code
) -> None:
    """A discarded or expired plan is thrown away; the next run makes a new one, which waits again."""
    fact = only(await admin.decide(held, action))

    assert isinstance(fact, HoldEnded)
    assert (fact.run_id, fact.plan, fact.code) == (held.run_id, held.plan, code)
    assert (await admin.count())["users"] == 161
    assert await admin.staged() == set()
    again = await gateway.sync({}, leave(1, 22, 1), **BULK)
    assert isinstance(again, Held)
    assert again.plan != held.plan


async def test_an_approval_that_comes_too_late_is_none(admin: Admin, held: Held) -> None:
    """By the database's clock: after its time a plan can't be approved any more."""
    await admin.database.fetch("UPDATE hold SET expires_at = now() - interval '1 second'")
    fact = only(await admin.decide(held))

    assert isinstance(fact, HoldEnded)
    assert fact.code == Code.HOLD_EXPIRED
    assert (await admin.count())["users"] == 161


async def test_a_decision_delivered_twice_counts_once(admin: Admin, held: Held) -> None:
    """The same decision again changes nothing and is answered alike, also long after."""
    command = admin.command(held)
    first, second = await admin.send(command, command)

    assert first == second
    assert await admin.database.fetchval("SELECT count(*) FROM apply") == 3
    assert await admin.send(command) == [first]


@pytest.mark.parametrize(
    ("ended_by", "code"),
    [("approve", Code.HOLD_DECIDED), ("discard", Code.HOLD_DECIDED), ("expire", Code.NOTHING_HELD)],
)
async def test_an_approval_is_not_used_again(admin: Admin, held: Held, ended_by: str, code: Code) -> None:
    """What was decided is decided: another decision about it is refused and changes nothing."""
    await admin.decide(held, ended_by)
    before = await admin.count()
    for action in ("approve", "additions", "discard"):
        fact = only(await admin.decide(held, action))

        assert isinstance(fact, DecisionRefused)
        assert fact.code == code
    assert await admin.count() == before


async def test_a_decision_of_a_replaced_plan_is_refused(gateway: Gateway, admin: Admin, held: Held) -> None:
    """After a newer run an approval of the older plan does nothing, and the newer plan waits as before."""
    newer = await gateway.sync({}, leave(1, 23, 1), **BULK)
    assert isinstance(newer, Held)
    fact = only(await admin.decide(held))

    assert isinstance(fact, DecisionRefused)
    assert fact.code == Code.NOTHING_HELD
    assert (await admin.count())["users"] == 161
    assert isinstance(only(await admin.decide(newer)), Applied)


async def test_forged_decisions_are_refused(admin: Admin, neighbour: Gateway, held: Held) -> None:
    """A decision must name the plan, run and integration it is about; a forged one does not spoil the real one."""
    await neighbour.apply(TOWN, **BULK)
    forged = {
        "plan": Code.PLAN_CHANGED,
        "run_id": Code.NOTHING_HELD,
        "integration_id": Code.NOTHING_HELD,
    }
    values = {"plan": "0" * 64, "run_id": str(held.fetch_id), "integration_id": neighbour.integration_id}
    for field, code in forged.items():
        fact = only(await admin.decide(held, **{field: values[field]}))

        assert isinstance(fact, DecisionRefused)
        assert fact.code == code
    unknown = only(await admin.decide(held, integration_id="00000000-0000-0000-0000-00000000beef"))
    assert isinstance(unknown, DecisionRefused)
    assert (await admin.count())["users"] == 321
    assert isinstance(only(await admin.decide(held)), Applied)


async def test_a_decision_s_id_is_used_once(admin: Admin, held: Held) -> None:
    """A refused decision stays refused: its id can't be sent again with another plan."""
    refused = admin.command(held, plan="0" * 64)
    await admin.send(refused)
    again = only(await admin.send(admin.command(held, decision_id=refused.decision_id)))

    assert isinstance(again, DecisionRefused)
    assert (await admin.count())["users"] == 161


@pytest.mark.parametrize("whole", [True, False])
async def test_a_plan_on_another_roster_is_not_carried_out(gateway: Gateway, admin: Admin, *, whole: bool) -> None:
    """If a record that waits was changed since, by a refresh or by hand, the approval is refused and the hold ends."""
    waiting = await (hold_everything if whole else hold_removals)(gateway)
    await gateway.apply({"users": [student(7, "Eva")]}, **REFRESH)
    before = await admin.count()
    refused, ended = await admin.decide(waiting)

    assert isinstance(refused, DecisionRefused)
    assert isinstance(ended, HoldEnded)
    assert (refused.code, ended.code) == (Code.PLAN_CHANGED, Code.HOLD_REPLACED)
    assert await admin.count() == before
    assert await admin.staged() == set()


async def test_what_came_meanwhile_goes_along(gateway: Gateway, admin: Admin, held: Held) -> None:
    """Enrollments of people who wait to go that came after the plan was made go with them (I8)."""
    await gateway.apply({"enrollments": [enrollment(1, 2), enrollment(99, 2)]}, **REFRESH)
    fact = only(await admin.decide(held))

    assert isinstance(fact, Applied)
    assert fact.collections["enrollments"].removed == 23
    assert await admin.dangling() == 0


async def test_additions_that_lead_nowhere_by_now_are_kept_back(gateway: Gateway, admin: Admin) -> None:
    """A plan that is approved is looked through for references once more; what leads nowhere is counted and named."""
    changed = [
        student(number, "Eva", "North" if number < 200 else "South") for number in (*range(1, 81), *range(201, 281))
    ]
    first = await gateway.sync({"users": changed, "enrollments": [enrollment(1, 2)]}, **BULK)
    assert isinstance(first, Held)
    await gateway.apply({}, {"classes": ["class-2"]}, **REFRESH)
    fact = only(await admin.decide(first))

    assert isinstance(fact, Applied)
    enrollments = fact.collections["enrollments"]
    assert (enrollments.added, enrollments.quarantined) == (0, 1)
    assert [(issue.sourced_id, issue.code) for issue in fact.issues] == [("enrollment-1-2", Code.REF_MISSING)]
    assert await admin.dangling() == 0


@pytest.mark.parametrize("loss", ["DROP TABLE", "TRUNCATE"])
async def test_what_was_lost_is_not_carried_out(admin: Admin, rekeyed: Held, loss: str) -> None:
    """If what was staged is not there any more, an approval applies nothing of it."""
    table = await admin.database.fetchval("SELECT 'f' || fetch_no || '_users' FROM hold")
    await admin.database.fetch(f"{loss} roster_staging.{table}")
    fact = only(await admin.decide(rekeyed))

    assert isinstance(fact, HoldEnded)
    assert fact.code == Code.HOLD_LOST
    assert await admin.count() == ALL
    assert await admin.staged() == set()


# ── races ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("actions", [("approve", "discard"), ("approve", "approve"), ("additions", "approve")])
async def test_of_two_decisions_at_once_one_counts(admin: Admin, held: Held, actions: tuple[str, str]) -> None:
    """Two people who decide in the same moment: one decision is carried out, the other is refused."""
    facts = [only(found) for found in await asyncio.gather(*(decide_apart(admin, held, action) for action in actions))]

    refused = [fact for fact in facts if isinstance(fact, DecisionRefused)]
    assert len(refused) == 1
    assert refused[0].code == Code.HOLD_DECIDED
    assert await admin.dangling() == 0
    assert await admin.staged() == set()


async def decide_apart(admin: Admin, held: Held, action: str) -> list[Fact]:
    """Decide in a worker of one's own."""
    alone = Admin(Gateway(admin.gateway.consumer, RecordingBus(), admin.gateway.integration_id), admin.database)
    return await alone.decide(held, action)


async def test_a_decision_while_a_newer_run_completes(gateway: Gateway, admin: Admin, held: Held) -> None:
    """Either the approval counts and the newer run is to compare again, or the newer plan counts; never both."""
    messages = gateway.messages({"users": [student(98)]}, leave(1, 22, 1), **BULK)
    await gateway.consumer.handle(messages[:-1])
    decided, _ = await asyncio.gather(decide_apart(admin, held, "approve"), gateway.consumer.handle(messages[-1:]))
    told = [fact for fact in admin.facts(0) if not isinstance(fact, Applied)]

    if isinstance(decided[-1], Applied):
        assert isinstance(told[-1], Failed)
        assert (told[-1].code, told[-1].again) == (Code.RUN_INCOMPLETE, True)
        assert (await admin.count())["users"] == 139
    else:
        assert isinstance(decided[-1], DecisionRefused)
        assert [type(fact) for fact in told[-2:]] == [HoldEnded, Held]
        assert (await admin.count())["users"] == 162


async def test_a_crash_between_the_apply_and_its_fact(admin: Admin, held: Held) -> None:
    """If the answer did not reach the bus, the decision comes again and is answered without a second apply."""

    class BrokenBus:
        async def publish(self, *_: Outgoing) -> None:
            msg = "the bus is away"
            raise ConnectionError(msg)

    command = admin.command(held)
    broken = CommandConsumer(admin.database, BrokenBus())  # type: ignore[arg-type]  # publish is all the consumer uses
    with pytest.raises(ConnectionError):
        await broken.handle([as_message(to_commands(command), 0)])
    fact = only(await admin.send(command))

    assert isinstance(fact, Applied)
    assert fact.collections["users"].removed == 22
    assert await admin.database.fetchval("SELECT count(*) FROM apply") == 3


# ── with what else there is ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_takeover_waits_with_its_plan(admin: Admin, neighbour: Gateway) -> None:
    """Records are taken over when their plan is approved, not while it waits (C8, C11)."""
    old = admin.gateway
    neighbour.organization_id = old.organization_id
    neighbour.terms = Terms(approve_first=True, takes_over=old.integration_id)
    first = await neighbour.sync(TOWN, **BULK)
    owners = "SELECT count(*) FROM users JOIN integration ON integration.no = integration_no WHERE id = $1"

    assert isinstance(first, Held)
    assert first.code == Code.FIRST_RUN_APPROVAL
    assert await admin.database.fetchval(owners, neighbour.integration_id) == 0
    fact = only(await Admin(neighbour, admin.database).decide(first))
    assert isinstance(fact, Applied)
    assert await admin.database.fetchval(owners, neighbour.integration_id) == 160
    assert await admin.database.fetchval(owners, old.integration_id) == 0
    assert (await admin.count())["users"] == 160


async def test_who_only_adds_approves_additions(gateway: Gateway, admin: Admin) -> None:
    """Where nothing is ever removed, an approval removes nothing either."""
    again = [student(number + 1_000, email=f"student{number}@north.example") for number in range(1, 41)]
    fact = await gateway.sync({"users": again}, leave(1, 40, 1), terms=Terms(additions_only=True), **BULK)

    assert isinstance(fact, Held)
    assert fact.code == Code.GUARD_REKEY_SUSPECTED
    assert (fact.collections["users"].removed, fact.collections["users"].held) == (0, 40)
    applied = only(await admin.decide(fact))
    assert isinstance(applied, Applied)
    assert (applied.collections["users"].added, applied.collections["users"].held) == (40, 40)
    assert (await admin.count())["users"] == 200
