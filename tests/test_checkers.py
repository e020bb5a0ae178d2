"""Each checker takes a good history and refuses a bad one: one that never fails would prove nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from checkers import CHECKERS, assert_sound, check
from history import (
    AnyEntry,
    Commit,
    Decided,
    Delivery,
    Entry,
    Fault,
    Fetch,
    History,
    Provided,
    Rested,
    Row,
    RunBegan,
    RunEnded,
    Served,
)

ANA, BEN, MATHS, SEAT = "users/ana", "users/ben", "classes/maths", "enrollments/ana-maths"
EVERYBODY = {ANA: "a1", BEN: "b1", MATHS: "m1", SEAT: "s1"}


def commit(order: int, subject: str, version: int, run: str = "r1", **more: object) -> Commit:
    """A commit by a run; run 2's are in a second transaction."""
    change = more.pop("change", "added" if version == 1 else "updated")
    return msgspec.convert(
        {
            "f": "store.commit",
            "at": 10.0 * order,
            "integration": "i",
            "order": order,
            "transaction": f"t-{run}",
            "subject": subject,
            "version": version,
            "change": change,
            "active": change not in {"removed", "deleted"},
            "value": EVERYBODY[subject],
            "run": run,
            "refers": {"user": ANA, "class": MATHS} if subject == SEAT else {},
            **more,
        },
        Commit,
    )


def fetch(order: int, run: str, number: int, state: str, attempt: int = 1) -> Fetch:
    """A fetch of a run came to a state."""
    return Fetch(
        at=10.0 * order, integration="i", order=order, transaction=f"f-{order}", fetch=f"{run}-{attempt}", run=run,
        number=number, attempt=attempt, state=state,
    )  # fmt: skip


def delivery(place: int, subject: str, version: int, *, active: bool = True, **more: str) -> Delivery:
    """An event that a product got."""
    event = more.get("event", f"{place}")
    value = more.get("value", EVERYBODY.get(subject, ""))
    return Delivery(
        at=100.0, integration="i", product="p", place=place, event=event, subject=subject, version=version,
        active=active, value=value, run=more.get("run", ""),
    )  # fmt: skip


def counts(**numbers: int) -> dict[str, int]:
    """Counts of a collection that add up."""
    made = {name: numbers.get(name, 0) for name in ("added", "changed", "removed", "unchanged")}
    return made | {"served": numbers.get("served", made["added"] + made["changed"] + made["unchanged"])}


def rows(**versions: int) -> dict[str, Row]:
    """The rows of everybody at rest, Ben removed."""
    return {
        ANA: Row(version=1, active=True, value="a1"),
        BEN: Row(version=2, active=False, value="b1"),
        MATHS: Row(version=1, active=True, value="m1"),
        SEAT: Row(version=versions.get("seat", 1), active=True, value="s1"),
    }


GOOD: tuple[Entry, ...] = (
    Provided(at=1.0, integration="i", version=0, records=EVERYBODY),
    RunBegan(at=2.0, integration="i", run="r1", number=1, slot="monday"),
    Served(at=3.0, integration="i", run="r1", records={"users": 2}),
    fetch(0, "r1", 1, "staging"),
    commit(1, MATHS, 1),
    commit(2, ANA, 1),
    commit(3, BEN, 1),
    commit(4, SEAT, 1),
    fetch(5, "r1", 1, "applied"),
    RunEnded(
        at=50.0, integration="i", run="r1", state="succeeded",
        counts={"users": counts(added=2), "classes": counts(added=1), "enrollments": counts(added=1)},
    ),
    Provided(at=51.0, integration="i", version=1, records={k: v for k, v in EVERYBODY.items() if k != BEN}),
    RunBegan(at=52.0, integration="i", run="r2", number=2, slot="tuesday"),
    fetch(6, "r2", 2, "staging"),
    commit(7, BEN, 2, "r2", change="removed"),
    RunEnded(
        at=80.0, integration="i", run="r2", state="succeeded", counts={"users": counts(unchanged=1, removed=1)},
    ),
    RunBegan(at=82.0, integration="i", run="r3", number=3),
    RunEnded(at=83.0, integration="i", run="r3", state="succeeded", counts={"users": counts(unchanged=1)}),
    delivery(1, MATHS, 1), delivery(2, ANA, 1), delivery(3, BEN, 1), delivery(4, SEAT, 1),
    delivery(5, "", 0, run="r1"), delivery(6, BEN, 2, active=False), delivery(7, ANA, 1, event="2"),
    Rested(at=90.0, integration="i", records=rows()),
)  # fmt: skip
"""Two days and a night on which nothing happened: all that can be asked for."""


def without(kind: type[Entry], run: str = "") -> list[Entry]:
    """The good history without some of its entries."""
    return [one for one in GOOD if not (isinstance(one, kind) and getattr(one, "run", "") in ("", run))]


def altered(kind: type[Entry], run: str = "", /, **changes: object) -> list[Entry]:
    """The good history with one kind of entry of a run told differently."""
    return [
        msgspec.structs.replace(one, **changes) if isinstance(one, kind) and getattr(one, "run", run) == run else one
        for one in GOOD
    ]


def rest(**row: object) -> list[Entry]:
    """The good history with another row of Ana at rest."""
    ana = msgspec.structs.replace(rows()[ANA], **row)
    return altered(Rested, records=rows() | {ANA: ana})


BEN_AGAIN = Row(version=1, active=True, value="b1")
FAILED = altered(RunEnded, "r2", state="failed", code="PROV_5XX")
SEAT_MOVED = altered(Rested, records=rows(seat=2))

BAD: dict[str, tuple[str, Sequence[Entry]]] = {
    "a record is missing": ("I1", altered(Rested, records={k: v for k, v in rows().items() if k != ANA})),
    "a record is not active": ("I1", rest(active=False)),
    "a record says something else": ("I1", rest(value="a0")),
    "a record stayed that is gone": ("I1", altered(Rested, records=rows() | {BEN: BEN_AGAIN})),
    "the last run failed": ("I1", [*FAILED[:15], GOOD[-1]]),
    "what was made by hand was overwritten": ("I1", [*GOOD, commit(9, ANA, 2, "r3", manual=True)]),
    "an event was lost": ("I2", [one for one in GOOD if getattr(one, "event", "") != "6"]),
    "an event has an old value": ("I2", [*SEAT_MOVED, delivery(9, SEAT, 2, value="s0")]),
    "an event of nothing": ("I2", [*GOOD, delivery(9, "users/nobody", 1)]),
    "a version is missing": ("I3", [*GOOD, commit(9, ANA, 3, "r3")]),
    "a record was deleted": ("I3", [*GOOD, commit(9, ANA, 1, "r3", change="deleted")]),
    "events went backwards": ("I3", [*GOOD, delivery(9, BEN, 1, event="again")]),
    "an event of what was rolled back": ("I3", [*GOOD, delivery(9, ANA, 2)]),
    "a version fell": ("I4", [*GOOD, commit(9, BEN, 1, "r3")]),
    "an older run was applied": ("I4", [*GOOD, fetch(8, "r1", 1, "staging"), fetch(9, "r1", 1, "applied")]),
    "an older attempt was applied": ("I4", [
        fetch(1, "r1", 1, "staging"), fetch(2, "r1", 1, "staging", attempt=2), fetch(3, "r1", 1, "applied"),
    ]),
    "somebody was removed who is there": ("I5", [*GOOD, commit(8, ANA, 2, "r2", change="removed")]),
    "a failed run removed": ("I5", FAILED),
    "a held run removed": ("I5", altered(RunEnded, "r2", state="held", code="GUARD_EMPTY_COLLECTION")),
    "nothing new was committed": ("I6", [*GOOD, commit(9, ANA, 2, "r3")]),
    "nothing new was told": ("I6", [*GOOD, delivery(9, "", 0, run="r3")]),
    "an enrollment lost its user": ("I8", [*GOOD, commit(8, ANA, 2, "r2", change="removed")]),
    "an enrollment never had its class": ("I8", [one for one in GOOD if getattr(one, "subject", "") != MATHS] + [
        commit(8, MATHS, 1, "r2", change="removed"),
    ]),
    "counts do not add up": ("I9", altered(RunEnded, "r3", counts={"users": counts(unchanged=1, served=2)})),
    "counts are not what was served": ("I9", altered(Served, "r1", records={"users": 3})),
    "counts are not what was committed": ("I9", altered(RunEnded, "r2", counts={"users": counts(unchanged=1)})),
    "two runs at a time": ("I10", altered(RunBegan, "r2", at=49.0)),
    "a slot was used twice": ("I10", altered(RunBegan, "r2", slot="monday")),
    "an older run wrote last": ("I10", [*GOOD, commit(9, ANA, 2, "r1")]),
    "a run did not end": ("I11", without(RunEnded, "r3")),
    "a run failed without a code": ("I11", altered(RunEnded, "r3", state="failed", code=None)),
    "a run failed with a code of its own": ("I11", altered(RunEnded, "r3", state="failed", code="oops")),
}  # fmt: skip


def test_a_good_history_is_sound() -> None:
    """Two ordinary days, with a repeated event and a night without changes, violate nothing."""
    assert check(GOOD) == []


@pytest.mark.parametrize("wrong", BAD)
def test_what_is_wrong_is_found(wrong: str) -> None:
    """The checker of the invariant that was broken says so."""
    invariant, entries = BAD[wrong]

    assert [one.sentence for one in CHECKERS[invariant](entries)] != []


def test_every_checker_is_tried() -> None:
    """There is a bad history for each invariant."""
    assert {invariant for invariant, _ in BAD.values()} == set(CHECKERS)


def test_what_somebody_approved_is_no_violation() -> None:
    """A held run's removals are in order once somebody has decided so."""
    held = altered(RunEnded, "r2", state="held", code="GUARD_EMPTY_COLLECTION")

    assert list(CHECKERS["I5"]([*held, Decided(integration="i", run="r2", action="approve")])) == []


def test_who_left_while_the_run_read_may_go() -> None:
    """A record that was there only for a part of the time a run took may be removed by it, or not."""
    ben_leaves = [*GOOD[:10], *GOOD[11:12], msgspec.structs.replace(GOOD[10], at=52.5), *GOOD[12:]]

    assert list(CHECKERS["I5"](ben_leaves)) == []


def test_a_run_that_found_an_earlier_attempt_applied_may_say_so() -> None:
    """Counts of a later attempt that had nothing left to do are in order."""
    again = altered(RunEnded, "r2", attempt=2, counts={"users": counts(unchanged=1)})

    assert list(CHECKERS["I9"](again)) == []


def test_a_history_that_is_wrong_says_where_it_is(tmp_path: Path) -> None:
    """The failure names the invariant, the seed and the file, and the file holds every entry."""
    history = History(tmp_path / "history.jsonl", seed=77)
    for one in (*without(RunEnded, "r3"), Fault(kind="kill", target="store.applying")):
        history.note(one)

    with pytest.raises(AssertionError, match="I11") as raised:
        assert_sound(history)
    assert "seed 77" in str(raised.value)
    assert str(history.path) in str(raised.value)
    kept = [msgspec.json.decode(line, type=AnyEntry) for line in history.path.read_bytes().splitlines()]
    assert kept == history.entries
