"""What the guard keeps back, at the boundaries of its limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.messages import GuardLimits
from roster_store.guard import CollectionPlan, GuardFacts, Scope, Verdict, exceeds, find_emptied, judge

LIMITS = GuardLimits()
REMOVALS = Verdict(removals=True)
EVERYTHING = Verdict(everything=True)


def of_users(**users: Any) -> GuardFacts:
    """Facts about people alone."""
    return GuardFacts(collections={"users": Scope(**{"going": users.get("removed", 0), **users})})


def effect(verdict: Verdict) -> tuple[bool, bool, set[str], set[str]]:
    """What a verdict keeps back: everything, all removals, removals of schools, of collections."""
    return verdict.everything, verdict.removals, set(verdict.schools), set(verdict.collections)


@pytest.mark.parametrize(
    ("held", "removed", "kept_back"),
    [
        (0, 0, False),
        (200, 20, False),  # a tenth, not more
        (200, 21, True),
        (205, 20, False),  # not more than the least number
        (190, 20, False),
        (210, 21, False),
        (209, 21, True),
        (100_000, 500, False),
        (100_000, 501, True),  # whatever the share
        (99, 20, False),  # small: numbers alone
        (99, 21, True),
        (30, 20, False),
        (100, 20, False),
        (100, 21, True),
        (5, 5, False),  # a handful
        (6, 5, False),
        (6, 6, True),  # everybody
        (20, 20, True),
    ],
)
def test_removals_of_a_collection(held: int, removed: int, kept_back: bool) -> None:
    """Too many removals keep all removals back and nothing else; up to the limits nothing is kept back."""
    verdict = judge(of_users(held=held, removed=removed), LIMITS)

    assert effect(verdict) == (False, kept_back, set(), set())
    assert verdict.code == (Code.GUARD_DELETE_HOLD if kept_back else None)
    assert not kept_back or f"{removed} of {held:,} people" in verdict.sentence


@pytest.mark.parametrize(("spared", "removed", "kept_back"), [(99, 1, False), (100, 1, True), (400, 0, False)])
def test_missing_schools_are_a_sign(spared: int, removed: int, kept_back: bool) -> None:
    """Where many are missing with incomplete schools, the few others that are missing wait as well."""
    verdict = judge(of_users(held=1_000, removed=removed, spared=spared), LIMITS)

    assert effect(verdict) == (False, kept_back, set(), set())


@pytest.mark.parametrize(
    ("enrollments", "people", "removed", "kept_back"),
    [
        (400_000, 50_000, 4_000, False),  # as many as 500 people have
        (400_000, 50_000, 4_001, True),
        (6_000, 50_000, 501, True),  # never fewer than the number itself
        (400_000, 0, 501, True),
    ],
)
def test_enrollments_are_weighed_as_people(
    enrollments: int,
    people: int,
    removed: int,
    kept_back: bool,
) -> None:
    """The absolute limit is one of people: a large district's ordinary changes of classes pass, a cut file does not."""
    facts = GuardFacts(
        collections={
            "users": Scope(held=people),
            "enrollments": Scope(held=enrollments, removed=removed, going=removed),
        }
    )

    assert judge(facts, LIMITS).removals is kept_back


@pytest.mark.parametrize(
    ("scope", "held_back"),
    [
        ({"held": 40, "removed": 12}, False),  # 30 %
        ({"held": 39, "removed": 12}, True),
        ({"held": 11, "removed": 10}, False),
        ({"held": 11, "removed": 11}, True),
    ],
)
def test_removals_of_a_school(scope: dict[str, Any], held_back: bool) -> None:
    """A school that loses too many is held alone; the rest of the district goes on."""
    facts = GuardFacts(
        collections={"users": Scope(held=5_000, removed=12)}, schools={"north": {"users": Scope(**scope)}}
    )
    verdict = judge(facts, LIMITS)

    assert effect(verdict) == (False, False, {"north"} if held_back else set(), set())
    assert [reason.school for reason in verdict.reasons] == (["north"] if held_back else [])


def test_several_schools_are_told_in_one_sentence_first() -> None:
    """With more schools than one, the first sentence says how many there are, and each is a reason of its own."""
    losing = {"classes": Scope(held=20, removed=12)}
    verdict = judge(GuardFacts(schools={"south": losing, "north": losing}), LIMITS)

    assert "2 schools" in verdict.sentence
    assert [reason.school for reason in verdict.reasons] == [None, "north", "south"]


def test_a_district_over_its_limit_is_not_told_school_by_school() -> None:
    """Where all removals wait anyway, schools add nothing."""
    facts = GuardFacts(
        collections={"users": Scope(held=200, removed=60)}, schools={"north": {"users": Scope(held=60, removed=60)}}
    )

    assert effect(judge(facts, LIMITS)) == (False, True, set(), set())


@pytest.mark.parametrize(
    ("held", "changed", "kept_back"), [(400, 300, False), (400, 301, True), (99, 99, False), (100, 76, True)]
)
def test_changes_of_nearly_everything(held: int, changed: int, kept_back: bool) -> None:
    """More changes than the share keep everything back; in a small collection they say nothing."""
    verdict = judge(of_users(held=held, changed=changed), LIMITS)

    assert effect(verdict) == (kept_back, False, set(), set())
    assert verdict.code == (Code.GUARD_UPDATE_HOLD if kept_back else None)


@pytest.mark.parametrize(
    ("people", "twins", "code"),
    [
        ({"held": 200, "removed": 100, "added": 100}, 51, Code.GUARD_REKEY_SUSPECTED),
        ({"held": 200, "removed": 100, "added": 100}, 50, Code.GUARD_DELETE_HOLD),
        ({"held": 200, "removed": 40, "added": 40}, 40, Code.GUARD_DELETE_HOLD),  # 20 %, not more
        ({"held": 200, "removed": 41, "added": 41}, 41, Code.GUARD_REKEY_SUSPECTED),
        ({"held": 200, "removed": 100, "added": 40}, 100, Code.GUARD_DELETE_HOLD),
        ({"held": 12, "removed": 6, "added": 6}, 6, Code.GUARD_REKEY_SUSPECTED),
        ({"held": 12, "removed": 5, "added": 5}, 5, None),  # a handful
    ],
)
def test_new_ids_for_everybody(people: dict[str, int], twins: int, code: Code | None) -> None:
    """The same people under other ids keep everything back, and that is told instead of their number."""
    facts = of_users(**people)
    verdict = judge(GuardFacts(collections=facts.collections, twins={None: twins}), LIMITS)

    assert verdict.code == code
    assert verdict.everything is (code == Code.GUARD_REKEY_SUSPECTED)


def test_new_ids_for_one_school() -> None:
    """One school that was re-keyed keeps everything back: its people must not come twice."""
    facts = GuardFacts(
        collections={"users": Scope(held=5_000, removed=300, added=300)},
        schools={"north": {"users": Scope(held=300, removed=300, added=300)}},
        twins={None: 290, "north": 290},
    )
    verdict = judge(facts, LIMITS)

    assert (verdict.code, verdict.everything) == (Code.GUARD_REKEY_SUSPECTED, True)
    assert verdict.reasons[0].school == "north"


@pytest.mark.parametrize(
    ("served", "quarantined", "going", "kept_back"),
    [
        (1_000, 50, 1, False),
        (1_000, 51, 1, True),
        (1_000, 51, 0, False),  # nothing would go
        (100, 20, 1, False),
        (100, 21, 1, True),
    ],
)
def test_quarantine(served: int, quarantined: int, going: int, kept_back: bool) -> None:
    """Where too many records of a collection could not be understood, what is missing from it waits."""
    facts = GuardFacts(
        collections={
            "classes": Scope(held=1_000, removed=going, going=going, served=served, quarantined=quarantined),
            "users": Scope(held=1_000, removed=3, going=3, served=1_000),
        }
    )
    verdict = judge(facts, LIMITS)

    assert effect(verdict) == (False, False, set(), {"classes"} if kept_back else set())
    assert verdict.code == (Code.GUARD_QUARANTINE_RATE if kept_back else None)


def test_the_first_picture_waits_where_it_is_to() -> None:
    """An integration's first picture waits only if it is set to, only if it brings anything, and only the first."""
    coming = {"users": Scope(added=300)}
    for facts, waits in (
        (GuardFacts(collections=coming, first=True, approve_first=True), True),
        (GuardFacts(collections=coming, first=True), False),
        (GuardFacts(collections=coming, approve_first=True), False),
        (GuardFacts(collections={"users": Scope()}, first=True, approve_first=True), False),
    ):
        assert judge(facts, LIMITS).code == (Code.FIRST_RUN_APPROVAL if waits else None)


@pytest.mark.parametrize(
    ("scope", "kept_back"),
    [
        ({"served": 0, "removed": 2, "held": 2}, True),  # all of a class
        ({"served": 1, "removed": 6, "held": 7}, False),
        ({"served": 30, "removed": 21, "held": 51}, True),
        ({"served": 30, "removed": 20, "held": 50}, False),
        ({"served": 0, "removed": 0, "held": 0}, False),
    ],
)
def test_a_refresh_is_judged_by_its_class(scope: dict[str, Any], kept_back: bool) -> None:
    """A class that would lose everybody waits; neither schools nor districts are looked at."""
    facts = GuardFacts(purpose="refresh", collections={"enrollments": Scope(**scope)})

    assert effect(judge(facts, LIMITS)) == (False, kept_back, set(), set())


def test_who_only_adds_is_not_asked_about_removals() -> None:
    """Without removals none are kept back; new ids for everybody still are, as nobody is to come twice."""
    facts = {"held": 200, "removed": 100, "added": 100, "going": 100, "served": 100, "quarantined": 90}
    scopes = {"users": Scope(**facts)}

    assert judge(GuardFacts(collections=scopes, additions_only=True), LIMITS) == Verdict()
    rekeyed = GuardFacts(collections=scopes, additions_only=True, twins={None: 100})
    assert effect(judge(rekeyed, LIMITS)) == (True, False, set(), set())


def test_an_empty_collection_is_told_before_all_else() -> None:
    """The picture of a failed export is told as that, whatever else is unusual about it."""
    scopes = {"users": Scope(held=200, removed=200, going=200, emptied=True), "classes": Scope(held=200, changed=200)}
    verdict = judge(GuardFacts(collections=scopes, twins={None: 200}), LIMITS)

    assert (verdict.code, verdict.everything) == (Code.GUARD_EMPTY_COLLECTION, True)
    assert {reason.code for reason in verdict.reasons} >= {Code.GUARD_UPDATE_HOLD, Code.GUARD_DELETE_HOLD}


@pytest.mark.parametrize(
    ("part", "emptied"),
    [
        ({"served": 0, "holds_any": True}, True),
        ({"served": 0, "holds_any": False}, False),
        ({"served": 1, "holds_any": True}, False),
        ({"served": 0, "holds_any": True, "wanted": False}, False),
        ({"served": 0, "holds_any": True, "whole": False}, False),
    ],
)
def test_what_is_an_empty_collection(part: dict[str, Any], emptied: bool) -> None:
    """A collection arrives empty if it was asked for and read whole, and there were records of it before."""
    assert find_emptied({"users": CollectionPlan(**part)}) == (["users"] if emptied else [])


@pytest.mark.parametrize(
    ("configured", "words"),
    [(0, "removed; "), (30, "removed, all of them because of"), (9, "removed, 9 of them because of")],
)
def test_what_the_options_remove_is_told_apart(configured: int, words: str) -> None:
    """Removals by configuration are guarded like the rest, and the sentence says that they are."""
    verdict = judge(of_users(held=200, removed=30, configured=configured), LIMITS)

    assert verdict.removals
    assert words in verdict.sentence


SCOPES = st.builds(
    Scope,
    held=st.integers(0, 3_000),
    added=st.integers(0, 3_000),
    changed=st.integers(0, 3_000),
    removed=st.integers(0, 3_000),
    served=st.integers(0, 3_000),
    quarantined=st.integers(0, 3_000),
)


@given(users=SCOPES, classes=SCOPES, twins=st.integers(0, 3_000))
def test_below_every_limit_nothing_is_kept_back(users: Scope, classes: Scope, twins: int) -> None:
    """A verdict has a reason exactly where some limit is passed, and nothing is kept back without one."""
    scopes = {"users": users, "classes": classes}
    verdict = judge(GuardFacts(collections=scopes, twins={None: twins}), LIMITS)
    harmless = all(
        scope.removed <= 5 and (scope.held < 100 or not exceeds(scope.changed, 0.75, scope.held))
        for scope in scopes.values()
    )

    assert bool(verdict.reasons) == any(effect(verdict))
    assert not (harmless and verdict.reasons)


@given(scope=SCOPES, more=st.integers(0, 3_000))
def test_more_removals_are_never_less_dangerous(scope: Scope, more: int) -> None:
    """What is kept back stays so when still more would be removed of as many."""
    facts = of_users(held=scope.held + more, removed=min(scope.removed, scope.held))
    worse = of_users(held=scope.held + more, removed=min(scope.removed, scope.held) + more)

    assert not judge(facts, LIMITS).removals or judge(worse, LIMITS).removals


def test_own_limits_count() -> None:
    """An integration's own limits take the place of the defaults, down to none at all."""
    strict = GuardLimits(remove_share=0, remove_least=0)
    assert judge(of_users(held=5_000, removed=1), strict).removals
    loose = GuardLimits(remove_share=1, remove_most=1_000_000)
    assert not judge(of_users(held=5_000, removed=5_000), loose).reasons
