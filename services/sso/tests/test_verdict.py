"""Who somebody is, decided on facts alone: every branch, and what must hold whatever the facts are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.people import Outcome, PersonAnswer, PersonField, RosterPerson
from sso.launch.verdict import Known, check_age, identify

SOMEBODY = UUID(int=7)
OUTCOMES = get_args(Outcome)


def person(sourced_id: str, *formerly: str) -> RosterPerson:
    """Somebody of the roster."""
    return RosterPerson(sourced_id=sourced_id, given_name="Ada", family_name="Berg", formerly=formerly)


def answer(outcome: Outcome, sourced_id: str = "a", *formerly: str) -> PersonAnswer:
    """What the store says."""
    told = person(sourced_id, *formerly) if outcome in ("known", "removed") else None
    return PersonAnswer(outcome=outcome, person=told)


def tied(sourced_id: str | None, *aliases: str, elsewhere: bool = False) -> Known:
    """Whom a portal's user was tied to."""
    return Known(SOMEBODY, sourced_id, frozenset(aliases), elsewhere=elsewhere)


MISSING = answer("unknown")
NEW = [
    # known, key, by_key, by_tie, rostering → refusal or (sourcedId, tie)
    (None, "a", answer("known"), None, "required", ("a", "new")),
    (None, "a", answer("ambiguous"), None, "optional", Code.SIGNIN_AMBIGUOUS),
    (None, "a", answer("removed"), None, "optional", Code.SIGNIN_REMOVED),
    (None, "a", answer("hidden"), None, "optional", Code.SIGNIN_UNLICENSED),
    (None, "a", MISSING, None, "required", Code.SIGNIN_NOT_ROSTERED),
    (None, None, None, None, "required", Code.SIGNIN_NOT_ROSTERED),
    (None, "a", MISSING, None, "optional", (None, "new")),
    (None, None, None, None, "optional", (None, "new")),
]
STRANGERS = [
    (tied(None), "a", answer("known"), None, "optional", ("a", "renamed")),
    (tied(None), "a", MISSING, None, "optional", (None, "kept")),
    (tied(None), None, None, None, "required", Code.SIGNIN_NOT_ROSTERED),
    # another roster knew them: with this one's word they go on, without it they are no strangers
    (tied(None, elsewhere=True), "a", answer("known"), None, "required", ("a", "renamed")),
    (tied(None, elsewhere=True), "a", MISSING, None, "optional", Code.SIGNIN_NOT_ROSTERED),
]
TIED = [
    (tied("a"), "a", answer("known", "a"), answer("known", "a"), "required", ("a", "kept")),
    (tied("a"), "b", answer("known", "b", "a"), answer("removed", "a"), "required", ("b", "renamed")),
    (tied("a"), "b", answer("known", "b"), answer("removed", "a"), "required", ("b", "moved")),
    (tied("a"), "b", answer("known", "b"), MISSING, "required", ("b", "moved")),
    (tied("a"), "b", answer("known", "b"), answer("known", "a"), "required", Code.SIGNIN_AMBIGUOUS),
    (tied("a"), "b", answer("known", "b"), answer("hidden"), "required", Code.SIGNIN_AMBIGUOUS),
    (tied("a"), "b", answer("known", "b"), answer("ambiguous"), "required", Code.SIGNIN_AMBIGUOUS),
    (tied("a"), "b", answer("known", "b", "a"), answer("known", "a"), "required", Code.SIGNIN_AMBIGUOUS),
    # without a key
    (tied("a"), None, None, answer("known", "a"), "required", ("a", "kept")),
    (tied("a"), None, None, answer("removed", "a"), "optional", Code.SIGNIN_REMOVED),
    (tied("a"), None, None, answer("hidden"), "optional", Code.SIGNIN_UNLICENSED),
    (tied("a"), None, None, MISSING, "optional", Code.SIGNIN_NOT_ROSTERED),
    # with one that leads to nobody: the portal is behind
    (tied("b", "a"), "a", answer("removed", "a"), answer("known", "b"), "required", ("b", "kept")),
    (tied("b"), "a", MISSING, answer("known", "b", "a"), "required", ("b", "kept")),
    (tied("b"), "x", MISSING, answer("known", "b"), "optional", Code.SIGNIN_NOT_ROSTERED),
    (tied("b", "a"), "a", answer("hidden"), answer("known", "b"), "required", Code.SIGNIN_UNLICENSED),
    (tied("b", "a"), "a", MISSING, answer("removed", "b"), "required", Code.SIGNIN_NOT_ROSTERED),
]


@pytest.mark.parametrize(("known", "key", "by_key", "by_tie", "rostering", "expected"), [*NEW, *STRANGERS, *TIED])
def test_every_branch(known: Any, key: Any, by_key: Any, by_tie: Any, rostering: Any, expected: Any) -> None:
    """Facts lead to the person, or the refusal, they must lead to."""
    verdict = identify(known, key, by_key, by_tie, rostering=rostering)
    if isinstance(expected, Code):
        assert (verdict.refusal, verdict.person) == (expected, None)
    else:
        assert verdict.refusal is None
        assert (verdict.person and verdict.person.sourced_id, verdict.tie) == expected


def test_other_keys_are_no_sourced_ids() -> None:
    """A key that is an identifier is never compared with the sourcedIds somebody has or had."""
    for field, refusal in (("sourcedId", None), ("identifier", Code.SIGNIN_NOT_ROSTERED)):
        verdict = identify(tied("a"), "a", MISSING, answer("known", "a"), field=field, rostering="optional")  # type: ignore[arg-type]  # a field
        assert verdict.refusal == refusal


words = st.sampled_from(["a", "b", "c"])
answers = st.one_of(
    st.none(),
    st.builds(
        lambda outcome, name, formerly: answer(outcome, name, *formerly),
        st.sampled_from(OUTCOMES),
        words,
        st.sets(words),
    ),
)


@given(
    known=st.none()
    | st.builds(Known, st.just(SOMEBODY), st.none() | words, st.frozensets(words), elsewhere=st.booleans()),
    key=st.none() | words,
    by_key=answers,
    by_tie=answers,
    rostering=st.sampled_from(["required", "optional"]),
    field=st.sampled_from(get_args(PersonField)),
)
def test_nobody_is_taken_for_somebody_else(
    known: Known | None, key: str | None, by_key: Any, by_tie: Any, rostering: Any, field: Any
) -> None:
    """Whoever comes in as somebody is one whom the store says it knows; strangers only where that is allowed."""
    verdict = identify(known, key, by_key, by_tie, field=field, rostering=rostering)
    told = [one.person for one in (by_key, by_tie) if one is not None and one.outcome == "known"]
    if verdict.person is not None:
        assert verdict.person in told
        assert verdict.refusal is None
    elif verdict.refusal is None:
        assert rostering == "optional"
        assert known is None or (known.sourced_id is None and not known.elsewhere)
    if verdict.tie == "moved":
        assert known is not None
        assert verdict.person is not None
        assert verdict.person.sourced_id != known.sourced_id


def test_how_old_a_roster_may_be() -> None:
    """Only a connection that says so wants a recent roster; one that was deleted is good for ever (C8)."""
    now = datetime(2026, 9, 1, tzinfo=UTC)
    old = now - timedelta(hours=49)
    assert check_age(None, now, None, deleted=False)
    assert not check_age(None, now, 48, deleted=False)
    assert not check_age(old, now, 48, deleted=False)
    assert check_age(old, now, 49, deleted=False)
    assert check_age(old, now, 48, deleted=True)
