"""Removal by a second proof: what two complete runs missed."""

from __future__ import annotations

from typing import Any

import pytest
from played_gateway import ROSTER, Gateway, student

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Decide, Evaluated, Failed, Held, Terms
from homeroom.roster import record_key
from roster_store import decisions

PEOPLE = {"users": 3}


async def hours_go_by(database: Database, hours: float = 1) -> None:
    """Let what was missed be missed some hours longer."""
    await database.fetch("UPDATE missing SET since = since - make_interval(secs => $1)", hours * 3600)


async def missed(database: Database, *among: str) -> set[str]:
    """Who is noted as missed once, of some people."""
    keys = {row["key"].bytes for row in await database.fetch("SELECT key FROM missing")}
    named = {one for one in among or ("user-1", "user-2", "user-3") if record_key(one) in keys}
    assert len(named) == len(keys)
    return named


async def active(database: Database) -> set[str]:
    """Whose rows are active."""
    return {row["sourced_id"] for row in await database.fetch("SELECT sourced_id FROM users WHERE active")}


async def miss(gateway: Gateway, *people: str, **more: Any) -> Applied:
    """A complete run that does not see some people and can't prove them gone."""
    return await gateway.apply({}, unproved={"users": people}, served={"users": 3}, **more)


async def test_what_was_missed_once_stays_and_is_counted(gateway: Gateway, database: Database) -> None:
    """One run that misses a record removes nothing, and says how many it could not confirm."""
    await gateway.sync(ROSTER)
    fact = await miss(gateway, "user-2", "user-3")

    report = fact.collections["users"]
    assert (fact.apply, report.removed, report.unconfirmed) == (None, 0, 2)
    assert await missed(database) == {"user-2", "user-3"}
    assert await active(database) == {"user-1", "user-2", "user-3"}


async def test_what_two_runs_missed_is_removed(gateway: Gateway, database: Database) -> None:
    """A second complete run an hour later removes what it misses again, with what depends on it, and forgets it."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3")
    await hours_go_by(database)
    fact = await miss(gateway, "user-2", "user-3")

    report = fact.collections["users"]
    assert (report.removed, report.unconfirmed) == (1, 1), "only who waits is left unconfirmed"
    assert fact.collections["enrollments"].removed == 1
    assert await active(database) == {"user-1", "user-2"}
    assert await missed(database) == {"user-2"}


@pytest.mark.parametrize(("hours", "gone"), [(0.5, 0), (0.999, 0), (1, 1)])
async def test_runs_must_be_an_hour_apart(gateway: Gateway, database: Database, hours: float, gone: int) -> None:
    """Two runs within the hour may have met the same trouble, so they prove nothing."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3")
    await hours_go_by(database, hours)

    assert (await miss(gateway, "user-3")).collections["users"].removed == gone


async def test_the_first_miss_counts_from_its_own_time(gateway: Gateway, database: Database) -> None:
    """A run in between does not put off what the first one began."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3")
    await hours_go_by(database, 0.7)
    await miss(gateway, "user-3")
    await hours_go_by(database, 0.7)

    assert (await miss(gateway, "user-3")).collections["users"].removed == 1


async def test_attempts_of_one_run_are_one_run(gateway: Gateway, database: Database) -> None:
    """A second attempt is no second proof, however long after."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3")
    await hours_go_by(database, 9)

    assert (await miss(gateway, "user-3", attempt=2)).collections["users"].removed == 0


async def test_who_is_seen_again_begins_anew(gateway: Gateway, database: Database) -> None:
    """A run that sees a record forgets that it was missed, unchanged or changed."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-2", "user-3")
    await hours_go_by(database)
    await gateway.sync({"users": [student(2, "Milena")]}, served=PEOPLE)
    assert await missed(database) == set()

    assert (await miss(gateway, "user-2", "user-3")).collections["users"].removed == 0
    assert await missed(database) == {"user-2", "user-3"}


async def test_changes_alone_show_only_who_changed(gateway: Gateway, database: Database) -> None:
    """Where only changes were read, nobody is missed; who changed was seen, and who went is not missed any more."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-1", "user-2", "user-3")
    await gateway.sync({"users": [student(2, "Milena")]}, {"users": ["user-1"]}, whole=False, reason="tombstone")

    assert await missed(database) == {"user-3"}


async def test_collections_that_were_not_read_are_left_alone(gateway: Gateway, database: Database) -> None:
    """A run that does not report on a collection neither misses nor sees its records."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3")
    await gateway.sync({}, served={"orgs": 1})

    assert await missed(database) == {"user-3"}


@pytest.mark.parametrize("purpose", ["evaluation", "refresh"])
async def test_only_syncs_miss_anybody(gateway: Gateway, database: Database, purpose: Any) -> None:
    """An evaluation and a class's refresh note nothing and forget nothing."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3")
    for people in (["user-1"], []):
        await gateway.sync({}, unproved={"users": people}, served=PEOPLE, terms=Terms(purpose=purpose))

    assert await missed(database) == {"user-3"}


async def test_an_evaluation_shows_what_would_go(gateway: Gateway, database: Database) -> None:
    """An evaluation counts who a sync would remove now, and removes nobody."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3")
    await hours_go_by(database)
    fact = await gateway.sync(
        {}, unproved={"users": ["user-2", "user-3"]}, served=PEOPLE, terms=Terms(purpose="evaluation")
    )

    assert isinstance(fact, Evaluated)
    assert (fact.collections["users"].removed, fact.collections["users"].unconfirmed) == (1, 1)
    assert await active(database) == {"user-1", "user-2", "user-3"}
    assert await missed(database) == {"user-3"}


async def test_a_refused_picture_changes_nothing(gateway: Gateway, database: Database) -> None:
    """A picture with a part missing neither misses nor sees anybody."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3")
    messages = gateway.messages({"users": [student(4)]}, unproved={"users": ["user-1"]}, served=PEOPLE)
    fact = await gateway.send([*messages[:1], *messages[2:]])

    assert isinstance(fact, Failed)
    assert await missed(database) == {"user-3"}


async def test_a_picture_held_as_a_whole_misses_nobody(gateway: Gateway, database: Database) -> None:
    """Of a picture that is not believed only what it saw counts."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-2", "user-3")
    fact = await gateway.sync({}, unproved={"users": ["user-1", "user-3"]}, served={"users": 2, "enrollments": 0})

    assert isinstance(fact, Held)
    assert fact.code == Code.GUARD_EMPTY_COLLECTION
    assert await missed(database) == {"user-3"}


async def test_a_provider_that_refused_a_part_misses_nobody(gateway: Gateway, database: Database) -> None:
    """Where the provider refused a school, what was not seen may be that school's."""
    await gateway.sync(ROSTER)
    await miss(gateway, "user-3", refused_schools={"org-North": "refused"})

    assert await missed(database) == set()


async def test_who_goes_by_a_decision_is_forgotten(gateway: Gateway, database: Database) -> None:
    """Somebody whose removal was held and then approved begins anew if they come back, however they do."""
    people = [student(number) for number in range(1, 31)]
    await gateway.apply({"users": people}, chunk_records=30)
    gone = [one.sourced_id for one in people[:25]]
    await gateway.apply({}, unproved={"users": gone}, served={"users": 5})
    await hours_go_by(database)
    held = await gateway.sync({}, unproved={"users": gone}, served={"users": 5})
    assert isinstance(held, Held)
    assert held.collections["users"].held == 25
    assert len(await missed(database, *gone)) == 25
    command = Decide(
        decision_id="d1",
        run_id=held.run_id,
        attempt=held.attempt,
        integration_id=gateway.integration_id,
        plan=held.plan,
        action="approve",
        by="admin",
        at=held.at,
    )
    assert isinstance((await decisions.carry_out(database, command))[-1], Applied)

    assert await missed(database) == set()
    assert len(await active(database)) == 5


async def test_many_missed_at_once_are_held_like_any_removals(gateway: Gateway, database: Database) -> None:
    """What two runs missed is judged by the guard like what is proved gone."""
    people = [student(number) for number in range(3000)]
    await gateway.sync({"users": people, "orgs": ROSTER["orgs"]}, chunk_records=500)
    gone = [one.sourced_id for one in people[:600]]
    first = await gateway.apply({}, unproved={"users": gone}, served={"users": 2400})
    await hours_go_by(database)
    second = await gateway.sync({}, unproved={"users": gone}, served={"users": 2400})

    assert first.collections["users"].unconfirmed == 600
    assert isinstance(second, Held), "a fifth of the people is more than the guard lets go"
    assert second.code == Code.GUARD_DELETE_HOLD
    assert await database.fetchval("SELECT count(*) FROM missing") == 600
    assert await database.fetchval("SELECT count(*) FROM users WHERE active") == 3000
