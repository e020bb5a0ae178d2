"""The guard: may this plan be applied, or must a person look first? Pure; nothing is written before it has judged.

What nobody may lose by accident is people, their classes and enrollments, so most limits are about removals; the
limits are `homeroom.messages.GuardLimits`, an integration may have its own (C14, C15; reliability facts §1.3). What is
dangerous is kept back, the rest goes on:

* *Everything* is kept back where the picture as a whole is not to be believed: a collection arrives empty that was
  not, nearly all records of one change, or the people who go come again under other ids.
* *All removals* are kept back where too many of one collection go. Not of that collection alone: who goes takes
  enrollments along, and of a file cut short nobody knows what else it lacks.
* *A school's removals* are kept back where only that school loses too many.
* *A collection's removals* are kept back where too many of its records could not be understood.

Enrollments of people who go as well are not counted: the people are, and a class that graduates is not a thousand
losses. Those of classes that go do count, as losing a class is what its students lose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from homeroom.codes import Code
from homeroom.messages import GuardLimits, HoldReason, Purpose

HANDFUL = 5
"""Losing all of so few records says nothing."""
MOST_REASONS = 200
"""Reasons that are told; more would not help anybody."""
PEOPLE = "users"
_NOUNS = {"users": "people", "academicSessions": "academic sessions"}


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What would happen to one collection."""

    served: int
    """Records the provider served, good or not."""
    holds_any: bool
    """Whether the store holds active synced records of it now."""
    wanted: bool = True
    """Whether the integration's options ask for it at all."""
    whole: bool = True
    """Whether all of it was read; where only changes were, nothing served means nothing changed."""
    added: int = 0
    changed: int = 0
    removed: int = 0
    quarantined: int = 0
    """Staged records that are not applied because they point nowhere."""
    unconfirmed: int = 0
    """Records that stay although the fetch would remove them, because their school is incomplete."""
    missed: int = 0
    """Of the removed, those that a second run missed: the gateway told them as unconfirmed."""
    taken: int = 0
    """Records taken over from another integration as they are: only whose they are changes."""
    held: int = 0
    """Removals that are kept back."""
    manual: int = 0
    """Staged records that are left out because records made by hand have their ids."""

    @property
    def changes(self) -> int:
        """How many records would change."""
        return self.added + self.changed + self.removed + self.taken


@dataclass(frozen=True, slots=True)
class Scope:
    """What is held somewhere, a collection of an integration or of one school, and what would happen to it."""

    held: int = 0
    """Active synced records before; of a scope no limit can be passed in, it may be told as fewer."""
    added: int = 0
    changed: int = 0
    taken: int = 0
    """Records that only change hands."""
    removed: int = 0
    """Enrollments of people who go as well are left out."""
    configured: int = 0
    """Of the removed, those that go because of the integration's options."""
    going: int = 0
    """All removals, what goes along with people too."""
    served: int = 0
    quarantined: int = 0
    spared: int = 0
    """What is missing as well, and stays because its school is incomplete: a sign of what the rest is worth."""
    emptied: bool = False
    """Whether nothing was served where there was something."""


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """What the guard judges by."""

    collections: Mapping[str, Scope] = field(default_factory=dict)
    schools: Mapping[str, Mapping[str, Scope]] = field(default_factory=dict)
    """School's sourcedId → collection; schools and collections no limit can be passed in may be left out."""
    twins: Mapping[str | None, int] = field(default_factory=dict)
    """Of the people who go from a school (None: from anywhere), how many come again under another id."""
    purpose: Purpose = "sync"
    first: bool = False
    """Whether nothing was ever applied."""
    approve_first: bool = False
    additions_only: bool = False
    """Whether no removal is carried out anyway."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is kept back, and why; nothing without a reason."""

    reasons: tuple[HoldReason, ...] = ()
    """The one that explains best first."""
    everything: bool = False
    removals: bool = False
    """All removals of the plan."""
    schools: frozenset[str] = frozenset()
    """Schools whose removals are kept back."""
    collections: frozenset[str] = frozenset()
    """Collections whose removals are kept back, with what follows from them."""

    @property
    def code(self) -> Code | None:
        """The code to tell; None if nothing is kept back."""
        return self.reasons[0].code if self.reasons else None

    @property
    def sentence(self) -> str:
        """What to tell an admin first."""
        return self.reasons[0].sentence if self.reasons else ""


def find_emptied(plan: Mapping[str, CollectionPlan]) -> list[str]:
    """Collections that were not empty and arrive empty: such a picture is never applied by itself.

    Everybody who ever lost a school to an empty file would have been saved by it.
    """
    return [
        collection
        for collection, part in plan.items()
        if part.wanted and part.whole and part.holds_any and part.served == 0
    ]


def suspects_rekeying(people: Scope, share: float, least: int) -> bool:
    """Whether so many people go, and so many come, that they may be the same under other ids."""
    return (
        people.removed > least
        and exceeds(people.removed, share, people.held)
        and exceeds(people.added, share, people.held)
    )


def exceeds(count: int, share: float, of: int) -> bool:
    """Whether a count is more than a share, exactly at the boundary.

    >>> exceeds(29, 0.29, 100), exceeds(30, 0.29, 100)
    (False, True)
    """
    return count * 1_000_000 > round(share * 1_000_000) * of


def judge(facts: GuardFacts, limits: GuardLimits) -> Verdict:
    """Judge a plan by its facts; the first rule that keeps everything back leads, else the widest one does."""
    everything = [
        *_judge_emptied(facts),
        *_judge_first(facts),
        *_judge_rekeying(facts, limits),
        *_judge_changes(facts, limits),
    ]
    removals: list[HoldReason] = []
    collections: list[HoldReason] = []
    schools: list[HoldReason] = []
    if not facts.additions_only:
        removals = [*_judge_removals(facts, limits)]
        collections = [*_judge_quarantine(facts, limits)]
        schools = [] if removals else [*_judge_schools(facts, limits)]
    reasons = [*everything, *removals, *collections, *_lead(schools), *schools]
    return Verdict(
        reasons=tuple(reasons[:MOST_REASONS]),
        everything=bool(everything),
        removals=bool(removals),
        schools=frozenset(reason.school for reason in schools if reason.school),
        collections=frozenset(reason.collection for reason in collections if reason.collection),
    )


# ── everything ────────────────────────────────────────────────────────────────────────────────────────────────────


def _judge_emptied(facts: GuardFacts) -> Iterator[HoldReason]:
    if empty := [collection for collection, scope in facts.collections.items() if scope.emptied]:
        yield HoldReason(
            code=Code.GUARD_EMPTY_COLLECTION,
            sentence=f"The provider served no {' and no '.join(empty)} where there were some before; "
            "nothing was changed.",
            collection=empty[0],
        )


def _judge_first(facts: GuardFacts) -> Iterator[HoldReason]:
    coming = sum(scope.added + scope.changed + scope.taken for scope in facts.collections.values())
    if facts.first and facts.approve_first and coming:
        yield HoldReason(
            code=Code.FIRST_RUN_APPROVAL,
            sentence=f"The first picture of this integration ({coming:,} records) waits until somebody approves it.",
            count=coming,
        )


def _judge_rekeying(facts: GuardFacts, limits: GuardLimits) -> Iterator[HoldReason]:
    people = facts.collections.get(PEOPLE, Scope())
    places: list[tuple[str | None, Scope, float, int]] = []
    if facts.purpose != "refresh":
        places.append((None, people, limits.rekey_share, HANDFUL))
    for school, scopes in facts.schools.items():
        if PEOPLE in scopes:
            places.append((school, scopes[PEOPLE], limits.school_remove_share, limits.school_remove_least))
    for place, scope, share, least in places:
        twins = facts.twins.get(place, 0)
        if suspects_rekeying(scope, share, least) and exceeds(twins, 0.5, scope.removed):
            yield HoldReason(
                code=Code.GUARD_REKEY_SUSPECTED,
                sentence=f"{scope.removed:,} of {scope.held:,} people{_place(place)} would be removed and "
                f"{scope.added:,} added, and {twins:,} of the removed come again under another id with the same name, "
                "e-mail or number.",
                collection=PEOPLE,
                school=place,
                count=scope.removed,
                of=scope.held,
            )
            return  # a district that was re-keyed was in each of its schools


def _judge_changes(facts: GuardFacts, limits: GuardLimits) -> Iterator[HoldReason]:
    for collection, scope in facts.collections.items():
        if facts.purpose == "refresh" or scope.held < limits.small:
            continue
        if exceeds(scope.changed, limits.change_share, scope.held):
            yield HoldReason(
                code=Code.GUARD_UPDATE_HOLD,
                sentence=f"{scope.changed:,} of {scope.held:,} {_noun(collection)} would change; more than "
                f"{_percent(limits.change_share)} wait until somebody decides.",
                collection=collection,
                count=scope.changed,
                of=scope.held,
            )


# ── removals ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _judge_removals(facts: GuardFacts, limits: GuardLimits) -> Iterator[HoldReason]:
    for collection, scope in facts.collections.items():
        if rule := _find_removal_rule(facts, collection, scope, limits):
            yield HoldReason(
                code=Code.GUARD_DELETE_HOLD,
                sentence=f"{scope.removed:,} of {scope.held:,} {_noun(collection)} would be removed"
                f"{_by_options(scope)}; {rule} wait until somebody decides.",
                collection=collection,
                count=scope.removed,
                of=scope.held,
            )


def _find_removal_rule(facts: GuardFacts, collection: str, scope: Scope, limits: GuardLimits) -> str | None:
    """The limit the removals of a collection pass, in words."""
    removed, held = scope.removed, scope.held
    if facts.purpose == "refresh" and removed and not scope.served:
        return "all of a class at once"
    if held < limits.small:
        if removed > limits.remove_least:
            return f"of fewer than {limits.small:,}, more than {limits.remove_least:,}"
        if removed >= held > HANDFUL:
            return "all of a collection at once"
    elif removed and _are_many(removed + scope.spared, held, limits):
        return f"more than {_percent(limits.remove_share)} and more than {limits.remove_least:,}"
    most = limit_most(facts.collections, collection, limits)
    return f"more than {most:,}, whatever their share," if removed > most else None


def _are_many(missing: int, held: int, limits: GuardLimits) -> bool:
    return missing > limits.remove_least and exceeds(missing, limits.remove_share, held)


def limit_most(collections: Mapping[str, Scope], collection: str, limits: GuardLimits) -> int:
    """How many removals pass whatever their share: so many people, or as many enrollments as so many people have.

    A person has about eight enrollments, and a few change every week: the number that is right for people would keep
    a large district's ordinary days back.
    """
    people = collections.get(PEOPLE, Scope()).held
    if collection != "enrollments" or not people:
        return limits.remove_most
    return max(limits.remove_most, limits.remove_most * collections[collection].held // people)


def _judge_schools(facts: GuardFacts, limits: GuardLimits) -> Iterator[HoldReason]:
    for school, scopes in sorted(facts.schools.items()):
        for collection, scope in scopes.items():
            if loses_too_many(scope, limits):
                yield HoldReason(
                    code=Code.GUARD_DELETE_HOLD,
                    sentence=f"{scope.removed:,} of {scope.held:,} {_noun(collection)} of one school would be removed"
                    f"{_by_options(scope)}; more than {_percent(limits.school_remove_share)} and more than "
                    f"{limits.school_remove_least:,} of a school wait until somebody decides.",
                    collection=collection,
                    school=school,
                    count=scope.removed,
                    of=scope.held,
                )


def loses_too_many(scope: Scope, limits: GuardLimits) -> bool:
    """Whether one school loses more of a collection than it may without being asked about."""
    return scope.removed > limits.school_remove_least and exceeds(scope.removed, limits.school_remove_share, scope.held)


def _lead(schools: list[HoldReason]) -> Iterator[HoldReason]:
    """One sentence about several schools, before each of theirs."""
    named = {reason.school for reason in schools}
    if len(named) > 1:
        yield HoldReason(
            code=Code.GUARD_DELETE_HOLD,
            sentence=f"An unusual share of the records of {len(named):,} schools would be removed; what goes of these "
            "schools waits until somebody decides.",
        )


def _judge_quarantine(facts: GuardFacts, limits: GuardLimits) -> Iterator[HoldReason]:
    for collection, scope in facts.collections.items():
        bad, served = scope.quarantined, scope.served
        if scope.going and bad > limits.quarantine_least and exceeds(bad, limits.quarantine_share, served):
            yield HoldReason(
                code=Code.GUARD_QUARANTINE_RATE,
                sentence=f"{bad:,} of {served:,} {_noun(collection)} could not be understood, more than "
                f"{_percent(limits.quarantine_share)} and more than {limits.quarantine_least:,}; so the "
                f"{scope.going:,} that are missing wait until somebody decides.",
                collection=collection,
                count=bad,
                of=served,
            )


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _noun(collection: str) -> str:
    return _NOUNS.get(collection, collection)


def _place(school: str | None) -> str:
    return " of one school" if school else ""


def _percent(share: float) -> str:
    return f"{share * 100:g} %"


def _by_options(scope: Scope) -> str:
    if not scope.configured:
        return ""
    if scope.configured >= scope.removed:
        return ", all of them because of the integration's options"
    return f", {scope.configured:,} of them because of the integration's options"
