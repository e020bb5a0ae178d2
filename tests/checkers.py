"""Pure judges of a history: each takes what happened and says what must never have (reliability facts §4.3).

`check` asks all of them; a `Violation` names the invariant. They go by what the recorder saw, never by what a service
believes, and take a time linear in the history. Where the letter of an invariant does not fit Homeroom, its check says
so: the change feed is one of states, so a reader that falls behind may miss versions, but never the last one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from history import Commit, Decided, Delivery, Entry, Fetch, History, Provided, Rested, Row, RunBegan, RunEnded, Served

from homeroom.codes import Code

E = TypeVar("E", bound=Entry)

FINAL = frozenset({"succeeded", "partial", "held", "failed", "cancelled"})
COMPLETE = frozenset({"succeeded", "partial"})
"""States of runs whose picture became the roster."""
MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """What must never have happened."""

    invariant: str
    sentence: str


def check(entries: Sequence[Entry]) -> list[Violation]:
    """Everything that is wrong with a history."""
    return [found for judge in CHECKERS.values() for found in judge(entries)]


def assert_sound(history: History) -> None:
    """Fail with what is wrong, the seed and where the history is."""
    found = check(history.entries)
    told = "\n".join(f"{one.invariant}: {one.sentence}" for one in found[:MOST_TOLD])
    assert not found, f"{len(found)} violations; seed {history.seed}, history in {history.path}\n{told}"


# ── I1: the store comes to hold what the provider has ─────────────────────────────────────────────────────────────


def check_convergence(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I1: at rest, exactly what the provider has is active, and says the same; what was made by hand is untouched."""
    for rested in _of(Rested, entries):
        provided = _last(Provided, entries, rested)
        if provided is None:
            continue
        if not _ran_since(entries, provided, rested):
            yield Violation("I1", f"no run succeeded after the provider came to version {provided.version}")
        for subject in sorted(rested.records.keys() | provided.records.keys()):
            if fault := _compare(rested, subject, provided.records.get(subject)):
                yield Violation("I1", f"{subject} {fault}")
    for commit in _of(Commit, entries):
        if commit.manual and commit.run:
            yield Violation("I1", f"{commit.subject} was made by hand and changed by run {commit.run}")


def _compare(rested: Rested, subject: str, value: str | None) -> str | None:
    """What is wrong with a record at rest; `value` is None for what the provider does not have."""
    row = rested.records.get(subject)
    if subject in rested.quarantined or (row is not None and row.manual and row.active):
        return None
    if value is None:
        return "is in the store and not at the provider" if row is not None and row.active else None
    if row is None or not row.active:
        return "is at the provider and not in the store"
    return "says something else in the store than at the provider" if row.value != value else None


def _ran_since(entries: Sequence[Entry], provided: Provided, rested: Rested) -> bool:
    began = {one.run: one.at for one in _of(RunBegan, entries) if one.integration == rested.integration}
    return any(
        one.state in COMPLETE and provided.at <= began.get(one.run, 0.0) <= rested.at for one in _of(RunEnded, entries)
    )


# ── I2: who folds the events has the store's roster ───────────────────────────────────────────────────────────────


def check_events(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I2: folding all a product got, in any order and repeated, gives the store's keys, versions and values."""
    for integration, rested in _rests(entries).items():
        held = {subject: row for subject, row in rested.records.items() if not row.manual}
        for product, got in _deliveries(entries, integration).items():
            folded = fold(got)
            if fold([*reversed(got), *got]) != folded:
                yield Violation("I2", f"{product} ends up with something else if its events come in another order")
            for subject in sorted(held.keys() | folded.keys()):
                if fault := _differ(held.get(subject), folded.get(subject)):
                    yield Violation("I2", f"{product}, {subject}: {fault}")


def fold(got: Sequence[Delivery]) -> dict[str, Row]:
    """What a product holds that takes an event if its version is higher than what it has seen."""
    folded: dict[str, Row] = {}
    for one in got:
        if one.subject and one.version > (folded[one.subject].version if one.subject in folded else 0):
            folded[one.subject] = Row(version=one.version, active=one.active, value=one.value)
    return folded


def _differ(held: Row | None, folded: Row | None) -> str | None:
    if held is None or folded is None:
        return "no event of it came" if folded is None else "an event of it came and the store has never held it"
    if (held.version, held.active) != (folded.version, folded.active):
        return f"version {folded.version} instead of {held.version}, active {folded.active} instead of {held.active}"
    return "another value under the same version" if held.active and held.value != folded.value else None


# ── I3: each record's versions, one after the other ───────────────────────────────────────────────────────────────


def check_order(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I3: versions of a record are 1, 2, 3 …, each committed once; events grow, and each is of a committed version.

    An event may jump over versions that were overtaken before the reader came by (docs/architecture.md, "The feed");
    that the last one comes is I2.
    """
    committed: dict[tuple[str, str], dict[int, Commit]] = defaultdict(dict)
    for commit in _in_order(Commit, entries):
        versions = committed[commit.integration, commit.subject]
        if commit.change == "deleted":
            yield Violation("I3", f"{commit.subject} was deleted instead of kept as removed")
        elif commit.version != len(versions) + 1:
            yield Violation("I3", f"{commit.subject}: version {commit.version} was committed after {len(versions)}")
        versions.setdefault(commit.version, commit)
    newest: dict[tuple[str, str, str], int] = {}
    seen: set[tuple[str, str, str]] = set()
    for one in sorted(_of(Delivery, entries), key=lambda delivery: (delivery.product, delivery.place)):
        if not one.subject or (one.product, one.integration, one.event) in seen:
            continue
        seen.add((one.product, one.integration, one.event))
        key = (one.product, one.integration, one.subject)
        if one.version <= newest.get(key, 0):
            yield Violation("I3", f"{one.product}, {one.subject}: version {one.version} after {newest[key]}")
        newest[key] = max(one.version, newest.get(key, 0))
        real = committed.get((one.integration, one.subject), {}).get(one.version)
        if committed and (real is None or (real.active, real.value) != (one.active, one.value)):
            yield Violation("I3", f"{one.product}, {one.subject}: version {one.version} as told was never committed")


# ── I4: nothing newer is written over ─────────────────────────────────────────────────────────────────────────────


def check_updates(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I4: a record's version never falls, and no fetch is applied after a newer run or attempt was heard of."""
    versions: dict[tuple[str, str], int] = {}
    for commit in _in_order(Commit, entries):
        key = (commit.integration, commit.subject)
        if commit.version <= versions.get(key, 0):
            yield Violation("I4", f"{commit.subject} fell from version {versions[key]} to {commit.version}")
        versions[key] = commit.version
    newest: dict[str, tuple[int, int]] = {}
    states: dict[str, str] = {}
    for fetch in _in_order(Fetch, entries):
        fence = (fetch.number, fetch.attempt)
        before, states[fetch.fetch] = states.get(fetch.fetch), fetch.state
        # What was held is applied when somebody decides so, whatever has begun meanwhile.
        if fetch.state == "applied" and before == "staging" and fence < newest.get(fetch.integration, fence):
            yield Violation("I4", f"run {fence[0]}/{fence[1]} was applied after {newest[fetch.integration]} had begun")
        newest[fetch.integration] = max(fence, newest.get(fetch.integration, fence))


# ── I5: nobody is removed who is there ────────────────────────────────────────────────────────────────────────────


def check_deactivations(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I5: a run removes nobody who was at the provider all the while it read; one that failed or is held, nobody."""
    ended = {one.run: one for one in _of(RunEnded, entries)}
    began = {one.run: one for one in _of(RunBegan, entries)}
    decided = {one.run for one in _of(Decided, entries)}
    removals = [one for one in _in_order(Commit, entries) if not one.active and one.run]
    for run, group in _grouped(removals, lambda one: one.run).items():
        end, start = ended.get(run), began.get(run)
        if end is not None and end.state not in COMPLETE and run not in decided:
            yield Violation("I5", f"run {run} ended {end.state} and removed {len(group)} records")
        if start is None:
            continue
        versions = _versions_between(entries, start.integration, start.at, group[0].at)
        for commit in group:
            if versions and all(commit.subject in provided.records for provided in versions):
                yield Violation("I5", f"{commit.subject} was removed and was at the provider all the while")


def _versions_between(entries: Sequence[Entry], integration: str, start: float, end: float) -> list[Provided]:
    """The provider's states that existed at some moment of an interval."""
    states = [one for one in _of(Provided, entries) if one.integration == integration and one.at <= end]
    first = max((number for number, one in enumerate(states) if one.at <= start), default=0)
    return states[first:]


# ── I6: the same again changes nothing ────────────────────────────────────────────────────────────────────────────


def check_idempotence(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I6: a run over a provider that stood still since a run that succeeded commits nothing and tells nobody."""
    commits = Counter(one.run for one in _of(Commit, entries) if one.run)
    told = {one.run for one in _of(Delivery, entries) if one.run}
    ends = {one.run: one for one in _of(RunEnded, entries)}
    for integration, began in _grouped(list(_of(RunBegan, entries)), lambda one: one.integration).items():
        settled: int | None = None
        for start in sorted(began, key=lambda one: one.number):
            end = ends.get(start.run)
            versions = _versions_between(entries, integration, start.at, end.at if end else float("inf"))
            version = versions[0].version if len(versions) == 1 else None
            if version is not None and version == settled:
                if commits[start.run]:
                    yield Violation("I6", f"run {start.number} found nothing new and committed {commits[start.run]}")
                if start.run in told:
                    yield Violation("I6", f"run {start.number} found nothing new and told products of an apply")
            if end is not None and end.state == "succeeded":
                settled = version


# ── I8: no enrollment leads nowhere ───────────────────────────────────────────────────────────────────────────────


def check_references(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I8: after every commit each active enrollment points to an active user, class and school.

    What was never read for an integration is not missed: a provider may share no orgs.
    """
    active: dict[str, dict[str, Commit]] = defaultdict(dict)
    known: dict[str, set[str]] = defaultdict(set)
    for (integration, _), group in groupby(
        sorted(_of(Commit, entries), key=lambda one: (one.integration, one.order)),
        key=lambda one: (one.integration, one.transaction),
    ):
        rows = active[integration]
        for commit in group:
            known[integration].add(commit.subject.partition("/")[0])
            if commit.active:
                rows[commit.subject] = commit
            else:
                rows.pop(commit.subject, None)
        for commit in rows.values():
            for name, subject in commit.refers.items():
                if subject not in rows and subject.partition("/")[0] in known[integration]:
                    yield Violation("I8", f"{commit.subject} is active and its {name} {subject} is not")


# ── I9: every record is accounted for ─────────────────────────────────────────────────────────────────────────────

_SUMMED = ("added", "changed", "unchanged", "filtered", "quarantined")
_CHANGES = {"added": "added", "updated": "changed", "removed": "removed"}


def check_accounting(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I9: a run's counts add up, are what the provider served, and are what the store committed.

    A run whose later attempt found nothing left to do, because an earlier one had been applied, may say so.
    """
    served = {one.run: one.records for one in _of(Served, entries)}
    commits = _grouped([one for one in _of(Commit, entries) if one.run], lambda one: one.run)
    recorded = any(True for _ in _of(Commit, entries))
    for end in _of(RunEnded, entries):
        for collection, counts in end.counts.items():
            total = sum(counts.get(name, 0) for name in _SUMMED)
            if total != counts.get("served", 0):
                yield Violation("I9", f"run {end.run}, {collection}: served {counts.get('served', 0)}, told {total}")
            there = served.get(end.run, {}).get(collection)
            if end.state in COMPLETE and there is not None and counts.get("served", 0) != there:
                yield Violation("I9", f"run {end.run}, {collection}: {there} served, {counts.get('served', 0)} told")
        if end.state in COMPLETE and recorded:
            made = Counter(
                (one.subject.partition("/")[0], _CHANGES.get(one.change, "")) for one in commits.get(end.run, ())
            )
            told = Counter(
                {
                    (collection, name): counts.get(name, 0)
                    for collection, counts in end.counts.items()
                    for name in _CHANGES.values()
                    if counts.get(name, 0)
                }
            )
            if made != told and not (end.attempt > 1 and not told):
                yield Violation("I9", f"run {end.run}: committed {dict(made - told)} untold, told {dict(told - made)}")


# ── I10: one run at a time ────────────────────────────────────────────────────────────────────────────────────────


def check_single_runner(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I10: an integration's runs never overlap, neither as shown nor in what they write; a slot has one run."""
    ended = {one.run: one.at for one in _of(RunEnded, entries)}
    numbers = {one.run: one.number for one in (*_of(RunBegan, entries), *_of(Fetch, entries))}
    for integration, began in _grouped(list(_of(RunBegan, entries)), lambda one: one.integration).items():
        last: RunBegan | None = None
        for start in sorted(began, key=lambda one: one.number):
            if last is not None and start.at < ended.get(last.run, float("inf")):
                yield Violation("I10", f"{integration}: run {start.number} began before {last.number} had ended")
            last = start
        for slot, runs in _grouped([one for one in began if one.slot], lambda one: one.slot or "").items():
            if len({one.run for one in runs}) > 1:
                yield Violation("I10", f"{integration}: the slot {slot} has {len(runs)} runs")
    decided = {one.run for one in _of(Decided, entries)}
    newest: dict[str, int] = {}
    for commit in _in_order(Commit, entries):
        number = numbers.get(commit.run)
        if number is None or commit.run in decided:
            continue
        if number < newest.get(commit.integration, 0):
            yield Violation("I10", f"{commit.subject}: run {number} wrote after run {newest[commit.integration]} had")
        newest[commit.integration] = max(number, newest.get(commit.integration, 0))


# ── I11: every run ends ───────────────────────────────────────────────────────────────────────────────────────────


def check_termination(entries: Sequence[Entry]) -> Iterator[Violation]:
    """I11: every run reaches a final state; any but success has a code of the catalogue."""
    ends = {one.run: one for one in _of(RunEnded, entries)}
    for start in _of(RunBegan, entries):
        end = ends.get(start.run)
        if end is None or end.state not in FINAL:
            yield Violation("I11", f"run {start.number} has not ended")
        elif end.state != "succeeded" and end.code not in set(Code):
            yield Violation("I11", f"run {start.number} ended {end.state} with the code {end.code}")


CHECKERS: Mapping[str, Callable[[Sequence[Entry]], Iterator[Violation]]] = {
    "I1": check_convergence,
    "I2": check_events,
    "I3": check_order,
    "I4": check_updates,
    "I5": check_deactivations,
    "I6": check_idempotence,
    "I8": check_references,
    "I9": check_accounting,
    "I10": check_single_runner,
    "I11": check_termination,
}
"""I7 and I12, isolation and silence, are looked for in every sink by tests of their own."""


# ── reading a history ─────────────────────────────────────────────────────────────────────────────────────────────


def _of(kind: type[E], entries: Sequence[Entry]) -> Iterator[E]:
    return (one for one in entries if isinstance(one, kind))


def _in_order(kind: type[E], entries: Sequence[Entry]) -> list[E]:
    """Entries of the store's own log, in the order of their commits."""
    return sorted(_of(kind, entries), key=lambda one: one.order)  # type: ignore[attr-defined]  # Commit and Fetch have it


def _last(kind: type[E], entries: Sequence[Entry], before: Entry) -> E | None:
    found = [one for one in _of(kind, entries) if one.integration == before.integration and one.at <= before.at]
    return found[-1] if found else None


def _rests(entries: Sequence[Entry]) -> dict[str, Rested]:
    """The last time each integration was at rest."""
    return {one.integration: one for one in _of(Rested, entries)}


def _deliveries(entries: Sequence[Entry], integration: str) -> dict[str, list[Delivery]]:
    return _grouped([one for one in _of(Delivery, entries) if one.integration == integration], lambda one: one.product)


def _grouped(entries: Sequence[E], key: Callable[[E], str]) -> dict[str, list[E]]:
    grouped: dict[str, list[E]] = defaultdict(list)
    for one in entries:
        grouped[key(one)].append(one)
    return grouped
