"""When an alert is due, and what it says, without input or output."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from homeroom.codes import Code
from sync_scheduler import deliveries
from sync_scheduler.alert_messages import Subject, compose
from sync_scheduler.alerts import Ended, Health, Kind, Situation, choose, find_stale_moment, judge, remind_at
from sync_scheduler.runs import State

NOW = datetime(2026, 9, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ONE, TWO = UUID(int=1), UUID(int=2)


def ended(state: State, code: Code | None = None, **more: Any) -> Ended:
    return Ended(**{"id": ONE, "state": state, "code": code, "at": NOW - HOUR, **more})


def situation(told: Health = Health.OK, newest: Ended | None = None, **more: Any) -> Situation:
    return Situation(**{"told": told, "since": NOW - DAY, "newest": newest, **more})


FAILED = ended(State.FAILED, Code.AUTH_INVALID)
HELD = ended(State.HELD, Code.GUARD_DELETE_HOLD, held_at=NOW - 6 * DAY, expires_at=NOW + HOUR)
FRESHLY_HELD = replace(HELD, id=TWO, held_at=NOW - HOUR, expires_at=NOW + 7 * DAY)


@pytest.mark.parametrize(
    ("one", "health", "kind"),
    [
        (situation(), Health.OK, None),
        (situation(newest=ended(State.SUCCEEDED)), Health.OK, None),
        (situation(newest=FAILED), Health.FAILING, Kind.FAILING),
        (situation(Health.FAILING, FAILED), Health.FAILING, None),
        (situation(Health.FAILING, ended(State.SUCCEEDED)), Health.OK, Kind.RECOVERED),
        (situation(Health.FAILING, ended(State.PARTIAL, Code.RECORDS_QUARANTINED)), Health.OK, Kind.RECOVERED),
        (situation(Health.STALE, FAILED), Health.FAILING, Kind.FAILING),
        (situation(newest=FRESHLY_HELD), Health.HELD, Kind.HELD),
        (situation(Health.HELD, FRESHLY_HELD), Health.HELD, None),
        (situation(Health.FAILING, HELD), Health.HELD, Kind.HELD),
        (situation(Health.HELD, HELD), Health.HELD, Kind.HOLD_REMINDER),
        (situation(Health.HELD, HELD, reminded=ONE), Health.HELD, None),
        (situation(Health.HELD, ended(State.SUCCEEDED)), Health.OK, Kind.RECOVERED),
        # Thrown away: what was there before it counts again, and nothing has recovered by that.
        (situation(Health.HELD, ended(State.SUCCEEDED, at=NOW - 2 * DAY)), Health.OK, None),
        (situation(Health.HELD, ended(State.PARTIAL, Code.HOLD_DISCARDED)), Health.OK, None),
        (situation(stale_at=NOW), Health.STALE, Kind.STALE),
        (situation(stale_at=NOW + HOUR), Health.OK, None),
        (situation(Health.STALE, stale_at=NOW), Health.STALE, None),
        (situation(Health.FAILING, FAILED, stale_at=NOW - DAY), Health.FAILING, None),
        (situation(newest=FAILED, muted=True), Health.OK, None),
        (situation(Health.HELD, ended(State.SUCCEEDED), deciding=True), Health.HELD, None),
    ],
)
def test_an_alert_is_a_change(one: Situation, health: Health, kind: Kind | None) -> None:
    """Every change of how an integration fares is told once, and nothing else is."""
    verdict = judge(one, NOW)
    assert (verdict.health, verdict.kind) == (health, kind)


def test_why_it_is_stale() -> None:
    """A stale integration names what keeps it from running where that is known."""
    assert judge(situation(stale_at=NOW), NOW).code is Code.SYNC_STALE
    inactive = situation(stale_at=NOW, stale_code=Code.LICENSE_INACTIVE)
    assert judge(inactive, NOW).code is Code.LICENSE_INACTIVE


def test_cancelled_runs_say_nothing() -> None:
    """What a person cancelled is passed over for the run before it."""
    assert choose([ended(State.CANCELLED), ended(State.CANCELLED), FAILED]) is FAILED
    assert choose([ended(State.CANCELLED)]) is None


def test_stale_after_two_slots() -> None:
    """The run of the second slot has until the third, or until its deadline, whichever comes first."""
    nightly = [NOW + DAY, NOW + 2 * DAY, NOW + 3 * DAY]
    assert find_stale_moment(nightly, run_deadline=6 * HOUR) == NOW + 2 * DAY + 6 * HOUR
    hourly = [NOW + HOUR, NOW + 2 * HOUR, NOW + 3 * HOUR]
    assert find_stale_moment(hourly, run_deadline=6 * HOUR) == NOW + 3 * HOUR
    assert find_stale_moment([NOW], run_deadline=HOUR) is None
    assert find_stale_moment([], run_deadline=HOUR) is None


def test_reminders() -> None:
    """A hold is reminded of a day before it expires; a short one halfway, not at once."""
    assert remind_at(replace(HELD, held_at=NOW, expires_at=NOW + 7 * DAY)) == NOW + 6 * DAY
    assert remind_at(replace(HELD, held_at=NOW, expires_at=NOW + 12 * HOUR)) == NOW + 6 * HOUR


def test_what_is_said() -> None:
    """An alert carries code, sentence, next step and links, and a hostile name can't break a line or a header."""
    about = Subject(
        alert_id=TWO,
        kind=Kind.FAILING,
        at=NOW,
        organization_id=ONE,
        organization="Springfield",
        integration_id=TWO,
        integration="Evil\u2028Bcc: all@example.org\x85",
        run=FAILED,
        code=FAILED.code,
    )
    message = compose(about, origin="https://homeroom.example")
    payload = json.loads(message.payload)
    assert (payload["type"], payload["timestamp"]) == ("integration.failing", NOW.isoformat())
    assert payload["data"]["next_step"] == Code.AUTH_INVALID.entry.next_step
    assert payload["data"]["links"]["log"] == f"https://homeroom.example/v1/runs/{ONE}/log"
    assert "AUTH_INVALID" in message.text
    assert message.subject.splitlines() == ["[Homeroom] Evil Bcc: all@example.org: Syncs fail"]
    assert "\nBcc" not in message.text


def test_partial_recoveries_say_so() -> None:
    """A recovery by a partial run is one, and says what it was."""
    run = ended(State.PARTIAL, Code.RECORDS_QUARANTINED)
    about = Subject(alert_id=TWO, kind=Kind.RECOVERED, at=NOW, run=run, code=run.code)
    assert "partial" in json.loads(compose(about, origin="https://h.example").payload)["data"]["message"]


def test_patience() -> None:
    """Pauses grow, and after a day nothing is tried again, also what waited behind something else."""
    ages, age, tries = [], timedelta(), 1
    while (pause := deliveries.find_pause(tries, age)) is not None:
        age, tries = age + pause, tries + 1
        ages.append(age)
    assert ages[0] == timedelta(seconds=5)
    assert 20 * HOUR < ages[-1] <= DAY
    assert deliveries.find_pause(1, DAY) is None
